//! A memory-to-memory device: what goes into its OUTPUT queue comes out of its CAPTURE queue, coded. Single- and
//! multi-planar.
//!
//! Invariants: a buffer is either with the driver or with us, never both; only what is with us can be written or read;
//! nothing here waits longer than it is told to.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use v4l::Device;
use v4l::device::Handle;
use v4l::v4l_sys as sys;
use v4l::v4l2::{mmap, munmap, vidioc};

use super::buffers::{MAPPED, Map, READ_WRITE, SHARED};
use super::{Plain, call, zeroed};

impl Plain for sys::v4l2_fmtdesc {}
impl Plain for sys::v4l2_format {}
impl Plain for sys::v4l2_streamparm {}
impl Plain for sys::v4l2_selection {}
impl Plain for sys::v4l2_encoder_cmd {}
impl Plain for sys::v4l2_plane {}

const POLLIN: i16 = 0x1;
/// `_IOWR('V', 95, struct v4l2_selection)`; the crate `v4l` does not name it.
const VIDIOC_S_SELECTION: vidioc::_IOC_TYPE = 0xc040_565f_u32 as vidioc::_IOC_TYPE;
/// Planes of a format at most (VIDEO_MAX_PLANES).
const PLANES: usize = 8;
/// Formats that are asked for at most: a driver that counts in circles must not keep us.
const FORMATS: u32 = 128;
/// Buffers of each queue: one in work, one that is filled or read meanwhile.
const BUFFERS: u32 = 3;

/// A format and size to ask for, or as given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// FourCC.
    pub fourcc: [u8; 4],
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Bytes from one row of the first plane to the next; 0 for what is coded.
    pub stride: u32,
}

/// Which queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// What goes in.
    Output,
    /// What comes out.
    Capture,
}

/// What came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coded {
    index: usize,
    used: usize,
    /// The time of what went in.
    pub at: Duration,
    /// The driver could not code it.
    pub is_damaged: bool,
    /// Nothing comes after this.
    pub is_last: bool,
}

/// A device that codes, with both queues running.
pub struct Coder {
    device: Device,
    input: Queue,
    output: Queue,
    /// What is put in.
    pub raw: Shape,
}

struct Queue {
    handle: Arc<Handle>,
    kind: u32,
    is_planar: bool,
    /// One mapping for each buffer, and whether it is with us. Formats with their planes in several buffers are not used.
    buffers: Vec<(Map, bool)>,
    is_streaming: bool,
}

/// What kinds of queues a device has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planar(bool);

impl Planar {
    /// By its capabilities; `None` for a device that is not of memory to memory.
    pub fn of(caps: u32) -> Option<Self> {
        match caps {
            _ if caps & sys::V4L2_CAP_STREAMING == 0 => None,
            _ if caps & sys::V4L2_CAP_VIDEO_M2M_MPLANE != 0 => Some(Self(true)),
            _ if caps & sys::V4L2_CAP_VIDEO_M2M != 0 => Some(Self(false)),
            _ => None,
        }
    }

    fn kind(self, side: Side) -> u32 {
        match (side, self.0) {
            (Side::Output, false) => sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_OUTPUT,
            (Side::Output, true) => sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE,
            (Side::Capture, false) => sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE,
            (Side::Capture, true) => sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE,
        }
    }

    /// The formats of one queue (VIDIOC_ENUM_FMT).
    pub fn formats(self, device: &Device, side: Side) -> Vec<[u8; 4]> {
        let mut found = Vec::new();
        for index in 0..FORMATS {
            let mut raw: sys::v4l2_fmtdesc = zeroed();
            (raw.index, raw.type_) = (index, self.kind(side));
            if call(&device.handle(), vidioc::VIDIOC_ENUM_FMT, &mut raw).is_err() {
                break;
            }
            found.push(raw.pixelformat.to_le_bytes());
        }
        found
    }

    /// Sets the format of one queue (VIDIOC_S_FMT) and says what the driver made of it. `bytes` is the size of a coded
    /// picture at most.
    fn set(self, handle: &Handle, side: Side, wanted: Shape, bytes: u32) -> io::Result<Shape> {
        let mut raw: sys::v4l2_format = zeroed();
        raw.type_ = self.kind(side);
        let fourcc = u32::from_le_bytes(wanted.fourcc);
        if self.0 {
            let mut format = sys::v4l2_pix_format_mplane { plane_fmt: [zeroed(); PLANES], ..zeroed() };
            (format.width, format.height, format.pixelformat) = (wanted.width, wanted.height, fourcc);
            (format.num_planes, format.field) = (1, sys::v4l2_field_V4L2_FIELD_NONE);
            format.plane_fmt[0].sizeimage = bytes;
            raw.fmt.pix_mp = format;
        } else {
            let mut format: sys::v4l2_pix_format = zeroed();
            (format.width, format.height, format.pixelformat) = (wanted.width, wanted.height, fourcc);
            (format.field, format.sizeimage) = (sys::v4l2_field_V4L2_FIELD_NONE, bytes);
            raw.fmt.pix = format;
        }
        call(handle, vidioc::VIDIOC_S_FMT, &mut raw)?;
        // SAFETY: the kind of queue says which member the kernel has filled; both are plain numbers.
        let (planes, given) = unsafe {
            if self.0 {
                let format = raw.fmt.pix_mp;
                let stride = { format.plane_fmt }[0].bytesperline;
                (format.num_planes, (format.pixelformat, format.width, format.height, stride))
            } else {
                let format = raw.fmt.pix;
                (1, (format.pixelformat, format.width, format.height, format.bytesperline))
            }
        };
        if planes != 1 || given.0 != fourcc {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the driver gives another format"));
        }
        Ok(Shape { fourcc: wanted.fourcc, width: given.1, height: given.2, stride: given.3 })
    }
}

impl Plain for sys::v4l2_pix_format_mplane {}
impl Plain for sys::v4l2_pix_format {}
impl Plain for sys::v4l2_plane_pix_format {}

impl Coder {
    /// Opens the device at `path` to make `coded` of `raw` pictures at `rate` a second. `set_up` sets its controls before
    /// it runs.
    pub fn open(path: &Path, raw: Shape, coded: [u8; 4], rate: f64, set_up: impl FnOnce(&Device)) -> io::Result<Self> {
        let device = Device::with_path(path)?;
        let caps = super::controls::capability(&device)?.caps;
        let planar = Planar::of(caps).ok_or(io::ErrorKind::Unsupported)?;
        let handle = device.handle();
        // The coded side first: it decides what the other one takes. A coded picture is smaller than a raw one.
        let most = raw.width.saturating_mul(raw.height).max(256 << 10);
        planar.set(&handle, Side::Capture, Shape { fourcc: coded, ..raw }, most)?;
        let given = planar.set(&handle, Side::Output, raw, 0)?;
        if given.width < raw.width || given.height < raw.height {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the driver takes no pictures of this size"));
        }
        if (given.width, given.height) != (raw.width, raw.height) {
            crop(&handle, planar, raw)?;
        }
        set_rate(&handle, planar, rate);
        set_up(&device);
        let input = Queue::new(&handle, planar, Side::Output)?;
        let mut output = Queue::new(&handle, planar, Side::Capture)?;
        for index in 0..output.buffers.len() {
            output.give(index, 0, Duration::ZERO)?;
        }
        let mut coder = Self { device, input, output, raw: given };
        coder.input.stream()?;
        coder.output.stream()?;
        Ok(coder)
    }

    /// The device, for its controls.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Puts a picture in, taken `at`: `fill` writes it and says how many bytes it has. `false` when all buffers are with the
    /// driver.
    pub fn put(&mut self, at: Duration, fill: impl FnOnce(&mut [u8]) -> usize) -> io::Result<bool> {
        while let Some(done) = self.input.take()? {
            self.input.buffers.get_mut(done.index).ok_or(io::ErrorKind::InvalidData)?.1 = true;
        }
        let Some(index) = self.input.buffers.iter().position(|(_, is_ours)| *is_ours) else { return Ok(false) };
        let used = fill(self.input.bytes_mut(index)).min(self.input.buffers[index].0.length);
        self.input.give(index, used as u32, at)?;
        Ok(true)
    }

    /// What is coded next, if it comes within `patience`: `read` sees its bytes.
    pub fn take<T>(&mut self, patience: Duration, read: impl FnOnce(Coded, &[u8]) -> T) -> io::Result<Option<T>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(coded) = self.output.take()? {
                let map = &self.output.buffers.get(coded.index).ok_or(io::ErrorKind::InvalidData)?.0;
                // SAFETY: mapped with at least `used` bytes, and with us: it was taken and is given back below.
                let bytes = unsafe { std::slice::from_raw_parts(map.start.cast::<u8>(), coded.used.min(map.length)) };
                let seen = read(coded, bytes);
                if !coded.is_last {
                    self.output.give(coded.index, 0, Duration::ZERO)?;
                }
                return Ok(Some(seen));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1);
            match self.output.handle.poll(POLLIN, millis) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    /// Nothing more is put in: what is in work comes out, the last with [`Coded::is_last`] (VIDIOC_ENCODER_CMD).
    pub fn drain(&mut self) -> io::Result<()> {
        let mut raw: sys::v4l2_encoder_cmd = zeroed();
        raw.cmd = sys::V4L2_ENC_CMD_STOP;
        call(&self.output.handle, vidioc::VIDIOC_ENCODER_CMD, &mut raw)
    }
}

/// The part of the driver's size that is the picture; drivers that cannot be told code all of it.
fn crop(handle: &Handle, planar: Planar, raw: Shape) -> io::Result<()> {
    let mut selection: sys::v4l2_selection = zeroed();
    // By the single-planar name in any case (VIDIOC_S_SELECTION).
    selection.type_ = match planar.0 {
        true => sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_OUTPUT,
        false => planar.kind(Side::Output),
    };
    selection.target = sys::V4L2_SEL_TGT_CROP;
    (selection.r.width, selection.r.height) = (raw.width, raw.height);
    call(handle, VIDIOC_S_SELECTION, &mut selection)
}

/// For its rate control. A driver without one goes by the bitrate alone.
fn set_rate(handle: &Handle, planar: Planar, rate: f64) {
    let mut raw: sys::v4l2_streamparm = zeroed();
    raw.type_ = planar.kind(Side::Output);
    let interval = sys::v4l2_fract { numerator: 1000, denominator: (rate * 1000.0).round() as u32 };
    let mut parameters: sys::v4l2_outputparm = zeroed();
    parameters.timeperframe = interval;
    raw.parm.output = parameters;
    drop(call(handle, vidioc::VIDIOC_S_PARM, &mut raw));
}

impl Plain for sys::v4l2_outputparm {}

impl Queue {
    fn new(handle: &Arc<Handle>, planar: Planar, side: Side) -> io::Result<Self> {
        let kind = planar.kind(side);
        let mut queue =
            Self { handle: handle.clone(), kind, is_planar: planar.0, buffers: Vec::new(), is_streaming: false };
        for index in 0..queue.request(BUFFERS)? {
            let mut plane: sys::v4l2_plane = zeroed();
            let mut raw = queue.describe(index, &mut plane);
            call(&queue.handle, vidioc::VIDIOC_QUERYBUF, &mut raw)?;
            // SAFETY: for mapped memory the kernel has filled the offset, of the plane where there are planes. The
            // mapping is new, and unmapped in `drop`.
            let (start, length) = unsafe {
                let (offset, length) =
                    if queue.is_planar { (plane.m.mem_offset, plane.length) } else { (raw.m.offset, raw.length) };
                let length = length as usize;
                let fd = queue.handle.fd();
                (mmap(std::ptr::null_mut(), length, READ_WRITE, SHARED, fd, offset.into())?, length)
            };
            queue.buffers.push((Map { start, length }, true));
        }
        if queue.buffers.is_empty() { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(queue) }
    }

    fn stream(&mut self) -> io::Result<()> {
        call(&self.handle, vidioc::VIDIOC_STREAMON, &mut self.kind.clone())?;
        self.is_streaming = true;
        Ok(())
    }

    fn request(&self, count: u32) -> io::Result<u32> {
        let mut raw: sys::v4l2_requestbuffers = zeroed();
        (raw.count, raw.type_, raw.memory) = (count, self.kind, MAPPED);
        call(&self.handle, vidioc::VIDIOC_REQBUFS, &mut raw)?;
        Ok(raw.count)
    }

    /// `plane` outlives the call that the result is for.
    fn describe(&self, index: u32, plane: &mut sys::v4l2_plane) -> sys::v4l2_buffer {
        let mut raw: sys::v4l2_buffer = zeroed();
        (raw.index, raw.type_, raw.memory) = (index, self.kind, MAPPED);
        if self.is_planar {
            raw.m.planes = plane;
            raw.length = 1;
        }
        raw
    }

    fn bytes_mut(&mut self, index: usize) -> &mut [u8] {
        let (map, is_ours) = &self.buffers[index];
        let length = if *is_ours { map.length } else { 0 };
        // SAFETY: mapped with `length` bytes; the buffer is with us, and `&mut self` keeps it from being given away.
        unsafe { std::slice::from_raw_parts_mut(map.start.cast::<u8>(), length) }
    }

    /// Gives a buffer to the driver.
    fn give(&mut self, index: usize, used: u32, at: Duration) -> io::Result<()> {
        let mut plane: sys::v4l2_plane = zeroed();
        plane.bytesused = used;
        plane.length = self.buffers[index].0.length as u32;
        let mut raw = self.describe(index as u32, &mut plane);
        raw.bytesused = used;
        raw.field = sys::v4l2_field_V4L2_FIELD_NONE;
        // Time of our own: drivers copy it (V4L2_BUF_FLAG_TIMESTAMP_COPY).
        raw.timestamp.tv_sec = at.as_secs() as _;
        raw.timestamp.tv_usec = at.subsec_micros() as _;
        call(&self.handle, vidioc::VIDIOC_QBUF, &mut raw)?;
        self.buffers[index].1 = false;
        Ok(())
    }

    /// Takes what is done, if anything is.
    fn take(&mut self) -> io::Result<Option<Coded>> {
        let mut plane: sys::v4l2_plane = zeroed();
        let mut raw = self.describe(0, &mut plane);
        match call(&self.handle, vidioc::VIDIOC_DQBUF, &mut raw) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let index = raw.index as usize;
        self.buffers.get_mut(index).ok_or(io::ErrorKind::InvalidData)?.1 = true;
        let used = if self.is_planar { plane.bytesused } else { raw.bytesused };
        let seconds = u64::try_from(raw.timestamp.tv_sec).unwrap_or(0);
        let micros = u32::try_from(raw.timestamp.tv_usec).unwrap_or(0).min(999_999);
        Ok(Some(Coded {
            index,
            used: used as usize,
            at: Duration::new(seconds, micros * 1000),
            is_damaged: raw.flags & sys::V4L2_BUF_FLAG_ERROR != 0,
            is_last: raw.flags & sys::V4L2_BUF_FLAG_LAST != 0,
        }))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // A device that has gone refuses all of this, and there is nothing to be done about it.
        if self.is_streaming {
            drop(call(&self.handle, vidioc::VIDIOC_STREAMOFF, &mut self.kind.clone()));
        }
        for (map, _) in &self.buffers {
            // SAFETY: mapped in `new` with this length; no slice of it outlives `self`.
            drop(unsafe { munmap(map.start, map.length) });
        }
        drop(self.request(0));
    }
}

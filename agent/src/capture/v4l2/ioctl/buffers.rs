//! A driver's buffers, mapped: pictures are read where the driver has put them.
//!
//! Invariants: a buffer is either with the driver or with us, never both; what is with us goes back; nothing here waits
//! longer than it is told to.

use std::io;
use std::os::raw::c_void;
use std::sync::Arc;
use std::time::Duration;

use v4l::Device;
use v4l::device::Handle;
use v4l::v4l_sys as sys;
use v4l::v4l2::{mmap, munmap, vidioc};

use super::{call, zeroed};

const CAPTURE: u32 = sys::v4l2_buf_type_V4L2_BUF_TYPE_VIDEO_CAPTURE;
pub(super) const MAPPED: u32 = sys::v4l2_memory_V4L2_MEMORY_MMAP;
pub(super) const READ_WRITE: i32 = 0x1 | 0x2;
pub(super) const SHARED: i32 = 0x1;
const POLLIN: i16 = 0x1;

/// The buffers of a device that captures.
pub struct Buffers {
    handle: Arc<Handle>,
    maps: Vec<Map>,
    is_streaming: bool,
}

pub(super) struct Map {
    pub(super) start: *mut c_void,
    pub(super) length: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; `Buffers` or `m2m::Queue` is its only owner.
unsafe impl Send for Map {}

/// A buffer that the driver has filled and that is with us until [`Buffers::give_back`].
#[derive(Debug)]
pub struct Filled {
    index: usize,
    used: usize,
    /// Counts the pictures that the camera took, sent or not.
    pub sequence: u32,
    /// When, on the monotonic clock of the machine (CLOCK_MONOTONIC), if the driver says so.
    pub taken_at: Option<Duration>,
    /// The driver says that the picture is damaged.
    pub is_damaged: bool,
}

impl Buffers {
    /// Asks the driver for `count` buffers, maps them, and gives them to the driver.
    pub fn new(device: &Device, count: u32) -> io::Result<Self> {
        let mut buffers = Self { handle: device.handle(), maps: Vec::new(), is_streaming: false };
        let granted = buffers.request(count)?;
        for index in 0..granted {
            let mut raw = buffers.describe(index);
            call(&buffers.handle, vidioc::VIDIOC_QUERYBUF, &mut raw)?;
            let length = raw.length as usize;
            // SAFETY: for mapped memory the kernel has filled `offset`. The mapping is new, and unmapped in `drop`.
            let start = unsafe {
                let offset = raw.m.offset.into();
                mmap(std::ptr::null_mut(), length, READ_WRITE, SHARED, buffers.handle.fd(), offset)?
            };
            buffers.maps.push(Map { start, length });
            call(&buffers.handle, vidioc::VIDIOC_QBUF, &mut buffers.describe(index))?;
        }
        if buffers.maps.is_empty() { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(buffers) }
    }

    /// Lets the camera run.
    pub fn start(&mut self) -> io::Result<()> {
        call(&self.handle, vidioc::VIDIOC_STREAMON, &mut CAPTURE.clone())?;
        self.is_streaming = true;
        Ok(())
    }

    /// Waits for a picture; `false` when none came in time.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        match self.handle.poll(POLLIN, millis) {
            Ok(ready) => Ok(ready > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the oldest picture, if there is one.
    pub fn take(&mut self) -> io::Result<Option<Filled>> {
        let mut raw = self.describe(0);
        match call(&self.handle, vidioc::VIDIOC_DQBUF, &mut raw) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let index = raw.index as usize;
        let length = self.maps.get(index).ok_or(io::ErrorKind::InvalidData)?.length;
        let is_monotonic = raw.flags & sys::V4L2_BUF_FLAG_TIMESTAMP_MASK == sys::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
        let time = u64::try_from(raw.timestamp.tv_sec).ok().zip(u32::try_from(raw.timestamp.tv_usec).ok());
        let taken_at = time.map(|(seconds, micros)| Duration::new(seconds, micros.min(999_999) * 1000));
        Ok(Some(Filled {
            index,
            used: (raw.bytesused as usize).min(length),
            sequence: raw.sequence,
            taken_at: taken_at.filter(|at| is_monotonic && !at.is_zero()),
            is_damaged: raw.flags & sys::V4L2_BUF_FLAG_ERROR != 0,
        }))
    }

    /// What is in a buffer.
    pub fn bytes(&self, filled: &Filled) -> &[u8] {
        let map = &self.maps[filled.index];
        // SAFETY: the buffer is mapped with at least `used` bytes, and not with the driver: `Filled` can only be made by
        // taking it and is used up by giving it back.
        unsafe { std::slice::from_raw_parts(map.start.cast::<u8>(), filled.used) }
    }

    /// Gives a buffer back to the driver.
    #[expect(clippy::needless_pass_by_value, reason = "whoever gives a buffer back must not have it any more")]
    pub fn give_back(&mut self, filled: Filled) -> io::Result<()> {
        // There are at most 32 (VIDEO_MAX_FRAME).
        call(&self.handle, vidioc::VIDIOC_QBUF, &mut self.describe(filled.index as u32))
    }

    fn request(&self, count: u32) -> io::Result<u32> {
        let mut raw: sys::v4l2_requestbuffers = zeroed();
        (raw.count, raw.type_, raw.memory) = (count, CAPTURE, MAPPED);
        call(&self.handle, vidioc::VIDIOC_REQBUFS, &mut raw)?;
        Ok(raw.count)
    }

    fn describe(&self, index: u32) -> sys::v4l2_buffer {
        let mut raw: sys::v4l2_buffer = zeroed();
        (raw.index, raw.type_, raw.memory) = (index, CAPTURE, MAPPED);
        raw
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // A device that was unplugged refuses all of this, and there is nothing to be done about it.
        if self.is_streaming {
            drop(call(&self.handle, vidioc::VIDIOC_STREAMOFF, &mut CAPTURE.clone()));
        }
        for map in &self.maps {
            // SAFETY: mapped in `new` with this length; no slice of it outlives `self`.
            drop(unsafe { munmap(map.start, map.length) });
        }
        drop(self.request(0));
    }
}

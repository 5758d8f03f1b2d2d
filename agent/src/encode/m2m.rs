//! Encoders of the machine that V4L2 offers as memory-to-memory devices: Raspberry Pi (bcm2835-codec), Rockchip, i.MX.
//!
//! One picture goes in, and its coded form is waited for: so pictures stay one for one and in order, as with an encoder in
//! software. A picture is copied once, into the memory that the device reads.
//!
//! A device that does not do as it should (no answer in time, damaged output, no slice) is an [`EncodeError`]: the caller
//! goes on with OpenH264.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use edgecam_media::Codec;
use edgecam_media::annex_b::Splitter;
use edgecam_media::nal::{NalKind, NalUnit};

use super::frame::View;
use super::openh264::put_unit;
use super::{EncodeError, Encoding, Settings};
use crate::capture::v4l2::controls::{force_key_frame, set_encoder};
use crate::capture::v4l2::find::nodes;
use crate::capture::v4l2::ioctl::m2m::{Coder, Planar, Shape, Side};

/// For one picture. Hardware takes milliseconds; the first one may wait for firmware.
const PATIENCE: Duration = Duration::from_millis(800);
/// Coded buffers for one picture: parameter sets may come in one of their own.
const PIECES: usize = 4;

const H264: [u8; 4] = *b"H264";
/// What is put in, the cheapest first.
const RAW: [[u8; 4]; 2] = [*b"YU12", *b"NV12"];

/// A device that makes `coded` of a raw format the agent can give, and that format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// `/dev/videoN`.
    pub path: PathBuf,
    /// The device's own name.
    pub name: String,
    /// FourCC of what is put in.
    pub raw: [u8; 4],
}

/// The first device of this machine that makes `coded`.
pub fn find(coded: [u8; 4]) -> Option<Device> {
    nodes().0.into_iter().find_map(|node| {
        let planar = Planar::of(node.capability.caps)?;
        let device = v4l::Device::with_path(&node.path).ok()?;
        if !planar.formats(&device, Side::Capture).contains(&coded) {
            return None;
        }
        let takes = planar.formats(&device, Side::Output);
        let raw = RAW.into_iter().find(|raw| takes.contains(raw))?;
        Some(Device { path: node.path, name: node.capability.card, raw })
    })
}

/// An encoder of the machine, for pictures of one size.
pub struct Encoder {
    device: Device,
    settings: Settings,
    running: Option<(Coder, (usize, usize))>,
    /// SPS and PPS as they came last: for devices that send them once.
    sets: BytesMut,
}

impl Encoder {
    /// Sets the encoder up, if this machine has one.
    pub fn found(settings: &Settings) -> Option<Self> {
        let device = find(H264)?;
        Some(Self { device, settings: *settings, running: None, sets: BytesMut::new() })
    }

    /// The device's own name.
    pub fn name(&self) -> &str {
        &self.device.name
    }

    /// Encodes the picture taken at `at` into length-prefixed NAL units.
    pub fn encode(&mut self, picture: View<'_>, at: Duration, force_idr: bool) -> Result<Bytes, EncodeError> {
        let size = (picture.width, picture.height);
        let mut coder = match self.running.take() {
            Some((coder, of)) if of == size => {
                if force_idr {
                    force_key_frame(coder.device()).map_err(|error| refused("an IDR that is asked for", &error))?;
                }
                coder
            }
            // The first picture is an IDR in any case. Another size needs other buffers: what is open is closed first.
            other => {
                drop(other);
                self.open(size)?
            }
        };
        let raw = coder.raw;
        let is_put = coder.put(at, |to| fill(picture, &raw, to)).map_err(|error| refused("a picture", &error))?;
        if !is_put {
            return Err(broken("it gives no buffer back"));
        }
        let data = self.coded(&mut coder)?;
        self.running = Some((coder, size));
        Ok(data)
    }

    fn open(&self, (width, height): (usize, usize)) -> Result<Coder, EncodeError> {
        let Settings { frame_rate, gop, bitrate, .. } = self.settings;
        let (width, height) = (width as u32, height as u32);
        let wanted = Encoding { width, height, frame_rate, gop, bitrate };
        let raw = Shape { fourcc: self.device.raw, width, height, stride: 0 };
        let set_up = |device: &v4l::Device| {
            for note in set_encoder(device, &wanted) {
                tracing::warn!(encoder = %self.device.name, %note, "the encoder was not set as asked");
            }
        };
        Coder::open(&self.device.path, raw, H264, frame_rate, set_up)
            .map_err(|error| refused(&format!("{width}x{height}"), &error))
    }

    /// Waits for the picture that was put in.
    fn coded(&mut self, coder: &mut Coder) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::new();
        for _ in 0..PIECES {
            let piece = coder.take(PATIENCE, |coded, bytes| {
                if coded.is_damaged {
                    return Err(broken("it marks its output as damaged"));
                }
                Ok(append(&mut out, &mut self.sets, bytes))
            });
            let piece = piece.map_err(|error| refused("waiting for a coded picture", &error))?;
            let has_slice = piece.ok_or_else(|| broken("no coded picture comes"))??;
            if has_slice {
                return Ok(out.freeze());
            }
        }
        Err(broken("its output holds no picture"))
    }
}

/// Appends the NAL units of a buffer with lengths; whether there is a slice among them. An IDR gets the parameter sets that
/// came last in front, where it has none.
fn append(out: &mut BytesMut, sets: &mut BytesMut, bytes: &[u8]) -> bool {
    let mut splitter = Splitter::default();
    let (mut has_slice, mut has_sets) = (false, !out.is_empty());
    let mut unit = |bytes: &[u8]| {
        let Some(unit) = NalUnit::new(Codec::H264, bytes) else { return };
        if unit.is_parameter_set() {
            if unit.kind() == NalKind::Sps {
                sets.clear();
            }
            put_unit(sets, bytes);
            has_sets = true;
        } else if unit.kind() == NalKind::IdrSlice && !has_sets {
            out.extend_from_slice(sets);
            has_sets = true;
        }
        has_slice |= unit.is_slice();
        put_unit(out, bytes);
    };
    splitter.push(bytes, &mut unit);
    splitter.finish(&mut unit);
    has_slice
}

/// Writes a picture where the device reads it; how many bytes it has there.
fn fill(picture: View<'_>, raw: &Shape, to: &mut [u8]) -> usize {
    let (width, height) = (picture.width, picture.height);
    let stride = (raw.stride as usize).max(width);
    let rows = (raw.height as usize).max(height);
    let size = stride * rows + 2 * (stride / 2) * (rows / 2);
    if to.len() < size {
        return 0;
    }
    let (luma, chroma) = to.split_at_mut(stride * rows);
    let copy = |from: &[u8], from_stride: usize, to: &mut [u8], to_stride: usize, width: usize, height: usize| {
        for (from, to) in from.chunks(from_stride).zip(to.chunks_mut(to_stride)).take(height) {
            to[..width].copy_from_slice(&from[..width]);
        }
    };
    copy(picture.y, picture.strides.0, luma, stride, width, height);
    if &raw.fourcc == b"NV12" {
        let from = picture.u.chunks(picture.strides.1).zip(picture.v.chunks(picture.strides.1));
        for ((u, v), to) in from.zip(chroma.chunks_mut(stride)).take(height / 2) {
            for ((&u, &v), to) in u.iter().zip(v).zip(to.chunks_exact_mut(2)).take(width / 2) {
                to.copy_from_slice(&[u, v]);
            }
        }
    } else {
        let (u, v) = chroma.split_at_mut(stride / 2 * (rows / 2));
        copy(picture.u, picture.strides.1, u, stride / 2, width / 2, height / 2);
        copy(picture.v, picture.strides.1, v, stride / 2, width / 2, height / 2);
    }
    size
}

fn refused(what: &str, error: &std::io::Error) -> EncodeError {
    EncodeError { encoder: "the machine's encoder", reason: format!("{what}: {error}") }
}

fn broken(reason: &str) -> EncodeError {
    EncodeError { encoder: "the machine's encoder", reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::frame::Frame;

    #[test]
    fn pictures_lie_as_the_device_wants_them() {
        let mut frame = Frame::black(4, 4).expect("even");
        let planes = frame.planes_mut();
        planes.y.iter_mut().zip(1..).for_each(|(y, value)| *y = value);
        planes.u.copy_from_slice(&[101, 102, 103, 104]);
        planes.v.copy_from_slice(&[201, 202, 203, 204]);
        // Rows of 6 bytes, 6 rows: more than the picture has.
        let shape = |fourcc: &[u8; 4]| Shape { fourcc: *fourcc, width: 6, height: 6, stride: 6 };
        let mut to = vec![0; 54];
        assert_eq!(fill(frame.view(), &shape(b"YU12"), &mut to), 54);
        assert_eq!((&to[..7], &to[18..22]), (&[1, 2, 3, 4, 0, 0, 5][..], &[13, 14, 15, 16][..]));
        assert_eq!((&to[36..41], &to[45..50]), (&[101, 102, 0, 103, 104][..], &[201, 202, 0, 203, 204][..]));
        let mut to = vec![0; 54];
        assert_eq!(fill(frame.view(), &shape(b"NV12"), &mut to), 54);
        assert_eq!((&to[36..40], &to[42..46]), (&[101, 201, 102, 202][..], &[103, 203, 104, 204][..]));
        assert_eq!(fill(frame.view(), &shape(b"NV12"), &mut to[..50]), 0, "no room");
    }

    #[test]
    fn each_idr_has_its_parameter_sets() {
        let mut sets = BytesMut::new();
        let mut appended = |bytes: &[u8]| {
            let mut out = BytesMut::new();
            (append(&mut out, &mut sets, bytes), out.to_vec())
        };
        let [sps, pps, idr, p] = [&[0x67, 1][..], &[0x68, 2], &[0x65, 3], &[0x41, 4]];
        let stream =
            |units: &[&[u8]]| units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect::<Vec<_>>();
        let prefixed =
            |units: &[&[u8]]| units.iter().flat_map(|unit| [&[0, 0, 0, 2], *unit].concat()).collect::<Vec<_>>();
        assert_eq!(appended(&stream(&[sps, pps])), (false, prefixed(&[sps, pps])));
        assert_eq!(appended(&stream(&[sps, pps, idr])), (true, prefixed(&[sps, pps, idr])));
        assert_eq!(appended(&stream(&[idr])), (true, prefixed(&[sps, pps, idr])));
        assert_eq!(appended(&stream(&[p])), (true, prefixed(&[p])));
    }
}

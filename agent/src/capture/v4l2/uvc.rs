//! The H.264 extension unit of USB cameras (USB Device Class Definition for Video Devices: H.264 Payload 1.00): bitrate, GOP
//! and IDRs of cameras such as the Logitech C920, whose encoder has no V4L2 controls.
//!
//! Found by its GUID in the USB descriptors that sysfs shows. What a camera says it can do is taken as it is: the values
//! are probed, and what the camera makes of them is committed.

use std::io;
use std::path::Path;

use v4l::Device;

use super::ioctl::xu::{Query, query};
use crate::encode::Encoding;

/// `{A29E7641-DE04-47E3-8B2B-F4341AFF003B}` as it lies in a descriptor.
const GUID: [u8; 16] = [0x41, 0x76, 0x9e, 0xa2, 0x04, 0xde, 0xe3, 0x47, 0x8b, 0x2b, 0xf4, 0x34, 0x1a, 0xff, 0x00, 0x3b];
/// Descriptor type and subtype of an extension unit (UVC 1.5 section 3.7.2.7).
const EXTENSION_UNIT: [u8; 2] = [0x24, 0x06];

/// Control selectors (section 3.3).
const PROBE: u8 = 0x01;
const COMMIT: u8 = 0x02;
const PICTURE_TYPE: u8 = 0x09;
const BITRATE_LAYERS: u8 = 0x0e;
/// Bytes of what is probed and committed (section 3.3.1).
const CONFIG: usize = 46;
/// Hints: which fields are meant.
const HINT_BITRATE: u16 = 0x2000;
const HINT_I_FRAME_PERIOD: u16 = 0x8000;

/// A camera's H.264 extension unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unit(u8);

impl Unit {
    /// The unit of the camera at `path`, if it has one.
    pub(super) fn find(path: &Path) -> Option<Self> {
        let name = path.canonicalize().ok()?.file_name()?.to_owned();
        // The node belongs to a USB interface, and the descriptors to the device around it.
        let descriptors = Path::new("/sys/class/video4linux").join(name).join("device/../descriptors");
        unit(&std::fs::read(descriptors).ok()?).map(Self)
    }

    /// Sets bitrate and GOP, before the camera runs; says what it made of them, in bits a second and frames.
    pub(super) fn set(self, device: &Device, wanted: &Encoding) -> io::Result<(u32, u32)> {
        let mut config = [0; CONFIG];
        query(device, self.0, PROBE, Query::GetCur, &mut config)?;
        configure(&mut config, wanted);
        query(device, self.0, PROBE, Query::SetCur, &mut config)?;
        query(device, self.0, PROBE, Query::GetCur, &mut config)?;
        query(device, self.0, COMMIT, Query::SetCur, &mut config)?;
        Ok(configured(&config, wanted.frame_rate))
    }

    /// Sets the bitrate of a camera that runs.
    pub(super) fn set_bitrate(self, device: &Device, bitrate: u32) -> io::Result<()> {
        query(device, self.0, BITRATE_LAYERS, Query::SetCur, &mut bitrate_layers(bitrate))
    }

    /// Asks for an IDR with its parameter sets.
    pub(super) fn force_idr(self, device: &Device) -> io::Result<()> {
        // Of layer 0; type 2 is an IDR with SPS and PPS (section 3.3.9).
        query(device, self.0, PICTURE_TYPE, Query::SetCur, &mut [0, 0, 2, 0])
    }
}

/// The number of the H.264 extension unit among a device's descriptors.
fn unit(mut descriptors: &[u8]) -> Option<u8> {
    loop {
        let length = usize::from(*descriptors.first()?);
        if length < 2 {
            return None;
        }
        let (descriptor, rest) = descriptors.split_at_checked(length)?;
        if descriptor.get(1..3) == Some(&EXTENSION_UNIT) && descriptor.get(4..20) == Some(&GUID) {
            return Some(descriptor[3]);
        }
        descriptors = rest;
    }
}

/// Writes bitrate and I-frame period, in milliseconds, into what the camera has now.
fn configure(config: &mut [u8; CONFIG], wanted: &Encoding) {
    let period = (f64::from(wanted.gop) * 1000.0 / wanted.frame_rate).round().clamp(1.0, f64::from(u16::MAX));
    config[4..8].copy_from_slice(&wanted.bitrate.to_le_bytes());
    config[8..10].copy_from_slice(&(HINT_BITRATE | HINT_I_FRAME_PERIOD).to_le_bytes());
    config[22..24].copy_from_slice(&(period as u16).to_le_bytes());
}

/// Bitrate and GOP of what the camera has.
fn configured(config: &[u8; CONFIG], frame_rate: f64) -> (u32, u32) {
    let bitrate = u32::from_le_bytes([config[4], config[5], config[6], config[7]]);
    let period = u16::from_le_bytes([config[22], config[23]]);
    (bitrate, (f64::from(period) / 1000.0 * frame_rate).round() as u32)
}

/// Layer 0, peak and average (section 3.3.14).
fn bitrate_layers(bitrate: u32) -> [u8; 10] {
    let mut payload = [0; 10];
    payload[2..6].copy_from_slice(&bitrate.to_le_bytes());
    payload[6..].copy_from_slice(&bitrate.to_le_bytes());
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(kind: &[u8], rest: &[u8]) -> Vec<u8> {
        [&[(1 + kind.len() + rest.len()) as u8], kind, rest].concat()
    }

    #[test]
    fn the_unit_among_the_descriptors() {
        let device = descriptor(&[0x01], &[0; 16]);
        let other = descriptor(&EXTENSION_UNIT, &[&[9][..], &[7; 16], &[1, 1, 2, 1, 3, 0]].concat());
        let h264 = descriptor(&EXTENSION_UNIT, &[&[12][..], &GUID, &[15, 1, 3, 2, 0xff, 0x7f, 0]].concat());
        let check = |parts: &[&[u8]], expected: Option<u8>| assert_eq!(unit(&parts.concat()), expected, "{parts:x?}");
        check(&[&device, &other, &h264], Some(12));
        check(&[&device, &other], None);
        // Cut short, and lengths that lead nowhere.
        check(&[&device, &h264[..20]], None);
        check(&[&device, &[0, 0x24, 6]], None);
        check(&[&[1]], None);
        check(&[], None);
    }

    #[test]
    fn what_is_asked_of_the_camera() {
        let wanted = Encoding { width: 1280, height: 720, frame_rate: 15.0, gop: 30, bitrate: 1_500_000 };
        let mut config = [0xee; CONFIG];
        configure(&mut config, &wanted);
        assert_eq!(config[4..10], [0x60, 0xe3, 0x16, 0x00, 0x00, 0xa0]);
        assert_eq!(
            (config[3], &config[10..12], &config[22..24]),
            (0xee, &[0xee, 0xee][..], &2000_u16.to_le_bytes()[..])
        );
        assert_eq!(configured(&config, 15.0), (1_500_000, 30));
        assert_eq!(bitrate_layers(500_000), [0, 0, 0x20, 0xa1, 7, 0, 0x20, 0xa1, 7, 0]);
    }
}

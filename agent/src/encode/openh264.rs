//! Cisco's OpenH264, built from source: the encoder for machines without one in hardware.
//!
//! One thread, Constrained Baseline. Frames are not skipped to keep the bitrate: the quality goes down instead, and each
//! frame gives a picture. (The encoder warns about that on standard error when it starts, before it can be told not to;
//! measured, 200 frames of a 150 kbit/s test pattern came to 152 kbit/s, while skipping left out 35 of them.) Its output
//! is turned from Annex B into length-prefixed NAL units in the one copy that takes it out of the encoder's memory.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use openh264::encoder::{
    BitRate, Complexity, EncoderConfig, FrameRate, IntraFramePeriod, Profile, RateControlMode, UsageType, VuiConfig,
};
use openh264::{OpenH264API, Timestamp};

use super::frame::View;
use super::{Colour, EncodeError, Settings};

/// An encoder for frames of one size.
pub struct Encoder {
    inner: openh264::encoder::Encoder,
    started: bool,
}

impl Encoder {
    /// Sets the encoder up. What is wrong with the size of the pictures shows at the first frame.
    pub fn new(settings: &Settings) -> Result<Self, EncodeError> {
        let config = EncoderConfig::new()
            .bitrate(BitRate::from_bps(settings.bitrate))
            .max_frame_rate(FrameRate::from_hz(settings.frame_rate as f32))
            .intra_frame_period(IntraFramePeriod::from_num_frames(settings.gop))
            .rate_control_mode(RateControlMode::Bitrate)
            .usage_type(UsageType::CameraVideoRealTime)
            .complexity(Complexity::Low)
            .profile(Profile::Baseline)
            .vui(match settings.colour {
                Colour::Bt709 => VuiConfig::bt709(),
                Colour::Bt601 => VuiConfig::bt601(),
                Colour::Bt601Full => VuiConfig::bt601().full_range(true),
            })
            .num_threads(1)
            .scene_change_detect(false)
            // It leaves specks behind moving edges, and costs as much as it saves.
            .background_detection(false)
            .adaptive_quantization(false)
            .skip_frames(false);
        let inner = openh264::encoder::Encoder::with_api_config(OpenH264API::from_source(), config).map_err(refused)?;
        Ok(Self { inner, started: false })
    }

    /// Encodes the picture taken at `at` (on any clock that only goes forward) into length-prefixed NAL units.
    pub fn encode(&mut self, picture: View<'_>, at: Duration, force_idr: bool) -> Result<Bytes, EncodeError> {
        // The first picture is an IDR in any case, and before it there is nothing to tell the encoder.
        if force_idr && self.started {
            self.inner.force_intra_frame();
        }
        let millis = u64::try_from(at.as_millis()).unwrap_or(0);
        let coded = self.inner.encode_at(&picture, Timestamp::from_millis(millis)).map_err(refused)?;
        self.started = true;
        let layers = || (0..coded.num_layers()).filter_map(|index| coded.layer(index));
        let size = layers()
            .map(|layer| (0..layer.nal_count()).filter_map(|i| layer.nal_unit(i)).map(<[u8]>::len).sum::<usize>());
        let mut out = BytesMut::with_capacity(size.sum());
        for layer in layers() {
            for unit in (0..layer.nal_count()).filter_map(|index| layer.nal_unit(index)) {
                put_unit(&mut out, unit);
            }
        }
        Ok(out.freeze())
    }
}

/// Appends a NAL unit with its length in place of its start code.
pub(super) fn put_unit(out: &mut BytesMut, unit: &[u8]) {
    let zeros = unit.iter().take_while(|&&byte| byte == 0).count();
    let unit = match unit.get(zeros) {
        Some(1) if zeros >= 2 => &unit[zeros + 1..],
        _ => unit,
    };
    // Within the encoder's limit of 3840x2160 a unit is far below 32 bits.
    out.put_u32(unit.len() as u32);
    out.put_slice(unit);
}

fn refused(error: openh264::Error) -> EncodeError {
    EncodeError { encoder: "OpenH264", reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use edgecam_media::assembler::Assembler;

    use super::*;
    use crate::encode::frame::Frame;

    const SETTINGS: Settings = Settings { frame_rate: 25.0, gop: 10, bitrate: 300_000, colour: Colour::Bt709 };

    #[test]
    fn start_codes_become_lengths() {
        let check = |unit: &[u8], expected: &[u8]| {
            let mut out = BytesMut::new();
            put_unit(&mut out, unit);
            assert_eq!(&out[..], expected);
        };
        check(&[0, 0, 0, 1, 0x67, 5], &[0, 0, 0, 2, 0x67, 5]);
        check(&[0, 0, 1, 0x65], &[0, 0, 0, 1, 0x65]);
        check(&[0x65, 0, 0, 1], &[0, 0, 0, 4, 0x65, 0, 0, 1]);
    }

    #[test]
    fn idrs_come_with_the_gop_and_on_request() {
        let mut encoder = Encoder::new(&SETTINGS).expect("settings");
        let frame = Frame::black(320, 180).expect("even");
        let mut assembler = Assembler::<()>::default();
        let mut idrs = Vec::new();
        for index in 0..35_u32 {
            let at = Duration::from_millis(u64::from(index) * 40);
            let data = encoder.encode(frame.view(), at, index == 0 || index == 14).expect("encodes");
            let picture = assembler.push_picture(data).expect("one picture for each frame");
            if picture.is_idr {
                let sets = picture.parameter_sets.expect("an IDR has sets");
                assert_eq!((sets.facts().width, sets.facts().height), (320, 180));
                assert!(!sets.facts().reordering);
                idrs.push(index);
            }
        }
        assert_eq!(idrs, [0, 10, 14, 24, 34]);
    }

    #[test]
    fn a_size_beyond_the_encoder_is_an_error() {
        let mut encoder = Encoder::new(&SETTINGS).expect("settings");
        let frame = Frame::black(8192, 64).expect("even");
        assert!(encoder.encode(frame.view(), Duration::ZERO, false).is_err());
    }
}

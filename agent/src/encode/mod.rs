//! Encoders: raw pictures in, H.264 out, for sources that do not code themselves.
//!
//! Invariants: no B-frames, so pictures come out in the order they go in, one for one; an IDR comes at least every
//! [`Settings::gop`] frames and at once when asked for. Encoders are synchronous and run in a thread of their source.
//!
//! Deliberately absent: transcoding. What arrives as H.264 is never decoded to be encoded again.

pub mod coder;
pub mod convert;
pub mod frame;
pub mod m2m;
pub mod openh264;

use serde::{Deserialize, Serialize};

/// How to encode.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// Frames a second.
    pub frame_rate: f64,
    /// Frames from one IDR to the next.
    pub gop: u32,
    /// Bits a second.
    pub bitrate: u32,
    /// What the samples mean: written into the stream, never converted.
    pub colour: Colour,
}

/// What the samples of a picture mean (ISO/IEC 23091-2, "matrix coefficients" and "video full range").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Colour {
    /// BT.709, limited range: drawn pictures, HD cameras that say so.
    #[default]
    Bt709,
    /// BT.601, limited range: what a camera's driver that says nothing else sends.
    Bt601,
    /// BT.601, full range: JPEG (JFIF).
    Bt601Full,
}

/// What pictures a source that codes (in a camera, in hardware, or here) is to give: one vocabulary for all of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Encoding {
    /// Picture width in pixels; even.
    pub width: u32,
    /// Picture height in pixels; even.
    pub height: u32,
    /// Frames a second.
    pub frame_rate: f64,
    /// Frames from one IDR to the next.
    pub gop: u32,
    /// Bits a second.
    pub bitrate: u32,
}

impl Encoding {
    /// The same under what is asked of the encoder.
    #[must_use]
    pub fn under(self, control: Control) -> Self {
        let (width, height) = control.resolution.unwrap_or((self.width, self.height));
        let bitrate = control.bitrate.unwrap_or(self.bitrate);
        Self {
            width,
            height,
            frame_rate: control.framerate.unwrap_or(self.frame_rate),
            gop: control.gop.unwrap_or(self.gop),
            bitrate: bitrate.min(control.bitrate_limit.unwrap_or(u32::MAX)),
        }
    }

    /// What is wrong with it, if anything is.
    pub fn check(&self) -> Result<(), String> {
        let is_size = |pixels: u32| (64..=4096).contains(&pixels) && pixels.is_multiple_of(2);
        let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        must(is_size(self.width) && is_size(self.height), "width and height must be even and 64 to 4096")?;
        must((1.0..=60.0).contains(&self.frame_rate), "the frame rate must be 1 to 60")?;
        must((1..=600).contains(&self.gop), "the GOP must be 1 to 600 frames")?;
        must((10_000..=100_000_000).contains(&self.bitrate), "the bitrate must be 10000 to 100000000 bits a second")
    }

    /// What an encoder of ours needs to know of it.
    pub fn settings(&self, colour: Colour) -> Settings {
        Settings { frame_rate: self.frame_rate, gop: self.gop, bitrate: self.bitrate, colour }
    }
}

/// What is asked of an encoder while it runs; what is `None` stays as the config says.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Control {
    /// Width and height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<(u32, u32)>,
    /// Frames a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framerate: Option<f64>,
    /// Frames from one IDR to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gop: Option<u32>,
    /// Bits a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u32>,
    /// Bits a second that a receiver can take, whatever else is asked for. Not kept.
    #[serde(skip)]
    pub bitrate_limit: Option<u32>,
}

impl Control {
    /// What this asks for, and what `before` asked for where this says nothing.
    #[must_use]
    pub fn over(self, before: Self) -> Self {
        Self {
            resolution: self.resolution.or(before.resolution),
            framerate: self.framerate.or(before.framerate),
            gop: self.gop.or(before.gop),
            bitrate: self.bitrate.or(before.bitrate),
            bitrate_limit: self.bitrate_limit.or(before.bitrate_limit),
        }
    }
}

/// The encoder refused its settings or a picture.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{encoder}: {reason}")]
pub struct EncodeError {
    /// The encoder's name.
    pub encoder: &'static str,
    /// In its own words.
    pub reason: String,
}

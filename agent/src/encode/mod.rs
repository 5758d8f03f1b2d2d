//! Encoders: raw pictures in, H.264 out, for sources that do not code themselves.
//!
//! Invariants: no B-frames, so pictures come out in the order they go in, one for one; an IDR comes at least every
//! [`Settings::gop`] frames and at once when asked for. Encoders are synchronous and run in a thread of their source.
//!
//! Deliberately absent: transcoding. What arrives as H.264 is never decoded to be encoded again.

pub mod frame;
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

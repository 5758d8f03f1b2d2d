//! Encoders: raw pictures in, H.264 out, for sources that do not code themselves.
//!
//! Invariants: no B-frames, so pictures come out in the order they go in, one for one; an IDR comes at least every
//! [`Settings::gop`] frames and at once when asked for. Encoders are synchronous and run in a thread of their source.
//!
//! Deliberately absent: transcoding. What arrives as H.264 is never decoded to be encoded again.

pub mod frame;
pub mod openh264;

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

/// The encoder refused its settings or a picture.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{encoder}: {reason}")]
pub struct EncodeError {
    /// The encoder's name.
    pub encoder: &'static str,
    /// In its own words.
    pub reason: String,
}

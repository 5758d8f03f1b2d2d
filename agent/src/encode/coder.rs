//! From raw pictures to coded ones for a log: an encoder, requests for IDRs, and settings that change while it runs.
//!
//! The machine's own encoder is taken where there is one, and given up for OpenH264 where it fails.
//!
//! Synchronous; it belongs to the thread that has the raw pictures.

use std::time::Duration;

use bytes::Bytes;
use edgecam_media::assembler::{Assembler, Picture};
use tokio::sync::watch;

use super::frame::View;
use super::{EncodeError, Settings, m2m, openh264};

/// An encoder and what is asked of it.
pub struct Coder {
    settings: Settings,
    encoder: Encoder,
    /// The machine's encoder has failed, or there is none.
    is_software: bool,
    assembler: Assembler<()>,
    idr_requests: watch::Receiver<u64>,
}

/// Who encodes.
enum Encoder {
    OpenH264(Box<openh264::Encoder>),
    OfTheMachine(Box<m2m::Encoder>),
}

impl Encoder {
    fn new(settings: &Settings, is_software: bool) -> Result<Self, EncodeError> {
        let found = if is_software { None } else { m2m::Encoder::found(settings) };
        match found {
            Some(encoder) => {
                tracing::info!(encoder = encoder.name(), "encoding in hardware");
                Ok(Self::OfTheMachine(Box::new(encoder)))
            }
            None => Ok(Self::OpenH264(Box::new(openh264::Encoder::new(settings)?))),
        }
    }

    fn encode(&mut self, picture: View<'_>, at: Duration, force_idr: bool) -> Result<Bytes, EncodeError> {
        match self {
            Self::OpenH264(encoder) => encoder.encode(picture, at, force_idr),
            Self::OfTheMachine(encoder) => encoder.encode(picture, at, force_idr),
        }
    }
}

impl Coder {
    /// Sets the encoder up; `idr_requests` changes whenever a reader wants an IDR.
    pub fn new(settings: Settings, idr_requests: watch::Receiver<u64>) -> Result<Self, EncodeError> {
        let encoder = Encoder::new(&settings, false)?;
        Ok(Self { settings, encoder, is_software: false, assembler: Assembler::default(), idr_requests })
    }

    /// Goes over to other settings, if they are other ones. The next picture is an IDR then.
    pub fn change(&mut self, settings: Settings) -> Result<(), EncodeError> {
        if settings != self.settings {
            (self.encoder, self.settings) = (Encoder::new(&settings, self.is_software)?, settings);
        }
        Ok(())
    }

    /// Encodes the picture taken at `at`, on any clock that only goes forward. The size may change from one to the next.
    pub fn encode(&mut self, picture: View<'_>, at: Duration) -> Result<Option<Picture>, EncodeError> {
        let force_idr = self.idr_requests.has_changed().unwrap_or(false);
        if force_idr {
            self.idr_requests.mark_unchanged();
        }
        let data = match self.encoder.encode(picture, at, force_idr) {
            Err(error) if matches!(self.encoder, Encoder::OfTheMachine(_)) => {
                tracing::warn!(%error, "the machine's encoder fails: OpenH264 is used instead");
                self.is_software = true;
                self.encoder = Encoder::new(&self.settings, true)?;
                self.encoder.encode(picture, at, false)?
            }
            data => data?,
        };
        Ok(self.assembler.push_picture(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::frame::Frame;
    use crate::encode::{Colour, Encoding};

    #[test]
    fn an_idr_within_one_frame_of_a_request_a_change_or_another_size() {
        let encoding = Encoding { width: 320, height: 180, frame_rate: 25.0, gop: 600, bitrate: 300_000 };
        let (requests, watch) = watch::channel(0_u64);
        let mut coder = Coder::new(encoding.settings(Colour::Bt601), watch).expect("settings");
        let mut frame = Frame::black(320, 180).expect("even");
        let mut idrs = Vec::new();
        for index in 0..40_u32 {
            match index {
                10 => requests.send_modify(|count| *count += 2),
                20 => {
                    coder.change(Encoding { bitrate: 200_000, ..encoding }.settings(Colour::Bt601)).expect("settings");
                }
                // The same again changes nothing.
                25 => {
                    coder.change(Encoding { bitrate: 200_000, ..encoding }.settings(Colour::Bt601)).expect("settings");
                }
                30 => frame = Frame::black(160, 90).expect("even"),
                _ => {}
            }
            let at = Duration::from_millis(u64::from(index) * 40);
            let picture = coder.encode(frame.view(), at).expect("encodes").expect("one for each frame");
            if let Some(sets) = picture.parameter_sets {
                idrs.push((index, sets.facts().width));
            }
        }
        assert_eq!(idrs, [(0, 320), (10, 320), (20, 320), (30, 160)]);
    }
}

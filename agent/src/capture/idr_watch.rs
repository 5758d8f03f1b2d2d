//! Finds the stream that lives and is of no use: pictures come, but none that decoding can start at.
//!
//! A watchdog on pictures cannot tell it from a frozen camera, and one on IDRs would give up on a camera whose IDRs are
//! far apart. So it is given time, and then the reason.

use std::time::Duration;

use edgecam_media::assembler::Losses;

use super::CaptureError;

/// The longest that cameras set themselves to between IDRs ("smart codec", "H.264+") is 20 to 30 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watches one attempt. Times are on the attempt's monotonic clock.
#[derive(Debug)]
pub(super) struct IdrWatch {
    since: Duration,
}

impl IdrWatch {
    /// The attempt begins to receive.
    pub(super) fn new(now: Duration) -> Self {
        Self { since: now }
    }

    /// A picture was delivered.
    pub(super) fn delivered(&mut self, now: Duration) {
        self.since = now;
    }

    /// A picture came and could not be delivered. `source` names where it came from.
    pub(super) fn left_out(&self, now: Duration, losses: Losses, source: &str) -> Result<(), CaptureError> {
        if now.saturating_sub(self.since) < PATIENCE {
            return Ok(());
        }
        let seconds = PATIENCE.as_secs();
        Err(CaptureError::UnsupportedCodec(if losses.without_parameter_sets > 0 {
            format!(
                "{source} sends pictures without SPS and PPS for {seconds} s: let the encoder repeat them with each IDR \
                 (x264: repeat-headers=1; V4L2: repeat_sequence_header)"
            )
        } else {
            format!(
                "{source} sends pictures but no IDR for {seconds} s: give its encoder a key frame interval of 1 to 4 s, \
                 and switch off intra refresh and \"smart codec\""
            )
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends() {
        let mut watch = IdrWatch::new(Duration::from_secs(10));
        let none = Losses::default();
        let at = |seconds: u64, losses: Losses, watch: &IdrWatch| {
            watch.left_out(Duration::from_secs(seconds), losses, "it").err().map(|error| error.to_string())
        };
        assert_eq!(at(69, none, &watch), None);
        assert!(at(70, none, &watch).is_some_and(|text| text.contains("no IDR")));
        watch.delivered(Duration::from_secs(69));
        assert_eq!(at(128, none, &watch), None);
        let bare = Losses { without_parameter_sets: 3, ..none };
        assert!(at(129, bare, &watch).is_some_and(|text| text.contains("SPS")));
    }
}

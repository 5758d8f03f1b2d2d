//! Whether the encoder does what it was set to: seen in its stream, since the tool cannot be asked.

use std::time::Duration;

use edgecam_media::assembler::Picture;

use crate::encode::Encoding;

/// Pictures from before the setting may still be in the FIFO for so long.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the stream is measured.
const MEASURE: Duration = Duration::from_secs(8);

/// Watches the stream after a setting.
#[derive(Debug)]
pub(super) struct Check {
    wanted: Encoding,
    since: Duration,
    first: Option<Duration>,
    pictures: u32,
    bytes: u64,
    since_idr: Option<u32>,
    longest_gop: u32,
    size: Option<(u32, u32)>,
    is_done: bool,
}

impl Check {
    pub(super) fn new(wanted: Encoding, now: Duration) -> Self {
        let is_done = false;
        Self {
            wanted,
            since: now,
            first: None,
            pictures: 0,
            bytes: 0,
            since_idr: None,
            longest_gop: 0,
            size: None,
            is_done,
        }
    }

    /// Takes a picture that arrived at `at`; once there is something to say, what differs from what was asked.
    pub(super) fn picture(&mut self, picture: &Picture, at: Duration) -> Option<Vec<String>> {
        if self.is_done || at < self.since + SETTLE {
            return None;
        }
        let first = *self.first.get_or_insert(at);
        if picture.is_idr {
            if let Some(frames) = self.since_idr.replace(0) {
                self.longest_gop = self.longest_gop.max(frames);
            }
            if let Some(sets) = &picture.parameter_sets {
                self.size = Some((sets.facts().width, sets.facts().height));
            }
        }
        self.since_idr = self.since_idr.map(|frames| frames + 1);
        let measured = at.saturating_sub(first);
        if measured < MEASURE {
            self.pictures += 1;
            self.bytes += picture.data.len() as u64;
            return None;
        }
        self.is_done = true;
        Some(self.differences(measured.as_secs_f64()))
    }

    fn differences(&self, seconds: f64) -> Vec<String> {
        let Encoding { width, height, frame_rate, gop, bitrate } = self.wanted;
        let mut notes = Vec::new();
        if let Some((w, h)) = self.size.filter(|size| *size != (width, height)) {
            notes.push(format!("the encoder was set to {width}x{height} and gives {w}x{h}"));
        }
        let rate = f64::from(self.pictures) / seconds;
        if (rate - frame_rate).abs() > frame_rate * 0.15 + 0.5 {
            notes.push(format!("the encoder was set to {frame_rate} fps and gives {rate:.1}"));
        }
        if self.longest_gop > 0 && self.longest_gop > gop + 1 {
            notes.push(format!("the encoder was set to a GOP of {gop} and makes them {} long", self.longest_gop));
        }
        let bits = self.bytes as f64 * 8.0 / seconds;
        if bits > f64::from(bitrate) * 1.5 {
            let (wanted, given) = (bitrate / 1000, (bits / 1000.0) as u64);
            notes.push(format!("the encoder was set to {wanted} kbit/s and gives {given}"));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::encode::coder::Coder;
    use crate::encode::frame::Frame;
    use crate::encode::{Colour, Encoding};

    const ENCODING: Encoding = Encoding { width: 320, height: 180, frame_rate: 10.0, gop: 10, bitrate: 200_000 };

    /// What is said of a stream that in truth has this encoding.
    fn said(truth: Encoding) -> Vec<String> {
        let (_requests, watch) = tokio::sync::watch::channel(0);
        let mut coder = Coder::new(truth.settings(Colour::Bt709), watch).expect("settings");
        let frame = Frame::black(truth.width, truth.height).expect("even");
        let idr = coder.encode(frame.view(), Duration::ZERO).expect("encodes").expect("a picture");
        let size = (truth.bitrate as f64 / 8.0 / truth.frame_rate) as usize;
        let mut check = Check::new(ENCODING, Duration::from_secs(100));
        for index in 0..600_u32 {
            let is_idr = index % truth.gop == 0;
            let parameter_sets = is_idr.then(|| idr.parameter_sets.clone()).flatten();
            let picture = Picture { is_idr, data: Bytes::from(vec![0; size]), parameter_sets };
            let at = Duration::from_secs_f64(100.0 + f64::from(index) / truth.frame_rate);
            if let Some(notes) = check.picture(&picture, at) {
                return notes;
            }
        }
        panic!("it never said anything");
    }

    #[test]
    fn what_differs_is_said_and_nothing_else() {
        assert_eq!(said(ENCODING), Vec::<String>::new());
        for (truth, word) in [
            (Encoding { width: 640, height: 360, ..ENCODING }, "640x360"),
            (Encoding { frame_rate: 24.0, gop: 10, ..ENCODING }, "24.0"),
            (Encoding { gop: 50, ..ENCODING }, "50 long"),
            (Encoding { bitrate: 900_000, ..ENCODING }, "kbit/s"),
        ] {
            let notes = said(truth);
            assert_eq!(notes.len(), 1, "{notes:?}");
            assert!(notes[0].contains(word), "{notes:?}");
        }
    }
}

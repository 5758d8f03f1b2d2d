//! H.264 or H.265 in Annex B form from a file: it has no timestamps, so the frame rate and the pictures' order make them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;

use edgecam_media::assembler::Assembler;
use edgecam_media::picture_order::{OutputOrder, Placed};
use edgecam_media::{Codec, Ticks};

use super::{DEFAULT_RATE, Data, FileError, Sample, Times};

const CHUNK: usize = 64 << 10;

/// Reads pictures one after the other.
pub(super) struct Reader {
    file: File,
    chunk: Vec<u8>,
    assembler: Assembler<()>,
    order: OutputOrder,
    /// Pictures whose place is known.
    ready: VecDeque<Placed>,
    ended: bool,
    configured_rate: Option<f64>,
    frame_duration: Ticks,
    /// Pictures given out.
    count: u64,
    /// Where the rate last changed: so many pictures had been given out, and the next was shown at this time.
    since: (u64, Ticks),
}

impl Reader {
    /// `frame_rate` goes before what the stream says.
    pub(super) fn new(file: File, codec: Codec, frame_rate: Option<f64>) -> Self {
        Self {
            file,
            chunk: vec![0; CHUNK],
            assembler: Assembler::new(codec),
            order: OutputOrder::default(),
            ready: VecDeque::new(),
            ended: false,
            configured_rate: frame_rate,
            frame_duration: frame_duration(frame_rate.unwrap_or(DEFAULT_RATE)),
            count: 0,
            since: (0, Ticks::ZERO),
        }
    }

    pub(super) fn codec(&self) -> Codec {
        self.assembler.codec()
    }

    pub(super) fn next(&mut self) -> Result<Option<Sample>, FileError> {
        while self.ready.is_empty() && !self.ended {
            let read = self.file.read(&mut self.chunk)?;
            let Self { order, ready, .. } = self;
            if read == 0 {
                self.assembler.finish((), |picture, ()| order.push(picture, |placed| ready.push_back(placed)));
                order.finish(|placed| ready.push_back(placed));
                self.ended = true;
            } else {
                let place = |picture, ()| order.push(picture, |placed| ready.push_back(placed));
                self.assembler.push_annex_b(&self.chunk[..read], (), place);
            }
        }
        let Some(Placed { picture, shown }) = self.ready.pop_front() else { return Ok(None) };
        if self.configured_rate.is_none()
            && let Some((frames, seconds)) = picture.parameter_sets.as_ref().and_then(|sets| sets.facts().frame_rate)
        {
            let duration = frame_duration(f64::from(frames) / f64::from(seconds));
            if duration != self.frame_duration {
                self.since = (self.count, self.at(self.count));
                self.frame_duration = duration;
            }
        }
        let times = Times { pts: self.at(shown), due: self.at(self.count) };
        self.count += 1;
        Ok(Some(Sample { data: Data::Picture(picture), times, duration: Some(self.frame_duration) }))
    }
}

impl Reader {
    /// When the so-manyth picture is shown.
    fn at(&self, index: u64) -> Ticks {
        let (count, time) = self.since;
        let pictures = index.cast_signed() - count.cast_signed();
        time + Ticks::new(self.frame_duration.get().saturating_mul(pictures))
    }
}

fn frame_duration(rate: f64) -> Ticks {
    let ticks = (90_000.0 / rate).round();
    // Not a number for a rate that is none; the config and the SPS allow neither.
    Ticks::new(if ticks >= 1.0 { ticks as i64 } else { 3600 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_become_durations() {
        for (rate, ticks) in [(25.0, 3600), (30_000.0 / 1001.0, 3003), (0.5, 180_000), (f64::NAN, 3600), (1e9, 3600)] {
            assert_eq!(frame_duration(rate), Ticks::new(ticks), "{rate}");
        }
    }
}

//! H.264 in Annex B form from a file: it has no timestamps, so the frame rate makes them.
//!
//! Deliberately absent: picture order counts. B-frames are shown in the order they are coded in.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;

use edgecam_media::Ticks;
use edgecam_media::assembler::{Assembler, Picture};

use super::{DEFAULT_RATE, Data, FileError, Sample, Times};

const CHUNK: usize = 64 << 10;

/// Reads pictures one after the other.
pub(super) struct Reader {
    file: File,
    chunk: Vec<u8>,
    assembler: Assembler<()>,
    /// Pictures that the last chunk completed.
    ready: VecDeque<Picture>,
    ended: bool,
    configured_rate: Option<f64>,
    frame_duration: Ticks,
    next: Ticks,
}

impl Reader {
    /// `frame_rate` goes before what the stream says.
    pub(super) fn new(file: File, frame_rate: Option<f64>) -> Self {
        Self {
            file,
            chunk: vec![0; CHUNK],
            assembler: Assembler::default(),
            ready: VecDeque::new(),
            ended: false,
            configured_rate: frame_rate,
            frame_duration: frame_duration(frame_rate.unwrap_or(DEFAULT_RATE)),
            next: Ticks::ZERO,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Sample>, FileError> {
        while self.ready.is_empty() && !self.ended {
            let read = self.file.read(&mut self.chunk)?;
            let ready = &mut self.ready;
            if read == 0 {
                self.assembler.finish((), |picture, ()| ready.push_back(picture));
                self.ended = true;
            } else {
                self.assembler.push_annex_b(&self.chunk[..read], (), |picture, ()| ready.push_back(picture));
            }
        }
        let Some(picture) = self.ready.pop_front() else { return Ok(None) };
        if self.configured_rate.is_none()
            && let Some((frames, seconds)) = picture.parameter_sets.as_ref().and_then(|sets| sets.facts().frame_rate)
        {
            self.frame_duration = frame_duration(f64::from(frames) / f64::from(seconds));
        }
        let times = Times { pts: self.next, due: self.next };
        self.next = self.next + self.frame_duration;
        Ok(Some(Sample { data: Data::Picture(picture), times, duration: Some(self.frame_duration) }))
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

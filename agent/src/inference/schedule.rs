//! Which pictures are looked at. Pure.

use edgecam_media::{Ticks, Timestamp};

/// Key frames whose distance is remembered.
const REMEMBERED: usize = 4;
/// A look may come this much of its interval too early: key frames are never exactly so far apart.
const EARLY: f64 = 0.2;
/// Key frames alone are enough while they come at least so often as is wanted, give or take.
const ENOUGH: f64 = 1.1;

/// What has to be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decode {
    /// Key frames: each can be decoded by itself.
    KeyFrames,
    /// All pictures, because those in between are wanted too.
    All,
}

/// Measures how often key frames come, and says what has to be decoded for a rate.
///
/// Cameras with "smart" codecs have long GOPs of any length: the longest of the last ones counts.
#[derive(Debug, Default)]
pub(super) struct KeyFrames {
    last: Option<Timestamp>,
    distances: heapless::Deque<Ticks, REMEMBERED>,
}

impl KeyFrames {
    /// A key frame was shown at `pts`.
    pub(super) fn seen(&mut self, pts: Timestamp) {
        if let Some(last) = self.last.replace(pts).filter(|last| *last < pts) {
            if self.distances.is_full() {
                self.distances.pop_front();
            }
            self.distances.push_back(pts.since(last)).ok();
        }
    }

    /// What has to be decoded for so many looks a second. It is not known before the second key frame: all, until then.
    pub(super) fn decode(&self, rate: f64) -> Decode {
        let longest = self.distances.iter().max().map(|distance| seconds(*distance));
        match longest {
            Some(longest) if longest * rate <= ENOUGH => Decode::KeyFrames,
            _ => Decode::All,
        }
    }
}

/// Says when it is a detector's turn, so that it looks `rate` times a second on average.
#[derive(Debug)]
pub(super) struct Turns {
    interval: f64,
    next: Option<Timestamp>,
}

impl Turns {
    /// `rate` looks a second.
    pub(super) fn new(rate: f64) -> Self {
        Self { interval: 1.0 / rate, next: None }
    }

    /// Whether the picture shown at `pts` is to be looked at. To be asked once for each picture that could be.
    pub(super) fn take(&mut self, pts: Timestamp) -> bool {
        let interval = Ticks::from_duration(std::time::Duration::from_secs_f64(self.interval));
        let early = Ticks::from_duration(std::time::Duration::from_secs_f64(self.interval * EARLY));
        let next = match self.next {
            // After a pause, or a step of the clock, counting begins anew.
            Some(next) if pts.since(next) <= interval && next.since(pts) <= interval + interval => next,
            _ => pts,
        };
        let is_due = pts + early >= next;
        self.next = Some(if is_due { next + interval } else { next });
        is_due
    }
}

fn seconds(ticks: Ticks) -> f64 {
    ticks.to_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(rate: f64, every_millis: i64, count: i64) -> usize {
        let mut turns = Turns::new(rate);
        (0..count).filter(|n| turns.take(Timestamp::from_unix_millis(1_000_000 + n * every_millis))).count()
    }

    #[test]
    fn rates_are_kept_on_average() {
        for (rate, every, count, expected) in [
            (1.0, 67, 150, 11),
            (5.0, 67, 150, 51),
            (1.0, 1000, 20, 20),
            (1.0, 950, 20, 19),
            (2.0, 1000, 20, 20),
            (0.1, 1000, 100, 10),
            (30.0, 67, 150, 150),
        ] {
            let found = looks(rate, every, count);
            assert!(found.abs_diff(expected) <= 1, "{found} looks at {rate}/s, one picture each {every} ms");
        }
    }

    #[test]
    fn a_step_of_the_clock_stops_nothing() {
        let mut turns = Turns::new(1.0);
        for at in [1_000_000, 1_001_000, 5_000_000, 5_001_000, 2_000_000, 2_001_000] {
            assert!(turns.take(Timestamp::from_unix_millis(at)), "{at}");
        }
    }

    #[test]
    fn key_frames_are_enough_if_they_come_often() {
        let decode = |distances: &[i64], rate: f64| {
            let mut frames = KeyFrames::default();
            let mut at = 1_000_000;
            frames.seen(Timestamp::from_unix_millis(at));
            for distance in distances {
                at += distance;
                frames.seen(Timestamp::from_unix_millis(at));
            }
            frames.decode(rate)
        };
        assert_eq!(decode(&[], 0.1), Decode::All);
        assert_eq!(decode(&[1000, 1000], 1.0), Decode::KeyFrames);
        assert_eq!(decode(&[1000, 1033], 1.0), Decode::KeyFrames);
        assert_eq!(decode(&[1000, 1000], 5.0), Decode::All);
        assert_eq!(decode(&[1000, 8000, 1000], 1.0), Decode::All);
        assert_eq!(decode(&[8000, 1000, 1000, 1000, 1000], 1.0), Decode::KeyFrames);
        assert_eq!(decode(&[-500, 1000], 1.0), Decode::KeyFrames);
    }
}

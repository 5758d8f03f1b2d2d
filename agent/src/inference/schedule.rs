//! Which pictures are looked at. Pure.

use edgecam_media::{Ticks, Timestamp};

/// Key frames whose distance is remembered.
const REMEMBERED: usize = 4;
/// A look may come this much of its interval too early: key frames are never exactly so far apart.
const EARLY: f64 = 0.2;
/// Key frames alone are enough while they come at least so often as is wanted, give or take.
const ENOUGH: f64 = 1.1;

/// Where nothing moves at most so long passes between two pictures that are decoded, in seconds.
const LONGEST_STILL: f64 = 2.2;
/// A picture of at most this share of its key frame's size shows nothing new.
const SMALL: usize = 50;
/// Nor does one that is at most so many times as large as pictures are while nothing moves.
const LOUD: f64 = 1.5;
/// A new size has this weight in what is usual.
const LEARN: f64 = 0.1;

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

impl KeyFrames {
    /// Whether key frames alone are enough to notice in time that something is there.
    pub(super) fn are_close(&self) -> bool {
        self.distances.iter().max().is_some_and(|longest| seconds(*longest) <= LONGEST_STILL)
    }
}

/// Says from the sizes of pictures alone whether they show anything new: a picture that is like the one before costs an
/// encoder next to nothing.
///
/// A noisy camera's never do. So what they cost where nothing moves is learned, and what stays below is not decoded. What
/// moves so little that it hides in that shows on the next key frame, where the gate sees it.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    key_frame: usize,
    usual: f64,
}

impl Sizes {
    /// A key frame of so many bytes.
    pub(super) fn key_frame(&mut self, bytes: usize) {
        self.key_frame = bytes;
    }

    /// Whether a picture of so many bytes, which is no key frame, shows nothing new. To be asked while nothing moves.
    pub(super) fn is_still(&mut self, bytes: usize) -> bool {
        let small = self.key_frame / SMALL;
        let is_still = bytes <= small || bytes as f64 <= self.usual * LOUD;
        // What moves after all must not become usual at once.
        let known = (bytes as f64).min(self.usual * LOUD + small as f64);
        self.usual += (known - self.usual) * LEARN;
        is_still
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

    #[test]
    fn sizes_tell_what_is_still() {
        let still = |key_frame: usize, sizes: &[usize]| {
            let mut known = Sizes::default();
            known.key_frame(key_frame);
            sizes.iter().map(|bytes| known.is_still(*bytes)).collect::<Vec<_>>()
        };
        // An encoder that has nothing to do, and then something.
        assert_eq!(still(90_000, &[40, 700, 1_500, 5_000]), [true, true, true, false]);
        // A noisy camera: known after two seconds, and what is much larger still stands out.
        let mut sizes = vec![9_400; 30];
        sizes.extend([11_000, 8_000, 20_000, 9_400]);
        let seen = still(90_000, &sizes);
        assert!(!seen[0]);
        assert_eq!(seen[25..], [true, true, true, true, true, true, true, false, true]);
        // All that moves from the beginning on: noise until it is known, and never still.
        assert!(still(90_000, &[45_000; 6]).iter().all(|is_still| !is_still));
    }

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
    fn key_frames_are_close_or_not() {
        let close = |every: i64| {
            let mut frames = KeyFrames::default();
            (0..3).for_each(|n| frames.seen(Timestamp::from_unix_millis(1_000_000 + n * every)));
            frames.are_close()
        };
        assert!(close(1_000) && close(2_000) && !close(4_000) && !KeyFrames::default().are_close());
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

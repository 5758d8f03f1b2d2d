//! When a picture was taken: from the source's own clock where it has one, from its arrival where it has none.
//!
//! Invariants: between two IDRs the distances of the source's clock are kept to within 0.5 %; an IDR never gets a
//! timestamp at or before the one given before, with one exception: when the wall clock was set back by more than
//! [`STEP`], the timeline follows at the next IDR, says so in [`Stamp::went_back`], and the reader starts anew there
//! (a new archive segment, a new KVS session).

use std::time::Duration;

use crate::{Ticks, Timestamp};

/// The two clocks of the machine, read once when data arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Time on a clock that is never set; its origin does not matter.
    pub monotonic: Duration,
    /// The wall clock.
    pub wall: Timestamp,
}

/// A difference between the timeline and the wall clock larger than this is a step: it is taken at once, at an IDR.
/// Smaller ones are worked off slowly.
pub const STEP: Ticks = Ticks::from_seconds(5);

/// While working off a difference the timeline runs at most 1/200 faster or slower than the source's clock.
const SLEW_DIVISOR: i64 = 200;

/// Network delay only ever adds: the smallest difference in this long a window is the one to believe.
const WINDOW: Ticks = Ticks::from_seconds(16);

/// Maps a source's media time to wall-clock timestamps.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Timestamp of media time zero. Wall clock minus media time.
    offset: Option<Ticks>,
    last_media: Ticks,
    latest: Option<Timestamp>,
    window_start: Ticks,
    window_min: Option<Ticks>,
    believed: Option<Ticks>,
}

/// A timestamp, and whether the timeline was set back to reach it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// When the picture is to be shown.
    pub pts: Timestamp,
    /// The timestamps before this one are from a time when the wall clock was ahead.
    pub went_back: bool,
}

impl Timeline {
    /// A timeline that continues after a picture stamped `latest`, as after a reconnect.
    pub fn after(latest: Option<Timestamp>) -> Self {
        Self { latest, ..Self::default() }
    }

    /// Stamps a picture of `media` time that arrived at `at`.
    pub fn stamp(&mut self, media: Ticks, at: Arrival, is_idr: bool) -> Stamp {
        let target = at.wall.since(Timestamp::EPOCH) - media;
        let mut went_back = false;
        let offset = match self.offset {
            None => target,
            Some(offset) if is_idr && distance(target, offset) > STEP => {
                self.window_min = None;
                self.believed = None;
                target
            }
            Some(offset) => offset + self.slew(target, offset, media),
        };
        let mut offset = offset;
        let mut pts = Timestamp::EPOCH + offset + media;
        if let Some(latest) = self.latest
            && is_idr
            && pts <= latest
        {
            if latest.since(pts) > STEP {
                went_back = true;
                self.latest = None;
            } else {
                // One millisecond, the resolution of a Cluster's timecode.
                let forward = latest.since(pts) + Ticks::from_millis(1);
                offset = offset + forward;
                pts = pts + forward;
            }
        }
        self.offset = Some(offset);
        self.last_media = media;
        self.latest = Some(self.latest.map_or(pts, |latest| latest.max(pts)));
        Stamp { pts, went_back }
    }

    /// The latest timestamp given so far.
    pub fn latest(&self) -> Option<Timestamp> {
        self.latest
    }

    fn slew(&mut self, target: Ticks, offset: Ticks, media: Ticks) -> Ticks {
        self.window_min = Some(self.window_min.map_or(target, |min| min.min(target)));
        if media - self.window_start > WINDOW || media < self.window_start {
            self.believed = self.window_min.take();
            self.window_start = media;
        }
        let Some(believed) = self.believed else { return Ticks::ZERO };
        let most = (media - self.last_media).get().max(0) / SLEW_DIVISOR;
        Ticks::new((believed - offset).get().clamp(-most, most))
    }
}

fn distance(a: Ticks, b: Ticks) -> Ticks {
    Ticks::new((a - b).get().saturating_abs())
}

/// Media time for a source without a clock, such as an elementary stream in a FIFO: a clock of its own that follows
/// the arrivals smoothly, so that jitter of the reader does not become jitter of the video.
#[derive(Debug)]
pub struct ArrivalClock {
    nominal: Option<Ticks>,
    period: Ticks,
    last: Option<(Ticks, Ticks)>,
}

impl ArrivalClock {
    /// `frame_duration` as configured or as the SPS says; without it the first arrivals tell.
    pub fn new(frame_duration: Option<Ticks>) -> Self {
        let nominal = frame_duration.filter(|duration| duration.get() > 0);
        Self { nominal, period: nominal.unwrap_or(Ticks::ZERO), last: None }
    }

    /// Media time of a picture that arrived at `monotonic`. Always later than the one before.
    pub fn tick(&mut self, monotonic: Duration) -> Ticks {
        let arrived = Ticks::from_duration(monotonic);
        let Some((media, previous_arrival)) = self.last else {
            self.last = Some((arrived, arrived));
            return arrived;
        };
        let gap = arrived - previous_arrival;
        if self.nominal.is_none() {
            self.period =
                if self.period == Ticks::ZERO { gap } else { self.period + Ticks::new((gap - self.period).get() / 16) };
        }
        let expected = media + self.period;
        let error = arrived - expected;
        // A pause in the stream, or a burst after one, is no jitter: follow it at once.
        let pause = Ticks::new(self.period.get().saturating_mul(8).max(Ticks::from_millis(500).get()));
        let next = if distance(error, Ticks::ZERO) > pause { arrived } else { expected + Ticks::new(error.get() / 8) };
        let next = next.max(media + Ticks::new((self.period.get() / 4).max(1)));
        self.last = Some((next, arrived));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_795_228_575_000;

    fn at(monotonic_millis: i64, wall_offset_millis: i64) -> Arrival {
        Arrival {
            monotonic: Duration::from_millis(monotonic_millis as u64),
            wall: Timestamp::from_unix_millis(START + monotonic_millis + wall_offset_millis),
        }
    }

    #[test]
    fn a_source_clock_keeps_its_distances_under_jitter() {
        let mut timeline = Timeline::default();
        let mut last = None;
        for frame in 0..3000_i64 {
            let jitter = frame * 7919 % 40;
            let stamp = timeline.stamp(Ticks::from_millis(frame * 40), at(frame * 40 + jitter, 0), frame % 25 == 0);
            if let Some(last) = last {
                let gap = stamp.pts.since(last).get();
                assert!((3582..=3618).contains(&gap), "frame {frame}: {gap} ticks");
            }
            last = Some(stamp.pts);
        }
        // It ends at the least delayed arrival, not above it.
        let error = last.expect("frames").unix_millis() - (START + 2999 * 40);
        assert!(error.abs() <= 2, "{error} ms");
    }

    #[test]
    fn a_drifting_camera_is_followed() {
        let mut timeline = Timeline::default();
        let mut pts = Timestamp::EPOCH;
        for frame in 0..90_000_i64 {
            // The camera's clock loses 1 part in 1,000.
            pts = timeline.stamp(Ticks::new(frame * 3596), at(frame * 40, 0), frame % 25 == 0).pts;
        }
        let error = pts.unix_millis() - (START + 89_999 * 40);
        assert!(error.abs() < 60, "{error} ms after an hour");
    }

    #[test]
    fn wall_clock_steps() {
        let run = |step_millis: i64| {
            let mut timeline = Timeline::default();
            let mut stamps = Vec::new();
            for frame in 0..200_i64 {
                let step = if frame >= 110 { step_millis } else { 0 };
                stamps.push(timeline.stamp(Ticks::from_millis(frame * 40), at(frame * 40, step), frame % 25 == 0));
            }
            stamps
        };
        // Forward by an hour: followed at the next IDR, frame 125, not in the middle of a GOP.
        let forward = run(3_600_000);
        assert_eq!(forward[124].pts.since(forward[123].pts), Ticks::from_millis(40));
        assert_eq!(forward[125].pts.unix_millis(), START + 125 * 40 + 3_600_000);
        assert!(forward.iter().all(|stamp| !stamp.went_back));
        // Back by an hour: said once, at an IDR.
        let back = run(-3_600_000);
        assert_eq!(back.iter().filter(|stamp| stamp.went_back).count(), 1);
        assert!(back[125].went_back);
        // By less than a step: worked off, never backwards.
        let small = run(-2_000);
        assert!(small.windows(2).all(|pair| pair[0].pts < pair[1].pts));
    }

    #[test]
    fn a_reconnect_continues_behind_the_last_picture() {
        let latest = Timestamp::from_unix_millis(START + 500);
        let mut timeline = Timeline::after(Some(latest));
        let stamp = timeline.stamp(Ticks::ZERO, at(0, 0), true);
        assert_eq!(stamp.pts.unix_millis(), START + 501);
        assert!(!stamp.went_back);
    }

    #[test]
    fn arrivals_become_an_even_clock() {
        let check = |rate: Option<Ticks>, tolerance: i64| {
            let mut clock = ArrivalClock::new(rate);
            let mut last = None;
            for frame in 0..500_u64 {
                let now = clock.tick(Duration::from_millis(1000 + frame * 40 + frame * 7919 % 30));
                if let Some(last) = last
                    && frame > 100
                {
                    let gap: Ticks = now - last;
                    assert!((gap.millis() - 40).abs() <= tolerance, "frame {frame}: {} ms", gap.millis());
                }
                last = Some(now);
            }
        };
        check(Some(Ticks::from_millis(40)), 5);
        check(None, 9);
    }

    #[test]
    fn a_burst_never_makes_time_stand_still() {
        let mut clock = ArrivalClock::new(Some(Ticks::from_millis(40)));
        let mut last = clock.tick(Duration::from_millis(10));
        for _ in 0..100 {
            let now = clock.tick(Duration::from_millis(10));
            assert!(now > last);
            last = now;
        }
        // After a pause of ten seconds it is back on the arrivals at once.
        assert_eq!(clock.tick(Duration::from_secs(30)), Ticks::from_seconds(30));
    }
}

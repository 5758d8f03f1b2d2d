//! Times to send pictures with.
//!
//! A live stream begins at the newest IDR, which is up to a GOP old, and catches up at once. A receiver that takes the
//! timestamps at their word would show that backlog at its own pace and stay behind for good. So the backlog's times
//! are moved together, in proportion, to end where the live pictures begin.

use crate::{Ticks, Timestamp};

/// A picture this much older than now is from the backlog.
const BACKLOG: Ticks = Ticks::from_millis(200);
/// Pictures of the backlog are this many times as close together as they were taken.
const SQUEEZE: i64 = 32;
/// Nothing older than this is in RAM: then the clock was set, and times are left alone.
const OLDEST: Ticks = Ticks::from_seconds(120);

/// The times of one stream. They rise whenever those of the pictures do.
#[derive(Debug)]
pub(super) struct SendTimes {
    squeeze: Squeeze,
    latest: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
enum Squeeze {
    /// The next picture may begin a backlog.
    Awaited,
    /// What was taken between `from` and `until` goes between `to` and `until`.
    Active {
        from: Timestamp,
        to: Timestamp,
        until: Timestamp,
    },
    Off,
}

impl SendTimes {
    pub(super) fn new() -> Self {
        Self { squeeze: Squeeze::Awaited, latest: None }
    }

    /// The next pictures have been sent before.
    pub(super) fn replay(&mut self) {
        self.squeeze = Squeeze::Awaited;
    }

    /// The time to send a picture with that is shown at `pts` and comes at `wall`.
    pub(super) fn pass(&mut self, pts: Timestamp, wall: Timestamp) -> Timestamp {
        if let Squeeze::Awaited = self.squeeze {
            self.squeeze = self.begin(pts, wall);
        }
        let time = match self.squeeze {
            Squeeze::Active { from, to, until } if pts < until => {
                let (span, room) = (until.since(from).get(), until.since(to).get());
                to + Ticks::new(pts.since(from).get().saturating_mul(room) / span)
            }
            _ => pts,
        };
        self.latest = Some(self.latest.map_or(time, |latest| latest.max(time)));
        time
    }

    fn begin(&self, pts: Timestamp, wall: Timestamp) -> Squeeze {
        let age = wall.since(pts);
        if age <= BACKLOG || age >= OLDEST {
            return Squeeze::Off;
        }
        let room = Ticks::new(age.get() / SQUEEZE);
        let latest = self.latest.map(|latest| latest + Ticks::new(1));
        let to = latest.map_or(wall - room, |latest| latest.max(wall - room));
        Squeeze::Active { from: pts, to, until: wall.max(to + room) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(1_795_228_575_000 + millis)
    }

    #[test]
    fn a_backlog_ends_where_live_begins() {
        let mut times = SendTimes::new();
        let sent: Vec<Timestamp> =
            (0..40).map(|frame| times.pass(at(frame * 100), at(3_200.max(frame * 100)))).collect();
        assert_eq!(sent[0], at(3_100));
        assert_eq!(sent[16], at(3_150));
        assert_eq!(sent[32], at(3_200));
        assert_eq!(sent[39], at(3_900));
        assert!(sent.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn what_is_sent_again_goes_on_behind_what_was_sent() {
        let mut times = SendTimes::new();
        let mut last = at(0);
        let mut pass = |frame: i64, now: i64| {
            let time = times.pass(at(frame * 40), at(now));
            assert!(time > last, "frame {frame}: {time:?} after {last:?}");
            last = time;
        };
        (1..26).for_each(|frame| pass(frame, frame * 40 + 10));
        times.replay();
        let mut pass = |frame: i64, now: i64| {
            let time = times.pass(at(frame * 40), at(now));
            assert!(time > last, "frame {frame}: {time:?} after {last:?}");
            last = time;
        };
        (0..26).for_each(|frame| pass(frame, 1_011));
        (26..60).for_each(|frame| pass(frame, frame * 40 + 10));
        assert_eq!(last, at(59 * 40));
    }

    #[test]
    fn a_clock_that_was_set_is_no_backlog() {
        for (pts, wall) in [(0, 100), (0, 3_600_000), (5_000, 0)] {
            assert_eq!(SendTimes::new().pass(at(pts), at(wall)), at(pts));
        }
    }
}

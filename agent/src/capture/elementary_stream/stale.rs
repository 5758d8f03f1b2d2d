//! Leaves out what a FIFO held before there was a reader.
//!
//! A writer that met no reader has filled the pipe and then waited: what lies in it may be hours old, and what the
//! writer itself holds back follows at once. All that comes out as fast as it can be read, while live pictures come at
//! the frame rate: the first pause is where the stream is live. Only a pipe that was not empty when it was opened is
//! treated so; where a reader was waiting, the first picture of a writer is new.

use std::time::Duration;

/// Decides for one opening of a pipe.
#[derive(Debug)]
pub(super) struct StaleFilter {
    passed: bool,
    previous: Duration,
    live_since: Option<Duration>,
    /// Bytes still to be read until none of them can have been in the pipe.
    old: u64,
}

impl StaleFilter {
    /// A pipe opened at `opened` with `held` bytes inside of the `capacity` that it can hold.
    pub(super) fn new(opened: Duration, held: u64, capacity: u64) -> Self {
        Self { passed: held == 0, previous: opened, live_since: None, old: capacity }
    }

    /// Where nothing can be old.
    pub(super) fn none() -> Self {
        Self::new(Duration::ZERO, 0, 0)
    }

    /// So many bytes arrived at `at`.
    pub(super) fn arrived(&mut self, bytes: u64, at: Duration, frame_duration: Duration) {
        let pause = at.saturating_sub(self.previous);
        self.previous = at;
        // Nine tenths, because live pictures come a little early as often as late. A writer that gives small pieces all
        // the time makes no pause; what is more than a pipe holds was written while there was a reader.
        if pause >= frame_duration * 9 / 10 || self.old == 0 {
            self.live_since.get_or_insert(at);
        }
        self.old = self.old.saturating_sub(bytes);
    }

    /// Whether a picture whose first byte arrived at `at` is to be delivered. Once one is, all are.
    pub(super) fn admit(&mut self, is_idr: bool, at: Duration) -> bool {
        self.passed |= is_idr && self.live_since.is_some_and(|since| at >= since);
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const I: bool = true;
    const P: bool = false;

    #[test]
    fn old_content_is_skipped_to_the_first_idr_that_is_live() {
        // Pictures of 10,000 bytes as (IDR, milliseconds since opening).
        let check = |name: &str, held: u64, pictures: &[(bool, u64)], expected: Option<usize>| {
            let opened = Duration::from_secs(7);
            let mut filter = StaleFilter::new(opened, held, 65_536);
            let mut admit = |&(is_idr, millis): &(bool, u64)| {
                let at = opened + Duration::from_millis(millis);
                filter.arrived(10_000, at, Duration::from_millis(40));
                filter.admit(is_idr, at)
            };
            let admitted: Vec<bool> = pictures.iter().map(&mut admit).collect();
            let first = admitted.iter().position(|&admitted| admitted);
            assert_eq!(first, expected, "{name}");
            assert!(admitted.iter().skip(first.unwrap_or(admitted.len())).all(|&admitted| admitted), "{name}");
        };
        check("an empty pipe", 0, &[(I, 0), (P, 1), (P, 2)], Some(0));
        check("an old GOP, then live", 9, &[(I, 0), (P, 0), (P, 1), (P, 38), (I, 78)], Some(4));
        check("old IDRs", 9, &[(I, 0), (I, 1), (I, 2), (P, 30), (P, 70), (I, 110)], Some(5));
        check("live, but no IDR yet", 9, &[(P, 40), (P, 80), (P, 120)], None);
        check("an IDR that is early", 9, &[(P, 40), (P, 80), (I, 110)], Some(2));
        check("pairs", 9, &[(P, 0), (P, 0), (P, 80), (I, 80), (P, 160)], Some(3));
        check("more than a pipe holds", 9, &[(I, 0), (P, 0), (P, 0), (I, 0), (P, 0), (P, 0), (P, 0), (I, 1)], Some(7));
    }
}

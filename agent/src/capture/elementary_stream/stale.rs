//! Leaves out what a FIFO held before there was a reader.
//!
//! A writer that met no reader has filled the pipe and then waited: what lies in it may be hours old. It comes out as
//! fast as it can be read, while live pictures come at the frame rate. Only a pipe that was not empty when it was opened
//! is treated so: where a reader was waiting, the first picture of a writer is new.

use std::time::Duration;

/// Decides for one opening of a pipe.
#[derive(Debug)]
pub(super) struct StaleFilter {
    passed: bool,
    opened: Duration,
    previous: Option<Duration>,
    pictures: u32,
    capacity: u64,
}

impl StaleFilter {
    /// A pipe opened at `opened` with `held` bytes inside of the `capacity` that it can hold.
    pub(super) fn new(opened: Duration, held: u64, capacity: u64) -> Self {
        Self { passed: held == 0, opened, previous: None, pictures: 0, capacity }
    }

    /// Where nothing can be old.
    pub(super) fn none() -> Self {
        Self::new(Duration::ZERO, 0, 0)
    }

    /// Whether a picture that arrived at `at`, with `read` bytes read so far, is to be delivered. Once one is, all are.
    pub(super) fn admit(&mut self, is_idr: bool, at: Duration, frame_duration: Duration, read: u64) -> bool {
        if self.passed {
            return true;
        }
        self.pictures = self.pictures.saturating_add(1);
        let least = frame_duration * 9 / 10;
        let gap = self.previous.replace(at).map(|previous| at.saturating_sub(previous));
        // The mean counts as well, or a writer whose pictures come in pairs would never be in time.
        let mean = at.saturating_sub(self.opened) / self.pictures;
        let in_time = gap.is_some_and(|gap| gap >= least) || mean >= least;
        // More than a pipe holds has been read: this was written while there was a reader.
        self.passed = is_idr && (in_time || read > self.capacity);
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const I: bool = true;
    const P: bool = false;

    /// Pictures as (IDR, milliseconds since opening); returns the index of the first one delivered.
    fn first(held: u64, pictures: &[(bool, u64)]) -> Option<usize> {
        let mut filter = StaleFilter::new(Duration::from_millis(1000), held, 65_536);
        let frame = Duration::from_millis(40);
        let mut admit = |(index, &(is_idr, millis)): (usize, &(bool, u64))| {
            filter.admit(is_idr, Duration::from_millis(1000 + millis), frame, index as u64 * 10_000)
        };
        let admitted: Vec<bool> = pictures.iter().enumerate().map(&mut admit).collect();
        let first = admitted.iter().position(|&admitted| admitted);
        assert!(admitted.iter().skip(first.unwrap_or(admitted.len())).all(|&admitted| admitted), "{admitted:?}");
        first
    }

    #[test]
    fn old_content_is_skipped_to_the_first_idr_in_time() {
        let check = |name: &str, held: u64, pictures: &[(bool, u64)], expected: Option<usize>| {
            assert_eq!(first(held, pictures), expected, "{name}");
        };
        check("an empty pipe", 0, &[(I, 0), (P, 1), (P, 2)], Some(0));
        check("old GOP, then live", 9, &[(I, 0), (P, 0), (P, 1), (P, 38), (I, 78)], Some(4));
        check("old IDRs", 9, &[(I, 0), (I, 1), (I, 2), (P, 30), (P, 70), (I, 110)], Some(5));
        check("live, but no IDR yet", 9, &[(P, 40), (P, 80), (P, 120)], None);
        check("an early IDR counts by the mean", 9, &[(P, 40), (P, 80), (I, 110)], Some(2));
        check("pairs", 9, &[(P, 0), (P, 0), (P, 80), (I, 80), (P, 160), (I, 240), (P, 240)], Some(5));
        check("more than a pipe holds", 9, &[(I, 0), (P, 0), (P, 0), (I, 0), (P, 0), (P, 0), (P, 0), (I, 1)], Some(7));
    }
}

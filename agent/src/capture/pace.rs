//! Leaves out pictures of a source that gives more than is asked for, evenly.

use std::time::Duration;

/// Admits pictures at a rate, by the time they were taken.
#[derive(Debug)]
pub(super) struct Pace {
    /// `None`: the source gives what is asked, or less.
    interval: Option<Duration>,
    due: Duration,
}

impl Pace {
    /// `given` is the rate of the source, if it is known.
    pub(super) fn new(asked: f64, given: Option<f64>) -> Self {
        // A source that is only a little faster is left as it is: leaving out one picture in a hundred would be seen.
        let is_fast = given.is_none_or(|given| given > asked * 1.1);
        Self { interval: is_fast.then(|| Duration::from_secs_f64(1.0 / asked)), due: Duration::ZERO }
    }

    /// Whether the picture taken at `at` is wanted.
    pub(super) fn admit(&mut self, at: Duration) -> bool {
        let Some(interval) = self.interval else { return true };
        if at + interval / 2 < self.due && self.due < at + interval * 2 {
            return false;
        }
        // On time: the next is due one interval later. Long after (or the clock jumped): begin anew.
        let is_late = at.abs_diff(self.due) > interval;
        self.due = if is_late { at } else { self.due } + interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(asked: f64, given: Option<f64>, real: f64, seconds: u32) -> usize {
        let mut pace = Pace::new(asked, given);
        let at = |index: u32| Duration::from_secs_f64(100.0 + f64::from(index) / real);
        let pictures = (f64::from(seconds) * real) as u32;
        (0..pictures).filter(|&index| pace.admit(at(index))).count()
    }

    #[test]
    fn as_many_as_asked_and_no_fewer_than_there_are() {
        for (asked, given, real, expected) in [
            (15.0, Some(30.0), 30.0, 150),
            (15.0, Some(25.0), 25.0, 150),
            (10.0, None, 1000.0, 100),
            (15.0, Some(15.0), 15.1, 151),
            (15.0, Some(10.0), 10.0, 100),
            (15.0, None, 5.0, 50),
            (15.0, None, 15.0, 150),
        ] {
            let count = admitted(asked, given, real, 10);
            assert!(count.abs_diff(expected) <= 1, "{asked} of {given:?} ({real}): {count}");
        }
    }

    #[test]
    fn a_clock_that_jumps_stops_nothing() {
        let mut pace = Pace::new(10.0, None);
        for seconds in [100, 3700, 50, 51] {
            assert!(pace.admit(Duration::from_secs(seconds)), "{seconds}");
        }
    }
}

//! Whether the thread of a camera still turns: a driver may keep it in a system call for ever.
//!
//! Nothing can end such a thread. That it hangs can be said, so that a person knows where to look; whether the agent goes on
//! is for the watchdog to decide.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest that a driver which works takes: USB gives a transfer up after 5 s.
pub(super) const HANGS: Duration = Duration::from_secs(12);

/// Counted up by the thread at each of its turns, looked at by whoever waits for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The thread turns.
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has.
    pub(super) fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Finds a thread that hangs.
#[derive(Debug)]
pub(super) struct PulseWatch {
    beats: u64,
    since: Instant,
    is_said: bool,
}

impl PulseWatch {
    /// The thread starts now.
    pub(super) fn new(now: Instant) -> Self {
        Self { beats: 0, since: now, is_said: false }
    }

    /// Whether it is to be said that the thread hangs: once for each time it does.
    pub(super) fn hangs(&mut self, beats: u64, now: Instant) -> bool {
        if beats != self.beats {
            *self = Self { beats, ..Self::new(now) };
            return false;
        }
        let hangs = now.saturating_duration_since(self.since) >= HANGS;
        hangs && !std::mem::replace(&mut self.is_said, hangs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_is_found_once() {
        let start = Instant::now();
        let mut watch = PulseWatch::new(start);
        let seconds = [(3, 1), (6, 2), (17, 2), (18, 2), (30, 2), (31, 3), (42, 3), (43, 3), (50, 3)];
        let said: Vec<u64> = seconds
            .into_iter()
            .filter(|(second, beats)| watch.hangs(*beats, start + Duration::from_secs(*second)))
            .map(|(second, _)| second)
            .collect();
        assert_eq!(said, [18, 43]);
    }
}

//! Limits "so many per second", two ways: exact, for what the service refuses, and with slack for what it only may.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// At most `limit` events in any window of one second.
#[derive(Debug)]
pub(crate) struct SlidingWindow {
    limit: usize,
    seen: VecDeque<Instant>,
}

impl SlidingWindow {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, seen: VecDeque::with_capacity(limit) }
    }

    /// Counts an event and says whether it is within the limit; refused ones do not count.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        while self.seen.front().is_some_and(|&at| now.duration_since(at) >= Duration::from_secs(1)) {
            self.seen.pop_front();
        }
        let admitted = self.seen.len() < self.limit;
        if admitted {
            self.seen.push_back(now);
        }
        admitted
    }
}

/// `rate` per second on average with bursts of up to `burst`: events that were evenly spaced when sent may arrive
/// bunched.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    rate: f64,
    burst: f64,
    level: f64,
    at: Option<Instant>,
}

impl TokenBucket {
    pub(crate) fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, level: burst, at: None }
    }

    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        if let Some(at) = self.at {
            self.level = (self.level + now.duration_since(at).as_secs_f64() * self.rate).min(self.burst);
        }
        self.at = Some(now);
        let admitted = self.level >= 1.0;
        if admitted {
            self.level -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_per_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut window = SlidingWindow::new(5);
        for (ms, admitted) in [
            (0, true),
            (1, true),
            (2, true),
            (3, true),
            (999, true),
            (999, false),
            (1000, true),
            (1000, false),
            (1001, true),
        ] {
            assert_eq!(window.admit(at(ms)), admitted, "{ms}");
        }
        let mut bucket = TokenBucket::new(5.0, 6.0);
        let early = (0..20).filter(|i| !bucket.admit(at(i * 100))).count();
        assert!(early > 0, "ten per second is too much");
        let mut bucket = TokenBucket::new(5.0, 6.0);
        for (i, ms) in
            [0, 200, 400, 900, 901, 902, 1200, 1400, 1600, 2400, 2401, 2402, 2403, 2600].into_iter().enumerate()
        {
            assert!(bucket.admit(at(ms)), "number {i}: evenly spaced, arrived bunched");
        }
    }
}

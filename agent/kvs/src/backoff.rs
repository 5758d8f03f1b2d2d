//! Waiting between attempts.

use std::time::Duration;

/// Doubling delays with jitter, between a first and a longest one.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Delays from `first` up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The attempt has failed: how long to wait before the next. Jitter takes off up to an eighth, so that many agents
    /// spread out, and so that the longest delay still bounds the attempts a minute.
    pub fn failed(&mut self, rng: &mut fastrand::Rng) -> Duration {
        self.failed_with(self.longest, rng)
    }

    /// The same with another longest delay, for a failure that a quick retry will not mend.
    pub fn failed_with(&mut self, longest: Duration, rng: &mut fastrand::Rng) -> Duration {
        let full = self.first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        full - full.mul_f64(rng.f64() / 8.0)
    }

    /// An attempt has succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_twenty_attempts_a_minute() {
        for seed in 0..100 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(4));
            let mut at = Duration::ZERO;
            let mut attempts = 0;
            while at < Duration::from_secs(60) {
                attempts += 1;
                let delay = backoff.failed(&mut rng);
                assert!(delay <= Duration::from_secs(4));
                at += delay;
            }
            assert!(attempts <= 20, "{attempts} attempts with seed {seed}");
        }
    }

    #[test]
    fn a_success_starts_over() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(4));
        (0..100).for_each(|_| assert!(backoff.failed(&mut rng) > Duration::ZERO));
        backoff.succeeded();
        assert!(backoff.failed(&mut rng) <= Duration::from_millis(500));
    }
}

//! What is to be uploaded now: from the mode in the config, and from what people ask for.

use std::time::{Duration, Instant};

use edgecam_media::Timestamp;

use crate::config::UploadMode;
use crate::config::schedule::{self, Period};

/// A lease that is not extended ends after this long.
pub const LEASE: Duration = Duration::from_secs(300);

/// What people ask for, besides what the config says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Demand {
    /// Live upload until then.
    pub lease: Option<Instant>,
    /// A range of the past.
    pub range: Option<Period>,
}

/// One run of an upload.
#[derive(Clone, PartialEq, Debug)]
pub enum Job {
    /// From where the cursor was left, without end. The cursor is kept on disk.
    Continuous,
    /// From now until the lease ends.
    Live {
        /// When the lease ends.
        until: Instant,
    },
    /// A range of the past that was asked for.
    Range(Period),
    /// The footage of a period of the schedule. The cursor is kept on disk.
    Scheduled(Period),
    /// From where the cursor was left, until the period ends. The cursor is kept on disk.
    Window(Period),
}

impl Job {
    /// The job that is due now, or when to look again.
    pub fn due(mode: &UploadMode, demand: &Demand, now: Instant, wall: Timestamp) -> Result<Self, Option<Duration>> {
        if *mode == UploadMode::Continuous {
            return Ok(Self::Continuous);
        }
        if let Some(range) = demand.range {
            return Ok(Self::Range(range));
        }
        if let Some(until) = demand.lease.filter(|until| *until > now) {
            return Ok(Self::Live { until });
        }
        let (UploadMode::Schedule(schedules) | UploadMode::Window(schedules)) = mode else { return Err(None) };
        match schedule::earliest(schedules, wall) {
            Some(period) if period.start <= wall => match mode {
                UploadMode::Window(_) => Ok(Self::Window(period)),
                _ => Ok(Self::Scheduled(period)),
            },
            Some(period) => Err(Some(period.start.since(wall).to_duration())),
            None => Err(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schedule::{Dialect, Schedule};

    #[test]
    fn what_is_due() {
        let now = Instant::now();
        let eight = Timestamp::from_unix_millis(1_795_248_000_000);
        let hour = Duration::from_secs(3600);
        let daily = vec![Schedule::new("0 8 * * *".to_owned(), Dialect::Cron, hour).expect("valid")];
        let window = UploadMode::Window(daily.clone());
        let scheduled = UploadMode::Schedule(daily);
        let none = Demand::default();
        let lease = Demand { lease: Some(now + LEASE), ..none.clone() };
        let due = |mode: &UploadMode, demand: &Demand, wall| Job::due(mode, demand, now, wall);
        assert_eq!(due(&UploadMode::Continuous, &none, eight), Ok(Job::Continuous));
        assert_eq!(due(&UploadMode::OnDemand, &none, eight), Err(None));
        assert_eq!(due(&UploadMode::OnDemand, &lease, eight), Ok(Job::Live { until: now + LEASE }));
        let over = Demand { lease: Some(now), ..none.clone() };
        assert_eq!(due(&UploadMode::OnDemand, &over, eight), Err(None));
        assert!(matches!(due(&scheduled, &none, eight), Ok(Job::Scheduled(period)) if period.start == eight));
        assert!(matches!(due(&window, &none, eight), Ok(Job::Window(period)) if period.start == eight));
        let before = Timestamp::from_unix_millis(eight.unix_millis() - 60_000);
        assert_eq!(due(&scheduled, &none, before), Err(Some(Duration::from_secs(60))));
    }
}

//! What to do when a connection was not made or did not last: how long to wait, and what it may mean. Pure.
//!
//! Invariants: waits grow and are fully jittered; a client id that two agents share is not fought over; what a broker
//! closes the connection over again and again is held back.

use std::time::Duration;

use super::status::Reason;
use crate::event::outbox::Sequence;

const FIRST: Duration = Duration::from_secs(1);
/// However the dice fall, a broker is not called again at once.
const LEAST: Duration = Duration::from_millis(250);
/// A broker that is back is found within this time.
const LONGEST: Duration = Duration::from_secs(30);
/// For what a person has to mend.
const LONGEST_FOR_A_PERSON: Duration = Duration::from_secs(60);
/// A connection that lasted this long was a good one.
const STABLE: Duration = Duration::from_secs(30);
/// Two agents with one client id throw each other out about this soon.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(20);
/// So much of that is no accident: a connection that the broker closed in good order counts twice one that was cut, as
/// bad links do that too.
const TAKEN_OVER_ENOUGH: u32 = 6;
const STAND_BACK: Duration = Duration::from_secs(60);
const STAND_BACK_LONGEST: Duration = Duration::from_secs(15 * 60);
/// A broker that closes the connection over a message does so at once.
const OBJECTS_WITHIN: Duration = Duration::from_secs(10);
const OBJECTS_TIMES: u32 = 3;

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    pub(super) reason: Reason,
    /// For a person.
    pub(super) message: String,
    /// Once the broker had accepted us.
    pub(super) connected: Option<Connected>,
}

/// How a connection was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Connected {
    pub(super) lasted: Duration,
    /// Whether the broker knew us from before.
    pub(super) session_present: bool,
    /// Whether the broker ended it, and how.
    pub(super) closed: Option<Closed>,
    /// What the broker owed an answer for.
    pub(super) unanswered: Option<Suspect>,
}

/// How a broker ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Closed {
    /// In good order: TLS was ended before TCP.
    Orderly,
    /// It was cut, by the broker or by something in between.
    Cut,
}

/// What a broker may have closed the connection over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Suspect {
    /// A message: its topic, and its number if it waits in the outbox.
    Publish(String, Option<Sequence>),
    /// Filters.
    Subscribe(Vec<String>),
}

/// What follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    pub(super) wait: Duration,
    pub(super) reason: Reason,
    /// For a person.
    pub(super) message: String,
    /// Not to be sent for a while.
    pub(super) hold_back: Option<Suspect>,
}

/// What has happened in a row.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures: u32,
    taken_over: u32,
    suspect: Option<(Suspect, u32)>,
}

impl Attempts {
    /// An attempt has ended.
    pub(super) fn ended(&mut self, ended: Ended, client_id: &str, rng: &mut fastrand::Rng) -> Verdict {
        let Ended { reason, message, connected } = ended;
        if connected.as_ref().is_none_or(|connected| connected.lasted >= STABLE) {
            (self.taken_over, self.suspect) = (0, None);
        }
        if connected.as_ref().is_some_and(|connected| connected.lasted >= STABLE) {
            self.failures = 0;
        }
        let closed = connected.filter(|connected| connected.closed.is_some());
        if let Some(suspect) = closed.as_ref().and_then(|closed| closed.unanswered.clone()) {
            let soon = closed.as_ref().is_some_and(|closed| closed.lasted < OBJECTS_WITHIN);
            if let Some(verdict) = self.objected(suspect, soon) {
                return verdict;
            }
        } else if let Some(closed) = closed.filter(|it| it.session_present && it.lasted < TAKEN_OVER_WITHIN) {
            self.taken_over += if closed.closed == Some(Closed::Orderly) { 2 } else { 1 };
            if self.taken_over >= TAKEN_OVER_ENOUGH {
                return self.stand_back(client_id, rng);
            }
        }
        let longest = match reason {
            Reason::Identity | Reason::Tls | Reason::Refused => LONGEST_FOR_A_PERSON,
            _ => LONGEST,
        };
        let full = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures += 1;
        Verdict { wait: full.mul_f64(rng.f64()).max(LEAST), reason, message, hold_back: None }
    }

    fn objected(&mut self, suspect: Suspect, soon: bool) -> Option<Verdict> {
        let times = match self.suspect.take() {
            Some((before, times)) if before == suspect && soon => times + 1,
            _ => u32::from(soon),
        };
        if times < OBJECTS_TIMES {
            self.suspect = Some((suspect, times));
            return None;
        }
        let what = match &suspect {
            Suspect::Publish(topic, _) => format!("publishing to `{topic}`"),
            Suspect::Subscribe(filters) => format!("subscribing to `{}`", filters.join("`, `")),
        };
        let message = format!("the broker closes the connection over {what}: its policy does not allow that");
        Some(Verdict { wait: FIRST, reason: Reason::Policy, message, hold_back: Some(suspect) })
    }

    /// Half of the wait is sure: the other agent is to notice that it is alone.
    fn stand_back(&mut self, client_id: &str, rng: &mut fastrand::Rng) -> Verdict {
        let times = (self.taken_over - TAKEN_OVER_ENOUGH) / 2;
        let full = STAND_BACK.saturating_mul(1 << times.min(8)).min(STAND_BACK_LONGEST);
        let message = format!(
            "another client with the id `{client_id}` takes the connection over again and again; this one stands back: \
             give each agent an mqtt.client_id of its own"
        );
        let wait = full / 2 + (full / 2).mul_f64(rng.f64());
        Verdict { wait, reason: Reason::TakenOver, message, hold_back: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(reason: Reason) -> Ended {
        Ended { reason, message: "x".to_owned(), connected: None }
    }

    fn closed(seconds: u64, session_present: bool, unanswered: Option<Suspect>) -> Ended {
        let lasted = Duration::from_secs(seconds);
        let connected = Connected { lasted, session_present, closed: Some(Closed::Orderly), unanswered };
        Ended { reason: Reason::Network, message: "closed".to_owned(), connected: Some(connected) }
    }

    fn run(ends: Vec<Ended>) -> Vec<Verdict> {
        let (mut attempts, mut rng) = (Attempts::default(), fastrand::Rng::with_seed(7));
        ends.into_iter().map(|end| attempts.ended(end, "gw", &mut rng)).collect()
    }

    #[test]
    fn waits_grow_and_spread() {
        for (reason, longest) in [(Reason::Network, LONGEST), (Reason::Tls, LONGEST_FOR_A_PERSON)] {
            let (mut attempts, mut rng) = (Attempts::default(), fastrand::Rng::with_seed(1));
            let waits: Vec<Duration> = (0..200).map(|_| attempts.ended(failed(reason), "gw", &mut rng).wait).collect();
            assert!(waits[0] <= FIRST && waits[1] <= 2 * FIRST);
            assert!(waits.iter().all(|wait| (LEAST..=longest).contains(wait)));
            let late = &waits[10..];
            assert!(late.iter().any(|wait| *wait < longest / 8) && late.iter().any(|wait| *wait > longest * 7 / 8));
        }
    }

    #[test]
    fn a_shared_client_id_is_not_fought_over() {
        let verdicts = run((0..6).map(|_| closed(2, true, None)).collect());
        let reasons: Vec<Reason> = verdicts.iter().map(|verdict| verdict.reason).collect();
        assert_eq!(reasons[..2], [Reason::Network; 2]);
        assert_eq!(reasons[2..], [Reason::TakenOver; 4]);
        assert!(verdicts[2].wait >= STAND_BACK / 2 && verdicts[5].wait >= 4 * STAND_BACK);
        assert!(verdicts[2].message.contains("`gw`"));
    }

    #[test]
    fn a_broker_that_restarts_is_not_another_agent() {
        let restart = |_| [closed(5, false, None), failed(Reason::Network)];
        assert!(run((0..10).flat_map(restart).collect()).iter().all(|verdict| verdict.reason == Reason::Network));
        let forgetful = (0..10).map(|_| closed(5, false, None)).collect();
        assert!(run(forgetful).iter().all(|verdict| verdict.reason == Reason::Network));
        let in_between = (0..10).flat_map(|_| [closed(5, true, None), closed(40, true, None)]).collect();
        assert!(run(in_between).iter().all(|verdict| verdict.reason == Reason::Network));
    }

    /// A bad link does not look like another agent as soon.
    #[test]
    fn cut_connections_take_longer_to_convince() {
        let cut = |_| {
            let mut ended = closed(2, true, None);
            ended.connected.as_mut().expect("connected").closed = Some(Closed::Cut);
            ended
        };
        let reasons: Vec<Reason> = run((0..6).map(cut).collect()).iter().map(|verdict| verdict.reason).collect();
        assert_eq!(reasons, [[Reason::Network; 5].as_slice(), &[Reason::TakenOver]].concat());
    }

    #[test]
    fn what_a_broker_objects_to_is_held_back() {
        let suspect = Suspect::Publish("a/b".to_owned(), Some(Sequence::for_tests(4)));
        let verdicts = run((0..3).map(|_| closed(0, true, Some(suspect.clone()))).collect());
        assert_eq!(
            verdicts.iter().map(|verdict| verdict.hold_back.clone()).collect::<Vec<_>>(),
            [None, None, Some(suspect)]
        );
        assert_eq!(verdicts[2].reason, Reason::Policy);
        // A broker that is killed while reports go out has another one in flight each time.
        let other = |number| closed(0, true, Some(Suspect::Publish("a".to_owned(), Some(Sequence::for_tests(number)))));
        assert!(run((0..10).map(other).collect()).iter().all(|verdict| verdict.hold_back.is_none()));
    }
}

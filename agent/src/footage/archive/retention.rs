//! Which segments go when space or age says so. Pure: the disk thread carries it out.

use std::time::Duration;

use edgecam_media::ring::Position;
use edgecam_media::{Ticks, Timestamp};

use super::Segment;

/// What may happen when the archive is full; named after the KVS Edge Agent's `StrategyOnFullSize`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StrategyOnFull {
    /// The oldest footage makes room for new.
    #[default]
    DeleteOldestMedia,
    /// Nothing new is recorded until there is room.
    DenyNewMedia,
}

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// Footage older than this goes, sent or not.
    pub max_age: Option<Duration>,
    /// The camera's segments are kept below this.
    pub max_bytes: Option<u64>,
    /// This much of the file system is left free.
    pub min_free: u64,
    /// What is done when `max_bytes` or `min_free` is reached.
    pub on_full: StrategyOnFull,
    /// Footage goes as soon as it is persisted in the stream.
    pub delete_after_upload: bool,
}

/// A segment that has to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Doomed {
    /// Number of its first GOP.
    pub first_gop: u64,
    /// Whether it holds footage that has not been sent and now never will be.
    pub is_unsent: bool,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Segments to delete, in order.
    pub delete: Vec<Doomed>,
    /// There is no room, and none may be made: recording has to pause.
    pub is_full: bool,
}

/// What the plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Now.
    pub now: Timestamp,
    /// Bytes that must still be freed on the file system to have `min_free`.
    pub missing: u64,
    /// Everything before has been sent; `None` when nothing is uploaded from this archive.
    pub sent: Option<Position>,
    /// First GOP of the segment being written, which stays.
    pub open: Option<u64>,
}

/// Decides what goes. `segments` are in order of their numbers.
pub fn plan(segments: &[Segment], limits: &Retention, situation: Situation) -> Plan {
    let end_of = |index: usize| segments.get(index + 1).map(|next| Position::start_of(next.first_gop));
    // The newest segment's end is not known here; it counts as unsent until it is not the newest any more.
    let is_sent = |index: usize| situation.sent.is_none_or(|sent| end_of(index).is_some_and(|end| end <= sent));
    let may_go: Vec<usize> =
        (0..segments.len()).filter(|&index| Some(segments[index].first_gop) != situation.open).collect();
    let mut delete = Vec::new();
    let mut freed = 0;
    let mut doom = |index: usize, freed: &mut u64| {
        let segment = &segments[index];
        if delete.iter().all(|doomed: &Doomed| doomed.first_gop != segment.first_gop) {
            *freed += segment.bytes;
            delete.push(Doomed { first_gop: segment.first_gop, is_unsent: !is_sent(index) });
        }
    };

    if let Some(max_age) = limits.max_age {
        let oldest = situation.now - Ticks::from_duration(max_age);
        for &index in &may_go {
            // A segment is as old as its last picture, which is where the next one begins.
            let end = segments.get(index + 1).map_or(situation.now, |next| next.start);
            if end < oldest {
                doom(index, &mut freed);
            }
        }
    }
    if limits.delete_after_upload && situation.sent.is_some() {
        may_go.iter().filter(|&&index| is_sent(index)).for_each(|&index| doom(index, &mut freed));
    }
    let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let over = limits.max_bytes.map_or(0, |max| total.saturating_sub(max)).max(situation.missing);
    if limits.on_full == StrategyOnFull::DenyNewMedia {
        return Plan { is_full: freed < over, delete };
    }
    let (sent, unsent): (Vec<usize>, Vec<usize>) = may_go.iter().partition(|&&index| is_sent(index));
    for index in sent.into_iter().chain(unsent) {
        if freed >= over {
            break;
        }
        doom(index, &mut freed);
    }
    Plan { delete, is_full: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of 10 bytes and 10 GOPs, one a minute.
    fn segments(count: u64) -> Vec<Segment> {
        let segment = |n: u64| Segment {
            path: format!("{n}").into(),
            start: Timestamp::from_unix_millis(60_000 * n as i64),
            first_gop: n * 10,
            bytes: 10,
        };
        (0..count).map(segment).collect()
    }

    fn situation() -> Situation {
        Situation { now: Timestamp::from_unix_millis(600_000), missing: 0, sent: None, open: Some(90) }
    }

    fn deleted(limits: Retention, situation: Situation) -> Vec<(u64, bool)> {
        let plan = plan(&segments(10), &limits, situation);
        plan.delete.into_iter().map(|doomed| (doomed.first_gop, doomed.is_unsent)).collect()
    }

    #[test]
    fn what_goes() {
        let none = Retention::default();
        assert_eq!(deleted(none, situation()), []);
        let bytes = |max| Retention { max_bytes: Some(max), ..none };
        assert_eq!(deleted(bytes(85), situation()), [(0, false), (10, false)]);
        assert_eq!(deleted(bytes(100), situation()), []);
        assert_eq!(deleted(none, Situation { missing: 15, ..situation() }), [(0, false), (10, false)]);
        let age = Retention { max_age: Some(Duration::from_secs(450)), ..none };
        assert_eq!(deleted(age, situation()), [(0, false), (10, false)]);
        // The open segment stays, whatever the limit.
        assert_eq!(deleted(bytes(0), situation()).len(), 9);
    }

    #[test]
    fn unsent_footage_goes_last() {
        let sent_to = |gop| Situation { sent: Some(Position::start_of(gop)), ..situation() };
        let max = Retention { max_bytes: Some(60), ..Retention::default() };
        assert_eq!(deleted(max, sent_to(20)), [(0, false), (10, false), (20, true), (30, true)]);
        assert_eq!(deleted(max, sent_to(45)), [(0, false), (10, false), (20, false), (30, false)]);
        // Footage sent out of order, by a backfill, does not matter here: the cursor is what counts.
        let after_upload = Retention { delete_after_upload: true, ..Retention::default() };
        assert_eq!(deleted(after_upload, sent_to(25)), [(0, false), (10, false)]);
        assert_eq!(deleted(after_upload, situation()), []);
    }

    #[test]
    fn denying_new_media_deletes_nothing_for_room() {
        let deny = Retention { max_bytes: Some(60), on_full: StrategyOnFull::DenyNewMedia, ..Retention::default() };
        assert_eq!(plan(&segments(10), &deny, situation()), Plan { delete: vec![], is_full: true });
        let roomy = Retention { max_bytes: Some(600), ..deny };
        assert_eq!(plan(&segments(10), &roomy, situation()), Plan::default());
    }
}

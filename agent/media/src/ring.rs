//! The newest part of a camera's log, in RAM.
//!
//! Bounded in bytes. What is evicted is a whole GOP, the oldest first, and never the newest; only when the newest alone
//! outgrows the bound does its head go. Footage that has not reached the archive yet is kept up to a second, higher
//! bound, so that a disk that pauses costs memory for a moment and no footage.
//!
//! Readers hold a [`Position`] and share the bytes; the ring knows nothing of them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{AccessUnit, ParameterSets, Timestamp};

/// A place in the log of one camera: the access unit that will be read next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    /// Number of the GOP; counts up over restarts of the agent.
    pub gop: u64,
    /// Number of the access unit inside the GOP.
    pub unit: u32,
}

impl Position {
    /// The beginning of a GOP.
    pub const fn start_of(gop: u64) -> Self {
        Self { gop, unit: 0 }
    }
}

/// Bounds of the ring, in bytes of coded video.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Kept in any case, as far as there is so much.
    pub keep: usize,
    /// Never exceeded; between the two lies only what the archive has not written yet.
    pub most: usize,
}

/// What a reader finds at its position.
#[derive(Clone, PartialEq, Debug)]
pub enum Read {
    /// An access unit, and where to go on.
    Unit {
        /// The unit.
        unit: AccessUnit,
        /// Where it was.
        at: Position,
        /// Where to go on.
        next: Position,
    },
    /// Nothing yet: the reader has caught up.
    Pending,
    /// The position has left the ring. `resume` is the oldest place in it where decoding can start.
    Evicted {
        /// Where the ring can be read again; the GOP that comes next when there is none.
        resume: Position,
    },
}

/// What an eviction has taken that the archive had not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evicted {
    /// Access units.
    pub units: u64,
    /// Bytes.
    pub bytes: u64,
}

#[derive(Debug)]
struct Gop {
    sequence: u64,
    parameter_sets: Arc<ParameterSets>,
    /// Number of the first unit still here: above 0 only when the GOP alone outgrew the ring.
    first: u32,
    units: VecDeque<AccessUnit>,
    bytes: usize,
}

/// The ring of one camera.
#[derive(Debug)]
pub struct Ring {
    gops: VecDeque<Gop>,
    bytes: usize,
    bounds: Bounds,
    next_gop: u64,
    archived: Option<Position>,
}

impl Ring {
    /// An empty ring whose first GOP will have the number `next_gop`.
    pub fn new(bounds: Bounds, next_gop: u64) -> Self {
        Self { gops: VecDeque::new(), bytes: 0, bounds, next_gop, archived: None }
    }

    /// Appends a unit. An IDR begins a new GOP; anything before the first IDR is refused (`None`).
    /// Returns its position and what had to go for it without having been archived.
    pub fn append(&mut self, unit: AccessUnit) -> Option<(Position, Evicted)> {
        let size = unit.data.len();
        if unit.is_idr {
            let parameter_sets = unit.parameter_sets.clone()?;
            let sequence = self.next_gop;
            self.next_gop += 1;
            self.gops.push_back(Gop { sequence, parameter_sets, first: 0, units: VecDeque::new(), bytes: 0 });
        }
        let gop = self.gops.back_mut()?;
        let at = Position { gop: gop.sequence, unit: gop.first + gop.units.len() as u32 };
        gop.units.push_back(unit);
        gop.bytes += size;
        self.bytes += size;
        Some((at, self.evict()))
    }

    /// The archive has everything before `position`: it may be evicted. `None` when there is no archive, which makes
    /// the lower bound the only one.
    pub fn set_archived(&mut self, position: Option<Position>) {
        self.archived = position;
    }

    /// Reads at `position`.
    pub fn read(&self, position: Position) -> Read {
        let Some(oldest) = self.gops.front() else {
            let resume = Position::start_of(self.next_gop);
            return if position < resume { Read::Evicted { resume } } else { Read::Pending };
        };
        if position.gop < oldest.sequence || (position.gop == oldest.sequence && position.unit < oldest.first) {
            let next = if oldest.first == 0 { oldest.sequence } else { oldest.sequence + 1 };
            return Read::Evicted { resume: Position::start_of(next) };
        }
        let Some(gop) = self.gops.get((position.gop - oldest.sequence) as usize) else {
            return Read::Pending;
        };
        match gop.units.get((position.unit - gop.first) as usize) {
            Some(unit) => {
                let next = Position { gop: position.gop, unit: position.unit + 1 };
                Read::Unit { unit: unit.clone(), at: position, next }
            }
            None if gop.sequence + 1 < self.next_gop => self.read(Position::start_of(gop.sequence + 1)),
            None => Read::Pending,
        }
    }

    /// All units from `from` on that belong to one GOP, up to `most`, without the reader's bookkeeping: for the archive.
    pub fn units_from(&self, from: Position, most: usize) -> (Vec<AccessUnit>, Option<Arc<ParameterSets>>) {
        let Some(gop) = self.gops.iter().find(|gop| gop.sequence == from.gop) else { return (Vec::new(), None) };
        if from.unit < gop.first {
            return (Vec::new(), None);
        }
        let units = gop.units.iter().skip((from.unit - gop.first) as usize).take(most).cloned().collect();
        (units, Some(gop.parameter_sets.clone()))
    }

    /// Sets of the GOP, if it is here.
    pub fn parameter_sets(&self, gop: u64) -> Option<&Arc<ParameterSets>> {
        self.gops.iter().find(|candidate| candidate.sequence == gop).map(|gop| &gop.parameter_sets)
    }

    /// Where the newest GOP begins: where a live reader starts. The next GOP when there is none whole.
    pub fn newest(&self) -> Position {
        match self.gops.back() {
            Some(gop) if gop.first == 0 => Position::start_of(gop.sequence),
            _ => Position::start_of(self.next_gop),
        }
    }

    /// Behind the newest unit.
    pub fn end(&self) -> Position {
        match self.gops.back() {
            Some(gop) => Position { gop: gop.sequence, unit: gop.first + gop.units.len() as u32 },
            None => Position::start_of(self.next_gop),
        }
    }

    /// The oldest GOP that can be decoded from here and was shown at or before `instant`, else the oldest of all.
    pub fn at(&self, instant: Timestamp) -> Option<Position> {
        let whole = || self.gops.iter().filter(|gop| gop.first == 0);
        let begins = |gop: &&Gop| gop.units.front().is_some_and(|unit| unit.pts <= instant);
        whole().rfind(begins).or_else(|| whole().next()).map(|gop| Position::start_of(gop.sequence))
    }

    /// Timestamp of the newest unit.
    pub fn latest(&self) -> Option<Timestamp> {
        self.gops.back().and_then(|gop| gop.units.back()).map(|unit| unit.pts)
    }

    /// Timestamp of the oldest unit.
    pub fn earliest(&self) -> Option<Timestamp> {
        self.gops.front().and_then(|gop| gop.units.front()).map(|unit| unit.pts)
    }

    /// Bytes of coded video held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn evict(&mut self) -> Evicted {
        let mut lost = Evicted::default();
        while self.gops.len() > 1 {
            let Some(oldest) = self.gops.front() else { break };
            let archived = self.archived.is_none_or(|position| position.gop > oldest.sequence);
            let bound = if archived { self.bounds.keep } else { self.bounds.most };
            // Without the oldest GOP there must still be `keep` bytes, or it is too early to let it go.
            let fits = if archived { self.bytes - oldest.bytes < bound } else { self.bytes <= bound };
            if fits {
                break;
            }
            if !archived {
                let unit = self.archived.filter(|position| position.gop == oldest.sequence).map_or(0, |p| p.unit);
                lost.add(oldest.units.iter().skip(unit.saturating_sub(oldest.first) as usize));
            }
            self.bytes -= oldest.bytes;
            self.gops.pop_front();
        }
        if let [newest] = self.gops.make_contiguous() {
            while self.bytes > self.bounds.most && newest.units.len() > 1 {
                let Some(unit) = newest.units.pop_front() else { break };
                let at = Position { gop: newest.sequence, unit: newest.first };
                if self.archived.is_some_and(|position| position <= at) {
                    lost.add(std::iter::once(&unit));
                }
                newest.first += 1;
                newest.bytes -= unit.data.len();
                self.bytes -= unit.data.len();
            }
        }
        lost
    }
}

impl Evicted {
    fn add<'a>(&mut self, units: impl Iterator<Item = &'a AccessUnit>) {
        for unit in units {
            self.units += 1;
            self.bytes += unit.data.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::parameter_sets::tests::{PPS, SPS_720P};
    use crate::{Ticks, TrackId};

    fn unit(is_idr: bool, index: i64, size: usize) -> AccessUnit {
        let sets = || {
            let sets = ParameterSets::h264(Bytes::from_static(SPS_720P), vec![Bytes::from_static(PPS)]);
            Arc::new(sets.expect("valid"))
        };
        AccessUnit {
            track: TrackId::VIDEO,
            pts: Timestamp::from_unix_millis(1_000_000) + Ticks::from_millis(index * 100),
            is_idr,
            data: Bytes::from(vec![0; size]),
            parameter_sets: is_idr.then(sets),
        }
    }

    /// GOPs of `units` units of 10 bytes.
    fn filled(bounds: Bounds, gops: i64, units: i64) -> (Ring, Evicted) {
        let mut ring = Ring::new(bounds, 7);
        let mut lost = Evicted::default();
        for index in 0..gops * units {
            let (_, evicted) = ring.append(unit(index % units == 0, index, 10)).expect("starts with an IDR");
            lost.units += evicted.units;
            lost.bytes += evicted.bytes;
        }
        (ring, lost)
    }

    #[test]
    fn a_reader_gets_every_unit_in_order() {
        let (ring, _) = filled(Bounds { keep: 1000, most: 1000 }, 4, 5);
        let mut position = Position::start_of(7);
        let mut seen = Vec::new();
        while let Read::Unit { unit, at, next } = ring.read(position) {
            assert_eq!(unit.is_idr, at.unit == 0);
            seen.push(at);
            position = next;
        }
        assert_eq!(seen.len(), 20);
        assert!(seen.is_sorted());
        assert_eq!(ring.read(position), Read::Pending);
        assert_eq!(ring.end(), position);
    }

    #[test]
    fn whole_gops_go_and_never_the_newest() {
        let (ring, _) = filled(Bounds { keep: 120, most: 120 }, 10, 5);
        assert!((120..=170).contains(&ring.bytes()), "{}", ring.bytes());
        let resume = Position::start_of(14);
        assert_eq!(ring.read(Position::start_of(7)), Read::Evicted { resume });
        assert!(matches!(ring.read(resume), Read::Unit { .. }));
        assert_eq!(ring.newest(), Position::start_of(16));
    }

    #[test]
    fn what_is_not_archived_stays_up_to_the_higher_bound() {
        let mut ring = Ring::new(Bounds { keep: 50, most: 300 }, 0);
        ring.set_archived(Some(Position::default()));
        let mut lost = 0;
        for index in 0..100 {
            lost += ring.append(unit(index % 5 == 0, index, 10)).expect("in order").1.units;
            assert!(ring.bytes() <= 300);
        }
        assert_eq!(lost, 70);
        ring.set_archived(Some(Position { gop: 19, unit: 0 }));
        assert_eq!(ring.append(unit(true, 100, 10)).expect("an IDR").1.units, 0);
        assert_eq!(ring.bytes(), 60);
    }

    #[test]
    fn an_endless_gop_stays_within_the_bound() {
        let (ring, lost) = filled(Bounds { keep: 100, most: 200 }, 1, 1000);
        assert_eq!(ring.bytes(), 200);
        assert_eq!(lost.units, 0, "without an archive eviction is no loss");
        assert_eq!(ring.read(Position::start_of(7)), Read::Evicted { resume: Position::start_of(8) });
        assert_eq!(ring.newest(), Position::start_of(8));
        assert!(matches!(ring.read(Position { gop: 7, unit: 999 }), Read::Unit { .. }));
    }

    #[test]
    fn positions_by_time() {
        let (ring, _) = filled(Bounds { keep: 1000, most: 1000 }, 4, 5);
        let at = |millis: i64| ring.at(Timestamp::from_unix_millis(1_000_000 + millis)).map(|position| position.gop);
        for (millis, gop) in [(0, 7), (499, 7), (500, 8), (99_999, 10), (-5, 7)] {
            assert_eq!(at(millis), Some(gop), "{millis}");
        }
        assert_eq!(Ring::new(Bounds { keep: 1, most: 1 }, 0).at(Timestamp::EPOCH), None);
    }

    #[test]
    fn nothing_before_the_first_idr() {
        let mut ring = Ring::new(Bounds { keep: 100, most: 100 }, 3);
        assert_eq!(ring.append(unit(false, 0, 10)), None);
        assert_eq!(ring.read(Position::start_of(3)), Read::Pending);
        assert_eq!(ring.read(Position::start_of(1)), Read::Evicted { resume: Position::start_of(3) });
    }
}

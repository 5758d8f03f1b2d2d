//! What of a log is still to be sent: gaps that were put off, oldest first, and everything from the live cursor on.

use edgecam_media::ring::Position;

use crate::footage::bookmark;

/// Gaps at most: as many as fit into a bookmark beside the live cursor.
const MAX_GAPS: usize = (bookmark::MOST - 1) / 2;

/// Footage that was put off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Gap {
    pub(super) from: Position,
    pub(super) end: Position,
}

/// What is still to be sent. Gaps do not overlap, ascend, and lie before `live`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ledger {
    gaps: heapless::Vec<Gap, MAX_GAPS>,
    live: Position,
}

impl Ledger {
    /// Everything from `live` on.
    pub(super) fn new(live: Position) -> Self {
        Self { gaps: heapless::Vec::new(), live }
    }

    /// From a bookmark's positions: the live cursor, then both ends of each gap.
    pub(super) fn restore(positions: &[Position]) -> Option<Self> {
        let (live, ends) = positions.split_first()?;
        let mut ledger = Self::new(*live);
        let (pairs, _) = ends.as_chunks::<2>();
        for &[from, end] in pairs {
            let reaches = ledger.gaps.last().map_or(Position::default(), |gap| gap.end);
            if from < end && reaches <= from && end <= *live {
                ledger.gaps.push(Gap { from, end }).ok()?;
            }
        }
        Some(ledger)
    }

    /// For a bookmark.
    pub(super) fn positions(&self) -> Vec<Position> {
        std::iter::once(self.live).chain(self.gaps.iter().flat_map(|gap| [gap.from, gap.end])).collect()
    }

    pub(super) fn live(&self) -> Position {
        self.live
    }

    pub(super) fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Everything before this has been sent.
    pub(super) fn oldest(&self) -> Position {
        self.gaps.first().map_or(self.live, |gap| gap.from)
    }

    /// Whether live may put off what it has not sent.
    pub(super) fn may_jump(&self) -> bool {
        !self.gaps.is_full()
    }

    /// Live goes on at `to`; what it leaves behind becomes a gap.
    pub(super) fn jump(&mut self, to: Position) {
        let gap = Gap { from: self.live, end: to };
        if gap.from < gap.end && self.gaps.push(gap).is_ok() {
            self.live = to;
        }
    }

    /// Live has been sent up to `position`.
    pub(super) fn commit_live(&mut self, position: Position) {
        self.live = self.live.max(position);
    }

    /// The oldest gap has been sent up to `position`.
    pub(super) fn commit_gap(&mut self, position: Position) {
        let Some(gap) = self.gaps.first_mut() else { return };
        gap.from = gap.from.max(position);
        if gap.from >= gap.end {
            self.gaps.remove(0);
        }
    }

    /// Live goes on with a whole GOP: what of it was sent is sent again, because a fragment begins with an IDR.
    pub(super) fn step_back(&mut self) {
        let begin = Position::start_of(self.live.gop);
        let sent = self.gaps.last().map_or(Position::default(), |gap| gap.end);
        self.live = begin.max(sent);
    }

    /// An earlier run has left `older`, all of it before `end`, where this run began.
    pub(super) fn put_before(&mut self, older: &Self, end: Position) {
        let open = Gap { from: older.live, end };
        let mut gaps: Vec<Gap> = older.gaps.iter().chain([&open]).chain(&self.gaps).copied().collect();
        gaps.retain(|gap| gap.from < gap.end);
        // Neighbours become one where there are too many: better sent twice than not at all.
        while gaps.len() > MAX_GAPS {
            let second = gaps.remove(1);
            gaps[0].end = second.end;
        }
        self.gaps = gaps.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(gop: u64) -> Position {
        Position::start_of(gop)
    }

    #[test]
    fn live_goes_ahead_and_history_is_kept() {
        let mut ledger = Ledger::new(at(10));
        ledger.commit_live(at(12));
        ledger.jump(at(50));
        ledger.commit_live(at(60));
        ledger.jump(at(70));
        assert_eq!((ledger.oldest(), ledger.live()), (at(12), at(70)));
        assert_eq!(Ledger::restore(&ledger.positions()).as_ref(), Some(&ledger));
        ledger.commit_gap(at(40));
        ledger.commit_gap(at(50));
        assert_eq!(ledger.gaps(), [Gap { from: at(60), end: at(70) }]);
        ledger.commit_gap(at(99));
        assert_eq!((ledger.oldest(), ledger.gaps().len()), (at(70), 0));
    }

    #[test]
    fn gaps_are_bounded() {
        let mut ledger = Ledger::new(at(0));
        for n in 1..100 {
            ledger.commit_live(at(n * 10 + 1));
            ledger.jump(at(n * 10 + 5));
        }
        assert!(!ledger.may_jump());
        assert_eq!(Ledger::restore(&ledger.positions()).as_ref(), Some(&ledger));
        let mut later = Ledger::new(at(5_000));
        later.put_before(&ledger, at(2_000));
        assert_eq!(later.gaps().len(), MAX_GAPS);
        assert_eq!((later.oldest(), later.live()), (ledger.oldest(), at(5_000)));
        assert_eq!(later.gaps().last(), Some(&Gap { from: ledger.live(), end: at(2_000) }));
    }

    #[test]
    fn a_damaged_bookmark_gives_no_overlap() {
        assert_eq!(Ledger::restore(&[]), None);
        let odd = [at(9), at(5), at(3), at(1), at(4), at(2), at(6), at(8), at(20), at(7)];
        assert_eq!(
            Ledger::restore(&odd).map(|ledger| ledger.gaps().to_vec()),
            Some(vec![Gap { from: at(1), end: at(4) }])
        );
    }
}

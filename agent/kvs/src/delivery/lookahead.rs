//! Which tracks a GOP is sent with.
//!
//! The service wants at least one frame of every declared track in each fragment (error 4011). So a GOP that may have
//! audio is held back until its first audio is there; one that turns out to have none goes into a session without an
//! audio track. Audio that comes later than that is left out, and so is what the service does not take: the archive has
//! it, and the cursor passes it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use edgecam_media::Ticks;
use edgecam_media::ring::Position;

use crate::session::Unit;

/// Audio frames come each 20 to 130 ms. A GOP that is this long has none, by its own clock or by ours. Less than the
/// shortest fragment: GOPs that are shorter than that share one, and its audio.
const PATIENCE: Ticks = Ticks::from_millis(600);
const WAIT: Duration = Duration::from_millis(1_500);
/// Units held back at most.
const MOST: usize = 256;

/// What comes next.
#[derive(Debug)]
pub(super) enum Ahead {
    Send(Unit),
    /// Between these there is only audio that is not sent.
    LeftOut(Position, Position),
}

/// Units that have been read and whose turn has not come.
#[derive(Debug, Default)]
pub(super) struct Lookahead {
    units: VecDeque<Unit>,
    /// When the first of them was read.
    since: Option<Instant>,
    /// The GOP that is being sent, and whether its audio is.
    gop: Option<(u64, bool)>,
    /// Nothing comes after what is here.
    is_closed: bool,
}

impl Lookahead {
    pub(super) fn push(&mut self, unit: Unit, now: Instant) {
        self.since.get_or_insert(now);
        self.units.push_back(unit);
    }

    /// Where the first of them begins.
    pub(super) fn begins(&self) -> Option<Position> {
        self.units.front().map(|unit| unit.from)
    }

    pub(super) fn clear(&mut self) {
        *self = Self { is_closed: self.is_closed, ..Self::default() };
    }

    /// Nothing more comes: what is here need not wait for it.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// When to look again, if nothing comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let gop = self.units.front().map(|unit| unit.next.gop);
        let is_open = self.gop.map(|(gop, _)| gop) != gop;
        self.since.filter(|_| is_open).map(|since| since + WAIT)
    }

    /// From here on the GOP goes without its audio.
    pub(super) fn mute(&mut self) {
        if let Some((_, has_audio)) = &mut self.gop {
            *has_audio = false;
        }
    }

    /// The next unit, if its turn has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Ahead> {
        let gop = self.units.front()?.next.gop;
        let has_audio = match self.gop {
            Some((current, has_audio)) if current == gop => has_audio,
            _ => {
                let has_audio = self.has_audio(now)?;
                self.gop = Some((gop, has_audio));
                has_audio
            }
        };
        let mut unit = self.units.pop_front()?;
        self.since = (!self.units.is_empty()).then_some(now);
        if !unit.unit.is_video() && !has_audio {
            return Some(Ahead::LeftOut(unit.from, unit.next));
        }
        unit.has_audio = has_audio;
        Some(Ahead::Send(unit))
    }

    /// Whether the GOP of the first unit has audio; `None` while that cannot be told.
    fn has_audio(&self, now: Instant) -> Option<bool> {
        let first = self.units.front()?;
        let is_declared = first.sets.audio().is_some_and(|audio| audio.kvs_codec_id().is_some());
        if !is_declared {
            return Some(false);
        }
        let is_late = |unit: &Unit| unit.unit.pts.since(first.unit.pts) > PATIENCE;
        let mut audio = self.units.iter().filter(|unit| !unit.unit.is_video());
        if audio.any(|unit| unit.next.gop == first.next.gop || !is_late(unit)) {
            return Some(true);
        }
        let is_over = self.is_closed
            || self.units.len() >= MOST
            || self.deadline().is_some_and(|at| now >= at)
            || self.units.iter().any(is_late);
        is_over.then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use edgecam_media::{AccessUnit, AudioFormat, ParameterSets, Timestamp, TrackId};

    use super::*;

    /// What comes, as (GOP, milliseconds, is it audio).
    fn run(is_declared: bool, units: &[(u64, i64, bool)], wait: Duration) -> (Vec<(i64, bool)>, bool) {
        let sps = [
            0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
            0x00, 0x03, 0x01, 0xe0, 0xf1, 0x83, 0x19, 0x60,
        ];
        let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
        let sets = ParameterSets::h264(Bytes::copy_from_slice(&sps), vec![pps]).expect("valid");
        let audio = AudioFormat::aac(Bytes::from_static(&[0x12, 0x10])).expect("valid");
        let sets = Arc::new(sets.with_audio(is_declared.then(|| Arc::new(audio))));
        let now = Instant::now();
        let mut ahead = Lookahead::default();
        let mut from = Position::start_of(1);
        let mut placed = Vec::new();
        for &(gop, millis, is_audio) in units {
            let next = Position { gop, unit: if gop == from.gop { from.unit + 1 } else { 1 } };
            let unit = AccessUnit {
                track: if is_audio { TrackId::AUDIO } else { TrackId::VIDEO },
                pts: Timestamp::from_unix_millis(millis),
                is_idr: next.unit == 1,
                data: Bytes::from_static(&[1]),
                parameter_sets: None,
            };
            ahead.push(Unit { from, next, unit, sets: sets.clone(), has_audio: false, tags: Vec::new() }, now);
            from = next;
            placed.extend(std::iter::from_fn(|| ahead.pop(now)));
        }
        placed.extend(std::iter::from_fn(|| ahead.pop(now + wait)));
        // Nothing is left out unseen: each begins where the one before ended.
        let mut at = Position::start_of(1);
        let mut shown = Vec::new();
        for ahead in placed {
            let (from, next) = match ahead {
                Ahead::Send(unit) => {
                    shown.push((unit.unit.pts.unix_millis(), unit.has_audio));
                    (unit.from, unit.next)
                }
                Ahead::LeftOut(from, next) => (from, next),
            };
            assert_eq!(from, at);
            at = next;
        }
        (shown, ahead.deadline().is_some())
    }

    #[test]
    fn a_gop_waits_for_its_first_audio() {
        let [v, a] = [false, true];
        let check = |is_declared, units: &[(u64, i64, bool)], expected: &[(i64, bool)], waits| {
            assert_eq!(run(is_declared, units, Duration::ZERO), (expected.to_vec(), waits), "{units:?}");
        };
        check(true, &[(1, 0, v), (1, 40, v)], &[], true);
        check(true, &[(1, 0, v), (1, 40, v), (1, 45, a)], &[(0, true), (40, true), (45, true)], false);
        check(false, &[(1, 0, v), (1, 40, v)], &[(0, false), (40, false)], false);
        // Short GOPs share a fragment, and its audio.
        check(true, &[(1, 0, v), (2, 40, v), (3, 80, v)], &[], true);
        let intra = [(1, 0, v), (2, 40, v), (2, 45, a), (3, 80, v), (4, 120, v), (4, 121, a)];
        check(true, &intra, &[(0, true), (40, true), (45, true), (80, true), (120, true), (121, true)], false);
        // Its length shows that it has none; the next one has.
        check(true, &[(1, 0, v), (1, 500, v), (2, 620, v)], &[(0, false), (500, false)], true);
        check(true, &[(1, 0, v), (1, 700, v), (1, 740, v)], &[(0, false), (700, false), (740, false)], false);
        let late = [(1, 0, v), (1, 700, v), (1, 710, a), (1, 740, v), (1, 745, a), (2, 800, v), (2, 801, a)];
        check(true, &late, &[(0, false), (700, false), (740, false), (800, true), (801, true)], false);
    }

    #[test]
    fn nothing_waits_for_ever() {
        let found = run(true, &[(1, 0, false), (1, 40, false)], WAIT);
        assert_eq!(found, (vec![(0, false), (40, false)], false));
        // What the service does not take goes with the picture before it, not with one that may never come.
        let found = run(false, &[(1, 0, false), (1, 5, true)], Duration::ZERO);
        assert_eq!(found, (vec![(0, false)], false));
    }
}

//! Which tracks a GOP is sent with.
//!
//! The service wants at least one frame of every declared track in each fragment (error 4011). So a GOP that may have
//! audio is held back until its first audio is there; one that turns out to have none goes into a session without an
//! audio track. Audio that comes later than that is left out: the archive has it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use edgecam_media::Ticks;
use edgecam_media::ring::Position;

use crate::session::Unit;

/// Audio frames come each 20 to 130 ms. A GOP that is this long has none, by its own clock or by ours.
const PATIENCE: Ticks = Ticks::from_millis(600);
const WAIT: Duration = Duration::from_millis(1_500);
/// Units held back at most.
const MOST: usize = 256;

/// Units that have been read and whose turn has not come.
#[derive(Debug, Default)]
pub(super) struct Lookahead {
    units: VecDeque<Unit>,
    /// When the first of them was read.
    since: Option<Instant>,
    /// The GOP that is being sent, and whether its audio is.
    gop: Option<(u64, bool)>,
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
        *self = Self::default();
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
    pub(super) fn pop(&mut self, now: Instant) -> Option<Unit> {
        loop {
            let front = self.units.front()?;
            let gop = front.next.gop;
            let has_audio = match self.gop {
                Some((current, has_audio)) if current == gop => has_audio,
                _ => {
                    let has_audio = self.has_audio(now)?;
                    self.gop = Some((gop, has_audio));
                    has_audio
                }
            };
            if front.unit.is_video() || has_audio {
                let mut unit = self.units.pop_front()?;
                self.since = (!self.units.is_empty()).then_some(now);
                unit.has_audio = has_audio;
                return Some(unit);
            }
            // It is left out together with what comes next: the cursor must not see a gap.
            let from = front.from;
            let next = self.units.get_mut(1)?;
            next.from = from;
            self.units.pop_front();
        }
    }

    /// Whether the GOP of the first unit has audio; `None` while that cannot be told.
    fn has_audio(&self, now: Instant) -> Option<bool> {
        let first = self.units.front()?;
        let is_declared = first.sets.audio().is_some_and(|audio| audio.kvs_codec_id().is_some());
        if !is_declared {
            return Some(false);
        }
        let mut same = self.units.iter().take_while(|unit| unit.next.gop == first.next.gop);
        if same.clone().any(|unit| !unit.unit.is_video()) {
            return Some(true);
        }
        let is_over = self.units.len() >= MOST
            || self.units.back().is_some_and(|last| last.next.gop != first.next.gop)
            || self.deadline().is_some_and(|at| now >= at)
            || same.any(|unit| unit.unit.pts.since(first.unit.pts) > PATIENCE);
        is_over.then_some(false)
    }
}

//! The fragments on their way: sent or being sent, and not yet known to be persisted.
//!
//! Each entry covers the log from where the reader stood before its first unit to behind its last. Entries that follow
//! each other without a gap are recognised by equal positions; a gap is footage that must be sent (again). The cursor
//! of the stream moves over entries that are done, in order, and never over a gap.

use std::time::Instant;

use edgecam_media::ring::Position;

use crate::ack::AckKind;
use crate::session::SessionId;

/// Fragments in flight at most. At the service's 5 fragments a second this is 12 s without an ack: by then the
/// connection has been given up.
const CAPACITY: usize = 64;

/// How far a fragment has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Progress {
    /// Sending has begun; the service has not said that it noticed.
    Sending,
    /// The service has its first byte.
    Buffering,
    /// The service has all of it.
    Received,
    /// Stored, or refused for good: not to be sent again.
    Done,
}

/// One fragment in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) from: Position,
    pub(crate) end: Position,
    pub(crate) session: SessionId,
    /// Cluster timecode in milliseconds.
    pub(crate) timecode: i64,
    pub(crate) progress: Progress,
    /// When its last byte was queued; `None` while it is open.
    pub(crate) completed: Option<Instant>,
    /// When the progress last changed.
    pub(crate) since: Instant,
}

#[derive(Debug)]
pub(crate) struct Window {
    committed: Position,
    entries: heapless::Vec<Entry, CAPACITY>,
}

impl Window {
    pub(crate) fn new(committed: Position) -> Self {
        Self { committed, entries: heapless::Vec::new() }
    }

    /// Everything before this is persisted, or will never be.
    pub(crate) fn committed(&self) -> Position {
        self.committed
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.is_full()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A fragment begins. `false` when there is no room.
    pub(crate) fn begin(
        &mut self,
        session: SessionId,
        timecode: i64,
        from: Position,
        end: Position,
        now: Instant,
    ) -> bool {
        let entry = Entry { from, end, session, timecode, progress: Progress::Sending, completed: None, since: now };
        let index = self.entries.iter().position(|other| other.from > from).unwrap_or(self.entries.len());
        self.entries.insert(index, entry).is_ok()
    }

    /// The open fragment of `session` now reaches to `end`.
    pub(crate) fn extend(&mut self, session: SessionId, end: Position) {
        if let Some(entry) = self.open(session) {
            entry.end = end;
        }
    }

    /// The open fragment of `session` has all its units.
    pub(crate) fn complete(&mut self, session: SessionId, now: Instant) {
        if let Some(entry) = self.open(session) {
            entry.completed = Some(now);
        }
    }

    fn open(&mut self, session: SessionId) -> Option<&mut Entry> {
        self.entries.iter_mut().rev().find(|entry| entry.session == session && entry.completed.is_none())
    }

    /// Takes an ack; returns whether it was about a fragment in flight. `done` is the kind that releases a fragment.
    pub(crate) fn ack(
        &mut self,
        session: SessionId,
        timecode: i64,
        kind: AckKind,
        done: AckKind,
        now: Instant,
    ) -> bool {
        let matches = |entry: &&mut Entry| entry.session == session && entry.timecode == timecode;
        let Some(entry) = self.entries.iter_mut().find(matches) else { return false };
        let progress = match kind {
            kind if kind == done => Progress::Done,
            AckKind::Buffering => Progress::Buffering,
            AckKind::Received => Progress::Received,
            AckKind::Persisted => Progress::Done,
            AckKind::Error(_) | AckKind::Idle => return false,
        };
        // An open fragment is never done: its tail is still to be sent.
        let progress = if entry.completed.is_none() { progress.min(Progress::Received) } else { progress };
        if progress > entry.progress {
            entry.progress = progress;
            entry.since = now;
        }
        self.commit();
        true
    }

    /// The log has let go of footage that was not sent: it counts as done, or the cursor would wait for it for ever.
    pub(crate) fn lost(&mut self, from: Position, end: Position, now: Instant) {
        self.begin(SessionId(0), i64::MIN, from, end, now);
        let entry = self.entries.iter_mut().find(|entry| entry.session == SessionId(0) && entry.from == from);
        if let Some(entry) = entry {
            entry.progress = Progress::Done;
            entry.completed = Some(now);
        }
        self.commit();
    }

    /// Between these positions nothing is to be sent: that is done with the fragment before it.
    pub(crate) fn pass(&mut self, from: Position, end: Position, now: Instant) {
        if self.committed == from {
            self.committed = end;
            return self.commit();
        }
        if self.past(from) >= end {
            return;
        }
        match self.entries.iter_mut().rev().find(|entry| entry.end == from) {
            Some(before) => before.end = end,
            None => self.lost(from, end, now),
        }
    }

    /// The service refuses a fragment for good. Returns what it covers.
    pub(crate) fn skip(&mut self, session: SessionId, timecode: i64, now: Instant) -> Option<(Position, Position)> {
        let matches = |entry: &&mut Entry| entry.session == session && entry.timecode == timecode;
        let entry = self.entries.iter_mut().find(matches)?;
        entry.progress = Progress::Done;
        if entry.completed.is_none() {
            // What is left of the GOP cannot be decoded without the part that is refused.
            entry.end = Position::start_of(entry.end.gop + 1);
            entry.completed = Some(now);
        }
        let range = (entry.from, entry.end);
        self.commit();
        Some(range)
    }

    /// The connection is gone: what it did not get done must be sent again. Returns how many fragments that are.
    pub(crate) fn forget(&mut self, session: SessionId) -> usize {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.session != session || entry.progress == Progress::Done);
        before - self.entries.len()
    }

    /// Where the first gap begins: what to read next on a new connection.
    pub(crate) fn first_gap(&self) -> Position {
        self.past(self.committed)
    }

    /// `position`, or behind the fragments in flight or done that begin there.
    pub(crate) fn past(&self, mut position: Position) -> Position {
        for entry in &self.entries {
            if entry.from <= position && position < entry.end {
                position = entry.end;
            }
        }
        position
    }

    /// Fragments of `session` that are not done, oldest first.
    pub(crate) fn undone(&self, session: SessionId) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.session == session && entry.progress < Progress::Done)
    }

    fn commit(&mut self) {
        while let Some(first) = self.entries.first()
            && first.from <= self.committed
            && (first.progress == Progress::Done || first.end <= self.committed)
        {
            self.committed = self.committed.max(first.end);
            self.entries.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: AckKind = AckKind::Persisted;

    fn window(now: Instant) -> Window {
        let mut window = Window::new(Position::start_of(1));
        for gop in 1..5 {
            let session = SessionId(if gop < 3 { 1 } else { 2 });
            assert!(window.begin(session, gop as i64, Position::start_of(gop), Position::start_of(gop + 1), now));
            window.complete(session, now);
        }
        window
    }

    #[test]
    fn the_cursor_moves_over_persisted_fragments_in_order() {
        let now = Instant::now();
        let mut window = window(now);
        let mut ack = |session, timecode, kind| {
            window.ack(SessionId(session), timecode, kind, DONE, now);
            window.committed().gop
        };
        assert_eq!(ack(1, 2, DONE), 1, "not over the one before");
        assert_eq!(ack(1, 1, AckKind::Received), 1);
        assert_eq!(ack(2, 1, DONE), 1, "another session's timecode");
        assert_eq!(ack(1, 1, DONE), 3);
        assert_eq!(ack(2, 3, DONE), 4);
    }

    #[test]
    fn what_a_lost_connection_did_not_get_done_is_a_gap() {
        let now = Instant::now();
        let mut window = window(now);
        window.ack(SessionId(1), 2, DONE, DONE, now);
        assert_eq!(window.first_gap(), Position::start_of(5));
        assert_eq!(window.forget(SessionId(1)), 1);
        assert_eq!(window.first_gap(), Position::start_of(1));
        assert_eq!(window.past(Position::start_of(2)), Position::start_of(5), "the others need not be sent again");
        assert_eq!(window.skip(SessionId(2), 4, now), Some((Position::start_of(4), Position::start_of(5))));
        assert_eq!(window.committed(), Position::start_of(1));
    }

    #[test]
    fn an_open_fragment_is_never_done() {
        let now = Instant::now();
        let mut window = Window::new(Position::default());
        let next = Position { gop: 0, unit: 1 };
        assert!(window.begin(SessionId(1), 9, Position::default(), next, now));
        window.ack(SessionId(1), 9, AckKind::Persisted, DONE, now);
        assert_eq!(window.committed(), Position::default());
    }
}

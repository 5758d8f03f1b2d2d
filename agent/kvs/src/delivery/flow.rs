//! How footage goes into sessions, and what happens when a session ends: well, badly, or with an error ack.

use std::time::{Duration, Instant};

use edgecam_media::ring::Position;

use super::lookahead::Ahead;
use super::{
    ASK_FOR_IDR, Action, CALL_SPACING, Delivery, FRAGMENT_BURST, FRAGMENT_SPACING, Fault, FaultClass, Link,
    MAX_DRAINING, POISON_LIMIT, RETRY_REFUSED, Report,
};
use crate::ack::{AckKind, FragmentAck};
use crate::session::{Placement, Session, SessionId};
use crate::{Disposition, ErrorId};

impl Delivery {
    /// Places the held unit if it can be placed now.
    pub(super) fn pump(&mut self, now: Instant) {
        loop {
            while self.held.is_none() {
                match self.ahead.pop(now) {
                    Some(Ahead::Send(unit)) => self.held = Some(unit),
                    Some(Ahead::LeftOut(from, next)) => self.left_out(from, next, now),
                    None if self.is_ending && !self.is_stopping => return self.stop(now),
                    None => return,
                }
            }
            let Some(held) = &mut self.held else { return };
            let session = match &mut self.link {
                Link::Up(session) => session,
                Link::Connecting(..) => return,
                Link::Down(retry) if now < *retry => return,
                Link::Down(_) => {
                    let id = SessionId(self.next_session);
                    self.next_session += 1;
                    self.last_call = Some(now);
                    self.stats.attempts += 1;
                    self.actions.push_back(Action::Connect { session: id, start: held.unit.pts });
                    self.link = Link::Connecting(id, now);
                    return;
                }
            };
            // A session that has not been answered yet is not given up for another, nor while others still drain: against
            // a silent service that would be one connection a GOP.
            let is_settled = session.head().is_some() && session.last_unit > session.opened && self.draining.is_empty();
            let is_due = self.has_gap || self.rotate_at.is_some_and(|at| now >= at);
            if session.is_without_audio(held) {
                // The fragment that is about to begin must not be without a frame of its audio track.
                held.has_audio = false;
                self.ahead.mute();
            }
            let placement = match session.placement(held) {
                _ if is_due && is_settled && held.unit.is_idr => Placement::NewSession,
                placement => placement,
            };
            match placement {
                Placement::NewSession if self.draining.len() >= MAX_DRAINING => return,
                Placement::NewSession => {
                    self.retire(now);
                    continue;
                }
                Placement::NewFragment => {
                    let ready = self.fragments_ready_at.unwrap_or(now);
                    if ready > now || self.window.is_full() {
                        return;
                    }
                    let earliest = now.checked_sub(FRAGMENT_SPACING * FRAGMENT_BURST).unwrap_or(now);
                    self.fragments_ready_at = Some(ready.max(earliest) + FRAGMENT_SPACING);
                    self.stats.fragments_begun += 1;
                    if session.push(held, true, &mut self.window, now) {
                        self.stats.fragments_without_idr += 1;
                    }
                }
                Placement::Append => {
                    session.push(held, false, &mut self.window, now);
                }
            }
            let span = session.open_span(held.unit.pts);
            let gop = held.from.gop;
            self.held = None;
            if span.is_some_and(|span| span >= ASK_FOR_IDR) && self.asked_for_idr != Some(gop) {
                self.asked_for_idr = Some(gop);
                self.stats.long_gops += 1;
                self.actions.push_back(Action::RequestIdr);
                self.report(Report::LongGop);
            }
        }
    }

    /// Footage that is not sent is done with what is before it.
    fn left_out(&mut self, from: Position, next: Position, now: Instant) {
        let before = self.window.committed();
        self.window.pass(from, next, now);
        if self.window.committed() != before {
            self.actions.push_back(Action::Commit(self.window.committed()));
        }
    }

    /// The session that takes footage ends; its last acks are still awaited.
    pub(super) fn retire(&mut self, now: Instant) {
        let not_before = self.last_call.map_or(now, |call| call + CALL_SPACING);
        let Link::Up(mut session) = std::mem::replace(&mut self.link, Link::Down(not_before)) else { return };
        session.finish(&mut self.window, now);
        self.draining.push(*session);
        if self.has_gap {
            self.has_gap = false;
            self.restart_reading();
        }
        self.rotate_at = None;
    }

    /// Reads again from the first gap, if that is not where reading stands.
    fn restart_reading(&mut self) {
        let gap = self.window.first_gap();
        let ahead = self.ahead.begins().unwrap_or(self.read_at);
        let stands = self.held.as_ref().map_or(ahead, |held| held.from);
        if gap < stands {
            self.drop_held();
            self.read_at = gap;
        }
    }

    pub(super) fn link_down(&mut self, fault: Fault, now: Instant) {
        let delay = match fault.class.needs_a_person() {
            true => self.backoff.failed_with(RETRY_REFUSED, &mut self.rng),
            false => self.backoff.failed(&mut self.rng),
        };
        self.link = Link::Down(now + delay);
        self.rotate_at = None;
        self.has_gap = false;
        self.drop_held();
        self.read_at = self.window.first_gap();
        self.stats.failures += 1;
        self.report(Report::Failed { fault, retry_in: delay });
        // What was read is let go, and would have to be read again.
        self.is_stopping |= self.is_ending;
    }

    /// The connection is of no more use: what it did not get done is sent again.
    pub(super) fn fail(&mut self, id: SessionId, fault: Fault, now: Instant) {
        if self.session(id).is_none() {
            return;
        }
        self.actions.push_back(Action::Close(id));
        self.suspect_first(id, &fault, now);
        self.stats.fragments_to_resend += self.window.forget(id) as u64;
        if let Some(index) = self.draining.iter().position(|session| session.id == id) {
            self.draining.remove(index);
            match &self.link {
                // The one after it has not been answered either: it is the service, not the connection.
                Link::Up(session) if session.head().is_none() => {
                    let current = session.id;
                    self.actions.push_back(Action::Close(current));
                    self.stats.fragments_to_resend += self.window.forget(current) as u64;
                    self.link_down(fault, now);
                }
                // What it leaves behind lies before what is being sent: a new session fills the gap at the next IDR.
                Link::Up(_) => {
                    self.has_gap |= self.window.first_gap() < self.read_at;
                    self.drain_failed(fault);
                }
                Link::Connecting(..) | Link::Down(_) => {
                    self.restart_reading();
                    self.drain_failed(fault);
                }
            }
        } else {
            self.link_down(fault, now);
        }
        self.pump(now);
    }

    fn drain_failed(&mut self, fault: Fault) {
        self.stats.failures += 1;
        self.report(Report::Failed { fault, retry_in: Duration::ZERO });
    }

    /// Counts how many connections in a row have ended at the same fragment without a word about it.
    fn suspect_first(&mut self, id: SessionId, fault: &Fault, now: Instant) {
        if !matches!(fault.class, FaultClass::Error(error) if error.disposition() == Disposition::Skip) {
            return;
        }
        let Some(first) = self.window.undone(id).next().copied() else { return };
        let count = match self.suspect {
            Some((position, count)) if position == first.from => count + 1,
            _ => 1,
        };
        self.suspect = Some((first.from, count));
        if count >= POISON_LIMIT
            && let FaultClass::Error(error) = fault.class
        {
            self.suspect = None;
            self.skip(id, first.timecode, error, now);
        }
    }

    fn skip(&mut self, id: SessionId, timecode: i64, error: ErrorId, now: Instant) {
        if let Some((from, end)) = self.window.skip(id, timecode, now) {
            self.stats.fragments_skipped += 1;
            self.report(Report::Skipped { from, end, error });
            self.actions.push_back(Action::Commit(self.window.committed()));
        }
    }

    /// Takes an ack; returns whether it ended the session.
    pub(super) fn ack(&mut self, id: SessionId, ack: &FragmentAck, now: Instant) -> bool {
        let done = if self.settings.has_retention { AckKind::Persisted } else { AckKind::Received };
        match ack.kind {
            AckKind::Buffering => self.stats.acks_buffering += 1,
            AckKind::Received => self.stats.acks_received += 1,
            AckKind::Persisted => self.stats.acks_persisted += 1,
            AckKind::Idle => self.stats.acks_idle += 1,
            AckKind::Error(error) => {
                self.stats.acks_error += 1;
                let known = ack.timecode.is_some_and(|timecode| self.window.undone(id).any(|e| e.timecode == timecode));
                if let Some(timecode) = ack.timecode.filter(|_| known)
                    && error.disposition() == Disposition::Skip
                {
                    self.skip(id, timecode, error, now);
                }
                if error.0 == 4003 {
                    // The normal end of a long connection is no failure.
                    self.backoff.succeeded();
                }
                self.fail(id, Fault::error(error), now);
                return true;
            }
        }
        let Some(timecode) = ack.timecode else { return false };
        let before = self.window.committed();
        if !self.window.ack(id, timecode, ack.kind, done, now) && ack.kind != AckKind::Idle {
            self.stats.acks_unexpected += 1;
        }
        let committed = self.window.committed();
        if committed != before {
            self.backoff.succeeded();
            self.suspect = None;
            self.actions.push_back(Action::Commit(committed));
        }
        false
    }

    /// The response is complete.
    pub(super) fn ended(&mut self, id: SessionId, now: Instant) {
        let is_finished = self.session(id).is_some_and(Session::is_finished);
        if !is_finished || self.window.undone(id).next().is_some() {
            let why = "the service ended the connection";
            self.fail(id, Fault::new(FaultClass::Network, why.to_owned()), now);
            return;
        }
        self.actions.push_back(Action::Close(id));
        self.draining.retain(|session| session.id != id);
        self.report(Report::Ended(id));
    }
}

//! What a session does next: decided without waiting, from what came and what is due.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::config::Dump;
use crate::error::{ErrorId, Rejection};
use crate::fault::Cut;
use crate::http::body::Body;
use crate::record::SessionEnd;
use crate::rule::Rule;
use crate::session::acks::{Ack, AckQueue};
use crate::session::faults::{Progress, SessionFaults, Strike};
use crate::session::ingest::{Ingest, Treatment};
use crate::session::request::Admission;
use crate::session::store::Persisting;
use crate::state::Shared;

pub(crate) const READ_SIZE: usize = 64 * 1024;
/// A throttled session reads this often.
const THROTTLED_READS_PER_SECOND: u64 = 20;

/// How the connection is ended, and what the record says.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) why: SessionEnd,
    pub(crate) how: Close,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Close {
    /// Everything that is queued, the end of the response, FIN.
    Orderly,
    Cut(Cut),
    /// The peer has gone already.
    Drop,
}

pub(crate) type Flow = ControlFlow<End>;

#[derive(Debug)]
pub(crate) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) admission: Admission,
    pub(super) body: Body,
    pub(super) ingest: Ingest,
    pub(super) acks: AckQueue,
    pub(super) faults: SessionFaults,
    pub(super) answered: bool,
    pub(super) opened: Instant,
    pub(super) last_data: Instant,
    pub(super) last_idle_ack: Instant,
    pub(super) bytes: u64,
    pub(super) unrecorded_bytes: u64,
    /// What was read but not looked at when a stall began.
    pub(super) held: Bytes,
    pub(super) stalled_until: Option<Instant>,
    /// Whether a silent session still reads.
    pub(super) silent: Option<bool>,
    /// Throttling: no reading before that.
    pub(super) read_after: Instant,
    /// Index, timecode and number of the fragment that is coming in.
    pub(super) fragment: Option<(u32, i64, String)>,
    pub(super) persisting: VecDeque<Persisting>,
    pub(super) replaced_deadline: Option<Instant>,
}

pub(crate) fn orderly(why: SessionEnd) -> Flow {
    Break(End { why, how: Close::Orderly })
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, admission: Admission, now: Instant) -> Self {
        let treatment = Treatment {
            strict: admission.strict,
            record_blocks: shared.config.record_blocks,
            copy: admission.dump != Dump::Off,
            origin_ms: admission.origin_ms,
        };
        Self {
            shared,
            body: Body::new(admission.framing),
            ingest: Ingest::new(treatment),
            acks: AckQueue::new(admission.answer_last && !admission.expects_continue),
            admission,
            faults: SessionFaults::default(),
            answered: false,
            opened: now,
            last_data: now,
            last_idle_ack: now,
            bytes: 0,
            unrecorded_bytes: 0,
            held: Bytes::new(),
            stalled_until: None,
            silent: None,
            read_after: now,
            fragment: None,
            persisting: VecDeque::new(),
            replaced_deadline: None,
        }
    }

    fn progress(&self) -> Progress {
        let (fragments, fragment_bytes) = self.ingest.position();
        Progress { answered: self.answered, bytes: self.bytes, fragments, fragment_bytes }
    }

    pub(super) fn begin(&mut self, now: Instant) -> Flow {
        // Older sessions of the stream learn that they are replaced.
        self.shared.order();
        self.look_for_orders(now)?;
        self.tick(now)
    }

    pub(super) fn look_for_orders(&mut self, now: Instant) -> Flow {
        let progress = self.progress();
        let (cleared, deadline) = {
            let mut state = self.shared.lock();
            let cleared = self.faults.refresh(&mut state.faults, &self.admission.stream, progress);
            let stream = state.streams.get(&self.admission.stream);
            let grace = self.shared.config.overlap_grace;
            (cleared, stream.and_then(|stream| stream.replaced_deadline(self.admission.session, grace)))
        };
        if cleared {
            return Break(End { why: SessionEnd::Cut, how: Close::Cut(Cut::Reset) });
        }
        self.replaced_deadline = deadline;
        self.acks.policy = self.faults.ack_policy();
        self.strike(now)
    }

    fn strike(&mut self, now: Instant) -> Flow {
        let progress = self.progress();
        loop {
            let strike = self.faults.strike(&mut self.shared.lock().faults, progress);
            match strike {
                None => return Continue(()),
                Some(Strike::Cut(how)) => return Break(End { why: SessionEnd::Cut, how: Close::Cut(how) }),
                Some(Strike::Stall(time)) => self.stalled_until = Some(now + time),
                Some(Strike::Silent { read }) => self.silent = Some(read),
                Some(Strike::Error(rejection)) => return self.reject(&rejection, now),
            }
        }
    }

    /// How much may be read now; `None`: nothing.
    pub(super) fn read_limit(&self, now: Instant) -> Option<usize> {
        if self.stalled_until.is_some() || self.silent == Some(false) || now < self.read_after {
            return None;
        }
        let throttled =
            self.faults.throttle().map_or(READ_SIZE as u64, |bits| (bits / 8 / THROTTLED_READS_PER_SECOND).max(64));
        Some(usize::try_from(throttled).unwrap_or(READ_SIZE).min(READ_SIZE))
    }

    pub(super) fn next_due(&self, now: Instant) -> Instant {
        let config = &self.shared.config;
        let far = now + Duration::from_secs(3600);
        if self.silent.is_some() {
            return far;
        }
        let waiting = self.stalled_until.or((self.read_after > now).then_some(self.read_after));
        let idle_ack = self.last_data.max(self.last_idle_ack) + config.idle_ack_every;
        let idle = Some(idle_ack.min(self.last_data + config.idle_timeout));
        [
            self.acks.next_due(now),
            self.persisting.front().map(|fragment| fragment.due),
            waiting,
            idle.filter(|_| self.stalled_until.is_none() && !self.body.is_complete()),
            config.max_connection.map(|limit| self.opened + limit).filter(|_| self.answered),
            self.replaced_deadline.filter(|_| self.answered),
        ]
        .into_iter()
        .flatten()
        .fold(far, Instant::min)
    }

    /// What came from the producer, chunk framing included.
    pub(super) fn input(&mut self, input: &[u8], now: Instant) -> Flow {
        if let Some(bits) = self.faults.throttle() {
            self.read_after =
                self.read_after.max(now) + Duration::from_secs_f64(input.len() as f64 * 8.0 / bits as f64);
        }
        if input.is_empty() || self.silent.is_some() {
            return Continue(());
        }
        self.last_data = now;
        let mut rest = input;
        while !rest.is_empty() {
            if self.stalled_until.is_some() {
                self.held = [self.held.as_ref(), rest].concat().into();
                return Continue(());
            }
            let (piece, after) = rest.split_at(self.faults.stride(self.progress()).min(rest.len()));
            self.bytes += piece.len() as u64;
            self.unrecorded_bytes += piece.len() as u64;
            self.wire(piece, now)?;
            if self.faults.is_waiting() {
                self.strike(now)?;
                if self.silent.is_some() {
                    return Continue(());
                }
            }
            rest = after;
        }
        Continue(())
    }

    pub(super) fn peer_gone(&mut self, ended: io::Result<usize>, now: Instant) -> Flow {
        let why = match ended {
            // The media had all come: it is stored, although nobody will hear of it.
            _ if self.body.is_complete() && self.silent.is_none() => match self.persist_until(None, now) {
                Ok(()) => SessionEnd::EndOfBody,
                Err(error) => SessionEnd::Broken(error.to_string()),
            },
            Ok(_) => SessionEnd::Closed,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => SessionEnd::Closed,
            Err(error) => SessionEnd::Broken(error.to_string()),
        };
        Break(End { why, how: Close::Drop })
    }

    /// What is due.
    pub(super) fn tick(&mut self, now: Instant) -> Flow {
        if self.silent.is_some() {
            return Continue(());
        }
        if self.stalled_until.is_some_and(|until| until <= now) {
            self.stalled_until = None;
            self.last_data = now;
            let held = std::mem::take(&mut self.held);
            self.answer(now)?;
            self.input(&held, now)?;
        }
        if self.stalled_until.is_none() {
            self.answer(now)?;
        }
        if !self.answered {
            return Continue(());
        }
        if let Err(error) = self.persist_until(Some(now), now) {
            return orderly(SessionEnd::Broken(error.to_string()));
        }
        if self.body.is_complete() {
            self.acks.held = false;
        }
        if self.body.is_complete() && self.persisting.is_empty() {
            return orderly(SessionEnd::EndOfBody);
        }
        if self.shared.config.max_connection.is_some_and(|limit| now >= self.opened + limit) {
            return self.reject(&Rejection::new(ErrorId::MAX_CONNECTION_DURATION_REACHED, "as configured"), now);
        }
        if self.replaced_deadline.is_some_and(|deadline| deadline <= now) {
            return self.replaced(now);
        }
        self.idle(now)
    }

    fn answer(&mut self, now: Instant) -> Flow {
        if std::mem::replace(&mut self.answered, true) {
            return Continue(());
        }
        if self.admission.expects_continue {
            self.acks.push_bytes(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), now);
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nx-amzn-RequestId: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            self.admission.request_id
        );
        self.acks.push_bytes(head.into_bytes(), now);
        match self.admission.rejection.take() {
            Some(rejection) => self.reject(&rejection, now),
            None => self.strike(now),
        }
    }

    fn replaced(&mut self, now: Instant) -> Flow {
        if self.admission.strict && !self.body.is_complete() && !self.faults.disturb() {
            let detail = format!("still open {:?} after a newer session began", self.shared.config.overlap_grace);
            self.record(|stream, session| stream.violation(Some(session), Rule::ConcurrentSession, detail));
        }
        match self.persist_until(None, now) {
            Ok(()) => orderly(SessionEnd::Replaced),
            Err(error) => orderly(SessionEnd::Broken(error.to_string())),
        }
    }

    fn idle(&mut self, now: Instant) -> Flow {
        let config = &self.shared.config;
        if self.stalled_until.is_some() || self.body.is_complete() {
            return Continue(());
        }
        if now >= self.last_data + config.idle_timeout {
            return match self.persist_until(None, now) {
                Ok(()) => orderly(SessionEnd::Idle),
                Err(error) => orderly(SessionEnd::Broken(error.to_string())),
            };
        }
        if now >= self.last_data.max(self.last_idle_ack) + config.idle_ack_every {
            self.last_idle_ack = now;
            self.acks.push_ack(&Ack::idle(), now);
        }
        Continue(())
    }
}

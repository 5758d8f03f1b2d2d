//! Brings the log of one camera into one stream: a window of fragments over PutMedia sessions that come and go.
//!
//! Invariants:
//! * [`Delivery::committed`] never passes a fragment that is neither persisted nor refused for good.
//! * Inside a session timestamps only rise; what would break that opens a new session.
//! * A fragment begins at an IDR, except where a GOP is longer than the service allows.
//! * At most one session takes new footage; up to two more may still be waiting for their last acks.
//! * Every wait has an end that [`Delivery::deadline`] knows.

mod flow;
mod lookahead;
mod report;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgecam_media::ring::Position;
use edgecam_media::{AccessUnit, ParameterSets, Ticks, Timestamp};

pub use report::{Fault, FaultClass, Report, Stats};

use self::lookahead::Lookahead;
use crate::Backoff;
use crate::ack::AckEvent;
use crate::session::{Session, SessionId, Unit};
use crate::window::Window;

/// The service ends a connection after about 45 minutes (error 4003); Amazon's producer rotates at 40.
const SESSION_LIFE: Duration = Duration::from_secs(38 * 60);
/// Rotation of many streams spreads over this much.
const SESSION_LIFE_JITTER: Duration = Duration::from_secs(2 * 60);
/// A new session is opened this long before the token expires.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);
/// The service closes a connection after 30 s without data; ending it first gets the last fragment stored.
const IDLE_LIMIT: Duration = Duration::from_secs(15);
/// Of bytes not yet taken by the socket this much is queued at most: the rest waits in the log.
const OUT_LIMIT: usize = 256 << 10;
/// Between two PutMedia calls: the service takes 5 a second.
const CALL_SPACING: Duration = Duration::from_millis(250);
/// Between two fragments on average, and how many may come at once: the service takes 5 a second.
const FRAGMENT_SPACING: Duration = Duration::from_millis(210);
const FRAGMENT_BURST: u32 = 3;
/// First and longest wait after a failure that may pass by itself: within 5 s of its return the service has footage.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(4);
/// Longest wait after a refusal that needs a person.
const RETRY_REFUSED: Duration = Duration::from_secs(60);
/// Connect, TLS handshake and what comes before: credentials, endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A fragment that ended this many connections, without the service naming it, is taken to be the cause.
const POISON_LIMIT: u8 = 4;
/// Sessions that wait for their last acks at most, besides the one that takes footage.
const MAX_DRAINING: usize = 2;
/// When a GOP has run for this long, an IDR is asked for.
const ASK_FOR_IDR: Ticks = Ticks::from_seconds(9);

/// How to deliver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Where to begin: the cursor as it was left.
    pub start: Position,
    /// Whether the stream keeps footage: without retention no PERSISTED ever comes and RECEIVED releases a fragment.
    pub has_retention: bool,
    /// Seed for jitter and Segment ids.
    pub seed: u64,
}

/// What the caller has to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Connect to the data endpoint, sign a PutMedia request that starts at `start`, and answer with
    /// [`Delivery::connected`] or [`Delivery::connect_failed`].
    Connect {
        /// Names the connection from now on.
        session: SessionId,
        /// For `x-amzn-producer-start-timestamp`.
        start: Timestamp,
    },
    /// Close the connection; nothing more is expected from it.
    Close(SessionId),
    /// The cursor has moved: everything before is safe.
    Commit(Position),
    /// Ask the source for an IDR, if it can make one.
    RequestIdr,
    /// Something a log or a status should say.
    Report(Report),
}

#[derive(Debug)]
enum Link {
    /// Not connected; not before the instant.
    Down(Instant),
    Connecting(SessionId, Instant),
    Up(Box<Session>),
}

/// Delivers one log into one stream.
#[derive(Debug)]
pub struct Delivery {
    settings: Settings,
    window: Window,
    read_at: Position,
    /// A unit that has been read and not yet placed.
    held: Option<Unit>,
    ahead: Lookahead,
    next_tags: Vec<(String, String)>,
    link: Link,
    draining: Vec<Session>,
    backoff: Backoff,
    rng: fastrand::Rng,
    actions: VecDeque<Action>,
    next_session: u64,
    last_call: Option<Instant>,
    fragments_ready_at: Option<Instant>,
    rotate_at: Option<Instant>,
    /// A gap behind the reading position must be filled over a new session.
    has_gap: bool,
    suspect: Option<(Position, u8)>,
    asked_for_idr: Option<u64>,
    /// No more footage comes; what has come is still sent.
    is_ending: bool,
    is_stopping: bool,
    stats: Stats,
}

impl Delivery {
    /// Nothing is sent before the first unit.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            window: Window::new(settings.start),
            read_at: settings.start,
            held: None,
            ahead: Lookahead::default(),
            next_tags: Vec::new(),
            link: Link::Down(now),
            draining: Vec::new(),
            backoff: Backoff::new(RETRY_FIRST, RETRY_LONGEST),
            rng: fastrand::Rng::with_seed(settings.seed),
            actions: VecDeque::new(),
            next_session: 1,
            last_call: None,
            fragments_ready_at: None,
            rotate_at: None,
            has_gap: false,
            suspect: None,
            asked_for_idr: None,
            is_ending: false,
            is_stopping: false,
            stats: Stats::default(),
            settings,
        }
    }

    /// Whether the stream keeps footage, once that is known.
    pub fn set_retention(&mut self, has_retention: bool) {
        self.settings.has_retention = has_retention;
    }

    /// Where to read the next unit, if one can be taken now.
    pub fn wants(&mut self, now: Instant) -> Option<Position> {
        if self.is_ending || self.is_stopping || self.held.is_some() || self.window.is_full() {
            return None;
        }
        match &mut self.link {
            Link::Up(session) if session.out_bytes() > OUT_LIMIT => return None,
            Link::Up(session) => {
                let past = self.window.past(self.read_at);
                // Not into the middle of what this session is sending: that is where reading stands anyway.
                if past != self.read_at {
                    session.end_fragment(&mut self.window, now);
                    self.read_at = past;
                }
            }
            Link::Down(_) | Link::Connecting(..) => self.read_at = self.window.past(self.read_at),
        }
        Some(self.read_at)
    }

    /// The log has let go of what was wanted and goes on at `resume`: `wants` has to be asked again.
    pub fn lagged(&mut self, resume: Position, now: Instant) {
        if resume > self.read_at {
            let before = self.window.committed();
            self.window.lost(self.read_at, resume, now);
            self.read_at = resume;
            self.stats.lagged += 1;
            if self.window.committed() != before {
                self.actions.push_back(Action::Commit(self.window.committed()));
            }
        }
    }

    /// Takes the unit read at [`Delivery::wants`]; `next` is where the log goes on after it.
    pub fn unit(&mut self, unit: AccessUnit, sets: Arc<ParameterSets>, next: Position, now: Instant) {
        let from = std::mem::replace(&mut self.read_at, next);
        let tags = std::mem::take(&mut self.next_tags);
        self.ahead.push(Unit { from, next, unit, sets, has_audio: false, tags }, now);
        self.pump(now);
    }

    /// Fragment metadata, as names and values: for the next unit, if it begins a fragment. At most 10 of 128 and 256 bytes.
    pub fn tag_next(&mut self, tags: Vec<(String, String)>) {
        self.next_tags = tags;
    }

    /// The connection stands; `head` is the signed request head. `token_expires` ends the session in time.
    pub fn connected(&mut self, id: SessionId, head: Vec<u8>, token_expires: Option<Instant>, now: Instant) {
        let (sets, has_audio) = match (&self.link, &self.held) {
            (Link::Connecting(expected, _), Some(held)) if *expected == id => (held.sets.clone(), held.has_audio),
            _ => {
                self.actions.push_back(Action::Close(id));
                return;
            }
        };
        let mut uid = [0; 16];
        self.rng.fill(&mut uid);
        let life = SESSION_LIFE - SESSION_LIFE_JITTER.mul_f64(self.rng.f64());
        let token = token_expires.map(|expires| expires.checked_sub(TOKEN_MARGIN).unwrap_or(now));
        self.rotate_at = Some(token.map_or(now + life, |token| token.min(now + life)));
        self.link = Link::Up(Box::new(Session::open(id, head, (sets, has_audio), uid, now)));
        self.stats.sessions += 1;
        self.pump(now);
    }

    /// The connection could not be made, or the request not be signed.
    pub fn connect_failed(&mut self, id: SessionId, fault: Fault, now: Instant) {
        if matches!(&self.link, Link::Connecting(expected, _) if *expected == id) {
            self.link_down(fault, now);
        }
    }

    /// Bytes to write to the connection, in order.
    pub fn out(&self, id: SessionId) -> Option<&VecDeque<Bytes>> {
        self.session(id).map(Session::out)
    }

    /// The connection has taken `count` bytes.
    pub fn written(&mut self, id: SessionId, count: usize, now: Instant) {
        self.stats.bytes_sent += count as u64;
        if let Some(session) = self.session_mut(id) {
            session.written(count, now);
        }
    }

    /// The connection has brought bytes.
    pub fn received(&mut self, id: SessionId, bytes: &[u8], now: Instant) {
        let Some(session) = self.session_mut(id) else { return };
        let was_accepted = session.head().is_some();
        let events = match session.received(bytes, now) {
            Ok(events) => events,
            Err(error) => return self.fail(id, Fault::new(FaultClass::Protocol, error.to_string()), now),
        };
        let status = session.head().map(|head| head.status);
        let has_ended = session.has_ended();
        if let Some(status) = status.filter(|status| *status != 200) {
            // The message is in the body.
            if has_ended {
                let fault = Fault::refused(status, session.head(), &session.error_message());
                self.fail(id, fault, now);
            }
            return;
        }
        if status == Some(200) && !was_accepted {
            self.report(Report::Accepted(id));
        }
        for event in events {
            match event {
                AckEvent::Ack(ack) => {
                    if self.ack(id, &ack, now) {
                        return;
                    }
                }
                AckEvent::Unreadable => self.stats.acks_unreadable += 1,
            }
        }
        if has_ended {
            self.ended(id, now);
        }
        self.pump(now);
    }

    /// The peer has closed the connection, or reading or writing has failed.
    pub fn closed(&mut self, id: SessionId, why: &str, now: Instant) {
        let Some(session) = self.session(id) else { return };
        let fault = match session.head() {
            Some(head) if head.status != 200 => Fault::refused(head.status, Some(head), &session.error_message()),
            _ => Fault::new(FaultClass::Network, why.to_owned()),
        };
        if session.is_finished() && self.window.undone(id).next().is_none() {
            self.ended(id, now);
        } else {
            self.fail(id, fault, now);
        }
    }

    /// When [`Delivery::tick`] has to be called at the latest.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let link = match &self.link {
            Link::Down(retry) => self.held.is_some().then_some(*retry),
            Link::Connecting(_, since) => Some(*since + CONNECT_TIMEOUT),
            Link::Up(session) => {
                let paced = self.held.as_ref().and(self.fragments_ready_at).filter(|at| *at > now);
                let silence = session.deadline(&self.window, now).map(|(at, _)| at);
                [paced, silence, Some(session.last_unit + IDLE_LIMIT)].into_iter().flatten().min()
            }
        };
        let draining = self.draining.iter().filter_map(|session| session.deadline(&self.window, now)).map(|(at, _)| at);
        draining.chain(link).chain(self.ahead.deadline().filter(|_| self.held.is_none())).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        if let Link::Connecting(id, since) = self.link
            && now >= since + CONNECT_TIMEOUT
        {
            self.actions.push_back(Action::Close(id));
            self.link_down(Fault::new(FaultClass::Network, "connecting took too long".to_owned()), now);
        }
        let up = match &self.link {
            Link::Up(session) => Some(session.as_ref()),
            _ => None,
        };
        let late = self.draining.iter().chain(up).find_map(|session| {
            let (at, what) = session.deadline(&self.window, now)?;
            (now >= at).then_some((session.id, what))
        });
        if let Some((id, what)) = late {
            self.stats.silent_peers += 1;
            self.fail(id, Fault::new(FaultClass::Silent, format!("the service went silent: {what}")), now);
        }
        if let Link::Up(session) = &self.link
            && now >= session.last_unit + IDLE_LIMIT
        {
            self.retire(now);
        }
        self.pump(now);
    }

    /// There is no more footage: sends what has been taken, then stops.
    pub fn end(&mut self, now: Instant) {
        self.is_ending = true;
        self.ahead.close();
        self.pump(now);
    }

    /// Takes no more footage, finishes what is being sent and waits for its acks.
    pub fn stop(&mut self, now: Instant) {
        self.is_stopping = true;
        self.drop_held();
        match &self.link {
            Link::Up(_) => self.retire(now),
            Link::Connecting(id, _) => {
                self.actions.push_back(Action::Close(*id));
                self.link = Link::Down(now);
            }
            Link::Down(_) => {}
        }
    }

    /// After [`Delivery::stop`]: whether there is nothing left to wait for.
    pub fn is_stopped(&self) -> bool {
        self.is_stopping && self.draining.is_empty() && matches!(self.link, Link::Down(_))
    }

    /// What to do next.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Everything before this is persisted or will never be.
    pub fn committed(&self) -> Position {
        self.window.committed()
    }

    /// Whether there is a connection that takes footage.
    pub fn is_connected(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    /// Whether there is a session that takes footage and the service has accepted it.
    pub fn is_up(&self) -> bool {
        matches!(&self.link, Link::Up(session) if session.head().is_some())
    }

    /// Counters since the beginning.
    pub fn stats(&self) -> Stats {
        Stats {
            in_flight: self.window.len() as u64,
            failures_in_a_row: u64::from(self.backoff.failures()),
            ..self.stats
        }
    }

    fn session(&self, id: SessionId) -> Option<&Session> {
        match &self.link {
            Link::Up(session) if session.id == id => Some(session),
            _ => self.draining.iter().find(|session| session.id == id),
        }
    }

    fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        match &mut self.link {
            Link::Up(session) if session.id == id => Some(session),
            _ => self.draining.iter_mut().find(|session| session.id == id),
        }
    }

    /// What was read and not placed will be read again.
    fn drop_held(&mut self) {
        self.held = None;
        self.ahead.clear();
    }

    fn report(&mut self, report: Report) {
        self.actions.push_back(Action::Report(report));
    }
}

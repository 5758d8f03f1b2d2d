//! One accepted connection: bytes both ways, until it ends.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use rumqttc::Publish;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::attempts::{Closed, Suspect};
use super::client::{Shared, unpack};
use super::connect::{Stream, untrusted};
use super::limits::Pace;
use super::message::Incoming;
use super::session::{Effect, Origin, Session};
use super::status::Reason;
use super::wire::Decoder;
use crate::event::outbox::Next;
use crate::host::{certificate, wall_clock};

/// For what still waits when it is told to end.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// A connection can last longer than a certificate.
const LOOK_AT_CERTIFICATE: Duration = Duration::from_secs(24 * 3600);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was told to.
    Left,
    /// The broker closed it.
    Closed(Closed),
    /// Anything else.
    Broke(Reason, String),
}

/// A connection that is being served.
pub(super) struct Serving<'a> {
    shared: &'a Shared,
    stream: Box<dyn Stream>,
    needs_flush: bool,
    session: Session,
    decoder: Decoder,
    pace: Pace,
    held_back: &'a BTreeMap<String, Instant>,
    leave_until: Option<Instant>,
    certificate_looked_at: Instant,
}

enum Happened {
    Told,
    Read(Box<[u8]>),
    Written,
    Ended(io::Result<()>),
    Changed,
    Due,
}

impl<'a> Serving<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        stream: Box<dyn Stream>,
        session: Session,
        held_back: &'a BTreeMap<String, Instant>,
    ) -> Self {
        shared.status().refused_filters.clear();
        shared.states().send_all();
        let now = Instant::now();
        Self {
            shared,
            stream,
            needs_flush: false,
            session,
            decoder: Decoder::default(),
            pace: Pace::new(now),
            held_back,
            leave_until: None,
            certificate_looked_at: now,
        }
    }

    /// What is left of it: its session, and what the broker may have closed it over.
    pub(super) fn end(self) -> (Session, Option<Suspect>) {
        let filters = self.session.unanswered_filters();
        let suspect = match self.session.oldest() {
            _ if !filters.is_empty() => Some(Suspect::Subscribe(filters)),
            Some(message) => {
                let number = match message.origin {
                    Origin::Outbox(sequence) => Some(sequence),
                    Origin::State => None,
                };
                Some(Suspect::Publish(message.packet.topic.clone(), number))
            }
            None => None,
        };
        (self.session, suspect)
    }

    /// Serves it until it ends.
    pub(super) async fn serve(&mut self, cancel: &CancellationToken) -> End {
        loop {
            let paced = self.fill(Instant::now());
            let deadline = [Some(self.session.deadline()), paced, self.leave_until].into_iter().flatten().min();
            let happened = self.select(deadline, paced.is_none(), cancel).await;
            if let Some(end) = self.apply(happened) {
                return end;
            }
        }
    }

    /// Sends what may be sent; when more may be, if only the pace holds it up.
    fn fill(&mut self, now: Instant) -> Option<Instant> {
        while self.session.has_room() {
            if let Err(until) = self.pace.ready(now) {
                return Some(until);
            }
            let state = self.shared.states().next();
            let (origin, (topic, payload, retain)) = match state {
                Some(state) => (Origin::State, state),
                None => match self.shared.outbox.take() {
                    Next::Message(sequence, body) => match unpack(&body) {
                        Some(message) => (Origin::Outbox(sequence), message),
                        None => {
                            self.shared.outbox.done(sequence);
                            continue;
                        }
                    },
                    Next::Loading | Next::Nothing => return None,
                },
            };
            if self.held_back.get(&topic).is_some_and(|until| *until > now) {
                self.shared.status().refused += 1;
                if let Origin::Outbox(sequence) = origin {
                    self.shared.outbox.done(sequence);
                }
                continue;
            }
            self.pace.sent(payload.len());
            self.session.publish(origin, topic, payload, retain);
        }
        None
    }

    async fn select(&mut self, deadline: Option<Instant>, may_send: bool, cancel: &CancellationToken) -> Happened {
        let has_room = self.session.has_room() && may_send;
        let is_told = self.leave_until.is_some();
        let (stream, out, needs_flush) = (&mut self.stream, &mut self.session.out, &mut self.needs_flush);
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled(), if !is_told => Happened::Told,
            happened = poll_fn(|cx| poll(stream, out, needs_flush, cx)) => happened,
            () = self.shared.changed.notified(), if has_room => Happened::Changed,
            () = self.shared.outbox.changed(), if has_room => Happened::Changed,
            () = due => Happened::Due,
        }
    }

    fn apply(&mut self, happened: Happened) -> Option<End> {
        let now = Instant::now();
        match happened {
            Happened::Told => self.leave_until = Some(now + LEAVE_WITHIN),
            Happened::Read(bytes) => {
                self.session.read(now);
                self.decoder.feed(&bytes);
                loop {
                    match self.decoder.next() {
                        Ok(Some(packet)) => {
                            let effect = self.session.receive(packet);
                            self.perform(effect);
                        }
                        Ok(None) => break,
                        Err(error) => return Some(End::Broke(Reason::Protocol, error.to_string())),
                    }
                }
            }
            Happened::Written => self.session.written(now),
            Happened::Ended(result) => return Some(self.ended(result)),
            Happened::Changed => {}
            Happened::Due => {
                if self.session.tick(now).is_err() {
                    let message = "the broker does not answer any more".to_owned();
                    return Some(End::Broke(Reason::Network, message));
                }
                self.look_at_certificate(now);
            }
        }
        self.leave(now)
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Deliver(publish, too_large) => {
                let Publish { topic, payload, retain, .. } = publish;
                self.shared.deliver(Incoming { topic, payload, retain, too_large });
            }
            Effect::Delivered(origin) => {
                if let Origin::Outbox(sequence) = origin {
                    self.shared.outbox.done(sequence);
                }
                self.shared.status().published += 1;
            }
            Effect::Subscribed { refused } => {
                if !refused.is_empty() {
                    let filters = refused.join("`, `");
                    let message = format!("the broker's policy does not allow subscribing to `{filters}`");
                    tracing::warn!("MQTT: {message}");
                    let mut status = self.shared.status();
                    status.last_error = Some(message);
                    status.refused_filters.extend(refused);
                }
            }
            Effect::None => {}
        }
    }

    fn ended(&self, result: io::Result<()>) -> End {
        let error = match result {
            Ok(()) => return End::Closed(Closed::Orderly),
            Err(error) => error,
        };
        if let Some(failure) = untrusted(&error, &self.shared.settings.connection) {
            return End::Broke(failure.reason, failure.message);
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => End::Closed(Closed::Cut),
            _ => End::Broke(Reason::Network, format!("the connection broke: {error}")),
        }
    }

    /// Once it was told to end: whether all has been sent, or there is no time left.
    fn leave(&mut self, now: Instant) -> Option<End> {
        let until = self.leave_until?;
        let is_done = self.session.is_idle()
            && self.session.out.is_empty()
            && !self.needs_flush
            && self.shared.states().is_idle()
            && self.shared.outbox.status().entries == 0;
        if !is_done && now < until {
            return None;
        }
        self.session.disconnect();
        let (stream, out) = (&mut self.stream, &mut self.session.out);
        // As far as the socket takes it: the process is about to end.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        if Pin::new(&mut *stream).poll_write(&mut cx, out).is_ready() {
            drop(Pin::new(&mut *stream).poll_flush(&mut cx));
            drop(Pin::new(stream).poll_shutdown(&mut cx));
        }
        Some(End::Left)
    }

    fn look_at_certificate(&mut self, now: Instant) {
        if now.saturating_duration_since(self.certificate_looked_at) < LOOK_AT_CERTIFICATE {
            return;
        }
        self.certificate_looked_at = now;
        let expires = self.shared.status().certificate_expires;
        if let Some(warning) = expires.and_then(|expires| certificate::warning(expires, wall_clock())) {
            tracing::warn!("MQTT: {warning}");
        }
    }
}

/// Reads what there is, else writes what it can.
fn poll(
    stream: &mut Box<dyn Stream>,
    out: &mut BytesMut,
    needs_flush: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Happened> {
    let mut space = [0; 4096];
    let mut buffer = ReadBuf::new(&mut space);
    match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
        Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Happened::Ended(Ok(()))),
        Poll::Ready(Ok(())) => return Poll::Ready(Happened::Read(buffer.filled().into())),
        Poll::Ready(Err(error)) => return Poll::Ready(Happened::Ended(Err(error))),
        Poll::Pending => {}
    }
    if !out.is_empty() {
        match Pin::new(&mut *stream).poll_write(cx, out) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Happened::Ended(Ok(()))),
            Poll::Ready(Ok(count)) => {
                out.advance(count);
                if out.is_empty() {
                    // A large message does not leave a large buffer behind.
                    *out = BytesMut::new();
                }
                *needs_flush = true;
                return Poll::Ready(Happened::Written);
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Happened::Ended(Err(error))),
            Poll::Pending => return Poll::Pending,
        }
    }
    if *needs_flush {
        match Pin::new(stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => *needs_flush = false,
            Poll::Ready(Err(error)) => return Poll::Ready(Happened::Ended(Err(error))),
            Poll::Pending => {}
        }
    }
    Poll::Pending
}

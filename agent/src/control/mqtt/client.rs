//! The handle that the rest of the agent publishes with, and what it shares with the connection.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};

use super::limits;
use super::message::{Incoming, Kind, Message, Refused};
use super::settings::Settings;
use super::states::States;
use super::status::{Link, MqttState, MqttStatus};
use crate::event::outbox::{Importance, Outbox};
use crate::host::wall_clock;

/// Messages that wait for whoever acts on them.
const INBOX: usize = 8;
/// Messages that found no room there and wait to be answered with `busy`.
const OVERFLOW: usize = 64;

/// A client of one broker. Clones share it.
#[derive(Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
}

/// Where messages arrive.
#[derive(Debug)]
pub struct Inbox {
    /// Messages to act on.
    pub messages: mpsc::Receiver<Incoming>,
    /// Messages that found no room there: to be answered with `busy`.
    pub overflow: mpsc::Receiver<Incoming>,
}

/// What handles and connection share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) outbox: Outbox,
    states: Mutex<States>,
    /// A state has changed.
    pub(super) changed: Notify,
    status: Mutex<MqttStatus>,
    link: watch::Sender<Link>,
    messages: mpsc::Sender<Incoming>,
    overflow: mpsc::Sender<Incoming>,
}

impl Client {
    /// A client that is not connected yet: [`super::run`] does that. Fails only if no thread can be started.
    pub fn new(settings: Settings) -> io::Result<(Self, Inbox)> {
        let (messages, inbox) = mpsc::channel(INBOX);
        let (overflow, busy) = mpsc::channel(OVERFLOW);
        let status = MqttStatus { since: wall_clock(), ..MqttStatus::default() };
        let shared = Shared {
            outbox: Outbox::open(&settings.connection.outbox)?,
            settings,
            states: Mutex::default(),
            changed: Notify::new(),
            status: Mutex::new(status),
            link: watch::Sender::default(),
            messages,
            overflow,
        };
        shared.outbox.hurry(true);
        Ok((Self { shared: Arc::new(shared) }, Inbox { messages: inbox, overflow: busy }))
    }

    /// Takes a message that is sent as soon as the broker takes it. Never waits; a message that breaks a limit of AWS
    /// IoT is refused and never sent.
    pub fn publish(&self, message: Message) -> Result<(), Refused> {
        let Message { topic, payload, retain, kind } = message;
        let checked = limits::topic(&topic).and_then(|()| limits::payload(payload.len()));
        let taken = checked.and_then(|()| match kind {
            Kind::State => {
                self.shared.states().set(topic.clone(), payload, retain)?;
                self.shared.changed.notify_one();
                Ok(())
            }
            Kind::Report => {
                self.shared.outbox.push(Importance::Normal, pack(&topic, &payload, retain));
                Ok(())
            }
            Kind::Reply => {
                self.shared.outbox.push(Importance::High, pack(&topic, &payload, retain));
                Ok(())
            }
        });
        taken.map_err(|reason| {
            self.shared.status().refused += 1;
            Refused { topic, reason }
        })
    }

    /// Whether the broker can be reached, now and from now on.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.shared.link.subscribe()
    }

    /// What the connection is doing, what waits, what was lost.
    pub fn status(&self) -> MqttStatus {
        MqttStatus { outbox: self.shared.outbox.status(), ..self.shared.status().clone() }
    }

    /// Waits until each report and reply has been acknowledged or is on disk, or the disk has failed.
    pub async fn settled(&self) {
        self.shared.outbox.settled().await;
    }
}

impl Shared {
    pub(super) fn status(&self) -> MutexGuard<'_, MqttStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the connection is doing has changed.
    pub(super) fn is_now(&self, state: MqttState) {
        let is_up = matches!(state, MqttState::Connected);
        let number = {
            let mut status = self.status();
            if status.state != state {
                (status.state, status.since) = (state, wall_clock());
            }
            status.connections += u64::from(is_up);
            status.connections
        };
        self.link.send_if_modified(|link| {
            let new = if is_up { Link::Up(number) } else { Link::Down };
            std::mem::replace(link, new) != new
        });
        // While the broker takes messages at once they need not be written.
        self.outbox.hurry(!is_up);
    }

    /// A message has come: to be acted on, or to be answered with `busy`, or to be counted.
    pub(super) fn deliver(&self, incoming: Incoming) {
        let refused = match self.messages.try_send(incoming) {
            Ok(()) => false,
            Err(TrySendError::Full(incoming) | TrySendError::Closed(incoming)) => {
                self.overflow.try_send(incoming).is_err()
            }
        };
        let mut status = self.status();
        status.received += 1;
        status.received_and_dropped += u64::from(refused);
    }
}

/// A message as the outbox keeps it: length of the topic, topic, retain, payload.
fn pack(topic: &str, payload: &Bytes, retain: bool) -> Bytes {
    let mut body = BytesMut::with_capacity(3 + topic.len() + payload.len());
    body.put_u16_le(topic.len() as u16);
    body.extend_from_slice(topic.as_bytes());
    body.put_u8(u8::from(retain));
    body.extend_from_slice(payload);
    body.freeze()
}

/// The message again: topic, payload, retain. `None`: it was not one of ours.
pub(super) fn unpack(body: &Bytes) -> Option<(String, Bytes, bool)> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length));
    let topic = std::str::from_utf8(rest.get(..length)?).ok()?.to_owned();
    let retain = *rest.get(length)? == 1;
    Some((topic, body.slice(2 + length + 1..), retain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_of_the_outbox_as_they_went_in() {
        let body = pack("a/b", &Bytes::from_static(b"{}"), true);
        assert_eq!(unpack(&body), Some(("a/b".to_owned(), Bytes::from_static(b"{}"), true)));
        assert_eq!(unpack(&pack("", &Bytes::new(), false)), Some((String::new(), Bytes::new(), false)));
        for damaged in [&b""[..], b"\x05", b"\x05\x00ab", b"\x02\x00ab", b"\x02\x00\xff\xfe\x00"] {
            assert_eq!(unpack(&Bytes::copy_from_slice(damaged)), None, "{damaged:?}");
        }
    }
}

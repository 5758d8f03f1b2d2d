//! Messages that wait until somebody has taken them: in order, on disk, bounded.
//!
//! Invariants: pushing never waits; what has been pushed is offered in order, and again, until it is done; bytes and entries are
//! bounded, and when there are too many the oldest of the least important goes first, counted. What is not done within
//! [`WRITE_AFTER`] is on disk and survives a killed process; [`SYNC_AFTER`] later it survives a power cut. A message
//! taken sooner is never written. One that was done shortly before a kill may be offered again: at least once.
//!
//! Deliberately absent: what a message means and where it goes.

mod log;
mod queue;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

pub use queue::{Bounds, Importance, Sequence};
use queue::{Peeked, Queue};

use crate::run::thread;

/// A message that is done within this time is not written: most are, while the receiver can be reached.
pub const WRITE_AFTER: Duration = Duration::from_millis(100);
/// From writing to the flush: a flush costs an SD card up to 50 ms and some of its life.
pub const SYNC_AFTER: Duration = Duration::from_secs(2);

/// Where messages wait, and how many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Directory for them; made if it is missing. `None`: they wait in RAM, and a restart loses them.
    pub directory: Option<PathBuf>,
    /// How many may wait.
    pub bounds: Bounds,
}

/// A queue of messages. Clones share it.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
}

/// What waits, and what was lost.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Messages that wait.
    pub entries: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that were dropped because there were too many.
    pub dropped: u64,
    /// Messages that wait in RAM alone.
    pub not_on_disk: usize,
    /// Why the disk cannot be used, for a person.
    pub error: Option<String>,
}

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// This message.
    Message(Sequence, Bytes),
    /// It is being read from the disk: [`Outbox::changed`] tells when.
    Loading,
    /// Nothing.
    Nothing,
}

struct Shared {
    state: Mutex<State>,
    /// For the thread: there may be something to do.
    disk: Condvar,
    /// For the reader: there may be something to take.
    changed: Notify,
    /// For those who wait until all is on disk.
    written: Notify,
}

struct State {
    queue: Queue,
    /// Whether what was left on disk is still being read.
    is_opening: bool,
    /// Whether messages are to be written at once.
    is_hurried: bool,
    /// A message that the reader waits for.
    wanted: Option<Sequence>,
    unwritten_since: Option<Instant>,
    gone_since: Option<Instant>,
    error: Option<String>,
    is_dropping: bool,
    has_ended: bool,
}

/// Ends the thread when the last handle goes.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.disk.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    /// Opens the outbox. What was left in the directory is read by a thread of its own and comes first.
    pub fn open(settings: &Settings) -> io::Result<Self> {
        let has_disk = settings.directory.is_some();
        let state = State {
            queue: Queue::new(settings.bounds, has_disk),
            is_opening: has_disk,
            is_hurried: false,
            wanted: None,
            unwritten_since: None,
            gone_since: None,
            error: None,
            is_dropping: false,
            has_ended: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            disk: Condvar::new(),
            changed: Notify::new(),
            written: Notify::new(),
        });
        if let Some(directory) = settings.directory.clone() {
            let shared = shared.clone();
            thread::spawn("outbox", move || writer::run(&shared, &directory))?;
        }
        Ok(Self { _owner: Arc::new(Owner(shared.clone())), shared })
    }

    /// Adds a message behind the others. It may push out less important ones, or itself.
    pub fn push(&self, importance: Importance, body: Bytes) {
        let mut state = self.shared.lock();
        let dropped = state.queue.push(importance, body);
        if dropped > 0 && !state.is_dropping {
            state.is_dropping = true;
            tracing::warn!(waiting = state.queue.len(), "the outbox is full: the oldest messages are dropped");
        }
        if state.queue.unwritten() > 0 && state.unwritten_since.is_none() {
            state.unwritten_since = Some(Instant::now());
            self.shared.disk.notify_one();
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// The first message that has not been taken; it is not offered again before [`Self::rewind`].
    pub fn take(&self) -> Next {
        let mut state = self.shared.lock();
        if state.is_opening {
            return Next::Loading;
        }
        match state.queue.take() {
            Peeked::Message(sequence, body) => Next::Message(sequence, body),
            Peeked::OnDisk(sequence) => {
                state.wanted = Some(sequence);
                self.shared.disk.notify_one();
                Next::Loading
            }
            Peeked::Nothing => Next::Nothing,
        }
    }

    /// What was taken and is not done is offered again, in order: whoever took it has lost it.
    pub fn rewind(&self) {
        self.shared.lock().queue.rewind();
        self.shared.changed.notify_one();
    }

    /// The message has arrived, or never will: it is forgotten.
    pub fn done(&self, sequence: Sequence) {
        let mut state = self.shared.lock();
        state.queue.done(sequence);
        if state.queue.len() == 0 && state.is_dropping {
            state.is_dropping = false;
            tracing::info!(dropped = state.queue.dropped(), "the outbox is empty again");
        }
        if state.queue.has_gone() && state.gone_since.is_none() {
            state.gone_since = Some(Instant::now());
            self.shared.disk.notify_one();
        }
    }

    /// Waits until there may be something to take. For one reader.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Whether messages are written at once, because none will be taken soon.
    pub fn hurry(&self, is_hurried: bool) {
        let mut state = self.shared.lock();
        if state.is_hurried != is_hurried {
            state.is_hurried = is_hurried;
            self.shared.disk.notify_one();
        }
    }

    /// Waits until each message is done or on disk, or the disk has failed.
    pub async fn settled(&self) {
        loop {
            // Made before the look: what is written in between is not missed.
            let written = self.shared.written.notified();
            {
                let mut state = self.shared.lock();
                if state.queue.unwritten() == 0 || state.error.is_some() || !state.queue.has_disk() {
                    return;
                }
                state.unwritten_since = Some(Instant::now().checked_sub(WRITE_AFTER).unwrap_or_else(Instant::now));
                self.shared.disk.notify_one();
            }
            written.await;
        }
    }

    /// What waits, and what was lost.
    pub fn status(&self) -> Status {
        let state = self.shared.lock();
        Status {
            entries: state.queue.len(),
            bytes: state.queue.bytes(),
            dropped: state.queue.dropped(),
            not_on_disk: state.queue.unwritten(),
            error: state.error.clone(),
        }
    }
}

#[cfg(test)]
mod tests;

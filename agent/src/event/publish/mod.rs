//! Events on their way to where a person wants them.
//!
//! One [`Publisher`] for each destination, whichever cameras use it: an outbox on disk and a stage that empties it, in
//! order, with back-off. Delivery is at least once: a message that was sent and not known to have arrived is sent again,
//! with the same `id`. When more than [`BOUNDS`] wait, the oldest updates go first, then the oldest of all, counted.

pub(crate) mod aws;
mod batch;
mod directory;
mod dynamodb;
mod greengrass;
mod kinesis;
mod s3;
mod task;
mod webhook;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::message::Envelope;
use super::outbox::{self, Bounds, Importance, Outbox};
use crate::config::publishers::Destination;
use crate::upload::ControlPlane;
pub use task::run;

/// What may wait for one destination.
pub const BOUNDS: Bounds = Bounds { bytes: 256 << 20, entries: 20_000 };

/// How a destination does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Messages that have arrived.
    pub published: u64,
    /// Messages that can never arrive, and were given up.
    pub refused: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Why the last attempt failed; none when it did not.
    pub error: Option<String>,
}

/// How to reach AWS: the same as uploads do.
#[derive(Clone, Default)]
pub struct Aws {
    /// Credentials and region.
    pub control: Arc<OnceCell<ControlPlane>>,
    /// Where to get them.
    pub config: crate::config::Aws,
}

/// Where events of any number of cameras go. Clones share it.
#[derive(Clone)]
pub struct Publisher {
    destination: Destination,
    outbox: Outbox,
    status: Arc<Mutex<Status>>,
}

impl Publisher {
    /// Opens what waits for `destination` below `state_dir`.
    pub fn open(destination: Destination, state_dir: &Path) -> io::Result<Self> {
        let directory = state_dir.join("outbox").join(name(&destination));
        let outbox = Outbox::open(&outbox::Settings { directory: Some(directory), bounds: BOUNDS })?;
        Ok(Self { destination, outbox, status: Arc::default() })
    }

    /// Where it goes.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Whether pictures go there too.
    pub fn takes_pictures(&self) -> bool {
        matches!(self.destination, Destination::S3 { .. } | Destination::Directory { .. })
    }

    /// Never waits.
    pub fn push(&self, envelope: &Envelope, importance: Importance) {
        self.outbox.push(importance, envelope.to_bytes(self.takes_pictures()));
    }

    /// How it does.
    pub fn status(&self) -> (Status, outbox::Status) {
        (self.status.lock().unwrap_or_else(PoisonError::into_inner).clone(), self.outbox.status())
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The same destination has the same directory, after a restart too.
fn name(destination: &Destination) -> String {
    let text = match destination {
        Destination::Kinesis { stream } => stream.clone(),
        Destination::S3 { bucket, prefix, kms_key } => {
            [bucket, "/", prefix, kms_key.as_deref().unwrap_or_default()].concat()
        }
        Destination::DynamoDb { table } => table.clone(),
        Destination::Webhook { url, .. } => url.to_string(),
        Destination::Greengrass { topic } => topic.clone(),
        Destination::Directory { path, max_bytes } => format!("{} {max_bytes}", path.display()),
    };
    // FNV-1a: the standard library's hash may change with the compiler, and what waits would be left behind.
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{}-{hash:016x}", destination.kind())
}

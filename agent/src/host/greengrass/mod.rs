//! The nucleus of AWS IoT Greengrass v2, as a component speaks to it: IPC over a Unix socket.
//!
//! Invariants: one connection, made again with back-off and jitter; each call has a deadline; messages and queues are
//! bounded; what the nucleus says is not trusted further than it can be parsed. What a nucleus does not support, or does
//! not allow, is an answer ([`Fault`]), never the end of a connection.
//!
//! Deliberately absent: what is said ([`crate::control::greengrass`]). The frames' layout and their checksums are
//! `aws-smithy-eventstream`'s.

mod call;
mod client;
mod connection;
mod fault;
pub mod frame;

pub use client::{Ipc, IpcStatus, Subscription, run};
pub use fault::Fault;

use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::Value;

use crate::config::identity::environment;
use crate::config::secret::Secret;

/// Where the nucleus listens, and who we are to it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The socket.
    pub socket: PathBuf,
    /// `SVCUID`: what the nucleus knows this component by.
    pub token: Secret,
}

impl Place {
    /// What the nucleus has told this process ("component environment variables"); `None`: it was not started by one.
    pub fn of_environment() -> Option<Self> {
        let socket = environment("AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT")?.into();
        Some(Self { socket, token: Secret::new(environment("SVCUID")?) })
    }
}

/// The connection of this process: the nucleus has started the process, and knows it as one component.
static SHARED: OnceLock<Ipc> = OnceLock::new();

/// The connection of this process; `None` when no nucleus has started it. Whoever calls this first has [`run`] to call.
pub fn shared() -> Option<&'static Ipc> {
    match SHARED.get() {
        Some(ipc) => Some(ipc),
        None => Place::of_environment().map(|place| SHARED.get_or_init(|| Ipc::new(place))),
    }
}

/// One call: over the process's connection, while there is one, else over one of its own.
pub async fn ask(operation: &'static str, request: Value) -> Result<Value, Fault> {
    match (SHARED.get().filter(|ipc| ipc.status().is_up), Place::of_environment()) {
        (Some(ipc), _) => ipc.call(operation, request).await,
        (None, Some(place)) => connection::ask(&place, operation, request).await,
        (None, None) => Err(Fault::Closed("this agent was not started by Greengrass".to_owned())),
    }
}

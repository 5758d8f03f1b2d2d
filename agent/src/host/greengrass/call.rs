//! What travels from those who ask to the connection.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::Fault;

/// An answer's way back.
pub(super) type Answer = oneshot::Sender<Result<Value, Fault>>;

/// A call: one request, one answer, and events after it where it subscribes.
pub(super) struct Call {
    /// Without `aws.greengrass#`.
    pub(super) operation: &'static str,
    pub(super) request: Value,
    pub(super) answer: Answer,
    pub(super) events: Option<mpsc::Sender<Value>>,
}

//! Messages, as the rest of the agent sees them.

use bytes::Bytes;

/// A message to be published, with QoS 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Topic; [`super::limits::topic`] says what is allowed.
    pub topic: String,
    /// Payload, at most 128 KiB.
    pub payload: Bytes,
    /// Whether the broker keeps it for those who subscribe later.
    pub retain: bool,
    /// What it is, and so how it waits.
    pub kind: Kind,
}

/// How a message waits for the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// How things are: only the newest of a topic counts, and it is sent again after each reconnect. Not kept on disk.
    State,
    /// What happened: all of them, in order, kept on disk. When there are too many the oldest go first.
    Report,
    /// An answer to a command: as a report, and goes only when no report is left to go.
    Reply,
}

/// A message that has arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Incoming {
    /// Topic.
    pub topic: String,
    /// Payload; empty when it was too large.
    pub payload: Bytes,
    /// Whether it is one the broker had kept: it may be old.
    pub retain: bool,
    /// Bytes of a payload that was over 128 KiB; it has been thrown away.
    pub too_large: Option<usize>,
}

/// A message that cannot be published, ever.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{topic}: {reason}")]
pub struct Refused {
    /// Its topic.
    pub topic: String,
    /// For a person.
    pub reason: String,
}

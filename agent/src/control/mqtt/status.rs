//! What a connection tells about itself.

use edgecam_media::Timestamp;

use crate::event::outbox;

/// What the connection is doing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum MqttState {
    /// On the way to the broker.
    #[default]
    Connecting,
    /// The broker takes messages.
    Connected,
    /// The last attempt failed or did not last; another follows.
    Waiting {
        /// What kind of failure.
        reason: Reason,
        /// For a person.
        message: String,
        /// When the next attempt is made.
        until: Timestamp,
    },
    /// It was told to end.
    Stopped,
}

/// Kinds of failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No connection, or it broke.
    Network,
    /// Our certificate or key cannot be used as it is on disk.
    Identity,
    /// One side does not trust the other's certificate.
    Tls,
    /// The broker said no, or said nothing and closed.
    Refused,
    /// Another client uses the same client id.
    TakenOver,
    /// The broker closes the connection over what we publish or subscribe to.
    Policy,
    /// What the broker sent is not MQTT 3.1.1.
    Protocol,
}

/// Gauges and counters since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MqttStatus {
    /// What it is doing.
    pub state: MqttState,
    /// Since when.
    pub since: Timestamp,
    /// Connections that the broker accepted.
    pub connections: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// What went wrong last, for a person; stays after it has been mended.
    pub last_error: Option<String>,
    /// End of our certificate.
    pub certificate_expires: Option<Timestamp>,
    /// Filters the broker does not let us subscribe to.
    pub refused_filters: Vec<String>,
    /// Topics the broker closes the connection over: held back for a while.
    pub refused_topics: Vec<String>,
    /// Messages the broker has acknowledged.
    pub published: u64,
    /// Messages that were not sent because they break a limit.
    pub refused: u64,
    /// Messages that have arrived.
    pub received: u64,
    /// Messages that have arrived and found no room at all.
    pub received_and_dropped: u64,
    /// What waits for the broker.
    pub outbox: outbox::Status,
}

/// Whether the broker can be reached, for those who act on the change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Link {
    /// No.
    #[default]
    Down,
    /// Yes: the connection of this number.
    Up(u64),
}

impl MqttState {
    /// A word for status and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Waiting { reason, .. } => reason.name(),
            Self::Stopped => "stopped",
        }
    }
}

impl Reason {
    /// A word for status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "unreachable",
            Self::Identity => "bad_identity",
            Self::Tls => "untrusted",
            Self::Refused => "refused",
            Self::TakenOver => "taken_over",
            Self::Policy => "not_allowed",
            Self::Protocol => "protocol_error",
        }
    }
}

//! What a delivery tells about itself.

use std::time::Duration;

use edgecam_media::ring::Position;
use serde::Serialize;

use crate::response::Head;
use crate::session::SessionId;
use crate::{Disposition, ErrorId};

/// Something a log or a status should say.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// The service has answered PutMedia with 200.
    Accepted(SessionId),
    /// The request and its response are complete.
    Ended(SessionId),
    /// An attempt or a session has failed.
    Failed {
        /// Why.
        fault: Fault,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The service refused a fragment for good: it will not be in the stream.
    Skipped {
        /// First position it covers.
        from: Position,
        /// Behind its last.
        end: Position,
        /// The service's reason.
        error: ErrorId,
    },
    /// A GOP is longer than the 10 s the service allows for a fragment.
    LongGop,
}

/// Why an attempt or a session has failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind of failure: what to do next follows from it.
    pub class: FaultClass,
    /// For a person.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultClass {
    /// No connection, or it broke.
    Network,
    /// The peer took data and said nothing.
    Silent,
    /// What came back is not what the service says.
    Protocol,
    /// Credentials are missing, wrong, expired, or not allowed to do this.
    Credentials,
    /// The stream does not exist.
    NotFound,
    /// The service asks for fewer calls.
    Throttled,
    /// The service has refused the request itself.
    Refused,
    /// The service has failed.
    Service,
    /// An ERROR ack.
    Error(ErrorId),
}

impl FaultClass {
    /// Whether waiting alone is unlikely to help.
    pub fn needs_a_person(self) -> bool {
        match self {
            Self::Credentials | Self::NotFound | Self::Refused => true,
            Self::Error(error) => error.disposition() == Disposition::Hold,
            Self::Network | Self::Silent | Self::Protocol | Self::Throttled | Self::Service => false,
        }
    }

    /// Whether endpoint and credentials should be fetched anew before the next attempt.
    pub fn refresh(self) -> bool {
        matches!(self, Self::Credentials | Self::NotFound | Self::Refused | Self::Network)
    }

    /// A word for metrics and status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Silent => "silent",
            Self::Protocol => "protocol",
            Self::Credentials => "credentials",
            Self::NotFound => "not_found",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Service => "service",
            Self::Error(_) => "error_ack",
        }
    }
}

impl Fault {
    /// A fault of `class`.
    pub fn new(class: FaultClass, message: String) -> Self {
        Self { class, message }
    }

    pub(crate) fn error(error: ErrorId) -> Self {
        let message = format!("KVS reports {} ({}): {}", error.name(), error.0, error.advice());
        Self::new(FaultClass::Error(error), message)
    }

    pub(crate) fn refused(status: u16, head: Option<&Head>, message: &str) -> Self {
        let error_type = head.and_then(|head| head.error_type.as_deref()).unwrap_or_default();
        let class = match (status, error_type) {
            (400, "ClientLimitExceededException" | "ConnectionLimitExceededException") | (429, _) => {
                FaultClass::Throttled
            }
            (401 | 403, _) => FaultClass::Credentials,
            (404, _) => FaultClass::NotFound,
            (500.., _) => FaultClass::Service,
            _ => FaultClass::Refused,
        };
        let request = head.and_then(|head| head.request_id.as_deref()).map(|id| format!(" (request {id})"));
        let request = request.unwrap_or_default();
        let text = format!("kinesisvideo:PutMedia was refused with HTTP {status} {error_type}: {message}{request}");
        Self::new(class, text)
    }
}

/// Counters since the beginning, and two gauges.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// PutMedia attempts, whether a connection came about or not.
    pub attempts: u64,
    /// Connections made.
    pub sessions: u64,
    /// Attempts and sessions that failed.
    pub failures: u64,
    /// Peers given up for their silence.
    pub silent_peers: u64,
    /// Bytes taken by sockets.
    pub bytes_sent: u64,
    /// Fragments begun.
    pub fragments_begun: u64,
    /// Fragments begun without an IDR, because a GOP is too long.
    pub fragments_without_idr: u64,
    /// Fragments that have to be sent again.
    pub fragments_to_resend: u64,
    /// Fragments the service refused for good.
    pub fragments_skipped: u64,
    /// Times the log had let go of what was to be sent.
    pub lagged: u64,
    /// GOPs longer than a fragment may be.
    pub long_gops: u64,
    /// BUFFERING acks.
    pub acks_buffering: u64,
    /// RECEIVED acks.
    pub acks_received: u64,
    /// PERSISTED acks.
    pub acks_persisted: u64,
    /// IDLE acks.
    pub acks_idle: u64,
    /// ERROR acks.
    pub acks_error: u64,
    /// Acks about fragments that are not in flight.
    pub acks_unexpected: u64,
    /// Bytes in the response that are no ack.
    pub acks_unreadable: u64,
    /// Gauge: fragments in flight.
    #[serde(rename = "fragments_in_flight")]
    pub in_flight: u64,
    /// Gauge: failures since the last success.
    #[serde(skip)]
    pub failures_in_a_row: u64,
}

impl Stats {
    /// The sum of two runs' counters; gauges are those of `self`.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            attempts: self.attempts + other.attempts,
            sessions: self.sessions + other.sessions,
            failures: self.failures + other.failures,
            silent_peers: self.silent_peers + other.silent_peers,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            fragments_begun: self.fragments_begun + other.fragments_begun,
            fragments_without_idr: self.fragments_without_idr + other.fragments_without_idr,
            fragments_to_resend: self.fragments_to_resend + other.fragments_to_resend,
            fragments_skipped: self.fragments_skipped + other.fragments_skipped,
            lagged: self.lagged + other.lagged,
            long_gops: self.long_gops + other.long_gops,
            acks_buffering: self.acks_buffering + other.acks_buffering,
            acks_received: self.acks_received + other.acks_received,
            acks_persisted: self.acks_persisted + other.acks_persisted,
            acks_idle: self.acks_idle + other.acks_idle,
            acks_error: self.acks_error + other.acks_error,
            acks_unexpected: self.acks_unexpected + other.acks_unexpected,
            acks_unreadable: self.acks_unreadable + other.acks_unreadable,
            in_flight: self.in_flight,
            failures_in_a_row: self.failures_in_a_row,
        }
    }
}

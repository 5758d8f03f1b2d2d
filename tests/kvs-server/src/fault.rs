//! Faults on command: what a test can order. Absent: carrying them out, which is done where they strike.

use serde::{Deserialize, Serialize};

use crate::error::ErrorId;
use crate::record::Call;

/// An order. As JSON: `{"stream":"cam1","times":2,"kind":{"cut":{"at":{"bytes":1000},"how":"reset"}}}`; without
/// `times` it is for one occurrence, with `null` it lasts until cleared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// For this stream alone; `None` is for all.
    #[serde(default)]
    pub stream: Option<String>,
    /// How many sessions or calls are to suffer it; `None`: all, until cleared.
    #[serde(default = "once")]
    pub times: Option<u32>,
    /// What is to happen.
    pub kind: FaultKind,
}

#[allow(clippy::unnecessary_wraps, reason = "the type is the field's")]
fn once() -> Option<u32> {
    Some(1)
}

impl Fault {
    /// For one occurrence, on any stream.
    #[must_use]
    pub fn once(kind: FaultKind) -> Self {
        Self::times(1, kind)
    }

    /// For so many occurrences, on any stream.
    #[must_use]
    pub fn times(times: u32, kind: FaultKind) -> Self {
        Self { stream: None, times: Some(times), kind }
    }

    /// Until cleared, on any stream.
    #[must_use]
    pub fn always(kind: FaultKind) -> Self {
        Self { stream: None, times: None, kind }
    }

    /// On this stream alone.
    #[must_use]
    pub fn on(mut self, stream: impl Into<String>) -> Self {
        self.stream = Some(stream.into());
        self
    }
}

/// What is to happen. Faults of sessions strike running sessions too, as soon as what they wait for is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The listener is closed: connections are refused. Those that are open stay. Whole server, whatever the stream.
    Refuse {
        /// Opens again after this time; `None`: when faults are cleared.
        for_ms: Option<u64>,
    },
    /// The connection is cut.
    Cut {
        /// Where.
        at: At,
        /// How.
        how: Cut,
    },
    /// Nothing is read for a time; acknowledgements that are due are still sent.
    Stall {
        /// From where on.
        at: At,
        /// For how long.
        for_ms: u64,
    },
    /// Nothing is answered any more while the connection stays open. Ends, with a reset, when faults are cleared.
    Silent {
        /// From where on.
        at: At,
        /// Read and throw away what comes, or do not even read.
        read: bool,
    },
    /// Everything works but no acknowledgement is sent.
    NoAcks,
    /// Acknowledgements are sent late.
    DelayAcks {
        /// By how much.
        ms: u64,
    },
    /// Acknowledgements of one kind are not sent.
    DropAcks {
        /// Which.
        kind: AckKind,
    },
    /// Reading is slow, with a small receive buffer.
    Throttle {
        /// Body bits per second.
        bits_per_second: u64,
    },
    /// A call is answered with an HTTP error.
    Http {
        /// Which call.
        call: Call,
        /// HTTP status.
        status: u16,
        /// `x-amzn-ErrorType`; `None`: one that goes with the status.
        #[serde(default)]
        error: Option<String>,
        /// The message; `None`: one that goes with the status.
        #[serde(default)]
        message: Option<String>,
    },
    /// A call is not answered at all.
    Unanswered {
        /// Which call.
        call: Call,
        /// Close the connection, or leave it open until the client gives up.
        close: bool,
    },
    /// The session ends with an ERROR acknowledgement when this fragment begins.
    ErrorAck {
        /// `ErrorId`.
        id: ErrorId,
        /// Index in the session, from 1.
        fragment: u32,
    },
    /// Acknowledgements are not as they should be.
    MalformedAcks {
        /// In which way.
        how: Malformed,
        /// Only those of one kind; `None`: all.
        #[serde(default)]
        kind: Option<AckKind>,
    },
    /// All credentials with a token expire now, for good: give new ones with `set_credentials`.
    ExpireToken,
}

/// A place in a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// The request has come, nothing is answered yet.
    Request,
    /// So many bytes of the body, chunk framing included, have come. 0 is "now" for a running session.
    Bytes(u64),
    /// So many bytes of a fragment have come; its end if it is shorter.
    Fragment {
        /// Index in the session, from 1.
        index: u32,
        /// Bytes of the Cluster.
        bytes: u64,
    },
}

/// How a connection is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// TCP RST.
    Reset,
    /// TCP FIN, without the end of the response or of TLS.
    Fin,
}

/// `EventType` of an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the names are the service's own")]
pub enum AckKind {
    Buffering,
    Received,
    Persisted,
    Error,
    Idle,
}

/// How an acknowledgement is spoilt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Malformed {
    /// One acknowledgement over several chunks, each in a TCP segment of its own.
    SplitChunks,
    /// One chunk over several TCP segments.
    SplitSegments,
    /// Several acknowledgements in one chunk.
    Coalesced,
    /// Without FragmentTimecode.
    NoTimecode,
    /// With a FragmentTimecode of -1.
    NegativeTimecode,
    /// Another one of unknown EventType goes in front.
    UnknownEvent,
    /// With members nobody knows.
    UnknownFields,
    /// FragmentNumber is a JSON number.
    NumericFragmentNumber,
    /// A line that is not JSON goes in front.
    Garbage,
    /// Inside the `Acknowledgement` object that the documentation shows.
    Wrapped,
}

/// Names an order for as long as the server lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct FaultId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json() {
        let fragment = At::Fragment { index: 3, bytes: 100 };
        for (text, fault) in [
            (r#"{"kind":"no_acks"}"#, Fault::once(FaultKind::NoAcks)),
            (
                r#"{"times":null,"kind":{"refuse":{"for_ms":20}}}"#,
                Fault::always(FaultKind::Refuse { for_ms: Some(20) }),
            ),
            (
                r#"{"stream":"cam","times":2,"kind":{"cut":{"at":{"fragment":{"index":3,"bytes":100}},"how":"fin"}}}"#,
                Fault::times(2, FaultKind::Cut { at: fragment, how: Cut::Fin }).on("cam"),
            ),
            (
                r#"{"kind":{"drop_acks":{"kind":"PERSISTED"}}}"#,
                Fault::once(FaultKind::DropAcks { kind: AckKind::Persisted }),
            ),
            (
                r#"{"kind":{"http":{"call":"put_media","status":403}}}"#,
                Fault::once(FaultKind::Http { call: Call::PutMedia, status: 403, error: None, message: None }),
            ),
            (
                r#"{"kind":{"error_ack":{"id":4004,"fragment":2}}}"#,
                Fault::once(FaultKind::ErrorAck { id: ErrorId(4004), fragment: 2 }),
            ),
        ] {
            assert_eq!(serde_json::from_str::<Fault>(text).expect(text), fault);
        }
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"no_acks","typo":1}"#).is_err());
    }
}

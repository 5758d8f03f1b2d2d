//! Faults on command: what a test orders, and who has still to suffer it.
//!
//! Invariant: an order with a count is used up exactly that often; who once suffers a lasting fault (no acks, a slow link) keeps it until
//! the end of its session or [`KvsServer::clear_faults`](crate::KvsServer::clear_faults). Absent: carrying faults out.

use serde::{Deserialize, Serialize};

use crate::error::ErrorId;
use crate::record::Call;

/// An order. As JSON: `{"stream":"cam1","times":2,"kind":{"cut":{"at":{"bytes":1000},"how":"reset"}}}`; without `times` it is for one
/// occurrence, with `null` it lasts until cleared.
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

#[derive(Clone, Debug)]
struct Order {
    id: FaultId,
    fault: Fault,
    suffered: u32,
}

impl Order {
    fn is_open(&self) -> bool {
        self.fault.times.is_none_or(|times| self.suffered < times)
    }

    fn is_for(&self, stream: Option<&str>) -> bool {
        self.fault.stream.is_none() || self.fault.stream.as_deref() == stream
    }
}

/// All orders.
#[derive(Debug, Default)]
pub(crate) struct FaultTable {
    orders: Vec<Order>,
    next: u64,
}

impl FaultTable {
    pub(crate) fn add(&mut self, fault: Fault) -> FaultId {
        self.next += 1;
        let id = FaultId(self.next);
        self.orders.push(Order { id, fault, suffered: 0 });
        id
    }

    pub(crate) fn clear(&mut self) {
        self.orders.clear();
    }

    /// Whether the order was not cleared.
    pub(crate) fn contains(&self, id: FaultId) -> bool {
        self.orders.iter().any(|order| order.id == id)
    }

    /// Orders for a stream that are not used up.
    pub(crate) fn open_for(&self, stream: &str) -> Vec<(FaultId, FaultKind)> {
        let open = self.orders.iter().filter(|order| order.is_open() && order.is_for(Some(stream)));
        open.map(|order| (order.id, order.fault.kind.clone())).collect()
    }

    /// Uses an order once; false when others were quicker.
    pub(crate) fn claim(&mut self, id: FaultId) -> bool {
        let order = self.orders.iter_mut().find(|order| order.id == id && order.is_open());
        order.is_some_and(|order| {
            order.suffered += 1;
            true
        })
    }

    /// Uses once the first order that `Http` or `Unanswered` gives for this call.
    pub(crate) fn claim_call(&mut self, on: Call, stream: Option<&str>) -> Option<FaultKind> {
        let is_for_call = |kind: &FaultKind| matches!(kind, FaultKind::Http { call, .. } | FaultKind::Unanswered { call, .. } if *call == on);
        let order = self.orders.iter_mut().find(|order| order.is_open() && order.is_for(stream) && is_for_call(&order.fault.kind))?;
        order.suffered += 1;
        Some(order.fault.kind.clone())
    }

    /// How often an order was suffered; 0 when it was cleared.
    pub(crate) fn suffered(&self, id: FaultId) -> u32 {
        self.orders.iter().find(|order| order.id == id).map_or(0, |order| order.suffered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_used_up() {
        let mut table = FaultTable::default();
        let refuse = |status| FaultKind::Http { call: Call::PutMedia, status, error: None, message: None };
        let twice = table.add(Fault::times(2, refuse(500)).on("a"));
        let claim = |table: &mut FaultTable, stream| table.claim_call(Call::PutMedia, Some(stream));
        assert_eq!(claim(&mut table, "b"), None);
        assert_eq!(table.claim_call(Call::TagStream, Some("a")), None);
        assert_eq!([claim(&mut table, "a"), claim(&mut table, "a"), claim(&mut table, "a")], [Some(refuse(500)), Some(refuse(500)), None]);
        assert_eq!(table.suffered(twice), 2);
        let always = table.add(Fault::always(FaultKind::NoAcks));
        assert!(table.open_for("b").len() == 1 && table.claim(always) && table.claim(always) && !table.claim(twice));
        table.clear();
        assert!(!table.contains(always) && table.open_for("b").is_empty());
    }

    #[test]
    fn json() {
        let fragment = At::Fragment { index: 3, bytes: 100 };
        for (text, fault) in [
            (r#"{"kind":"no_acks"}"#, Fault::once(FaultKind::NoAcks)),
            (r#"{"times":null,"kind":{"refuse":{"for_ms":20}}}"#, Fault::always(FaultKind::Refuse { for_ms: Some(20) })),
            (
                r#"{"stream":"cam","times":2,"kind":{"cut":{"at":{"fragment":{"index":3,"bytes":100}},"how":"fin"}}}"#,
                Fault::times(2, FaultKind::Cut { at: fragment, how: Cut::Fin }).on("cam"),
            ),
            (r#"{"kind":{"drop_acks":{"kind":"PERSISTED"}}}"#, Fault::once(FaultKind::DropAcks { kind: AckKind::Persisted })),
            (
                r#"{"kind":{"http":{"call":"put_media","status":403}}}"#,
                Fault::once(FaultKind::Http { call: Call::PutMedia, status: 403, error: None, message: None }),
            ),
            (r#"{"kind":{"error_ack":{"id":4004,"fragment":2}}}"#, Fault::once(FaultKind::ErrorAck { id: ErrorId(4004), fragment: 2 })),
        ] {
            assert_eq!(serde_json::from_str::<Fault>(text).expect(text), fault);
        }
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"no_acks","typo":1}"#).is_err());
    }
}

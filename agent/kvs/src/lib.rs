//! A Kinesis Video Streams producer without sockets, clocks or threads.
//!
//! [`Delivery`] decides: what footage to send next, when to connect, when to give a connection up, what has been
//! persisted and what must be sent again. It is fed with bytes, access units and `now`, and answers with bytes,
//! [`Action`]s and a deadline. The caller owns the connection.
//!
//! Deliberately absent: the control plane (the AWS SDK does that), credentials, DNS, TLS.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a virtual clock needs an origin"))]

mod ack;
mod backoff;
mod call;
mod delivery;
mod error_id;
mod request;
mod response;
mod session;
mod window;

pub use ack::{AckEvent, AckKind, AckParser, FragmentAck};
pub use backoff::Backoff;
pub use call::{JSON, JsonCall};
pub use delivery::{Action, Delivery, Fault, FaultClass, Report, Settings, Stats};
pub use error_id::{Disposition, ErrorId};
pub use request::{PutMedia, SignError};
pub use response::{Body, Head, ResponseError, ResponseReader};
pub use session::SessionId;

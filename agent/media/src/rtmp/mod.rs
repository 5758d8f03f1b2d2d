//! RTMP, as an encoder that pushes speaks it to us (Adobe's Real Time Messaging Protocol 1.0; Video File Format 10.1 for
//! what is in its messages; Enhanced RTMP v1 for H.265). Sans-IO.
//!
//! The peer is not trusted. Invariants: of a chunk's header and of the messages that are not complete no more is kept than
//! has arrived, and never more than the limit ([`Session`] sets a small one until it knows who publishes); a length is
//! not believed before its bytes are there; a value inside AMF is at most [`amf0::DEPTH`] deep.
//!
//! Deliberately absent: playing, shared objects, aggregate messages, AMF 3, the signed handshake of Flash, and RTMPE.
//! The crate `rml_rtmp` is not used: it keeps one message for all chunk streams, so that sound between the chunks of a
//! picture damages both, and it believes lengths.

pub mod amf0;
mod chunk;
mod flv;
mod session;
#[cfg(test)]
mod tests;

pub use chunk::{ChunkReader, Message};
pub use flv::{AudioTag, VideoTag};
pub use session::{Event, Refusal, Session};

/// Why a connection cannot go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RtmpError {
    /// What came is not RTMP, or breaks its syntax.
    #[error("what it sends is no RTMP: {0}")]
    Malformed(&'static str),
    /// More than is taken from it.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
    /// It asks for what is not done here.
    #[error("it asks for `{0}`: here one can publish only")]
    NotHere(String),
    /// Video or audio that the agent cannot take.
    #[error("{0}: H.264 is wanted, or H.265 by Enhanced RTMP")]
    Codec(String),
}

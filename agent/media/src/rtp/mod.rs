//! RTP as a sender needs it: H.264 packets (RFC 6184), RTCP (RFC 3550, 4585, 5104), and the SDP that says where to.
//!
//! [`RtpSender`] is one stream to one receiver: pictures, received RTCP and the time go in, datagrams and events come
//! out. What it sends can be bounded from outside by nothing but its [`Settings`]; where it may send to is decided by
//! [`AllowList`], before there is a sender.
//!
//! Deliberately absent: receiving, encryption, retransmission on an SSRC of its own (RFC 4588) and congestion control.
//! A plain RTP receiver asks for none of them; REMB is obeyed by the encoder.

mod allow;
mod backlog;
mod history;
mod pacer;
mod packet;
pub mod rtcp;
mod sdp;
mod sender;
mod stats;
#[cfg(test)]
mod tests;

pub use allow::{AddressError, AllowList, Network, NetworkError};
pub use packet::{DEFAULT_MTU, Packet, Packetizer};
pub use sdp::{FeedbackKinds, RtpTarget, SdpError};
pub use sender::{Ended, Event, Output, RtpSender, Settings};
pub use stats::Stats;

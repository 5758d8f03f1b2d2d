//! What a stream has done.

use std::time::Duration;

use crate::Timestamp;

/// Counters of one stream, and how it arrives as its receiver says.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Stats {
    /// When it started, on the wall clock.
    pub started: Timestamp,
    /// RTP packets sent, resent ones included.
    pub packets: u64,
    /// Bytes of RTP packets, headers and resent ones included.
    pub bytes: u64,
    /// Pictures sent.
    pub pictures: u64,
    /// Packets sent again.
    pub resent: u64,
    /// RTCP datagrams understood.
    pub feedback: u64,
    /// Packets that receivers have reported missing.
    pub nacks: u64,
    /// Of these, packets that were no longer there or too many to be sent again.
    pub nacks_refused: u64,
    /// Picture loss indications.
    pub plis: u64,
    /// Full intra requests, each counted once.
    pub firs: u64,
    /// IDRs asked for.
    pub keyframes_wanted: u64,
    /// REMB messages.
    pub rembs: u64,
    /// What the newest of them allows, in bit/s, within the limits given.
    pub bitrate: Option<u32>,
    /// Round trip time.
    pub rtt: Option<Duration>,
    /// Share of packets lost lately, 0 to 1.
    pub loss: f64,
    /// Packets lost in all.
    pub lost: i32,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Keepalives.
    pub keepalive_count: u64,
    /// Damaged RTCP, damaged pictures, datagrams that could not be sent.
    pub error_count: u64,
}

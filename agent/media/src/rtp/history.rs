//! What was sent lately, to be sent again when it is missing (RFC 4585).
//!
//! Bounded in bytes and in time: a packet that comes later than its picture is shown is of no use. Also bounded is what
//! requests can cause: the same packet not twice within a round trip, and all together not more than the stream itself
//! or [`LEAST_BUDGET`] in a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Packet;

/// Bytes kept: 2 s of 8 Mbit/s.
const MOST_BYTES: usize = 2 << 20;
/// Time kept.
const MOST_AGE: Duration = Duration::from_secs(2);
/// Bytes that may be sent again in a second, however little the stream sends.
const LEAST_BUDGET: usize = 256 << 10;
const BUDGET_PERIOD: Duration = Duration::from_secs(1);

/// Packets in the order of their sequence numbers, without gaps.
#[derive(Debug)]
pub(super) struct History {
    sent: VecDeque<Sent>,
    bytes: usize,
    period_began: Instant,
    /// In this period: bytes sent for the first time, and again.
    first_bytes: usize,
    again_bytes: usize,
}

#[derive(Debug)]
struct Sent {
    packet: Packet,
    at: Instant,
    again: Option<Instant>,
}

/// Answer to a request.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// To be sent again.
    Again(Packet),
    /// It has been sent again a moment ago.
    OnItsWay,
    /// Not there, or too much is being asked for.
    Refused,
}

impl History {
    pub(super) fn new(now: Instant) -> Self {
        Self { sent: VecDeque::new(), bytes: 0, period_began: now, first_bytes: 0, again_bytes: 0 }
    }

    /// Keeps a packet that has just been sent. The one before had the sequence number before.
    pub(super) fn push(&mut self, packet: Packet, now: Instant) {
        self.bytes += packet.size();
        self.turn_period(now);
        self.first_bytes += packet.size();
        self.sent.push_back(Sent { packet, at: now, again: None });
        self.forget(now);
    }

    /// Lets go of what is too old or too much.
    pub(super) fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.sent.front() {
            if self.bytes <= MOST_BYTES && now.saturating_duration_since(oldest.at) <= MOST_AGE {
                break;
            }
            self.bytes -= oldest.packet.size();
            self.sent.pop_front();
        }
    }

    /// Finds a packet that is missing; `pause` is how long a packet needs to get there and be missed again.
    pub(super) fn find(&mut self, sequence: u16, pause: Duration, now: Instant) -> Found {
        self.forget(now);
        self.turn_period(now);
        let oldest = self.sent.front().map_or(0, |sent| sent.packet.sequence());
        let Some(sent) = self.sent.get_mut(usize::from(sequence.wrapping_sub(oldest))) else { return Found::Refused };
        if sent.again.is_some_and(|again| now.saturating_duration_since(again) < pause) {
            return Found::OnItsWay;
        }
        let size = sent.packet.size();
        if self.again_bytes + size > self.first_bytes.max(LEAST_BUDGET) {
            return Found::Refused;
        }
        self.again_bytes += size;
        sent.again = Some(now);
        Found::Again(sent.packet.clone())
    }

    fn turn_period(&mut self, now: Instant) {
        if now.saturating_duration_since(self.period_began) >= BUDGET_PERIOD {
            (self.period_began, self.first_bytes, self.again_bytes) = (now, 0, 0);
        }
    }
}

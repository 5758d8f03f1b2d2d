//! A leaky bucket: an IDR leaves as a stream, not as a burst that overflows a receiver's socket buffer.
//!
//! A Linux socket buffer of default size (208 KiB) holds about 90 packets of 1200 bytes; an IDR of 720p is 40 to 80,
//! a cached GOP several hundred. [`BURST`] leaves at once, which is a whole picture between IDRs; what is more leaves
//! at [`RATE`], or faster when there is so much that it would take longer than [`DRAIN`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Packet;

/// Bytes that may leave at once: 16 packets.
const BURST: f64 = 16.0 * 1200.0;
/// Bytes that leave together once the bucket is empty: a timer for each packet would cost more than it smooths.
const QUANTUM: f64 = 4.0 * 1200.0;
/// Bytes a second, 16 Mbit/s: an IDR of 60 KB takes 20 ms.
const RATE: f64 = 2e6;
/// The most that a packet waits, as long as nothing comes after it.
const DRAIN: Duration = Duration::from_millis(100);

/// Packets that wait for their turn.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Sent again: before all others.
    urgent: VecDeque<Packet>,
    regular: VecDeque<Packet>,
    bytes: usize,
    rate: f64,
    credit: f64,
    at: Instant,
    blocked_until: Option<Instant>,
}

/// A packet whose turn it is.
pub(super) enum Turn {
    First(Packet),
    Again(Packet),
}

impl Pacer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            urgent: VecDeque::new(),
            regular: VecDeque::new(),
            bytes: 0,
            rate: RATE,
            credit: BURST,
            at: now,
            blocked_until: None,
        }
    }

    pub(super) fn push(&mut self, packet: Packet) {
        self.bytes += packet.size();
        self.regular.push_back(packet);
        self.rate = self.rate.max(self.bytes as f64 / DRAIN.as_secs_f64());
    }

    pub(super) fn push_again(&mut self, packet: Packet) {
        self.bytes += packet.size();
        self.urgent.push_back(packet);
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<Turn> {
        if self.bytes == 0 || self.blocked_until.is_some_and(|until| now < until) {
            return None;
        }
        self.blocked_until = None;
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.credit = (self.credit + gained).min(BURST);
        self.at = now;
        let turn = match self.urgent.pop_front() {
            Some(packet) => Turn::Again(packet),
            None => Turn::First(self.regular.pop_front()?),
        };
        let (Turn::First(packet) | Turn::Again(packet)) = &turn;
        self.bytes -= packet.size();
        self.credit -= packet.size() as f64;
        if self.credit <= 0.0 {
            self.blocked_until = Some(now + Duration::from_secs_f64((QUANTUM - self.credit) / self.rate));
        }
        if self.bytes == 0 {
            self.rate = RATE;
        }
        Some(turn)
    }

    /// When there is a next turn.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.bytes > 0).then(|| self.blocked_until.unwrap_or(self.at))
    }

    pub(super) fn clear(&mut self) {
        self.urgent.clear();
        self.regular.clear();
        self.bytes = 0;
    }
}

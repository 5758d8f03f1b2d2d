//! The faults of one session: which orders concern it, which it has taken on, and when one strikes.

use std::time::Duration;

use crate::error::Rejection;
use crate::fault::{At, Cut, FaultId, FaultKind};
use crate::fault_table::FaultTable;
use crate::session::acks::AckPolicy;

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    /// The response has begun.
    pub(crate) answered: bool,
    /// Bytes of the body.
    pub(crate) bytes: u64,
    /// Fragments begun.
    pub(crate) fragments: u32,
    /// Bytes of the current fragment.
    pub(crate) fragment_bytes: u64,
}

impl Progress {
    fn has_reached(&self, at: At) -> bool {
        match at {
            At::Request => !self.answered,
            At::Bytes(bytes) => self.answered && self.bytes >= bytes,
            At::Fragment { index, bytes } => {
                self.fragments > index || (self.fragments == index && self.fragment_bytes >= bytes)
            }
        }
    }

    /// An order for a place that the session has left behind is for a later session.
    fn is_past(&self, at: At) -> bool {
        match at {
            At::Request => self.answered,
            At::Bytes(bytes) => bytes > 0 && self.bytes > bytes,
            At::Fragment { index, .. } => self.fragments > index,
        }
    }
}

/// What strikes at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Strike {
    Cut(Cut),
    Stall(Duration),
    Silent { read: bool },
    Error(Rejection),
}

/// The faults of one session.
#[derive(Debug, Default)]
pub(crate) struct SessionFaults {
    waiting: Vec<(FaultId, FaultKind)>,
    lasting: Vec<(FaultId, FaultKind)>,
    /// Orders that struck: none strikes a session twice.
    struck: Vec<FaultId>,
    silent: Option<FaultId>,
}

impl SessionFaults {
    /// Looks at the orders again. True when the fault that made the session silent was cleared.
    pub(crate) fn refresh(&mut self, table: &mut FaultTable, stream: &str, progress: Progress) -> bool {
        self.lasting.retain(|(id, _)| table.contains(*id));
        self.waiting.clear();
        for (id, kind) in table.open_for(stream) {
            if self.struck.contains(&id) {
                continue;
            }
            match kind {
                FaultKind::NoAcks
                | FaultKind::DelayAcks { .. }
                | FaultKind::DropAcks { .. }
                | FaultKind::Throttle { .. }
                | FaultKind::MalformedAcks { .. }
                    if !self.lasting.iter().any(|(held, _)| *held == id) && table.claim(id) =>
                {
                    self.lasting.push((id, kind));
                }
                FaultKind::Cut { at, .. } | FaultKind::Stall { at, .. } | FaultKind::Silent { at, .. }
                    if !progress.is_past(at) =>
                {
                    self.waiting.push((id, kind));
                }
                FaultKind::ErrorAck { fragment, .. } if progress.fragments < fragment => self.waiting.push((id, kind)),
                _ => {}
            }
        }
        self.silent.is_some_and(|id| !table.contains(id))
    }

    /// Whether a fault has touched the session, so that what it does is no longer the producer's doing alone.
    pub(crate) fn disturb(&self) -> bool {
        !self.struck.is_empty() || !self.lasting.is_empty()
    }

    pub(crate) fn ack_policy(&self) -> AckPolicy {
        let mut policy = AckPolicy::default();
        for (_, kind) in &self.lasting {
            match kind {
                FaultKind::NoAcks => policy.mute = true,
                FaultKind::DelayAcks { ms } => policy.delay = policy.delay.max(Duration::from_millis(*ms)),
                FaultKind::DropAcks { kind } => policy.dropped.push(*kind),
                FaultKind::MalformedAcks { how, kind } => policy.malformed.push((*how, *kind)),
                _ => {}
            }
        }
        policy
    }

    /// Bits per second that may be read.
    pub(crate) fn throttle(&self) -> Option<u64> {
        let limits = self.lasting.iter().filter_map(|(_, kind)| match kind {
            FaultKind::Throttle { bits_per_second } => Some((*bits_per_second).max(1)),
            _ => None,
        });
        limits.min()
    }

    /// How many bytes may be taken at once without running past the place where a fault is to strike.
    pub(crate) fn stride(&self, progress: Progress) -> usize {
        let strides = self.waiting.iter().filter_map(|(_, kind)| match kind {
            FaultKind::Cut { at, .. } | FaultKind::Stall { at, .. } | FaultKind::Silent { at, .. } => match at {
                At::Bytes(bytes) => usize::try_from(bytes.saturating_sub(progress.bytes)).ok(),
                At::Fragment { .. } => Some(64),
                At::Request => None,
            },
            FaultKind::ErrorAck { .. } => Some(64),
            _ => None,
        });
        strides.min().unwrap_or(usize::MAX).max(1)
    }

    /// The fault that strikes here, if any. Lasting ones never do.
    pub(crate) fn strike(&mut self, table: &mut FaultTable, progress: Progress) -> Option<Strike> {
        while let Some(position) = self.waiting.iter().position(|(_, kind)| match kind {
            FaultKind::Cut { at, .. } | FaultKind::Stall { at, .. } | FaultKind::Silent { at, .. } => {
                progress.has_reached(*at)
            }
            FaultKind::ErrorAck { fragment, .. } => progress.fragments >= *fragment,
            _ => false,
        }) {
            let (id, kind) = self.waiting.swap_remove(position);
            if !table.claim(id) {
                continue;
            }
            self.struck.push(id);
            let strike = match kind {
                FaultKind::Cut { how, .. } => Strike::Cut(how),
                FaultKind::Stall { for_ms, .. } => Strike::Stall(Duration::from_millis(for_ms)),
                FaultKind::Silent { read, .. } => {
                    self.silent = Some(id);
                    Strike::Silent { read }
                }
                FaultKind::ErrorAck { id, .. } => Strike::Error(Rejection::new(id, "on command")),
                _ => continue,
            };
            return Some(strike);
        }
        None
    }

    /// Whether there is anything that [`strike`](Self::strike) could find.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

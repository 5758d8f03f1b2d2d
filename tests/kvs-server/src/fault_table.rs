//! Who has still to suffer which fault.
//!
//! Invariant: an order with a count is used up exactly that often. Who once suffers a lasting fault (no acks, a slow
//! link) keeps it to the end of the session, or until all faults are cleared.

use crate::fault::{Fault, FaultId, FaultKind};
use crate::record::Call;

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
        let order = self
            .orders
            .iter_mut()
            .find(|order| order.is_open() && order.is_for(stream) && is_for_call(&order.fault.kind))?;
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
        assert_eq!(
            [claim(&mut table, "a"), claim(&mut table, "a"), claim(&mut table, "a")],
            [Some(refuse(500)), Some(refuse(500)), None]
        );
        assert_eq!(table.suffered(twice), 2);
        let always = table.add(Fault::always(FaultKind::NoAcks));
        assert!(table.open_for("b").len() == 1 && table.claim(always) && table.claim(always) && !table.claim(twice));
        table.clear();
        assert!(!table.contains(always) && table.open_for("b").is_empty());
    }
}

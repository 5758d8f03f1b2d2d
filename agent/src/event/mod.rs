//! What happened, on its way out: what is seen becomes events, and messages wait here until somebody has taken them.

pub mod dataset;
pub mod message;
pub mod naming;
pub mod outbox;
pub mod outlet;
pub mod publish;
pub mod story;
pub mod tags;

//! What happened, on its way out: messages wait here until somebody has taken them.

pub mod outbox;

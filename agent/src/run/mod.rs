//! What runs: threads with names, and stages that outlive their own panics.

pub mod stage;
pub mod thread;

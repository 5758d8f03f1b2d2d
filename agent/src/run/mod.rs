//! What runs: threads with names.

pub mod thread;

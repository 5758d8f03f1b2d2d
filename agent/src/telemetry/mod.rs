//! What the agent tells: its log, its status, its metrics.

pub mod log;
pub mod looks;
pub mod metrics;
pub mod report;

//! Commands and reports: what a fleet's operator says to the agent, and what it answers.

pub mod mqtt;

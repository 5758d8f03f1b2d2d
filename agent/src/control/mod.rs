//! Commands and reports: what a fleet's operator says to the agent, and what it answers.

pub(crate) mod clip;
pub mod command;
pub mod commanded;
mod config;
pub mod dispatch;
pub mod greengrass;
mod honeycomb;
mod iot;
mod journal;
pub mod link;
pub mod live;
pub mod mqtt;
pub mod nvrs;
pub mod reply;
mod report;
pub mod snapshot;
mod switch;
mod topics;
pub mod view;

pub use clip::directory as clip_directory;
pub use dispatch::{Control, run};

//! The edgecam agent as a library: sources, the log of footage, upload, and what runs them.
//!
//! [`producer::Producer`] uploads one source; [`topology::Agent`] runs a whole config.

pub mod capture;
pub mod cli;
pub mod config;
pub mod control;
pub mod decode;
pub mod encode;
pub mod event;
pub mod footage;
pub mod host;
pub mod http;
pub mod inference;
pub mod live;
pub mod producer;
pub mod run;
pub mod telemetry;
pub mod topology;
pub mod upload;
pub mod web;
pub mod xml;

//! The edgecam agent as a library: sources, the log of footage, upload, and what runs them.

pub mod capture;
pub mod config;
pub mod encode;
pub mod footage;
pub mod run;
pub mod upload;

//! The machine the agent runs on: its clock, its signals, its service manager.

pub mod certificate;
pub(crate) mod device_tls;
pub mod greengrass;
pub mod iot_credentials;
pub(crate) mod mutual_tls;
pub mod provisioning;
pub mod service;
pub mod state;
pub mod systemd;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgecam_media::Timestamp;

/// The wall clock.
pub fn wall_clock() -> Timestamp {
    Timestamp::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}

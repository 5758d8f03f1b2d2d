//! Upload to Kinesis Video Streams: when, from where, and the connections it goes over.
//!
//! What to send, again or not, is [`edgecam_kvs::Delivery`]'s to decide; this module owns sockets, clocks and files.

mod connection;
mod continuous;
mod control_plane;
pub mod doctor;
mod driver;
mod job;
mod ledger;
mod network;
mod status;
mod task;
pub(crate) mod tls;

pub use control_plane::{ControlPlane, Target};
pub use job::{Demand, Job, LEASE};
pub use network::Network;
pub use status::{UploadState, UploadStatus};
pub use task::{StatusCell, Upload, run};

//! A strict local stand-in for Amazon Kinesis Video Streams: it refuses what the service refuses, writes down what
//! happened, and fails on command.
//!
//! For end-to-end tests it runs inside the test ([`KvsServer`]); for benchmarks and by hand there is a binary of the
//! same name.
//!
//! The flow of a connection is the order of the modules: `listener` accepts, `serve` reads requests, `sigv4` says
//! whose they are, then `control` answers the control plane, `admin` people, and `session` takes media, which `mkv`
//! reads and judges. `state` and `stream` are what they share, `record` what tests look at, `fault` what tests order.
//!
//! Invariants: the media path keeps no frame, unless a [`Dump`] is asked for; signatures are computed here from the
//! specification, not by the code under test; what a fault does, it does on a real socket. Absent: consumers but HLS
//! (GetMedia and the like), signalling, KMS, IAM policies, images. Records do not outlive the process.

mod admin;
mod clock;
mod config;
mod control;
mod digest;
mod error;
mod fault;
mod fault_table;
mod hls;
mod http;
mod listener;
mod mkv;
mod rate;
mod record;
mod rule;
mod serve;
mod server;
mod session;
mod sigv4;
mod state;
mod stream;
mod tls;

pub use config::{Config, Credentials, Dump, StreamSpec};
pub use digest::payload_hash;
pub use error::ErrorId;
pub use fault::{AckKind, At, Cut, Fault, FaultId, FaultKind, Malformed};
pub use hls::Playback;
pub use record::{
    Attempt, BlockRecord, Call, ErrorRecord, FragmentRecord, Outcome, SessionEnd, SessionRecord, StreamRecord,
    StreamStatus, Totals, TrackRecord,
};
pub use rule::{Rule, Violation};
pub use server::KvsServer;
pub use stream::SessionDump;

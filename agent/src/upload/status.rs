//! What an upload tells about itself.

use std::time::Duration;

use edgecam_kvs::Stats;
use edgecam_media::Timestamp;
use edgecam_media::ring::Position;

/// What an upload is doing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum UploadState {
    /// Nothing is to be uploaded now.
    #[default]
    Idle,
    /// There is footage, and no session yet.
    Connecting,
    /// The service takes footage.
    Streaming,
    /// The last attempt failed; another follows.
    Failing {
        /// A word for the kind of failure.
        class: &'static str,
        /// For a person.
        message: String,
        /// Whether waiting alone is unlikely to help.
        needs_a_person: bool,
        /// How long the agent waits before it tries again.
        retry_in: Duration,
    },
}

impl UploadState {
    /// A word for status and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Failing { .. } => "failing",
        }
    }
}

/// Counters and gauges of an upload.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct UploadStatus {
    /// What it is doing.
    pub state: UploadState,
    /// Counters over all jobs since the start.
    pub stats: Stats,
    /// Everything before is persisted; `None` before the first job.
    pub committed: Option<Position>,
    /// The newest picture that is persisted.
    pub persisted_until: Option<Timestamp>,
    /// Stretches of older footage that were put off, live footage going first.
    pub gaps: usize,
    /// The newest picture that was handed to a connection.
    pub sent_until: Option<Timestamp>,
    /// Why the cursor could not be saved.
    pub cursor_error: Option<String>,
    /// Whether the GOP is longer than a fragment may be.
    pub has_long_gop: bool,
}

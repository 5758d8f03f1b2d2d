//! Streams and viewers as the platform's service describes them: the same names, the same nesting.

use edgecam_media::Timestamp;
use edgecam_media::rtp::Stats;
use serde::Serialize;

use super::Entry;
use crate::host::wall_clock;

/// `GET /streams`.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub struct StreamList {
    /// Those that run.
    pub streams: Vec<StreamSummary>,
    /// How many.
    pub count: usize,
}

/// A stream in a list.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub struct StreamSummary {
    /// The camera.
    pub camera_id: String,
    /// `stream-` and the beginnings of the two other ids.
    pub session_id: String,
    /// The stream, as whoever asked for it calls it.
    pub stream_id: String,
    /// What it is doing.
    pub state: &'static str,
    /// RFC 3339.
    pub started_at: String,
    /// How long it has been running.
    pub duration_seconds: f64,
    /// Who receives it.
    pub viewer_count: usize,
}

/// `GET /streams/{camera}`.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub struct StreamDetail {
    /// The stream.
    pub stream: StreamReport,
    /// Who receives it.
    pub viewers: Vec<ViewerReport>,
    /// How many.
    pub viewer_count: usize,
}

/// A stream; also the answer to `POST /streams/{camera}/stop`.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub struct StreamReport {
    /// `stream-` and the beginnings of the two other ids.
    pub session_id: String,
    /// The stream, as whoever asked for it calls it.
    pub stream_id: String,
    /// The camera.
    pub camera_id: String,
    /// What it is doing.
    pub state: &'static str,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339, once it has been stopped.
    pub stopped_at: Option<String>,
    /// How long it has been running, or ran.
    pub duration_seconds: f64,
    /// Why it could not be started.
    pub error_message: Option<String>,
    /// Signs of life from whoever asked for it.
    pub keepalive_stats: KeepaliveStats,
    /// What was sent, and how it arrives.
    pub rtp: RtpReport,
}

/// Signs of life.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepaliveStats {
    /// Whether the stream goes on.
    pub running: bool,
    /// Keepalives received.
    pub keepalive_count: u64,
    /// Damaged messages, and datagrams that could not be sent.
    pub error_count: u64,
}

/// What was sent, and how it arrives.
#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
pub struct RtpReport {
    /// Pictures.
    pub frames: u64,
    /// Packets, resent ones included.
    pub packets: u64,
    /// Bytes of packets.
    pub bytes: u64,
    /// Packets sent again.
    pub resent: u64,
    /// Packets reported missing.
    pub nacks: u64,
    /// Picture loss indications.
    pub plis: u64,
    /// Full intra requests.
    pub firs: u64,
    /// REMB messages.
    pub rembs: u64,
    /// What the newest of them allows, in bit/s.
    pub bitrate: Option<u32>,
    /// Round trip time.
    pub rtt_ms: Option<f64>,
    /// Share of packets lost lately, 0 to 1.
    pub loss: f64,
    /// Interarrival jitter.
    pub jitter_ms: f64,
    /// Times it fell behind what the log holds.
    pub lagged: u64,
}

/// Answer to `POST /streams/{camera}/start`.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// `stream-` and the beginnings of the two other ids.
    pub session_id: String,
    /// The stream, as whoever asked for it calls it.
    pub stream_id: String,
    /// The camera.
    pub camera_id: String,
    /// What it is doing.
    pub state: &'static str,
    /// RFC 3339.
    pub started_at: String,
}

/// Answer to `POST /streams/{camera}/start` when it runs already.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// For a person.
    pub error: String,
    /// The session that runs.
    pub session_id: String,
}

/// Any other answer that is not as wanted.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// For a person.
    pub error: String,
}

/// `GET /viewers` and `GET /viewers/{camera}`.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct ViewerList {
    /// The camera, if one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera_id: Option<String>,
    /// Who receives.
    pub viewers: Vec<ViewerReport>,
    /// How many.
    pub count: usize,
}

/// Who receives.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct ViewerReport {
    /// For a receiver of RTP the session.
    pub viewer_id: String,
    /// The camera.
    pub camera_id: String,
    /// The stream.
    pub stream_id: String,
    /// RFC 3339.
    pub created_at: String,
    /// Whether it has been heard of.
    pub connected: bool,
}

/// `GET /health`.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// `healthy` or `degraded`.
    pub status: &'static str,
    /// RFC 3339.
    pub timestamp: String,
    /// Streams that run.
    pub active_streams: usize,
    /// Who receives them.
    pub total_viewers: usize,
}

impl From<(Stats, u64)> for RtpReport {
    fn from((stats, lagged): (Stats, u64)) -> Self {
        Self {
            frames: stats.pictures,
            packets: stats.packets,
            bytes: stats.bytes,
            resent: stats.resent,
            nacks: stats.nacks,
            plis: stats.plis,
            firs: stats.firs,
            rembs: stats.rembs,
            bitrate: stats.bitrate,
            rtt_ms: stats.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
            loss: stats.loss,
            jitter_ms: stats.jitter.as_secs_f64() * 1000.0,
            lagged,
        }
    }
}

impl Entry {
    pub(super) fn started(&self, camera_id: &str) -> Started {
        Started {
            session_id: self.session_id.clone(),
            stream_id: self.stream_id.clone(),
            camera_id: camera_id.to_owned(),
            state: self.state().name(),
            started_at: self.started.to_string(),
        }
    }

    pub(super) fn summary(&self, camera_id: &str) -> StreamSummary {
        StreamSummary {
            camera_id: camera_id.to_owned(),
            session_id: self.session_id.clone(),
            stream_id: self.stream_id.clone(),
            state: self.state().name(),
            started_at: self.started.to_string(),
            duration_seconds: self.seconds(),
            viewer_count: self.viewers(camera_id).len(),
        }
    }

    pub(super) fn report(&self, camera_id: &str) -> StreamReport {
        let status = self.status();
        let stats = status.stats;
        StreamReport {
            session_id: self.session_id.clone(),
            stream_id: self.stream_id.clone(),
            camera_id: camera_id.to_owned(),
            state: self.state().name(),
            started_at: self.started.to_string(),
            stopped_at: self.ended().map(|time| time.to_string()),
            duration_seconds: self.seconds(),
            error_message: self.error.clone(),
            keepalive_stats: KeepaliveStats {
                running: self.running().is_some(),
                keepalive_count: stats.keepalive_count,
                error_count: stats.error_count,
            },
            rtp: RtpReport::from((stats, status.lagged)),
        }
    }

    /// The receiver, while the stream runs.
    pub(super) fn viewers(&self, camera_id: &str) -> Vec<ViewerReport> {
        let viewer = |status: super::StreamStatus| ViewerReport {
            viewer_id: self.session_id.clone(),
            camera_id: camera_id.to_owned(),
            stream_id: self.stream_id.clone(),
            created_at: self.started.to_string(),
            connected: status.stats.feedback > 0,
        };
        self.running().map(|stream| viewer(stream.status())).into_iter().collect()
    }

    fn ended(&self) -> Option<Timestamp> {
        self.stopped.or(self.status().ended_at)
    }

    fn seconds(&self) -> f64 {
        self.ended().unwrap_or_else(wall_clock).since(self.started).seconds()
    }
}

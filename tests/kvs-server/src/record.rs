//! What happened, for tests to assert on and for `GET /__admin/state`.
//!
//! Invariants: times of day are milliseconds since the Unix epoch; every list is bounded, and what fell off it is
//! counted in [`StreamRecord::forgotten`]. Absent: secrets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::config::StreamSpec;
use crate::error::ErrorId;
use crate::rule::Violation;

/// Most entries of one list; then the oldest go.
pub(crate) const MAX_ENTRIES: usize = 200_000;

/// Everything about one stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamRecord {
    /// `StreamName`.
    pub name: String,
    /// `StreamARN`.
    pub arn: String,
    /// `DeviceName` given to CreateStream.
    pub device_name: Option<String>,
    /// `MediaType` given to CreateStream.
    pub media_type: Option<String>,
    /// `DataRetentionInHours`.
    pub retention_hours: u32,
    /// `Status`.
    pub status: StreamStatus,
    /// `CreationTime`.
    pub created_at: u64,
    /// Tags of the stream, from TagStream.
    pub tags: BTreeMap<String, String>,
    /// Calls that named this stream, PutMedia and control plane, in order of arrival.
    pub attempts: Vec<Attempt>,
    /// Accepted PutMedia calls.
    pub sessions: Vec<SessionRecord>,
    /// Fragments in the order in which they began to arrive.
    pub fragments: Vec<FragmentRecord>,
    /// ERROR acknowledgements that were sent.
    pub errors: Vec<ErrorRecord>,
    /// What a careful producer must not do.
    pub violations: Vec<Violation>,
    /// Fragments persisted so far; counts one sent twice twice.
    pub persisted: u64,
    /// Fragments completely received so far.
    pub received: u64,
    /// Bytes of PutMedia bodies, with their chunk framing.
    pub bytes: u64,
    /// Oldest entries that were dropped because a list was full.
    pub forgotten: u64,
}

impl StreamRecord {
    pub(crate) fn new(spec: &StreamSpec, status: StreamStatus, region: &str, now_ms: u64) -> Self {
        Self {
            name: spec.name.clone(),
            arn: format!("arn:aws:kinesisvideo:{region}:123456789012:stream/{}/{now_ms}", spec.name),
            device_name: None,
            media_type: Some("video/h264".to_owned()),
            retention_hours: spec.retention_hours,
            status,
            created_at: now_ms,
            tags: BTreeMap::new(),
            attempts: Vec::new(),
            sessions: Vec::new(),
            fragments: Vec::new(),
            errors: Vec::new(),
            violations: Vec::new(),
            persisted: 0,
            received: 0,
            bytes: 0,
            forgotten: 0,
        }
    }

    /// The fragments that are persisted, in timecode order, each timecode once: what a viewer of the stream would get.
    #[must_use]
    pub fn persisted_fragments(&self) -> Vec<&FragmentRecord> {
        let mut fragments: Vec<_> = self.fragments.iter().filter(|fragment| fragment.persisted_at.is_some()).collect();
        fragments.sort_by_key(|fragment| fragment.timecode);
        fragments.dedup_by_key(|fragment| fragment.timecode);
        fragments
    }

    /// PutMedia calls among the attempts.
    pub fn put_media_attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.call == Call::PutMedia)
    }

    /// The figures alone.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            name: self.name.clone(),
            attempts: self.put_media_attempts().count(),
            sessions: self.sessions.len(),
            fragments: self.fragments.len(),
            blocks: self.fragments.iter().map(|fragment| u64::from(fragment.block_count)).sum(),
            bytes: self.bytes,
            received: self.received,
            persisted: self.persisted,
            errors: self.errors.len(),
            violations: self.violations.len(),
        }
    }
}

/// The figures of one stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Totals {
    /// `StreamName`.
    pub name: String,
    /// PutMedia calls.
    pub attempts: usize,
    /// PutMedia calls that were accepted.
    pub sessions: usize,
    /// Fragments begun.
    pub fragments: usize,
    /// Frames in them.
    pub blocks: u64,
    /// Bytes of PutMedia bodies.
    pub bytes: u64,
    /// Fragments complete.
    pub received: u64,
    /// Fragments persisted.
    pub persisted: u64,
    /// ERROR acknowledgements.
    pub errors: usize,
    /// Things a careful producer must not do.
    pub violations: usize,
}

/// The calls of the service that are there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the service's own")]
pub enum Call {
    DescribeStream,
    CreateStream,
    TagStream,
    GetDataEndpoint,
    GetHlsStreamingSessionUrl,
    ListEdgeAgentConfigurations,
    PutMedia,
}

/// `Status` of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names are the service's own")]
pub enum StreamStatus {
    Creating,
    Active,
    Updating,
    Deleting,
}

/// One call.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// When its head had arrived.
    pub at: u64,
    /// Which call.
    pub call: Call,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A control-plane call was answered with 200.
    Answered,
    /// A PutMedia call became a session.
    Session(u64),
    /// An HTTP error.
    Refused {
        /// HTTP status.
        status: u16,
        /// `x-amzn-ErrorType`.
        error: String,
    },
    /// A fault let it go without any answer.
    Unanswered,
}

/// One accepted PutMedia call.
#[derive(Clone, Debug, Serialize)]
pub struct SessionRecord {
    /// Number of the session, unique in the server.
    pub id: u64,
    /// When the call was accepted.
    pub opened_at: u64,
    /// When it was over.
    pub closed_at: Option<u64>,
    /// Why it was over.
    pub end: Option<SessionEnd>,
    /// Whose credentials it was made with; `None` in lenient mode.
    pub access_key: Option<String>,
    /// `x-amzn-fragment-timecode-type` is RELATIVE.
    pub relative: bool,
    /// `x-amzn-producer-start-timestamp`.
    pub producer_start_ms: Option<i64>,
    /// The declared tracks.
    pub tracks: Vec<TrackRecord>,
    /// Bytes of its body, with the chunk framing.
    pub bytes: u64,
    /// When the first fragment of the session was PERSISTED.
    pub first_persisted_at: Option<u64>,
    /// Whether a fault touched it.
    pub disturbed: bool,
}

/// One declared track.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TrackRecord {
    /// `TrackNumber`.
    pub number: u64,
    /// `CodecID`.
    pub codec_id: String,
    /// `CodecPrivate`, in hexadecimal.
    pub codec_private: String,
    /// `PixelWidth`.
    pub width: u64,
    /// `PixelHeight`.
    pub height: u64,
}

/// Why a session was over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The producer ended its body, and everything was acknowledged.
    EndOfBody,
    /// The producer closed the connection inside the body.
    Closed,
    /// The connection broke.
    Broken(String),
    /// The body was not HTTP.
    BadFraming(String),
    /// An ERROR acknowledgement was sent.
    Error(ErrorId),
    /// No data for too long.
    Idle,
    /// A newer session for the same stream.
    Replaced,
    /// A fault.
    Cut,
    /// The server was stopped.
    Stopped,
}

/// One fragment, whole or not.
#[derive(Clone, Debug, Serialize)]
pub struct FragmentRecord {
    /// The session it came in.
    pub session: u64,
    /// 1 for the first of its session.
    pub index: u32,
    /// `FragmentNumber`.
    pub number: String,
    /// `FragmentTimecode`: milliseconds as sent, relative in a RELATIVE session.
    pub timecode: i64,
    /// When its Timecode had arrived.
    pub started_at: u64,
    /// When it was complete.
    pub received_at: Option<u64>,
    /// When it was stored for good. Not set when it was lost with its connection before that, and never with
    /// retention 0.
    pub persisted_at: Option<u64>,
    /// Whether the producer was told PERSISTED.
    pub acknowledged: bool,
    /// Bytes of the Cluster, header included.
    pub size: u64,
    /// Frames.
    pub block_count: u32,
    /// Least timestamp of its frames, absolute.
    pub first_ms: Option<i64>,
    /// Greatest timestamp of its frames, absolute.
    pub last_ms: Option<i64>,
    /// The frames, unless they are not recorded.
    pub blocks: Vec<BlockRecord>,
    /// Fragment tags.
    pub tags: Vec<(String, String)>,
    /// The error that ended the session in this fragment.
    pub error: Option<ErrorId>,
}

impl FragmentRecord {
    /// Of which nothing but the Timecode has come.
    pub(crate) fn begun(session: u64, index: u32, number: String, timecode: i64) -> Self {
        Self {
            session,
            index,
            number,
            timecode,
            started_at: now_ms(),
            received_at: None,
            persisted_at: None,
            acknowledged: false,
            size: 0,
            block_count: 0,
            first_ms: None,
            last_ms: None,
            blocks: Vec::new(),
            tags: Vec::new(),
            error: None,
        }
    }
}

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BlockRecord {
    /// Track number.
    pub track: u64,
    /// Absolute timestamp.
    pub timestamp_ms: i64,
    /// Key frame flag.
    pub key: bool,
    /// Bytes of the frame.
    pub size: u64,
    /// [`payload_hash`](crate::payload_hash) of the frame.
    pub sha256: Option<String>,
}

/// One ERROR acknowledgement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ErrorRecord {
    /// When.
    pub at: u64,
    /// In which session.
    pub session: u64,
    /// `ErrorId`.
    pub id: ErrorId,
    /// What exactly was wrong; the service would not say.
    pub detail: String,
}

/// Appends to a bounded list, and counts what falls off its front.
pub(crate) fn push_bounded<T>(list: &mut Vec<T>, entry: T, forgotten: &mut u64) {
    if list.len() == MAX_ENTRIES {
        let half = MAX_ENTRIES / 2;
        list.drain(..half);
        *forgotten += half as u64;
    }
    list.push(entry);
}

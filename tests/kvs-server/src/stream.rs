//! One stream: its record, its limits, and the sessions that are open on it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::now_ms;
use crate::config::{Dump, StreamSpec};
use crate::digest::hex;
use crate::error::Rejection;
use crate::mkv::fragment::Fragment;
use crate::mkv::header::TrackEntry;
use crate::rate::{SlidingWindow, TokenBucket};
use crate::record::{
    Attempt, Call, ErrorRecord, FragmentRecord, SessionEnd, SessionRecord, StreamRecord, StreamStatus, TrackRecord,
    push_bounded,
};
use crate::rule::{Rule, Violation};

const CALLS_PER_SECOND: usize = 5;
const FRAGMENTS_PER_SECOND: f64 = 5.0;
/// One more than is sent in a second: what was evenly spaced may arrive bunched.
const FRAGMENT_BURST: f64 = 6.0;
/// Most media that is kept in memory for one stream.
const MAX_DUMP: usize = 512 * 1024 * 1024;

/// The media of one session that was persisted, as a Matroska file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionDump {
    /// Number of the session.
    pub session: u64,
    /// EBML header, Segment, Info and Tracks, then the persisted Clusters, all as they came.
    pub mkv: Vec<u8>,
}

#[derive(Debug)]
struct Live {
    id: u64,
    replaced_at: Option<Instant>,
    /// Timecode of its first fragment, as a time of day.
    first_ms: Option<i64>,
}

/// A stream and what is known of it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) record: StreamRecord,
    pub(crate) dump: Dump,
    pub(crate) dumps: Vec<SessionDump>,
    active_at: Option<Instant>,
    live: Vec<Live>,
    calls: HashMap<Call, SlidingWindow>,
    fragments: TokenBucket,
}

impl Stream {
    pub(crate) fn new(spec: &StreamSpec, region: &str, dump: Dump, active_at: Option<Instant>) -> Self {
        let status = if active_at.is_some() { StreamStatus::Creating } else { StreamStatus::Active };
        Self {
            record: StreamRecord::new(spec, status, region, now_ms()),
            dump,
            dumps: Vec::new(),
            active_at,
            live: Vec::new(),
            calls: HashMap::new(),
            fragments: TokenBucket::new(FRAGMENTS_PER_SECOND, FRAGMENT_BURST),
        }
    }

    /// The status now: a new stream becomes ACTIVE by itself.
    pub(crate) fn status(&mut self, now: Instant) -> StreamStatus {
        if self.active_at.is_some_and(|at| at <= now) {
            self.active_at = None;
            self.record.status = StreamStatus::Active;
        }
        self.record.status
    }

    /// Whether a call of that kind is within the limit; one that is not is a violation as well.
    pub(crate) fn admit(&mut self, call: Call, now: Instant) -> bool {
        let admitted = self.calls.entry(call).or_insert_with(|| SlidingWindow::new(CALLS_PER_SECOND)).admit(now);
        if !admitted {
            let rule = if call == Call::PutMedia { Rule::PutMediaRate } else { Rule::ControlPlaneRate };
            self.violation(None, rule, format!("more than {CALLS_PER_SECOND} {call:?} calls in a second"));
        }
        admitted
    }

    pub(crate) fn push_attempt(&mut self, attempt: Attempt) {
        push_bounded(&mut self.record.attempts, attempt, &mut self.record.forgotten);
    }

    pub(crate) fn violation(&mut self, session: Option<u64>, rule: Rule, detail: impl Into<String>) {
        let violation = Violation { at: now_ms(), session, rule, detail: detail.into() };
        push_bounded(&mut self.record.violations, violation, &mut self.record.forgotten);
    }

    /// A new session: the older ones are replaced from now on.
    pub(crate) fn open_session(&mut self, session: SessionRecord, now: Instant) {
        for older in &mut self.live {
            older.replaced_at.get_or_insert(now);
        }
        self.live.push(Live { id: session.id, replaced_at: None, first_ms: None });
        push_bounded(&mut self.record.sessions, session, &mut self.record.forgotten);
    }

    /// When a newer session replaced this one.
    pub(crate) fn replaced_at(&self, session: u64) -> Option<Instant> {
        self.live.iter().find(|live| live.id == session).and_then(|live| live.replaced_at)
    }

    pub(crate) fn session(&mut self, session: u64) -> Option<&mut SessionRecord> {
        self.record.sessions.iter_mut().rfind(|record| record.id == session)
    }

    pub(crate) fn set_tracks(&mut self, session: u64, tracks: &[TrackEntry]) {
        let Some(record) = self.session(session) else { return };
        let track_record = |track: &TrackEntry| TrackRecord {
            number: track.number,
            codec_id: track.codec_id.clone(),
            codec_private: hex(&track.codec_private),
            width: track.width,
            height: track.height,
        };
        record.tracks = tracks.iter().map(track_record).collect();
    }

    fn fragment(&mut self, session: u64, index: u32) -> Option<&mut FragmentRecord> {
        self.record.fragments.iter_mut().rfind(|record| record.session == session && record.index == index)
    }

    /// The Timecode of a fragment is known; `absolute_ms` is it as a time of day. `strict` is off where the pace is not
    /// the producer's doing.
    pub(crate) fn start_fragment(&mut self, fragment: FragmentRecord, absolute_ms: i64, strict: bool, now: Instant) {
        let (session, index) = (fragment.session, fragment.index);
        push_bounded(&mut self.record.fragments, fragment, &mut self.record.forgotten);
        if !self.fragments.admit(now) && strict {
            self.violation(
                Some(session),
                Rule::FragmentRate,
                format!("fragment {index} is one too many in this second"),
            );
        }
        if let Some(live) = self.live.iter_mut().find(|live| live.id == session) {
            live.first_ms.get_or_insert(absolute_ms);
        }
        let newer = self.live.iter().filter(|live| live.id > session).find_map(|live| live.first_ms);
        if strict && newer.is_some_and(|newer| newer <= absolute_ms) {
            let detail =
                format!("fragment {index} at {absolute_ms} ms goes beyond the first fragment of a newer session");
            self.violation(Some(session), Rule::ConcurrentSession, detail);
        }
    }

    /// What came of a fragment, all of it (`complete`) or not.
    pub(crate) fn end_fragment(&mut self, session: u64, fragment: Fragment, complete: bool) {
        self.record.received += u64::from(complete);
        let Some(record) = self.fragment(session, fragment.index) else { return };
        record.received_at = complete.then(now_ms);
        record.size = fragment.size;
        record.block_count = fragment.block_count;
        record.first_ms = fragment.first_ms;
        record.last_ms = fragment.last_ms;
        record.blocks = fragment.blocks;
        record.tags = fragment.tags;
    }

    pub(crate) fn persist_fragment(&mut self, session: u64, index: u32, acknowledged: bool) {
        let now = now_ms();
        self.record.persisted += 1;
        if let Some(record) = self.fragment(session, index) {
            record.persisted_at = Some(now);
            record.acknowledged = acknowledged;
        }
        if let Some(record) = self.session(session) {
            record.first_persisted_at.get_or_insert(now);
        }
    }

    /// The session ends with an ERROR acknowledgement, in the fragment of that index if there is one.
    pub(crate) fn reject(&mut self, session: u64, index: Option<u32>, rejection: &Rejection) {
        let error = ErrorRecord { at: now_ms(), session, id: rejection.id, detail: rejection.detail.clone() };
        push_bounded(&mut self.record.errors, error, &mut self.record.forgotten);
        if let Some(record) = index.and_then(|index| self.fragment(session, index)) {
            record.error = Some(rejection.id);
        }
    }

    pub(crate) fn close_session(&mut self, session: u64, end: SessionEnd) {
        self.live.retain(|live| live.id != session);
        if let Some(record) = self.session(session) {
            record.closed_at.get_or_insert_with(now_ms);
            record.end.get_or_insert(end);
        }
    }

    /// Closes the sessions that have not closed themselves, when the server goes down.
    pub(crate) fn close_all(&mut self) {
        for live in std::mem::take(&mut self.live) {
            self.close_session(live.id, SessionEnd::Stopped);
        }
    }

    pub(crate) fn add_bytes(&mut self, session: u64, bytes: u64) {
        self.record.bytes += bytes;
        if let Some(record) = self.session(session) {
            record.bytes += bytes;
        }
    }

    /// Keeps a persisted Cluster in memory.
    pub(crate) fn keep(&mut self, session: u64, header: &[u8], cluster: &[u8]) {
        if self.dumps.iter().map(|dump| dump.mkv.len()).sum::<usize>() + cluster.len() > MAX_DUMP {
            return;
        }
        match self.dumps.iter_mut().rfind(|dump| dump.session == session) {
            Some(dump) => dump.mkv.extend_from_slice(cluster),
            None => self.dumps.push(SessionDump { session, mkv: [header, cluster].concat() }),
        }
    }

    /// How long a replaced session may still go on.
    pub(crate) fn replaced_deadline(&self, session: u64, grace: Duration) -> Option<Instant> {
        self.replaced_at(session).map(|at| at + grace)
    }
}

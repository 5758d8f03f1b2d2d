//! A fragment, and what a session is told about its fragments.

use crate::mkv::header::TrackEntry;
use crate::record::BlockRecord;
use crate::rule::Rule;

/// What the stream of one session has come to.
#[derive(Debug)]
pub(crate) enum Notice {
    Tracks(Vec<TrackEntry>),
    /// The Timecode of a new Cluster is known; `timecode_ms` as sent.
    Started {
        index: u32,
        timecode_ms: i64,
    },
    Complete(Box<Fragment>),
    Violation(Rule, String),
}

/// A fragment, whole or as far as it came.
#[derive(Debug)]
pub(crate) struct Fragment {
    /// 1 for the first of its session.
    pub(crate) index: u32,
    pub(crate) size: u64,
    pub(crate) block_count: u32,
    pub(crate) first_ms: Option<i64>,
    pub(crate) last_ms: Option<i64>,
    /// Empty when blocks are not recorded.
    pub(crate) blocks: Vec<BlockRecord>,
    pub(crate) tags: Vec<(String, String)>,
    /// The Cluster as it came, when copies are asked for.
    pub(crate) raw: Vec<u8>,
    pub(super) start: u64,
    pub(super) started: bool,
    /// In ticks, as all that is compared.
    pub(super) timecode: i64,
    pub(super) last: i64,
    pub(super) tracks_seen: Vec<u64>,
}

impl Fragment {
    pub(super) fn new(index: u32, start: u64, tags: Vec<(String, String)>) -> Self {
        Self {
            index,
            size: 0,
            block_count: 0,
            first_ms: None,
            last_ms: None,
            blocks: Vec::new(),
            tags,
            raw: Vec::new(),
            start,
            started: false,
            timecode: 0,
            last: 0,
            tracks_seen: Vec::new(),
        }
    }
}

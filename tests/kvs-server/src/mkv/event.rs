//! What the parser finds.

use crate::error::Rejection;
use crate::mkv::header::TrackEntry;

/// What was found. Offsets count from the start of the body.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    TimecodeScale(u64),
    Tracks(Vec<TrackEntry>),
    ClusterStart {
        offset: u64,
    },
    ClusterEnd {
        offset: u64,
    },
    Timecode(u64),
    /// A SimpleBlock, or a Block in a BlockGroup: those have no key frame flag of their own.
    Block {
        track: u64,
        timecode: i16,
        flags: u8,
        size: u64,
        end: u64,
        simple: bool,
    },
    Payload(&'a [u8]),
    BlockEnd,
    /// The Block of this group refers to another: it is no key frame.
    ReferenceBlock,
    Tags(Vec<(String, String)>),
    /// Legal, but nothing a producer should send.
    Unusual(&'static str),
    /// Bytes as they came, in order, beside the events they belong to.
    Raw(&'a [u8]),
}

/// Receives events; refusing one ends the stream.
pub(crate) type Sink<'s> = dyn FnMut(Event<'_>) -> Result<(), Rejection> + 's;

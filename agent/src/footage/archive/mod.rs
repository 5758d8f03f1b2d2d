//! The archive of one camera: a directory of fragmented MP4 segments, written by one thread, read by many.
//!
//! Invariants:
//! * A segment holds GOPs with consecutive numbers, one set of parameter sets and rising timestamps.
//! * All segments but the newest are finished and synced; after a crash only the newest has to be looked at.
//! * What [`Index::written`] says can be read back.
//!
//! Everything here is synchronous and blocks on the disk; it runs on the disk thread and on blocking readers.

pub mod export;
mod name;
mod reader;
mod recovery;
pub mod retention;
mod scan;
mod segment;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use edgecam_media::Timestamp;
use edgecam_media::ring::Position;

pub use reader::{ArchiveRead, Reader, locate};
pub use recovery::{Recovered, inspect, open};
pub use writer::{Rotation, Writer};

/// One finished or open segment, as the index knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The file.
    pub path: PathBuf,
    /// When its first picture is shown, to the millisecond.
    pub start: Timestamp,
    /// Number of its first GOP.
    pub first_gop: u64,
    /// Bytes, as far as written.
    pub bytes: u64,
}

/// What the archive of a camera holds. Shared between its writer and its readers.
#[derive(Debug, Default)]
pub struct Index {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By first GOP, ascending.
    segments: Vec<Segment>,
    written: Position,
}

impl Index {
    /// Where writing stands: everything before is in the archive, unless it was deleted or never got there.
    pub fn written(&self) -> Position {
        self.lock().written
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> Vec<Segment> {
        self.lock().segments.clone()
    }

    /// Bytes of all segments, and how many there are.
    pub fn size(&self) -> (u64, usize) {
        let state = self.lock();
        (state.segments.iter().map(|segment| segment.bytes).sum(), state.segments.len())
    }

    /// When the oldest picture was taken.
    pub fn earliest(&self) -> Option<Timestamp> {
        self.lock().segments.first().map(|segment| segment.start)
    }

    /// The first GOP of the segment that holds `instant`, or of the first after it.
    pub fn at(&self, instant: Timestamp) -> Option<Position> {
        let state = self.lock();
        // After a step of the wall clock starts need not ascend: the newest segment that fits is meant.
        let found = state.segments.iter().rfind(|segment| segment.start <= instant);
        found.or(state.segments.first()).map(|segment| Position::start_of(segment.first_gop))
    }

    /// The segment that holds `gop`, if it is there, and the first GOP of the one after it.
    fn holding(&self, gop: u64) -> (Option<Segment>, Option<u64>) {
        let state = self.lock();
        let after = state.segments.partition_point(|segment| segment.first_gop <= gop);
        let found = after.checked_sub(1).and_then(|index| state.segments.get(index)).cloned();
        (found, state.segments.get(after).map(|segment| segment.first_gop))
    }

    fn remove(&self, path: &Path) {
        self.lock().segments.retain(|segment| segment.path != path);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes a segment; a file that is gone already is no error.
pub fn delete(index: &Arc<Index>, segment: &Segment) -> std::io::Result<()> {
    match std::fs::remove_file(&segment.path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => {
            index.remove(&segment.path);
            Ok(())
        }
    }
}

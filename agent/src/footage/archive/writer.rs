//! Appends to the archive: picks the segment, rotates it, keeps the index.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgecam_media::ring::Position;
use edgecam_media::{AccessUnit, Ticks, Timestamp};

use super::segment::SegmentWriter;
use super::{Index, Segment, name};

/// When a segment is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// A segment covers about this much time.
    pub duration: Duration,
    /// And is at most about this large.
    pub bytes: u64,
}

/// The only writer of one camera's archive.
pub struct Writer {
    directory: PathBuf,
    rotation: Rotation,
    index: Arc<Index>,
    open: Option<SegmentWriter>,
}

impl Writer {
    /// A writer into `directory`, whose content `index` describes.
    pub fn new(directory: PathBuf, rotation: Rotation, index: Arc<Index>) -> Self {
        Self { directory, rotation, index, open: None }
    }

    /// Appends `units` of one GOP that stand at `at` in the log; `next` is when the picture after them is shown. On an
    /// error nothing of them is in the archive, and the same may be tried again.
    pub fn append(&mut self, at: Position, units: &[AccessUnit], next: Option<Timestamp>) -> io::Result<()> {
        let Some(first) = units.first() else { return Ok(()) };
        let continues = match &self.open {
            Some(open) if at.unit > 0 => open.next_gop() == at.gop + 1,
            Some(open) => open.takes(at.gop, first) && !self.is_full(open, first.pts),
            None => false,
        };
        if !continues {
            self.finish()?;
            // RASL pictures behind the first are shown before it.
            let start = units.iter().map(|unit| unit.pts).fold(first.pts, Timestamp::min);
            self.begin(at, first, start)?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.append(units, next)?;
        let (path, bytes) = (open.path(), open.bytes());
        let mut state = self.index.lock();
        if let Some(segment) = state.segments.iter_mut().rfind(|segment| segment.path == path) {
            segment.bytes = bytes;
        }
        state.written = Position { gop: at.gop, unit: at.unit + units.len() as u32 };
        Ok(())
    }

    /// Brings what was appended to the medium.
    pub fn sync(&mut self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), SegmentWriter::sync)
    }

    /// Finishes the open segment, if there is one.
    pub fn finish(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let path = open.path().to_owned();
        let bytes = open.finish()?;
        if let Some(segment) = self.index.lock().segments.iter_mut().rfind(|segment| segment.path == path) {
            segment.bytes = bytes;
        }
        Ok(())
    }

    /// The file that must not be deleted.
    pub fn open_gop(&self) -> Option<u64> {
        self.open.as_ref().map(SegmentWriter::first_gop)
    }

    /// What the archive holds.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Footage up to `position` never gets into the archive.
    pub fn skip_to(&mut self, position: Position) {
        let mut state = self.index.lock();
        state.written = state.written.max(position);
    }

    fn is_full(&self, open: &SegmentWriter, pts: Timestamp) -> bool {
        open.span(pts) >= Ticks::from_duration(self.rotation.duration) || open.bytes() >= self.rotation.bytes
    }

    fn begin(&mut self, at: Position, first: &AccessUnit, start: Timestamp) -> io::Result<()> {
        let Some(sets) = first.parameter_sets.clone() else {
            return Err(io::Error::other("a segment cannot begin inside a GOP"));
        };
        let path = self.directory.join(name::file_name(start, at.gop));
        std::fs::create_dir_all(&self.directory)?;
        let open = SegmentWriter::create(&path, sets, start, at.gop)?;
        let segment = Segment { path, start, first_gop: at.gop, bytes: open.bytes() };
        self.index.lock().segments.push(segment);
        self.open = Some(open);
        Ok(())
    }

    /// Gives up the open segment. The file stays as it is: what is whole in it can be read, and the next GOP begins a
    /// new one.
    pub fn abandon(&mut self) {
        if let Some(open) = self.open.take()
            && open.next_gop() == open.first_gop()
        {
            // Nothing is in it. It cannot matter whether this succeeds: the next start removes it.
            drop(std::fs::remove_file(open.path()));
            self.index.remove(open.path());
        }
    }
}

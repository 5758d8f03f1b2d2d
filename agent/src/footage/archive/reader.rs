//! Reads footage back from the archive, one fragment at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use edgecam_media::mp4::Fragment;
use edgecam_media::ring::Position;
use edgecam_media::{AccessUnit, ParameterSets, Timestamp};

use super::scan::{self, At};
use super::{Index, Segment};

/// What a read has found.
#[derive(Debug)]
pub enum ArchiveRead {
    /// Units in order, the first at the position asked for or the first behind it that is there.
    Units {
        /// Where the first of them stands.
        at: Position,
        /// The units: the rest of one fragment.
        units: Vec<AccessUnit>,
        /// What they refer to.
        sets: Arc<ParameterSets>,
    },
    /// The archive has nothing at the position; what it has next begins at `resume`.
    Gap {
        /// The next GOP that is there; nothing when there is none.
        resume: Option<Position>,
    },
}

/// A reader with a place of its own. Keeps the file it reads open, so that reading on is cheap, and so that a segment
/// deleted meanwhile can be read to its end.
#[derive(Debug, Default)]
pub struct Reader {
    open: Option<OpenSegment>,
}

#[derive(Debug)]
struct OpenSegment {
    file: File,
    segment: Segment,
    sets: Arc<ParameterSets>,
    start: Option<Timestamp>,
    /// Where in the file reading stands, and which position that is.
    offset: u64,
    at: Position,
}

impl Reader {
    /// Reads at `position`, which must lie before [`Index::written`].
    pub fn read(&mut self, index: &Index, position: Position) -> io::Result<ArchiveRead> {
        loop {
            let (segment, next) = index.holding(position.gop);
            let resume = next.map(Position::start_of);
            let still_there = |open: &&mut OpenSegment| {
                let same = segment.as_ref().is_some_and(|segment| segment.path == open.segment.path);
                // A deleted segment is read on: then what the index names for its GOPs is an older one, or none.
                let is_deleted = segment.as_ref().is_none_or(|segment| segment.first_gop < open.segment.first_gop);
                (same || (is_deleted && position.gop >= open.segment.first_gop)) && open.at <= position
            };
            if self.open.as_mut().filter(|open| still_there(open)).is_none() {
                self.open = None;
                let Some(segment) = segment else { return Ok(ArchiveRead::Gap { resume }) };
                match OpenSegment::open(segment.clone()) {
                    Ok(Some(open)) => self.open = Some(open),
                    Ok(None) => return Ok(ArchiveRead::Gap { resume }),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        // Deleted behind the index's back.
                        index.remove(&segment.path);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(open) = &mut self.open else { return Ok(ArchiveRead::Gap { resume }) };
            return match open.read(position, index.written())? {
                Some((at, units)) => Ok(ArchiveRead::Units { at, units, sets: open.sets.clone() }),
                None => Ok(ArchiveRead::Gap { resume }),
            };
        }
    }
}

/// The GOP that was being shown at `instant`, or the first after it. Reads heads only.
pub fn locate(index: &Index, instant: Timestamp) -> io::Result<Option<Position>> {
    let Some(begin) = index.at(instant) else { return Ok(None) };
    let (Some(segment), _) = index.holding(begin.gop) else { return Ok(None) };
    let Some(mut open) = OpenSegment::open(segment)? else { return Ok(Some(begin)) };
    let length = open.file.metadata()?.len();
    let written = index.written();
    let mut found = begin;
    while let At::Fragment(fragment) = scan::fragment(&open.file, open.offset, length)? {
        let start = *open.start.get_or_insert(fragment.start.unwrap_or(open.segment.start));
        if fragment.samples[0].is_sync {
            if open.offset > 0 && start + fragment.samples[0].time > instant {
                break;
            }
            found = Position::start_of(if open.at.unit == 0 { open.at.gop } else { open.at.gop + 1 });
            open.at = Position { gop: found.gop, unit: 1 };
        }
        open.offset += fragment.size;
        if found >= written {
            return Ok(Some(written));
        }
    }
    Ok(Some(found))
}

impl OpenSegment {
    fn open(segment: Segment) -> io::Result<Option<Self>> {
        let file = File::open(&segment.path)?;
        let Ok(init) = scan::init(&file)? else { return Ok(None) };
        let at = Position::start_of(segment.first_gop);
        Ok(Some(Self { file, segment, sets: Arc::new(init.parameter_sets), start: None, offset: init.size, at }))
    }

    /// The rest of the fragment that holds `position`, or of the first behind it in this file.
    fn read(&mut self, position: Position, written: Position) -> io::Result<Option<(Position, Vec<AccessUnit>)>> {
        let length = self.file.metadata()?.len();
        if position.gop > self.at.gop + 1 {
            self.seek(position.gop, length)?;
        }
        loop {
            // What lies behind `written` may be half a fragment.
            if self.at >= written {
                return Ok(None);
            }
            let At::Fragment(fragment) = scan::fragment(&self.file, self.offset, length)? else { return Ok(None) };
            let begin = match fragment.samples[0].is_sync && self.at.unit > 0 {
                true => Position::start_of(self.at.gop + 1),
                false => self.at,
            };
            self.start = self.start.or(fragment.start);
            let end = Position { gop: begin.gop, unit: begin.unit + fragment.samples.len() as u32 };
            let offset = self.offset;
            (self.offset, self.at) = (offset + fragment.size, end);
            if end <= position {
                continue;
            }
            let skip = if begin.gop == position.gop { position.unit.saturating_sub(begin.unit) } else { 0 };
            let units = self.units(&fragment, offset, skip as usize)?;
            return Ok(Some((Position { gop: begin.gop, unit: begin.unit + skip }, units)));
        }
    }

    /// Goes to a GOP through the index of a finished segment.
    fn seek(&mut self, gop: u64, length: u64) -> io::Result<()> {
        // `prft` stands in front of each GOP's `moof`.
        const PRFT_SIZE: u64 = 32;
        let Some(entries) = scan::index(&self.file, length)? else { return Ok(()) };
        if self.start.is_none()
            && let At::Fragment(first) = scan::fragment(&self.file, self.offset, length)?
        {
            self.start = first.start;
        }
        if let Some(entry) = entries.get((gop - self.segment.first_gop) as usize) {
            self.offset = entry.moof - PRFT_SIZE;
            self.at = Position::start_of(gop);
        }
        Ok(())
    }

    fn units(&self, fragment: &Fragment, offset: u64, skip: usize) -> io::Result<Vec<AccessUnit>> {
        let start = self.start.unwrap_or(self.segment.start);
        let size = |samples: &[edgecam_media::mp4::Sample]| samples.iter().map(|s| u64::from(s.size)).sum::<u64>();
        let (before, wanted) = fragment.samples.split_at(skip);
        let mut bytes = vec![0; size(wanted) as usize];
        self.file.read_exact_at(&mut bytes, offset + fragment.data + size(before))?;
        let mut bytes = Bytes::from(bytes);
        let units = wanted.iter().map(|sample| AccessUnit {
            track: sample.track,
            pts: start + sample.time,
            is_idr: sample.is_sync,
            data: bytes.split_to(sample.size as usize),
            parameter_sets: sample.is_sync.then(|| self.sets.clone()),
        });
        Ok(units.collect())
    }
}

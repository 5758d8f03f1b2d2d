//! Opens an archive: lists its segments, and mends the newest if the last run did not end in order.
//!
//! With 100 GB of one-minute segments this is one directory listing and one file read: the older segments were
//! finished before the next was begun.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use edgecam_media::Timestamp;
use edgecam_media::mp4::random_access_box;
use edgecam_media::ring::Position;

use super::{Index, Segment, name, scan};
use crate::host::state;

/// What was found.
#[derive(Debug)]
pub struct Recovered {
    /// The content.
    pub index: Arc<Index>,
    /// Number of the next GOP.
    pub next_gop: u64,
    /// When the newest picture ends.
    pub latest: Option<Timestamp>,
    /// Bytes cut off the newest segment's torn tail.
    pub bytes_cut: u64,
    /// Files removed because nothing in them could be read.
    pub files_removed: usize,
}

/// Lists the archive in `directory` and changes nothing: for looking at it while an agent may be writing it.
pub fn inspect(directory: &Path) -> io::Result<Arc<Index>> {
    state::look(directory).map_err(io::Error::other)?;
    let index = Arc::<Index>::default();
    {
        let mut state = index.lock();
        state.segments = list(directory)?;
        state.written = Position::start_of(u64::MAX);
    }
    Ok(index)
}

fn list(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if let Some((start, first_gop)) = name::parse(&path) {
            segments.push(Segment { path, start, first_gop, bytes: entry.metadata()?.len() });
        }
    }
    segments.sort_by_key(|segment| segment.first_gop);
    Ok(segments)
}

/// Opens the archive in `directory`, which is made if it is missing. One that a newer agent has written is not touched:
/// what cannot be read here might be mended away.
pub fn open(directory: &Path) -> io::Result<Recovered> {
    std::fs::create_dir_all(directory)?;
    state::adopt(directory).map_err(io::Error::other)?;
    let mut segments = list(directory)?;
    let mut recovered = Recovered { index: Arc::default(), next_gop: 0, latest: None, bytes_cut: 0, files_removed: 0 };
    while let Some(newest) = segments.last_mut() {
        let before = newest.bytes;
        if let Some((gops, latest)) = mend(newest)? {
            recovered.bytes_cut += before.saturating_sub(newest.bytes);
            recovered.next_gop = newest.first_gop + gops;
            recovered.latest = latest;
            break;
        }
        recovered.bytes_cut += before;
        recovered.files_removed += 1;
        // Numbers are never used twice: a reader's cursor may point into the file that is removed.
        recovered.next_gop = recovered.next_gop.max(newest.first_gop + 1);
        std::fs::remove_file(&newest.path)?;
        segments.pop();
    }
    {
        let mut state = recovered.index.lock();
        state.written = Position::start_of(recovered.next_gop);
        state.segments = segments;
    }
    Ok(recovered)
}

/// Cuts a torn tail and writes the index if it is missing. Returns the number of GOPs and the end, or `None` when
/// nothing in the file can be read.
fn mend(segment: &mut Segment) -> io::Result<Option<(u64, Option<Timestamp>)>> {
    let file = File::open(&segment.path)?;
    let Some(salvage) = scan::salvage(&file)? else { return Ok(None) };
    if !salvage.is_finished {
        let mut file = OpenOptions::new().write(true).open(&segment.path)?;
        file.set_len(salvage.length)?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        file.write_all(&random_access_box(&salvage.gops))?;
        file.sync_all()?;
        segment.bytes = salvage.length;
    }
    Ok(Some((salvage.gops.len() as u64, salvage.end)))
}

//! Writes one segment file.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgecam_media::mp4::{FragmentHead, RandomAccessEntry, init_segment, random_access_box};
use edgecam_media::{AccessUnit, ParameterSets, Ticks, Timestamp};

/// A segment that is being written.
pub(crate) struct SegmentWriter {
    file: File,
    path: PathBuf,
    sets: Arc<ParameterSets>,
    start: Timestamp,
    first_gop: u64,
    gops: Vec<RandomAccessEntry>,
    fragments: u32,
    bytes: u64,
    latest: Timestamp,
}

impl SegmentWriter {
    /// Creates the file and writes its head.
    pub(crate) fn create(path: &Path, sets: Arc<ParameterSets>, start: Timestamp, first_gop: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let head = init_segment(&sets, start);
        if let Err(error) = file.write_all(&head) {
            // Best effort: a file without a head is removed at the next start as well.
            drop(std::fs::remove_file(path));
            return Err(error);
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            sets,
            start,
            first_gop,
            gops: Vec::new(),
            fragments: 0,
            bytes: head.len() as u64,
            latest: start,
        })
    }

    /// Whether `unit`, which begins a GOP, can go into this segment.
    pub(crate) fn takes(&self, gop: u64, unit: &AccessUnit) -> bool {
        let same_sets =
            unit.parameter_sets.as_ref().is_some_and(|sets| Arc::ptr_eq(sets, &self.sets) || **sets == *self.sets);
        same_sets && gop == self.next_gop() && unit.pts > self.latest
    }

    /// Appends a fragment. On an error the file is cut back to what it held before.
    pub(crate) fn append(&mut self, units: &[AccessUnit], next: Option<Timestamp>) -> io::Result<()> {
        let head = FragmentHead::new(self.fragments + 1, self.start, units, next);
        let written = write_all(&mut self.file, &head.bytes, units);
        if let Err(error) = written {
            self.file.set_len(self.bytes)?;
            io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.bytes))?;
            return Err(error);
        }
        if units.first().is_some_and(|unit| unit.is_idr) {
            let time = units[0].pts.since(self.start).get().max(0) as u64;
            self.gops.push(RandomAccessEntry { time, moof: self.bytes + head.moof as u64 });
        }
        self.fragments += 1;
        self.bytes += (head.bytes.len() + head.payload) as u64;
        self.latest = units.iter().map(|unit| unit.pts).fold(self.latest, Timestamp::max);
        Ok(())
    }

    /// Brings what was written to the medium.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes the index and closes the file.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        let index = random_access_box(&self.gops);
        if let Err(error) = self.file.write_all(&index) {
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.file.sync_data()?;
        Ok(self.bytes + index.len() as u64)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The GOP after the last one in it.
    pub(crate) fn next_gop(&self) -> u64 {
        self.first_gop + self.gops.len() as u64
    }

    pub(crate) fn first_gop(&self) -> u64 {
        self.first_gop
    }

    /// How much time it covers, up to `pts`.
    pub(crate) fn span(&self, pts: Timestamp) -> Ticks {
        pts.since(self.start)
    }
}

/// Writes head and sample bytes with as few system calls as possible.
fn write_all(file: &mut File, head: &[u8], units: &[AccessUnit]) -> io::Result<()> {
    const BATCH: usize = 64;
    let mut parts = std::iter::once(head).chain(units.iter().map(|unit| &unit.data[..]));
    loop {
        let mut slices: Vec<IoSlice<'_>> = parts.by_ref().take(BATCH).map(IoSlice::new).collect();
        if slices.is_empty() {
            return Ok(());
        }
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

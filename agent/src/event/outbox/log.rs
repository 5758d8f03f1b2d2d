//! The outbox's file: records one behind the other, each with a checksum. A record cut by a crash ends it.
//!
//! ```text
//! header   "edgecam-outbox-1\n"
//! record   u32 length of the rest, u32 checksum of the rest, then
//!          a message: u8 importance (0, 1, 2), body       one that is gone: u8 255, u64 where its body was
//! ```
//!
//! Numbers are little-endian. A file whose messages are all gone is cut to its header; one with more dead than live
//! bytes is written anew.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};

use super::queue::{Importance, Placed, Sequence, Unwritten};

const HEADER: &[u8] = b"edgecam-outbox-1\n";
/// Length and checksum.
const PREFIX: usize = 8;
/// In front of a body: prefix and importance.
const BEFORE: usize = PREFIX + 1;
const GONE: u8 = 255;

/// An open file.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    file: File,
    length: u64,
}

/// What a file held.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) log: Log,
    /// Messages that still wait, in order.
    pub(super) left: Vec<Placed>,
    /// Bytes at the end that were cut off.
    pub(super) cut: u64,
}

impl Log {
    /// Opens or makes the file in this directory.
    pub(super) fn open(directory: &Path) -> io::Result<Opened> {
        fs::create_dir_all(directory)?;
        let path = directory.join("outbox.log");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let content = fs::read(&path)?;
        if content.len() < HEADER.len() && HEADER.starts_with(&content) {
            file.write_all_at(HEADER, 0)?;
            let log = Self { directory: directory.to_owned(), file, length: HEADER.len() as u64 };
            return Ok(Opened { log, left: Vec::new(), cut: 0 });
        }
        if !content.starts_with(HEADER) {
            let message = format!("{} is not an outbox of this version: move it away", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let (left, length) = parse(&content);
        let cut = content.len() as u64 - length;
        if cut > 0 {
            file.set_len(length)?;
        }
        Ok(Opened { log: Self { directory: directory.to_owned(), file, length }, left, cut })
    }

    /// Bytes behind the header.
    pub(super) fn length(&self) -> u64 {
        self.length - HEADER.len() as u64
    }

    /// Writes messages and what is gone; returns where the bodies are.
    pub(super) fn append(&mut self, messages: &[Unwritten], gone: &[u64]) -> io::Result<Vec<u64>> {
        let mut buffer = Vec::new();
        let mut places = Vec::with_capacity(messages.len());
        for message in messages {
            places.push(self.length + (buffer.len() + BEFORE) as u64);
            put(&mut buffer, message.importance as u8, &message.body);
        }
        for place in gone {
            put(&mut buffer, GONE, &place.to_le_bytes());
        }
        if let Err(error) = self.file.write_all_at(&buffer, self.length) {
            // A full disk may have taken a part: the next attempt begins at the same place.
            self.file.set_len(self.length).ok();
            return Err(error);
        }
        self.length += buffer.len() as u64;
        Ok(places)
    }

    /// Reads a body.
    pub(super) fn read(&self, placed: &Placed) -> io::Result<Bytes> {
        let mut record = vec![0; BEFORE + placed.length as usize];
        let begin = placed.place.saturating_sub(BEFORE as u64);
        self.file.read_exact_at(&mut record, begin)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a message on disk is damaged");
        let (sum, rest) = record.get(4..).and_then(<[u8]>::split_first_chunk::<4>).ok_or_else(damaged)?;
        if u32::from_le_bytes(*sum) != checksum(rest) {
            return Err(damaged());
        }
        Ok(Bytes::from(record).slice(BEFORE..))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(HEADER.len() as u64)?;
        self.length = HEADER.len() as u64;
        Ok(())
    }

    /// Writes what is still wanted to a new file that takes the place of this one; returns where the bodies are now.
    /// One that cannot be read any more is left out.
    pub(super) fn rewrite(&mut self, live: &[(Sequence, Placed)]) -> io::Result<Vec<Option<u64>>> {
        let (path, new) = (self.directory.join("outbox.log"), self.directory.join("outbox.new"));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut places = Vec::with_capacity(live.len());
        let mut buffer = HEADER.to_vec();
        let mut length = 0;
        for (_, placed) in live {
            let Ok(body) = self.read(placed) else {
                places.push(None);
                continue;
            };
            places.push(Some(length + (buffer.len() + BEFORE) as u64));
            put(&mut buffer, placed.importance as u8, &body);
            if buffer.len() >= 256 << 10 {
                file.write_all_at(&buffer, length)?;
                length += buffer.len() as u64;
                buffer.clear();
            }
        }
        file.write_all_at(&buffer, length)?;
        length += buffer.len() as u64;
        file.sync_data()?;
        fs::rename(&new, &path)?;
        File::open(&self.directory)?.sync_all()?;
        (self.file, self.length) = (file, length);
        Ok(places)
    }

    /// Flushes to the medium.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The messages that wait, and the bytes up to the end of the last whole record.
fn parse(content: &[u8]) -> (Vec<Placed>, u64) {
    let mut left: Vec<Placed> = Vec::new();
    let mut gone = BTreeSet::new();
    let mut at = HEADER.len();
    while let Some((kind, body)) = record(content.get(at..).unwrap_or_default()) {
        let importance = match (kind, body.split_first_chunk::<8>()) {
            (0, _) => Importance::Low,
            (1, _) => Importance::Normal,
            (2, _) => Importance::High,
            (GONE, Some((place, []))) => {
                gone.insert(u64::from_le_bytes(*place));
                at += BEFORE + body.len();
                continue;
            }
            _ => break,
        };
        left.push(Placed { importance, place: (at + BEFORE) as u64, length: body.len() as u32 });
        at += BEFORE + body.len();
    }
    left.retain(|placed| !gone.contains(&placed.place));
    (left, at as u64)
}

/// The first record: kind and body.
fn record(content: &[u8]) -> Option<(u8, &[u8])> {
    let mut prefix = content.get(..PREFIX)?;
    let (length, sum) = (prefix.get_u32_le() as usize, prefix.get_u32_le());
    let rest = content.get(PREFIX..PREFIX.checked_add(length)?)?;
    let (&kind, body) = rest.split_first()?;
    (checksum(rest) == sum).then_some((kind, body))
}

fn put(buffer: &mut Vec<u8>, kind: u8, body: &[u8]) {
    buffer.put_u32_le(1 + body.len() as u32);
    let sum = buffer.len();
    buffer.put_u32_le(0);
    buffer.put_u8(kind);
    buffer.extend_from_slice(body);
    let of_rest = checksum(&buffer[sum + 4..]);
    buffer[sum..sum + 4].copy_from_slice(&of_rest.to_le_bytes());
}

/// FNV-1a, 32 bits: enough to tell a torn record from a whole one.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

//! The uploader's cursor on disk: where it was left, and what it has put off.
//!
//! Two fixed-size records in one file, written in turn and in place: a record cut by a crash leaves the other. A write
//! costs no file system metadata; what a power cut loses is re-sent, never skipped.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use edgecam_media::ring::Position;

/// Both records lie in one page.
const RECORD: usize = 1024;
const MAGIC: &str = "edgecam-cursor-2";
/// Positions that fit into a record.
pub const MOST: usize = 32;

/// An open bookmark.
#[derive(Debug)]
pub struct Bookmark {
    file: File,
    generation: u64,
}

impl Bookmark {
    /// Opens or makes the file; returns the positions it holds; none if it is new.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Position>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = [0; RECORD * 2];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], read as u64)? {
                0 => break,
                count => read += count,
            }
        }
        let newest = bytes.chunks(RECORD).filter_map(parse).max_by_key(|(generation, _)| *generation);
        let (generation, positions) = newest.unwrap_or_default();
        Ok((Self { file, generation }, positions))
    }

    /// Remembers `positions`, [`MOST`] at most.
    pub fn save(&mut self, positions: &[Position]) -> io::Result<()> {
        let generation = self.generation + 1;
        let record = format(generation, positions).ok_or(io::ErrorKind::InvalidInput)?;
        self.file.write_all_at(&record, (generation % 2) * RECORD as u64)?;
        self.generation = generation;
        Ok(())
    }
}

fn format(generation: u64, positions: &[Position]) -> Option<[u8; RECORD]> {
    use std::fmt::Write as _;
    let mut text = format!("{MAGIC} {generation:x}");
    for position in positions {
        write!(text, " {:x}.{:x}", position.gop, position.unit).ok()?;
    }
    let mut record = [b' '; RECORD];
    record[..RECORD - 9].get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    let sum = format!("{:08x}", checksum(&record[..RECORD - 9]));
    record[RECORD - 9..RECORD - 1].copy_from_slice(sum.as_bytes());
    record[RECORD - 1] = b'\n';
    Some(record)
}

fn parse(record: &[u8]) -> Option<(u64, Vec<Position>)> {
    let text = std::str::from_utf8(record).ok()?;
    let (body, sum) = text.split_at_checked(RECORD - 9)?;
    if u32::from_str_radix(sum.trim_end(), 16).ok()? != checksum(body.as_bytes()) {
        return None;
    }
    let mut fields = body.split_ascii_whitespace();
    if fields.next()? != MAGIC {
        return None;
    }
    let generation = u64::from_str_radix(fields.next()?, 16).ok()?;
    let position = |field: &str| {
        let (gop, unit) = field.split_once('.')?;
        Some(Position { gop: u64::from_str_radix(gop, 16).ok()?, unit: u32::from_str_radix(unit, 16).ok()? })
    };
    Some((generation, fields.map(position).collect::<Option<_>>()?))
}

/// FNV-1a, 32 bits: enough to tell a torn record from a whole one.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_torn_record() {
        let path = std::env::temp_dir().join(format!("edgecam-bookmark-{}", std::process::id()));
        drop(std::fs::remove_file(&path));
        let (mut bookmark, none) = Bookmark::open(&path).expect("a new file");
        assert_eq!(none, []);
        let position = |n: u64| Position { gop: n * 1_000_000_007, unit: n as u32 };
        let lists: Vec<Vec<Position>> = (0..5).map(|n| (n..n * 2 + 1).map(position).collect()).collect();
        for list in &lists {
            bookmark.save(list).expect("saved");
            assert_eq!(Bookmark::open(&path).expect("there").1, *list);
        }
        // The newest record is damaged: the one before it counts.
        let newest = (bookmark.generation % 2) * RECORD as u64;
        bookmark.file.write_all_at(b"#", newest + 20).expect("written");
        assert_eq!(Bookmark::open(&path).expect("there").1, lists[3]);
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn the_largest_positions_fit() {
        let largest = vec![Position { gop: u64::MAX, unit: u32::MAX }; MOST];
        let record = format(u64::MAX, &largest).expect("fits");
        assert_eq!(parse(&record), Some((u64::MAX, largest)));
        assert_eq!(format(1, &[Position { gop: u64::MAX, unit: u32::MAX }; MOST + 10]), None);
    }
}

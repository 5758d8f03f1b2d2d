//! The uploader's cursor on disk: where it was left.
//!
//! Two fixed-size records in one file, written in turn and in place: a record cut by a crash leaves the other. A write
//! costs no file system metadata; what a power cut loses is re-sent, never skipped.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use edgecam_media::ring::Position;

const RECORD: usize = 64;
const MAGIC: &str = "edgecam-cursor-1";

/// An open bookmark.
#[derive(Debug)]
pub struct Bookmark {
    file: File,
    generation: u64,
}

impl Bookmark {
    /// Opens or makes the file; returns the position it holds, if any.
    pub fn open(path: &Path) -> io::Result<(Self, Option<Position>)> {
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
        let generation = newest.map_or(0, |(generation, _)| generation);
        Ok((Self { file, generation }, newest.map(|(_, position)| position)))
    }

    /// Remembers `position`.
    pub fn save(&mut self, position: Position) -> io::Result<()> {
        let generation = self.generation + 1;
        self.file.write_all_at(&format(generation, position), (generation % 2) * RECORD as u64)?;
        self.generation = generation;
        Ok(())
    }
}

fn format(generation: u64, position: Position) -> [u8; RECORD] {
    let text = format!("{MAGIC} {generation:x} {:x} {:x}", position.gop, position.unit);
    // The longest text has 16 + 3 * 17 bytes less the width that 32-bit units save: it fits with the checksum behind.
    let mut record = [b' '; RECORD];
    let text = text.as_bytes();
    let length = text.len().min(RECORD - 9);
    record[..length].copy_from_slice(&text[..length]);
    let sum = format!("{:08x}", checksum(&record[..RECORD - 9]));
    record[RECORD - 9..RECORD - 1].copy_from_slice(sum.as_bytes());
    record[RECORD - 1] = b'\n';
    record
}

fn parse(record: &[u8]) -> Option<(u64, Position)> {
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
    let gop = u64::from_str_radix(fields.next()?, 16).ok()?;
    let unit = u32::from_str_radix(fields.next()?, 16).ok()?;
    Some((generation, Position { gop, unit }))
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
        assert_eq!(none, None);
        let positions: Vec<Position> = (0..5).map(|n| Position { gop: n * 1_000_000_007, unit: n as u32 }).collect();
        for &position in &positions {
            bookmark.save(position).expect("saved");
            assert_eq!(Bookmark::open(&path).expect("there").1, Some(position));
        }
        // The newest record is damaged: the one before it counts.
        let newest = (bookmark.generation % 2) * RECORD as u64;
        bookmark.file.write_all_at(b"#", newest + 20).expect("written");
        assert_eq!(Bookmark::open(&path).expect("there").1, Some(positions[3]));
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn the_largest_position_fits() {
        let largest = Position { gop: u64::MAX >> 8, unit: u32::MAX };
        assert_eq!(parse(&format(u64::from(u32::MAX), largest)), Some((u64::from(u32::MAX), largest)));
    }
}

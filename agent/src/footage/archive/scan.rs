//! Reads segment files: their head, their fragments, their index; whole, torn or still being written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use edgecam_media::Timestamp;
use edgecam_media::mp4::{self, Fragment, Init, RandomAccessEntry, ScanError};

/// First guess at the size of a fragment's head.
const HEAD_GUESS: usize = 4 << 10;
/// No head is larger.
const HEAD_LIMIT: usize = 2 << 20;

/// What a walk over a segment's fragments finds at an offset.
pub(crate) enum At {
    /// A fragment, whole in the file.
    Fragment(Fragment),
    /// The index, or the end of the file.
    End,
    /// The file is cut short or damaged here.
    Torn,
}

/// Reads the head of a segment.
pub(crate) fn init(file: &File) -> io::Result<Result<Init, ScanError>> {
    grow(file, 0, mp4::init)
}

/// Reads the fragment at `offset`; `length` is that of the file, or of the part of it that counts.
pub(crate) fn fragment(file: &File, offset: u64, length: u64) -> io::Result<At> {
    if offset == length {
        return Ok(At::End);
    }
    Ok(match grow(file, offset, mp4::fragment)? {
        Ok(None) => At::End,
        Ok(Some(fragment)) if offset + fragment.size <= length => At::Fragment(fragment),
        Ok(Some(_)) | Err(_) => At::Torn,
    })
}

/// The index at the end of a finished segment.
pub(crate) fn index(file: &File, length: u64) -> io::Result<Option<Vec<RandomAccessEntry>>> {
    // `mfro` is the last 16 bytes; its last field is the size of `mfra` (ISO/IEC 14496-12 section 8.8.11).
    let mut mfro = [0; 16];
    let Some(at) = length.checked_sub(16) else { return Ok(None) };
    file.read_exact_at(&mut mfro, at)?;
    if &mfro[4..8] != b"mfro" {
        return Ok(None);
    }
    let size = u64::from(u32::from_be_bytes([mfro[12], mfro[13], mfro[14], mfro[15]]));
    let Some(at) = length.checked_sub(size) else { return Ok(None) };
    if size > HEAD_LIMIT as u64 {
        return Ok(None);
    }
    let mut mfra = vec![0; size as usize];
    file.read_exact_at(&mut mfra, at)?;
    Ok(mp4::random_access(&mfra))
}

/// What is left of a segment after a crash.
pub(crate) struct Salvage {
    /// Bytes that hold whole fragments.
    pub(crate) length: u64,
    /// Its GOPs.
    pub(crate) gops: Vec<RandomAccessEntry>,
    /// Whether its index was there already.
    pub(crate) is_finished: bool,
    /// When its last picture ends.
    pub(crate) end: Option<Timestamp>,
}

/// Walks a segment from its head to where it is cut. `None` when not even its head and one fragment are whole.
pub(crate) fn salvage(file: &File) -> io::Result<Option<Salvage>> {
    let length = file.metadata()?.len();
    let Ok(init) = init(file)? else { return Ok(None) };
    let (mut offset, mut gops, mut end) = (init.size, Vec::new(), None);
    let mut start = None;
    let is_finished = loop {
        match fragment(file, offset, length)? {
            At::Fragment(fragment) => {
                start = start.or(fragment.start);
                if fragment.samples[0].is_sync {
                    let time = fragment.samples[0].time.get().max(0) as u64;
                    gops.push(RandomAccessEntry { time, moof: offset + fragment.moof });
                }
                end = start.map(|start| start + fragment.end);
                offset += fragment.size;
            }
            At::End => break offset < length,
            At::Torn => break false,
        }
    };
    // An index that was itself cut off counts as none.
    let is_finished = is_finished && index(file, length)?.is_some();
    Ok((!gops.is_empty()).then_some(Salvage { length: offset, gops, is_finished, end }))
}

fn grow<T>(
    file: &File,
    offset: u64,
    parse: impl Fn(&[u8]) -> Result<T, ScanError>,
) -> io::Result<Result<T, ScanError>> {
    let mut size = HEAD_GUESS;
    loop {
        let mut bytes = vec![0; size];
        let read = read_up_to(file, &mut bytes, offset)?;
        match parse(&bytes[..read]) {
            Err(ScanError::Short) if read == size && size < HEAD_LIMIT => size *= 4,
            result => return Ok(result),
        }
    }
}

fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

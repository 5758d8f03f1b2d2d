//! Takes footage out of an archive, and reads it through.

use std::fs::File;
use std::io;
use std::path::Path;

use edgecam_media::nal::LengthPrefixed;
use edgecam_media::ring::Position;
use edgecam_media::{AccessUnit, Ticks, Timestamp, TrackId};

use super::scan::{self, At};
use super::segment::SegmentWriter;
use super::{ArchiveRead, Reader, Segment, inspect};

/// Writes what was shown from `start` to `end` into one MP4 file, from the IDR before `start` on. Returns the number of
/// pictures. Where the parameter sets change, the file ends.
pub fn export(directory: &Path, start: Timestamp, end: Timestamp, output: &Path) -> io::Result<u64> {
    let index = inspect(directory)?;
    let Some(mut position) = index.at(start) else { return Ok(0) };
    let mut reader = Reader::default();
    let mut gop: Vec<AccessUnit> = Vec::new();
    let mut out: Option<SegmentWriter> = None;
    let mut frames = 0;
    loop {
        let (at, units) = match reader.read(&index, position)? {
            ArchiveRead::Units { at, units, .. } => (at, units),
            ArchiveRead::Gap { resume: Some(resume) } if resume > position => {
                position = resume;
                continue;
            }
            ArchiveRead::Gap { .. } => break,
        };
        if units.first().is_some_and(|unit| unit.is_idr) {
            // A GOP that ends before the range begins is not wanted.
            if units.first().is_some_and(|unit| unit.pts <= start) && out.is_none() {
                gop.clear();
            }
            if !write_gop(&mut out, &mut gop, units.first().map(|unit| unit.pts), output, &mut frames)? {
                break;
            }
            if units.first().is_some_and(|unit| unit.pts >= end) {
                break;
            }
        }
        position = Position { gop: at.gop, unit: at.unit + units.len() as u32 };
        // In decoding order up to the first picture that is too late: what comes after may need it.
        if gop.len() as u32 == at.unit || gop.is_empty() {
            gop.extend(units.into_iter().take_while(|unit| unit.pts < end));
        }
    }
    if out.is_none() && gop.iter().all(|unit| unit.pts < start) {
        // All footage is older.
        return Ok(0);
    }
    write_gop(&mut out, &mut gop, None, output, &mut frames)?;
    if let Some(out) = out {
        out.finish()?;
    }
    Ok(frames)
}

/// Returns whether the file can go on.
fn write_gop(
    out: &mut Option<SegmentWriter>,
    gop: &mut Vec<AccessUnit>,
    next: Option<Timestamp>,
    output: &Path,
    frames: &mut u64,
) -> io::Result<bool> {
    let Some(first) = gop.first() else { return Ok(true) };
    let Some(sets) = first.parameter_sets.clone() else { return Ok(true) };
    let writer = match out {
        Some(writer) if !writer.takes(writer.next_gop(), first) => return Ok(false),
        Some(writer) => writer,
        None => {
            // RASL pictures behind the first are shown before it.
            let start = gop.iter().map(|unit| unit.pts).fold(first.pts, Timestamp::min);
            out.insert(SegmentWriter::create(output, sets, start, 0)?)
        }
    };
    writer.append(gop, next)?;
    *frames += gop.iter().filter(|unit| unit.is_video()).count() as u64;
    gop.clear();
    Ok(true)
}

/// What a segment holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Pictures.
    pub frames: u64,
    /// Frames of audio.
    pub audio_frames: u64,
    /// GOPs.
    pub gops: u64,
    /// Time.
    pub span: Ticks,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// Reads a segment through: its structure, and that every picture's NAL units add up.
pub fn verify(segment: &Segment) -> io::Result<Summary> {
    use std::os::unix::fs::FileExt;
    let file = File::open(&segment.path)?;
    let length = file.metadata()?.len();
    let mut summary = Summary::default();
    let problem = |text: String| Some(text);
    let init = match scan::init(&file)? {
        Ok(init) => init,
        Err(error) => return Ok(Summary { problem: problem(format!("its head cannot be read: {error}")), ..summary }),
    };
    let mut offset = init.size;
    loop {
        let fragment = match scan::fragment(&file, offset, length)? {
            At::Fragment(fragment) => fragment,
            At::End => break,
            At::Torn => {
                summary.problem = problem(format!("cut off or damaged at byte {offset} of {length}"));
                return Ok(summary);
            }
        };
        let mut bytes = vec![0; (fragment.size - fragment.data) as usize];
        file.read_exact_at(&mut bytes, offset + fragment.data)?;
        let mut rest = &bytes[..];
        for sample in &fragment.samples {
            let (data, after) = rest.split_at(sample.size as usize);
            rest = after;
            if sample.track != TrackId::VIDEO {
                summary.audio_frames += 1;
                continue;
            }
            if LengthPrefixed::new(init.parameter_sets.codec(), data).any(|unit| unit.is_err()) {
                summary.problem = problem(format!("picture {} is damaged", summary.frames));
            }
            summary.frames += 1;
            summary.gops += u64::from(sample.is_sync);
        }
        summary.span = fragment.end;
        offset += fragment.size;
    }
    if offset == length {
        summary.problem =
            summary.problem.or(problem("it has no index: it is being written, or a crash cut it off".to_owned()));
    }
    Ok(summary)
}

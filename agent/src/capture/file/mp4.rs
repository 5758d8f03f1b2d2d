//! H.264 and H.265 in MP4 and MOV, fragmented or not.
//!
//! The boxes are parsed by `re_mp4`, which keeps them all; only the table of samples is kept from it. Sample data is
//! read when its turn comes.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use edgecam_media::{Codec, ParameterSets, Ticks};
use re_mp4::{Mp4, StsdBoxContent, TrackKind};

use super::{
    Data, FileError, MAX_SAMPLE, Sample, Times, configuration, mp4_samples as samples, with_four_byte_lengths,
};

/// Where a sample is and when, in the track's timescale.
#[derive(Clone, Copy)]
struct Entry {
    offset: u64,
    size: u32,
    duration: u32,
    dts: i64,
    composition_offset: i32,
}

/// Where sample data is.
enum Content {
    File(File),
    Memory(Bytes),
}

impl Content {
    fn read(&self, offset: u64, size: usize) -> std::io::Result<Vec<u8>> {
        match self {
            Self::File(file) => {
                let mut data = vec![0; size];
                file.read_exact_at(&mut data, offset)?;
                Ok(data)
            }
            Self::Memory(bytes) => {
                let begin = usize::try_from(offset).unwrap_or(usize::MAX);
                let data = begin.checked_add(size).and_then(|end| bytes.get(begin..end));
                data.map(<[u8]>::to_vec).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
            }
        }
    }
}

/// Reads the samples of the first H.264 or H.265 track.
pub(in crate::capture) struct Reader {
    content: Content,
    entries: std::vec::IntoIter<Entry>,
    timescale: u32,
    length_size: usize,
    sets: ParameterSets,
}

impl Reader {
    pub(super) fn open(file: File) -> Result<Self, FileError> {
        let size = file.metadata()?.len();
        let content = Content::File(file.try_clone()?);
        samples::check(|offset, length| content.read(offset, length), size, samples::MOST_IN_FILE)?;
        let mp4 = Mp4::read(BufReader::new(&file), size).map_err(damaged)?;
        Self::new(&mp4, content, size)
    }

    /// A whole file in memory: the head of a stream and a segment of it.
    pub(in crate::capture) fn of_bytes(bytes: Bytes) -> Result<Self, FileError> {
        let size = bytes.len() as u64;
        let content = Content::Memory(bytes.clone());
        samples::check(|offset, length| content.read(offset, length), size, samples::MOST_IN_SEGMENT)?;
        let mp4 = Mp4::read(std::io::Cursor::new(&bytes), size).map_err(damaged)?;
        Self::new(&mp4, content, size)
    }

    fn new(mp4: &Mp4, content: Content, size: u64) -> Result<Self, FileError> {
        let video = || mp4.tracks().values().filter(|track| track.kind == Some(TrackKind::Video));
        let description = |track: &re_mp4::Track| &track.trak(mp4).mdia.minf.stbl.stsd.contents;
        let Some((track, codec, record)) = video().find_map(|track| match description(track) {
            StsdBoxContent::Avc1(avc1) => Some((track, Codec::H264, &avc1.avcc.raw)),
            StsdBoxContent::Hvc1(hvc1) | StsdBoxContent::Hev1(hvc1) => Some((track, Codec::H265, &hvc1.hvcc.raw)),
            _ => None,
        }) else {
            return Err(FileError::Unsupported(match video().next() {
                Some(track) => codec_name(description(track)).to_owned(),
                None => "no video that is known".to_owned(),
            }));
        };
        let (sets, length_size) = configuration(codec, record)?;
        let entries: Vec<Entry> = track.samples.iter().map(entry).collect::<Result<_, _>>()?;
        let timescale = u32::try_from(track.timescale).ok().filter(|&scale| scale > 0);
        let timescale = timescale.ok_or_else(|| FileError::Damaged("its track has no timescale".to_owned()))?;
        if let Some(beyond) = entries.iter().find(|entry| entry.offset.saturating_add(entry.size.into()) > size) {
            let end = beyond.offset + u64::from(beyond.size);
            return Err(FileError::Damaged(format!("it is cut short: {size} bytes, but a sample ends at {end}")));
        }
        Ok(Self { content, entries: entries.into_iter(), timescale, length_size, sets })
    }

    pub(in crate::capture) fn parameter_sets(&self) -> &ParameterSets {
        &self.sets
    }

    /// The next picture with 4-byte lengths, and when it is shown.
    pub(in crate::capture) fn next_sample(&mut self) -> Result<Option<(Bytes, Ticks)>, FileError> {
        let sample = self.next()?;
        Ok(sample.and_then(|Sample { data, times, .. }| match data {
            Data::Sample(data) => Some((data, times.pts)),
            Data::Picture(_) => None,
        }))
    }

    pub(super) fn next(&mut self) -> Result<Option<Sample>, FileError> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        // Entries are at most MAX_SAMPLE long, which fits any usize.
        let data = self.content.read(entry.offset, entry.size as usize)?;
        let ticks = |value: i64| Ticks::from_scale(value, self.timescale);
        let pts = entry.dts.saturating_add(entry.composition_offset.into());
        Ok(Some(Sample {
            data: Data::Sample(with_four_byte_lengths(data, self.length_size)),
            times: Times { pts: ticks(pts), due: ticks(entry.dts) },
            duration: Some(ticks(entry.duration.into())),
        }))
    }
}

fn entry(sample: &re_mp4::Sample) -> Result<Entry, FileError> {
    let size = u32::try_from(sample.size).ok().filter(|&size| u64::from(size) <= MAX_SAMPLE);
    let composition_offset = sample.composition_timestamp.saturating_sub(sample.decode_timestamp);
    Ok(Entry {
        offset: sample.offset,
        size: size.ok_or_else(|| FileError::Damaged(format!("a sample of {} bytes", sample.size)))?,
        duration: u32::try_from(sample.duration).unwrap_or(0),
        dts: sample.decode_timestamp,
        composition_offset: i32::try_from(composition_offset).unwrap_or(0),
    })
}

fn codec_name(description: &StsdBoxContent) -> &'static str {
    match description {
        StsdBoxContent::Av01(_) => "AV1 video",
        StsdBoxContent::Vp08(_) => "VP8 video",
        StsdBoxContent::Vp09(_) => "VP9 video",
        _ => "video in a codec that is not known",
    }
}

fn damaged(error: re_mp4::Error) -> FileError {
    match error {
        re_mp4::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            FileError::Damaged("it is cut short".to_owned())
        }
        re_mp4::Error::Io(error) => FileError::Io(error),
        other => FileError::Damaged(format!("{other}; is it complete?")),
    }
}

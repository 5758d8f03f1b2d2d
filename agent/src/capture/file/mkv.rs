//! H.264 and H.265 in Matroska.
//!
//! Blocks carry presentation times only. Where pictures are reordered, decoding times follow from them: a picture that
//! is shown later than all before it is needed when the latest of those is shown, and any other when it is shown.

use std::fs::File;
use std::io::BufReader;

use bytes::Bytes;
use edgecam_media::{Codec, ParameterSets, Ticks};
use matroska_demuxer::{ContentCompAlgo, ContentEncodingValue, DemuxError, Frame, MatroskaFile, TrackEntry, TrackType};

use super::{Data, FileError, MAX_SAMPLE, Sample, Times, configuration, with_four_byte_lengths};

/// Reads the blocks of the first H.264 or H.265 track.
pub(super) struct Reader {
    demuxer: MatroskaFile<BufReader<File>>,
    frame: Frame,
    track: u64,
    /// Nanoseconds.
    timestamp_scale: u64,
    duration: Option<Ticks>,
    length_size: usize,
    sets: ParameterSets,
    /// Bytes that a muxer took from the head of every block (ContentCompAlgo 3).
    stripped: Vec<u8>,
    decoding: DecodingOrder,
}

impl Reader {
    pub(super) fn open(file: File) -> Result<Self, FileError> {
        let demuxer = MatroskaFile::open(BufReader::with_capacity(64 << 10, file)).map_err(damaged)?;
        let video = || demuxer.tracks().iter().filter(|track| track.track_type() == TrackType::Video);
        let codec =
            |track: &TrackEntry| [Codec::H264, Codec::H265].into_iter().find(|c| c.matroska_id() == track.codec_id());
        let Some((track, codec)) = video().find_map(|track| Some((track, codec(track)?))) else {
            return Err(FileError::Unsupported(match video().next().map(TrackEntry::codec_id) {
                Some(id) => format!("video in the codec {}", printable(id)),
                None => "no video".to_owned(),
            }));
        };
        let private = track.codec_private();
        let private = private.ok_or_else(|| FileError::Damaged("its video track has no CodecPrivate".to_owned()))?;
        let (sets, length_size) = configuration(codec, private)?;
        let stripped = stripped_header(track)?;
        let decoding = DecodingOrder { reordered: sets.facts().reordering, ..DecodingOrder::default() };
        Ok(Self {
            track: track.track_number().get(),
            timestamp_scale: demuxer.info().timestamp_scale().get(),
            duration: track.default_duration().map(|nanos| nanos_to_ticks(nanos.get())),
            length_size,
            sets,
            stripped,
            decoding,
            frame: Frame::default(),
            demuxer,
        })
    }

    pub(super) fn parameter_sets(&self) -> &ParameterSets {
        &self.sets
    }

    pub(super) fn next(&mut self) -> Result<Option<Sample>, FileError> {
        loop {
            if !self.demuxer.next_frame(&mut self.frame).map_err(damaged)? {
                return Ok(None);
            }
            if self.frame.track == self.track {
                break;
            }
        }
        let block = std::mem::take(&mut self.frame.data);
        if block.len() as u64 > MAX_SAMPLE {
            return Err(FileError::Damaged(format!("a block of {} bytes", block.len())));
        }
        let block = if self.stripped.is_empty() { block } else { [&self.stripped[..], &block].concat() };
        let data: Bytes = with_four_byte_lengths(block, self.length_size);
        let pts = nanos_to_ticks(self.frame.timestamp.saturating_mul(self.timestamp_scale));
        let times = Times { pts, due: self.decoding.due(pts) };
        Ok(Some(Sample { data: Data::Sample(data), times, duration: self.duration }))
    }
}

fn stripped_header(track: &TrackEntry) -> Result<Vec<u8>, FileError> {
    match track.content_encodings().unwrap_or_default() {
        [] => Ok(Vec::new()),
        [encoding] => match encoding.encoding() {
            ContentEncodingValue::Compression(compression) if compression.algo() == ContentCompAlgo::Stripping => {
                Ok(compression.settings().unwrap_or_default().to_vec())
            }
            ContentEncodingValue::Encryption(_) => Err(FileError::Unsupported("encrypted video".to_owned())),
            _ => Err(FileError::Unsupported("video that Matroska has compressed again".to_owned())),
        },
        _ => Err(FileError::Unsupported("video with several content encodings".to_owned())),
    }
}

/// Decoding times from presentation times.
#[derive(Default)]
struct DecodingOrder {
    reordered: bool,
    latest_pts: Option<Ticks>,
    last_due: Option<Ticks>,
}

impl DecodingOrder {
    fn due(&mut self, pts: Ticks) -> Ticks {
        if !self.reordered {
            return pts;
        }
        let due = self.latest_pts.map_or(pts, |latest| latest.min(pts));
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.latest_pts = Some(self.latest_pts.map_or(pts, |latest| latest.max(pts)));
        self.last_due = Some(due);
        due
    }
}

fn nanos_to_ticks(nanos: u64) -> Ticks {
    Ticks::from_scale(i64::try_from(nanos).unwrap_or(i64::MAX), 1_000_000_000)
}

/// A codec id is text from a file: ASCII of a sane length, or nothing.
fn printable(id: &str) -> String {
    id.chars().filter(char::is_ascii_graphic).take(40).collect()
}

fn damaged(error: DemuxError) -> FileError {
    match error {
        DemuxError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            FileError::Damaged("it is cut short".to_owned())
        }
        DemuxError::IoError(error) => FileError::Io(error),
        other => FileError::Damaged(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_times_from_presentation_times() {
        let check = |reordered: bool, pts: &[i64], expected: &[i64]| {
            let mut order = DecodingOrder { reordered, ..DecodingOrder::default() };
            let due: Vec<i64> = pts.iter().map(|&pts| order.due(Ticks::from_millis(pts)).millis()).collect();
            assert_eq!(due, expected, "{pts:?}");
        };
        check(false, &[0, 40, 80], &[0, 40, 80]);
        check(true, &[0, 120, 40, 80, 240, 160, 200, 360], &[0, 0, 40, 80, 120, 160, 200, 240]);
        check(true, &[0, 160, 80, 40, 120, 320], &[0, 0, 80, 80, 120, 160]);
    }

    #[test]
    fn nanoseconds() {
        assert_eq!(nanos_to_ticks(33_000_000), Ticks::from_millis(33));
        assert_eq!(nanos_to_ticks(3_600_000_000_000), Ticks::from_seconds(3600));
    }
}

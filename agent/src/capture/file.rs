//! A recorded file played as if it were a camera: in real time, at the distances of its own timestamps.
//!
//! A thread reads and a small queue hands on, so a slow disk or a network file system never holds up the runtime. In
//! memory are the pictures of the queue, and for MP4 the table of samples (24 bytes each).
//!
//! Invariants: pictures come in decoding order; media time is presentation time and goes on through repetitions, so
//! that a loop cannot be told from a longer file. Deliberately absent: edit lists, and playing faster than real time.

mod annex_b;
mod mkv;
pub(super) mod mp4;
mod mp4_samples;
mod passes;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use edgecam_media::assembler::{Assembler, Picture};
use edgecam_media::{Codec, ParameterSets, Ticks};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::passes::{Passes, Times};
use super::sniff::{self, Content};
use super::{CaptureError, Sink, path_error};
use crate::config::source::FileSource;
use crate::run::thread;

/// Pictures read ahead: a third of a second covers a disk that has to spin.
const READ_AHEAD: usize = 8;

/// Frames a second of a stream that does not say.
const DEFAULT_RATE: f64 = 25.0;

/// A sample larger than this is damage: no picture is.
const MAX_SAMPLE: u64 = 32 << 20;

/// Plays until the file ends (`Err(Ended)`), cannot be read, or `cancel` is called (`Ok`).
pub async fn attempt(settings: &FileSource, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    let FileSource { path, repeat, frame_rate } = settings.clone();
    tokio::select! {
        biased;
        () = cancel.cancelled() => Ok(()),
        end = play(Playback { path, repeat, frame_rate, containers: true }, sink) => Err(end),
    }
}

/// Pictures of a file in decoding order, as fast as they are asked for.
pub struct Pictures {
    path: PathBuf,
    reader: Reader,
    assembler: Assembler<()>,
    passes: Passes,
}

impl Pictures {
    /// Opens an MP4, Matroska or Annex B file.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let playback = Playback { path: path.to_owned(), repeat: false, frame_rate: None, containers: true };
        let reader = Reader::open(&playback).map_err(|error| error.at(path))?;
        let mut assembler = Assembler::<()>::new(reader.codec());
        if let Some(sets) = reader.parameter_sets() {
            assembler.learn(sets);
        }
        Ok(Self { path: playback.path, reader, assembler, passes: Passes::default() })
    }
}

impl Iterator for Pictures {
    /// With its presentation time from the beginning of the file.
    type Item = Result<(Picture, Ticks), CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let sample = match self.reader.next() {
                Ok(sample) => sample?,
                Err(error) => return Some(Err(error.at(&self.path))),
            };
            let picture = match sample.data {
                Data::Picture(picture) => Some(picture),
                Data::Sample(data) => self.assembler.push_picture(data),
            };
            if let Some(picture) = picture {
                return Some(Ok((picture, self.passes.place(sample.times, sample.duration).pts)));
            }
        }
    }
}

/// A file and how to play it.
pub(super) struct Playback {
    pub(super) path: PathBuf,
    pub(super) repeat: bool,
    /// For video in Annex B form, before what the stream says.
    pub(super) frame_rate: Option<f64>,
    /// Whether MP4 and Matroska are taken too.
    pub(super) containers: bool,
}

/// Plays in real time and returns why it stopped. The thread ends when the future is dropped.
pub(super) async fn play(playback: Playback, sink: &mut Sink) -> CaptureError {
    let path = playback.path.clone();
    let (send, mut pictures) = mpsc::channel(READ_AHEAD);
    let thread = match thread::start("file-reader", move || read(&playback, &send)) {
        Ok(thread) => thread,
        Err(error) => return CaptureError::Unreachable(format!("no thread to read {} in: {error}", path.display())),
    };
    let started = Instant::now();
    let mut pacer = Pacer::default();
    while let Some((picture, Times { pts, due })) = pictures.recv().await {
        tokio::time::sleep_until(started + pacer.wait_until(due, started.elapsed())).await;
        sink.deliver(picture, pts, sink.now());
    }
    match thread.ended().await {
        Ok(Ok(())) => CaptureError::Ended,
        Ok(Err(error)) => error,
        // A parser that gives up by a panic has met a file that it was not made for.
        Err(panicked) => {
            CaptureError::Unreachable(format!("{} cannot be read: it is damaged ({panicked})", path.display()))
        }
    }
}

/// Runs in the thread: reads the file once or for ever.
fn read(playback: &Playback, pictures: &mpsc::Sender<(Picture, Times)>) -> Result<(), CaptureError> {
    let mut passes = Passes::default();
    loop {
        let mut reader = Reader::open(playback).map_err(|error| error.at(&playback.path))?;
        let mut assembler = Assembler::<()>::new(reader.codec());
        if let Some(sets) = reader.parameter_sets() {
            assembler.learn(sets);
        }
        let mut any = false;
        while let Some(sample) = reader.next().map_err(|error| error.at(&playback.path))? {
            let picture = match sample.data {
                Data::Picture(picture) => Some(picture),
                Data::Sample(data) => assembler.push_picture(data),
            };
            let Some(picture) = picture else { continue };
            any = true;
            // Nobody takes them any more.
            if pictures.blocking_send((picture, passes.place(sample.times, sample.duration))).is_err() {
                return Ok(());
            }
        }
        if !any {
            let shown = playback.path.display();
            return Err(CaptureError::UnsupportedCodec(format!(
                "{shown} holds no picture that can be decoded: it has no IDR, or SPS and PPS are missing or cannot be read"
            )));
        }
        if !playback.repeat {
            return Ok(());
        }
        passes.next();
    }
}

/// A sample as its container gives it.
struct Sample {
    data: Data,
    times: Times,
    /// Until the next one, where it is known.
    duration: Option<Ticks>,
}

enum Data {
    /// Already put together.
    Picture(Picture),
    /// Length-prefixed NAL units with lengths of 4 bytes.
    Sample(Bytes),
}

/// Why a file cannot be played.
#[derive(Debug)]
pub(super) enum FileError {
    Io(std::io::Error),
    Damaged(String),
    Unsupported(String),
    /// It would have to be an elementary stream.
    NotElementary(Content),
}

impl FileError {
    /// What it is, without a name.
    pub(super) fn what(self) -> String {
        match self {
            Self::Io(error) => error.to_string(),
            Self::Damaged(what) => format!("a file that cannot be read: {what}"),
            Self::Unsupported(what) => what,
            Self::NotElementary(content) => content.name().to_owned(),
        }
    }

    fn at(self, path: &Path) -> CaptureError {
        let shown = path.display();
        match self {
            Self::Io(error) => path_error::explain(path, &error),
            Self::Damaged(what) => CaptureError::Unreachable(format!("{shown} cannot be read: {what}")),
            Self::Unsupported(what) => CaptureError::UnsupportedCodec(format!(
                "{shown} holds {what}; the agent takes H.264 and H.265 in MP4, Matroska or Annex B form. \
                 Convert it with: ffmpeg -i IN -an -c:v libx264 -bf 0 OUT.mp4"
            )),
            Self::NotElementary(content) => content.is_no_elementary_stream(&shown.to_string()),
        }
    }
}

impl From<std::io::Error> for FileError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

enum Reader {
    Mp4(mp4::Reader),
    Mkv(mkv::Reader),
    AnnexB(annex_b::Reader),
}

impl Reader {
    fn open(playback: &Playback) -> Result<Self, FileError> {
        let mut file = File::open(&playback.path)?;
        let mut head = Vec::new();
        (&mut file).take(sniff::LIMIT as u64).read_to_end(&mut head)?;
        file.rewind()?;
        // A file shorter than the limit has nothing more to show.
        let content = sniff::sniff(&head).unwrap_or(Content::Unknown);
        drop(head);
        match content {
            Content::H264 => Ok(Self::AnnexB(annex_b::Reader::new(file, Codec::H264, playback.frame_rate))),
            Content::H265 => Ok(Self::AnnexB(annex_b::Reader::new(file, Codec::H265, playback.frame_rate))),
            Content::Mp4 if playback.containers => mp4::Reader::open(file).map(Self::Mp4),
            Content::Matroska if playback.containers => mkv::Reader::open(file).map(Self::Mkv),
            other if playback.containers => Err(FileError::Unsupported(other.name().to_owned())),
            other => Err(FileError::NotElementary(other)),
        }
    }

    fn codec(&self) -> Codec {
        match self {
            Self::AnnexB(reader) => reader.codec(),
            other => other.parameter_sets().map_or(Codec::H264, ParameterSets::codec),
        }
    }

    fn parameter_sets(&self) -> Option<&ParameterSets> {
        match self {
            Self::Mp4(reader) => Some(reader.parameter_sets()),
            Self::Mkv(reader) => Some(reader.parameter_sets()),
            Self::AnnexB(_) => None,
        }
    }

    fn next(&mut self) -> Result<Option<Sample>, FileError> {
        match self {
            Self::Mp4(reader) => reader.next(),
            Self::Mkv(reader) => reader.next(),
            Self::AnnexB(reader) => reader.next(),
        }
    }
}

/// Holds pictures back until their time. When reading has fallen behind by more than it is to catch up with, the missing
/// time is given up.
pub(super) struct Pacer {
    anchor: Option<Duration>,
    give_up: Duration,
}

impl Default for Pacer {
    /// A file that cannot be read in time is played later: there is nothing to catch up with.
    fn default() -> Self {
        Self::giving_up(Duration::from_secs(1))
    }
}

impl Pacer {
    /// Catches up with what is late by up to `give_up`.
    pub(super) fn giving_up(give_up: Duration) -> Self {
        Self { anchor: None, give_up }
    }

    /// When to deliver what is due at `due` on the file's clock; both clocks start at zero.
    pub(super) fn wait_until(&mut self, due: Ticks, now: Duration) -> Duration {
        let due = due.to_duration();
        let anchor = *self.anchor.get_or_insert(now.saturating_sub(due));
        if now.saturating_sub(anchor + due) > self.give_up {
            self.anchor = Some(now.saturating_sub(due));
            return now;
        }
        anchor + due
    }
}

/// The parameter sets of a decoder configuration record, and the size of the length fields that go with it.
pub(super) fn configuration(codec: Codec, record: &[u8]) -> Result<(ParameterSets, usize), FileError> {
    let mut record = record.to_vec();
    // lengthSizeMinusOne (ISO/IEC 14496-15 sections 5.3.3.1 and 8.3.3.1).
    let at = match codec {
        Codec::H264 => 4,
        Codec::H265 => 21,
    };
    let cut = || FileError::Damaged("its decoder configuration is cut short".to_owned());
    let byte = record.get_mut(at).ok_or_else(cut)?;
    let length_size = usize::from(*byte & 3) + 1;
    // Samples are converted to 4 bytes, and so is what describes them.
    *byte |= 3;
    let sets =
        ParameterSets::from_configuration(codec, &record).map_err(|error| FileError::Damaged(error.to_string()))?;
    Ok((sets, length_size))
}

/// Brings length fields of 1, 2 or 3 bytes to 4. What does not add up is left as the rest of a unit that is too long:
/// the assembler counts it as damage.
pub(super) fn with_four_byte_lengths(data: Vec<u8>, length_size: usize) -> Bytes {
    if length_size == 4 {
        return Bytes::from(data);
    }
    let mut out = Vec::with_capacity(data.len() + data.len() / 64 + 16);
    let mut rest = &data[..];
    while let Some((prefix, after)) = rest.split_at_checked(length_size) {
        let length = prefix.iter().fold(0_u32, |length, &byte| length << 8 | u32::from(byte));
        out.extend_from_slice(&length.to_be_bytes());
        let (unit, after) = after.split_at(after.len().min(length as usize));
        out.extend_from_slice(unit);
        rest = after;
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_any_size_become_four_bytes() {
        let check = |data: &[u8], size: usize, expected: &[u8]| {
            assert_eq!(with_four_byte_lengths(data.to_vec(), size), expected, "{data:x?}");
        };
        check(&[0, 0, 0, 1, 9], 4, &[0, 0, 0, 1, 9]);
        check(&[0, 2, 0x65, 1, 0, 1, 0x41], 2, &[0, 0, 0, 2, 0x65, 1, 0, 0, 0, 1, 0x41]);
        check(&[1, 0x65, 0, 1, 0x41], 1, &[0, 0, 0, 1, 0x65, 0, 0, 0, 0, 0, 0, 0, 1, 0x41]);
        check(&[0, 0, 9, 0x65], 3, &[0, 0, 0, 9, 0x65]);
    }

    #[test]
    fn pacing() {
        let mut pacer = Pacer::default();
        let mut check = |due_millis: i64, now_millis: u64, expected_millis: u64| {
            let until = pacer.wait_until(Ticks::from_millis(due_millis), Duration::from_millis(now_millis));
            assert_eq!(until, Duration::from_millis(expected_millis), "due {due_millis} at {now_millis}");
        };
        check(0, 5, 5);
        check(40, 6, 45);
        // A little late is caught up with.
        check(80, 300, 85);
        check(320, 301, 325);
        // After a hang of the disk time goes on from there.
        check(360, 5000, 5000);
        check(400, 5001, 5040);
    }

    #[test]
    fn configurations_of_any_length_size() {
        let sps = [
            0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 0x40, 0x50, 5, 0xbb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 1, 0xe0, 0xf1,
            0x83, 0x19, 0x60,
        ];
        let pps = [0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
        let record =
            |size: u8| [&[1, 0x64, 0, 0x1f, 0xfc | (size - 1), 0xe1, 0, 26][..], &sps, &[1, 0, 6], &pps].concat();
        for size in [1, 2, 4] {
            let (sets, found) = configuration(Codec::H264, &record(size)).expect("valid");
            assert_eq!((sets.facts().width, found), (1280, usize::from(size)));
        }
        assert!(configuration(Codec::H264, &record(4)[..20]).is_err());
        assert!(configuration(Codec::H264, &[1, 2]).is_err());
    }
}

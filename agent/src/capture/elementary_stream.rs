//! Raw H.264 in Annex B form from a FIFO, standard input, or a regular file.
//!
//! Invariants: one reader, one writer at a time; at most one chunk and the picture in progress are held. A FIFO without
//! a writer is waited on without polling it; a writer that sends no picture is reported. A regular file is played as
//! [`super::file`] plays it, in real time. Standard input ends when it ends.
//!
//! Deliberately absent: making the FIFO, starting its writer, and sharing it. A FIFO is one stream of bytes: a second
//! reader would take half of them.

mod feed;
mod stale;

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgecam_media::assembler::Picture;
use edgecam_media::clock::Arrival;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::feed::Feed;
use self::stale::StaleFilter;
use super::file::{Playback, play};
use super::{CaptureError, Sink, path_error};
use crate::config::source::{ElementaryStream, Input};

/// Read at once.
const CHUNK: usize = 64 << 10;

/// The most an unprivileged process may ask for by default (`/proc/sys/fs/pipe-max-size`): two seconds of video in
/// which the writer need not wait.
const PIPE_SIZE: usize = 1 << 20;

/// How often to look whether a FIFO without a writer is still the one that the path names: a writer that makes its FIFO
/// anew leaves a reader of the old one waiting for ever.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A picture on its way to the log, for whoever compares the stream with what was asked of its encoder.
pub(super) struct Observed {
    /// The picture.
    pub(super) picture: Picture,
    /// When it arrived, on the monotonic clock.
    pub(super) at: Duration,
}

/// Reads until the input ends (`Err(Ended)`), fails, or `cancel` is called (`Ok`).
pub async fn attempt(
    settings: &ElementaryStream,
    sink: &mut Sink,
    cancel: &CancellationToken,
) -> Result<(), CaptureError> {
    read(settings, sink, cancel, None).await
}

/// The same; pictures of a FIFO are shown to `observer`, as far as it has room for them.
pub(super) async fn read(
    settings: &ElementaryStream,
    sink: &mut Sink,
    cancel: &CancellationToken,
    observer: Option<mpsc::Sender<Observed>>,
) -> Result<(), CaptureError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Ok(()),
        end = run(settings, sink, observer) => end,
    }
}

async fn run(
    settings: &ElementaryStream,
    sink: &mut Sink,
    observer: Option<mpsc::Sender<Observed>>,
) -> Result<(), CaptureError> {
    match &settings.input {
        Input::Stdin => stdin(settings, sink).await,
        Input::Path(path) => {
            let metadata = std::fs::metadata(path).map_err(|error| path_error::explain(path, &error))?;
            let kind = metadata.file_type();
            if kind.is_fifo() {
                fifo(path, settings, sink, observer).await
            } else if kind.is_file() {
                regular_file(path.clone(), settings.repeat, settings, sink).await
            } else if kind.is_dir() {
                Err(path_error::explain(path, &io::ErrorKind::IsADirectory.into()))
            } else {
                Err(CaptureError::NotFound(format!("{} is neither a FIFO nor a regular file", path.display())))
            }
        }
    }
}

async fn regular_file(
    path: PathBuf,
    repeat: bool,
    settings: &ElementaryStream,
    sink: &mut Sink,
) -> Result<(), CaptureError> {
    let playback = Playback { path, repeat, frame_rate: settings.frame_rate, containers: false };
    Err(play(playback, sink).await)
}

async fn stdin(settings: &ElementaryStream, sink: &mut Sink) -> Result<(), CaptureError> {
    let failed = |error: io::Error| CaptureError::Unreachable(format!("standard input: {error}"));
    let file = File::from(std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
    let kind = file.metadata().map_err(failed)?.file_type();
    if kind.is_file() {
        // Bytes of a regular file do not arrive at any time of their own.
        return regular_file(PathBuf::from("/dev/stdin"), false, settings, sink).await;
    }
    if !kind.is_fifo() {
        return Err(CaptureError::Unreachable(
            "standard input is not a pipe: nothing is piped into the agent".to_owned(),
        ));
    }
    let mut pipe = Receiver::from_file(file).map_err(failed)?;
    grow(&pipe);
    let mut feed = Feed::new("standard input".to_owned(), settings, StaleFilter::none(), sink.now().monotonic);
    let mut chunk = vec![0; CHUNK];
    loop {
        match in_time(&mut pipe, &mut chunk, &feed, sink.now()).await?.map_err(failed)? {
            0 => {
                feed.writer_gone(sink.now(), sink);
                return Err(CaptureError::Ended);
            }
            read => feed.push(&chunk[..read], sink.now(), sink)?,
        }
    }
}

async fn fifo(
    path: &Path,
    settings: &ElementaryStream,
    sink: &mut Sink,
    observer: Option<mpsc::Sender<Observed>>,
) -> Result<(), CaptureError> {
    let failed = |error: io::Error| path_error::explain(path, &error);
    let mut pipe = OpenOptions::new().open_receiver(path).map_err(failed)?;
    let opened = sink.now().monotonic;
    let held = rustix::io::ioctl_fionread(&pipe).unwrap_or(0);
    let stale = StaleFilter::new(opened, held, grow(&pipe));
    let mut feed = Feed::new(path.display().to_string(), settings, stale, opened);
    feed.show_to(observer);
    let mut chunk = vec![0; CHUNK];
    loop {
        let mut read = first_bytes(&mut pipe, &mut chunk, path, sink).await?;
        feed.writer_came(sink.now());
        while read > 0 {
            feed.push(&chunk[..read], sink.now(), sink)?;
            read = in_time(&mut pipe, &mut chunk, &feed, sink.now()).await?.map_err(failed)?;
        }
        feed.writer_gone(sink.now(), sink);
        // Having seen a writer go, this descriptor would report it for ever; a new one reports the next writer only. It
        // is opened before the old one is closed: a writer must not find the FIFO without a reader.
        pipe = OpenOptions::new().open_receiver(path).map_err(failed)?;
    }
}

/// Waits for a writer and its first bytes, however long that takes.
async fn first_bytes(pipe: &mut Receiver, chunk: &mut [u8], path: &Path, sink: &Sink) -> Result<usize, CaptureError> {
    let failed = |error: io::Error| path_error::explain(path, &error);
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let opened = pipe.as_fd().try_clone_to_owned().and_then(|pipe| File::from(pipe).metadata()).map_err(failed)?;
    let opened = identity(opened);
    let mut said = false;
    loop {
        match timeout(LOOK_AGAIN, pipe.read(chunk)).await {
            // It came and went without a byte. The descriptor is of no more use, but the caller knows that.
            Ok(Ok(0)) => return Ok(0),
            Ok(read) => return read.map_err(failed),
            Err(_) => {}
        }
        if identity(std::fs::metadata(path).map_err(failed)?) != opened {
            return Err(CaptureError::Unreachable(format!("{} was made anew", path.display())));
        }
        sink.waiting("no program writes to the FIFO: waiting for one");
        if !said {
            info!(path = %path.display(), "waiting for a writer");
            said = true;
        }
    }
}

/// Reads what comes next, if it comes while there is still time for a picture.
async fn in_time(
    pipe: &mut Receiver,
    chunk: &mut [u8],
    feed: &Feed,
    now: Arrival,
) -> Result<io::Result<usize>, CaptureError> {
    timeout(feed.patience(now.monotonic), pipe.read(chunk)).await.map_err(|_| feed.stalled())
}

/// Makes the pipe as large as it may be, and returns how large it is.
fn grow(pipe: &Receiver) -> u64 {
    let size = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_SIZE).or_else(|_| rustix::pipe::fcntl_getpipe_size(pipe));
    size.unwrap_or(PIPE_SIZE) as u64
}

//! `edgecam archive fetch`: recorded footage of an NVR, by RTSP, into an archive of its own.
//!
//! The camera's own archive is not touched: its GOPs are numbered in the order they came, and a cursor that has passed
//! must never find older footage behind it. So each fetch is an archive by itself, which `list`, `export` and `verify`
//! read like any other.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use edgecam_media::ring::Position;
use edgecam_media::{AccessUnit, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::EXIT_CONFIG;
use super::nvr::Access;
use super::output::{fail, say};
use crate::capture::{self, CaptureError, Sink};
use crate::config::schedule::Period;
use crate::config::source::Source;
use crate::encode::Control;
use crate::footage::archive::{Index, Rotation, Writer};
use crate::run::thread;
use crate::telemetry;

/// Pictures between network and disk.
const QUEUE: usize = 2048;
/// Pictures of one GOP: 2 minutes at 30 a second.
const GOP: usize = 3600;
/// As an archive of a camera has by default.
const SEGMENT: Rotation = Rotation { duration: Duration::from_secs(60), bytes: 256 << 20 };

#[derive(Args)]
pub(super) struct Arguments {
    /// A new directory
    directory: PathBuf,
    /// rtsp:// or rtsps:// URL of the recording, with the times that the NVR needs in it: see `edgecam rtsp-url`
    url: String,
    /// START/END, each RFC 3339 (2026-11-21T08:00:00Z): when its first picture was taken, and when to stop
    range: Period,
    #[command(flatten)]
    access: Access,
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    telemetry::log::init(tracing::Level::ERROR);
    let Arguments { directory, url, range, access } = arguments;
    let source = match access.source("rtsp", &url) {
        Ok(source) => source,
        Err(error) => return fail(EXIT_CONFIG, format_args!("{error}")),
    };
    if let Err(error) = make(&directory) {
        return fail(1, format_args!("{}: {error}", directory.display()));
    }
    match fetch(&source, &directory, range).await {
        Ok((Fetched { pictures: 0, .. }, reason)) => {
            fail(1, format_args!("nothing came: {}", reason.unwrap_or_else(|| "the recording is empty".to_owned())))
        }
        Ok((fetched, reason)) => {
            let Fetched { pictures, last, .. } = fetched;
            say(format_args!("{pictures} pictures from {} to {last} in {}", range.start, directory.display()));
            match reason {
                None => ExitCode::SUCCESS,
                Some(reason) => fail(1, format_args!("it ends before {}: {reason}", range.end)),
            }
        }
        Err(error) => fail(1, format_args!("{}: {error}", directory.display())),
    }
}

/// What is in another archive must not be mixed with this.
fn make(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    match std::fs::read_dir(directory)?.next() {
        None => Ok(()),
        Some(_) => Err(io::Error::other("the directory is not empty: each fetch needs a new one")),
    }
}

/// What came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fetched {
    pictures: u64,
    /// When the last picture was taken.
    last: Timestamp,
}

/// Fetches; returns what came, and why it ended before the end of the range, if it did.
async fn fetch(source: &Source, directory: &Path, range: Period) -> io::Result<(Fetched, Option<String>)> {
    let (send, units) = sync_channel(QUEUE);
    let writer = Writer::new(directory.to_owned(), SEGMENT, Arc::<Index>::default());
    let writing = thread::start("fetch", move || write(writer, &units))?;
    let done = CancellationToken::new();
    let progress = Arc::new(Mutex::new((Fetched { pictures: 0, last: range.start }, false)));
    let (shared, stop) = (progress.clone(), done.clone());
    let (_idr, idr_requests) = watch::channel(0);
    let append = move |delivered: capture::Delivered| {
        let mut progress = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let unit = delivered.unit;
        if unit.pts >= range.end {
            progress.1 = true;
            stop.cancel();
        } else if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = send.try_send(unit.clone()) {
            // The writer says why, or the disk is slower than the network.
            stop.cancel();
        } else {
            progress.0 = Fetched { pictures: progress.0.pictures + 1, last: progress.0.last.max(unit.pts) };
        }
    };
    let mut sink = Sink::new(None, idr_requests, watch::channel(Control::default()).1, append).recorded(range.start);
    let end = capture::attempt(source, &mut sink, &done).await;
    // With it goes the queue's sender, and the writer ends.
    drop(sink);
    let written = writing.ended().await.map_err(io::Error::other)?;
    written?;
    let (fetched, is_whole) = *progress.lock().unwrap_or_else(PoisonError::into_inner);
    let reason = match end {
        _ if is_whole => None,
        Err(CaptureError::Ended) => Some("the recording ends there".to_owned()),
        Err(error) => Some(error.to_string()),
        Ok(()) => Some("the disk is slower than the network".to_owned()),
    };
    Ok((fetched, reason))
}

/// Writes GOP after GOP until no more comes.
fn write(mut writer: Writer, units: &Receiver<AccessUnit>) -> io::Result<()> {
    let mut gop: Vec<AccessUnit> = Vec::new();
    let mut number = 0;
    let mut put = |gop: &mut Vec<AccessUnit>, next: Option<Timestamp>| {
        if !gop.is_empty() {
            writer.append(Position::start_of(number), gop, next)?;
            number += 1;
            gop.clear();
        }
        Ok::<_, io::Error>(())
    };
    while let Ok(unit) = units.recv() {
        if unit.is_idr {
            put(&mut gop, Some(unit.pts))?;
        } else if gop.len() >= GOP {
            return Err(io::Error::other(format!("{GOP} pictures without an IDR")));
        }
        gop.push(unit);
    }
    put(&mut gop, None)?;
    writer.finish()
}

//! Opens a camera's log: at the start, and later when the disk was not there at the start.

use std::path::PathBuf;
use std::time::Duration;

use edgecam_media::Timestamp;
use edgecam_media::ring::{Bounds, Position};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::footage::bookmark::Bookmark;
use crate::footage::disk::Waker;
use crate::footage::{Footage, RecorderSettings, Storage, archive, recorder};
use crate::host::wall_clock;

/// For a disk to answer before capture starts without it.
const OPEN: Duration = Duration::from_secs(30);
/// Between two attempts to open an archive that could not be opened.
const RETRY: Duration = Duration::from_secs(5);

/// A log that can take footage.
pub(super) struct OpenLog {
    pub(super) footage: Footage,
    /// The newest picture of an earlier run.
    pub(super) latest: Option<Timestamp>,
    /// Number of the first GOP of this run.
    pub(super) first_gop: u64,
    /// An attempt to open the archive that has not come back yet, or a failed one: there is something to retry.
    pub(super) pending: Option<Pending>,
}

/// What is left to do about an archive that is not open.
#[derive(Default)]
pub(super) struct Pending(Option<Opening>);

type Opening = JoinHandle<Result<Opened, String>>;

struct Opened {
    archive: archive::Recovered,
    /// All GOPs that were sent or recorded have lower numbers.
    next_gop: u64,
}

/// Where a camera's upload cursor is kept.
pub(super) fn bookmark(archive: &config::Archive) -> PathBuf {
    archive.directory.join("upload.cursor")
}

/// Opens the camera's archive and makes its log. With a disk that fails the log begins in RAM.
pub(super) async fn open(camera: &config::Camera, disk: &Waker) -> OpenLog {
    let Some(settings) = &camera.archive else {
        // What an archive would have held has to fit into RAM: as much as the config allows.
        let bounds = Bounds { keep: camera.ring_most, most: camera.ring_most };
        let footage = Footage::new(bounds, 0, Duration::ZERO, Storage::None, None);
        return OpenLog { footage, latest: None, first_gop: 0, pending: None };
    };
    let bounds = Bounds { keep: camera.ring, most: camera.ring_most };
    let mut opening = begin(settings);
    let (error, pending) = match tokio::time::timeout(OPEN, &mut opening).await {
        Ok(result) => match flat(result) {
            Ok(opened) => {
                let (latest, first_gop) = (opened.archive.latest, opened.next_gop);
                let storage = Storage::Archive(opened.archive.index.clone());
                let footage = Footage::new(bounds, first_gop, settings.at_risk, storage, Some(disk.clone()));
                record(camera, settings, &footage, opened, disk);
                return OpenLog { footage, latest, first_gop, pending: None };
            }
            Err(error) => (error, Pending(None)),
        },
        Err(_) => ("the disk does not answer".to_owned(), Pending(Some(opening))),
    };
    let camera_name = &camera.name;
    tracing::error!(camera_name, error, "the archive cannot be opened; footage is kept in RAM until it can");
    // Higher than any number an archive has come to by counting: it is attached later without renumbering anything.
    let first_gop = wall_clock().unix_millis().max(0) as u64;
    let footage = Footage::new(bounds, first_gop, settings.at_risk, Storage::Awaited(error), Some(disk.clone()));
    OpenLog { footage, latest: None, first_gop, pending: Some(pending) }
}

/// Tries until the archive is open, and attaches it to the log.
pub(super) async fn open_late(
    camera: config::Camera,
    log: (Footage, u64),
    pending: Pending,
    disk: Waker,
    cancel: CancellationToken,
) {
    let Some(settings) = &camera.archive else { return };
    let ((footage, first_gop), camera_name) = (log, &camera.name);
    let mut under_way = pending.0;
    loop {
        // A disk that hangs is waited for: another attempt would only hang beside it.
        let attempt = match under_way.take() {
            Some(opening) => opening,
            None => {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
                begin(settings)
            }
        };
        let result = tokio::select! {
            () = cancel.cancelled() => return,
            result = attempt => flat(result),
        };
        match result {
            Ok(opened) if opened.next_gop <= first_gop => {
                tracing::info!(camera_name, "the archive is open; what is in RAM goes into it");
                footage.attach(opened.archive.index.clone());
                record(&camera, settings, &footage, opened, &disk);
                return;
            }
            Ok(_) => {
                let error = "the archive is newer than the clock was at the start; restart the agent to use it";
                tracing::error!(camera_name, error, "the archive cannot be used");
                footage.set_await_reason(error.to_owned());
                return;
            }
            Err(error) => footage.set_await_reason(error),
        }
    }
}

fn begin(settings: &config::Archive) -> Opening {
    let (directory, bookmark) = (settings.directory.clone(), bookmark(settings));
    tokio::task::spawn_blocking(move || {
        let archive = archive::open(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        // What the stream has persisted may be more than the disk kept of it: numbers are never used twice.
        let sent = Bookmark::open(&bookmark).ok().and_then(|(_, positions)| positions.first().copied());
        let next_gop = sent.map_or(archive.next_gop, |sent: Position| archive.next_gop.max(sent.gop + 1));
        Ok(Opened { archive, next_gop })
    })
}

fn flat(result: Result<Result<Opened, String>, tokio::task::JoinError>) -> Result<Opened, String> {
    result.unwrap_or_else(|error| Err(error.to_string()))
}

fn record(camera: &config::Camera, settings: &config::Archive, footage: &Footage, opened: Opened, disk: &Waker) {
    if opened.archive.bytes_cut > 0 {
        let camera_name = &camera.name;
        let bytes = opened.archive.bytes_cut;
        tracing::warn!(camera_name, bytes, "the last segment was cut off by a crash; it was mended");
    }
    let recorder_settings = RecorderSettings {
        camera: camera.name.clone(),
        directory: settings.directory.clone(),
        rotation: settings.rotation,
        retention: settings.retention,
        at_risk: settings.at_risk,
    };
    disk.add(recorder::Recorder::new(recorder_settings, footage, opened.archive.index));
}

/// A log of a few seconds for a second stream.
pub(super) fn in_ram() -> Footage {
    const SUB_STREAM: usize = 4 << 20;
    let bounds = Bounds { keep: SUB_STREAM, most: SUB_STREAM };
    Footage::new(bounds, 0, Duration::ZERO, Storage::None, None)
}

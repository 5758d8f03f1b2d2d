//! The only file that wires: from a config to running cameras, and from one config to the next.
//!
//! Order of things: a camera's log is opened, then its disk recorder and its upload start, then capture. Shutdown goes
//! the other way around and follows the footage: capture stops, uploads drain, the disk finishes.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgecam_media::Timestamp;
use edgecam_media::ring::Bounds;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

use crate::capture::supervisor::{self, Capture};
use crate::config::{self, Config};
use crate::footage::bookmark::Bookmark;
use crate::footage::disk::Disk;
use crate::footage::{Footage, RecorderSettings, archive, recorder};
use crate::run::stage::Stage;
use crate::upload::doctor::{ClockSkew, watch_clock};
use crate::upload::{self, ControlPlane, Network, Upload};

/// For capture to end after it was told to.
const CAPTURE_GRACE: Duration = Duration::from_millis(1_500);
/// For uploads to drain, and a little more.
const UPLOAD_GRACE: Duration = Duration::from_millis(4_300);
/// For the disk to finish.
const DISK_GRACE: Duration = Duration::from_secs(2);

/// The running agent.
pub struct Agent {
    config: Config,
    cameras: BTreeMap<String, Camera>,
    disk: Disk,
    shared: Shared,
    clock: Option<(Stage, CancellationToken)>,
    /// When it started.
    pub started: Instant,
}

#[derive(Clone, Default)]
struct Shared {
    control: Arc<OnceCell<ControlPlane>>,
    network: Arc<Network>,
    clock: ClockSkew,
}

/// What runs for one camera. The handles that status and commands need can be cloned.
struct Camera {
    handle: CameraHandle,
    capture: Stage,
    upload: Option<Stage>,
    stop_capture: CancellationToken,
    stop_upload: CancellationToken,
}

/// What status and commands need of a camera.
#[derive(Clone)]
pub struct CameraHandle {
    /// Its config.
    pub config: config::Camera,
    /// Its log.
    pub footage: Footage,
    /// What its source is doing.
    pub capture: supervisor::StatusCell,
    /// Its upload.
    pub upload: Option<Upload>,
    /// Why there is no archive although the config wants one.
    pub archive_error: Option<String>,
}

impl Agent {
    /// Starts everything the config names. Fails only if the disk thread cannot be started.
    pub async fn start(config: Config) -> io::Result<Self> {
        let mut agent = Self {
            cameras: BTreeMap::new(),
            disk: Disk::start()?,
            shared: Shared::default(),
            clock: None,
            started: Instant::now(),
            config: Config { cameras: Vec::new(), ..config.clone() },
        };
        agent.apply(config).await;
        Ok(agent)
    }

    /// Goes over to another config: cameras whose config did not change are not touched.
    pub async fn apply(&mut self, config: Config) {
        if config.aws != self.config.aws {
            // Uploads hold on to the control plane they were started with.
            self.shared = Shared::default();
        }
        let same_aws = config.aws == self.config.aws;
        let unchanged = |name: &String, camera: &Camera| {
            let new = config.cameras.iter().find(|new| new.name == *name);
            new == Some(&camera.handle.config) && (same_aws || camera.handle.upload.is_none())
        };
        let gone: Vec<String> = self
            .cameras
            .iter()
            .filter(|(name, camera)| !unchanged(name, camera))
            .map(|(name, _)| name.clone())
            .collect();
        let leaving: Vec<Camera> = gone.iter().filter_map(|name| self.cameras.remove(name)).collect();
        self.end(leaving).await;
        for camera in &config.cameras {
            if !self.cameras.contains_key(&camera.name) {
                let started = self.start_camera(camera, &config.aws).await;
                self.cameras.insert(camera.name.clone(), started);
            }
        }
        let uploads = config.cameras.iter().any(|camera| camera.upload.is_some());
        if !same_aws || !uploads {
            self.stop_clock().await;
        }
        if uploads && self.clock.is_none() {
            self.clock = Some(self.start_clock(&config.aws));
        }
        self.config = config;
    }

    fn start_clock(&self, aws: &config::Aws) -> (Stage, CancellationToken) {
        let cancel = CancellationToken::new();
        let (shared, aws, token) = (self.shared.clone(), aws.clone(), cancel.clone());
        let make = move || {
            watch_clock(
                shared.control.clone(),
                shared.network.clone(),
                aws.clone(),
                shared.clock.clone(),
                token.clone(),
            )
        };
        (Stage::spawn("clock".to_owned(), cancel.clone(), make), cancel)
    }

    async fn stop_clock(&mut self) {
        if let Some((stage, cancel)) = self.clock.take() {
            cancel.cancel();
            // It may be waiting for the network: there is nothing to finish.
            stage.end(Duration::from_millis(100)).await;
        }
    }

    /// How far the clock is ahead of the service's, in seconds, once that is known.
    pub fn clock_skew(&self) -> Option<i64> {
        self.shared.clock.get()
    }

    /// Stops capture, drains uploads, finishes the archives.
    pub async fn stop(mut self) {
        self.stop_clock().await;
        let cameras = std::mem::take(&mut self.cameras).into_values().collect();
        self.end(cameras).await;
        self.disk.stop(DISK_GRACE).await;
    }

    /// The config in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The cameras, by name.
    pub fn cameras(&self) -> Vec<CameraHandle> {
        self.cameras.values().map(|camera| camera.handle.clone()).collect()
    }

    /// Panics of all stages.
    pub fn panics(&self) -> u64 {
        let of = |camera: &Camera| camera.capture.panics() + camera.upload.as_ref().map_or(0, Stage::panics);
        self.cameras.values().map(of).sum()
    }

    async fn start_camera(&self, camera: &config::Camera, aws: &config::Aws) -> Camera {
        let opened = open_log(camera, &self.disk).await;
        let OpenLog { footage, latest, archive_error } = opened;
        let (force_idr, idr_requests) = watch::channel(0);
        let capture = Capture {
            camera: camera.name.clone(),
            source: camera.source.clone(),
            footage: footage.clone(),
            latest,
            force_idr: idr_requests,
            status: supervisor::StatusCell::default(),
        };
        let has_archive = camera.archive.is_some() && archive_error.is_none();
        let upload = camera.upload.as_ref().map(|settings| Upload {
            camera: camera.name.clone(),
            stream: settings.stream.clone(),
            mode: settings.mode.clone(),
            footage: footage.clone(),
            aws: aws.clone(),
            control: self.shared.control.clone(),
            clock: self.shared.clock.clone(),
            network: self.shared.network.clone(),
            // Without an archive GOP numbers begin anew with each run: a cursor would point anywhere.
            bookmark: camera.archive.as_ref().filter(|_| has_archive).map(bookmark),
            demand: watch::Sender::default(),
            force_idr,
            status: upload::StatusCell::default(),
        });
        let handle = CameraHandle {
            config: camera.clone(),
            footage,
            capture: capture.status.clone(),
            upload: upload.clone(),
            archive_error,
        };
        let (stop_capture, stop_upload) = (CancellationToken::new(), CancellationToken::new());
        let upload = upload.map(|upload| {
            let cancel = stop_upload.clone();
            let make = move || upload::run(upload.clone(), cancel.clone());
            Stage::spawn(format!("upload {}", camera.name), stop_upload.clone(), make)
        });
        let cancel = stop_capture.clone();
        let make = move || supervisor::run(capture.clone(), cancel.clone());
        let capture = Stage::spawn(format!("capture {}", camera.name), stop_capture.clone(), make);
        Camera { handle, capture, upload, stop_capture, stop_upload }
    }

    async fn end(&self, cameras: Vec<Camera>) {
        cameras.iter().for_each(|camera| camera.stop_capture.cancel());
        let mut uploads = Vec::new();
        let mut names = Vec::new();
        for camera in cameras {
            camera.capture.end(CAPTURE_GRACE).await;
            camera.stop_upload.cancel();
            uploads.extend(camera.upload);
            names.push(camera.handle.config.name);
        }
        // One deadline for all: they drain at the same time.
        let deadline = Instant::now() + UPLOAD_GRACE;
        for upload in uploads {
            upload.end(deadline.saturating_duration_since(Instant::now())).await;
        }
        for name in names {
            self.disk.remove(&name, DISK_GRACE).await;
        }
    }
}

/// Where a camera's upload cursor is kept.
fn bookmark(archive: &config::Archive) -> PathBuf {
    archive.directory.join("upload.cursor")
}

struct OpenLog {
    footage: Footage,
    latest: Option<Timestamp>,
    archive_error: Option<String>,
}

/// Opens the camera's archive and makes its log. A disk that fails leaves a log in RAM.
async fn open_log(camera: &config::Camera, disk: &Disk) -> OpenLog {
    let camera_name = &camera.name;
    let in_ram = |archive_error: Option<String>| {
        // What the archive would have held has to fit into RAM: as much as the config allows.
        let bounds = Bounds { keep: camera.ring_most, most: camera.ring_most };
        let footage = Footage::new(bounds, 0, Duration::ZERO, None, None);
        OpenLog { footage, latest: None, archive_error }
    };
    let Some(settings) = &camera.archive else { return in_ram(None) };
    let directory = settings.directory.clone();
    let opening = tokio::task::spawn_blocking(move || archive::open(&directory));
    let opened = match tokio::time::timeout(Duration::from_secs(30), opening).await {
        Ok(Ok(Ok(opened))) => opened,
        Ok(Ok(Err(error))) => {
            let directory = settings.directory.display();
            tracing::error!(camera_name, %directory, %error, "the archive cannot be opened; footage is kept in RAM only");
            return in_ram(Some(format!("{directory}: {error}")));
        }
        Ok(Err(_)) | Err(_) => {
            tracing::error!(camera_name, "the archive did not open in 30 s; footage is kept in RAM only");
            return in_ram(Some("the disk does not answer".to_owned()));
        }
    };
    if opened.bytes_cut > 0 {
        tracing::warn!(camera_name, bytes = opened.bytes_cut, "the last segment was cut off by a crash; it was mended");
    }
    let bounds = Bounds { keep: camera.ring, most: camera.ring_most };
    // What the stream has persisted may be more than the disk kept of it: numbers are never used twice.
    let sent = Bookmark::open(&bookmark(settings)).ok().and_then(|(_, position)| position);
    let next_gop = sent.map_or(opened.next_gop, |sent| opened.next_gop.max(sent.gop + 1));
    let footage = Footage::new(bounds, next_gop, settings.at_risk, Some(opened.index.clone()), Some(disk.waker()));
    let recorder_settings = RecorderSettings {
        camera: camera.name.clone(),
        directory: settings.directory.clone(),
        rotation: settings.rotation,
        retention: settings.retention,
        at_risk: settings.at_risk,
    };
    disk.add(recorder::Recorder::new(recorder_settings, &footage, opened.index));
    OpenLog { footage, latest: opened.latest, archive_error: None }
}

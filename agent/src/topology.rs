//! The only file that wires: from a config to running cameras, and from one config to the next.
//!
//! Order of things: a camera's log is opened, then its disk recorder and its upload start, then capture. Shutdown goes
//! the other way around and follows the footage: capture stops, uploads drain, the disk finishes.

mod log;
mod looking;
mod nvrs;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{Notify, OnceCell, watch};
use tokio_util::sync::CancellationToken;

use self::looking::{Look, Looking};
use self::nvrs::Nvrs;
use crate::capture::nvr::NvrCell;
use crate::capture::supervisor::{self, Capture};
use crate::config::{self, Config};
use crate::control::clip::Cutting;
use crate::encode::Control;
use crate::event::outlet::Broker;
use crate::event::publish::{Aws, Publisher};
use crate::event::tags::EventTags;
use crate::footage::Footage;
use crate::footage::disk::Disk;
use crate::inference::predict::Predictor;
use crate::inference::status::StatusCell;
use crate::live::streams::Streams;
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
    streams: Streams,
    nvrs: Nvrs,
    looking: Looking,
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
    /// Capture of its second stream.
    sub_stream: Option<Stage>,
    look: Option<Look>,
    upload: Option<Stage>,
    /// Opens an archive that could not be opened at the start.
    opening: Option<(Stage, CancellationToken)>,
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
    /// Its second, smaller stream: in RAM, for detectors and live view.
    pub sub_stream: Option<(Footage, supervisor::StatusCell)>,
    /// What looks at its pictures.
    pub looks: Option<StatusCell>,
    /// Its upload.
    pub upload: Option<Upload>,
    /// Counts requests for an IDR.
    pub force_idr: watch::Sender<u64>,
    /// What is asked of its encoder.
    pub encoder: watch::Sender<Control>,
    /// Clips that are being cut of it.
    pub cutting: Cutting,
}

impl CameraHandle {
    /// Whether the source makes an IDR when it is asked to, as far as is known of the device behind it.
    pub fn makes_idrs(&self) -> bool {
        self.config.source.makes_idrs() && !self.capture.get().particulars.refuses_idrs
    }

    /// Its second stream, while that delivers: what people watch live.
    pub fn second(&self) -> Option<&Footage> {
        let (footage, capture) = self.sub_stream.as_ref()?;
        (capture.get().state == supervisor::CaptureState::Streaming).then_some(footage)
    }

    fn differs_by_switches(&self, new: &config::Camera) -> bool {
        self.config == config::Camera { switches: self.config.switches, ..new.clone() }
    }

    /// Switches what can be switched while it runs.
    fn switch(&mut self, switches: config::Switches) {
        if self.config.switches.recording != switches.recording {
            self.footage.set_recording(switches.recording);
        }
        if self.config.switches.encoder != switches.encoder {
            self.encoder
                .send_modify(|encoder| *encoder = Control { bitrate_limit: encoder.bitrate_limit, ..switches.encoder });
        }
        self.config.switches = switches;
    }
}

impl Agent {
    /// Starts everything the config names. Fails only if the disk thread cannot be started.
    pub async fn start(config: Config) -> io::Result<Self> {
        let mut agent = Self {
            cameras: BTreeMap::new(),
            disk: Disk::start()?,
            shared: Shared::default(),
            streams: Streams::default(),
            nvrs: Nvrs::default(),
            looking: Looking::default(),
            clock: None,
            started: Instant::now(),
            config: Config { cameras: Vec::new(), ..config.clone() },
        };
        agent.apply(config).await;
        Ok(agent)
    }

    /// Goes over to another config: cameras whose config did not change are not touched.
    pub async fn apply(&mut self, mut config: Config) {
        config.adopt_listings(&self.config);
        if config.aws != self.config.aws {
            // Uploads hold on to the control plane they were started with.
            self.shared = Shared::default();
        }
        let same_aws = config.aws == self.config.aws;
        let unchanged = |name: &String, camera: &Camera| {
            let new = config.cameras.iter().find(|new| new.name == *name && new.switches.enabled);
            new.is_some_and(|new| camera.handle.differs_by_switches(new))
                && (same_aws || camera.handle.upload.is_none())
                && !(camera.look.is_some() && (!same_aws || self.looking.differs(&config.inference)))
        };
        let gone: Vec<String> = self
            .cameras
            .iter()
            .filter(|(name, camera)| !unchanged(name, camera))
            .map(|(name, _)| name.clone())
            .collect();
        if config.honeycomb != self.config.honeycomb {
            // What may be sent to whom, and what cameras are called, is another matter now.
            self.streams.stop_all().await;
        }
        for name in &gone {
            self.streams.forget(self.config.live_id(name)).await;
        }
        let leaving: Vec<Camera> = gone.iter().filter_map(|name| self.cameras.remove(name)).collect();
        self.end(leaving).await;
        let aws = Aws { control: self.shared.control.clone(), config: config.aws.clone() };
        self.looking.prepare(&config, &aws, !same_aws).await;
        for camera in config.cameras.iter().filter(|camera| camera.switches.enabled) {
            match self.cameras.get_mut(&camera.name) {
                Some(running) => running.handle.switch(camera.switches),
                None => {
                    let started = self.start_camera(camera, &config).await;
                    self.cameras.insert(camera.name.clone(), started);
                }
            }
        }
        let uploads = self.cameras.values().any(|camera| camera.handle.upload.is_some());
        if !same_aws || !uploads {
            self.stop_clock().await;
        }
        if uploads && self.clock.is_none() {
            self.clock = Some(self.start_clock(&config.aws));
        }
        self.nvrs.apply(&config.nvrs).await;
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

    /// Stops capture, drains uploads, finishes the archives. Whoever watches is told first.
    pub async fn stop(mut self) {
        self.streams.stop_all().await;
        self.stop_clock().await;
        self.nvrs.apply(&[]).await;
        let cameras = std::mem::take(&mut self.cameras).into_values().collect();
        self.end(cameras).await;
        self.looking.stop().await;
        self.disk.stop(DISK_GRACE).await;
    }

    /// Looks at no picture any more: events that go on end.
    pub async fn stop_looking(&mut self) {
        join_all(self.cameras.values_mut().filter_map(|camera| camera.look.take()).map(Look::end)).await;
    }

    /// Live view by RTP, by [`Config::live_id`].
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The config in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The cameras, by name.
    pub fn cameras(&self) -> Vec<CameraHandle> {
        self.cameras.values().map(|camera| camera.handle.clone()).collect()
    }

    /// Recorders that are asked for their channels, by name.
    pub fn nvrs(&self) -> Vec<(String, NvrCell)> {
        self.nvrs.cells()
    }

    /// Told of each answer of one of them.
    pub fn nvr_listed(&self) -> Arc<Notify> {
        self.nvrs.listed()
    }

    /// The broker that events go to, once there is a connection to it.
    pub fn broker(&self) -> &Broker {
        self.looking.broker()
    }

    /// Where events go, besides the broker.
    pub fn publishers(&self) -> Vec<Publisher> {
        self.looking.publishers()
    }

    /// Runs a detector on pictures that somebody sends: the one of these names, or the first there is.
    pub fn predictor(&self, camera: Option<&str>, detector: Option<&str>) -> Option<Predictor> {
        let cameras = self.config.cameras.iter().filter(|one| camera.is_none_or(|name| one.name == name));
        let mut detectors = cameras.flat_map(|camera| &camera.detectors);
        let found = detectors.find(|one| detector.is_none_or(|name| one.name == name))?;
        self.looking.predictor(found)
    }

    /// Panics of all stages.
    pub fn panics(&self) -> u64 {
        let of = |camera: &Camera| {
            let stages = [Some(&camera.capture), camera.upload.as_ref(), camera.sub_stream.as_ref()];
            stages.into_iter().flatten().map(Stage::panics).sum::<u64>() + camera.look.as_ref().map_or(0, Look::panics)
        };
        self.cameras.values().map(of).sum::<u64>() + self.nvrs.panics() + self.looking.panics()
    }

    async fn start_camera(&self, camera: &config::Camera, config: &Config) -> Camera {
        let aws = &config.aws;
        let log::OpenLog { footage, latest, first_gop, pending } = log::open(camera, &self.disk.waker()).await;
        footage.set_recording(camera.switches.recording);
        let (stop_capture, stop_upload) = (CancellationToken::new(), CancellationToken::new());
        let (force_idr, idr_requests) = watch::channel(0);
        let (encoder, encoder_requests) = watch::channel(camera.switches.encoder);
        let capture = Capture {
            camera: camera.name.clone(),
            source: camera.source.clone(),
            footage: footage.clone(),
            latest,
            force_idr: idr_requests,
            encoder: encoder_requests,
            schedule: camera.schedule.clone(),
            audio: camera.audio,
            status: supervisor::StatusCell::default(),
        };
        let tags = EventTags::default();
        let upload = camera.upload.as_ref().map(|settings| Upload {
            camera: camera.name.clone(),
            stream: settings.stream.clone(),
            mode: settings.mode.clone(),
            footage: footage.clone(),
            aws: aws.clone(),
            control: self.shared.control.clone(),
            clock: self.shared.clock.clone(),
            network: self.shared.network.clone(),
            order: settings.order,
            bookmark: camera.archive.as_ref().map(log::bookmark),
            first_gop,
            demand: watch::Sender::default(),
            force_idr: force_idr.clone(),
            tags: tags.clone(),
            status: upload::StatusCell::default(),
        });
        let handle = CameraHandle {
            config: camera.clone(),
            footage,
            capture: capture.status.clone(),
            sub_stream: camera.sub_stream.as_ref().map(|_| (log::in_ram(), supervisor::StatusCell::default())),
            looks: (!camera.detectors.is_empty()).then(StatusCell::default),
            upload: upload.clone(),
            force_idr,
            encoder,
            cutting: Cutting::default(),
        };
        let sub_stream = self.start_sub_stream(&handle, &capture, &stop_capture);
        let looked_at = handle.sub_stream.as_ref().map_or(&handle.footage, |(footage, _)| footage);
        let look = handle.looks.as_ref();
        let look = look.and_then(|status| self.looking.watch(&handle, looked_at, &config.state_dir, (status, tags)));
        let upload = upload.map(|upload| {
            let cancel = stop_upload.clone();
            let make = move || upload::run(upload.clone(), cancel.clone());
            Stage::spawn(format!("upload {}", camera.name), stop_upload.clone(), make)
        });
        let cancel = stop_capture.clone();
        let make = move || supervisor::run(capture.clone(), cancel.clone());
        let capture = Stage::spawn(format!("capture {}", camera.name), stop_capture.clone(), make);
        let opening = pending.map(|pending| self.open_late(&handle, first_gop, pending));
        Camera { handle, capture, sub_stream, look, upload, opening, stop_capture, stop_upload }
    }

    /// Captures a camera's second stream beside its first.
    fn start_sub_stream(&self, handle: &CameraHandle, capture: &Capture, cancel: &CancellationToken) -> Option<Stage> {
        let (footage, status) = handle.sub_stream.clone()?;
        let source = handle.config.sub_stream.clone()?;
        let name = format!("{} (sub)", handle.config.name);
        let capture =
            Capture { camera: name.clone(), source, footage, latest: None, audio: false, status, ..capture.clone() };
        let token = cancel.clone();
        let make = move || supervisor::run(capture.clone(), token.clone());
        Some(Stage::spawn(format!("capture {name}"), cancel.clone(), make))
    }

    fn open_late(&self, handle: &CameraHandle, first_gop: u64, pending: log::Pending) -> (Stage, CancellationToken) {
        let cancel = CancellationToken::new();
        let (config, footage, disk) = (handle.config.clone(), handle.footage.clone(), self.disk.waker());
        // After a panic there is no attempt under way.
        let pending = Mutex::new(pending);
        let token = cancel.clone();
        let make = move || {
            let pending = std::mem::take(&mut *pending.lock().unwrap_or_else(PoisonError::into_inner));
            log::open_late(config.clone(), (footage.clone(), first_gop), pending, disk.clone(), token.clone())
        };
        (Stage::spawn(format!("archive {}", handle.config.name), cancel.clone(), make), cancel)
    }

    async fn end(&self, cameras: Vec<Camera>) {
        cameras.iter().for_each(|camera| camera.stop_capture.cancel());
        let mut uploads = Vec::new();
        let mut names = Vec::new();
        for camera in cameras {
            if let Some((stage, cancel)) = camera.opening {
                cancel.cancel();
                stage.end(Duration::from_millis(100)).await;
            }
            camera.capture.end(CAPTURE_GRACE).await;
            if let Some(sub_stream) = camera.sub_stream {
                sub_stream.end(CAPTURE_GRACE).await;
            }
            if let Some(look) = camera.look {
                look.end().await;
            }
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

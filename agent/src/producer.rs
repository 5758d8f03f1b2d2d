//! One source into one stream, from a program of one's own.
//!
//! ```no_run
//! use std::time::Duration;
//! use edgecam::config::source::Source;
//! use edgecam::encode::Encoding;
//! use edgecam::producer::Producer;
//!
//! # async fn example() -> Result<(), edgecam::producer::ProducerError> {
//! let source = Source::TestPattern(Encoding { width: 1280, height: 720, frame_rate: 15.0, gop: 15, bitrate: 2_000_000 });
//! let mut connected = Producer::new(source).connect("MyKVStream").await?;
//! let summary = connected.upload(Some(Duration::from_secs(60))).await?;
//! println!("{} frames stored", summary.frames);
//! connected.disconnect().await;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use edgecam_kvs::Fault;
use edgecam_media::ring::Bounds;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

use crate::capture::supervisor::{self, Capture, CaptureState, CaptureStatus};
use crate::config::source::Source;
use crate::config::{Aws, UploadMode, UploadOrder};
use crate::encode;
use crate::footage::{Footage, Storage};
use crate::run::stage::Stage;
use crate::upload::{self, ControlPlane, Upload, UploadState, UploadStatus};

/// Footage waits in RAM for this much at most.
const RING: usize = 64 << 20;
/// While footage moves, uploading what is left may take any time; without movement this long.
const STALLED: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// A source that is to be uploaded.
pub struct Producer {
    source: Source,
    aws: Aws,
}

/// A source and a stream that exists.
pub struct Connected {
    source: Source,
    aws: Aws,
    stream: String,
    control: Arc<OnceCell<ControlPlane>>,
    progress: watch::Sender<Progress>,
}

/// How far an upload is.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Progress {
    /// Pictures taken from the source.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// PERSISTED fragments.
    pub fragments_persisted: u64,
    /// What the upload is doing.
    pub state: UploadState,
    /// Why the source does not deliver.
    pub source_error: Option<String>,
}

/// What an upload has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Pictures stored.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Connections it took.
    pub sessions: u64,
}

/// Why an upload did not work.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// The service refused, or could not be reached.
    #[error("{0}")]
    Service(#[from] Fault),
    /// The source did not deliver.
    #[error("the source failed: {0}")]
    Source(String),
    /// Footage is left over that the service did not store.
    #[error("not everything was stored: {0}")]
    Incomplete(String),
}

impl Producer {
    /// A producer for `source`.
    pub fn new(source: Source) -> Self {
        Self { source, aws: Aws::default() }
    }

    /// Region, and whether streams may be created.
    #[must_use]
    pub fn with_aws(mut self, aws: Aws) -> Self {
        self.aws = aws;
        self
    }

    /// Looks the stream up. Credentials and permissions that are missing show here.
    pub async fn connect(self, stream: &str) -> Result<Connected, ProducerError> {
        let control = ControlPlane::new(&self.aws).await?;
        control.target(stream, edgecam_media::Codec::H264).await?;
        let control = Arc::new(OnceCell::new_with(Some(control)));
        let progress = watch::Sender::default();
        Ok(Connected { source: self.source, aws: self.aws, stream: stream.to_owned(), control, progress })
    }
}

impl Connected {
    /// How far the upload is, while it runs.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Uploads for `duration`, or until the source ends. Returns when all of it is stored.
    pub async fn upload(&mut self, duration: Option<Duration>) -> Result<Summary, ProducerError> {
        let bounds = Bounds { keep: RING, most: RING };
        let footage = Footage::new(bounds, 0, Duration::ZERO, Storage::None, None);
        let (force_idr, idr_requests) = watch::channel(0);
        let capture = Capture {
            camera: self.stream.clone(),
            source: self.source.clone(),
            footage: footage.clone(),
            latest: None,
            force_idr: idr_requests,
            encoder: watch::channel(encode::Control::default()).1,
            schedule: Vec::new(),
            audio: false,
            status: supervisor::StatusCell::default(),
        };
        let upload = Upload {
            camera: self.stream.clone(),
            stream: self.stream.clone(),
            mode: UploadMode::Continuous,
            footage: footage.clone(),
            aws: self.aws.clone(),
            control: self.control.clone(),
            clock: upload::doctor::ClockSkew::default(),
            network: Arc::default(),
            order: UploadOrder::InOrder,
            bookmark: None,
            first_gop: 0,
            demand: watch::Sender::default(),
            force_idr,
            tags: Default::default(),
            status: upload::StatusCell::default(),
        };
        let (stop_capture, stop_upload) = (CancellationToken::new(), CancellationToken::new());
        let (status, capture_status) = (upload.status.clone(), capture.status.clone());
        let (upload_task, cancel) = (upload, stop_upload.clone());
        let make = move || upload::run(upload_task.clone(), cancel.clone());
        let upload_stage = Stage::spawn(format!("upload {}", self.stream), stop_upload.clone(), make);
        let cancel = stop_capture.clone();
        let make = move || supervisor::run(capture.clone(), cancel.clone());
        let capture_stage = Stage::spawn(format!("capture {}", self.stream), stop_capture.clone(), make);

        let until = duration.map(|duration| Instant::now() + duration);
        let source_end = self.watch(&footage, &status, &capture_status, until).await;
        stop_capture.cancel();
        capture_stage.end(Duration::from_secs(2)).await;
        let moved = self.hand_over(&footage, &status).await;
        stop_upload.cancel();
        upload_stage.end(Duration::from_secs(6)).await;
        source_end.and(moved)?;
        self.summary(&footage, &status.get())
    }

    /// Lets go of the stream.
    pub async fn disconnect(self) {}

    async fn watch(
        &self,
        footage: &Footage,
        status: &upload::StatusCell,
        capture: &supervisor::StatusCell,
        until: Option<Instant>,
    ) -> Result<(), ProducerError> {
        loop {
            let CaptureStatus { state, error, .. } = capture.get();
            self.report(footage, &status.get(), error.clone());
            let fails_for_good = matches!(state, CaptureState::UnsupportedCodec | CaptureState::AuthFailed);
            if let Some(error) = error.filter(|_| fails_for_good || footage.status().units == 0) {
                return Err(ProducerError::Source(error));
            }
            if state == CaptureState::Ended || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the upload has taken everything, as long as it moves.
    async fn hand_over(&self, footage: &Footage, status: &upload::StatusCell) -> Result<(), ProducerError> {
        let mut last = (status.get().stats.bytes_sent, Instant::now());
        loop {
            let now = status.get();
            self.report(footage, &now, None);
            if now.sent_until >= footage.latest() {
                return Ok(());
            }
            if now.stats.bytes_sent != last.0 {
                last = (now.stats.bytes_sent, Instant::now());
            }
            if last.1.elapsed() > STALLED {
                let cause = match now.state {
                    UploadState::Failing { message, .. } => message,
                    state => format!("the upload is {} and does not move", state.name()),
                };
                return Err(ProducerError::Incomplete(cause));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn report(&self, footage: &Footage, status: &UploadStatus, source_error: Option<String>) {
        let log = footage.status();
        self.progress.send_replace(Progress {
            frames: log.units,
            bytes: log.bytes,
            fragments_persisted: status.stats.acks_persisted,
            state: status.state.clone(),
            source_error,
        });
    }

    fn summary(&self, footage: &Footage, status: &UploadStatus) -> Result<Summary, ProducerError> {
        let log = footage.status();
        self.report(footage, status, None);
        if log.units > 0 && status.committed.is_none_or(|committed| committed < log.end) {
            let text = match &status.state {
                UploadState::Failing { message, .. } => message.clone(),
                _ => "the last fragments were not acknowledged as PERSISTED in time".to_owned(),
            };
            return Err(ProducerError::Incomplete(text));
        }
        Ok(Summary { frames: log.units, bytes: log.bytes, sessions: status.stats.sessions })
    }
}

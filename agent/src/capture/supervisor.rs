//! Keeps a source going: attempt after attempt, with a pause between that fits the failure, and a status that says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edgecam_kvs::Backoff;
use edgecam_media::{Timestamp, TrackId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{CaptureError, Lost, Particulars, Sink, Waiting, attempt};
use crate::config::schedule::{self, Schedule};
use crate::config::source::Source;
use crate::encode::Control;
use crate::footage::Footage;
use crate::host::wall_clock;

/// A source that has delivered for this long has recovered: the next failure starts with the shortest pause.
const RECOVERED: Duration = Duration::from_secs(30);

/// What a source is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CaptureState {
    /// An attempt is under way and has not delivered yet.
    Connecting,
    /// It delivers.
    Streaming,
    /// It sends no pictures.
    Stalled,
    /// It refuses user name and password.
    AuthFailed,
    /// It is not there, or not reachable.
    NoDevice,
    /// It sends something else than H.264.
    UnsupportedCodec,
    /// Another program uses it.
    Busy,
    /// The agent's user may not use it.
    PermissionDenied,
    /// Its bus has no room for what is asked.
    UsbBandwidth,
    /// It cannot give what is asked.
    UnsupportedFormat,
    /// It has come to its end.
    Ended,
    /// It does not run now: it has a schedule.
    OffSchedule,
}

impl CaptureState {
    /// The word for it in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Stalled => "stalled",
            Self::AuthFailed => "auth_failed",
            Self::NoDevice => "no_device",
            Self::UnsupportedCodec => "unsupported_codec",
            Self::Busy => "busy",
            Self::PermissionDenied => "permission_denied",
            Self::UsbBandwidth => "usb_bandwidth",
            Self::UnsupportedFormat => "unsupported_format",
            Self::Ended => "ended",
            Self::OffSchedule => "off_schedule",
        }
    }

    /// The state that an attempt leaves which ended with `error`.
    pub(crate) fn after(error: &CaptureError) -> Self {
        match error {
            CaptureError::Ended => Self::Ended,
            CaptureError::Unreachable(_) | CaptureError::NotFound(_) | CaptureError::Unplugged(_) => Self::NoDevice,
            CaptureError::Busy(_) => Self::Busy,
            CaptureError::PermissionDenied(_) => Self::PermissionDenied,
            CaptureError::UsbBandwidth(_) => Self::UsbBandwidth,
            CaptureError::UnsupportedFormat(_) => Self::UnsupportedFormat,
            CaptureError::Stalled(_) => Self::Stalled,
            CaptureError::AuthFailed(_) => Self::AuthFailed,
            CaptureError::UnsupportedCodec(_) => Self::UnsupportedCodec,
        }
    }
}

/// Status of a source.
#[derive(Clone, PartialEq, Debug)]
pub struct CaptureStatus {
    /// What it is doing.
    pub state: CaptureState,
    /// Since when.
    pub since: Instant,
    /// Why the last attempt ended, until the next one delivers.
    pub error: Option<String>,
    /// Attempts begun.
    pub attempts: u64,
    /// What the attempts before this one could not deliver, and this one.
    pub lost: Lost,
    /// What the source tells about itself.
    pub particulars: Particulars,
    /// When something last happened: an attempt, a failure, a picture.
    pub alive: Instant,
}

/// The status, written by the supervisor and read by anyone.
#[derive(Clone)]
pub struct StatusCell(Arc<Mutex<CaptureStatus>>);

impl Default for StatusCell {
    fn default() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(CaptureStatus {
            state: CaptureState::Connecting,
            since: now,
            error: None,
            attempts: 0,
            lost: Lost::default(),
            particulars: Particulars::default(),
            alive: now,
        })))
    }
}

impl StatusCell {
    /// The status now.
    pub fn get(&self) -> CaptureStatus {
        self.lock().clone()
    }

    /// A picture has come; whether that was known.
    fn delivers(&self) -> bool {
        let mut status = self.lock();
        status.alive = Instant::now();
        status.state == CaptureState::Streaming
    }

    fn lock(&self) -> MutexGuard<'_, CaptureStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: CaptureState, error: Option<String>) {
        let mut status = self.lock();
        let now = Instant::now();
        if status.state != state {
            status.since = now;
        }
        (status.state, status.error, status.alive) = (state, error, now);
    }
}

/// A camera's capture.
#[derive(Clone)]
pub struct Capture {
    /// The camera, for logs.
    pub camera: String,
    /// The source.
    pub source: Source,
    /// Where its pictures go.
    pub footage: Footage,
    /// Continue behind this, if the log is empty: the end of the archive.
    pub latest: Option<Timestamp>,
    /// Counts requests for an IDR.
    pub force_idr: watch::Receiver<u64>,
    /// What is asked of its encoder.
    pub encoder: watch::Receiver<Control>,
    /// When it runs; always, if there is none.
    pub schedule: Vec<Schedule>,
    /// Whether its sound is recorded.
    pub audio: bool,
    /// What it is doing.
    pub status: StatusCell,
}

/// Runs the capture whenever its schedule says so, until `cancel` is called.
pub async fn run(capture: Capture, cancel: CancellationToken) {
    if capture.schedule.is_empty() {
        return attempts(capture, cancel).await;
    }
    while !cancel.is_cancelled() {
        let now = wall_clock();
        let period = schedule::earliest(&capture.schedule, now);
        match period.filter(|period| period.start <= now) {
            Some(period) => {
                let over = cancel.child_token();
                let mut run = std::pin::pin!(attempts(capture.clone(), over.clone()));
                tokio::select! {
                    () = &mut run => {}
                    () = until(period.end) => {
                        over.cancel();
                        run.await;
                    }
                }
                // A source that has ended is done, and not begun again in the same period.
                if capture.status.get().state == CaptureState::Ended {
                    wait(&cancel, Some(period.end)).await;
                }
            }
            None => {
                capture.status.set(CaptureState::OffSchedule, None);
                wait(&cancel, period.map(|period| period.start)).await;
            }
        }
    }
}

async fn wait(cancel: &CancellationToken, time: Option<Timestamp>) {
    let elapsed = async {
        match time {
            Some(time) => until(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = elapsed => {}
    }
}

/// Looks at the wall clock again and again: it may be set.
async fn until(time: Timestamp) {
    const LOOK: Duration = Duration::from_secs(10);
    loop {
        let now = wall_clock();
        if now >= time {
            return;
        }
        tokio::time::sleep(time.since(now).to_duration().min(LOOK)).await;
    }
}

/// Runs the capture until `cancel` is called, or until a source that does not repeat has ended.
async fn attempts(capture: Capture, cancel: CancellationToken) {
    let mut rng = fastrand::Rng::new();
    let mut pause = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    let mut lost_before = Lost::default();
    while !cancel.is_cancelled() {
        {
            let mut status = capture.status.lock();
            status.attempts += 1;
            status.alive = Instant::now();
        }
        let mut sink = sink(&capture);
        let (mut losses, mut particulars, mut waits) = (sink.lost(), sink.particulars(), sink.waits());
        let began = Instant::now();
        let run = attempt(&capture.source, &mut sink, &cancel);
        tokio::pin!(run);
        let result = loop {
            tokio::select! {
                result = &mut run => break result,
                // Counted, not logged: a bad link loses packets all the time.
                changed = losses.changed() => {
                    let lost = *losses.borrow_and_update();
                    capture.status.lock().lost = lost_before.plus(lost);
                    if changed.is_err() {
                        break (&mut run).await;
                    }
                }
                Ok(()) = waits.changed() => {
                    match *waits.borrow_and_update() {
                        Some(Waiting::For(what)) => capture.status.set(CaptureState::NoDevice, Some(what.to_owned())),
                        Some(Waiting::Hung(what)) => capture.status.set(CaptureState::Stalled, Some(what.to_owned())),
                        None => {}
                    }
                }
                Ok(()) = particulars.changed() => {
                    capture.status.lock().particulars = particulars.borrow_and_update().clone();
                }
            }
        };
        capture.status.lock().particulars = particulars.borrow().clone();
        lost_before = lost_before.plus(*losses.borrow());
        let Err(error) = result else { return };
        let text = error.to_string();
        let has_delivered = capture.status.lock().state == CaptureState::Streaming;
        if has_delivered && began.elapsed() >= RECOVERED {
            pause.succeeded();
        }
        let state = CaptureState::after(&error);
        let camera_name = &capture.camera;
        let delay = match state {
            CaptureState::Ended => {
                capture.status.set(state, None);
                tracing::info!(camera_name, "the source has ended");
                return;
            }
            // Cameras lock out who tries too often.
            CaptureState::AuthFailed => {
                pause.failed_with(Duration::from_secs(600), &mut rng).max(Duration::from_secs(30))
            }
            CaptureState::UnsupportedCodec | CaptureState::UnsupportedFormat => Duration::from_secs(60),
            // A look at a device of this machine costs nothing, and whoever plugs it in stands beside it.
            _ if matches!(error, CaptureError::Unplugged(_)) => Duration::from_secs(1),
            CaptureState::Busy | CaptureState::PermissionDenied => Duration::from_secs(5),
            _ => pause.failed(&mut rng),
        };
        let retry_ms = delay.as_millis() as u64;
        // What is tried every second is said once.
        if retry_ms > 2000 || capture.status.get().error.as_ref() != Some(&text) {
            tracing::warn!(camera_name, state = state.name(), %error, retry_ms, "capture failed");
        }
        capture.status.set(state, Some(text));
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }
}

fn sink(capture: &Capture) -> Sink {
    let latest = capture.footage.latest().or(capture.latest);
    let (footage, status, camera) = (capture.footage.clone(), capture.status.clone(), capture.camera.clone());
    let particulars = capture.status.get().particulars;
    let mut sink = Sink::new(latest, capture.force_idr.clone(), capture.encoder.clone(), move |delivered| {
        if delivered.unit.track == TrackId::VIDEO && !status.delivers() {
            status.set(CaptureState::Streaming, None);
            tracing::info!(camera_name = %camera, "streaming");
        }
        if delivered.went_back {
            tracing::warn!(camera_name = %camera, pts = %delivered.unit.pts, "the wall clock was set back; footage continues from the new time");
        }
        footage.append(delivered.unit, delivered.went_back);
    });
    sink.set_wants_audio(capture.audio);
    sink.knowing(particulars)
}

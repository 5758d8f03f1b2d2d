//! The upload of one camera: job after job, for as long as the agent runs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edgecam_kvs::Stats;
use edgecam_media::Timestamp;
use edgecam_media::ring::Position;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

use super::continuous;
use super::doctor::ClockSkew;
use super::driver::{Driver, TargetCache, Until};
use super::job::{Demand, Job};
use super::status::{UploadState, UploadStatus};
use super::{ControlPlane, Network};
use crate::config::{Aws, UploadMode, UploadOrder};
use crate::event::tags::EventTags;
use crate::footage::Footage;
use crate::footage::bookmark::Bookmark;
use crate::host::wall_clock;

/// The upload of one camera. Clones share it.
#[derive(Clone)]
pub struct Upload {
    /// The camera, for logs.
    pub camera: String,
    /// The stream.
    pub stream: String,
    /// When to upload.
    pub mode: UploadMode,
    /// What to upload.
    pub footage: Footage,
    /// Region and credential sources.
    pub aws: Aws,
    /// The control plane, made at the first connection and shared by all cameras.
    pub control: Arc<OnceCell<ControlPlane>>,
    /// How far the clock is off.
    pub clock: ClockSkew,
    /// TLS and addresses, shared by all cameras.
    pub network: Arc<Network>,
    /// What goes first.
    pub order: UploadOrder,
    /// Where the cursor is kept while the archive is there; `None` keeps none.
    pub bookmark: Option<PathBuf>,
    /// Number of the first GOP of this run.
    pub first_gop: u64,
    /// What people ask for.
    pub demand: watch::Sender<Demand>,
    /// Counts requests for an IDR.
    pub force_idr: watch::Sender<u64>,
    /// What went on while the footage was taken.
    pub tags: EventTags,
    /// What it is doing.
    pub status: StatusCell,
}

/// The status, written by the upload and read by anyone.
#[derive(Clone, Default)]
pub struct StatusCell(Arc<Mutex<(UploadStatus, Stats)>>);

/// Runs the upload until `cancel` is called, and drains it.
pub async fn run(upload: Upload, cancel: CancellationToken) {
    let mut demand = upload.demand.subscribe();
    let mut target = TargetCache::default();
    if matches!(upload.mode, UploadMode::Window(_)) {
        continuous::mark(&upload);
    }
    while !cancel.is_cancelled() {
        let wanted = demand.borrow_and_update().clone();
        match Job::due(&upload.mode, &wanted, Instant::now(), wall_clock()) {
            Ok(job) => {
                Box::pin(run_job(&upload, job, &mut target, &cancel)).await;
                upload.status.state(UploadState::Idle);
            }
            Err(again) => {
                let again = again.unwrap_or(Duration::from_secs(3600)).min(Duration::from_secs(3600));
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = tokio::time::sleep(again) => {}
                    changed = demand.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }
}

async fn run_job(upload: &Upload, job: Job, target: &mut TargetCache, cancel: &CancellationToken) {
    match job {
        Job::Continuous => continuous::run(upload, target, cancel).await,
        Job::Live { .. } => {
            // Each request extends the lease: the job ends when it has not been extended in time.
            let ended = cancel.child_token();
            let driver = Driver::new(upload, target, upload.footage.live());
            let lease = lease_over(upload.demand.subscribe());
            let run = driver.run(Until::default(), &ended, |_| ());
            tokio::pin!(run);
            tokio::select! {
                _ = &mut run => {}
                () = lease => {
                    ended.cancel();
                    run.await;
                }
            }
        }
        Job::Range(period) => {
            let start = upload.footage.at(period.start).await;
            let driver = Driver::new(upload, target, start);
            driver.run(Until::time(period.end), cancel, |_| ()).await;
            upload.demand.send_if_modified(|demand| {
                let is_done = demand.range == Some(period) && !cancel.is_cancelled();
                if is_done {
                    demand.range = None;
                }
                is_done
            });
        }
        Job::Window(period) => {
            let closed = cancel.child_token();
            let left = period.end.since(wall_clock()).to_duration();
            let run = continuous::run(upload, target, &closed);
            tokio::pin!(run);
            tokio::select! {
                () = &mut run => {}
                () = tokio::time::sleep(left) => {
                    closed.cancel();
                    run.await;
                }
            }
        }
        Job::Scheduled(period) => {
            let (mut kept, left_at) = Kept::open(upload);
            let start = upload.footage.at(period.start).await;
            // After a restart inside the period it goes on where it was.
            let start = left_at.first().map_or(start, |left_at| start.max(*left_at));
            let driver = Driver::new(upload, target, start);
            let commit = |position: Position| kept.save(upload, &[position]);
            driver.run(Until::time(period.end), cancel, commit).await;
            // A period that is over before its time, because the camera is silent, is not begun again at once.
            let left = period.end.since(wall_clock()).to_duration();
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

async fn lease_over(mut demand: watch::Receiver<Demand>) {
    loop {
        let Some(until) = demand.borrow_and_update().lease else { return };
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {
                if demand.borrow().lease.is_none_or(|until| until <= Instant::now()) {
                    return;
                }
            }
            changed = demand.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// The upload's cursor on disk, if it has one.
pub(super) struct Kept(Option<Bookmark>);

impl Kept {
    /// Opens it; returns the positions it holds. Without an archive there is none: GOP numbers begin anew with each
    /// run, and a cursor would point anywhere.
    pub(super) fn open(upload: &Upload) -> (Self, Vec<Position>) {
        let Some(path) = upload.bookmark.as_ref().filter(|_| upload.footage.archive().is_some()) else {
            return (Self(None), Vec::new());
        };
        match Bookmark::open(path) {
            Ok((bookmark, positions)) => (Self(Some(bookmark)), positions),
            Err(error) => {
                let camera_name = &upload.camera;
                tracing::error!(camera_name, path = %path.display(), %error, "the upload cursor cannot be kept");
                upload.status.cursor_error(Some(error.to_string()));
                (Self(None), Vec::new())
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn save(&mut self, upload: &Upload, positions: &[Position]) {
        let Some(bookmark) = &mut self.0 else { return };
        let error = bookmark.save(positions).err().map(|error| error.to_string());
        if upload.status.cursor_error(error.clone())
            && let Some(error) = error
        {
            let camera_name = &upload.camera;
            tracing::error!(
                camera_name,
                error,
                "the upload cursor cannot be saved; after a restart footage may be sent twice"
            );
        }
    }
}

impl Upload {
    /// Extends the live lease.
    pub fn lease(&self, duration: Duration) {
        self.demand.send_modify(|demand| demand.lease = Some(Instant::now() + duration));
    }
}

impl StatusCell {
    /// The status now.
    pub fn get(&self) -> UploadStatus {
        let (status, before) = &*self.lock();
        let mut status = status.clone();
        status.stats = status.stats.plus(before);
        status
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (UploadStatus, Stats)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self, state: UploadState) {
        self.lock().0.state = state;
    }

    /// A failure stays visible until an attempt succeeds.
    pub(super) fn connecting(&self) {
        let state = &mut self.lock().0.state;
        if *state == UploadState::Idle {
            *state = UploadState::Connecting;
        }
    }

    pub(super) fn session_ended(&self, is_up: bool) {
        let state = &mut self.lock().0.state;
        if *state == UploadState::Streaming && !is_up {
            *state = UploadState::Idle;
        }
    }

    pub(super) fn sent(&self, pts: Timestamp) {
        self.lock().0.sent_until = Some(pts);
    }

    pub(super) fn committed(&self, position: Position, until: Option<Timestamp>) {
        let status = &mut self.lock().0;
        status.committed = Some(position);
        status.persisted_until = until.or(status.persisted_until);
    }

    pub(super) fn stats(&self, stats: Stats) {
        self.lock().0.stats = stats;
    }

    /// A job is over: its counters join those of the jobs before.
    pub(super) fn finish(&self, stats: Stats) {
        let (status, before) = &mut *self.lock();
        *before = before.plus(&stats);
        status.stats = Stats::default();
    }

    pub(super) fn gaps(&self, count: usize) {
        self.lock().0.gaps = count;
    }

    /// Returns whether this is news.
    pub(super) fn long_gop(&self) -> bool {
        !std::mem::replace(&mut self.lock().0.has_long_gop, true)
    }

    /// Returns whether this is news.
    pub(super) fn cursor_error(&self, error: Option<String>) -> bool {
        let status = &mut self.lock().0;
        let is_news = status.cursor_error != error;
        status.cursor_error = error;
        is_news
    }
}

//! Talks to systemd (sd_notify(3)): ready, status, watchdog, reload. Without systemd all of it does nothing.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::capture::supervisor::CaptureState;
use crate::topology::{Agent, CameraHandle};

/// A capture stage of which nothing has been heard for this long hangs: each attempt has deadlines far below it.
const HANGS: Duration = Duration::from_secs(900);

/// What has been told so far.
#[derive(Default)]
pub struct Notifier {
    is_ready: bool,
    last_status: String,
    last_watchdog: Option<Instant>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Finds out whether a watchdog is set.
    pub fn new() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), ..Self::default() }
    }

    /// Tells what is new. To be called about once a second.
    pub fn update(&mut self, agent: &Agent) {
        let cameras = agent.cameras();
        let states: Vec<CaptureState> = cameras.iter().map(|camera| camera.capture.get().state).collect();
        // Ready when the first camera runs, or is known not to.
        if !self.is_ready && (states.is_empty() || states.iter().any(|state| *state != CaptureState::Connecting)) {
            self.is_ready = true;
            notify(&[NotifyState::Ready]);
        }
        let streaming = states.iter().filter(|state| **state == CaptureState::Streaming).count();
        let status = format!("{streaming} of {} cameras streaming", states.len());
        if status != self.last_status {
            notify(&[NotifyState::Status(&status)]);
            self.last_status = status;
        }
        if let Some(interval) = self.watchdog {
            let is_due = self.last_watchdog.is_none_or(|at| at.elapsed() >= interval / 3);
            if is_due && cameras.iter().all(makes_progress) {
                self.last_watchdog = Some(Instant::now());
                notify(&[NotifyState::Watchdog]);
            }
        }
    }

    /// A reload begins.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
    }

    /// The reload is over.
    pub fn reloaded(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// The agent stops.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }
}

fn makes_progress(camera: &CameraHandle) -> bool {
    let status = camera.capture.get();
    matches!(status.state, CaptureState::Ended | CaptureState::OffSchedule) || status.alive.elapsed() < HANGS
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}

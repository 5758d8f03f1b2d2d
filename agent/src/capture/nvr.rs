//! Asks a recorder for its channels, again and again. What it answers is taken up by whoever owns the config.
//!
//! Invariants: one question at a time, with a deadline; after a failure it is asked again with a pause that fits it; an
//! answer that nobody has taken yet is replaced by a newer one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edgecam_kvs::Backoff;
use edgecam_media::Timestamp;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{CaptureError, nuuo, onvif};
use crate::config::Nvr;
use crate::config::nvrs::{Channel, MOST_CHANNELS};
use crate::config::source::{NuuoDialect, Source};
use crate::host::wall_clock;

/// For all of an answer. A recorder with 256 channels and a slow disk takes its time.
const ANSWER: Duration = Duration::from_secs(60);
/// It is asked again after this at most, while a channel is missing that it had.
const MISSING: Duration = Duration::from_secs(30);

/// What a recorder has answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// How it speaks, for NUUO.
    pub dialect: Option<NuuoDialect>,
    /// What it has.
    pub channels: Vec<Channel>,
}

/// Status of a recorder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NvrStatus {
    /// Why it did not answer last time.
    pub error: Option<String>,
    /// When it answered last.
    pub listed: Option<Timestamp>,
    /// Times it was asked.
    pub attempts: u64,
}

/// Status and answer of a recorder: written here, read by anyone, taken by one.
#[derive(Clone, Default)]
pub struct NvrCell(Arc<Mutex<(NvrStatus, Option<Found>)>>);

impl NvrCell {
    /// The status now.
    pub fn status(&self) -> NvrStatus {
        self.lock().0.clone()
    }

    /// The answer that has not been taken yet.
    pub fn take(&self) -> Option<Found> {
        self.lock().1.take()
    }

    fn lock(&self) -> MutexGuard<'_, (NvrStatus, Option<Found>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks until `cancel` is called; `listed` is told of each answer.
pub async fn run(nvr: Nvr, cell: NvrCell, listed: Arc<Notify>, cancel: CancellationToken) {
    let mut rng = fastrand::Rng::new();
    let mut pause = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    // By the same rule as that of who takes the answers up.
    let mut listing = nvr.listing.clone();
    loop {
        cell.lock().0.attempts += 1;
        let asked = tokio::select! {
            () = cancel.cancelled() => return,
            asked = timeout(ANSWER, ask(nvr.source())) => asked,
        };
        let late = || CaptureError::Unreachable(format!("no complete list within {} s", ANSWER.as_secs()));
        let delay = match asked.unwrap_or_else(|_| Err(late())).and_then(not_empty) {
            Ok(found) => {
                pause.succeeded();
                let mut cell = cell.lock();
                if cell.0.error.take().is_some() || cell.0.listed.is_none() {
                    tracing::info!(nvr = nvr.name, channels = found.channels.len(), "the NVR lists its channels");
                }
                if found.channels.len() > MOST_CHANNELS {
                    let (nvr, channels) = (&nvr.name, found.channels.len());
                    tracing::warn!(
                        nvr,
                        channels,
                        "the NVR lists more than {MOST_CHANNELS} channels: the last of them are left out"
                    );
                }
                listing.take(&nvr.name, found.dialect, found.channels.clone());
                cell.0.listed = Some(wall_clock());
                cell.1 = Some(found);
                listed.notify_one();
                if listing.misses_some() { nvr.refresh.min(MISSING) } else { nvr.refresh }
            }
            Err(error) => {
                let delay = match error {
                    // Recorders lock out who tries too often.
                    CaptureError::AuthFailed(_) => {
                        pause.failed_with(Duration::from_secs(600), &mut rng).max(Duration::from_secs(30))
                    }
                    _ => pause.failed(&mut rng),
                };
                let retry_ms = delay.as_millis() as u64;
                tracing::warn!(nvr = nvr.name, %error, retry_ms, "the NVR does not list its channels");
                cell.lock().0.error = Some(error.to_string());
                delay
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
    }
}

/// A recorder that has just started lists nothing for a while: its cameras must not end for that.
fn not_empty(found: Found) -> Result<Found, CaptureError> {
    if found.channels.is_empty() {
        let message = "it lists no channel: it has just started, or this user may see none";
        return Err(CaptureError::NotFound(message.to_owned()));
    }
    Ok(found)
}

async fn ask(source: &Source) -> Result<Found, CaptureError> {
    match source {
        Source::Nuuo(settings) => {
            let (dialect, cameras) = nuuo::list(settings).await?;
            let channel = |camera: nuuo::Camera| Channel {
                server: camera.server,
                id: camera.id,
                name: camera.name,
                ..Channel::default()
            };
            Ok(Found { dialect: Some(dialect), channels: cameras.into_iter().map(channel).collect() })
        }
        Source::Onvif(settings) => {
            // A channel is a video source. Its profiles have names ("mainStream"), the source has none but its token.
            let mut channels: Vec<Channel> = Vec::new();
            for offer in onvif::list(settings, false).await? {
                let onvif::Offer { profile, .. } = offer;
                if profile.source.is_empty() || channels.iter().any(|channel| channel.id == profile.source) {
                    continue;
                }
                let id = profile.source;
                channels.push(Channel { name: id.clone(), id, ..Channel::default() });
            }
            Ok(Found { dialect: None, channels })
        }
        other => Err(CaptureError::NotFound(format!("a source of the kind `{}` lists nothing", other.kind()))),
    }
}

/// What a recorder lists now, for the doctor.
pub async fn count(nvr: &Nvr) -> Result<usize, CaptureError> {
    ask(nvr.source()).await.map(|found| found.channels.len())
}

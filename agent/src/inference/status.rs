//! What inference does at one camera: counted, and shown to whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgecam_media::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast;

use super::schedule::Decode;

/// Looks that somebody who listens may be behind.
const BEHIND: usize = 16;
/// After somebody has asked for a picture, pictures are made for so long.
const WATCHED: Duration = Duration::from_secs(10);
/// Upper ends of the histogram of inference times, in seconds.
pub const BUCKETS: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0];

/// One detector of a camera.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DetectorStatus {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// The model, as configured.
    pub model: String,
    /// Why it does not look, or the last look failed.
    pub error: Option<String>,
    /// Whether it is ready.
    pub is_ready: bool,
    /// Pictures it looked at.
    pub looked: u64,
    /// Pictures on which nothing had changed.
    pub still: u64,
    /// Looks that failed.
    pub failed: u64,
    /// Things seen, by class.
    pub detections: BTreeMap<Arc<str>, u64>,
    /// Events begun.
    pub events: u64,
    /// How long the model ran, one count a bucket and one beyond.
    pub times: [u64; BUCKETS.len() + 1],
    /// All of that, in seconds.
    pub seconds: f64,
}

impl DetectorStatus {
    pub(super) fn took(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.seconds += seconds;
        self.times[BUCKETS.iter().position(|bucket| seconds <= *bucket).unwrap_or(BUCKETS.len())] += 1;
    }
}

/// Inference at one camera.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CameraStatus {
    /// Its detectors, in the order of the config.
    pub detectors: Vec<DetectorStatus>,
    /// What is decoded; none before the first picture.
    pub decode: Option<Decoding>,
    /// Pictures decoded.
    pub decoded: u64,
    /// Pictures that could not be decoded.
    pub undecodable: u64,
    /// Looks that a newer picture pushed out.
    pub skipped: u64,
    /// From the arrival of the last picture to what was seen on it.
    pub lag: Option<Duration>,
    /// CPU time of decoding and looking.
    pub cpu: Duration,
    /// Why no picture can be looked at.
    pub error: Option<String>,
    /// What was seen last, and when that was taken.
    pub last: Option<(Timestamp, Value)>,
}

/// What is decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoding {
    /// Key frames alone.
    KeyFrames,
    /// All pictures.
    All,
}

impl Decoding {
    pub(super) fn of(decode: Decode) -> Self {
        match decode {
            Decode::KeyFrames => Self::KeyFrames,
            Decode::All => Self::All,
        }
    }

    /// In reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyFrames => "key_frames",
            Self::All => "all",
        }
    }
}

/// The status of a camera, shared by who writes and who reads it.
#[derive(Clone, Debug)]
pub struct StatusCell {
    shared: Arc<Mutex<CameraStatus>>,
    looks: broadcast::Sender<Arc<Value>>,
    picture: Arc<Mutex<Watched>>,
}

#[derive(Debug, Default)]
struct Watched {
    asked: Option<Instant>,
    jpeg: Option<(Timestamp, Bytes)>,
}

impl Default for StatusCell {
    fn default() -> Self {
        Self { shared: Arc::default(), looks: broadcast::Sender::new(BEHIND), picture: Arc::default() }
    }
}

impl StatusCell {
    /// As it is now.
    pub fn get(&self) -> CameraStatus {
        self.lock().clone()
    }

    /// What is seen from now on, look by look.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Value>> {
        self.looks.subscribe()
    }

    /// The newest picture that was looked at, as a JPEG. The first who asks has to come again after the next look.
    pub fn picture(&self) -> Option<(Timestamp, Bytes)> {
        let mut watched = self.picture.lock().unwrap_or_else(PoisonError::into_inner);
        watched.asked = Some(Instant::now());
        watched.jpeg.clone()
    }

    pub(super) fn is_watched(&self) -> bool {
        let mut watched = self.picture.lock().unwrap_or_else(PoisonError::into_inner);
        let is_watched = watched.asked.is_some_and(|asked| asked.elapsed() < WATCHED);
        if !is_watched {
            watched.jpeg = None;
        }
        is_watched
    }

    pub(super) fn show(&self, at: Timestamp, jpeg: Bytes) {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner).jpeg = Some((at, jpeg));
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut CameraStatus)) {
        change(&mut self.lock());
    }

    pub(super) fn tell(&self, look: Value) {
        // Nobody listening is no error.
        self.looks.send(Arc::new(look)).ok();
    }

    fn lock(&self) -> MutexGuard<'_, CameraStatus> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

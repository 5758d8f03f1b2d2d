//! Pictures to train with: one of so many, and those the model was unsure about. They go the way of events: through an
//! outbox to a directory and a bucket, as `<camera>/YYYY/MM/DD/<timestamp>_<uuid>.jpg` and `.json`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use edgecam_media::Timestamp;
use serde_json::json;

use super::message::{Envelope, detections, epoch};
use super::outbox::Importance;
use super::publish::Publisher;
use super::story::Sight;
use crate::config::detectors::Detector;
use crate::config::publishers::Dataset as Settings;

/// Chooses and keeps pictures of one camera. Clones share it.
#[derive(Clone)]
pub struct Dataset {
    camera: String,
    settings: Settings,
    publishers: Vec<Publisher>,
    offered: Arc<AtomicU64>,
    new_id: fn() -> Arc<str>,
}

impl Dataset {
    /// Keeps pictures of `camera` with `publishers`.
    pub fn new(camera: &str, settings: Settings, publishers: Vec<Publisher>, new_id: fn() -> Arc<str>) -> Self {
        Self { camera: camera.to_owned(), settings, publishers, offered: Arc::default(), new_id }
    }

    /// Keeps a picture if it is one of those that are wanted.
    pub fn offer(
        &self,
        detector: &Detector,
        (at, number): (Timestamp, u64),
        sights: &[Sight],
        picture: impl FnOnce() -> Option<Bytes>,
    ) {
        let count = self.offered.fetch_add(1, Ordering::Relaxed);
        let is_nth = self.settings.every.is_some_and(|every| count.is_multiple_of(u64::from(every)));
        let is_unsure = self
            .settings
            .unsure
            .is_some_and(|(low, high)| sights.iter().any(|sight| sight.confidence >= low && sight.confidence <= high));
        if !is_nth && !is_unsure {
            return;
        }
        let Some(picture) = picture() else { return };
        let message = json!({
            "id": format!("{}_{}", at.unix_millis(), (self.new_id)()),
            "camera_id": self.camera,
            "timestamp": epoch(at),
            "frame_number": number,
            "detector": detector.name,
            "detector_type": detector.kind.name(),
            "model": detector.model.to_string(),
            "chosen": if is_unsure { "unsure" } else { "every" },
            "detections": detections(sights),
        });
        let envelope = Envelope { json: message.to_string().into(), pictures: vec![picture] };
        for publisher in &self.publishers {
            publisher.push(&envelope, Importance::Low);
        }
    }
}

//! Where one camera's events go: the broker, publishers, clips and pictures to train with. Never waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use edgecam_media::{Ticks, Timestamp};
use serde_json::Value;
use tokio::sync::mpsc;

use super::dataset::Dataset;
use super::message::{About, Envelope};
use super::outbox::Importance;
use super::publish::Publisher;
use super::story::{Change, Sight, Told};
use super::tags::EventTags;
use crate::config::detectors::Detector;

/// Events that wait for a broker to be named at the start, at most.
const MOST_EARLY: usize = 100;
/// Clips of a camera that wait to be cut.
pub const MOST_CLIPS: usize = 16;

/// Gives messages to the broker: camera, message.
pub type Give = Arc<dyn Fn(&str, Bytes) + Send + Sync>;

/// The broker that events go to, once there is a connection to speak of. Clones share it.
#[derive(Clone, Default)]
pub struct Broker(Arc<Mutex<Door>>);

#[derive(Default)]
struct Door {
    give: Option<Give>,
    early: VecDeque<(String, Bytes)>,
}

impl Broker {
    /// From now on events go through `give`, those that came too early first; or nowhere.
    pub fn connect(&self, give: Option<Give>) {
        let mut door = self.lock();
        if let Some(give) = &give {
            for (camera, message) in door.early.drain(..) {
                give(&camera, message);
            }
        }
        door.give = give;
    }

    fn push(&self, camera: &str, message: Bytes) {
        let mut door = self.lock();
        if let Some(give) = &door.give {
            return give(camera, message);
        }
        if door.early.len() == MOST_EARLY {
            door.early.pop_front();
        }
        door.early.push_back((camera.to_owned(), message));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Door> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clip to cut once its time has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clip {
    /// Its first instant.
    pub start: Timestamp,
    /// Its last instant.
    pub end: Timestamp,
}

/// Where one camera's events go. Clones share it.
#[derive(Clone)]
pub struct Outlet {
    broker: Option<Broker>,
    publishers: Vec<Publisher>,
    clips: mpsc::Sender<Clip>,
    dataset: Option<Dataset>,
    tags: EventTags,
}

impl Outlet {
    /// `clips` takes what is to be cut, `tags` what fragments are tagged with.
    pub fn new(
        broker: Option<Broker>,
        publishers: Vec<Publisher>,
        clips: mpsc::Sender<Clip>,
        dataset: Option<Dataset>,
        tags: EventTags,
    ) -> Self {
        Self { broker, publishers, clips, dataset, tags }
    }

    /// Whether somebody takes pictures of events.
    pub fn wants_pictures(&self) -> bool {
        self.publishers.iter().any(Publisher::takes_pictures)
    }

    /// Sends an event on its way.
    pub fn tell(&self, about: &About<'_>, told: &Told, message: Value, pictures: Vec<Bytes>) {
        self.tags.tell(told);
        let importance = match told.change {
            Change::Start | Change::End => Importance::High,
            Change::Update => Importance::Normal,
        };
        let envelope = Envelope { json: message.to_string().into(), pictures };
        for publisher in &self.publishers {
            publisher.push(&envelope, importance);
        }
        if let Some(broker) = &self.broker {
            broker.push(about.camera, envelope.json.clone());
        }
        let settings = &about.detector.events;
        if told.change == Change::End && settings.clip {
            let start = told.event.started - Ticks::from_duration(settings.pre_roll);
            let end = told.event.last_seen + Ticks::from_duration(settings.post_roll);
            if self.clips.try_send(Clip { start, end }).is_err() {
                let camera_name = about.camera;
                tracing::warn!(camera_name, %start, %end, "too many clips wait to be cut: this one is not");
            }
        }
    }

    /// Keeps a picture to train with, if it is one of those that are wanted.
    pub fn keep(
        &self,
        detector: &Detector,
        (at, number): (Timestamp, u64),
        sights: &[Sight],
        picture: impl FnOnce() -> Option<Bytes>,
    ) {
        if let Some(dataset) = &self.dataset {
            dataset.offer(detector, (at, number), sights, picture);
        }
    }
}

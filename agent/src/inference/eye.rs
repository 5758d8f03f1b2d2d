//! One detector at one camera: what is worth a look, what is seen, and what comes of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edgecam_media::Timestamp;
use edgecam_vision::gate::{Gate, GateSettings};
use edgecam_vision::tracker::{Track, Tracker, TrackerSettings};
use edgecam_vision::zone::Zones;
use edgecam_vision::{Detection, Model, Output, Planes, Region, Runner, Task};

use super::models::Models;
use super::plates::{self, Votes};
use super::registry::{self, Detect, Found};
use crate::config::detectors::{Detector, Events, Kind, Reader};
use crate::event::story::{self, Look, Sight, Story};

/// A box this much less sure than the threshold still goes on with a track.
const FOLLOW: f32 = 0.5;
/// Where nothing moves it is looked again this often: what stands still may not have been recognised.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// A thing is not gone before so many looks have missed it.
const LOOKS_MISSED: f64 = 2.5;
/// Around a plate, of its size.
const MARGIN: f32 = 0.05;

/// What a look brought.
pub(super) struct Seen {
    pub(super) sights: Vec<Sight>,
    pub(super) look: Look,
    /// How long the model ran.
    pub(super) took: Duration,
}

/// What finds things.
enum Mind {
    Model(Box<ModelMind>),
    Own(Box<dyn Detect>),
}

struct ModelMind {
    runner: Runner,
    /// Names of classes, and whether they count.
    classes: Vec<(Arc<str>, bool)>,
    model: Arc<Model>,
}

/// Reads plates.
struct Reading {
    runner: Runner,
    reader: Reader,
    votes: Votes,
}

/// One detector at work.
pub(super) struct Eye {
    pub(super) detector: Arc<Detector>,
    mind: Mind,
    reading: Option<Reading>,
    zones: Option<((u32, u32), Zones)>,
    gate: Gate,
    tracker: Tracker,
    names: Vec<Arc<str>>,
    story: Story,
    looked: Option<Duration>,
    /// Something has moved lately.
    is_open: bool,
}

impl Eye {
    /// Loads what the detector needs. Blocks.
    pub(super) fn open(detector: Arc<Detector>, models: &Models, new_id: fn() -> Arc<str>) -> Result<Self, String> {
        let mind = match &detector.kind {
            Kind::Own(name) => Mind::Own(registry::make(name, &detector)?),
            _ => Mind::Model(Box::new(ModelMind::open(&detector, models)?)),
        };
        let reading = detector.recogniser.clone().map(|reader| Reading::open(reader, models)).transpose()?;
        let between = Duration::from_secs_f64(1.0 / detector.fps_limit);
        // Who looks seldom must not take a thing for gone between two looks.
        let end_after = detector.events.end_after.max(between.mul_f64(LOOKS_MISSED));
        let tracking = TrackerSettings {
            begin: detector.threshold,
            follow: detector.threshold * FOLLOW,
            confirm_after: 1,
            lost_after: end_after,
            ..TrackerSettings::default()
        };
        // Slow looks see less of a change at a time, and must not miss the rest of it.
        let gate = GateSettings { hold: (between * 2).max(Duration::from_secs(1)), ..GateSettings::default() };
        Ok(Self {
            gate: Gate::new(gate),
            tracker: Tracker::new(tracking),
            story: Story::new(Events { end_after, ..detector.events.clone() }, new_id),
            names: Vec::new(),
            zones: None,
            looked: None,
            is_open: true,
            detector,
            mind,
            reading,
        })
    }

    /// Looks at a picture that was taken at `at`; `now` is a clock that never goes back. `None`: nothing has changed.
    pub(super) fn look(&mut self, planes: &Planes<'_>, at: Timestamp, now: Duration) -> Result<Option<Seen>, String> {
        let size = (planes.width(), planes.height());
        if self.zones.as_ref().is_none_or(|(of, _)| *of != size) {
            let zones = Zones::new(&self.detector.zones, size.0, size.1).map_err(|error| error.to_string())?;
            self.zones = Some((size, zones));
        }
        let Some((_, zones)) = &self.zones else { return Ok(None) };
        let activity = self.gate.update(planes, zones, now);
        self.is_open = activity.is_open;
        let is_overdue = self.looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK_AGAIN);
        if !activity.is_open && !is_overdue {
            self.story.still(at);
            return Ok(None);
        }
        self.looked = Some(now);
        let before = super::pool::thread_time();
        let found = self.mind.find(planes, &self.detector)?;
        let took = super::pool::thread_time().saturating_sub(before);
        let mut sights = self.follow(found, size, now);
        self.read(planes, &mut sights)?;
        let ignored = self.story.ignored();
        let look = self.story.look(at, &sights);
        if ignored == 0 && self.story.ignored() > 0 {
            let detector = &self.detector.name;
            tracing::warn!(detector, most = story::MOST, "too many kinds of things at once: the rest become no events");
        }
        Ok(Some(Seen { sights, look, took }))
    }

    /// Whether something has moved lately, by the last picture it was given.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Nobody looks any more.
    pub(super) fn close(&mut self) -> Look {
        Look { told: self.story.end(), ..Look::default() }
    }

    /// Gives things the identities they had on the pictures before, and zones.
    fn follow(&mut self, found: Vec<Found>, size: (u32, u32), now: Duration) -> Vec<Sight> {
        let Some((_, zones)) = &self.zones else { return Vec::new() };
        let (width, height) = size;
        let mut sights = Vec::new();
        let mut boxes = Vec::new();
        for found in found {
            let Some(bbox) = found.bbox else {
                // What the whole picture is of is one thing of its class.
                sights.push(Sight {
                    track: u64::from(found.class) + 1,
                    class: found.class,
                    class_name: found.class_name,
                    looks_like: None,
                    confidence: found.confidence,
                    bbox: None,
                    text: found.text,
                    zones: Vec::new(),
                    is_sure: true,
                });
                continue;
            };
            if zones.count(&bbox, width, height) {
                let class = self.names.iter().position(|name| *name == found.class_name).unwrap_or_else(|| {
                    self.names.push(found.class_name.clone());
                    self.names.len() - 1
                });
                boxes.push((Detection { class: class as u32, confidence: found.confidence, bbox }, found));
            }
        }
        let detections: Vec<Detection> = boxes.iter().map(|(detection, _)| *detection).collect();
        let is_seen = |track: &&Track| track.is_seen;
        for track in self.tracker.update(&detections, now).iter().filter(is_seen) {
            // One place may look like two things.
            let is_it =
                |detection: &Detection| (detection.bbox, detection.confidence) == (track.bbox, track.confidence);
            let Some((_, found)) = boxes.iter().find(|(detection, _)| is_it(detection)) else { continue };
            let class_name = self.names.get(track.class as usize).unwrap_or(&found.class_name).clone();
            let of_class = boxes.iter().find(|(_, found)| found.class_name == class_name);
            let zones = zones.of(&track.bbox, width, height).map(|zone| Arc::from(zone.name())).collect();
            sights.push(Sight {
                track: track.id,
                class: of_class.map_or(found.class, |(_, found)| found.class),
                looks_like: (class_name != found.class_name).then(|| (found.class, found.class_name.clone())),
                class_name,
                confidence: track.confidence,
                bbox: Some(track.bbox),
                text: found.text.clone(),
                zones,
                is_sure: track.confidence >= self.detector.threshold,
            });
        }
        sights
    }

    /// Reads what is on plates.
    fn read(&mut self, planes: &Planes<'_>, sights: &mut [Sight]) -> Result<(), String> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        reading.votes.next();
        for sight in sights {
            let Some(bbox) = sight.bbox else { continue };
            let Some(region) = Region::around(&bbox, MARGIN, planes.width(), planes.height()) else { continue };
            sight.text = reading.read(planes, region, sight.track)?;
        }
        Ok(())
    }
}

impl ModelMind {
    fn open(detector: &Detector, models: &Models) -> Result<Self, String> {
        let model = models.get(&detector.model, &detector.description, detector.kind.task())?;
        let labels: Vec<Arc<str>> = model.labels().iter().map(|label| Arc::from(label.as_str())).collect();
        let wanted: BTreeSet<String> = detector.classes.iter().map(|class| class.to_lowercase()).collect();
        let is_known = |class: &&String| labels.iter().any(|label| label.to_lowercase() == **class);
        if let Some(unknown) = wanted.iter().find(|class| !is_known(class)).filter(|_| !labels.is_empty()) {
            let some: Vec<&str> = labels.iter().take(20).map(|label| &**label).collect();
            let more = if labels.len() > some.len() { ", …" } else { "" };
            let known = some.join(", ");
            return Err(format!("the model {} knows no class `{unknown}`, but {known}{more}", detector.model));
        }
        let counts = |label: &Arc<str>| wanted.is_empty() || wanted.contains(&label.to_lowercase());
        let classes = labels.iter().map(|label| (label.clone(), counts(label))).collect();
        let runner = model.runner().map_err(|error| error.to_string())?;
        Ok(Self { runner, classes, model })
    }

    fn class(&self, class: u32) -> (Arc<str>, bool) {
        match self.classes.get(class as usize) {
            Some(known) => known.clone(),
            None => (Arc::from(&*self.model.label(class)), true),
        }
    }
}

impl Mind {
    fn find(&mut self, planes: &Planes<'_>, detector: &Detector) -> Result<Vec<Found>, String> {
        let mind = match self {
            Self::Model(mind) => mind,
            Self::Own(own) => return own.detect(planes, detector.threshold),
        };
        let threshold = match mind.model.task() {
            Task::Detect => detector.threshold * FOLLOW,
            _ => detector.threshold,
        };
        let output = mind.runner.run(planes, None, threshold).map_err(|error| error.to_string())?;
        let found = |class: u32, confidence: f32, bbox| {
            let (class_name, counts) = mind.class(class);
            counts.then_some(Found { class, class_name, confidence, bbox, text: None })
        };
        Ok(match output {
            Output::Detections(all) => {
                all.into_iter().filter_map(|one| found(one.class, one.confidence, Some(one.bbox))).collect()
            }
            Output::Classes(all) => all.into_iter().filter_map(|one| found(one.class, one.confidence, None)).collect(),
            Output::Text(text) => {
                let mut found = Vec::new();
                if text.confidence >= threshold && !text.text.is_empty() {
                    let (class, class_name, text_of) = (0, Arc::from("text"), Arc::from(text.text.as_str()));
                    found.push(Found {
                        class,
                        class_name,
                        confidence: text.confidence,
                        bbox: None,
                        text: Some(text_of),
                    });
                }
                found
            }
        })
    }
}

impl Reading {
    fn open(reader: Reader, models: &Models) -> Result<Self, String> {
        let model = models.get(&reader.model, &reader.description, Some(Task::Text))?;
        let runner = model.runner().map_err(|error| error.to_string())?;
        Ok(Self { runner, reader, votes: Votes::default() })
    }

    /// What a plate says by this and all earlier readings.
    fn read(&mut self, planes: &Planes<'_>, region: Region, track: u64) -> Result<Option<Arc<str>>, String> {
        let output = self.runner.run(planes, Some(region), 0.0).map_err(|error| error.to_string())?;
        let Output::Text(text) = output else { return Ok(None) };
        let plate = plates::normal(&text.text);
        let patterns = &self.reader.patterns;
        if !patterns.is_empty() && !patterns.iter().any(|pattern| plates::fits(&plate, pattern)) {
            return Ok(self.votes.says(track));
        }
        Ok(self.votes.read(track, &plate, text.confidence))
    }
}

//! Decodes a camera's pictures, shows each to the detectors whose turn it is, and hands on what comes of it.
//!
//! One decode is shared by all detectors. It runs on a thread of the pool, which has it for one turn at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgecam_media::Timestamp;
use edgecam_vision::{Planes, Rect, Region};
use openh264::formats::YUVSource;
use serde_json::{Value, json};

use super::eye::{Eye, Seen};
use super::hold::Moving;
use super::pool::{Picture, thread_time};
use super::status::StatusCell;
use crate::config::detectors::{Detector, Kind};
use crate::decode::{Decoder, jpeg};
use crate::event::message::{self, About};
use crate::event::outlet::Outlet;
use crate::event::story::{Change, Look, Sight};

/// A picture with an event has its full width, up to this.
const PICTURE_WIDTH: u32 = 1920;
/// What people watch is smaller.
const WATCHED_WIDTH: u32 = 960;
/// Crops of one event at most, and what of its surroundings a crop shows.
const MOST_CROPS: usize = 8;
const CROP_MARGIN: f32 = 0.1;
/// Best pictures that are kept for events that go on.
const MOST_BEST: usize = 8;

/// Detectors that have been made ready, on their way to the thread.
pub(super) type Arrivals = Arc<Mutex<Vec<(usize, Eye)>>>;

/// Looks at the pictures of one camera.
pub(super) struct Looker {
    camera: String,
    decoder: Option<Decoder>,
    /// In the order of the config; those that could not be made ready are missing.
    eyes: Vec<Option<Eye>>,
    /// The detector that is looking.
    at_work: Option<usize>,
    arrivals: Arrivals,
    moving: Moving,
    outlet: Outlet,
    status: StatusCell,
    began: Instant,
    last: Option<Last>,
    /// The best picture so far of events that go on.
    best: BTreeMap<Arc<str>, Vec<Bytes>>,
}

/// The last picture that was looked at.
#[derive(Clone, Copy)]
struct Last {
    number: u64,
    at: Timestamp,
    size: (u32, u32),
}

impl Looker {
    pub(super) fn new(
        camera: &str,
        detectors: usize,
        arrivals: Arrivals,
        moving: Moving,
        outlet: Outlet,
        status: StatusCell,
    ) -> Self {
        Self {
            camera: camera.to_owned(),
            decoder: None,
            eyes: (0..detectors).map(|_| None).collect(),
            at_work: None,
            arrivals,
            moving,
            outlet,
            status,
            began: Instant::now(),
            last: None,
            best: BTreeMap::new(),
        }
    }

    /// Decodes `pictures`, which follow each other, and looks at the newest of those that are to be looked at.
    pub(super) fn work(&mut self, pictures: Vec<Picture>) {
        let before = thread_time();
        for (index, eye) in self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.eyes[index] = Some(eye);
            self.moving.set(index, true);
        }
        let newest = pictures.iter().rposition(|picture| picture.look != 0);
        // Whose turn it was on an earlier one looks at the newest.
        let look = pictures.iter().fold(0, |look, picture| look | picture.look);
        let passed_over = pictures.iter().filter(|picture| picture.look != 0).count().saturating_sub(1) as u64;
        let (mut decoded, mut error) = (0, None);
        let mut decoder = self.decoder.take();
        for (index, picture) in pictures.iter().enumerate() {
            let known = match decoder.take() {
                Some(known) => Ok(known),
                None => Decoder::at_once(),
            };
            let shown = known.and_then(|known| decoder.insert(known).decode(&picture.unit, &picture.sets));
            match shown {
                Ok(Some(shown)) => {
                    decoded += 1;
                    if Some(index) == newest {
                        self.look(&shown, picture, look);
                    }
                }
                Ok(None) => {}
                Err(what) => {
                    error = Some(what.to_string());
                    // What it knew may be what is wrong.
                    decoder = None;
                    break;
                }
            }
        }
        self.decoder = decoder;
        let undecodable = u64::from(error.is_some());
        let spent = thread_time().saturating_sub(before);
        self.status.change(|status| {
            status.decoded += decoded;
            status.undecodable += undecodable;
            status.skipped += passed_over;
            status.cpu += spent;
            status.error = error;
        });
    }

    /// A turn has ended in a panic: the detector that was at work is made anew, and decoding begins with an IDR.
    pub(super) fn recover(&mut self, panic: &str) {
        self.decoder = None;
        let index = self.at_work.take();
        tracing::error!(camera_name = self.camera, panic, "looking at a picture has panicked; it goes on");
        self.status.change(|status| {
            let error = format!("looking at a picture has panicked: {panic}");
            match index.and_then(|index| status.detectors.get_mut(index)) {
                Some(detector) => {
                    detector.failed += 1;
                    detector.is_ready = false;
                    detector.error = Some(error);
                }
                None => status.error = Some(error),
            }
        });
    }

    /// Nobody looks any more: events end.
    pub(super) fn leave(&mut self) {
        let mut eyes = std::mem::take(&mut self.eyes);
        for eye in eyes.iter_mut().flatten() {
            let look = eye.close();
            if let Some(last) = self.last {
                self.tell(&eye.detector, last, &look, &[], None);
            }
        }
    }

    fn look(&mut self, picture: &impl YUVSource, of: &Picture, look: u32) {
        let (width, height) = picture.dimensions();
        let last = Last { number: of.number, at: of.unit.pts, size: (width as u32, height as u32) };
        self.last = Some(last);
        let signal = of.sets.facts().signal;
        let planes = Planes::new([picture.y(), picture.u(), picture.v()], picture.strides(), last.size.0, last.size.1);
        let planes = match planes {
            Ok(planes) => planes.full_range(signal.full_range).bt709(signal.bt709),
            Err(error) => return self.status.change(|status| status.error = Some(error.to_string())),
        };
        let now = self.began.elapsed();
        let mut all: Vec<Sight> = Vec::new();
        let (mut has_looked, mut has_person) = (false, None);
        for index in (0..self.eyes.len()).filter(|index| look & 1 << index != 0) {
            // One that panics does not come back: it is made anew.
            let Some(mut eye) = self.eyes[index].take() else {
                self.moving.set(index, false);
                continue;
            };
            self.at_work = Some(index);
            let seen = eye.look(&planes, last.at, now);
            self.moving.set(index, eye.is_open());
            self.count(index, &seen);
            let Ok(Some(seen)) = seen else {
                self.eyes[index] = Some(eye);
                continue;
            };
            has_looked = true;
            if eye.detector.kind == Kind::Person {
                has_person = Some(has_person == Some(true) || seen.sights.iter().any(|sight| sight.is_sure));
            }
            self.tell(&eye.detector, last, &seen.look, &seen.sights, Some(picture));
            self.outlet.keep(&eye.detector, (last.at, last.number), &seen.sights, || full(picture));
            all.extend(seen.sights.into_iter().filter(|sight| sight.is_sure));
            self.eyes[index] = Some(eye);
        }
        self.at_work = None;
        let lag = of.arrived.elapsed();
        self.status.change(|status| status.lag = Some(lag));
        if has_looked {
            let all: Vec<Sight> = all.iter().map(Sight::alone).collect();
            self.show(picture, last, &all, has_person, lag);
        }
    }

    fn count(&self, index: usize, seen: &Result<Option<Seen>, String>) {
        self.status.change(|status| {
            let Some(detector) = status.detectors.get_mut(index) else { return };
            match seen {
                Ok(None) => detector.still += 1,
                Ok(Some(seen)) => {
                    detector.looked += 1;
                    detector.error = None;
                    detector.took(seen.took);
                    for sight in seen.sights.iter().filter(|sight| sight.is_sure) {
                        *detector.detections.entry(sight.class_name.clone()).or_default() += 1;
                    }
                    let begun = seen.look.told.iter().filter(|told| told.change == Change::Start).count();
                    detector.events += begun as u64;
                }
                Err(error) => {
                    detector.failed += 1;
                    detector.error = Some(error.clone());
                }
            }
        });
    }

    /// Hands on what is to be told, with pictures for those who take some.
    fn tell(&mut self, detector: &Detector, last: Last, look: &Look, sights: &[Sight], picture: Option<&dyn ShownAs>) {
        let wants = self.outlet.wants_pictures();
        let mut made: Option<Vec<Bytes>> = None;
        let mut pictures = |picture: Option<&dyn ShownAs>| {
            made.get_or_insert_with(|| picture.map(|picture| picture.pictures(sights)).unwrap_or_default()).clone()
        };
        for id in look.best_of.iter().filter(|_| wants) {
            if self.best.len() < MOST_BEST || self.best.contains_key(id) {
                self.best.insert(id.clone(), pictures(picture));
            }
        }
        let about = About { camera: &self.camera, detector, frame_number: last.number, at: last.at, size: last.size };
        for told in &look.told {
            let with = match told.change {
                _ if !wants => Vec::new(),
                Change::Start => pictures(picture),
                Change::Update => Vec::new(),
                Change::End => self.best.remove(&told.event.id).unwrap_or_default(),
            };
            self.outlet.tell(&about, told, message::event(&about, told, sights), with);
        }
    }

    /// For those who watch.
    fn show(&self, picture: &impl YUVSource, last: Last, sights: &[Sight], has_person: Option<bool>, lag: Duration) {
        let label = |sight: &Sight| json!({ "label": &*sight.class_name, "score": sight.confidence });
        let predictions: Vec<Value> = sights.iter().map(label).collect();
        let mut look = json!({
            "camera_id": self.camera,
            "timestamp": message::epoch(last.at),
            "frame_number": last.number,
            "width": last.size.0,
            "height": last.size.1,
            "lag_ms": lag.as_millis() as u64,
            "predictions": predictions,
            "detections": message::detections(sights),
        });
        if let Some(has_person) = has_person {
            look["has_person"] = json!(has_person);
        }
        if self.status.is_watched()
            && let Ok(jpeg) = jpeg::encode(picture, WATCHED_WIDTH)
        {
            self.status.show(last.at, jpeg.bytes.into());
        }
        self.status.change(|status| status.last = Some((last.at, look.clone())));
        self.status.tell(look);
    }
}

/// A decoded picture that JPEGs can be made of.
trait ShownAs {
    /// The picture, then crops of what is seen.
    fn pictures(&self, sights: &[Sight]) -> Vec<Bytes>;
}

impl<P: YUVSource> ShownAs for P {
    fn pictures(&self, sights: &[Sight]) -> Vec<Bytes> {
        let Some(whole) = full(self) else { return Vec::new() };
        let (width, height) = self.dimensions();
        let crop = |bbox: Rect| {
            let region = Region::around(&bbox, CROP_MARGIN, width as u32, height as u32)?;
            let cut = Cut { picture: self, x: region.x as usize & !1, y: region.y as usize & !1, region };
            jpeg::encode(&cut, PICTURE_WIDTH).ok().map(|jpeg| Bytes::from(jpeg.bytes))
        };
        let crops = sights
            .iter()
            .filter(|sight| sight.is_sure)
            .filter_map(|sight| sight.bbox)
            .take(MOST_CROPS)
            .filter_map(crop);
        [whole].into_iter().chain(crops).collect()
    }
}

fn full(picture: &impl YUVSource) -> Option<Bytes> {
    jpeg::encode(picture, PICTURE_WIDTH).ok().map(|jpeg| jpeg.bytes.into())
}

/// A part of a picture, from an even place on: chroma has half the samples.
struct Cut<'a, P> {
    picture: &'a P,
    x: usize,
    y: usize,
    region: Region,
}

impl<P: YUVSource> YUVSource for Cut<'_, P> {
    fn dimensions(&self) -> (usize, usize) {
        (self.region.width as usize, self.region.height as usize)
    }

    fn strides(&self) -> (usize, usize, usize) {
        self.picture.strides()
    }

    fn y(&self) -> &[u8] {
        &self.picture.y()[self.y * self.picture.strides().0 + self.x..]
    }

    fn u(&self) -> &[u8] {
        &self.picture.u()[self.y / 2 * self.picture.strides().1 + self.x / 2..]
    }

    fn v(&self) -> &[u8] {
        &self.picture.v()[self.y / 2 * self.picture.strides().2 + self.x / 2..]
    }
}

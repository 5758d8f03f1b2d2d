//! Events as messages: JSON with the field names of kvs-infer, and what goes with it.
//!
//! An envelope is what waits in an outbox: the JSON, and pictures for those who take them.

use bytes::{BufMut, Bytes, BytesMut};
use edgecam_media::{Ticks, Timestamp};
use serde_json::{Value, json};

use super::story::{Change, Sight, Told};
use crate::config::detectors::{Detector, Kind};

/// What a picture is, for messages about it.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The camera.
    pub camera: &'a str,
    /// What looked at it.
    pub detector: &'a Detector,
    /// Its number since the camera started.
    pub frame_number: u64,
    /// When it was taken.
    pub at: Timestamp,
    /// Pixels.
    pub size: (u32, u32),
}

/// Seconds since 1970, as kvs-infer has them.
pub fn epoch(at: Timestamp) -> f64 {
    at.unix_millis() as f64 / 1000.0
}

/// The things on a picture.
pub fn detections(sights: &[Sight]) -> Value {
    let detection = |sight: &Sight| {
        let rounded = |value: f32| f64::from((value * 10.0).round()) / 10.0;
        let mut value = json!({
            "class": sight.class,
            "class_name": &*sight.class_name,
            "confidence": f64::from((sight.confidence * 10_000.0).round()) / 10_000.0,
            "roi_name": sight.zones.first().map(|zone| &**zone),
            "track_id": sight.track,
        });
        if let Some(bbox) = sight.bbox {
            value["bbox"] = json!([rounded(bbox.x1), rounded(bbox.y1), rounded(bbox.x2), rounded(bbox.y2)]);
        }
        if sight.zones.len() > 1 {
            value["roi_names"] = sight.zones.iter().map(|zone| &**zone).collect();
        }
        if let Some(text) = &sight.text {
            value["text"] = json!(&**text);
        }
        value
    };
    sights.iter().filter(|sight| sight.is_sure).map(detection).collect()
}

/// An event on its way. `id` is its own and each message's: what arrives twice has the same.
pub fn event(about: &About<'_>, told: &Told, sights: &[Sight]) -> Value {
    let Told { change, event, entered, left } = told;
    let settings = &about.detector.events;
    let of_event = |sight: &&Sight| {
        let is_there = match &event.kind.zone {
            Some(zone) => sight.zones.contains(zone),
            None => sight.zones.is_empty(),
        };
        is_there && sight.is_sure && sight.class_name == event.kind.class_name && sight.text == event.kind.text
    };
    let here: Vec<Sight> = sights.iter().filter(of_event).cloned().collect();
    let clip_from = event.started - Ticks::from_duration(settings.pre_roll);
    let clip_to = event.last_seen + Ticks::from_duration(settings.post_roll);
    let mut value = json!({
        "id": format!("{}-{}", event.id, event.revision),
        "event_id": &*event.id,
        "event": change.name(),
        "revision": event.revision,
        "camera_id": about.camera,
        "timestamp": epoch(about.at),
        "frame_number": about.frame_number,
        "width": about.size.0,
        "height": about.size.1,
        "detector": about.detector.name,
        "detector_type": about.detector.kind.name(),
        "class_name": &*event.kind.class_name,
        "class": event.class,
        "confidence": f64::from((event.best.0 * 10_000.0).round()) / 10_000.0,
        "best_timestamp": epoch(event.best.1),
        "roi_name": event.kind.zone.as_deref(),
        "started": epoch(event.started),
        "last_seen": epoch(event.last_seen),
        "ended": (*change == Change::End).then(|| epoch(event.last_seen)),
        "count": here.len(),
        "max_count": event.most,
        "total": event.tracks,
        "entered": entered,
        "left": left,
        "clip": { "start": epoch(clip_from), "end": epoch(clip_to) },
        "detections": detections(&here),
    });
    if about.detector.kind == Kind::Person {
        value["has_person"] = json!(*change != Change::End);
    }
    if let Some(text) = &event.kind.text {
        value["text"] = json!(&**text);
    }
    value
}

/// A message and its pictures, as they wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The message.
    pub json: Bytes,
    /// JPEGs: the picture first, then crops of it.
    pub pictures: Vec<Bytes>,
}

impl Envelope {
    /// A message without pictures.
    pub fn of(value: &Value) -> Self {
        Self { json: value.to_string().into(), pictures: Vec::new() }
    }

    /// For an outbox: each part with its length before it.
    pub fn to_bytes(&self, with_pictures: bool) -> Bytes {
        let pictures = if with_pictures { &self.pictures[..] } else { &[] };
        let size = pictures.iter().map(|part| part.len() + 4).sum::<usize>() + self.json.len() + 4;
        let mut out = BytesMut::with_capacity(size);
        for part in [&self.json].into_iter().chain(pictures) {
            out.put_u32(part.len() as u32);
            out.extend_from_slice(part);
        }
        out.freeze()
    }

    /// From an outbox; `None` if it is damaged.
    pub fn from_bytes(mut bytes: Bytes) -> Option<Self> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let length = u32::from_be_bytes(take(&mut bytes, 4)?.as_ref().try_into().ok()?);
            parts.push(take(&mut bytes, length as usize)?);
        }
        let json = (!parts.is_empty()).then(|| parts.remove(0))?;
        Some(Self { json, pictures: parts })
    }
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_come_back_as_they_were() {
        let full = Envelope { json: "{}".into(), pictures: vec![Bytes::from_static(&[1, 2]), Bytes::new()] };
        assert_eq!(Envelope::from_bytes(full.to_bytes(true)), Some(full.clone()));
        let bare = Envelope::from_bytes(full.to_bytes(false)).expect("whole");
        assert_eq!((bare.json, bare.pictures.len()), (full.json.clone(), 0));
        for cut in 0..full.to_bytes(true).len() {
            let cut = Envelope::from_bytes(full.to_bytes(true).slice(..cut));
            assert!(cut.is_none_or(|envelope| envelope.pictures.len() < 2));
        }
    }
}

//! Follows what was seen from picture to picture: ByteTrack (Zhang et al., 2022) on a Kalman filter of constant velocity.
//!
//! Two steps for each picture: sure detections are matched with where tracks should be, then the unsure ones with the
//! tracks that are left. An unsure box of a thing that is followed already (half hidden, blurred) keeps its track; alone
//! it begins none. Time is an argument, and pictures need not come at one rate.
//!
//! Deliberately absent: appearance. Things that cross while hidden may change their ids.

mod assign;
mod kalman;

use std::time::Duration;

use self::kalman::Kalman;
use crate::{Detection, Rect};

/// How tracks begin, match and end.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TrackerSettings {
    /// A detection as sure as this begins a track, 0 to 1.
    pub begin: f32,
    /// A detection less sure than `begin`, and as sure as this, goes on with a track.
    pub follow: f32,
    /// Pictures in a row in which a thing must be seen before its track is said.
    pub confirm_after: u32,
    /// A track that is not seen for so long is over.
    pub lost_after: Duration,
    /// What a detection and a track must share at least (intersection over union) to be one.
    pub least_iou: f32,
}

impl Default for TrackerSettings {
    fn default() -> Self {
        Self { begin: 0.5, follow: 0.1, confirm_after: 2, lost_after: Duration::from_secs(2), least_iou: 0.2 }
    }
}

/// One thing, followed.
#[derive(Clone, PartialEq, Debug)]
pub struct Track {
    /// Never used twice by one tracker; from 1.
    pub id: u64,
    /// Of the surest detections so far.
    pub class: u32,
    /// Of the newest detection.
    pub confidence: f32,
    /// Where it is, in pixels: as detected if it is seen, else where it should be.
    pub bbox: Rect,
    /// When it was first seen, on the clock of [`Tracker::update`].
    pub since: Duration,
    /// When it was last seen.
    pub seen_at: Duration,
    /// Pictures it was seen in.
    pub hits: u32,
    /// It is in the newest picture.
    pub is_seen: bool,
    /// It was seen in enough pictures in a row to be believed.
    pub is_confirmed: bool,
    kalman: Kalman,
    /// Sums of confidence by class.
    votes: Vec<(u32, f32)>,
}

impl Track {
    fn begin(id: u64, detection: &Detection, now: Duration, settings: &TrackerSettings) -> Self {
        Self {
            id,
            class: detection.class,
            confidence: detection.confidence,
            bbox: detection.bbox,
            since: now,
            seen_at: now,
            hits: 1,
            is_seen: true,
            is_confirmed: settings.confirm_after <= 1,
            kalman: Kalman::new(&detection.bbox),
            votes: vec![(detection.class, detection.confidence)],
        }
    }

    fn see(&mut self, detection: &Detection, now: Duration, settings: &TrackerSettings) {
        self.kalman.update(&detection.bbox);
        self.bbox = detection.bbox;
        self.confidence = detection.confidence;
        self.seen_at = now;
        self.is_seen = true;
        self.hits = self.hits.saturating_add(1);
        self.is_confirmed |= self.hits >= settings.confirm_after;
        match self.votes.iter_mut().find(|(class, _)| *class == detection.class) {
            Some((_, sum)) => *sum += detection.confidence,
            None => self.votes.push((detection.class, detection.confidence)),
        }
        let most = self.votes.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        self.class = most.map_or(self.class, |(class, _)| *class);
    }
}

/// Follows the things of one camera and one detector.
#[derive(Debug)]
pub struct Tracker {
    settings: TrackerSettings,
    tracks: Vec<Track>,
    next_id: u64,
    now: Option<Duration>,
}

impl Tracker {
    /// Nothing is followed yet.
    pub fn new(settings: TrackerSettings) -> Self {
        Self { settings, tracks: Vec::new(), next_id: 1, now: None }
    }

    /// Takes what was seen in a picture of the time `now` (any clock that does not go back) and gives all tracks, those
    /// that are not confirmed or not seen in this picture too. A track that is over is in the answer no more.
    pub fn update(&mut self, detections: &[Detection], now: Duration) -> &[Track] {
        let settings = self.settings;
        let now = self.now.map_or(now, |before| before.max(now));
        let passed = now - self.now.unwrap_or(now);
        self.now = Some(now);
        for track in &mut self.tracks {
            track.bbox = track.kalman.predict(passed.as_secs_f32());
            track.is_seen = false;
        }
        let is_sure = |detection: &&Detection| detection.confidence >= settings.begin;
        let sure: Vec<&Detection> = detections.iter().filter(is_sure).collect();
        let unsure: Vec<&Detection> = detections
            .iter()
            .filter(|detection| !is_sure(detection) && detection.confidence >= settings.follow)
            .collect();
        let all: Vec<usize> = (0..self.tracks.len()).collect();
        let left = self.associate(&all, &sure, now);
        let still: Vec<usize> = all.into_iter().filter(|index| !self.tracks[*index].is_seen).collect();
        self.associate(&still, &unsure, now);
        for detection in left {
            self.tracks.push(Track::begin(self.next_id, detection, now, &settings));
            self.next_id += 1;
        }
        // One that was never confirmed is noise when it is missed once.
        self.tracks.retain(|track| {
            track.is_seen || track.is_confirmed && now.saturating_sub(track.seen_at) < settings.lost_after
        });
        &self.tracks
    }

    /// All tracks, as [`Tracker::update`] gave them.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Matches, and gives the detections that are left.
    fn associate<'a>(&mut self, tracks: &[usize], detections: &[&'a Detection], now: Duration) -> Vec<&'a Detection> {
        let likeness = |row: usize, column: usize| {
            let (track, detection) = (&self.tracks[tracks[row]], detections[column]);
            let iou = track.bbox.iou(&detection.bbox);
            // Another class is less likely, not impossible: detectors take a van for a bus.
            let iou = if track.votes.iter().any(|(class, _)| *class == detection.class) { iou } else { iou * 0.5 };
            (iou >= self.settings.least_iou).then_some(iou)
        };
        let pairs = assign::best(tracks.len(), detections.len(), likeness);
        let mut is_left = vec![true; detections.len()];
        for (row, column) in pairs {
            self.tracks[tracks[row]].see(detections[column], now, &self.settings);
            is_left[column] = false;
        }
        detections.iter().zip(is_left).filter(|(_, is_left)| *is_left).map(|(detection, _)| *detection).collect()
    }
}

#[cfg(test)]
mod tests;

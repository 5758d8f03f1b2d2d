//! The agent of the simulation: the product's own parts, wired as topology.rs does, with time as an argument.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgecam::footage::archive::retention::{Retention, StrategyOnFull};
use edgecam::footage::archive::{self, Index, Rotation};
use edgecam::footage::bookmark::Bookmark;
use edgecam::footage::recorder::Recorder;
use edgecam::footage::{Cursor, Footage, Next, RecorderSettings, Storage};
use edgecam_kvs::{Delivery, Settings};
use edgecam_media::clock::{Arrival, Timeline};
use edgecam_media::ring::{Bounds, Position};
use edgecam_media::{AccessUnit, ParameterSets, Ticks, Timestamp, TrackId};

pub(crate) const AT_RISK: Duration = Duration::from_secs(2);
pub(crate) const RING_MOST: usize = 6_000;

/// One run of the agent, from start to crash or stop.
pub(crate) struct Agent {
    pub(crate) footage: Footage,
    pub(crate) recorder: Recorder,
    pub(crate) cursor: Cursor,
    pub(crate) delivery: Delivery,
    bookmark: Bookmark,
    timeline: Timeline,
    sets: Arc<ParameterSets>,
}

pub(crate) fn bookmark_path(directory: &Path) -> PathBuf {
    directory.join("upload.cursor")
}

impl Agent {
    /// Starts as the product does: mend the archive, read the cursor, go on.
    pub(crate) fn start(directory: &Path, seed: u64, sets: Arc<ParameterSets>, now: Instant) -> Self {
        let opened = archive::open(directory).expect("the archive opens");
        let (mut bookmark, kept) = Bookmark::open(&bookmark_path(directory)).expect("the cursor opens");
        let sent = kept.first().copied();
        let next_gop = sent.map_or(opened.next_gop, |sent: Position| opened.next_gop.max(sent.gop + 1));
        let bounds = Bounds { keep: 1_500, most: RING_MOST };
        let footage = Footage::new(bounds, next_gop, AT_RISK, Storage::Archive(opened.index.clone()), None);
        let settings = RecorderSettings {
            camera: "sim".to_owned(),
            directory: directory.to_owned(),
            rotation: Rotation { duration: Duration::from_secs(10), bytes: 1 << 20 },
            retention: Retention { min_free: 1, on_full: StrategyOnFull::DenyNewMedia, ..Retention::default() },
            at_risk: AT_RISK,
        };
        let recorder = Recorder::new(settings, &footage, opened.index);
        let start = sent.unwrap_or_else(|| footage.live());
        if sent.is_none() {
            bookmark.save(&[start]).expect("the cursor is saved");
        }
        let delivery = Delivery::new(Settings { start, has_retention: true, seed }, now);
        let timeline = Timeline::after(opened.latest);
        let cursor = footage.cursor();
        Self { footage, recorder, cursor, delivery, bookmark, timeline, sets }
    }

    /// The camera delivers picture `id`.
    pub(crate) fn append(&mut self, id: u64, size: usize, is_idr: bool, media: Ticks, at: Arrival) {
        let stamp = self.timeline.stamp(media, at, is_idr);
        let mut data = Vec::with_capacity(size + 13);
        data.extend_from_slice(&(size as u32 + 9).to_be_bytes());
        data.push(if is_idr { 0x65 } else { 0x41 });
        data.extend_from_slice(&id.to_be_bytes());
        data.resize(size + 13, 0x55);
        let unit = AccessUnit {
            track: TrackId::VIDEO,
            pts: stamp.pts,
            is_idr,
            data: Bytes::from(data),
            parameter_sets: is_idr.then(|| self.sets.clone()),
        };
        self.footage.append(unit, stamp.went_back);
    }

    /// Other parameter sets, as after a change of the camera's resolution.
    pub(crate) fn use_sets(&mut self, sets: Arc<ParameterSets>) {
        self.sets = sets;
    }

    /// Reads for the delivery as long as it wants; at most so many pictures, as a real loop has other things to do.
    pub(crate) fn read(&mut self, most: usize, now: Instant) {
        for _ in 0..most {
            let Some(at) = self.delivery.wants(now) else { return };
            match self.cursor.try_read(at) {
                Some(Next::Unit { unit, sets, next }) => self.delivery.unit(unit, sets, next, now),
                Some(Next::Lagged { resume }) => self.delivery.lagged(resume, now),
                None => return,
            }
        }
    }

    pub(crate) fn commit(&mut self, position: Position) {
        self.footage.set_sent(Some(position));
        self.bookmark.save(&[position]).expect("the cursor is saved");
    }

    pub(crate) fn pump(&mut self, now: Instant, wall: Timestamp, free: u64) {
        self.recorder.pump(now, wall, || Ok(free), false);
    }
}

/// The id inside a picture.
pub(crate) fn picture_id(unit: &AccessUnit) -> u64 {
    u64::from_be_bytes(unit.data[5..13].try_into().expect("an id"))
}

/// Everything the archive holds: position and id of each picture.
pub(crate) fn read_all(index: &Index) -> Vec<(Position, u64)> {
    let mut reader = archive::Reader::default();
    let mut position = Position::default();
    let mut found = Vec::new();
    while position < index.written() {
        match reader.read(index, position).expect("the archive can be read") {
            archive::ArchiveRead::Units { at, units, .. } => {
                for (offset, unit) in units.iter().enumerate() {
                    found.push((Position { gop: at.gop, unit: at.unit + offset as u32 }, picture_id(unit)));
                }
                position = Position { gop: at.gop, unit: at.unit + units.len() as u32 };
            }
            archive::ArchiveRead::Gap { resume: Some(resume) } if resume > position => position = resume,
            archive::ArchiveRead::Gap { .. } => break,
        }
    }
    found
}

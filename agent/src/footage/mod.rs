//! The log of one camera: append, and cursors whose readers never ask whether a GOP is in RAM or on disk.
//!
//! Capture appends and never waits. The [`disk`] thread reads the ring like any other reader and writes the archive;
//! until it has, the ring keeps what is not written, up to its upper bound.

pub mod archive;
pub mod bookmark;
mod cursor;
pub mod disk;
pub mod recorder;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use edgecam_media::ring::{Bounds, Position, Read, Ring};
use edgecam_media::{AccessUnit, ParameterSets, Ticks, Timestamp};
use tokio::sync::Notify;

pub use cursor::{Cursor, Next};
pub use recorder::{RecorderSettings, RecorderState};

/// The log of one camera. Clones share it.
#[derive(Clone)]
pub struct Footage(Arc<Log>);

struct Log {
    state: Mutex<State>,
    appended: Notify,
    archive: OnceLock<Arc<archive::Index>>,
    attached: Notify,
    wake_disk: Option<disk::Waker>,
    counters: Counters,
}

/// Where a log is kept besides RAM.
#[derive(Clone, Debug)]
pub enum Storage {
    /// Nowhere.
    None,
    /// In an archive that cannot be opened for now: the text says why. [`Footage::attach`] ends the wait.
    Awaited(String),
    /// In an archive.
    Archive(Arc<archive::Index>),
}

struct State {
    ring: Ring,
    /// A part of this span is worth waking the disk thread for.
    at_risk: Ticks,
    part_begins: Option<Timestamp>,
    recorder: RecorderState,
    /// The archive takes no new footage.
    is_paused: bool,
    /// Everything before has been sent; `None` when nothing is uploaded.
    sent: Option<Position>,
    sets: Option<Arc<ParameterSets>>,
}

#[derive(Default)]
struct Counters {
    units: AtomicU64,
    audio_units: AtomicU64,
    bytes: AtomicU64,
    gops: AtomicU64,
    refused: AtomicU64,
    lost_units: AtomicU64,
    lost_bytes: AtomicU64,
    clock_set_back: AtomicU64,
}

/// Counters and gauges of a log.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LogStatus {
    /// Pictures appended.
    pub units: u64,
    /// Frames of audio appended.
    pub audio_units: u64,
    /// Their bytes.
    pub bytes: u64,
    /// GOPs begun.
    pub gops: u64,
    /// Units refused because no IDR came before them.
    pub refused: u64,
    /// Units that left the ring before the archive had them.
    pub lost_units: u64,
    /// Their bytes.
    pub lost_bytes: u64,
    /// Times the wall clock was set back.
    pub clock_set_back: u64,
    /// Bytes in RAM.
    pub ring_bytes: u64,
    /// The oldest picture in RAM.
    pub ring_earliest: Option<Timestamp>,
    /// The newest picture.
    pub latest: Option<Timestamp>,
    /// Behind the newest picture.
    pub end: Position,
    /// The archive, when there is one.
    pub archive: Option<ArchiveStatus>,
    /// What the newest GOP refers to.
    pub parameter_sets: Option<Arc<ParameterSets>>,
}

/// Gauges of an archive.
#[derive(Clone, PartialEq, Debug)]
pub struct ArchiveStatus {
    /// Whether it is recording.
    pub recorder: RecorderState,
    /// Bytes of all segments.
    pub bytes: u64,
    /// How many segments there are.
    pub segments: usize,
    /// The oldest picture.
    pub earliest: Option<Timestamp>,
    /// Everything before is on disk.
    pub written: Position,
}

impl Footage {
    /// A log whose next GOP has the number `next_gop`. `wake_disk` wakes the thread that writes the archive; without it
    /// whoever runs the recorder looks by itself. `at_risk` is how much footage may wait for the disk.
    pub fn new(
        bounds: Bounds,
        next_gop: u64,
        at_risk: Duration,
        storage: Storage,
        wake_disk: Option<disk::Waker>,
    ) -> Self {
        let mut ring = Ring::new(bounds, next_gop);
        let (recorder, archive) = match storage {
            Storage::None => (RecorderState::Off, OnceLock::new()),
            Storage::Awaited(error) => (RecorderState::Failed(error), OnceLock::new()),
            Storage::Archive(index) => (RecorderState::Recording, OnceLock::from(index)),
        };
        // What an awaited archive will want is kept as if it were only slow.
        ring.set_archived((recorder != RecorderState::Off).then_some(Position::start_of(next_gop)));
        let at_risk = Ticks::from_duration(at_risk);
        let state = State { ring, at_risk, part_begins: None, recorder, is_paused: false, sent: None, sets: None };
        Self(Arc::new(Log {
            state: Mutex::new(state),
            appended: Notify::new(),
            archive,
            attached: Notify::new(),
            wake_disk,
            counters: Counters::default(),
        }))
    }

    /// The archive that was awaited is there. Its GOPs must have lower numbers than those of this log.
    pub fn attach(&self, index: Arc<archive::Index>) {
        if self.0.archive.set(index).is_ok() {
            self.0.attached.notify_waiters();
        }
    }

    /// Waits until an awaited archive comes; for ever if it is there already, or there will be none.
    pub async fn attached(&self) {
        self.0.attached.notified().await;
    }

    /// Appends a picture, or a frame of the audio beside the pictures. Never waits.
    pub fn append(&self, unit: AccessUnit, clock_went_back: bool) {
        let log = &*self.0;
        let (size, is_idr, pts) = (unit.data.len() as u64, unit.is_idr, unit.pts);
        let is_video = unit.is_video();
        let add = |counter: &AtomicU64, count: u64| counter.fetch_add(count, Ordering::Relaxed);
        let mut state = log.lock();
        if let Some(sets) = &unit.parameter_sets {
            state.sets = Some(sets.clone());
        }
        let Some((_, evicted)) = state.ring.append(unit) else {
            drop(state);
            add(&log.counters.refused, 1);
            return;
        };
        let begins = *state.part_begins.get_or_insert(pts);
        let is_due = is_idr || pts.since(begins) >= state.at_risk;
        if is_due {
            state.part_begins = Some(pts);
        }
        drop(state);
        add(if is_video { &log.counters.units } else { &log.counters.audio_units }, 1);
        add(&log.counters.bytes, size);
        add(&log.counters.gops, u64::from(is_idr));
        add(&log.counters.lost_units, evicted.units);
        add(&log.counters.lost_bytes, evicted.bytes);
        add(&log.counters.clock_set_back, u64::from(clock_went_back));
        log.appended.notify_waiters();
        if is_due && let Some(waker) = &log.wake_disk {
            waker.wake();
        }
    }

    /// A reader.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.clone())
    }

    /// Where a live reader starts: the newest GOP.
    pub fn live(&self) -> Position {
        self.0.lock().ring.newest()
    }

    /// The GOP that was being shown at `instant`, or the oldest there is.
    pub async fn at(&self, instant: Timestamp) -> Position {
        let in_ram = {
            let state = self.0.lock();
            let is_there = state.ring.earliest().is_some_and(|earliest| earliest <= instant);
            state.ring.at(instant).filter(|_| is_there || self.archive().is_none())
        };
        if let Some(position) = in_ram {
            return position;
        }
        let archived = match self.archive().cloned() {
            Some(index) => tokio::task::spawn_blocking(move || archive::locate(&index, instant)).await.ok(),
            None => None,
        };
        match archived {
            Some(Ok(Some(position))) => position,
            _ => {
                let state = self.0.lock();
                state.ring.at(instant).unwrap_or_else(|| state.ring.newest())
            }
        }
    }

    /// Timestamp of the newest picture, also of an earlier run.
    pub fn latest(&self) -> Option<Timestamp> {
        self.0.lock().ring.latest()
    }

    /// Whether the archive takes new footage.
    pub fn set_recording(&self, is_on: bool) {
        self.0.lock().is_paused = !is_on;
        if let Some(waker) = &self.0.wake_disk {
            waker.wake();
        }
    }

    /// The uploader's cursor: what lies before it may be deleted first.
    pub fn set_sent(&self, sent: Option<Position>) {
        self.0.lock().sent = sent;
    }

    /// Counters and gauges.
    pub fn status(&self) -> LogStatus {
        let log = &*self.0;
        let state = log.lock();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let archive = (state.recorder != RecorderState::Off).then(|| {
            let index = log.archive.get();
            let (bytes, segments) = index.map(|index| index.size()).unwrap_or_default();
            let (earliest, written) = (index.and_then(|index| index.earliest()), index.map(|index| index.written()));
            let recorder = state.recorder.clone();
            ArchiveStatus { recorder, bytes, segments, earliest, written: written.unwrap_or_default() }
        });
        LogStatus {
            units: get(&log.counters.units),
            audio_units: get(&log.counters.audio_units),
            bytes: get(&log.counters.bytes),
            gops: get(&log.counters.gops),
            refused: get(&log.counters.refused),
            lost_units: get(&log.counters.lost_units),
            lost_bytes: get(&log.counters.lost_bytes),
            clock_set_back: get(&log.counters.clock_set_back),
            ring_bytes: state.ring.bytes() as u64,
            ring_earliest: state.ring.earliest(),
            latest: state.ring.latest(),
            end: state.ring.end(),
            archive,
            parameter_sets: state.sets.clone(),
        }
    }

    /// The archive's content.
    pub fn archive(&self) -> Option<&Arc<archive::Index>> {
        self.0.archive.get()
    }

    /// Why an awaited archive cannot be opened now.
    pub fn set_await_reason(&self, error: String) {
        if self.archive().is_none() {
            self.0.lock().recorder = RecorderState::Failed(error);
        }
    }

    fn read_ring(&self, position: Position) -> (Read, Option<Arc<ParameterSets>>) {
        let state = self.0.lock();
        let read = state.ring.read(position);
        let gop = match &read {
            Read::Unit { at, .. } => state.ring.parameter_sets(at.gop).cloned(),
            Read::Pending | Read::Evicted { .. } => None,
        };
        (read, gop)
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while appending leaves a ring that is still in order: each step of it is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

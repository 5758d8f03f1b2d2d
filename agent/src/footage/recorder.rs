//! Moves one camera's footage from the ring to its archive. Synchronous; time is an argument.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgecam_media::mp4::may_split_before;
use edgecam_media::ring::{Position, Read};
use edgecam_media::{AccessUnit, Ticks, Timestamp};

use super::archive::retention::{Plan, Retention, Situation, plan};
use super::archive::{self, Rotation, Writer};
use super::{Footage, Log};

/// Units of one fragment at most.
const MAX_UNITS: usize = 1024;
/// After a disk error, until the next attempt.
const RETRY: Duration = Duration::from_secs(2);
/// How often age and space are looked at when nothing rotates.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// How a camera is recorded.
#[derive(Clone, PartialEq, Debug)]
pub struct RecorderSettings {
    /// The camera, for logs.
    pub camera: String,
    /// Directory of its segments.
    pub directory: std::path::PathBuf,
    /// When a segment is full.
    pub rotation: Rotation,
    /// How much is kept.
    pub retention: Retention,
    /// Footage that a crash of the machine may cost: how long data may wait to be written and synced.
    pub at_risk: Duration,
}

/// Whether a camera is being recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecorderState {
    /// There is no archive.
    Off,
    /// It is.
    Recording,
    /// It has been switched off.
    Paused,
    /// The archive is full, and nothing may be deleted.
    Full,
    /// The disk fails.
    Failed(String),
}

/// Records one camera.
pub struct Recorder {
    settings: RecorderSettings,
    log: Arc<Log>,
    writer: Writer,
    position: Position,
    pending_since: Option<(Position, Instant)>,
    unsynced_since: Option<Instant>,
    retry_at: Option<Instant>,
    next_housekeeping: Option<Instant>,
    /// More room than the limits ask for, after the file system was full.
    extra: u64,
    deleted_unsent: u64,
}

impl Recorder {
    /// A recorder that begins where the archive ends.
    pub fn new(settings: RecorderSettings, footage: &Footage, index: Arc<archive::Index>) -> Self {
        let position = index.written();
        let writer = Writer::new(settings.directory.clone(), settings.rotation, index);
        Self {
            settings,
            log: footage.0.clone(),
            writer,
            position,
            pending_since: None,
            unsynced_since: None,
            retry_at: None,
            next_housekeeping: None,
            extra: 0,
            deleted_unsent: 0,
        }
    }

    /// The camera it records.
    pub fn camera(&self) -> &str {
        &self.settings.camera
    }

    /// Where its segments are.
    pub fn directory(&self) -> &std::path::Path {
        &self.settings.directory
    }

    /// Writes what is due, or everything with `flush`. Returns when it wants to be called again at the latest.
    pub fn pump(
        &mut self,
        now: Instant,
        wall: Timestamp,
        free: impl FnOnce() -> io::Result<u64>,
        flush: bool,
    ) -> Option<Instant> {
        if self.retry_at.is_some_and(|at| now < at) && !flush {
            return self.retry_at;
        }
        self.retry_at = None;
        let mut result = self.housekeeping(now, wall, free);
        let is_full = self.log.lock().recorder == RecorderState::Full;
        let is_paused = self.log.lock().is_paused;
        if is_paused {
            result = result.and(self.pause());
        } else if result.is_ok() && !is_full {
            result = self.write_due(now, flush).and_then(|()| self.sync_due(now, flush));
        }
        match result {
            Ok(()) if is_paused => self.set_state(RecorderState::Paused),
            Ok(()) if is_full => {}
            Ok(()) => self.set_state(RecorderState::Recording),
            Err(error) => self.failed(&error, now),
        }
        let pending = self.pending_since.map(|(_, since)| since + self.settings.at_risk * 2);
        let unsynced = self.unsynced_since.map(|since| since + self.settings.at_risk);
        [self.retry_at, pending, unsynced, self.next_housekeeping].into_iter().flatten().min()
    }

    /// Writes everything and finishes the open segment.
    pub fn finish(&mut self, now: Instant, wall: Timestamp) {
        self.pump(now, wall, || Ok(u64::MAX), true);
        if let Err(error) = self.writer.finish() {
            tracing::warn!(camera_name = %self.settings.camera, %error, "the last segment could not be finished");
        }
    }

    /// Passes over what comes; recording goes on at the next GOP.
    fn pause(&mut self) -> io::Result<()> {
        (self.pending_since, self.unsynced_since) = (None, None);
        let end = self.log.lock().ring.end();
        self.position = self.position.max(if end.unit > 0 { Position::start_of(end.gop + 1) } else { end });
        self.writer.skip_to(self.position);
        self.log.lock().ring.set_archived(Some(self.position));
        self.writer.finish()
    }

    fn write_due(&mut self, now: Instant, flush: bool) -> io::Result<()> {
        loop {
            let Some((units, next)) = self.next_part(now, flush) else { return Ok(()) };
            self.writer.append(self.position, &units, next)?;
            self.position.unit += units.len() as u32;
            self.unsynced_since.get_or_insert(now);
            self.pending_since = None;
            self.log.lock().ring.set_archived(Some(self.position));
        }
    }

    /// The next part that is due, and when the picture after it is shown.
    fn next_part(&mut self, now: Instant, flush: bool) -> Option<(Vec<AccessUnit>, Option<Timestamp>)> {
        let log = self.log.clone();
        let state = log.lock();
        let (mut units, next_gop) = loop {
            match state.ring.read(self.position) {
                Read::Pending => {
                    self.pending_since = None;
                    return None;
                }
                Read::Evicted { resume } => {
                    self.position = resume;
                    self.writer.skip_to(resume);
                }
                Read::Unit { at, .. } if at.gop > self.position.gop => self.position = at,
                Read::Unit { .. } => {
                    let (units, _) = state.ring.units_from(self.position, MAX_UNITS);
                    let after = Position { gop: self.position.gop, unit: self.position.unit + units.len() as u32 };
                    let next = match state.ring.read(after) {
                        Read::Unit { unit, .. } => Some(unit.pts),
                        Read::Pending | Read::Evicted { .. } => None,
                    };
                    break (units, next);
                }
            }
        };
        drop(state);
        if next_gop.is_some() {
            return Some((units, next_gop));
        }
        // The GOP is still open: a part of it is due when it spans what may be at risk, or has waited for too long.
        let (_, since) = *self.pending_since.get_or_insert((self.position, now));
        if flush || now.saturating_duration_since(since) >= self.settings.at_risk * 2 {
            return Some((units, None));
        }
        let span = Ticks::from_duration(self.settings.at_risk);
        let mut latest = units[0].pts;
        let mut cut = None;
        for (index, unit) in units.iter().enumerate().skip(1) {
            if may_split_before(unit, latest) {
                cut = Some((index, unit.pts));
            }
            latest = latest.max(unit.pts);
        }
        let (index, next) = cut.filter(|_| latest.since(units[0].pts) >= span)?;
        units.truncate(index);
        Some((units, Some(next)))
    }

    fn sync_due(&mut self, now: Instant, flush: bool) -> io::Result<()> {
        let due =
            self.unsynced_since.is_some_and(|since| now.saturating_duration_since(since) >= self.settings.at_risk);
        if due || (flush && self.unsynced_since.is_some()) {
            self.unsynced_since = None;
            self.writer.sync()?;
        }
        Ok(())
    }

    fn housekeeping(
        &mut self,
        now: Instant,
        wall: Timestamp,
        free: impl FnOnce() -> io::Result<u64>,
    ) -> io::Result<()> {
        if self.next_housekeeping.is_some_and(|at| now < at) {
            return Ok(());
        }
        self.next_housekeeping = Some(now + HOUSEKEEPING);
        let missing = self.settings.retention.min_free.saturating_add(self.extra).saturating_sub(free()?);
        let sent = self.log.lock().sent;
        let situation = Situation { now: wall, missing, sent, open: self.writer.open_gop() };
        let segments = self.writer.index().segments();
        let Plan { delete, is_full } = plan(&segments, &self.settings.retention, situation);
        for doomed in delete {
            let Some(segment) = segments.iter().find(|segment| segment.first_gop == doomed.first_gop) else { continue };
            archive::delete(self.writer.index(), segment)?;
            if doomed.is_unsent {
                self.deleted_unsent += 1;
                let camera_name = &self.settings.camera;
                tracing::warn!(camera_name, start = %segment.start, "footage that was not uploaded yet was deleted to make room");
            }
        }
        if is_full {
            self.set_state(RecorderState::Full);
        } else if self.log.lock().recorder == RecorderState::Full {
            self.set_state(RecorderState::Recording);
        }
        Ok(())
    }

    fn failed(&mut self, error: &io::Error, now: Instant) {
        self.retry_at = Some(now + RETRY);
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            // Make room at once for a while of footage, if that is allowed; little, for the disk may be small.
            self.extra = 4 << 20;
            self.next_housekeeping = None;
        } else {
            // The file may be gone with its disk: a new one begins at the next GOP.
            self.writer.abandon();
            if self.position.unit > 0 {
                self.position = Position::start_of(self.position.gop + 1);
                self.writer.skip_to(self.position);
            }
        }
        self.set_state(RecorderState::Failed(error.to_string()));
    }

    fn set_state(&mut self, new: RecorderState) {
        if new == RecorderState::Recording {
            self.extra = 0;
        }
        let mut state = self.log.lock();
        if state.recorder == new {
            return;
        }
        let camera_name = &self.settings.camera;
        match &new {
            RecorderState::Failed(error) => {
                tracing::error!(camera_name, %error, "recording has failed; live upload goes on")
            }
            RecorderState::Full => tracing::error!(camera_name, "the archive is full: nothing new is recorded"),
            RecorderState::Recording => tracing::info!(camera_name, "recording"),
            RecorderState::Paused => tracing::info!(camera_name, "recording is switched off"),
            RecorderState::Off => {}
        }
        state.recorder = new;
    }
}

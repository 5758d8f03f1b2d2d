//! Reads one camera's log and chooses what is decoded and looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Inference;
use super::eye::Eye;
use super::hold::{Hold, Moving, Taken};
use super::looker::{Arrivals, Looker};
use super::pool::{Picture, Place};
use super::schedule::{Decode, KeyFrames, Turns};
use super::status::{Decoding, DetectorStatus, StatusCell};
use crate::config::detectors::Detector;
use crate::event::outlet::Outlet;
use crate::footage::{Footage, Next};

/// A detector that could not be made ready is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// What looks at a camera.
#[derive(Clone)]
pub struct Watch {
    /// The camera's name.
    pub camera: String,
    /// What looks.
    pub detectors: Vec<Arc<Detector>>,
    /// What is looked at.
    pub footage: Footage,
    /// Threads and models.
    pub inference: Inference,
    /// Where events go.
    pub outlet: Outlet,
    /// How it does.
    pub status: StatusCell,
}

/// Looks until `cancel` is called.
pub async fn run(watch: Watch, cancel: CancellationToken) {
    let arrivals = Arrivals::default();
    let Watch { camera, detectors, outlet, status, .. } = &watch;
    status.change(|status| {
        status.detectors = detectors.iter().map(|detector| begin(detector)).collect();
    });
    let moving = Moving::new(detectors.len());
    let (arrived, outlet) = (arrivals.clone(), outlet.clone());
    let looker = Looker::new(camera, detectors.len(), arrived, moving.clone(), outlet, status.clone());
    let place = watch.inference.pool().join(looker);
    tokio::select! {
        () = cancel.cancelled() => {}
        () = open_all(&watch, &arrivals) => {}
        () = sample(&watch, &place, &moving) => {}
    }
    // Its thread may be at work for it: events end there.
    tokio::task::spawn_blocking(move || drop(place)).await.ok();
}

fn begin(detector: &Detector) -> DetectorStatus {
    DetectorStatus {
        name: detector.name.clone(),
        kind: detector.kind.name().to_owned(),
        model: detector.model.to_string(),
        ..DetectorStatus::default()
    }
}

/// Makes detectors ready, those that are not again and again. Never ends.
async fn open_all(watch: &Watch, arrivals: &Arrivals) {
    loop {
        let detectors = watch.status.get().detectors;
        for index in (0..detectors.len()).filter(|index| !detectors[*index].is_ready) {
            let (detector, inference) = (watch.detectors[index].clone(), watch.inference.clone());
            let opened = tokio::task::spawn_blocking(move || Eye::open(detector, inference.models(), new_id)).await;
            let name = &watch.detectors[index].name;
            let error = match opened {
                Ok(Ok(eye)) => {
                    arrivals.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, eye));
                    tracing::info!(camera_name = watch.camera, detector = name, "the detector looks");
                    None
                }
                Ok(Err(error)) => Some(error),
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = &error {
                tracing::error!(camera_name = watch.camera, detector = name, error, "the detector cannot be used");
            }
            watch.status.change(|status| {
                if let Some(detector) = status.detectors.get_mut(index) {
                    detector.is_ready = error.is_none();
                    detector.error = error;
                }
            });
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

async fn sample(watch: &Watch, place: &Place, moving: &Moving) {
    let mut cursor = watch.footage.cursor();
    let mut position = watch.footage.live();
    let mut turns: Vec<Turns> = watch.detectors.iter().map(|detector| Turns::new(detector.fps_limit)).collect();
    let rate = watch.detectors.iter().map(|detector| detector.fps_limit).fold(0.0, f64::max);
    let mut key_frames = KeyFrames::default();
    let mut decode = Decode::All;
    let mut hold = Hold::new(watch.detectors.len());
    let mut number = 0;
    loop {
        let (unit, sets) = match cursor.read(position).await {
            Next::Unit { unit, sets, next } => {
                position = next;
                (unit, sets)
            }
            Next::Lagged { resume } => {
                // The newest is worth more than what comes next.
                position = watch.footage.live().max(resume);
                hold.clear();
                place.interrupt();
                continue;
            }
        };
        if !unit.is_video() {
            continue;
        }
        number += 1;
        if unit.is_idr {
            key_frames.seen(unit.pts);
            let now = key_frames.decode(rate);
            if now != decode || number == 1 {
                decode = now;
                watch.status.change(|status| status.decode = Some(Decoding::of(now)));
            }
            // Behind by more than a GOP: what is newest is worth more.
            let newest = watch.footage.live();
            if newest.gop > position.gop {
                position = newest;
                hold.clear();
                place.interrupt();
                continue;
            }
        }
        if !unit.is_idr && decode == Decode::KeyFrames {
            continue;
        }
        let look = turns
            .iter_mut()
            .enumerate()
            .fold(0, |look, (index, turns)| look | u32::from(turns.take(unit.pts)) << index);
        let picture = Picture { unit, sets, number, look, arrived: Instant::now() };
        let taken = match decode {
            Decode::All => hold.take(picture, key_frames.are_close() && !moving.is_any()),
            Decode::KeyFrames if look == 0 => continue,
            Decode::KeyFrames => Taken { ready: vec![picture], still: Vec::new() },
        };
        let skipped = if taken.ready.is_empty() { 0 } else { place.push(taken.ready) };
        if skipped > 0 || !taken.still.is_empty() {
            watch.status.change(|status| {
                status.skipped += skipped;
                for (index, detector) in status.detectors.iter_mut().enumerate() {
                    detector.still += taken.still.iter().filter(|look| *look & 1 << index != 0).count() as u64;
                }
            });
        }
    }
}

/// An identity that no other event of any agent has: random, and in the order of time.
pub fn new_id() -> Arc<str> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let millis = crate::host::wall_clock().unix_millis().max(0) as u64;
    let count = COUNT.fetch_add(1, Ordering::Relaxed) & 0xfff;
    // UUID version 7 (RFC 9562 section 5.7).
    let random = fastrand::u64(..) & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
    let high = millis << 16 | 0x7000 | count;
    let hex = format!("{high:016x}{random:016x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-").into()
}

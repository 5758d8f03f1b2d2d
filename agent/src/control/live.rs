//! Uploads that people ask for: live for a while, or a range of the past.

use std::time::Duration;

use edgecam_media::Timestamp;
use serde_json::{Value, json};

use super::reply::{Ending, Outcome, failed, rejected};
use crate::config::UploadMode;
use crate::config::schedule::Period;
use crate::host::wall_clock;
use crate::topology::CameraHandle;
use crate::upload::Upload;

/// How often an upload's progress is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often it is told.
const TELL: Duration = Duration::from_secs(10);

/// Uploads live for `duration`; each request extends the lease.
pub fn begin(camera: &CameraHandle, duration: Duration) -> Ending {
    let upload = upload_of(camera)?;
    let seconds = duration.as_secs();
    if upload.mode == UploadMode::Continuous {
        return Ok(Some(json!({ "stream": upload.stream, "seconds": seconds, "note": "it is uploaded continuously" })));
    }
    upload.lease(duration);
    Ok(Some(json!({ "stream": upload.stream, "seconds": seconds })))
}

/// Ends what was asked for.
pub fn end(camera: &CameraHandle) -> Ending {
    let upload = upload_of(camera)?;
    if upload.mode == UploadMode::Continuous {
        return rejected(format!("`{}` is uploaded continuously: change `upload.mode`", camera.config.name));
    }
    upload.demand.send_modify(|demand| (demand.lease, demand.range) = (None, None));
    Ok(None)
}

/// Asks for a range of the past to be uploaded; returns at once.
pub fn ask(camera: &CameraHandle, period: Period) -> Ending {
    let upload = upload_of(camera)?;
    let name = &camera.config.name;
    if upload.mode == UploadMode::Continuous {
        return rejected(format!("`{name}` is uploaded continuously: its footage is or will be there"));
    }
    if !has_footage(camera, period) {
        return rejected(format!("`{name}` has no footage from {} to {}", period.start, period.end));
    }
    let is_new = upload.demand.send_if_modified(|demand| {
        let is_free = demand.range.is_none();
        if is_free {
            demand.range = Some(period);
        }
        is_free
    });
    if !is_new {
        return Err((Outcome::Busy, "another range is being uploaded".to_owned()));
    }
    Ok(Some(json!({ "stream": upload.stream })))
}

/// Uploads a range of the past, and tells how far it is.
pub async fn upload(camera: &CameraHandle, period: Period, progress: &mut (dyn FnMut(Value) + Send)) -> Ending {
    let upload = upload_of(camera)?;
    let before = upload.status.get().stats.acks_persisted;
    ask(camera, period)?;
    let stream = &upload.stream;
    let span = period.end.since(period.start).seconds();
    progress(json!({ "stream": stream, "progress": 0.0 }));
    let mut told = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let status = upload.status.get();
        let persisted = status.stats.acks_persisted - before;
        let wanted = upload.demand.borrow().range;
        if wanted != Some(period) {
            return match persisted {
                0 => failed("nothing of the range was uploaded: it was stopped, or there is no footage in it"),
                _ => Ok(Some(json!({ "stream": stream, "progress": 1.0, "fragmentsPersisted": persisted }))),
            };
        }
        if told.elapsed() >= TELL {
            told = tokio::time::Instant::now();
            let until = status.persisted_until.filter(|until| *until >= period.start && *until <= period.end);
            let done = until.map_or(0.0, |until| until.since(period.start).seconds() / span);
            let until = until.map(|until| until.to_string());
            progress(json!({
                "stream": stream, "progress": (done * 1000.0).round() / 1000.0, "persistedUntil": until,
                "uploader": status.state.name(), "fragmentsPersisted": persisted,
            }));
        }
    }
}

/// Whether there may be footage in `period`.
pub(super) fn has_footage(camera: &CameraHandle, period: Period) -> bool {
    let log = camera.footage.status();
    let archived = log.archive.as_ref().and_then(|archive| archive.earliest);
    let earliest: Option<Timestamp> = [archived, log.ring_earliest].into_iter().flatten().min();
    // A range may reach into the future: it ends when it is over.
    let latest = log.latest.map(|latest| latest.max(wall_clock()));
    earliest.is_some_and(|earliest| earliest < period.end) && latest.is_some_and(|latest| latest > period.start)
}

fn upload_of(camera: &CameraHandle) -> Result<&Upload, (Outcome, String)> {
    let missing = || (Outcome::Rejected, format!("`{}` has no upload in the config", camera.config.name));
    camera.upload.as_ref().ok_or_else(missing)
}

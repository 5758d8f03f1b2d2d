//! A range of the past as one MP4 file: cut at IDRs, nothing encoded anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use edgecam_media::Timestamp;
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::live::has_footage;
use super::reply::{Ending, failed, rejected};
use crate::config::schedule::Period;
use crate::event::outlet;
use crate::footage::archive::export;
use crate::host::wall_clock;
use crate::topology::CameraHandle;

/// Longest clip.
const LONGEST: Duration = Duration::from_secs(3600);
/// For the newest footage to get to the disk.
const WRITTEN: Duration = Duration::from_secs(15);
/// Clips of a camera that are kept, and their bytes.
const KEPT: usize = 32;
const KEPT_BYTES: u64 = 2 << 30;

/// Where the clips of a camera are.
pub fn directory(state_dir: &Path, camera: &str) -> PathBuf {
    state_dir.join("clips").join(camera)
}

/// Cuts the clips of a camera's events, each when its time has passed, until `cancel` is called.
pub(crate) async fn run(
    camera: CameraHandle,
    clips: Arc<Mutex<mpsc::Receiver<outlet::Clip>>>,
    state_dir: PathBuf,
    cancel: CancellationToken,
) {
    let mut clips = clips.lock().await;
    loop {
        let next = async {
            let clip = clips.recv().await?;
            tokio::time::sleep(clip.end.since(wall_clock()).to_duration()).await;
            Some(clip)
        };
        let clip = tokio::select! {
            () = cancel.cancelled() => return,
            clip = next => clip,
        };
        let Some(outlet::Clip { start, end }) = clip else { return };
        if let Err((_, error)) = cut(&camera, Period { start, end }, &state_dir).await {
            tracing::warn!(camera_name = camera.config.name, error, "the clip of an event could not be cut");
        }
    }
}

/// Clips of a camera that are being cut. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cutting(Arc<AtomicUsize>);

impl Cutting {
    /// Whether there is one.
    pub fn is_going_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn begin(&self) -> Cut {
        self.0.fetch_add(1, Ordering::Relaxed);
        Cut(self.0.clone())
    }
}

/// A clip that is being cut, until it is dropped.
struct Cut(Arc<AtomicUsize>);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Cuts a clip; the reply says where it is.
pub(super) async fn cut(camera: &CameraHandle, period: Period, state_dir: &Path) -> Ending {
    let name = &camera.config.name;
    let Some(archive) = &camera.config.archive else { return rejected(format!("`{name}` has no archive")) };
    let length = period.end.since(period.start).to_duration();
    if length > LONGEST {
        return rejected(format!("a clip has at most {} s, not {}", LONGEST.as_secs(), length.as_secs()));
    }
    if period.end > wall_clock() {
        return rejected("the range is not over yet");
    }
    if !has_footage(camera, period) {
        return rejected(format!("`{name}` has no footage from {} to {}", period.start, period.end));
    }
    let _cut = camera.cutting.begin();
    written(camera, period.end).await;
    let to = directory(state_dir, name);
    let file = to.join(format!("{}-{}.mp4", period.start.unix_millis(), period.end.unix_millis()));
    let (from, output) = (archive.directory.clone(), file.clone());
    let export = tokio::task::spawn_blocking(move || {
        make_room(&to)?;
        let new = output.with_extension("new");
        let frames = export::export(&from, period.start, period.end, &new)?;
        if frames > 0 {
            std::fs::rename(&new, &output)?;
        }
        Ok::<_, std::io::Error>((frames, std::fs::metadata(&output).map_or(0, |metadata| metadata.len())))
    });
    match export.await {
        Ok(Ok((0, _))) => rejected(format!("`{name}` has no footage from {} to {}", period.start, period.end)),
        Ok(Ok((frames, bytes))) => {
            let address = file.file_name().map(|file| format!("/clips/{name}/{}", file.to_string_lossy()));
            Ok(Some(json!({ "path": file, "http": address, "frames": frames, "bytes": bytes })))
        }
        Ok(Err(error)) => failed(format!("the clip cannot be cut: {error}")),
        Err(error) => failed(error.to_string()),
    }
}

/// Waits until footage up to `end` is on disk, or does not get there.
async fn written(camera: &CameraHandle, end: Timestamp) {
    let until = tokio::time::Instant::now() + WRITTEN;
    let position = camera.footage.at(end).await;
    while tokio::time::Instant::now() < until
        && camera.footage.archive().is_some_and(|index| index.written().gop <= position.gop)
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Deletes the oldest clips until there is room for one more.
fn make_room(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut clips: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        clips.push((metadata.modified()?, metadata.len(), entry.path()));
    }
    clips.sort();
    let mut bytes: u64 = clips.iter().map(|(_, bytes, _)| bytes).sum();
    while clips.len() >= KEPT || (bytes > KEPT_BYTES && !clips.is_empty()) {
        let (_, size, path) = clips.remove(0);
        std::fs::remove_file(path)?;
        bytes -= size;
    }
    Ok(())
}

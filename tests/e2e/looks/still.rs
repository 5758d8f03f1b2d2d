//! A scene in which nothing happens most of the time: it is not decoded, and what happens is seen.

use serde_json::{Value, json};

use crate::harness::media::tool;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig, agent};

/// A grey wall, and of each 16 s a square that comes, moves and goes in the last four.
const SCENE: &str = "color=0x404850:size=640x360:rate=15[wall];color=orange:size=90x90:rate=15[square];\
    [wall][square]overlay=x='(t-12)*100':y=120:enable='gte(t,12)':shortest=1";

#[tokio::test]
async fn what_is_still_is_not_decoded() {
    let mut rig = Rig::new("looks-still", Vec::new()).await;
    let clip = rig.scratch.join("still.mp4");
    let file = clip.display().to_string();
    let make = ["-v", "error", "-y", "-filter_complex", SCENE, "-t", "16", "-pix_fmt", "yuv420p", "-c:v", "libx264"];
    let gop = ["-preset", "ultrafast", "-bf", "0", "-g", "15", "-keyint_min", "15", "-sc_threshold", "0", &file];
    tool("ffmpeg", &[&make[..], &gop].concat()).await;
    let mut camera = looping("wall", &clip);
    camera["detectors"] = json!([{ "type": "object", "model": "demo", "fps_limit": 5, "events": { "min_frames": 1 } }]);
    rig.config["cameras"] = json!([camera]);
    rig.config["publishers"] = json!({ "directory": rig.scratch.join("events") });
    rig.start();
    // Two times around.
    let seen = |report: &Value| report["frames"].as_u64() > Some(2 * 16 * 15);
    let report = rig.agent().until("wall", "shown twice", PATIENCE, seen).await;
    let (looks, frames) = (&report["inference"], report["frames"].as_u64().unwrap_or_default());
    let detector = &looks["detectors"][0];
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    assert!(count(&detector["detections"]["square"]) > 5, "the square is not seen: {looks:#}");
    assert!(count(&detector["still"]) > 60, "three quarters of the looks need nobody: {looks:#}");
    // 12 key frames, and 12 of 15 pictures of the seconds in which something moves or just has; the model took its time to be
    // loaded at first.
    let decoded = count(&looks["decoded"]);
    assert!(decoded * 10 < frames * 6, "{decoded} of {frames} pictures are decoded: {looks:#}");
    agent::note(&format!(
        "{decoded} of {frames} pictures decoded at 5 looks a second, where nothing moves for 3/4 of it"
    ));
    rig.stop().await;
}

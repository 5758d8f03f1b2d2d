//! Cameras that send what no camera should: each is named, none takes anything from the one that is well.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::media::{self, Clip};
use crate::harness::rig::{camera, looping};
use crate::harness::{PATIENCE, Rig, Scratch};

/// A raw H.264 clip.
async fn clip(scratch: &Scratch, name: &str, size: &str, rate: u32, seconds: u32) -> PathBuf {
    let path = scratch.join(name);
    let source = format!("testsrc2=size={size}:rate={rate}");
    let (length, file) = (seconds.to_string(), path.to_string_lossy().into_owned());
    let parameters = format!("keyint={rate}:min-keyint={rate}:scenecut=0:repeat-headers=1");
    let mut arguments = vec!["-v", "error", "-y", "-f", "lavfi", "-i", &source, "-t", &length, "-c:v", "libx264"];
    arguments.extend(["-preset", "ultrafast", "-bf", "0", "-x264-params", &parameters, "-pix_fmt", "yuv420p", &file]);
    media::tool("ffmpeg", &arguments).await;
    path
}

fn stream(name: &str, path: &Path, rate: u32) -> Value {
    let mut camera = camera(
        name,
        "elementary_stream",
        json!({ "path": path, "frame_rate": rate, "loop": true, "frame_timeout": "3s" }),
    );
    camera["upload"] = Value::Null;
    camera
}

/// The same clip with every SPS made unreadable.
fn without_sense(clip: &Path, scratch: &Scratch) -> PathBuf {
    let mut bytes = std::fs::read(clip).expect("a clip");
    for at in 0..bytes.len().saturating_sub(12) {
        if bytes[at..at + 4] == [0, 0, 1, 0x67] {
            bytes[at + 4..at + 12].fill(0xff);
        }
    }
    scratch.write("no-sense.h264", bytes)
}

fn resident_mib(pid: rustix::process::Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") >> 10
}

#[tokio::test]
async fn none_harms_another() {
    let scratch = Scratch::new("odd-clips");
    let tiny = clip(&scratch, "tiny.h264", "16x2", 15, 2).await;
    let huge = clip(&scratch, "huge.h264", "7680x4320", 1, 3).await;
    let fast = clip(&scratch, "fast.h264", "320x180", 1000, 2).await;
    let (small, large) =
        (clip(&scratch, "small.h264", "160x90", 5, 1).await, clip(&scratch, "large.h264", "320x180", 5, 1).await);
    // Other parameter sets with every GOP.
    let both = [std::fs::read(&small).expect("a clip"), std::fs::read(&large).expect("a clip")].concat();
    let turns = scratch.write("turns.h264", both);
    let no_sense = without_sense(&small, &scratch);
    let zeros = scratch.write("zeros.h264", vec![0; 1 << 20]);
    let good = Clip::new(10).file().await;
    let cameras = vec![
        looping("good", &good),
        stream("tiny", &tiny, 15),
        stream("huge", &huge, 1),
        stream("fast", &fast, 240),
        stream("turns", &turns, 5),
        stream("no-sense", &no_sense, 5),
        stream("zeros", &zeros, 15),
    ];
    let mut rig = Rig::new("odd", cameras).await;
    rig.start();
    for (name, width) in [("tiny", 16), ("huge", 7680), ("fast", 320)] {
        let is_so = |report: &Value| report["state"] == "streaming" && report["video"]["width"] == width;
        rig.agent().until(name, "streaming as it is", PATIENCE, is_so).await;
    }
    rig.agent().until("turns", "several sizes", PATIENCE, |report| report["gops"].as_u64() >= Some(8)).await;
    for (name, words) in [("no-sense", &["SPS", "H.264", "parameter"][..]), ("zeros", &["H.264", "picture"])] {
        let is_named = |report: &Value| {
            report["state"] != "streaming"
                && report["error"].as_str().is_some_and(|error| words.iter().any(|word| error.contains(word)))
        };
        rig.agent().until(name, "named", PATIENCE, is_named).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let used = resident_mib(rig.agent().pid());
    assert!(used < 200, "{used} MiB");
    let report = rig.agent().report("good").await.expect("a report");
    assert_eq!((&report["lost"]["late"], &report["lost"]["skipped_to_idr"]), (&json!(0), &json!(0)), "{report:#}");
    rig.stop_and_compare(&["good"]).await;
}

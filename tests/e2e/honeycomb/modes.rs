//! Modes, settings and reboots.

use serde_json::json;

use super::receiver::Receiver;
use super::{Platform, STREAM, drawn};
use crate::harness::footage::segments;
use crate::harness::{PATIENCE, http, poll};

impl Platform {
    async fn mode(&mut self, mode: &str) {
        self.say("system/setmode", json!({ "mode": mode, "type": "NA", "durationMinutes": "NA" })).await;
        self.hear("message/hive-cam/camera/state", |report| report["mode"] == mode).await;
    }

    fn archive_bytes(&self) -> u64 {
        let sizes = segments(&self.rig.archive("cam1")).into_iter().filter_map(|path| path.metadata().ok());
        sizes.map(|data| data.len()).sum()
    }
}

#[tokio::test]
async fn modes() {
    let mut platform = Platform::new("hive-modes", drawn()).await;
    platform.start().await;
    platform.hear("message/hive-cam/camera/state", |report| report["mode"] == "ARMED").await;
    let mut receiver = Receiver::new("user1@host-1").await;
    platform.play(STREAM, &receiver.sdp()).await;
    receiver.packet().await;
    platform.hear_activity("start", STREAM).await;
    // It can be watched, and nothing is recorded.
    platform.mode("LIVESTREAMONLY").await;
    platform.rig.agent().more_frames("cam1", 30).await;
    let bytes = platform.archive_bytes();
    platform.rig.agent().more_frames("cam1", 60).await;
    assert_eq!(platform.archive_bytes(), bytes, "the archive does not grow");
    let live = platform.get("/streams/cam1").await["stream"]["live"].clone();
    assert_eq!(live["state"], "active", "{live:#}");
    // It cannot be watched either.
    platform.mode("PRIVACY").await;
    receiver.goodbye().await;
    platform.hear_activity("stop", STREAM).await;
    let answer = http::get(platform.rig.port, "/streams/cam1").await.expect("an answer");
    assert_eq!(answer.status, 404, "{}", answer.body);
    platform.play("in-private", &receiver.sdp()).await;
    let stopped = platform.hear_activity("stop", "in-private").await;
    assert!(stopped["reason"].as_str().is_some_and(|reason| reason.contains("switched off")), "{stopped:#}");
    // Asked for again, told again; and it lasts.
    platform.mode("PRIVACY").await;
    platform.rig.stop().await;
    platform.rig.start();
    platform.hear("message/hive-cam/camera/state", |report| report["mode"] == "PRIVACY").await;
    platform.mode("ARMED").await;
    platform.rig.agent().more_frames("cam1", 60).await;
    let grown = poll(PATIENCE, async || (platform.archive_bytes() > bytes).then_some(())).await;
    assert!(grown.is_some(), "it records again");
    platform.rig.stop().await;
}

/// What our encoder has is set; the rest is said to be missing.
#[tokio::test]
async fn settings() {
    let mut platform = Platform::new("hive-settings", drawn()).await;
    platform.start().await;
    let values = json!({ "resolution": "320x180", "fps": 5, "bitrate": 300, "night_vision": "auto" });
    platform.say("settings/update", json!({ "settings": values })).await;
    let is_small = |report: &serde_json::Value| report["video"]["width"] == 320;
    platform.rig.agent().until("cam1", "320 pixels wide", PATIENCE, is_small).await;
    platform.logged("night_vision", 1).await;
    platform.say("settings/update", json!({ "fps": 9000 })).await;
    platform.logged("the frame rate must be 1 to 60", 1).await;
    platform.say("settings/update", json!({ "fps": "fast" })).await;
    platform.logged("settings of the platform are refused", 1).await;
    platform.say("settings/nightvision", json!({ "settings": { "night_vision": "off" } })).await;
    platform.logged("NightVision", 1).await;
    platform.rig.agent().more_frames("cam1", 5).await;
    platform.rig.stop().await;
}

/// A reboot that is delivered again has been done.
#[tokio::test]
async fn a_reboot_is_done_once() {
    let mut platform = Platform::new("hive-reboot", drawn()).await;
    platform.start().await;
    let receiver = &mut Receiver::new("user1@host-1").await;
    platform.play(STREAM, &receiver.sdp()).await;
    receiver.packet().await;
    let reboot = json!({ "reason": "web_interface" });
    platform.say_as("restore_56C1_1736677230", "system/reboot", reboot.clone()).await;
    receiver.goodbye().await;
    platform.logged("edgecam starts", 2).await;
    platform.hear("connection/hive-cam", |report| report["status"] == "connected").await;
    platform.logged("what the platform asked for before the restart", 1).await;
    for _ in 0..3 {
        platform.say_as("restore_56C1_1736677230", "system/reboot", reboot.clone()).await;
    }
    platform.rig.agent().more_frames("cam1", 45).await;
    assert_eq!(platform.rig.agent().log_count("edgecam starts"), 2);
    platform.say_as("restore_56C1_1736677231", "system/reboot", reboot).await;
    platform.logged("edgecam starts", 3).await;
    platform.hear("connection/hive-cam", |report| report["status"] == "connected").await;
    platform.rig.agent().more_frames("cam1", 5).await;
    platform.rig.stop().await;
}

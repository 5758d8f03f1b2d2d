//! Disks that are full, small, read-only or away: capture and live upload go on, and the status says what is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::harness::footage::{archived, assert_stored, assert_well_behaved, segments, stored};
use crate::harness::media::Clip;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig, agent};

/// A file system in RAM, if this user may mount one.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).expect("a directory");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).stderr(Stdio::null());
        let is_mounted = geteuid().is_root() && command.status().is_ok_and(|status| status.success());
        if !is_mounted {
            agent::note("not run: mounting needs root");
        }
        is_mounted.then_some(Self(path))
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "remount {options}");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there does not keep it from going.
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

/// About 125 kB a second.
async fn rig(test: &str, archive: Value) -> Rig {
    let clip = Clip { noise: Some(1_000_000), ..Clip::new(6) }.file().await;
    let mut rig = Rig::new(test, vec![looping("cam1", &clip)]).await;
    let settings = rig.config["cameras"][0]["archive"].as_object_mut().expect("an object");
    settings.extend(archive.as_object().expect("an object").clone());
    rig
}

fn bytes(directory: &Path) -> u64 {
    segments(directory).iter().map(|segment| std::fs::metadata(segment).map_or(0, |metadata| metadata.len())).sum()
}

/// Live upload goes on, and all that came since the start of the run is there: nothing is skipped.
async fn assert_live(rig: &Rig) {
    rig.more_persisted("cam1", 4).await;
    rig.caught_up("cam1", PATIENCE).await;
    let record = rig.kvs.stream("cam1");
    assert_well_behaved(&record);
    let times: Vec<i64> = stored(&record).iter().map(|(packet, _)| packet.ms).collect();
    let gaps: Vec<_> = times.windows(2).filter(|pair| pair[1] - pair[0] > 1_000).collect();
    assert!(gaps.is_empty(), "the stream has gaps: {gaps:?}");
}

fn recorder_is(status: &'static str) -> impl Fn(&Value) -> bool {
    move |report| report["archive"]["recorder_status"] == status
}

/// A quota: the oldest goes, what was not uploaded last.
#[tokio::test]
async fn delete_oldest_media() {
    let limit = 1_500_000;
    let mut rig = rig("oldest", json!({ "segment": "2s", "max_size": limit, "on_full": "delete_oldest_media" })).await;
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    let directory = rig.archive("cam1");
    rig.agent().more_frames("cam1", 60).await;
    let first = segments(&directory).remove(0);
    rig.agent().until("cam1", "rid of its first segment", PATIENCE, |_| !first.exists()).await;
    rig.agent().more_frames("cam1", 150).await;
    assert_live(&rig).await;
    // Space is looked at every 10 s, and the open segment stays.
    let most = limit + 12 * 150_000;
    assert!(bytes(&directory) < most, "{} bytes", bytes(&directory));
    rig.stop_and_compare(&["cam1"]).await;
}

/// A quota with nothing to be deleted: recording pauses, the status says so, the live upload goes on.
#[tokio::test]
async fn deny_new_media() {
    let mut rig = rig("deny", json!({ "segment": "2s", "max_size": 600_000, "on_full": "deny_new_media" })).await;
    rig.start();
    let report = rig.agent().until("cam1", "full", PATIENCE, recorder_is("USER_ERROR")).await;
    assert!(report["archive"]["details"].as_str().is_some_and(|details| details.contains("full")), "{report:#}");
    let first = segments(&rig.archive("cam1")).remove(0);
    let held = bytes(&rig.archive("cam1"));
    assert_live(&rig).await;
    assert!(first.exists(), "nothing is deleted");
    assert!(bytes(&rig.archive("cam1")) <= held + 300_000, "nothing new is recorded");
    let health = crate::harness::http::get(rig.port, "/health").await.expect("an answer");
    assert_eq!((health.status, health.json()["status"].clone()), (503, json!("degraded")));
    rig.stop().await;
}

/// What is too old goes.
#[tokio::test]
async fn max_age() {
    let mut rig = rig("age", json!({ "segment": "2s", "max_age": "6s" })).await;
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", 45).await;
    let directory = rig.archive("cam1");
    let first = segments(&directory).remove(0);
    rig.agent().until("cam1", "rid of its first segment", PATIENCE, |_| !first.exists()).await;
    let oldest = crate::harness::footage::started(&segments(&directory)[0]);
    let age = jiff::Timestamp::now().as_millisecond() - oldest;
    // A segment goes when its end is too old; age is looked at every 10 s.
    assert!(age < 21_000, "the oldest segment began {age} ms ago");
    assert_live(&rig).await;
    rig.stop_and_compare(&["cam1"]).await;
}

/// What is persisted goes from the disk, and only that.
#[tokio::test]
async fn delete_after_upload() {
    let mut rig = rig("after-upload", json!({ "segment": "2s", "delete_after_upload": true })).await;
    rig.kvs.stop().await.expect("stopped");
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", 180).await;
    let directory = rig.archive("cam1");
    let kept = segments(&directory);
    assert!(kept.len() >= 4, "nothing goes while the service is away: {kept:?}");
    let before = archived(&directory).await;
    rig.kvs.restart().expect("restarted");
    let last = &kept[kept.len() - 2];
    rig.agent().until("cam1", "rid of what is stored", PATIENCE, |_| !last.exists()).await;
    rig.caught_up("cam1", PATIENCE).await;
    rig.stop().await;
    let record = rig.kvs.stream("cam1");
    assert_well_behaved(&record);
    assert_stored(&before, &record);
}

/// A disk without any room left: the oldest makes room when that is allowed.
#[tokio::test]
async fn a_small_disk() {
    let mut rig = rig("small", json!({ "segment": "2s", "min_free": "1 MiB" })).await;
    let Some(disk) = Tmpfs::mount(rig.scratch.join("disk"), "size=4m") else { return };
    rig.config["cameras"][0]["archive"]["directory"] = json!(disk.0);
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", 60).await;
    let first = segments(&disk.0).remove(0);
    rig.agent().until("cam1", "rid of its first segment", PATIENCE, |_| !first.exists()).await;
    rig.agent().more_frames("cam1", 300).await;
    rig.agent().until("cam1", "recording", PATIENCE, recorder_is("SUCCESS")).await;
    assert_live(&rig).await;
    rig.stop_and_compare(&["cam1"]).await;
}

/// A disk that someone else fills up.
#[tokio::test]
async fn no_space_left() {
    let mut rig = rig("full", json!({ "segment": "2s", "min_free": 0, "on_full": "deny_new_media" })).await;
    let Some(disk) = Tmpfs::mount(rig.scratch.join("disk"), "size=80m") else { return };
    rig.config["cameras"][0]["archive"]["directory"] = json!(disk.0);
    rig.start();
    rig.more_persisted("cam1", 2).await;
    let ballast = disk.0.join("ballast");
    let mut fill = Command::new("dd");
    fill.args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", ballast.display())).stderr(Stdio::null());
    fill.status().expect("dd runs");
    let is_failing = |report: &Value| report["archive"]["recorder_status"] != "SUCCESS";
    let report = rig.agent().until("cam1", "out of space", PATIENCE, is_failing).await;
    assert!(report["archive"]["details"].is_string(), "{report:#}");
    assert_live(&rig).await;
    std::fs::remove_file(&ballast).expect("it goes");
    rig.agent().until("cam1", "recording again", PATIENCE, recorder_is("SUCCESS")).await;
    let before = segments(&disk.0).len();
    rig.agent().until("cam1", "at the next segment", PATIENCE, |_| segments(&disk.0).len() > before).await;
    rig.caught_up("cam1", PATIENCE).await;
    rig.stop_and_compare(&["cam1"]).await;
}

/// A disk that becomes read-only, as flash does when it is worn out, and is mended.
#[tokio::test]
async fn read_only() {
    let mut rig = rig("read-only", json!({ "segment": "2s" })).await;
    let Some(disk) = Tmpfs::mount(rig.scratch.join("disk"), "size=64m") else { return };
    rig.config["cameras"][0]["archive"]["directory"] = json!(disk.0.join("cam1"));
    // From the start on.
    disk.remount("ro");
    rig.start();
    rig.more_persisted("cam1", 2).await;
    let report = rig.agent().until("cam1", "without a disk", PATIENCE, recorder_is("SYSTEM_ERROR")).await;
    let details = report["archive"]["details"].as_str().unwrap_or_default();
    assert!(details.contains("disk/cam1") && details.contains("ead-only"), "{details}");
    assert_live(&rig).await;
    rig.stop().await;
    // In the middle: there are open files, so the directory is replaced by a file.
    disk.remount("rw");
    rig.start();
    rig.more_persisted("cam1", 3).await;
    let directory = disk.0.join("cam1");
    let away = disk.0.join("away");
    std::fs::rename(&directory, &away).expect("it is moved");
    std::fs::write(&directory, "not a directory").expect("a file");
    rig.agent().until("cam1", "failing", PATIENCE, recorder_is("SYSTEM_ERROR")).await;
    rig.more_persisted("cam1", 4).await;
    std::fs::remove_file(&directory).expect("it goes");
    std::fs::rename(&away, &directory).expect("it is back");
    rig.agent().until("cam1", "recording again", PATIENCE, recorder_is("SUCCESS")).await;
    rig.caught_up("cam1", Duration::from_secs(90)).await;
    rig.stop_and_compare(&["cam1"]).await;
}

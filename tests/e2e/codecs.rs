//! H.265 beyond its sources: what takes it, and what says that it does not.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::footage::{archived, archived_pictures};
use crate::harness::media::Clip;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig, http, poll};

/// What the service missed is read from the archive and sent, as it was.
#[tokio::test]
async fn h265_is_uploaded_from_disk_after_an_outage() {
    let clip = Clip { h265: true, ..Clip::new(10) }.file().await;
    let mut rig = Rig::new("h265-outage", vec![looping("cam1", &clip)]).await;
    rig.config["cameras"][0]["ring"] = json!("64 KiB");
    rig.start();
    rig.more_persisted("cam1", 3).await;
    rig.kvs.stop().await.expect("stopped");
    let (began, down) = (Instant::now(), Duration::from_secs(12));
    poll(down, async || (began.elapsed() >= down).then_some(())).await.expect("time passes");
    let report = rig.agent().report("cam1").await.expect("a report");
    assert!(report["video"]["codec"].as_str().is_some_and(|codec| codec.starts_with("hvc1.1.6.L")), "{report:#}");
    rig.kvs.restart().expect("restarted");
    rig.caught_up("cam1", PATIENCE).await;
    rig.stop_and_compare(&["cam1"]).await;
    let pictures = archived_pictures(&rig.archive("cam1")).await;
    assert_eq!(pictures.len(), archived(&rig.archive("cam1")).await.len());
}

/// Nothing decodes it: a snapshot is refused by name.
#[tokio::test]
async fn a_snapshot_of_h265_is_refused() {
    let clip = Clip { h265: true, ..Clip::new(10) }.file().await;
    let mut rig = Rig::new("h265-snapshot", vec![looping("cam1", &clip)]).await;
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", 15).await;
    let answer = http::get(rig.port, "/streams/cam1/snapshot.jpg").await.expect("an answer");
    assert!(answer.status >= 400 && answer.body.contains("H.265"), "{} {}", answer.head, answer.body);
}

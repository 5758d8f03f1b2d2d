//! What is uploaded when: live footage before history, at set times, and what an earlier run has left.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::footage::{archived, assert_stored, assert_well_behaved, segments};
use crate::harness::media::Clip;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig, poll};

/// After an outage live footage comes first, and then all that was missed.
#[tokio::test]
async fn live_first() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("live-first", vec![looping("cam1", &clip)]).await;
    rig.config["cameras"][0]["upload"] = json!({ "stream": "cam1", "order": "live_first", "max_lag": "6s" });
    rig.start();
    rig.more_persisted("cam1", 3).await;
    for outage in 1..=2 {
        rig.kvs.stop().await.expect("stopped");
        let down = Instant::now();
        poll(PATIENCE, async || (down.elapsed() > Duration::from_secs(15)).then_some(())).await.expect("time passes");
        let before = rig.kvs.stream("cam1").fragments.len();
        let report = rig.agent().report("cam1").await.expect("a report");
        rig.kvs.restart().expect("restarted");
        rig.agent()
            .until("cam1", "ahead of its history", PATIENCE, |report| report["upload"]["history_gaps"] != 0)
            .await;
        rig.more_persisted("cam1", 3).await;
        let latest: jiff::Timestamp = report["latest"].as_str().and_then(|text| text.parse().ok()).expect("a time");
        let record = rig.kvs.stream("cam1");
        let first: Vec<i64> = record.fragments[before..].iter().map(|fragment| fragment.timecode).collect();
        // One GOP may have been on its way when the lag was noticed.
        let is_live = first[1..3].iter().all(|timecode| *timecode > latest.as_millisecond() - 1_500);
        assert!(is_live, "outage {outage}: {first:?} do not begin with what was live at {latest}");
        if outage == 1 {
            rig.agent().until("cam1", "caught up", PATIENCE, |report| report["upload"]["history_gaps"] == 0).await;
        } else {
            // A crash in the middle of it: what was put off is not forgotten.
            rig.agent.as_mut().expect("it runs").kill();
            rig.start();
        }
    }
    rig.agent().until("cam1", "at its history", PATIENCE, |report| report["upload"]["history_gaps"] != 0).await;
    rig.agent().until("cam1", "done with it", PATIENCE, |report| report["upload"]["history_gaps"] == 0).await;
    rig.caught_up("cam1", PATIENCE).await;
    rig.stop_and_compare(&["cam1"]).await;
}

/// A schedule: nothing before its time, and from its time on.
#[tokio::test]
async fn schedule() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("schedule", vec![looping("cam1", &clip)]).await;
    let begins = jiff::Timestamp::now() + Duration::from_secs(12);
    let cron = begins.to_zoned(jiff::tz::TimeZone::UTC).strftime("%S %M %H * * *").to_string();
    let schedule = json!([{ "cron": cron, "duration": "1m" }]);
    rig.config["cameras"][0]["upload"] = json!({ "stream": "cam1", "mode": "schedule", "schedule": schedule });
    rig.start();
    rig.agent().more_frames("cam1", 30).await;
    assert_eq!(rig.kvs.stream("cam1").fragments.len(), 0, "nothing is uploaded before {cron}");
    rig.more_persisted("cam1", 3).await;
    let begins = begins.as_second() * 1_000;
    let record = rig.kvs.stream("cam1");
    let first = record.fragments.first().map(|fragment| fragment.timecode).expect("a fragment");
    // The GOP that was being shown at that time is the first.
    assert!((-1_100..=1_000).contains(&(first - begins)), "{first} is not {begins}");
    rig.stop().await;
    assert_well_behaved(&rig.kvs.stream("cam1"));
}

/// The disk is not there at the start, as when it is mounted late, and comes later: what an earlier run had not sent is
/// sent, what was in RAM is recorded, and nothing needs a restart.
#[tokio::test]
async fn a_disk_that_comes_late() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("late-disk", vec![looping("cam1", &clip)]).await;
    rig.kvs.stop().await.expect("stopped");
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", 75).await;
    rig.stop().await;
    let (directory, away) = (rig.archive("cam1"), rig.scratch.join("away"));
    let earlier = segments(&directory).len();
    std::fs::rename(&directory, &away).expect("it is moved");
    std::fs::write(&directory, "not a directory").expect("a file");
    rig.kvs.restart().expect("restarted");
    rig.start();
    let failed = |report: &serde_json::Value| report["archive"]["recorder_status"] == "SYSTEM_ERROR";
    rig.agent().until("cam1", "without a disk", PATIENCE, failed).await;
    rig.more_persisted("cam1", 3).await;
    std::fs::remove_file(&directory).expect("it goes");
    std::fs::rename(&away, &directory).expect("it is back");
    let records = |report: &serde_json::Value| report["archive"]["recorder_status"] == "SUCCESS";
    rig.agent().until("cam1", "recording", PATIENCE, records).await;
    rig.agent().until("cam1", "at its next segment", PATIENCE, |_| segments(&directory).len() > earlier).await;
    rig.agent().more_frames("cam1", 30).await;
    rig.agent().until("cam1", "done with history", PATIENCE, |report| report["upload"]["history_gaps"] == 0).await;
    rig.caught_up("cam1", PATIENCE).await;
    let report = rig.agent().report("cam1").await.expect("a report");
    rig.stop().await;
    let archived = archived(&directory).await;
    // The first picture of the second run is on disk although it was taken before there was one.
    let second = report["frames"].as_u64().expect("a count");
    assert!(
        archived.len() as u64 >= second + 75,
        "{} pictures on disk, {second} of them of the second run",
        archived.len()
    );
    let record = rig.kvs.stream("cam1");
    assert_well_behaved(&record);
    let (_, twice) = assert_stored(&archived, &record);
    assert!(twice <= 30, "{twice} pictures were sent twice");
}

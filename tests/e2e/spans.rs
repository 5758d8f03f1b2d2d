//! When a camera runs, and when what it has recorded may be uploaded.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::footage::{archived, stored};
use crate::harness::media::Clip;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig};

/// A camera outside its span is not connected; outside the uploader's span footage waits, and goes when that opens.
#[tokio::test]
async fn spans_of_recording_and_uploading() {
    let clip = Clip::new(10).file().await;
    let never = json!([{ "cron": "0 0 29 2 *", "duration": "1m" }]);
    let always = json!([{ "cron": "* * * * *", "duration": "2m" }]);
    let mut rig = Rig::new("spans", vec![looping("day", &clip), looping("night", &clip)]).await;
    rig.config["cameras"][0]["schedule"] = always.clone();
    rig.config["cameras"][0]["upload"] = json!({ "stream": "day", "mode": "window", "schedule": never });
    rig.config["cameras"][1]["schedule"] = never;
    rig.start();
    rig.agent().until("night", "off", PATIENCE, |report| report["state"] == "off_schedule").await;
    rig.agent().until("day", "streaming", PATIENCE, |report| report["state"] == "streaming").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(stored(&rig.kvs.stream("day")).is_empty(), "nothing goes before its time");
    rig.config["cameras"][0]["upload"]["schedule"] = always;
    rig.write_config();
    rig.agent().signal(Signal::HUP);
    rig.more_persisted("day", 3).await;
    rig.caught_up("day", PATIENCE).await;
    rig.stop_and_compare(&["day"]).await;
    let kept = archived(&rig.archive("day")).await;
    assert!(kept.len() > 50, "what waited is there too: {}", kept.len());
    assert!(stored(&rig.kvs.stream("night")).is_empty());
}

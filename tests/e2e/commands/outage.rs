//! A broker that is not there, or comes and goes: recording and upload do not notice, reports wait.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Fleet;
use crate::harness::media::Clip;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, is_long, poll};

#[tokio::test]
async fn a_broker_that_comes_and_goes() {
    let clip = Clip::new(10).file().await;
    let mut fleet = Fleet::new("cmd-broker", vec![looping("cam1", &clip)]).await;
    // Nobody there at the start: the camera is recorded and uploaded all the same.
    fleet.broker.stop();
    fleet.rig.start();
    fleet.rig.more_persisted("cam1", 3).await;
    fleet.broker.start_again().await;
    fleet.hear("edgecam/e2e/status", |status| status["status"] == "online").await;
    // Five minutes with EDGECAM_LONG=1. Connections that end again and again within 20 s are taken for another client of
    // the same name, and the agent would stand back.
    let (rounds, up, down) = if is_long() { (10, 21, 9) } else { (3, 1, 4) };
    for round in 0..rounds {
        pass(up).await;
        let asked = fleet.ask(Some("cam1"), "status", json!({})).await;
        assert_eq!(asked["status"], "done", "round {round}: {asked:#}");
        let connections = fleet.rig.agent().log_count("MQTT: connected");
        if round % 2 == 0 {
            fleet.broker.kill()
        } else {
            fleet.broker.stop()
        }
        pass(down).await;
        fleet.broker.start_again().await;
        let is_back = async || (fleet.rig.agent().log_count("MQTT: connected") > connections).then_some(());
        poll(PATIENCE, is_back).await.expect("the agent connects again");
        // mosquitto_sub gives up when a broker dies without a word.
        fleet.heard = fleet.broker.listen("edgecam/e2e/#").await;
        // What is said when it is back is right.
        fleet.hear("edgecam/e2e/cam1/status", |status| status["state"] == "streaming").await;
    }
    fleet.rig.caught_up("cam1", PATIENCE).await;
    let report = fleet.rig.agent().report("cam1").await.expect("a report");
    assert_eq!(report["upload"]["sessions"], 1, "the upload has not noticed: {report:#}");
    fleet.rig.stop_and_compare(&["cam1"]).await;
}

async fn pass(seconds: u64) {
    let until = Instant::now() + Duration::from_secs(seconds);
    poll(PATIENCE, async || (Instant::now() >= until).then_some(())).await.expect("time passes");
}

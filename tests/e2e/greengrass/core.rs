//! AWS IoT by way of the nucleus: the same commands and reports as over a broker. And deployments that wait.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::harness::rig::camera;

/// A camera that is uploaded when somebody asks.
fn on_demand(name: &str) -> Value {
    let source = json!({ "width": 320, "height": 180, "frame_rate": 10, "bitrate": 100_000 });
    let mut camera = camera(name, "test_pattern", source);
    camera["upload"]["mode"] = json!("on_demand");
    camera["archive"]["segment"] = json!("2s");
    camera
}

async fn core(test: &str) -> Core {
    let mut core = Core::new(test, vec![on_demand("cam1")]).await;
    core.rig.config["mqtt"] = json!({ "endpoint": "greengrass", "heartbeat": "10s" });
    core.nucleus.configure(core.rig.config.clone());
    core.start();
    core.nucleus.heard("edgecam/e2e/status", |status| status["status"] == "online").await;
    core.rig.agent().until_state("cam1", "streaming").await;
    core
}

#[tokio::test]
async fn commands_and_reports() {
    let mut core = core("gg-commands").await;
    core.nucleus.heard("edgecam/e2e/cam1/status", |status| status["state"] == "streaming").await;
    let retained = core.nucleus.calls("PublishToIoTCore");
    assert!(retained.iter().all(|request| request["retain"] == true), "states are retained");
    core.nucleus.say("edgecam/e2e/cam1/cmd/live", br#"{"requestId":"a","seconds":60}"#);
    let reply = core.nucleus.heard("edgecam/e2e/cam1/reply/a", |reply| reply["status"] == "done").await;
    assert_eq!(reply["result"]["stream"], "cam1");
    core.rig.more_persisted("cam1", 2).await;
    core.nucleus.say("edgecam/e2e/cam1/cmd/snapshot", br#"{"requestId":"b","maxWidth":160}"#);
    let reply = core.nucleus.heard("edgecam/e2e/cam1/reply/b", |reply| reply["status"] == "done").await;
    let jpeg = STANDARD.decode(reply["result"]["data"].as_str().expect("a picture")).expect("Base64");
    assert!(jpeg.starts_with(&[0xff, 0xd8]));
    core.nucleus.say("edgecam/e2e/cam1/record/set", b"OFF");
    core.nucleus.heard("edgecam/e2e/cam1/record/state", |state| state == "OFF").await;
    core.nucleus.say("edgecam/e2e/cmd/explode", br#"{"requestId":"c"}"#);
    core.nucleus.heard("edgecam/e2e/reply/c", |reply| reply["status"] == "rejected").await;
    let health = http::get(core.rig.port, "/health").await.expect("an answer").json();
    assert_eq!(health["mqtt"]["state"], "connected", "{health:#}");
    core.rig.stop().await;
    core.nucleus.heard("edgecam/e2e/status", |status| status["status"] == "stopped").await;
    core.nucleus.assert_well_behaved();
}

/// The nucleus is gone, or has no way to AWS IoT itself: nothing is lost, nothing stops.
#[tokio::test]
async fn outages() {
    let mut core = core("gg-outage").await;
    core.nucleus.stop().await;
    core.until("disconnected", |status| status["state"] == "disconnected").await;
    let command = |id: &str, on: bool| json!({ "requestId": id, "on": on });
    let frames = core.rig.agent().more_frames("cam1", 10).await;
    assert_eq!(frames["state"], "streaming");
    core.nucleus.state().calls.clear();
    core.nucleus.start_again();
    // All that is known of is made again.
    core.nucleus.subscribed("SubscribeToIoTCore", 3).await;
    core.nucleus.subscribed("SubscribeToConfigurationUpdate", 1).await;
    core.nucleus.heard("edgecam/e2e/status", |status| status["status"] == "online").await;

    // Offline, as nucleus lite says it: it keeps nothing, so we do.
    core.nucleus.state().instead.insert("PublishToIoTCore", Instead::Offline);
    core.nucleus.say("edgecam/e2e/cam1/cmd/record", command("off-1", false).to_string().as_bytes());
    let waiting = poll(PATIENCE, async || {
        let health = http::get(core.rig.port, "/health").await.ok()?.json();
        (health["mqtt"]["waiting"].as_u64() >= Some(1)).then_some(health)
    });
    let health = waiting.await.expect("the reply waits");
    assert_eq!(health["mqtt"]["dropped"], 0);
    core.nucleus.state().calls.clear();
    core.nucleus.state().instead.clear();
    core.nucleus.heard("edgecam/e2e/cam1/reply/off-1", |reply| reply["status"] == "done").await;
    core.rig.stop().await;
    core.nucleus.assert_well_behaved();
}

/// Nucleus lite closes the connection over a large message without a word: that one is left out, the rest goes on.
#[tokio::test]
async fn what_is_too_large_for_nucleus_lite() {
    let mut core = core("gg-large").await;
    core.nucleus.state().is_lite = true;
    core.nucleus.say("edgecam/e2e/cam1/cmd/snapshot", br#"{"requestId":"big","maxWidth":8192}"#);
    let told = poll(PATIENCE, async || {
        let health = http::get(core.rig.port, "/health").await.ok()?.json();
        health["mqtt"]["error"].as_str().filter(|error| error.contains("more than this nucleus takes"))?;
        Some(())
    });
    assert!(told.await.is_some(), "{}", core.rig.agent().log_tail());
    core.nucleus.subscribed("SubscribeToIoTCore", 3).await;
    core.nucleus.say("edgecam/e2e/cam1/cmd/keyframe", br#"{"requestId":"after"}"#);
    core.nucleus.heard("edgecam/e2e/cam1/reply/after", |reply| reply["status"] == "done").await;
    core.rig.stop().await;
    core.nucleus.assert_well_behaved();
}

/// A deployment waits while a range is being uploaded, and for nothing else.
#[tokio::test]
async fn deployments_wait_for_what_is_being_finished() {
    let mut core = core("gg-defer").await;
    core.nucleus.subscribed("SubscribeToComponentUpdates", 1).await;
    let answer = core.nucleus.pre_update("d-1").await;
    assert_eq!(answer["recheckAfterMs"], 0, "{answer}");
    core.rig.agent().more_frames("cam1", 20).await;
    // A range that ends in the future is uploaded until then.
    let now = jiff::Timestamp::now().as_millisecond();
    let range = json!({ "requestId": "r", "start": now - 2_000, "end": now + 6_000 });
    core.nucleus.say("edgecam/e2e/cam1/cmd/upload", range.to_string().as_bytes());
    core.nucleus.heard("edgecam/e2e/cam1/reply/r", |reply| reply["status"] == "accepted").await;
    let answer = core.nucleus.pre_update("d-2").await;
    assert!(answer["recheckAfterMs"].as_u64() > Some(0), "{answer}");
    assert!(answer["message"].as_str().is_some_and(|why| why.contains("a range of `cam1`")), "{answer}");
    core.nucleus.heard("edgecam/e2e/cam1/reply/r", |reply| reply["status"] == "done").await;
    let answer = core.nucleus.pre_update("d-2").await;
    assert_eq!(answer["recheckAfterMs"], 0, "{answer}");
    assert_eq!(core.until("told", |_| true).await["deferred"], 1);
    core.rig.stop().await;
    core.nucleus.assert_well_behaved();
}

//! The component's configuration: at the start, changed while it runs, judged beforehand, in storms.

use super::*;
use crate::harness::footage::archived;

#[tokio::test]
async fn from_the_nucleus_and_back_again() {
    let mut core = Core::new("gg-config", vec![drawn("cam1")]).await;
    // As the classic nucleus keeps numbers, and with what is the nucleus's.
    let mut configuration = core.rig.config.clone();
    configuration["cameras"][0]["test_pattern"]["width"] = json!(320.0);
    configuration["accessControl"] = json!({ "aws.greengrass.ipc.mqttproxy": {} });
    core.nucleus.configure(configuration.clone());
    core.start();
    let report = core.rig.agent().until_state("cam1", "streaming").await;
    assert_eq!(report["video"]["width"], 320);
    core.nucleus.called("UpdateState", |request| request["state"] == "RUNNING").await;
    core.nucleus.subscribed("SubscribeToConfigurationUpdate", 1).await;

    // A deployment asks first.
    core.nucleus.subscribed("SubscribeToValidateConfigurationUpdates", 1).await;
    let mut better = configuration.clone();
    better["cameras"].as_array_mut().expect("a list").push(drawn("cam2"));
    let accepted = core.nucleus.validate("d-1", &better).await;
    assert_eq!((&accepted["status"], &accepted["message"]), (&json!("ACCEPTED"), &Value::Null), "{accepted}");
    let mut worse = configuration.clone();
    worse["cameras"][0]["test_patern"] = json!({});
    let rejected = core.nucleus.validate("d-2", &worse).await;
    assert_eq!(rejected["status"], "REJECTED");
    assert!(rejected["message"].as_str().is_some_and(|why| why.contains("did you mean `test_pattern`")), "{rejected}");

    // Then it is in force, without a restart.
    let pid = core.rig.agent().pid();
    core.nucleus.configure(better.clone());
    core.rig.agent().until_state("cam2", "streaming").await;
    // A nucleus that does not ask beforehand: what cannot be used changes nothing, and is said.
    core.nucleus.configure(worse);
    let status = core.until("refused", |status| status["config_refused"].is_string()).await;
    assert!(status["config_refused"].as_str().is_some_and(|why| why.contains("test_patern")), "{status:#}");
    core.rig.agent().more_frames("cam2", 10).await;
    let health = http::get(core.rig.port, "/health").await.expect("an answer");
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("degraded")));
    // As text.
    let text = serde_json::to_string(&json!({
        "state_dir": core.rig.config["state_dir"], "http": core.rig.config["http"], "cameras": [drawn("cam2")],
    }));
    core.nucleus.configure(json!({ "config": text.expect("JSON"), "accessControl": {} }));
    core.until("mended", |status| status["config_refused"].is_null()).await;
    let gone = poll(PATIENCE, async || core.rig.agent().report("cam1").await.is_none().then_some(()));
    assert!(gone.await.is_some(), "cam1 is still there");
    assert_eq!(core.rig.agent().pid(), pid);
    core.rig.stop().await;
    core.nucleus.assert_well_behaved();
}

/// What is in force outlives a nucleus that does not answer, or that has nothing usable to say.
#[tokio::test]
async fn at_the_start() {
    let mut core = Core::new("gg-start", vec![drawn("cam1")]).await;
    core.nucleus.configure(json!({ "cameras": [{ "name": "a b" }] }));
    core.start();
    let status = core.rig.agent.as_mut().expect("started").exit(PATIENCE).await;
    assert_eq!(status.code(), Some(78), "there is no config to run with");
    core.nucleus.called("UpdateState", |request| request["state"] == "ERRORED").await;
    assert!(core.rig.agent().log().contains("the component's configuration: "), "{}", core.rig.agent().log_tail());

    core.nucleus.configure(core.rig.config.clone());
    core.start();
    core.rig.agent().until_state("cam1", "streaming").await;
    core.rig.stop().await;

    // No nucleus: it runs with what it knows, and follows the nucleus when that is there.
    core.nucleus.stop().await;
    core.start();
    core.rig.agent().until_state("cam1", "streaming").await;
    let status = core.until("disconnected", |status| status["state"] == "disconnected").await;
    assert!(status["error"].as_str().is_some_and(|error| error.contains("ipc.socket")), "{status:#}");
    let mut other = core.rig.config.clone();
    other["cameras"] = json!([drawn("cam2")]);
    core.nucleus.configure(other);
    core.nucleus.start_again();
    core.rig.agent().until_state("cam2", "streaming").await;
    core.rig.stop().await;

    core.nucleus.configure(json!({ "cameras": 7 }));
    core.start();
    core.rig.agent().until_state("cam2", "streaming").await;
    core.until("refused", |status| status["config_refused"].is_string()).await;
    core.rig.stop().await;
    core.nucleus.assert_well_behaved();
}

/// 200 updates end in the last one; cameras they do not touch show no gap.
#[tokio::test]
async fn storm() {
    let mut core = Core::new("gg-storm", vec![drawn("still"), drawn("changed")]).await;
    core.start();
    core.rig.agent().until_state("still", "streaming").await;
    core.nucleus.subscribed("SubscribeToConfigurationUpdate", 1).await;
    let mut last = core.rig.config.clone();
    for round in 0..200 {
        last["cameras"][1]["test_pattern"]["width"] = json!(160 + 2 * round);
        core.nucleus.configure(last.clone());
        // 200 in 12 s: five times as fast as in a minute of them.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let width = 160 + 2 * 199;
    core.rig.agent().until("changed", "the last one", PATIENCE, |report| report["video"]["width"] == width).await;
    core.rig.agent().more_frames("still", 20).await;
    let status = core.until("quiet", |_| true).await;
    let configs = status["configs"].as_u64().expect("a number");
    assert!((2..=40).contains(&configs), "{configs} configs were applied: a storm is waited out, but not for ever");
    assert_eq!(status["config_refused"], Value::Null);
    core.rig.stop().await;
    let times: Vec<i64> = archived(&core.rig.archive("still")).await.iter().map(|packet| packet.ms).collect();
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(times.len() > 100 && gap < Some(1_500), "{} pictures, the largest gap {gap:?} ms", times.len());
    core.nucleus.assert_well_behaved();
}

//! What a nucleus does not support, does not allow, does late or never: off and said, and cameras go on.

use super::*;

/// Every operation besides the configuration, each refused in its way.
const OPERATIONS: [&str; 5] = [
    "SubscribeToConfigurationUpdate",
    "SubscribeToValidateConfigurationUpdates",
    "SubscribeToComponentUpdates",
    "UpdateState",
    "SubscribeToIoTCore",
];

async fn refused(test: &str, instead: Instead) -> (Core, Value) {
    let mut core = Core::new(test, vec![drawn("cam1")]).await;
    core.rig.config["mqtt"] = json!({ "endpoint": "greengrass" });
    core.nucleus.configure(core.rig.config.clone());
    {
        let mut state = core.nucleus.state();
        state.instead.extend(OPERATIONS.map(|operation| (operation, instead)));
        state.instead.insert("PublishToIoTCore", instead);
    }
    core.start();
    core.rig.agent().until_state("cam1", "streaming").await;
    let is_off = |status: &Value| {
        let features = status["features"].as_object();
        features.is_some_and(|features| {
            features.len() == 4 && features.values().all(|one| one.as_str().is_some_and(|one| one.starts_with("off")))
        })
    };
    let status = core.until("off", is_off).await;
    (core, status)
}

async fn goes_on(mut core: Core) {
    core.rig.agent().more_frames("cam1", 10).await;
    let feature = "deployment delays is off";
    assert_eq!(core.rig.agent().log_count(feature), 1, "said once");
    core.rig.stop().await;
    core.nucleus.assert_well_behaved();
}

#[tokio::test]
async fn denied() {
    let (core, status) = refused("gg-denied", Instead::Denied).await;
    let why = status["features"]["deployment delays"].as_str().expect("a reason");
    assert!(why.contains("does not allow it") && why.contains("accessControl"), "{why}");
    let told = poll(PATIENCE, async || {
        let health = http::get(core.rig.port, "/health").await.ok()?.json();
        health["mqtt"]["error"].as_str().filter(|error| error.contains("does not allow it"))?;
        Some(())
    });
    assert!(told.await.is_some(), "{}", core.rig.agent().log_tail());
    goes_on(core).await;
}

#[tokio::test]
async fn unsupported() {
    for (test, instead) in [("gg-unsupported", Instead::Unsupported), ("gg-wordless", Instead::Wordless)] {
        let (core, status) = refused(test, instead).await;
        let why = status["features"]["configuration checks"].as_str().expect("a reason");
        assert!(why.contains("does not have it"), "{why}");
        goes_on(core).await;
    }
}

/// Answers that come late are answers; those that never come hold nothing up; a connection that breaks is made again.
#[tokio::test]
async fn slow_silent_and_closed() {
    let mut core = Core::new("gg-slow", vec![drawn("cam1")]).await;
    {
        let mut state = core.nucleus.state();
        state.instead.insert("GetConfiguration", Instead::Slow(Duration::from_secs(2)));
        state.instead.insert("SubscribeToConfigurationUpdate", Instead::Slow(Duration::from_secs(2)));
        state.instead.insert("SubscribeToComponentUpdates", Instead::Silent);
        state.instead.insert("UpdateState", Instead::Close);
    }
    core.start();
    core.rig.agent().until_state("cam1", "streaming").await;
    core.until("again and again", |status| status["connections"].as_u64() >= Some(3)).await;
    core.nucleus.state().instead.remove("UpdateState");
    let is_on = |status: &Value| status["features"]["configuration updates"] == "on" && status["state"] == "connected";
    core.until("on", is_on).await;
    let mut other = core.rig.config.clone();
    other["cameras"] = json!([drawn("cam1"), drawn("cam2")]);
    core.nucleus.configure(other);
    core.rig.agent().until_state("cam2", "streaming").await;
    core.rig.stop().await;
    core.nucleus.assert_well_behaved();
}

/// A token that the nucleus does not know: said, and the cameras run with the config of before.
#[tokio::test]
async fn unknown_to_the_nucleus() {
    let mut core = Core::new("gg-unknown", vec![drawn("cam1")]).await;
    core.start();
    core.rig.agent().until_state("cam1", "streaming").await;
    core.rig.stop().await;
    core.rig.environment.push(("SVCUID".to_owned(), "wrong".to_owned()));
    let environment = [core.nucleus.environment(), core.rig.environment.clone()].concat();
    let (directory, log) = (core.rig.scratch.join("work"), core.rig.scratch.join("agent.log"));
    core.rig.agent = Some(Agent::start_component(&directory, core.rig.port, &log, &environment));
    core.rig.agent().until_state("cam1", "streaming").await;
    let status = core.until("refused", |status| status["error"].is_string()).await;
    assert!(status["error"].as_str().is_some_and(|error| error.contains("SVCUID")), "{status:#}");
    core.rig.stop().await;
    core.nucleus.assert_well_behaved();
    // Started by nobody.
    let arguments = ["run", "--greengrass"];
    let output = crate::harness::agent::run(&[], &arguments, PATIENCE).await;
    let text = crate::harness::agent::text(&output);
    assert!(output.status.code() == Some(78) && text.contains("SVCUID"), "{text}");
}

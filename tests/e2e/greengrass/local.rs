//! Events for other components on the same machine.

use super::*;
use crate::looks::{looked_at, shapes};

#[tokio::test]
async fn events_on_a_local_topic() {
    let mut camera = looked_at("cam1", 5, &shapes());
    camera.as_object_mut().expect("an object").remove("upload");
    let mut core = Core::new("gg-local", vec![camera]).await;
    core.rig.config["publishers"] = json!({ "greengrass_topic": "edgecam/{camera}/event" });
    core.nucleus.state().instead.insert("PublishToTopic", Instead::Denied);
    core.nucleus.configure(core.rig.config.clone());
    core.start();
    core.rig.agent().until_state("cam1", "streaming").await;
    // Not allowed: said, and they wait.
    let health = async || http::get(core.rig.port, "/health").await.ok().map(|answer| answer.json());
    let told = poll(PATIENCE, async || {
        let health = health().await?;
        let publisher = &health["publishers"][0];
        let is_said = publisher["error"].as_str().is_some_and(|error| error.contains("accessControl"));
        (is_said && publisher["waiting"].as_u64() >= Some(1)).then_some(())
    });
    assert!(told.await.is_some(), "{:#?}", health().await);
    core.nucleus.state().calls.clear();
    core.nucleus.state().instead.clear();
    let request = core.nucleus.called("PublishToTopic", |_| true).await;
    let event = &request["publishMessage"]["jsonMessage"]["message"];
    assert_eq!((&request["topic"], &event["camera_id"]), (&json!("edgecam/cam1/event"), &json!("cam1")), "{request}");
    core.rig.stop().await;
    core.nucleus.assert_well_behaved();
}

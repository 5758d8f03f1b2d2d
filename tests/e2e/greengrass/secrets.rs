//! URLs of cameras out of secrets: from the nucleus, and from AWS where the nucleus has none.

use super::*;
use crate::harness::camera::RtspServer;
use crate::harness::moto::Moto;

/// Of the test camera.
const PASSWORD: &str = "test";

/// The camera's URL with user and password.
fn with_password(server: &RtspServer, password: &str) -> String {
    server.url().replace("rtsp://", &format!("rtsp://admin:{password}@"))
}

async fn camera(test: &str) -> (Core, RtspServer) {
    let server = RtspServer::start(0, &["--auth", "digest", "--size", "320x180"]).await;
    let mut camera = drawn("cam1");
    camera.as_object_mut().expect("an object").remove("test_pattern");
    camera["rtsp"] = json!({ "secret": "edgecam/{thing}/{camera}" });
    let mut core = Core::new(test, vec![camera]).await;
    // Nobody listens there: tests do not call AWS.
    core.rig.environment.push(("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned(), "http://127.0.0.1:1".to_owned()));
    (core, server)
}

/// What is changed in the secret reaches the camera without anybody here; the password is nowhere to be seen.
#[tokio::test]
async fn from_the_nucleus() {
    let (mut core, server) = camera("gg-secret").await;
    core.start();
    // Not there yet.
    let failing = |report: &Value| report["error"].as_str().is_some_and(|error| error.contains("edgecam/e2e/cam1"));
    core.rig.agent().until("cam1", "without its secret", PATIENCE, failing).await;
    let id = "edgecam/e2e/cam1".to_owned();
    core.nucleus.state().secrets.insert(id.clone(), json!({ "url": with_password(&server, PASSWORD) }));
    let unusable = |report: &Value| report["error"].as_str().is_some_and(|error| error.contains("MediaURI"));
    core.rig.agent().until("cam1", "with another key", PATIENCE, unusable).await;
    core.nucleus.state().secrets.insert(id, json!({ "RTSPStreamURL": with_password(&server, PASSWORD) }));
    let report =
        core.rig.agent().until("cam1", "streaming", PATIENCE * 2, |report| report["state"] == "streaming").await;
    assert_eq!(report["source"], "rtsp, URL in the secret edgecam/e2e/cam1");
    let health = http::get(core.rig.port, "/streams").await.expect("an answer").body;
    core.rig.stop().await;
    for text in [
        core.rig.agent().log(),
        health,
        std::fs::read_to_string(core.rig.scratch.join("work/component.yaml")).expect("kept"),
    ] {
        assert!(!text.contains("admin:test"), "a password is told");
    }
    core.nucleus.assert_well_behaved();
}

/// Nucleus lite has no secret manager: Secrets Manager itself has.
#[tokio::test]
async fn from_aws() {
    let (mut core, server) = camera("gg-secret-aws").await;
    let moto = Moto::start().await;
    let secret = json!({ "MediaURI": with_password(&server, PASSWORD) });
    moto.boto(&format!("secrets.create_secret(Name='edgecam/e2e/cam1', SecretString='{secret}')\n")).await;
    core.nucleus.state().instead.insert("GetSecretValue", Instead::Wordless);
    let endpoint = format!("http://127.0.0.1:{}", moto.port);
    core.rig.environment.push(("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned(), endpoint));
    core.start();
    core.rig.agent().until_state("cam1", "streaming").await;
    core.rig.stop().await;
    assert!(!core.rig.agent().log().contains("admin:test"), "the password is in the log");
    core.nucleus.assert_well_behaved();
}

//! What a user of AWS's KVS Edge Agent brings: EdgeConfig, secrets that hold URLs, spans in Quartz cron.

use serde_json::{Value, json};

use crate::harness::agent::{self, free_port, text};
use crate::harness::camera::RtspServer;
use crate::harness::media::Clip;
use crate::harness::moto::Moto;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig};

const HUB: &str = "arn:aws:iot:eu-central-1:123456789012:thing/gate";

fn edge_config(secret: &str) -> Value {
    json!({
        "HubDeviceArn": HUB,
        "RecorderConfig": { "MediaSourceConfig": { "MediaUriSecretArn": secret, "MediaUriType": "RTSP_URI" } },
        "DeletionConfig": { "EdgeRetentionInHours": 24, "LocalSizeConfig": { "MaxLocalMediaSizeInMB": 64 } },
    })
}

/// Listed by the service, imported, run; and the URL stays in use while Secrets Manager is away.
#[tokio::test]
async fn the_edge_agents_cameras_move_over() {
    let port = free_port();
    let small = ["--size", "320x180", "--auth", "digest"];
    let server = RtspServer::start(port, &small).await;
    let moto = Moto::start().await;
    let made = moto
        .boto(&format!(
            "u = 'rtsp://admin:test@127.0.0.1:{port}/cam1'\n\
             r = secrets.create_secret(Name='edge/door-url', SecretString=json.dumps(dict(MediaURI=u)))\n\
             print(json.dumps(r['ARN']))\n"
        ))
        .await;
    let secret = made.as_str().expect("an ARN").to_owned();
    let streams: Vec<String> = (0..12).map(|number| format!("door-{number}")).collect();
    let entries = streams.iter().map(|name| json!({ "StreamName": name, "EdgeConfig": edge_config(&secret) }));
    let other = json!({ "StreamName": "other", "EdgeConfig": { "HubDeviceArn": format!("{HUB}-2") } });
    let entries = entries.chain([other]).collect();
    let mut rig = Rig::with("edge-agent", vec![], |service| service.edge_configurations = entries).await;
    rig.kvs.create_stream("door-0", 24);
    rig.environment.push(("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned(), format!("http://127.0.0.1:{}", moto.port)));
    let output = agent::run(&rig.environment, &["import", "edge-agent", HUB], PATIENCE).await;
    assert!(output.status.success(), "{}", text(&output));
    let printed = String::from_utf8(output.stdout).expect("text");
    let json_text = printed.split_once('\n').map(|(_, json)| json).expect("a comment, then JSON");
    let imported: Value = serde_json::from_str(json_text).expect("JSON");
    let names: Vec<&str> =
        imported["cameras"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, streams, "all pages, and of this device alone");
    // As printed, but for where it keeps things and listens; one camera is enough here.
    for (key, value) in imported.as_object().expect("an object") {
        rig.config[key] = value.clone();
    }
    rig.config["cameras"] = json!([imported["cameras"][0]]);
    rig.config["cameras"][0]["archive"] = json!({ "min_free": "1 MiB" });
    rig.start();
    rig.more_persisted("door-0", 2).await;
    drop(moto);
    server.kill().await;
    let gone = |report: &Value| report["state"] != "streaming";
    rig.agent().until("door-0", "gone", PATIENCE, gone).await;
    let _server = RtspServer::start(port, &small).await;
    rig.more_persisted("door-0", 2).await;
    // Neither log nor status tells what the secret holds.
    let report = rig.agent().report("door-0").await.expect("a report").to_string();
    assert!(report.contains("edge/door-url") && !report.contains("admin"), "{report}");
    assert!(!rig.agent().log().contains("admin:test"), "the log has the password");
    rig.stop().await;
}

/// A secret that is not there is named, and what the other cameras do is not touched.
#[tokio::test]
async fn a_secret_that_cannot_be_read_is_named() {
    let moto = Moto::start().await;
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("edge-secret", vec![looping("good", &clip)]).await;
    rig.environment.push(("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned(), format!("http://127.0.0.1:{}", moto.port)));
    let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:no-such-AbCdEf";
    let cameras = rig.config["cameras"].as_array_mut().expect("a list");
    cameras.push(json!({ "name": "lost", "edge_config": edge_config(arn), "upload": { "stream": "lost" } }));
    rig.start();
    let named = |report: &Value| {
        let error = report["error"].as_str().unwrap_or_default();
        error.contains("no-such") && error.contains("ResourceNotFoundException")
    };
    rig.agent().until("lost", "named", PATIENCE, named).await;
    rig.more_persisted("good", 2).await;
    rig.stop().await;
    let wrong = agent::run(&rig.environment, &["import", "edge-agent", "arn:aws:iot:x:1:policy/a"], PATIENCE).await;
    assert_eq!(wrong.status.code(), Some(78), "{}", text(&wrong));
    let none = agent::run(&rig.environment, &["import", "edge-agent", HUB], PATIENCE).await;
    assert!(!none.status.success() && text(&none).contains("no stream has a configuration"), "{}", text(&none));
}

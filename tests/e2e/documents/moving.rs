//! greengrass/MIGRATION: cameras of the KVS Edge Agent are imported, and one source is uploaded for some seconds.

use serde_json::{Value, json};

use super::{Desk, service, told};
use crate::harness::camera::{RtspServer, play_into};
use crate::harness::footage::{assert_well_behaved, stored};
use crate::harness::media::Clip;
use crate::harness::moto::Moto;

const HUB: &str = "arn:aws:iot:eu-west-1:123456789012:thing/gate";

#[tokio::test]
async fn moving() {
    let mut desk = Desk::new("moving");
    let server = RtspServer::start(0, &["--size", "320x180", "--auth", "digest"]).await;
    let moto = Moto::start().await;
    let made = moto
        .boto(&format!(
            "u = 'rtsp://admin:test@127.0.0.1:{}/cam1'\n\
             r = secrets.create_secret(Name='door', SecretString=json.dumps(dict(MediaURI=u)))\n\
             print(json.dumps(r['ARN']))\n",
            server.port
        ))
        .await;
    // What the page shows is what AWS has.
    let blocks = told::blocks("greengrass/MIGRATION.md", "yaml");
    let example = blocks.iter().find(|block| block.text.contains("edge_config:")).expect("an EdgeConfig");
    let example: Value = serde_saphyr::from_str(&example.text).expect("YAML");
    let mut edge_config = example["cameras"][0]["edge_config"].clone();
    assert_eq!(edge_config["HubDeviceArn"], HUB);
    edge_config["RecorderConfig"]["MediaSourceConfig"]["MediaUriSecretArn"] = made;
    let entries = vec![json!({ "StreamName": "door", "EdgeConfig": edge_config })];
    let change = |settings: &mut kvs_server::Config| settings.edge_configurations = entries;
    let kvs = service(&mut desk, &["door", "MyKVStream"], change).await;
    let secrets = ("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned(), format!("http://127.0.0.1:{}", moto.port));
    desk.environment.push(secrets);
    let printed = desk.form("edgecam import edge-agent ARN", true, &[("ARN", HUB)]).await;
    desk.run("edgecam import edge-agent arn:aws:iot:eu-west-1:123456789012:thing/gate > edgecam.yaml").await;
    let config = std::fs::read_to_string(desk.scratch.join("edgecam.yaml")).expect("a config");
    assert_eq!(printed.concat(), config);
    let imported: Value = serde_saphyr::from_str(&config).expect("a config");
    assert_eq!((&imported["thing"], &imported["aws"]["region"]), (&example["thing"], &example["aws"]["region"]));
    let said = desk.run("edgecam check --config edgecam.yaml").await;
    assert!(said.contains("320x180") && said.contains("stream door: active"), "{said}");

    // The camera's FIFO, and seconds instead of a minute.
    desk.instead("/opt/awscam/", format!("{}/", desk.scratch.join("awscam").display()));
    desk.instead("--seconds 60", "--seconds 4");
    std::fs::create_dir_all(desk.scratch.join("awscam/out")).expect("made");
    let fifo = desk.scratch.join("awscam/out/ch1_out.h264");
    desk.shell(&format!("mkfifo {}", fifo.display())).await;
    let _writer = play_into(&Clip { container: "h264", ..Clip::new(10) }.file().await, &fifo);
    desk.run("edgecam upload /opt/awscam/out/ch1_out.h264 MyKVStream --seconds 60").await;
    let values = [("SOURCE", "test"), ("STREAM", "door"), ("N", "3")];
    desk.form("edgecam upload SOURCE STREAM [--seconds N]", true, &values).await;
    for (stream, least) in [("MyKVStream", 40), ("door", 30)] {
        let record = kvs.stream(stream);
        assert_well_behaved(&record);
        assert!(stored(&record).len() > least, "{stream}: {} pictures", stored(&record).len());
    }
}

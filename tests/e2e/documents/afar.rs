//! README, "Commands from afar": by MQTT and by HTTP, with the payloads that stand there.

use edgecam::config::identity;
use serde_json::Value;

use super::{Desk, service};
use crate::harness::PATIENCE;
use crate::harness::agent::free_port;
use crate::harness::broker::{Broker, Listener};
use crate::harness::camera::RtspServer;

/// The next message on a topic that is as wanted.
async fn hear(heard: &Listener, topic: &str, wanted: impl Fn(&str) -> bool) -> (bool, String) {
    let mut others = Vec::new();
    loop {
        let Some((is_retained, found, payload)) = heard.next().await else { panic!("not on {topic}: {others:#?}") };
        if found == topic && wanted(&payload) {
            return (is_retained, payload);
        }
        others.push(format!("{found} {payload:.200}"));
    }
}

#[tokio::test]
async fn afar() {
    let mut desk = Desk::new("afar");
    let (thing, port) = (identity::thing(), free_port());
    let stream = format!("{thing}-door");
    let kvs = service(&mut desk, &[&stream], |_| ()).await;
    let server = RtspServer::start(0, &["--size", "320x180", "--auth", "digest"]).await;
    let broker = Broker::start("documents-broker").await;
    let identity = broker.client("device");
    for (name, file) in [("device.pem", &identity.certificate), ("device.key", &identity.key)] {
        std::fs::copy(file, desk.scratch.join(name)).expect("copied");
    }
    std::fs::write(desk.scratch.join("door.password"), "test\n").expect("written");
    desk.instead("rtsp://10.0.0.7/Streaming/Channels/101", server.url());
    desk.instead("/etc/edgecam/", format!("{}/", desk.scratch.path().display()));
    desk.instead(
        "endpoint: xxxx-ats.iot.eu-west-1.amazonaws.com",
        format!("endpoint: localhost\n  port: {}\n  ca_file: {}", broker.port, broker.ca.display()),
    );
    // What is on demand is said so in the sentence.
    desk.instead("upload: {stream: \"{thing}-{camera}\"}", "upload: {stream: \"{thing}-{camera}\", mode: on_demand}");
    desk.instead("<thing>", &thing);
    desk.instead("<camera>", "door");
    desk.instead("…/door/", format!("edgecam/{thing}/door/"));
    desk.instead("…/enabled/", format!("edgecam/{thing}/door/enabled/"));
    desk.instead("localhost:8080", format!("localhost:{port}"));
    let mqtt = super::told::blocks("README.md", "yaml").into_iter().find(|block| block.text.starts_with("mqtt:"));
    let mqtt = mqtt.expect("an example of a broker").text;
    let more = format!("http: {{listen: \"127.0.0.1:{port}\"}}\n{mqtt}");
    desk.config("README.md", "  - name: door\n    rtsp:\n", &more);
    let heard = broker.listen("edgecam/#").await;
    desk.instead("FILE", "edgecam.yaml");
    let mut agent = desk.start("edgecam run --config FILE", port);
    let status = format!("edgecam/{thing}/status");
    hear(&heard, &status, |payload| payload.contains("\"online\"")).await;
    agent.until_state("door", "streaming").await;
    agent.more_frames("door", 45).await;
    assert_eq!(kvs.stream(&stream).attempts.len(), 0, "nobody has asked");

    // The sentence: publish this to that, and the answer comes there.
    let payload = desk.take("{\"requestId\": \"1\", \"seconds\": 300}");
    let (command, reply) =
        (desk.take("edgecam/<thing>/<camera>/cmd/live"), desk.take("edgecam/<thing>/<camera>/reply/1"));
    let speaker = ["-i", "speaker"];
    broker.say(&command, &payload, &speaker).await;
    let answer = |payload: &str| serde_json::from_str::<Value>(payload).unwrap_or_default();
    let (_, done) = hear(&heard, &reply, |payload| answer(payload)["status"] == "done").await;
    assert_eq!(
        (&answer(&done)["result"]["seconds"], &answer(&done)["result"]["stream"]),
        (&300.into(), &stream.as_str().into())
    );
    kvs.wait_persisted(&stream, 2, PATIENCE).await.expect("it is uploaded");
    for (switch, state) in [
        (desk.take("…/<camera>/record/set"), format!("edgecam/{thing}/door/record/state")),
        (desk.take("…/enabled/set"), format!("edgecam/{thing}/door/enabled/state")),
    ] {
        for value in ["OFF", "ON"] {
            broker.say(&switch, value, &speaker).await;
            hear(&heard, &state, |payload| payload == value).await;
        }
    }
    // Retained: who comes late hears it, too.
    let late = broker.listen_as("late", &status).await;
    assert!(hear(&late, &status, |payload| payload.contains("\"online\"")).await.0, "it is not retained");

    agent.until_state("door", "streaming").await;
    let ask =
        "curl -X POST -H 'Content-Type: application/json' -d '{\"seconds\":300}' localhost:8080/streams/door/live";
    let said = desk.run(ask).await;
    let result = answer(said.lines().next().unwrap_or_default());
    assert_eq!((&result["seconds"], &result["stream"]), (&300.into(), &stream.as_str().into()), "{said}");
    // The same for a range of the past.
    let report = agent.more_frames("door", 30).await;
    let latest: jiff::Timestamp = report["latest"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    let time = |ms: i64| jiff::Timestamp::from_millisecond(latest.as_millisecond() - ms).expect("a time").to_string();
    desk.instead("2026-11-21T08:00:00Z", time(2_500));
    desk.instead("2026-11-21T08:05:00Z", time(500));
    let range = desk.take("{\"start\":\"2026-11-21T08:00:00Z\",\"end\":\"2026-11-21T08:05:00Z\"}");
    let path = desk.take("…/streams/door/upload");
    let ask = desk
        .here(&ask.replace("{\"seconds\":300}", &range).replace("/streams/door/live", path.trim_start_matches('…')));
    let said = desk.shell(&ask).await;
    assert!(said.contains(&stream) && !said.contains("error"), "{said}");
    agent.stop().await;
}

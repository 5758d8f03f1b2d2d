//! What cameras see: events at a broker, in a directory, in the stream and on the page, from the scene that is drawn and
//! the model that is built in; and detectors that cannot work.

mod page;
mod publishers;
mod still;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgecam::host::wall_clock;
use serde_json::{Value, json};

use crate::commands::Fleet;
use crate::harness::camera::RtspServer;
use crate::harness::media::tool;
use crate::harness::{PATIENCE, Rig, agent, http, poll, rig};

/// A camera that is looked at: the drawn scene, with an IDR each second.
pub(crate) fn looked_at(name: &str, rate: u32, detector: &Value) -> Value {
    let mut camera = rig::camera(
        name,
        "test_pattern",
        json!({ "width": 640, "height": 360, "frame_rate": 10, "gop": 10, "bitrate": 600_000 }),
    );
    let mut detector = detector.clone();
    detector["fps_limit"] = json!(rate);
    camera["detectors"] = json!([detector]);
    camera
}

pub(crate) fn shapes() -> Value {
    json!({ "type": "object", "model": "demo", "events": { "min_frames": 1, "update": "0s", "cool_down": "0s" } })
}

/// Files below `directory` with this ending.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn events_reach_the_broker_the_stream_and_a_directory() {
    let mut fleet = Fleet::new("looks", vec![looked_at("cam1", 5, &shapes())]).await;
    let directory = fleet.rig.scratch.join("events");
    fleet.rig.config["publishers"] = json!({ "directory": directory });
    fleet.rig.config["cameras"][0]["publishers"] = json!({ "dataset": { "every": 10 } });
    fleet.start().await;
    let begun = fleet.hear("edgecam/e2e/cam1/event", |event| event["event"] == "start").await;
    assert!(begun["camera_id"] == "cam1" && begun["detector_type"] == "object", "{begun:#}");
    let first = &begun["detections"][0];
    let bbox: Vec<f64> = first["bbox"].as_array().expect("a box").iter().filter_map(Value::as_f64).collect();
    assert!(bbox.len() == 4 && bbox[0] < bbox[2] && bbox[2] <= 640.0 && bbox[3] <= 360.0, "{begun:#}");
    assert!(first["class_name"].is_string() && first["confidence"].as_f64() > Some(0.5), "{begun:#}");
    // From the picture to somebody who hears of it: the fastest of many, the machine has other things to do.
    let mut fastest = f64::MAX;
    for _ in 0..20 {
        let event = fleet.hear("edgecam/e2e/cam1/event", |event| event["event"] == "update").await;
        let now = wall_clock().unix_millis() as f64 / 1000.0;
        fastest = fastest.min(now - event["timestamp"].as_f64().expect("a time"));
    }
    assert!(fastest < 0.5, "{fastest} s from picture to event");
    agent::note(&format!("from a picture to its event at the broker: {:.0} ms", fastest * 1000.0));

    let looks = |report: &Value| report["inference"]["detectors"][0]["looked"].as_u64() > Some(10);
    let report = fleet.rig.agent().until("cam1", "looked at", PATIENCE, looks).await;
    assert_eq!(
        (&report["inference"]["detectors"][0]["state"], &report["inference"]["decodes"]),
        (&json!("ready"), &json!("all")),
        "{report:#}"
    );
    let picture = async || {
        let answer = http::get(fleet.rig.port, "/streams/cam1/seen.jpg").await.expect("an answer");
        (answer.status == 200).then_some(answer.head)
    };
    let head = poll(PATIENCE, picture).await.expect("a picture for who watches");
    assert!(head.contains("image/jpeg"), "{head}");
    let metrics = http::get(fleet.rig.port, "/metrics").await.expect("an answer").body;
    assert!(metrics.contains("edgecam_detections_total{camera_name=\"cam1\",detector_type=\"object\""), "{metrics}");
    let events = listened(fleet.rig.port).await;
    assert!(events.contains("\"predictions\":[{\"label\":"), "{events}");

    fleet.rig.stop().await;
    let id = begun["event_id"].as_str().expect("an id");
    let tagged = fleet.rig.kvs.stream("cam1");
    let has_tag = |tags: &Vec<(String, String)>| tags.iter().any(|(_, value)| value.starts_with(id));
    assert!(tagged.fragments.iter().any(|fragment| has_tag(&fragment.tags)), "no fragment is tagged with {id}");
    assert!(tagged.violations.is_empty(), "{:#?}", tagged.violations);
    let (messages, pictures) = (files(&directory, "json"), files(&directory, "jpg"));
    let started = format!("{id}-1");
    let of_start = pictures.iter().find(|path| path.file_stem().is_some_and(|stem| *stem == *started));
    let of_start = of_start.unwrap_or_else(|| panic!("no picture of {started} in {pictures:#?}"));
    let size = tool(
        "ffprobe",
        &["-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0", &of_start.display().to_string()],
    )
    .await;
    assert_eq!(size.trim(), "640,360");
    let ended = messages
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .any(|text| text.contains("\"event\":\"end\""));
    assert!(ended, "what goes on ends with the agent");
    let kept = files(&fleet.rig.scratch.join("state/dataset/cam1"), "jpg");
    assert!(!kept.is_empty(), "pictures to train with");
}

/// The first server-sent events.
async fn listened(port: u16) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    tcp.write_all(b"GET /stream?camera=cam1 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.expect("it reads");
    let mut heard = Vec::new();
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && !String::from_utf8_lossy(&heard).contains("predictions\":[{") {
        let mut buffer = [0; 4096];
        match tokio::time::timeout(Duration::from_secs(5), tcp.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => heard.extend_from_slice(&buffer[..count]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&heard).into_owned()
}

/// One that cannot work is named, and the others go on; a picture that somebody sends is looked at or refused by name.
#[tokio::test]
async fn detectors_that_cannot_work_are_named() {
    let mut camera = looked_at("cam1", 1, &shapes());
    let bad = |name: &str, kind: &str, model: &str, more: Value| {
        let mut detector = json!({ "name": name, "type": kind, "model": model });
        detector.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        detector
    };
    let scratch = crate::harness::Scratch::new("looks-bad-models");
    let torn = scratch.write("torn.onnx", [8, 7, 18, 200]).display().to_string();
    let detectors = camera["detectors"].as_array_mut().expect("a list");
    detectors.push(bad("missing", "person", "/nowhere/person.onnx", json!({})));
    detectors.push(bad("torn", "face", &torn, json!({})));
    detectors.push(bad("task", "classify", "demo", json!({})));
    detectors.push(bad("classes", "object", "demo", json!({ "classes": ["zebra"] })));
    detectors.push(bad(
        "zone",
        "object",
        "demo",
        json!({ "roi": [{ "name": "far", "points": [[0, 0], [4000, 0], [0, 4000]] }] }),
    ));
    let mut rig = Rig::new("looks-bad", vec![camera]).await;
    rig.start();
    let settled = |report: &Value| {
        let detectors = report["inference"]["detectors"].as_array().cloned().unwrap_or_default();
        let failing = detectors.iter().filter(|detector| detector["state"] == "failing").count();
        failing == 5 && detectors.iter().any(|detector| detector["looked"].as_u64() > Some(3))
    };
    let report = rig.agent().until("cam1", "five failing, one looking", PATIENCE * 2, settled).await;
    for (index, says) in [
        (1, "/nowhere/person.onnx"),
        (2, "not an ONNX model"),
        (3, "needs one to classify"),
        (4, "knows no class `zebra`"),
        (5, "zone far: the point 4000,0 is outside the frame of 640x360"),
    ] {
        let error = report["inference"]["detectors"][index]["error"].as_str().unwrap_or_default();
        assert!(error.contains(says), "`{says}` in `{error}`");
    }
    let health = http::get(rig.port, "/health").await.expect("an answer").json();
    assert_eq!(health["status"], "degraded");
    let send = async |body: &[u8]| tool_post(rig.port, body, &scratch).await;
    let black = scratch.join("black.jpg");
    tool(
        "ffmpeg",
        &["-v", "error", "-f", "lavfi", "-i", "color=black:s=320x240", "-frames:v", "1", &black.display().to_string()],
    )
    .await;
    let answer = send(&std::fs::read(&black).expect("made")).await;
    assert!(answer.contains("\"predictions\":[]") && answer.contains("\"width\":320"), "{answer}");
    let answer = send(b"not a picture").await;
    assert!(answer.contains("not a JPEG picture that can be used"), "{answer}");
    let one = scratch.join("one.jpg");
    tool(
        "ffmpeg",
        &[
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "color=red:s=16x16,format=yuvj444p,crop=1:1",
            "-frames:v",
            "1",
            "-pix_fmt",
            "yuvj444p",
            &one.display().to_string(),
        ],
    )
    .await;
    let answer = send(&std::fs::read(&one).expect("made")).await;
    assert!(answer.contains("1x1 pixels"), "{answer}");
    rig.stop().await;
}

/// Sends a picture as a form, as a browser does.
async fn tool_post(port: u16, body: &[u8], scratch: &crate::harness::Scratch) -> String {
    let file = scratch.write("send.jpg", body);
    let form = format!("image=@{};type=image/jpeg", file.display());
    let url = format!("http://127.0.0.1:{port}/predict");
    tool("curl", &["-sS", "--max-time", "20", "-F", &form, &url]).await
}

/// The second stream is what is looked at; the first one is what is kept and uploaded, whatever happens to the second.
#[tokio::test]
async fn the_second_stream_is_looked_at() {
    let size = ["--size", "320x180", "--fps", "10", "--gop", "10", "--bitrate", "200"];
    let server = RtspServer::start(0, &size).await;
    let port = server.port;
    let mut camera = looked_at("cam1", 1, &shapes());
    camera["sub_stream"] = json!({ "url": server.url(), "frame_timeout": "2s" });
    let mut rig = Rig::new("looks-second", vec![camera]).await;
    rig.start();
    let looked =
        |report: &Value| report["inference"]["last"]["width"] == 320 && report["inference"]["decodes"] == "key_frames";
    let report = rig.agent().until("cam1", "looked at by its second stream", PATIENCE, looked).await;
    assert_eq!(
        (&report["video"]["width"], &report["inference"]["sub_stream"]["state"]),
        (&json!(640), &json!("streaming"))
    );
    server.kill().await;
    let is_gone = |report: &Value| report["inference"]["sub_stream"]["error"].is_string();
    let report = rig.agent().until("cam1", "without its second stream", PATIENCE, is_gone).await;
    assert_eq!((&report["state"], &report["attempts"]), (&json!("streaming"), &json!(1)), "{report:#}");
    let looked = report["inference"]["detectors"][0]["looked"].as_u64().unwrap_or_default();
    let still = report["inference"]["detectors"][0]["still"].as_u64().unwrap_or_default();
    let _server = RtspServer::start(port, &size).await;
    let again = |report: &Value| {
        let detector = &report["inference"]["detectors"][0];
        detector["looked"].as_u64().unwrap_or_default() + detector["still"].as_u64().unwrap_or_default()
            > looked + still + 2
    };
    rig.agent().until("cam1", "looked at again", PATIENCE, again).await;
    rig.stop_and_compare(&["cam1"]).await;
}

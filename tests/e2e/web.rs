//! The local server: what it tells, to whom, and what can be asked of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::footage::{archived, assert_ends_in_order, assert_stored, assert_well_behaved, stored};
use crate::harness::media::Clip;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig, http};

/// Samples of Prometheus' text format, by name and labels; every line is checked.
fn metrics(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (keyword, name, rest) = (words.next(), words.next(), words.next());
            let (name, rest) = (name.expect("a name"), rest.unwrap_or_else(|| panic!("cut off: {line}")));
            match keyword {
                Some("HELP") => {}
                Some("TYPE") => {
                    assert!(["counter", "gauge"].contains(&rest), "{line}");
                    assert!(kinds.insert(name.to_owned(), rest.to_owned()).is_none(), "twice: {line}");
                }
                _ => panic!("neither HELP nor TYPE: {line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let name = series.split('{').next().unwrap_or_default();
        let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(name.chars().all(is_legal) && kinds.contains_key(name), "no TYPE before: {line}");
        assert!(!name.ends_with("_total") || kinds[name] == "counter", "{line}");
        let labels = series.strip_prefix(name).unwrap_or_default();
        assert!(labels.is_empty() || (labels.starts_with('{') && labels.ends_with("\"}")), "{line}");
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }
    samples
}

#[tokio::test]
async fn status() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("status", vec![looping("cam1", &clip), looping("cam2", &clip)]).await;
    rig.start();
    rig.more_persisted("cam1", 3).await;
    rig.more_persisted("cam2", 3).await;
    let get = async |path: &str| http::get(rig.port, path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    let health = get("/health").await;
    let body = health.json();
    assert!(health.status == 200 && body["status"] == "healthy" && body["active_streams"] == 2, "{body:#}");
    assert!(body["timestamp"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()), "{body:#}");
    let health = get("/health/stream").await;
    assert!(health.status == 200 && health.json()["cam1"]["state"] == "streaming", "{}", health.body);
    let streams = get("/streams").await.json();
    assert!(streams["count"] == 2 && streams["streams"][1]["camera_id"] == "cam2", "{streams:#}");
    let one = get("/streams/cam1").await.json();
    for (path, wanted) in [
        ("/stream/state", json!("streaming")),
        ("/stream/video/width", json!(320)),
        ("/stream/archive/recorder_status", json!("SUCCESS")),
        ("/stream/upload/uploader_status", json!("SUCCESS")),
        ("/stream/upload/stream", json!("cam1")),
        ("/stream/upload/state", json!("streaming")),
    ] {
        assert_eq!(one.pointer(path), Some(&wanted), "{path} of {one:#}");
    }
    assert_eq!(get("/streams/none").await.status, 404);
    assert_eq!(get("/nothing").await.status, 404);
    let page = get("/").await;
    assert!(page.status == 200 && page.body.contains("</html>") && page.head.contains("content-security-policy"));
    let answer = get("/metrics").await;
    assert!(answer.head.contains("text/plain; version=0.0.4"), "{}", answer.head);
    let samples = metrics(&answer.body);
    let sample = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("no {name} in {}", answer.body));
    assert!(sample("edgecam_frames_total{camera_name=\"cam1\"}") >= 30.0);
    assert!(sample("edgecam_acks_total{camera_name=\"cam2\",kind=\"persisted\"}") >= 3.0);
    assert!(sample("edgecam_archive_ok{camera_name=\"cam1\"}") == 1.0 && sample("edgecam_panics_total") == 0.0);
    rig.stop().await;
}

/// Without a token only this machine may ask, by its own name, and no web page may change anything.
#[tokio::test]
async fn who_may_ask() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("guard", vec![looping("cam1", &clip)]).await;
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    let port = rig.port;
    let ask = async |method: &str, fields: &[(&str, &str)]| {
        let path = if method == "GET" { "/streams" } else { "/streams/cam1/live" };
        http::request(port, method, path, fields, if method == "GET" { "" } else { "{}" })
            .await
            .expect("an answer")
            .status
    };
    let (local, json_type) = (("host", "localhost:1"), ("content-type", "application/json"));
    assert_eq!(ask("GET", &[local]).await, 200);
    assert_eq!(ask("GET", &[("host", "evil.example")]).await, 403);
    assert_eq!(ask("GET", &[("host", "127.0.0.1.evil.example:80")]).await, 403);
    assert_eq!(ask("POST", &[("host", "evil.example"), json_type]).await, 403);
    assert_eq!(ask("POST", &[local, ("content-type", "text/plain")]).await, 415);
    assert_eq!(ask("POST", &[local, json_type]).await, 200);
    rig.stop().await;

    let token = rig.scratch.write("token", "a long token\n");
    rig.config["http"]["token_file"] = json!(token);
    rig.config["http"]["listen"] = json!(format!("0.0.0.0:{port}"));
    rig.start();
    let authorized = [("host", "gateway"), ("authorization", "Bearer a long token")];
    let up = crate::harness::poll(PATIENCE, async || {
        http::request(port, "GET", "/streams", &authorized, "").await.ok().filter(|answer| answer.status == 200)
    });
    assert!(up.await.is_some(), "not with the token");
    assert_eq!(ask("GET", &[local]).await, 401);
    assert_eq!(ask("GET", &[local, ("authorization", "Bearer a wrong one")]).await, 401);
    assert_eq!(ask("POST", &[local, json_type]).await, 401);
    rig.stop().await;
    rig.config["http"].as_object_mut().expect("an object").remove("token_file");
    let config = rig.write_config();
    let arguments = ["run", "--config", &config.to_string_lossy()];
    let output = crate::harness::agent::run(&rig.environment, &arguments, PATIENCE).await;
    assert_eq!(output.status.code(), Some(78), "open to the network without a token");
}

fn on_demand(clip: &std::path::Path) -> Value {
    let mut camera = looping("cam1", clip);
    camera["upload"]["mode"] = json!("on_demand");
    camera
}

/// Nothing is uploaded until someone asks, and then for as long as they asked.
#[tokio::test]
async fn lease() {
    let mut rig = Rig::new("lease", vec![on_demand(&Clip::new(10).file().await)]).await;
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", 45).await;
    assert_eq!(rig.kvs.stream("cam1").attempts.len(), 0, "nobody asked");
    for (body, status) in
        [(json!({ "seconds": 0 }), 400), (json!({ "minutes": 1 }), 422), (json!({ "seconds": 100_000 }), 400)]
    {
        let answer = http::post(rig.port, "/streams/cam1/live", &body).await.expect("an answer");
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    assert_eq!(http::post(rig.port, "/streams/none/live", &json!({})).await.expect("an answer").status, 404);
    for round in 1..=2 {
        let answer = http::post(rig.port, "/streams/cam1/live", &json!({ "seconds": 5 })).await.expect("an answer");
        assert!(answer.status == 200 && answer.json()["seconds"] == 5, "{}", answer.body);
        rig.more_persisted("cam1", 2).await;
        let idle = |report: &Value| report["upload"]["state"] == "idle";
        rig.agent().until("cam1", "idle again", PATIENCE, idle).await;
        let record = rig.kvs.stream("cam1");
        assert_eq!(record.sessions.len(), round, "one session for each lease");
        let span = record.fragments.iter().filter(|fragment| fragment.session == record.sessions[round - 1].id);
        let (first, last) = (span.clone().filter_map(|f| f.first_ms).min(), span.filter_map(|f| f.last_ms).max());
        let seconds = (last.unwrap_or(0) - first.unwrap_or(0)) as f64 / 1000.0;
        assert!((2.0..9.0).contains(&seconds), "{seconds} s for a lease of 5 s");
    }
    rig.stop().await;
    let record = rig.kvs.stream("cam1");
    assert_well_behaved(&record);
    assert_ends_in_order(&record);
}

/// A range of the past, from disk.
#[tokio::test]
async fn range() {
    let mut rig = Rig::new("range", vec![on_demand(&Clip::new(10).file().await)]).await;
    rig.config["cameras"][0]["archive"]["segment"] = json!("3s");
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    let report = rig.agent().more_frames("cam1", 180).await;
    let latest: jiff::Timestamp = report["latest"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    // Not where a GOP begins: milliseconds are rounded.
    let (start, end) = (latest.as_millisecond() - 9_480, latest.as_millisecond() - 4_480);
    let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).expect("a time").to_string();
    let ask = async |start: String, end: String| {
        http::post(rig.port, "/streams/cam1/upload", &json!({ "start": start, "end": end })).await.expect("an answer")
    };
    assert_eq!(ask("yesterday".to_owned(), time(end)).await.status, 400);
    assert_eq!(ask(time(end), time(start)).await.status, 400);
    let answer = ask(time(start), end.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let ended = |record: &kvs_server::StreamRecord| record.sessions.iter().any(|session| session.end.is_some());
    rig.kvs.wait_until("cam1", PATIENCE, ended).await.expect("the range is uploaded");
    let idle = |report: &Value| report["upload"]["state"] == "idle";
    rig.agent().until("cam1", "idle again", Duration::from_secs(30), idle).await;
    rig.stop().await;
    let record = rig.kvs.stream("cam1");
    assert_well_behaved(&record);
    assert_ends_in_order(&record);
    let archive = archived(&rig.archive("cam1")).await;
    let first = archive.iter().rposition(|packet| packet.is_key && packet.ms <= start).expect("a key frame");
    let wanted: Vec<_> = archive[first..].iter().filter(|packet| packet.ms < end).cloned().collect();
    let (count, twice) = assert_stored(&wanted, &record);
    assert_eq!((stored(&record).len(), twice, record.sessions.len()), (count, 0, 1), "the range and nothing else");
}

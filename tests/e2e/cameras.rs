//! Cameras that freeze, go away, refuse, or send something else.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::camera::{RtspServer, sizes};
use crate::harness::footage::{archived_pictures, assert_well_behaved, dumps, segments};
use crate::harness::media;
use crate::harness::rig::camera;
use crate::harness::{PATIENCE, Rig};

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--size", "320x180"], more].concat()
}

fn source(server: &RtspServer) -> Value {
    json!({ "url": server.url(), "frame_timeout": "3s", "setup_timeout": "3s" })
}

/// A camera that is there and sends nothing is found out, and taken up again when it goes on.
#[tokio::test]
async fn frozen() {
    let server = RtspServer::start(0, &small(&[])).await;
    let mut rig = Rig::new("frozen", vec![camera("cam1", "rtsp", source(&server))]).await;
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.more_persisted("cam1", 2).await;
    server.signal(Signal::STOP);
    let began = Instant::now();
    let report = rig.agent().until_state("cam1", "stalled").await;
    // frame_timeout is 3 s; the rest is for a machine that does other things.
    assert!((2_000..6_500).contains(&began.elapsed().as_millis()), "stalled after {:?}", began.elapsed());
    assert!(report["error"].as_str().is_some_and(|error| error.contains("no picture for 3 s")), "{report:#}");
    let health = crate::harness::http::get(rig.port, "/health").await.expect("an answer");
    assert_eq!(health.status, 503, "{}", health.body);
    server.signal(Signal::CONT);
    rig.agent().until_state("cam1", "streaming").await;
    rig.more_persisted("cam1", 2).await;
    rig.caught_up("cam1", PATIENCE).await;
    rig.stop_and_compare(&["cam1"]).await;
}

#[tokio::test]
async fn restarted() {
    let server = RtspServer::start(0, &small(&[])).await;
    let port = server.port;
    let mut rig = Rig::new("restarted", vec![camera("cam1", "rtsp", source(&server))]).await;
    rig.start();
    rig.more_persisted("cam1", 2).await;
    server.kill().await;
    rig.agent().until_state("cam1", "no_device").await;
    let _server = RtspServer::start(port, &small(&[])).await;
    rig.agent().until_state("cam1", "streaming").await;
    rig.more_persisted("cam1", 2).await;
    rig.caught_up("cam1", PATIENCE).await;
    rig.stop_and_compare(&["cam1"]).await;
}

/// Cameras lock out who tries too often: the pause is long from the first refusal on.
#[tokio::test]
async fn wrong_password() {
    let server = RtspServer::start(0, &small(&["--auth", "digest"])).await;
    let mut rig = Rig::new("password", vec![camera("cam1", "rtsp", json!({}))]).await;
    let password = rig.scratch.write("password", "a wrong one");
    rig.config["cameras"][0]["rtsp"] = json!({ "url": server.url(), "username": "admin", "password_file": password });
    rig.start();
    let report = rig.agent().until_state("cam1", "auth_failed").await;
    assert_eq!(report["attempts"], 1, "{report:#}");
    let until = Instant::now() + Duration::from_secs(6);
    crate::harness::poll(PATIENCE, async || (Instant::now() > until).then_some(())).await;
    let report = rig.agent().until_state("cam1", "auth_failed").await;
    assert_eq!(report["attempts"], 1, "it tries again too soon: {report:#}");
    let log = rig.agent().log();
    let retry = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|line| line["retry_ms"].as_u64());
    assert!(retry >= Some(30_000), "the next attempt is in {retry:?} ms");
    assert!(!log.contains("a wrong one"), "the password is in the log");
    rig.stop().await;
}

#[tokio::test]
async fn other_codecs() {
    let server = RtspServer::start(0, &small(&["--codec", "vp8"])).await;
    let mut rig = Rig::new("vp8", vec![camera("cam1", "rtsp", source(&server))]).await;
    rig.start();
    let report = rig.agent().until_state("cam1", "unsupported_codec").await;
    let error = report["error"].as_str().unwrap_or_default();
    assert!(error.contains("'vp8'") && error.contains("H.265"), "{error}");
    rig.stop().await;
}

/// The picture changes its size: a new segment, a new session, and no picture less.
#[tokio::test]
async fn change_of_resolution() {
    let server = RtspServer::start(0, &small(&["--switch-after", "4"])).await;
    let mut rig = Rig::new("resolution", vec![camera("cam1", "rtsp", source(&server))]).await;
    rig.start();
    let is_small = |report: &Value| report["video"]["width"] == 160;
    rig.agent().until("cam1", "half as wide", PATIENCE, is_small).await;
    rig.agent().more_frames("cam1", 40).await;
    rig.caught_up("cam1", PATIENCE).await;
    rig.stop_and_compare(&["cam1"]).await;
    let segments = segments(&rig.archive("cam1"));
    let mut found = sizes(&segments).await;
    found.dedup();
    assert_eq!(found, [(320, 180), (160, 90)], "a segment for each size: {segments:?}");
    let record = rig.kvs.stream("cam1");
    let tracks: Vec<_> =
        record.sessions.iter().map(|session| (session.tracks[0].width, session.tracks[0].height)).collect();
    assert_eq!(tracks, [(320, 180), (160, 90)], "a session for each size");
    // The pictures of both sizes can be decoded from what is stored as well as from the archive.
    let mut stored = Vec::new();
    for dump in dumps(&rig.kvs, "cam1", rig.scratch.path()) {
        stored.extend(media::decoded(&dump).await);
    }
    assert_eq!(stored, archived_pictures(&rig.archive("cam1")).await);
    assert_well_behaved(&record);
}

//! Upgrade and downgrade: what is on disk has a version, and a new agent is checked by `edgecam check --after-upgrade`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::agent::{self, text};
use crate::harness::media::Clip;
use crate::harness::rig::{camera, looping};
use crate::harness::{PATIENCE, Rig};

const MARK: &str = "state-version.json";
const NEWER: &str = r#"{"version":9,"readable_by":9,"agent":"edgecam 9.0.0"}"#;

/// All files below a directory, with their content.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(content(&path)),
            path => drop(found.insert(path.clone(), fs::read(&path).expect("a file"))),
        }
    }
    found
}

async fn check(rig: &Rig, more: &[&str]) -> (i32, String) {
    let config = rig.scratch.join("edgecam.yaml").display().to_string();
    let words = [&["check", "--after-upgrade", "--config", &config], more].concat();
    let output = agent::run(&rig.environment, &words, PATIENCE).await;
    (output.status.code().unwrap_or(-1), text(&output))
}

/// From an agent that marked nothing to this one, and from this one to one of before a change of what is on disk.
#[tokio::test]
async fn state_of_other_versions() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("upgrade", vec![looping("cam1", &clip)]).await;
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.more_persisted("cam1", 3).await;
    rig.stop().await;
    let (state, archive) = (rig.scratch.join("state"), rig.archive("cam1"));
    // As it was left by agents of before there was a mark.
    for directory in [&state, &archive] {
        fs::remove_file(directory.join(MARK)).expect("it was marked");
    }
    let (code, told) = check(&rig, &["--wait", "0s"]).await;
    assert!(code == 1 && told.contains("not marked with a version") && told.contains("no answer"), "{told}");
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.more_persisted("cam1", 3).await;
    for directory in [&state, &archive] {
        let mark: Value = serde_json::from_slice(&fs::read(directory.join(MARK)).expect("marked")).expect("JSON");
        assert_eq!((&mark["version"], &mark["readable_by"]), (&json!(1), &json!(1)));
    }
    // Nothing was lost, and nothing sent twice: cursor and numbers went on.
    rig.stop_and_compare(&["cam1"]).await;

    // A newer agent's state.
    fs::write(state.join(MARK), NEWER).expect("written");
    let before = content(&state);
    rig.start();
    let ended = rig.agent.as_mut().expect("it was started").exit(PATIENCE).await;
    let log = rig.agent().log();
    assert_eq!(ended.code(), Some(78), "{log}");
    assert!(log.contains("newer agent (edgecam 9.0.0") && log.contains("Nothing in it is touched"), "{log}");
    assert!(content(&state) == before, "a file has changed");
    for more in [&["--wait", "0s"][..], &["--wait", "0s", "--json"]] {
        let (code, told) = check(&rig, more).await;
        assert!(code == 1 && told.contains("edgecam 9.0.0"), "{told}");
    }
}

/// Footage of a newer agent on a disk of its own: that camera goes on in RAM, and the disk is left alone.
#[tokio::test]
async fn archive_of_a_newer_agent() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("newer-archive", vec![looping("cam1", &clip)]).await;
    let disk = rig.scratch.join("disk");
    fs::create_dir_all(&disk).expect("made");
    fs::write(disk.join(MARK), NEWER).expect("written");
    // To this agent it is a segment in which nothing can be read: it would be removed.
    fs::write(disk.join("20260101T000000000Z-0000000007.mp4"), "of another kind").expect("written");
    fs::write(disk.join("upload.cursor"), "of another kind").expect("written");
    rig.config["cameras"][0]["archive"]["directory"] = json!(disk);
    let before = content(&disk);
    rig.start();
    let report = rig.agent().until("cam1", "refusing the archive", PATIENCE, |report| {
        report["archive"].to_string().contains("edgecam 9.0.0")
    });
    let report = report.await;
    assert_ne!(report["archive"]["recorder_status"], "SUCCESS", "{report:#}");
    rig.more_persisted("cam1", 3).await;
    let (code, told) = check(&rig, &["--wait", "0s"]).await;
    assert!(code == 1 && told.contains("FAIL  state in"), "{told}");
    rig.stop().await;
    assert!(content(&disk) == before, "a file has changed");
    let words = ["archive", "list", &disk.display().to_string()];
    let output = agent::run(&[], &words, PATIENCE).await;
    assert!(!output.status.success() && text(&output).contains("edgecam 9.0.0"), "{}", text(&output));
}

/// Whether the agent that runs is this one and does its work.
#[tokio::test]
async fn after_an_upgrade() {
    let clip = Clip::new(10).file().await;
    let gone = camera("gone", "file", json!({ "path": "/nonexistent/clip.mp4" }));
    let mut rig = Rig::new("after-upgrade", vec![looping("cam1", &clip), gone]).await;
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    let (code, told) = check(&rig, &["--wait", "0s"]).await;
    assert!(code == 0 && told.contains("1 of 2 stream") && told.contains("warn  gone: "), "{told}");
    let (code, told) = check(&rig, &["--wait", "0s", "--every-camera", "--json"]).await;
    let report: Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert_eq!((code, &report["ok"]), (1, &json!(false)), "{report:#}");
    rig.stop().await;

    // No camera streams, whatever the reason: go back.
    rig.config["cameras"] = json!([rig.config["cameras"][1].clone()]);
    rig.start();
    rig.agent().until("gone", "known to be down", PATIENCE, |report| report["error"].is_string()).await;
    let (code, told) = check(&rig, &["--wait", "1s"]).await;
    assert!(code == 1 && told.contains("FAIL  cameras: none of 1 streams"), "{told}");
    rig.stop().await;

    // The old one still runs.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", rig.port)).await.expect("the port is free");
    let old = async {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut head = [0; 1024];
            let length = socket.read(&mut head).await.expect("a request");
            assert!(head[..length].starts_with(b"GET /health "));
            let body = r#"{"status":"healthy","version":"0.0.1","uptime_seconds":100000}"#;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            socket.write_all(head.as_bytes()).await.expect("sent");
        }
    };
    let (code, told) = tokio::select! {
        checked = check(&rig, &["--wait", "0s"]) => checked,
        () = old => unreachable!(),
        () = tokio::time::sleep(PATIENCE + Duration::from_secs(1)) => panic!("no answer"),
    };
    assert!(code == 1 && told.contains("version 0.0.1 runs, this is"), "{told}");
}

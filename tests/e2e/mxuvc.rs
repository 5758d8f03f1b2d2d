//! A DeepLens camera: a stand-in for the vendor's tool that writes down how it was called, and a FIFO with a writer.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::agent::{self, text};
use crate::harness::camera::play_into;
use crate::harness::footage::archived_pictures;
use crate::harness::media::{self, Clip};
use crate::harness::rig::camera;
use crate::harness::{PATIENCE, Rig, Scratch, http, poll};
use crate::sources::assert_same;

/// A tool that does `body` and writes its arguments down.
fn tool(scratch: &Scratch, body: &str) -> PathBuf {
    let log = scratch.join("mxuvc.log");
    let path = scratch.write("mxuvc", format!("#!/bin/sh\necho \"$@\" >> {}\n{body}\n", log.display()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

fn calls(scratch: &Scratch) -> Vec<String> {
    let text = std::fs::read_to_string(scratch.join("mxuvc.log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn rig(test: &str, body: &str, settings: Value) -> (Rig, PathBuf) {
    let mut rig = Rig::new(test, vec![camera("cam1", "mxuvc", json!({}))]).await;
    let fifo = rig.scratch.join("ch1_out.h264");
    media::tool("mkfifo", &[&fifo.to_string_lossy()]).await;
    let mut source = settings;
    source["tool"] = json!(tool(&rig.scratch, body));
    source["stream"] = json!(fifo);
    rig.config["cameras"][0]["mxuvc"] = source;
    (rig, fifo)
}

async fn until_called(scratch: &Scratch, wanted: &[&str]) {
    let found = poll(PATIENCE, async || {
        let calls = calls(scratch);
        calls.ends_with(&wanted.iter().map(|call| format!("--ch 1 {call}")).collect::<Vec<_>>()).then_some(())
    });
    assert!(found.await.is_some(), "{wanted:?} are not the last of {:?}", calls(scratch));
}

fn notes(report: &Value) -> String {
    report["device"]["notes"].to_string()
}

/// Set in order, read without a loss, found to be as asked; set again by command; set back at the end.
#[tokio::test]
async fn as_asked() {
    let clip = Clip { container: "h264", ..Clip::new(30) };
    let input = clip.file().await;
    let expected = media::decoded(&input).await;
    let settings = json!({ "width": 320, "height": 180, "frame_rate": 15, "gop": 15, "bitrate": 400_000,
        "restore_at_exit": true });
    let (mut rig, fifo) = rig("mxuvc", "", settings).await;
    rig.start();
    until_called(&rig.scratch, &["framerate 15", "resolution 320 180", "gop 15", "bitrate 400000", "iframe"]).await;
    let mut writer = play_into(&input, &fifo);
    let url = |command: &str| format!("/streams/cam1/commands/{command}");
    rig.agent().more_frames("cam1", 15).await;
    let answer = http::post(rig.port, &url("encoder"), &json!({ "requestId": "a", "bitrate": 500_000 }))
        .await
        .expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    until_called(&rig.scratch, &["bitrate 500000", "iframe"]).await;
    let answer = http::post(rig.port, &url("keyframe"), &json!({ "requestId": "b" })).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    until_called(&rig.scratch, &["bitrate 500000", "iframe", "iframe"]).await;
    let answer =
        http::post(rig.port, &url("encoder"), &json!({ "requestId": "c", "framerate": 60 })).await.expect("an answer");
    assert!(answer.status >= 400 && answer.body.contains("1 to 30"), "{}", answer.body);
    let wanted = expected.len() as u64;
    let report =
        rig.agent().until("cam1", "all there", PATIENCE, |report| report["frames"].as_u64() >= Some(wanted)).await;
    assert_eq!(notes(&report), "[]", "the stream is as it was asked to be");
    writer.wait().await.expect("the writer ends");
    rig.stop_and_compare(&["cam1"]).await;
    assert_same("archived", &archived_pictures(&rig.archive("cam1")).await, &expected);
    until_called(&rig.scratch, &["framerate 24", "resolution 1920 1080", "gop 24", "bitrate 2000000", "iframe"]).await;
}

/// A tool that fails, one that hangs, and an encoder that does something else: all of it is said, and footage goes on.
#[tokio::test]
async fn not_as_asked() {
    let clip = Clip { container: "h264", ..Clip::new(30) };
    let input = clip.file().await;
    let body =
        "case \"$3\" in gop) exit 13 ;; bitrate) echo 'no such device' >&2; exit 1 ;; framesize) sleep 30 ;; esac";
    let settings = json!({ "width": 640, "height": 360, "frame_rate": 30, "gop": 15, "bitrate": 2_000_000,
        "frame_size": 100_000 });
    let (mut rig, fifo) = rig("mxuvc-not", body, settings).await;
    rig.start();
    rig.agent().until("cam1", "waiting", PATIENCE, |report| report["attempts"] == 1).await;
    let mut writer = play_into(&input, &fifo);
    rig.agent().more_frames("cam1", 15).await;
    // Reading does not wait for the tool that hangs.
    let words = ["gop", "exit status: 13", "no such device", "within 5 s", "sudo", "320x180", "30 fps and gives 15"];
    let report = rig
        .agent()
        .until("cam1", "said what is wrong", PATIENCE, |report| words.iter().all(|word| notes(report).contains(word)))
        .await;
    assert_eq!(report["state"], "streaming");
    let failed = calls(&rig.scratch).iter().filter(|call| call.contains("gop")).count();
    assert_eq!(failed, 2, "tried twice");
    writer.wait().await.expect("the writer ends");
    rig.stop().await;
}

/// For a person: `edgecam encoder`.
#[tokio::test]
async fn by_hand() {
    let scratch = Scratch::new("mxuvc-hand");
    let path = tool(&scratch, "");
    let run = async |path: &Path, words: &[&str]| {
        let path = path.to_string_lossy();
        let arguments = [&["encoder", "--ch", "2", "--tool", &path][..], words].concat();
        agent::run(&[], &arguments, Duration::from_secs(20)).await
    };
    let output = run(&path, &["resolution", "1280", "720"]).await;
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(calls(&scratch), ["--ch 2 resolution 1280 720"]);
    for (words, code, said) in [
        (&["framerate", "31"][..], 78, "1 to 30"),
        (&["bitrate", "5"], 78, "bitrate"),
        (&["resolution", "1281", "720"], 78, "even"),
    ] {
        let output = run(&path, words).await;
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", text(&output));
        assert!(text(&output).contains(said), "{words:?}: {}", text(&output));
    }
    assert_eq!(calls(&scratch).len(), 1, "what is out of range is not tried");
    let output = run(Path::new("/nonexistent/mxuvc"), &["iframe"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("cannot be run"), "{}", text(&output));
}

//! Encoders that push by RTMP: what ffmpeg publishes is archived and stored, and who has no key gets nothing.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::harness::footage::{archived_audio, archived_pictures, assert_ends_in_order, stored_of_track};
use crate::harness::media::{self, Clip};
use crate::harness::rig::camera;
use crate::harness::{PATIENCE, Rig, agent};
use crate::sources::{assert_dumps_show, assert_same};

/// ffmpeg publishes a clip as it is, in real time.
fn publish(clip: &Path, port: u16, path: &str) -> Child {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-re", "-i"]).arg(clip).args(["-c", "copy", "-f", "flv"]);
    command.arg(format!("rtmp://127.0.0.1:{port}/{path}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("ffmpeg is installed")
}

async fn end(encoder: &mut Child) -> ExitStatus {
    tokio::time::timeout(PATIENCE, encoder.wait()).await.expect("the encoder ends").expect("its status")
}

fn note(report: &Value, words: &str) -> bool {
    report["device"]["notes"].as_array().into_iter().flatten().any(|note| note.as_str().unwrap_or("").contains(words))
}

/// Cameras `a`, `b`, … that listen at one port.
async fn listening(test: &str, names: &[&str]) -> (Rig, u16) {
    let port = agent::free_port();
    let camera = |name: &&str| {
        let mut camera = camera(name, "rtmp", json!({ "url": format!("rtmp://127.0.0.1:{port}/live/key-of-{name}") }));
        camera["audio"] = json!(true);
        camera
    };
    let mut rig = Rig::new(test, names.iter().map(camera).collect()).await;
    rig.start();
    for name in names {
        let is_waiting = |report: &Value| report["error"].as_str().is_some_and(|error| error.contains("no encoder"));
        rig.agent().until(name, "waiting", PATIENCE, is_waiting).await;
    }
    (rig, port)
}

/// Two cameras at one port; the second one's clip has B-frames and sound.
#[tokio::test]
async fn what_is_pushed_is_archived_and_stored() {
    let (mut rig, port) = listening("rtmp", &["a", "b"]).await;
    let plain = Clip::new(6).file().await;
    let frames = Clip { b_frames: true, ..Clip::new(6) }.file().await;
    let sound = rig.scratch.join("sound.mp4");
    let (input, output) = (frames.to_string_lossy(), sound.to_string_lossy());
    let tone = ["-f", "lavfi", "-t", "6", "-i", "sine=frequency=440:sample_rate=16000"];
    let coding = ["-c:v", "copy", "-c:a", "aac", "-y", &output];
    media::tool("ffmpeg", &[&["-v", "error", "-i", &input][..], &tone, &coding].concat()).await;
    let mut first = publish(&plain, port, "live/key-of-a");
    let mut second = publish(&sound, port, "live/key-of-b");
    rig.agent().until_state("a", "streaming").await;
    // A second one for the same camera, and one with a key that is none.
    assert!(!end(&mut publish(&plain, port, "live/key-of-a")).await.success(), "two publishers of one stream");
    assert!(!end(&mut publish(&plain, port, "live/key-of-c")).await.success(), "a wrong key");
    assert!(!end(&mut publish(&plain, port, "other/key-of-a")).await.success(), "a wrong application");
    let told = |report: &Value| note(report, "2 with a wrong key") && note(report, "1 while another");
    let report = rig.agent().until("a", "told of the refusals", PATIENCE, told).await;
    assert_eq!(report["device"]["name"], "encoder at 127.0.0.1", "{report:#}");
    assert!(end(&mut first).await.success() && end(&mut second).await.success());
    for name in ["a", "b"] {
        let is_over = |report: &Value| report["error"].as_str().is_some_and(|error| error.contains("finished"));
        let report = rig.agent().until(name, "over", PATIENCE, is_over).await;
        assert_eq!((&report["frames"], &report["attempts"]), (&json!(90), &json!(1)), "{report:#}");
    }
    let log = rig.agent().log();
    assert!(!log.contains("key-of"), "a key in the log");
    rig.stop_and_compare(&["a", "b"]).await;
    for (name, clip) in [("a", &plain), ("b", &frames)] {
        let expected = media::decoded(clip).await;
        assert_same(name, &archived_pictures(&rig.archive(name)).await, &expected);
        assert_dumps_show(&rig.kvs, name, rig.scratch.path(), &expected).await;
        assert_ends_in_order(&rig.kvs.stream(name));
    }
    // 6 s of frames of 64 ms, less what was heard before the first IDR had come.
    let archived = archived_audio(&rig.archive("b")).await;
    let stored = stored_of_track(&rig.kvs.stream("b"), 2).len();
    assert!(archived.len() > 75 && stored > 75, "{} frames of sound archived, {stored} stored", archived.len());
}

/// An encoder whose network is cut and that comes back: all it has sent is there, in one attempt.
#[tokio::test]
async fn an_encoder_that_is_cut_off_comes_back() {
    let (mut rig, port) = listening("rtmp-cut", &["a"]).await;
    let clip = Clip::new(6).file().await;
    let expected = media::decoded(&clip).await;
    let mut encoder = publish(&clip, port, "live/key-of-a");
    rig.agent().more_frames("a", 30).await;
    encoder.kill().await.expect("it can be killed");
    let is_gone = |report: &Value| report["error"].as_str().is_some_and(|error| error.contains("has gone"));
    let cut = rig.agent().until("a", "gone", PATIENCE, is_gone).await["frames"].as_u64().expect("a number");
    assert!(end(&mut publish(&clip, port, "live/key-of-a")).await.success());
    let wanted = cut + expected.len() as u64;
    let is_all = |report: &Value| report["frames"].as_u64() >= Some(wanted);
    let report = rig.agent().until("a", "all there", PATIENCE, is_all).await;
    assert_eq!((&report["frames"], &report["attempts"]), (&json!(wanted), &json!(1)), "{report:#}");
    rig.stop_and_compare(&["a"]).await;
    let all = [&expected[..cut as usize], &expected].concat();
    assert_same("archived", &archived_pictures(&rig.archive("a")).await, &all);
    assert_dumps_show(&rig.kvs, "a", rig.scratch.path(), &all).await;
}

/// Connections that say nothing, nonsense or too much keep no encoder out, and take no memory.
#[tokio::test]
async fn strangers_keep_no_encoder_out() {
    let (mut rig, port) = listening("rtmp-strangers", &["a"]).await;
    let memory = |rig: &Rig| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", rig.agent().pid().as_raw_nonzero()));
        let line = status.expect("it runs").lines().find(|line| line.starts_with("VmRSS")).expect("a line").to_owned();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    let before = memory(&rig);
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.expect("it listens"));
    }
    for begin in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[6; 5000]] {
        let mut stranger = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        stranger.write_all(begin).await.expect("sent");
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut answer)).await.expect("closed");
        assert!(closed.is_err() || answer.is_empty(), "{answer:?}");
    }
    // A message of 16 MB, after a handshake that is in order.
    let mut greedy = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let message = [&[3][..], &[0; 2 * 1536], &[6, 0, 0, 0, 0xff, 0xff, 0xff, 9, 0, 0, 0, 0], &[0; 4000]].concat();
    greedy.write_all(&message).await.expect("sent");
    let clip = Clip::new(5).file().await;
    let mut encoder = publish(&clip, port, "live/key-of-a");
    rig.agent().until("a", "streaming past strangers", PATIENCE, |report| report["state"] == "streaming").await;
    let report = rig.agent().until("a", "told", PATIENCE, |report| note(report, "without RTMP")).await;
    assert!(end(&mut encoder).await.success(), "{report:#}");
    let grown = memory(&rig).saturating_sub(before);
    assert!(grown < 12_000, "{grown} KiB more than before");
    drop(silent);
    let expected = media::decoded(&clip).await;
    let is_all = |report: &Value| report["frames"].as_u64() >= Some(expected.len() as u64);
    rig.agent().until("a", "all there", PATIENCE, is_all).await;
    rig.stop_and_compare(&["a"]).await;
    assert_same("archived", &archived_pictures(&rig.archive("a")).await, &expected);
}

/// A port that is in use is said to be, and taken as soon as it is free.
#[tokio::test]
async fn a_port_that_is_in_use() {
    let port = agent::free_port();
    let other = std::net::TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    let source = json!({ "url": format!("rtmp://127.0.0.1:{port}/live/key") });
    let mut rig = Rig::new("rtmp-port", vec![camera("a", "rtmp", source)]).await;
    rig.start();
    let report = rig.agent().until_state("a", "busy").await;
    assert!(report["error"].as_str().is_some_and(|error| error.contains("another program")), "{report:#}");
    drop(other);
    let is_waiting = |report: &Value| report["error"].as_str().is_some_and(|error| error.contains("no encoder"));
    rig.agent().until("a", "waiting", Duration::from_secs(20), is_waiting).await;
    rig.stop().await;
}

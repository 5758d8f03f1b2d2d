//! Every kind of source: what is archived and what the service stores is what the source showed, picture by picture.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use kvs_server::{Config, Dump, KvsServer, StreamSpec};
use serde_json::{Value, json};

use crate::harness::agent::text;
use crate::harness::camera::{RtspServer, certificates, play_into};
use crate::harness::footage::{
    archived, archived_pictures, assert_ends_in_order, assert_stored, assert_well_behaved, dumps, segments,
};
use crate::harness::media::{self, Clip};
use crate::harness::rig::{camera, environment};
use crate::harness::{Rig, Scratch, agent};

/// Every dump of a stream can be read by mkvinfo, and together they show `expected`.
pub(crate) async fn assert_dumps_show(kvs: &KvsServer, stream: &str, directory: &Path, expected: &[String]) {
    let files = dumps(kvs, stream, directory);
    let mut pictures = Vec::new();
    for file in &files {
        let clusters = media::clusters(file).await;
        assert!(clusters > 0, "{}: no Cluster", file.display());
        pictures.extend(media::decoded(file).await);
    }
    assert_same(&format!("{stream}: stored in {} sessions", files.len()), &pictures, expected);
}

/// The same pictures in the same order; tells where the first difference is.
pub(crate) fn assert_same(what: &str, found: &[String], expected: &[String]) {
    let difference = found.iter().zip(expected).position(|(found, expected)| found != expected);
    assert!(
        difference.is_none() && found.len() == expected.len(),
        "{what}: {} pictures, {} expected; the first that differs: {difference:?}",
        found.len(),
        expected.len(),
    );
}

/// One run of a source that ends: archive and stream equal the clip.
async fn check(test: &str, clip: Clip, kind: &str, source: impl AsyncFnOnce(&Path, &Path) -> Value) {
    check_in_segments(test, clip, kind, "2s", source).await;
}

async fn check_in_segments(
    test: &str,
    clip: Clip,
    kind: &str,
    segment: &str,
    source: impl AsyncFnOnce(&Path, &Path) -> Value,
) {
    let input = clip.file().await;
    let expected = media::decoded(&input).await;
    assert_eq!(expected.len(), clip.seconds as usize * 15);
    let mut rig = Rig::new(test, vec![camera("cam1", kind, json!({}))]).await;
    rig.config["cameras"][0][kind] = source(&input, rig.scratch.path()).await;
    rig.config["cameras"][0]["archive"]["segment"] = json!(segment);
    rig.start();
    let wanted = expected.len() as u64;
    let is_all = |report: &Value| report["frames"].as_u64() >= Some(wanted);
    rig.agent().until("cam1", "all there", Duration::from_secs(90), is_all).await;
    rig.stop_and_compare(&["cam1"]).await;
    let count = segments(&rig.archive("cam1")).len();
    assert_eq!(count > 1, segment == "2s", "segments follow each other");
    assert_same("archived", &archived_pictures(&rig.archive("cam1")).await, &expected);
    assert_dumps_show(&rig.kvs, "cam1", rig.scratch.path(), &expected).await;
    assert_ends_in_order(&rig.kvs.stream("cam1"));
}

async fn file(test: &str, clip: Clip) {
    check(test, clip, "file", async |input, _| json!({ "path": input, "loop": false })).await;
}

#[tokio::test]
async fn mp4_file() {
    file("mp4", Clip::new(8)).await;
}

#[tokio::test]
async fn mp4_file_with_b_frames() {
    file("mp4-b", Clip { b_frames: true, ..Clip::new(8) }).await;
}

#[tokio::test]
async fn mkv_file() {
    file("mkv", Clip { b_frames: true, container: "mkv", ..Clip::new(5) }).await;
}

#[tokio::test]
async fn h264_file() {
    check(
        "h264",
        Clip { container: "h264", ..Clip::new(5) },
        "file",
        async |input, _| json!({ "path": input, "loop": false, "frame_rate": 15 }),
    )
    .await;
}

#[tokio::test]
async fn h264_file_with_b_frames() {
    let clip = Clip { b_frames: true, container: "h264", ..Clip::new(5) };
    check("h264-b", clip, "file", async |input, _| json!({ "path": input, "loop": false, "frame_rate": 15 })).await;
}

#[tokio::test]
async fn h265_in_mp4() {
    file("h265-mp4", Clip { h265: true, ..Clip::new(6) }).await;
}

#[tokio::test]
async fn h265_in_mkv_with_b_frames_and_open_gops() {
    let clip = Clip { h265: true, b_frames: true, container: "mkv", ..Clip::new(6) };
    // A player that begins with a segment leaves out the RASL pictures at its front, as it must.
    check_in_segments("h265-mkv", clip, "file", "1m", async |input, _| json!({ "path": input, "loop": false })).await;
}

#[tokio::test]
async fn h265_file() {
    let clip = Clip { h265: true, container: "h265", ..Clip::new(5) };
    check("h265", clip, "file", async |input, _| json!({ "path": input, "loop": false, "frame_rate": 15 })).await;
}

/// The writer comes when the agent is already waiting for it.
#[tokio::test]
async fn fifo() {
    let clip = Clip { container: "h264", ..Clip::new(6) };
    let input = clip.file().await;
    let expected = media::decoded(&input).await;
    let mut rig = Rig::new("fifo", vec![camera("cam1", "elementary_stream", json!({}))]).await;
    let fifo = rig.scratch.join("video.h264");
    media::tool("mkfifo", &[&fifo.to_string_lossy()]).await;
    rig.config["cameras"][0]["elementary_stream"] = json!({ "path": fifo, "frame_rate": 15 });
    rig.start();
    rig.agent().until("cam1", "waiting", Duration::from_secs(30), |report| report["attempts"] == 1).await;
    let mut writer = play_into(&input, &fifo);
    let wanted = expected.len() as u64;
    let is_all = |report: &Value| report["frames"].as_u64() >= Some(wanted);
    rig.agent().until("cam1", "all there", Duration::from_secs(60), is_all).await;
    writer.wait().await.expect("the writer ends");
    rig.stop_and_compare(&["cam1"]).await;
    assert_same("archived", &archived_pictures(&rig.archive("cam1")).await, &expected);
    assert_dumps_show(&rig.kvs, "cam1", rig.scratch.path(), &expected).await;
}

/// `edgecam upload -`: no archive, no config; everything is stored when it returns.
#[tokio::test]
async fn standard_input() {
    let input = Clip { container: "h264", ..Clip::new(6) }.file().await;
    let expected = media::decoded(&input).await;
    let scratch = Scratch::new("stdin");
    let mut settings = Config::new(scratch.join("kvs"));
    settings.dump = Dump::Memory;
    settings.streams = vec![StreamSpec { name: "piped".to_owned(), retention_hours: 1 }];
    let credentials = settings.credentials[0].clone();
    let kvs = KvsServer::start(settings).await.expect("the service starts");
    let mut writer = std::process::Command::new("ffmpeg");
    writer.args(["-v", "error", "-re", "-i"]).arg(&input).args(["-c", "copy", "-f", "h264", "-"]);
    let mut writer = writer.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("ffmpeg is installed");
    let mut command = agent::program(&environment(&kvs, Some(&credentials)));
    command.args(["upload", "-", "piped", "--fps", "15"]).stdin(writer.stdout.take().expect("a pipe"));
    let mut command = tokio::process::Command::from(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    writer.kill().ok();
    writer.wait().expect("the writer ends");
    let output = output.expect("the upload ends by itself").expect("it runs");
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(&format!("{} frames", expected.len())), "{text}");
    let record = kvs.stream("piped");
    assert_well_behaved(&record);
    assert_ends_in_order(&record);
    assert_dumps_show(&kvs, "piped", scratch.path(), &expected).await;
}

/// A live picture joined in the middle: what is archived is stored, whole GOPs, no gap.
async fn rtsp(test: &str, server: &[&str], settings: impl FnOnce(&RtspServer) -> Value) {
    let has_audio = server.contains(&"--audio");
    let server = RtspServer::start(0, &[&["--size", "320x180"], server].concat()).await;
    let mut rig = Rig::new(test, vec![camera("cam1", "rtsp", settings(&server))]).await;
    rig.config["cameras"][0]["audio"] = json!(has_audio);
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", 120).await;
    let report = rig.caught_up("cam1", Duration::from_secs(30)).await;
    assert_eq!(report["attempts"], 1, "{report:#}");
    let (pictures, resent) = rig.stop_and_compare(&["cam1"]).await[0];
    assert!(pictures >= 120 && resent == 0, "{pictures} pictures, {resent} sent twice");
    let packets = archived(&rig.archive("cam1")).await;
    assert!(packets[0].is_key);
    let steps: Vec<i64> = packets.windows(2).map(|pair| pair[1].ms - pair[0].ms).collect();
    // Two thirds of a frame to seven frames: the server draws in real time on a busy machine.
    assert!(steps.iter().all(|step| (1..470).contains(step)), "a gap or a step back: {steps:?}");
    let pictures = archived_pictures(&rig.archive("cam1")).await;
    assert_dumps_show(&rig.kvs, "cam1", rig.scratch.path(), &pictures).await;
    assert_ends_in_order(&rig.kvs.stream("cam1"));
}

#[tokio::test]
async fn rtsp_over_tcp_with_digest() {
    let scratch = Scratch::new("digest");
    let password = scratch.write("password", "test\n");
    rtsp(
        "rtsp-tcp",
        &["--auth", "digest", "--tcp-only"],
        |server| json!({ "url": server.url(), "username": "admin", "password_file": password }),
    )
    .await;
}

#[tokio::test]
async fn rtsp_over_udp() {
    rtsp("rtsp-udp", &["--udp-only"], |server| json!({ "url": server.url(), "transport": "udp" })).await;
}

#[tokio::test]
async fn rtsp_over_tls() {
    let scratch = Scratch::new("tls");
    let certificates = certificates(scratch.path()).await;
    let (certificate, key) = (certificates.certificate.to_string_lossy(), certificates.key.to_string_lossy());
    rtsp("rtsps", &["--cert", &certificate, "--key", &key], |server| {
        let url = format!("rtsps://localhost:{}/cam1", server.port);
        json!({ "url": url, "ca_file": certificates.ca })
    })
    .await;
}

#[tokio::test]
async fn rtsp_over_udp_with_basic_and_aac() {
    let scratch = Scratch::new("basic");
    let password = scratch.write("password", "test\n");
    let settings = |server: &RtspServer| json!({ "url": server.url(), "transport": "udp", "username": "admin", "password_file": password });
    rtsp("rtsp-basic", &["--udp-only", "--auth", "basic", "--audio", "aac"], settings).await;
}

#[tokio::test]
async fn rtsp_with_h265_over_tls_with_digest_and_aac() {
    let scratch = Scratch::new("tls-h265");
    let certificates = certificates(scratch.path()).await;
    let password = scratch.write("password", "test\n");
    let (certificate, key) = (certificates.certificate.to_string_lossy(), certificates.key.to_string_lossy());
    let secured = ["--cert", &certificate, "--key", &key, "--auth", "digest"];
    rtsp("rtsps-h265", &[&secured[..], &["--codec", "h265", "--audio", "aac"]].concat(), |server| {
        let url = format!("rtsps://localhost:{}/cam1", server.port);
        json!({ "url": url, "ca_file": certificates.ca, "username": "admin", "password_file": password })
    })
    .await;
}

#[tokio::test]
async fn rtsp_with_mjpeg() {
    rtsp("rtsp-mjpeg", &["--codec", "mjpeg", "--tcp-only"], |server| json!({ "url": server.url() })).await;
}

#[tokio::test]
async fn rtsp_with_h265() {
    rtsp("rtsp-h265", &["--codec", "h265"], |server| json!({ "url": server.url() })).await;
}

#[tokio::test]
async fn test_pattern() {
    let pattern = json!({ "width": 320, "height": 180, "frame_rate": 15 });
    let mut rig = Rig::new("pattern", vec![camera("cam1", "test_pattern", pattern)]).await;
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", 90).await;
    rig.caught_up("cam1", Duration::from_secs(30)).await;
    rig.stop_and_compare(&["cam1"]).await;
    let packets = archived(&rig.archive("cam1")).await;
    assert_stored(&packets, &rig.kvs.stream("cam1"));
    let pictures = archived_pictures(&rig.archive("cam1")).await;
    assert_eq!(pictures.len(), packets.len());
    assert_dumps_show(&rig.kvs, "cam1", rig.scratch.path(), &pictures).await;
    assert_ends_in_order(&rig.kvs.stream("cam1"));
}

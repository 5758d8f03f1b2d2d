//! Sound beside the pictures: in the archive, in the stream, and what happens when it stops.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::agent;
use crate::harness::camera::RtspServer;
use crate::harness::footage::{archived_audio, archived_pictures, segments, stored_of_track};
use crate::harness::media::{self, Packet};
use crate::harness::rig::camera;
use crate::harness::{PATIENCE, Rig};

/// A camera with sound that streams for so many pictures; it has ended when this returns.
async fn run(test: &str, server: &[&str], has_audio: bool, frames: u64) -> (Rig, Value) {
    let server = RtspServer::start(0, &[&["--size", "320x180"], server].concat()).await;
    let mut rig = Rig::new(test, vec![camera("cam1", "rtsp", json!({ "url": server.url() }))]).await;
    rig.config["cameras"][0]["audio"] = json!(has_audio);
    rig.config["cameras"][0]["archive"]["segment"] = json!("3s");
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", frames).await;
    let report = rig.caught_up("cam1", Duration::from_secs(30)).await;
    rig.stop_and_compare(&["cam1"]).await;
    (rig, report)
}

/// What is in both, by content; times agree.
fn assert_same(archived: &[Packet], stored: &[Packet], most_missing: usize) {
    let is_same = |a: &Packet, b: &Packet| a.hash == b.hash && (a.ms - b.ms).abs() <= 2;
    let missing = archived.iter().filter(|packet| !stored.iter().any(|other| is_same(packet, other))).count();
    let extra = stored.iter().filter(|packet| !archived.iter().any(|other| is_same(packet, other))).count();
    assert!(missing <= most_missing && extra == 0, "{missing} of {} are missing, {extra} extra", archived.len());
}

#[tokio::test]
async fn aac_goes_to_the_archive_and_to_the_stream() {
    let (rig, report) = run("aac", &["--audio", "aac"], true, 120).await;
    assert_eq!(report["audio"]["codec"], "AAC", "{report:#}");
    assert_eq!(report["audio"]["is_uploaded"], true, "{report:#}");
    let directory = rig.archive("cam1");
    let record = rig.kvs.stream("cam1");
    let archived = archived_audio(&directory).await;
    let stored: Vec<Packet> = stored_of_track(&record, 2).into_iter().map(|(packet, _)| packet).collect();
    // 8 s of frames of 64 ms, less the first GOP: sound begins with the IDR after its first frame.
    assert!(archived.len() > 90, "{} frames", archived.len());
    assert_same(&archived, &stored, 0);
    let steps: Vec<i64> = archived.windows(2).map(|pair| pair[1].ms - pair[0].ms).collect();
    assert!(steps.iter().all(|step| (60..=68).contains(step)), "a gap or a step: {steps:?}");
    for segment in segments(&directory).iter().skip(1) {
        let (codec, samples) = media::audio(segment).await;
        assert!(codec == "aac" && samples > 16_000, "{}: {samples} samples of {codec}", segment.display());
    }
    assert!(!archived_pictures(&directory).await.is_empty());
    let output = agent::run(&[], &["archive", "verify", &directory.to_string_lossy()], PATIENCE).await;
    assert!(output.status.success(), "{}", agent::text(&output));
    let first = archived.first().expect("a frame").ms;
    let clip = rig.scratch.join("clip.mp4");
    let range = format!("{}/{}", first + 1000, first + 4000);
    let arguments = ["archive", "export", &directory.to_string_lossy(), &range, &clip.to_string_lossy()];
    let output = agent::run(&[], &arguments, PATIENCE).await;
    assert!(output.status.success(), "{}", agent::text(&output));
    let (codec, samples) = media::audio(&clip).await;
    assert!(codec == "aac" && samples > 40_000, "the clip: {samples} samples of {codec}");
    // A power cut at any byte of the newest segment: what is whole in it stays, sound and pictures.
    let newest = segments(&directory).pop().expect("a segment");
    let bytes = std::fs::read(&newest).expect("readable");
    for part in 1..8 {
        std::fs::write(&newest, &bytes[..bytes.len() * part / 8]).expect("cut");
        edgecam::footage::archive::open(&directory).expect("it is mended");
        let output = agent::run(&[], &["archive", "verify", &directory.to_string_lossy()], PATIENCE).await;
        assert!(output.status.success(), "cut at {part}/8: {}", agent::text(&output));
    }
    // Every fragment of a session with two tracks has both: the service refuses what has not.
    assert!(record.sessions.len() <= 2, "{} sessions", record.sessions.len());
}

/// The sound stops for longer than a GOP, and comes back: the upload goes on without it, and then with it.
#[tokio::test]
async fn sound_that_stops_and_returns() {
    let (rig, report) = run("aac-stops", &["--audio", "aac", "--mute", "6", "11"], true, 270).await;
    assert_eq!(report["attempts"], 1, "{report:#}");
    let record = rig.kvs.stream("cam1");
    let with_audio = |fragment: &kvs_server::FragmentRecord| fragment.blocks.iter().any(|block| block.track == 2);
    let mut turns: Vec<bool> = record.fragments.iter().map(with_audio).collect();
    turns.dedup();
    assert!(turns.ends_with(&[true, false, true]), "{turns:?}");
    let stored: Vec<Packet> = stored_of_track(&record, 2).into_iter().map(|(packet, _)| packet).collect();
    // What is heard before the sound is taken for gone, or after it was, may be in the archive alone.
    assert_same(&archived_audio(&rig.archive("cam1")).await, &stored, 20);
}

async fn g711(test: &str, law: &str, codec: &str) {
    let (rig, report) = run(test, &["--audio", law], true, 90).await;
    assert_eq!(report["audio"]["is_uploaded"], false, "{report:#}");
    assert!(report["audio"]["note"].as_str().is_some_and(|note| note.contains("AAC")), "{report:#}");
    assert!(stored_of_track(&rig.kvs.stream("cam1"), 2).is_empty());
    let segments = segments(&rig.archive("cam1"));
    let (found, samples) = media::audio(segments.get(1).expect("a segment with sound")).await;
    assert!(found == codec && samples > 8_000, "{samples} samples of {found}");
}

#[tokio::test]
async fn a_law_goes_to_the_archive_alone() {
    g711("alaw", "alaw", "pcm_alaw").await;
}

#[tokio::test]
async fn mu_law_goes_to_the_archive_alone() {
    g711("mulaw", "mulaw", "pcm_mulaw").await;
}

#[tokio::test]
async fn sound_is_not_recorded_unless_it_is_asked_for() {
    let (rig, report) = run("silent", &["--audio", "aac"], false, 45).await;
    assert_eq!(report.get("audio"), None, "{report:#}");
    assert!(archived_audio(&rig.archive("cam1")).await.is_empty());
}

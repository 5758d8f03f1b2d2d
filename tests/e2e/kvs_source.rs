//! A stream of Kinesis Video Streams as a source: what is played there is archived and stored here, once and without a gap,
//! whatever becomes of the playback sessions.

use std::path::Path;
use std::time::Duration;

use kvs_server::{Playback, StreamSpec};
use serde_json::{Value, json};

use crate::harness::footage::{archived_pictures, assert_ends_in_order};
use crate::harness::media::{self, Clip};
use crate::harness::rig::camera;
use crate::harness::{PATIENCE, Rig};
use crate::sources::{assert_dumps_show, assert_same};

/// Pictures in a fragment: 2 s.
const FRAGMENT: usize = 30;

/// A clip as the service would play it.
async fn playback(clip: &Path, directory: &Path) -> Playback {
    let (input, segments) = (clip.to_string_lossy(), directory.join("seg%03d.m4s"));
    let playlist = directory.join("playlist.m3u8");
    let form = ["-f", "hls", "-hls_time", "2", "-hls_segment_type", "fmp4", "-hls_list_size", "0"];
    let names = ["-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename", &segments.to_string_lossy()];
    let front = ["-v", "error", "-y", "-i", &input, "-c", "copy"];
    media::tool("ffmpeg", &[&front[..], &form, &names, &[&playlist.to_string_lossy()]].concat()).await;
    let read = |name: String| std::fs::read(directory.join(name));
    let fragments = (0..).map_while(|number| read(format!("seg{number:03}.m4s")).ok());
    let fragments = fragments.map(|bytes| (bytes, Duration::from_secs(2))).collect();
    Playback { init: read("init.mp4".to_owned()).expect("its head"), fragments }
}

async fn rig(test: &str, stream: &str) -> Rig {
    let source = json!({ "url": format!("kvs://{stream}"), "session": "5m", "stall_timeout": "4s" });
    Rig::with(test, vec![camera("cam1", "kvs", source)], |config| {
        config.streams.push(StreamSpec { name: "far".to_owned(), retention_hours: 24 });
        config.streams.push(StreamSpec { name: "unkept".to_owned(), retention_hours: 0 });
    })
    .await
}

/// Sessions are refused in the middle; with EDGECAM_LONG=1 one also comes near to its end.
#[tokio::test]
async fn a_stream_is_played_through_its_sessions() {
    let is_long = std::env::var_os("EDGECAM_LONG").is_some();
    let clip = Clip::new(if is_long { 280 } else { 24 }).file().await;
    let expected = media::decoded(&clip).await;
    let mut rig = rig("kvs-source", "far").await;
    let playback = playback(&clip, rig.scratch.path()).await;
    assert_eq!(playback.fragments.len() * FRAGMENT, expected.len());
    rig.kvs.play("far", playback);
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    for _ in 0..2 {
        rig.agent().more_frames("cam1", 50).await;
        rig.kvs.expire_hls_sessions();
    }
    let first = *rig.kvs.hls_record().1.first().expect("a fragment");
    let wanted = expected.len() - first * FRAGMENT;
    let limit = Duration::from_secs(expected.len() as u64 / 15 + 60);
    let is_all = |report: &Value| report["frames"].as_u64() >= Some(wanted as u64);
    let report = rig.agent().until("cam1", "all there", limit, is_all).await;
    assert_eq!((&report["frames"], &report["source"]), (&json!(wanted), &json!("kvs://far")), "{report:#}");
    // The other device is silent: that is a stall, and what is played again by the next attempts is nothing.
    rig.agent().until("cam1", "tried again", PATIENCE, |report| report["attempts"].as_u64() >= Some(3)).await;
    let report = rig.agent().until_state("cam1", "stalled").await;
    assert_eq!(report["frames"], json!(wanted), "{report:#}");
    let (sessions, fetched) = rig.kvs.hls_record();
    assert!(sessions >= if is_long { 4 } else { 3 }, "{sessions} sessions");
    let every: Vec<usize> = (first..expected.len() / FRAGMENT).collect();
    assert_eq!(fetched, every, "each fragment once, in order");
    let log = rig.agent().log();
    assert!(!log.contains("SessionToken="), "a token in the log");
    rig.stop_and_compare(&["cam1"]).await;
    let expected = &expected[first * FRAGMENT..];
    assert_same("archived", &archived_pictures(&rig.archive("cam1")).await, expected);
    assert_dumps_show(&rig.kvs, "cam1", rig.scratch.path(), expected).await;
    assert_ends_in_order(&rig.kvs.stream("cam1"));
}

#[tokio::test]
async fn streams_that_cannot_be_played() {
    for (stream, says) in [("nobody", "stream/nobody"), ("unkept", "no data retention"), ("far", "No fragments")] {
        let mut rig = rig(&format!("kvs-source-{stream}"), stream).await;
        rig.start();
        let report = rig.agent().until("cam1", "refused", PATIENCE, |report| report["error"].is_string()).await;
        assert_eq!(report["state"], "no_device", "{report:#}");
        assert!(report["error"].as_str().is_some_and(|error| error.contains(says)), "{report:#}");
        rig.stop().await;
    }
}

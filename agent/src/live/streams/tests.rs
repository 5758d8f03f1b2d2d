use std::time::Duration;

use edgecam_media::ring::Bounds;
use edgecam_media::rtp::{AllowList, Network};
use serde_json::json;

use super::*;
use crate::footage::{Footage, Storage};

const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";

async fn play(streams: &Streams, stream_id: &str) -> Played {
    let sdp = "v=0\nc=IN IP4 127.0.0.1\nm=video 45006 RTP/AVP 96\na=rtpmap:96 H264/90000\n";
    let allowed = AllowList::new(vec!["127.0.0.1".parse::<Network>().expect("a network")]);
    let target = RtpTarget::parse(sdp, &allowed).expect("usable");
    let footage = Footage::new(Bounds { keep: 1000, most: 1000 }, 0, Duration::ZERO, Storage::None, None);
    let source = RtpSource { camera: "door".to_owned(), footage, force_idr: None, bitrate: None };
    let settings = Settings::new(&target, || 5);
    streams.play(CAMERA, stream_id, source, &target, settings).await.expect("sockets")
}

#[tokio::test]
async fn one_stream_for_each_camera() {
    let streams = Streams::default();
    let Played::Started(started) = play(&streams, "8f7a2b1c-3f51").await else { panic!("it did not run") };
    assert_eq!(started.session_id, "stream-56C1CADC-8f7a2b1c");
    assert_eq!(started.state, "starting", "there is no picture yet");
    assert_eq!(play(&streams, "8f7a2b1c-3f51").await, Played::Extended(started.clone()));
    assert!(streams.keepalive(CAMERA, "8f7a2b1c-3f51").await);
    assert!(!streams.keepalive(CAMERA, "another").await);
    assert!(!streams.keepalive("another", "8f7a2b1c-3f51").await);
    // Another one takes its place, and commands for the old one have no effect.
    assert!(matches!(play(&streams, "11111111-2222").await, Played::Started(_)));
    assert_eq!(streams.list().await.count, 1);
    assert_eq!(streams.stop(CAMERA, Some("8f7a2b1c-3f51")).await, None);
    assert!(streams.keepalive(CAMERA, "11111111-2222").await);
    let report = streams.stop(CAMERA, None).await.expect("it ran");
    assert_eq!((report.state, report.keepalive_stats.keepalive_count), ("stopped", 1));
    assert!(report.stopped_at.is_some() && report.duration_seconds < 10.0);
    assert_eq!(streams.stop(CAMERA, None).await, None);
    assert!(!streams.keepalive(CAMERA, "11111111-2222").await);
    assert_eq!(streams.list().await.count, 0);
}

#[tokio::test]
async fn answers_have_the_services_shape() {
    let streams = Streams::default();
    assert_eq!(streams.get(CAMERA).await, None);
    assert_eq!(json!(streams.list().await), json!({ "streams": [], "count": 0 }));
    play(&streams, "8f7a2b1c-3f51").await;
    let list = json!(streams.list().await);
    let names = |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let mut expected =
        ["camera_id", "session_id", "stream_id", "state", "started_at", "duration_seconds", "viewer_count"];
    expected.sort_unstable();
    assert_eq!(names(&list["streams"][0]), expected);
    let detail = json!(streams.get(CAMERA).await);
    assert_eq!(names(&detail), ["stream", "viewer_count", "viewers"]);
    let keepalives = json!({ "running": true, "keepalive_count": 0, "error_count": 0 });
    assert_eq!(detail["stream"]["keepalive_stats"], keepalives);
    let viewers = json!(streams.viewers(Some(CAMERA)).await);
    assert_eq!((&viewers["count"], &viewers["viewers"][0]["connected"]), (&json!(1), &json!(false)));
    assert_eq!(json!(streams.viewers(Some("another")).await)["count"], 0);
    assert_eq!(json!(streams.viewers(None).await)["camera_id"], json!(null));
    let health = streams.health(true).await;
    assert_eq!((health.status, health.active_streams, health.total_viewers), ("healthy", 1, 1));
    streams.stop(CAMERA, None).await;
    let detail = json!(streams.get(CAMERA).await);
    assert_eq!((&detail["stream"]["state"], &detail["viewer_count"]), (&json!("stopped"), &json!(0)));
    assert_eq!(streams.health(false).await.status, "degraded");
    play(&streams, "8f7a2b1c-3f51").await;
    streams.stop_all().await;
    assert_eq!(streams.get(CAMERA).await, None, "nothing is left of it");
}

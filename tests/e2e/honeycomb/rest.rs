//! The same by REST, in the shapes of the platform's own service.

use serde_json::json;

use super::receiver::{Receiver, sdp};
use super::{CAMERA, Platform, drawn};
use crate::harness::{PATIENCE, http, poll};

#[tokio::test]
async fn by_rest() {
    let mut platform = Platform::new("hive-rest", drawn()).await;
    platform.start().await;
    let port = platform.rig.port;
    let post = async |path: &str, body: &serde_json::Value| http::post(port, path, body).await.expect("an answer");
    let start = format!("/streams/{CAMERA}/start");
    let mut receiver = Receiver::new("user1@host-1").await;
    let bandwidths = json!({ "max_bandwidth": 5000, "min_bandwidth": 500 });
    let answer = post(&start, &bandwidths).await;
    assert!(answer.status == 400 && answer.body.contains("sdp_offer is missing"), "{answer:?}");
    let fields = [("host", "127.0.0.1"), ("content-type", "application/json")];
    let answer = http::request(port, "POST", &start, &fields, "").await.expect("an answer");
    assert!(answer.status == 400 && answer.body.contains("sdp_offer is missing"), "{answer:?}");
    assert_eq!(post(&start, &json!({ "max_bandwith": 5 })).await.status, 400);
    let none = format!("/streams/{}/start", "0".repeat(32));
    assert_eq!(post(&none, &json!({ "sdp_offer": receiver.sdp() })).await.status, 404);
    let outside = json!({ "sdp_offer": sdp("192.0.2.7", 5006, 5007, "x") });
    let answer = post(&start, &outside).await;
    assert!(answer.status == 422 && answer.body.contains("192.0.2.7 is not among"), "{answer:?}");
    let stop = format!("/streams/{CAMERA}/stop");
    assert_eq!(post(&stop, &json!({})).await.status, 404);
    assert_eq!(post(&format!("/streams/{CAMERA}/keepalive"), &json!({})).await.status, 404);
    let before = platform.get("/streams/cam1").await;
    assert_eq!((&before["stream"]["live"], &before["viewer_count"]), (&json!(null), &json!(0)), "{before:#}");

    let wanted = json!({ "sdp_offer": receiver.sdp(), "max_bandwidth": 400, "min_bandwidth": 300 });
    let answer = post(&start, &wanted).await;
    let started = answer.json();
    assert!(answer.status == 201 && started["camera_id"] == CAMERA && started["state"] == "starting", "{started:#}");
    let session = started["session_id"].as_str().expect("a session").to_owned();
    assert!(session.starts_with("stream-56C1CADC-"), "{session}");
    receiver.packet().await;
    // By our name it is the same camera.
    let answer = post("/streams/cam1/start", &wanted).await;
    assert!(answer.status == 409 && answer.json()["session_id"] == session.as_str(), "{answer:?}");
    assert_eq!(post("/streams/cam1/keepalive", &json!({})).await.status, 200);
    receiver.remb(1 << 17).await;
    let detail = poll(PATIENCE, async || {
        let detail = platform.get(&format!("/streams/{CAMERA}")).await;
        (detail["viewers"][0]["connected"] == true).then_some(detail)
    });
    let detail = detail.await.expect("the receiver is heard");
    let stream = &detail["stream"];
    assert_eq!((&stream["state"], &stream["live"]["state"]), (&json!("streaming"), &json!("active")), "{detail:#}");
    assert_eq!(stream["live"]["rtp"]["bitrate"], 400_000, "{detail:#}");
    assert_eq!(stream["keepalive_stats"], json!({ "running": true, "keepalive_count": 1, "error_count": 0 }));
    assert_eq!((&stream["session_id"], &detail["viewer_count"]), (&json!(session), &json!(1)), "{detail:#}");
    let list = platform.get("/streams").await;
    let first = &list["streams"][0];
    assert_eq!((&list["count"], &first["camera_id"]), (&json!(1), &json!("cam1")), "{list:#}");
    assert!(first["duration_seconds"].is_f64() && first["viewer_count"] == 1, "{list:#}");
    let health = platform.get("/health").await;
    assert_eq!((&health["status"], &health["live_streams"]), (&json!("healthy"), &json!(1)), "{health:#}");
    assert_eq!((&health["active_streams"], &health["total_viewers"]), (&json!(1), &json!(1)), "{health:#}");
    for path in ["/viewers".to_owned(), format!("/viewers/{CAMERA}"), "/viewers/cam1".to_owned()] {
        let viewers = platform.get(&path).await;
        assert_eq!((&viewers["count"], &viewers["viewers"][0]["camera_id"]), (&json!(1), &json!(CAMERA)), "{path}");
    }
    let answer = post(&stop, &json!({})).await;
    let report = answer.json();
    assert!(answer.status == 200 && report["state"] == "stopped" && report["rtp"]["rembs"] == 1, "{report:#}");
    receiver.goodbye().await;
    assert_eq!(post(&stop, &json!({})).await.status, 404);
    // The platform is told of it, whoever has asked.
    let id = started["stream_id"].as_str().expect("an id");
    platform.hear_activity("start", id).await;
    platform.hear_activity("stop", id).await;
    platform.rig.stop().await;
}

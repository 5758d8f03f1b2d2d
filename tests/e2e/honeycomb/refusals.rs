//! What a platform, or someone who says to be one, does not get.

use std::time::Duration;

use serde_json::json;

use super::receiver::{Receiver, sdp};
use super::{CAMERA, Platform, STREAM, drawn};

#[tokio::test]
async fn what_is_refused() {
    let mut platform = Platform::new("hive-refused", drawn()).await;
    platform.start().await;
    // Somebody who is no receiver must not be sent anything.
    for (stream, address, says) in [
        ("outside", "192.0.2.7", "192.0.2.7 is not among the allowed targets"),
        ("group", "239.1.2.3", "multicast"),
        ("nowhere", "0.0.0.0", "is no place"),
    ] {
        platform.play(stream, &sdp(address, 5006, 5007, "user1@host-1")).await;
        let stopped = platform.hear_activity("stop", stream).await;
        assert!(stopped["reason"].as_str().is_some_and(|reason| reason.contains(says)), "{stopped:#}");
        platform.logged(says, 1).await;
    }
    platform.play("ports", &sdp("127.0.0.1", 80, 5007, "user1@host-1")).await;
    platform.hear_activity("stop", "ports").await;
    let hostile = format!("v=0\r\n{}", "m=audio 5008 RTP/AVP 0\r\n".repeat(600));
    platform.play("hostile", &hostile).await;
    platform.hear_activity("stop", "hostile").await;
    assert_eq!(platform.get("/viewers").await, json!({ "viewers": [], "count": 0 }));
    let topic = |rest: &str| format!("prod/honeycomb/{CAMERA}/{rest}");
    let refused = "a message of the platform is refused";
    for (count, (rest, payload)) in [
        ("stream/play", "{".to_owned()),
        ("stream/play", json!({ "requestId": "r" }).to_string()),
        ("stream/play", " ".repeat(90_000)),
        ("system/setmode", json!({ "requestId": "r", "mode": "OFF" }).to_string()),
        ("sound/play", json!({ "requestId": "r" }).to_string()),
    ]
    .into_iter()
    .enumerate()
    {
        platform.broker.say(&topic(rest), &payload, &[]).await;
        platform.logged(refused, count + 1).await;
    }
    // A stream that runs goes on, whatever is wrong with asking for it once more.
    let receiver = Receiver::new("user1@host-1").await;
    platform.play(STREAM, &receiver.sdp()).await;
    platform.hear_activity("start", STREAM).await;
    platform.play(STREAM, &sdp("192.0.2.7", 5006, 5007, "user1@host-1")).await;
    platform.logged("192.0.2.7 is not among the allowed targets", 4).await;
    receiver.packet().await;
    let live = platform.get("/streams/cam1").await["stream"]["live"].clone();
    assert_eq!(live["state"], "active", "{live:#}");
    platform.stop(STREAM).await;
    let stopped = platform.hear_activity("stop", STREAM).await;
    assert!(stopped.get("reason").is_none(), "{stopped:#}");
    platform.rig.stop().await;
}

/// What the config does not allow over MQTT is not done for a platform either; and what the broker had kept is old.
#[tokio::test]
async fn what_is_not_allowed() {
    let mut platform = Platform::new("hive-forbidden", drawn()).await;
    platform.rig.config["commands"] = json!({ "mqtt": ["camera", "status"] });
    platform.start().await;
    let receiver = Receiver::new("user1@host-1").await;
    platform.play(STREAM, &receiver.sdp()).await;
    let stopped = platform.hear_activity("stop", STREAM).await;
    assert!(stopped["reason"].as_str().is_some_and(|reason| reason.contains("`live` is not allowed")), "{stopped:#}");
    platform.say("system/setmode", json!({ "mode": "LIVESTREAMONLY" })).await;
    platform.logged("`record` is not allowed", 1).await;
    platform.say("system/reboot", json!({ "reason": "web_interface" })).await;
    platform.logged("`restart` is not allowed", 1).await;
    assert_eq!(receiver.packet_within(Duration::from_secs(1)).await, None, "nothing was sent");
    platform.rig.stop().await;
    platform.rig.config["commands"] = json!({});
    let kept = json!({ "requestId": "old", "mode": "PRIVACY" }).to_string();
    platform.broker.say(&format!("prod/honeycomb/{CAMERA}/system/setmode"), &kept, &["-r"]).await;
    platform.rig.config["mqtt"]["client_id"] = json!("gw-2");
    platform.start().await;
    platform.logged("a retained command is ignored", 1).await;
    platform.rig.agent().until_state("cam1", "streaming").await;
    platform.rig.stop().await;
}

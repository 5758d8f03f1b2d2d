//! Commands that are none, are too many, or come twice.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Fleet, drawn};
use crate::harness::footage::archived;

#[tokio::test]
async fn what_is_no_command() {
    let mut fleet = Fleet::new("cmd-bad", vec![drawn("cam1")]).await;
    fleet.start().await;
    fleet.rig.agent().until_state("cam1", "streaming").await;
    let reply = async |fleet: &Fleet, topic: &str, payload: &[u8], place: &str, says: &str| {
        fleet.say(&format!("edgecam/e2e/{topic}"), payload, &["-s"]).await;
        let reply = fleet.hear(&format!("edgecam/e2e/{place}"), |_| true).await;
        assert_eq!(reply["status"], "rejected", "{topic}: {reply:#}");
        assert!(reply["reason"].as_str().is_some_and(|reason| reason.contains(says)), "{topic}: {reply:#}");
    };
    let unknown = "cam1/reply/unknown";
    reply(&fleet, "cam1/cmd/live", b"{", unknown, "not a JSON object").await;
    reply(&fleet, "cam1/cmd/live", b"\xff\x00\xfe", unknown, "not a JSON object").await;
    reply(&fleet, "cam1/cmd/live", br#"{"requestId":"../x"}"#, unknown, "requestId").await;
    reply(&fleet, "cam1/cmd/live", &vec![b' '; 1 << 20], unknown, "at most 131072").await;
    reply(&fleet, "cam1/cmd/fly", br#"{"requestId":"f"}"#, "cam1/reply/f", "no command `fly`").await;
    reply(&fleet, "nobody/cmd/live", br#"{"requestId":"n"}"#, "nobody/reply/n", "no camera `nobody`").await;
    reply(&fleet, "cmd/live", br#"{"requestId":"w"}"#, "reply/w", "needs a camera").await;
    reply(&fleet, "cam1/record/set", b"perhaps", unknown, "ON or OFF").await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100));
    reply(&fleet, "cam1/cmd/live", deep.as_bytes(), unknown, "not a JSON object").await;
    // A retained command may be days old.
    fleet.say("edgecam/e2e/cam1/cmd/camera", br#"{"requestId":"old","enabled":false}"#, &["-s", "-r"]).await;
    fleet.hear("edgecam/e2e/cam1/reply/old", |reply| reply["status"] == "done").await;
    fleet.ask(Some("cam1"), "camera", json!({ "enabled": true })).await;
    fleet.rig.agent().until_state("cam1", "streaming").await;
    fleet.rig.stop().await;
    // The broker hands it out again to whoever subscribes anew.
    std::fs::remove_file(fleet.rig.scratch.join("state/commands.json")).expect("what was asked before is forgotten");
    fleet.rig.config["mqtt"]["client_id"] = json!("gw-2");
    fleet.start().await;
    fleet.rig.agent().until_state("cam1", "streaming").await;
    fleet.rig.agent().more_frames("cam1", 30).await;
    assert_eq!(fleet.rig.agent().log_count("a retained command is ignored"), 1, "{}", fleet.rig.agent().log_tail());
    fleet.rig.stop().await;
}

/// 1,000 commands as fast as they can be said: the agent streams on, answers what it does and what it does not.
#[tokio::test]
async fn a_flood() {
    let mut fleet = Fleet::new("cmd-flood", vec![drawn("cam1")]).await;
    fleet.start().await;
    fleet.rig.agent().until_state("cam1", "streaming").await;
    let lines: String = (0..1_000).map(|n| format!("{{\"requestId\":\"flood-{n}\"}}\n")).collect();
    fleet.say("edgecam/e2e/cam1/cmd/keyframe", lines.as_bytes(), &["-l"]).await;
    // What found no room at all is counted, not answered.
    let (mut done, mut busy, mut last) = (0, 0, Instant::now());
    while last.elapsed() < Duration::from_secs(4) {
        let Some((_, topic, payload)) = fleet.heard.next().await else { break };
        if topic.contains("/reply/flood-") {
            done += u32::from(payload.contains("\"done\""));
            busy += u32::from(payload.contains("\"busy\""));
            last = Instant::now();
        }
    }
    assert!(done >= 10 && busy >= 50, "{done} done, {busy} busy");
    fleet.rig.agent().more_frames("cam1", 30).await;
    fleet.rig.stop().await;
    let times: Vec<i64> = archived(&fleet.rig.archive("cam1")).await.iter().map(|packet| packet.ms).collect();
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(gap <= Some(500), "a gap of {gap:?} ms");
}

/// One request, a hundred times: one effect, and the same answer.
#[tokio::test]
async fn the_same_again() {
    let mut fleet = Fleet::new("cmd-same", vec![drawn("cam1")]).await;
    fleet.rig.config["cameras"][0]["test_pattern"]["gop"] = json!(600);
    fleet.start().await;
    fleet.rig.agent().more_frames("cam1", 5).await;
    let first = fleet.ask_as("same", Some("cam1"), "keyframe", json!({})).await;
    fleet.rig.agent().more_frames("cam1", 5).await;
    let lines = "{\"requestId\":\"same\"}\n".repeat(100);
    fleet.say("edgecam/e2e/cam1/cmd/keyframe", lines.as_bytes(), &["-l"]).await;
    let mut heard = 0;
    while heard < 100 {
        let reply = fleet.hear("edgecam/e2e/cam1/reply/same", |_| true).await;
        // Whoever could not be heard at once was told so, and is not in the way.
        if reply["status"] != "busy" {
            assert_eq!(reply, first);
        }
        heard += 1;
    }
    fleet.rig.agent().more_frames("cam1", 20).await;
    fleet.rig.stop().await;
    let keys = archived(&fleet.rig.archive("cam1")).await.iter().filter(|packet| packet.is_key).count();
    assert_eq!(keys, 2, "the first, and one that was asked for");
}

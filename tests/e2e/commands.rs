//! Commands over MQTT, given by a client that is not ours, with their effects seen from outside: in the stream, in the
//! archive, in files.

mod hostile;
mod outage;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::harness::broker::{Broker, Listener};
use crate::harness::footage::{archived, assert_well_behaved, segments};
use crate::harness::media::{self, Clip};
use crate::harness::rig::{camera, looping};
use crate::harness::{PATIENCE, Rig, poll};

/// A broker, an agent that is connected to it, and someone who gives commands.
pub(crate) struct Fleet {
    // The agent ends before its broker.
    pub(crate) rig: Rig,
    pub(crate) heard: Listener,
    pub(crate) broker: Broker,
    asked: u32,
}

/// A camera with an encoder of ours: an IDR every 10 s, uploaded when asked for.
pub(crate) fn drawn(name: &str) -> Value {
    let mut drawn = camera(
        name,
        "test_pattern",
        json!({ "width": 320, "height": 180, "frame_rate": 10, "gop": 20, "bitrate": 200_000 }),
    );
    drawn["upload"]["mode"] = json!("on_demand");
    drawn["archive"]["segment"] = json!("2s");
    drawn
}

impl Fleet {
    pub(crate) async fn new(test: &str, cameras: Vec<Value>) -> Self {
        let broker = Broker::start(&format!("{test}-broker")).await;
        let identity = broker.client("gw");
        let mut rig = Rig::new(test, cameras).await;
        rig.config["mqtt"] = json!({
            "endpoint": "localhost", "port": broker.port, "ca_file": broker.ca, "certificate": identity.certificate,
            "private_key": identity.key, "client_id": "gw", "heartbeat": "10s",
        });
        rig.config["commands"] = json!({ "mqtt": [
            "live", "stop", "upload", "record", "snapshot", "clip", "encoder", "keyframe", "camera", "config", "restart",
            "status",
        ] });
        let heard = broker.listen("edgecam/e2e/#").await;
        Self { rig, heard, broker, asked: 0 }
    }

    pub(crate) async fn start(&mut self) {
        self.rig.start();
        self.hear("edgecam/e2e/status", |payload| payload["status"] == "online").await;
    }

    /// Publishes as someone else.
    async fn say(&self, topic: &str, payload: &[u8], more: &[&str]) {
        let identity = self.broker.client("speaker");
        let mut command = tokio::process::Command::new("mosquitto_pub");
        command.args(["-h", "localhost", "-p", &self.broker.port.to_string(), "-q", "1", "-t", topic]);
        command.arg("--cafile").arg(&self.broker.ca);
        command.arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key);
        let mut child = command.args(more).stdin(Stdio::piped()).spawn().expect("mosquitto_pub is installed");
        child.stdin.take().expect("piped").write_all(payload).await.expect("it reads");
        assert!(child.wait().await.expect("it ends").success(), "{topic}");
    }

    /// The next message on `topic` that is as wanted.
    pub(crate) async fn hear(&self, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        while Instant::now() < until {
            let Some((_, found, payload)) = self.heard.next().await else { break };
            let value: Value = serde_json::from_str(&payload).unwrap_or(Value::String(payload));
            if found == topic && wanted(&value) {
                return value;
            }
            others.push(format!("{found} {value:.200}"));
        }
        panic!("nothing as wanted on {topic}: {others:#?}\n{}", self.rig.agent().log_tail());
    }

    /// Gives a command and waits for its last answer.
    async fn ask(&mut self, camera: Option<&str>, command: &str, arguments: Value) -> Value {
        self.asked += 1;
        let id = format!("ask-{}", self.asked);
        self.ask_as(&id, camera, command, arguments).await
    }

    async fn ask_as(&mut self, id: &str, camera: Option<&str>, command: &str, mut arguments: Value) -> Value {
        arguments["requestId"] = json!(id);
        let place = camera.map_or_else(|| "edgecam/e2e".to_owned(), |camera| format!("edgecam/e2e/{camera}"));
        self.say(&format!("{place}/cmd/{command}"), arguments.to_string().as_bytes(), &["-s"]).await;
        self.hear(&format!("{place}/reply/{id}"), |reply| reply["status"] != "accepted").await
    }

    async fn done(&mut self, camera: Option<&str>, command: &str, arguments: Value) -> Value {
        let reply = self.ask(camera, command, arguments).await;
        assert_eq!(reply["status"], "done", "{command}: {reply:#}");
        reply["result"].clone()
    }

    /// The command is refused as `status`, with a reason that holds `says`.
    async fn refused(&mut self, camera: Option<&str>, command: &str, arguments: Value, status: &str, says: &str) {
        let reply = self.ask(camera, command, arguments).await;
        let is_said = reply["reason"].as_str().is_some_and(|reason| reason.contains(says));
        assert!(reply["status"] == status && is_said, "{command}: {reply:#}");
    }

    fn frames(&self, camera: &str) -> impl Future<Output = usize> {
        let directory = self.rig.archive(camera);
        async move { archived(&directory).await.len() }
    }
}

/// Pictures in the archive that were taken in the two seconds after the call.
async fn grows(fleet: &Fleet, camera: &str) -> bool {
    let bytes = |directory: &Path| -> u64 {
        segments(directory).iter().map(|segment| std::fs::metadata(segment).map_or(0, |metadata| metadata.len())).sum()
    };
    let directory = fleet.rig.archive(camera);
    let before = bytes(&directory);
    poll(Duration::from_secs(8), async || (bytes(&directory) > before).then_some(())).await.is_some()
}

#[tokio::test]
async fn live_and_upload() {
    let mut fleet = Fleet::new("cmd-live", vec![drawn("cam1")]).await;
    fleet.start().await;
    let cam1 = Some("cam1");
    fleet.rig.agent().until_state("cam1", "streaming").await;
    assert_eq!(fleet.rig.kvs.stream("cam1").fragments.len(), 0);
    let began = jiff::Timestamp::now();
    fleet.done(cam1, "live", json!({ "seconds": 60 })).await;
    fleet.rig.more_persisted("cam1", 2).await;
    fleet.done(cam1, "stop", json!({})).await;
    fleet.rig.agent().until("cam1", "idle", PATIENCE, |report| report["upload"]["state"] == "idle").await;
    let sent = fleet.rig.kvs.stream("cam1").fragments.len();
    fleet.rig.agent().more_frames("cam1", 40).await;
    assert_eq!(fleet.rig.kvs.stream("cam1").fragments.len(), sent, "stopped is stopped");
    // A lease that is not extended ends by itself.
    fleet.done(cam1, "live", json!({ "seconds": 3 })).await;
    fleet.rig.agent().until("cam1", "idle again", PATIENCE, |report| report["upload"]["state"] == "idle").await;
    // A range of the past.
    let ended = jiff::Timestamp::now();
    let range = json!({ "start": began.to_string(), "end": ended.as_millisecond() });
    let result = fleet.done(cam1, "upload", range).await;
    assert!(result["fragmentsPersisted"].as_u64() > Some(1), "{result:#}");
    let record = fleet.rig.kvs.stream("cam1");
    assert_well_behaved(&record);
    let times = record.fragments.iter().skip(sent).map(|fragment| fragment.timecode);
    let earliest = times.min().expect("fragments");
    assert!(earliest <= began.as_millisecond(), "the range begins with what was shown at its start");
    fleet.refused(cam1, "upload", json!({ "start": 1_000, "end": 2_000 }), "rejected", "no footage").await;
    let health = crate::harness::http::get(fleet.rig.port, "/health").await.expect("an answer").json();
    assert_eq!((&health["mqtt"]["state"], &health["mqtt"]["dropped"]), (&json!("connected"), &json!(0)), "{health:#}");
    let metrics = crate::harness::http::get(fleet.rig.port, "/metrics").await.expect("an answer").body;
    for line in ["edgecam_mqtt_connected 1", "edgecam_commands_total{outcome=\"rejected\"} 1"] {
        assert!(metrics.contains(line), "no `{line}` in {metrics}");
    }
    fleet.rig.stop().await;
    fleet.hear("edgecam/e2e/status", |payload| payload["status"] == "stopped").await;
}

#[tokio::test]
async fn record_camera_and_encoder() {
    let clip = Clip::new(10).file().await;
    let mut fleet = Fleet::new("cmd-switch", vec![drawn("cam1"), looping("cam2", &clip)]).await;
    fleet.start().await;
    let cam1 = Some("cam1");
    fleet.rig.agent().until_state("cam1", "streaming").await;
    assert!(grows(&fleet, "cam1").await);
    fleet.done(cam1, "record", json!({ "on": false })).await;
    fleet.hear("edgecam/e2e/cam1/record/state", |state| state == "OFF").await;
    // What was on its way may still be written.
    fleet.rig.agent().more_frames("cam1", 30).await;
    assert!(!grows(&fleet, "cam1").await, "switched off");
    // Home automation's way.
    fleet.say("edgecam/e2e/cam1/record/set", b"ON", &["-s"]).await;
    fleet.hear("edgecam/e2e/cam1/record/state", |state| state == "ON").await;
    assert!(grows(&fleet, "cam1").await, "switched on again");

    fleet.done(cam1, "camera", json!({ "enabled": false })).await;
    let status = fleet.hear("edgecam/e2e/cam1/status", |status| status["state"] == "disabled").await;
    assert_eq!(status["error"], Value::Null);
    let frames = fleet.frames("cam1").await;
    fleet.refused(cam1, "snapshot", json!({}), "rejected", "switched off").await;
    // Over a restart too.
    fleet.rig.stop().await;
    fleet.start().await;
    fleet.hear("edgecam/e2e/cam1/status", |status| status["state"] == "disabled").await;
    assert_eq!(fleet.frames("cam1").await, frames);
    fleet.done(cam1, "camera", json!({ "enabled": true })).await;
    fleet.rig.agent().until_state("cam1", "streaming").await;

    let control = json!({ "resolution": [640, 360], "framerate": 5, "gop": 5, "bitrate": 100_000 });
    let result = fleet.done(cam1, "encoder", control).await;
    assert_eq!(result["encoder"]["gop"], 5);
    fleet.rig.agent().until("cam1", "larger", PATIENCE, |report| report["video"]["width"] == 640).await;
    fleet.rig.agent().more_frames("cam1", 30).await;
    fleet.refused(cam1, "encoder", json!({ "bitrate": 1 }), "rejected", "bitrate").await;
    fleet.refused(Some("cam2"), "encoder", json!({ "bitrate": 1_000_000 }), "rejected", "file").await;
    fleet.rig.stop().await;
    let last = segments(&fleet.rig.archive("cam1")).pop().expect("a segment");
    assert_eq!(media::size(&last).await, (640, 360));
    let times: Vec<i64> = media::packets(&last).await.iter().map(|packet| packet.ms).collect();
    assert!(times.windows(2).all(|pair| (190..=210).contains(&(pair[1] - pair[0]))), "5 frames a second: {times:?}");
    let gaps = archived(&fleet.rig.archive("cam2")).await;
    let gap = gaps.windows(2).map(|pair| pair[1].ms - pair[0].ms).max();
    assert!(gap < Some(20_000), "the other camera stood still only while the agent was restarted: {gap:?} ms");
}

#[tokio::test]
async fn snapshot_clip_and_keyframe() {
    let mut fleet = Fleet::new("cmd-media", vec![drawn("cam1")]).await;
    fleet.rig.config["cameras"][0]["test_pattern"]["gop"] = json!(600);
    fleet.start().await;
    let cam1 = Some("cam1");
    fleet.rig.agent().more_frames("cam1", 25).await;
    let result = fleet.done(cam1, "snapshot", json!({ "maxWidth": 160 })).await;
    let file = STANDARD.decode(result["data"].as_str().expect("a text")).expect("Base64");
    let path = fleet.rig.scratch.join("snapshot.jpg");
    std::fs::write(&path, file).expect("written");
    assert_eq!(media::size(&path).await, (160, 90));
    let taken: jiff::Timestamp = result["timestamp"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    let age = jiff::Timestamp::now().as_millisecond() - taken.as_millisecond();
    assert!((0..2_000).contains(&age), "a picture of {age} ms ago is not the newest");

    // With a GOP of a minute an IDR comes only when it is asked for.
    let idrs = || async { archived(&fleet.rig.archive("cam1")).await.iter().filter(|packet| packet.is_key).count() };
    assert_eq!(idrs().await, 1);
    fleet.done(cam1, "keyframe", json!({})).await;
    fleet.rig.agent().more_frames("cam1", 60).await;
    let keys = archived(&fleet.rig.archive("cam1")).await.iter().filter(|packet| packet.is_key).count();
    assert_eq!(keys, 2);

    let now = jiff::Timestamp::now().as_millisecond();
    let result = fleet.done(cam1, "clip", json!({ "start": now - 3_000, "end": now - 500 })).await;
    let path = result["path"].as_str().expect("a path");
    let packets = media::packets(Path::new(path)).await;
    assert!(packets.len() >= 25 && packets[0].is_key, "{} pictures", packets.len());
    let http = result["http"].as_str().expect("an address");
    let answer = crate::harness::http::get(fleet.rig.port, http).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.head.contains(&format!("content-length: {}", result["bytes"])), "{}", answer.head);
    fleet.refused(cam1, "clip", json!({ "start": 5_000, "end": 6_000 }), "rejected", "no footage").await;
    fleet.refused(cam1, "clip", json!({ "start": now, "end": now + 60_000 }), "rejected", "not over").await;
    fleet.rig.stop().await;
}

#[tokio::test]
async fn config_and_restart() {
    let clip = Clip::new(10).file().await;
    let mut fleet = Fleet::new("cmd-config", vec![drawn("cam1"), looping("cam2", &clip)]).await;
    fleet.start().await;
    fleet.rig.agent().until_state("cam1", "streaming").await;
    fleet.rig.agent().until_state("cam2", "streaming").await;
    let result = fleet.done(None, "config", json!({})).await;
    assert!(result["config"].as_str().is_some_and(|text| text.contains("cam1")), "{result:#}");

    fleet.refused(None, "config", json!({ "config": "cameras: [{naem: x}]" }), "rejected", "naem").await;
    let mut cut_off = fleet.rig.config.clone();
    cut_off["mqtt"]["port"] = json!(1);
    fleet.refused(None, "config", json!({ "config": cut_off }), "rejected", "`mqtt` cannot be changed").await;
    // A camera that streamed and is no longer found: taken back.
    let mut worse = fleet.rig.config.clone();
    worse["cameras"][0] = looping("cam1", Path::new("/nowhere.mp4"));
    fleet.refused(None, "config", json!({ "config": worse }), "failed", "in force again").await;
    fleet.rig.agent().until_state("cam1", "streaming").await;

    let mut better = fleet.rig.config.clone();
    let mut third = drawn("cam3");
    third.as_object_mut().expect("an object").remove("upload");
    better["cameras"].as_array_mut().expect("a list").push(third);
    fleet.done(None, "config", json!({ "config": better })).await;
    fleet.rig.agent().until_state("cam3", "streaming").await;

    let pid = fleet.rig.agent().pid();
    // Over a restart, which is answered after it, once, whoever asks again.
    let before = fleet.rig.agent().log_count("edgecam starts");
    for _ in 0..3 {
        let reply = fleet.ask_as("again", None, "restart", json!({})).await;
        assert_eq!(reply["status"], "done", "{reply:#}");
        assert_eq!(fleet.rig.agent().log_count("edgecam starts"), before + 1);
    }
    assert!(fleet.rig.agent().pid() == pid && fleet.rig.agent.as_mut().expect("it runs").is_running());
    fleet.rig.agent().until_state("cam3", "streaming").await;
    let status = fleet.done(None, "status", json!({})).await;
    assert_eq!(status["streams"].as_array().map(Vec::len), Some(3), "{status:#}");
    // A person who edits the file has the last word.
    fleet.rig.config["cameras"][0]["test_pattern"]["gop"] = json!(10);
    fleet.rig.write_config();
    fleet.rig.agent().signal(rustix::process::Signal::HUP);
    fleet.rig.agent().until_state("cam1", "streaming").await;
    let gone = poll(PATIENCE, async || fleet.rig.agent().report("cam3").await.is_none().then_some(())).await;
    assert!(gone.is_some(), "the file counts again");
    fleet.rig.stop_and_compare(&["cam2"]).await;
}

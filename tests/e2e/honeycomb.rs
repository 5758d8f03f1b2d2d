//! Live view as a platform of hive cameras asks for it: MQTT in, RTP out, and what is reported of both.

mod modes;
mod receiver;
mod refusals;
mod rest;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::receiver::{Receiver, SR, begins_idr};
use crate::harness::agent::note;
use crate::harness::broker::{Broker, Listener};
use crate::harness::rig::camera;
use crate::harness::{PATIENCE, Rig, footage, http, media, poll};
use crate::live_rtp::gstreamer;

const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
const STREAM: &str = "8f7a2b1c-3f51-4a5e-9c3b-0d5a4b1e7a10";

/// A broker, an agent that is connected to it, and a platform.
struct Platform {
    // The agent ends before its broker.
    rig: Rig,
    heard: Listener,
    /// What was heard while something else was waited for.
    others: RefCell<Vec<(String, Value)>>,
    broker: Broker,
    asked: u32,
}

/// A camera with an encoder of ours: an IDR every 20 s, unless one is asked for.
fn drawn() -> Value {
    let pattern = json!({ "width": 640, "height": 360, "frame_rate": 15, "gop": 300, "bitrate": 1_000_000 });
    local("cam1", pattern)
}

fn local(name: &str, pattern: Value) -> Value {
    let mut camera = camera(name, "test_pattern", pattern);
    camera["upload"]["mode"] = json!("off");
    camera
}

impl Platform {
    async fn new(test: &str, camera: Value) -> Self {
        let broker = Broker::start(&format!("{test}-broker")).await;
        let identity = broker.client("gw");
        let mut rig = Rig::new(test, vec![camera]).await;
        rig.config["mqtt"] = json!({
            "endpoint": "localhost", "port": broker.port, "ca_file": broker.ca, "certificate": identity.certificate,
            "private_key": identity.key, "client_id": "gw",
        });
        rig.config["honeycomb"] = json!({
            "allow": ["127.0.0.1", "10.0.0.0/8"], "silence": "30s", "cameras": { "cam1": CAMERA },
        });
        let heard = broker.listen("prod/device/#").await;
        Self { rig, heard, others: RefCell::default(), broker, asked: 0 }
    }

    async fn start(&mut self) {
        self.rig.start();
        self.hear("connection/hive-cam", |report| report["status"] == "connected").await;
        self.rig.agent().more_frames("cam1", 5).await;
    }

    /// Says something as the platform does.
    async fn say(&mut self, command: &str, message: Value) {
        self.asked += 1;
        let id = format!("5f0f6d0e-7a0e-4a51-a3de-{:012}", self.asked);
        self.say_as(&id, command, message).await;
    }

    async fn say_as(&self, id: &str, command: &str, mut message: Value) {
        let common = json!({
            "requestId": id, "creationTimestamp": "2026-11-21T09:00:00.123456Z", "sourceId": CAMERA,
            "sourceType": "hive-cam",
        });
        let common = common.as_object().expect("an object").clone();
        message.as_object_mut().expect("an object").extend(common);
        self.broker.say(&format!("prod/honeycomb/{CAMERA}/{command}"), &message.to_string(), &[]).await;
    }

    async fn play(&mut self, stream: &str, sdp: &str) {
        self.say("stream/play", json!({ "streamId": stream, "sdpOffer": sdp, "messageType": "play" })).await;
        self.keepalive(stream, 0).await;
    }

    async fn keepalive(&mut self, stream: &str, count: u32) {
        let message = json!({ "streamId": stream, "keepaliveCount": count, "messageType": "keepalive" });
        self.say("stream/keepalive", message).await;
    }

    async fn stop(&mut self, stream: &str) {
        self.say("stream/stop", json!({ "streamId": stream, "messageType": "stop" })).await;
    }

    /// The first report of this kind that is as wanted and has not been heard before.
    async fn hear(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let (group, rest) = kind.split_once("hive-cam").unwrap_or((kind, ""));
        let topic = format!("prod/device/{group}hive-cam/{CAMERA}{rest}");
        let is_it = |found: &str, value: &Value| found == topic && wanted(value);
        let before = self.others.borrow().iter().position(|(found, value)| is_it(found, value));
        if let Some(index) = before {
            return self.others.borrow_mut().remove(index).1;
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let Some((retained, found, payload)) = self.heard.next().await else { break };
            let value: Value = serde_json::from_str(&payload).unwrap_or(Value::String(payload));
            assert!(!retained, "{found} is retained");
            if is_it(&found, &value) {
                return value;
            }
            self.others.borrow_mut().push((found, value));
        }
        panic!("nothing as wanted on {topic}: {:#?}", self.others.borrow());
    }

    async fn hear_activity(&self, what: &str, stream: &str) -> Value {
        let report =
            self.hear(&format!("message/hive-cam/activity/{what}"), |report| report["eventId"] == stream).await;
        assert_eq!((&report["eventType"], &report["activityType"]), (&json!(what), &json!("LIVESTREAM")), "{report:#}");
        report
    }

    /// `GET`, which must succeed.
    async fn get(&self, path: &str) -> Value {
        let answer = http::get(self.rig.port, path).await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Waits until so many lines of the log hold `text`.
    async fn logged(&self, text: &str, times: usize) {
        let found = poll(PATIENCE, async || (self.rig.agent().log_count(text) >= times).then_some(())).await;
        assert!(found.is_some(), "`{text}` is not in the log {times} times:\n{}", self.rig.agent().log_tail());
    }
}

/// From `play` to `stop`: what is decoded is what is archived, and the platform hears of it.
#[tokio::test]
async fn a_platform_watches() {
    let mut platform = Platform::new("hive-watch", drawn()).await;
    platform.rig.start();
    let connected = platform.hear("connection/hive-cam", |_| true).await;
    assert_eq!((&connected["status"], &connected["clientId"]), (&json!("connected"), &json!("gw")), "{connected:#}");
    assert_eq!(connected["device"]["deviceType"], "hive-cam", "{connected:#}");
    let heartbeat = platform.hear("status/hive-cam", |_| true).await;
    assert!(heartbeat["status"] == "online" && heartbeat["uptime"].is_u64(), "{heartbeat:#}");
    platform.hear("message/hive-cam/camera/state", |report| report["mode"] == "ARMED").await;
    platform.rig.agent().more_frames("cam1", 15).await;
    let receiver = gstreamer::Receiver::start(platform.rig.scratch.path(), 0.0).await;
    platform.play(STREAM, &receiver::sdp("127.0.0.1", receiver.rtp, receiver.rtcp, "user1@host-1")).await;
    platform.hear_activity("start", STREAM).await;
    platform.rig.agent().more_frames("cam1", 30).await;
    platform.keepalive(STREAM, 1).await;
    let detail = platform.get(&format!("/streams/{CAMERA}")).await;
    assert_eq!(detail["stream"]["camera_id"], "cam1", "{detail:#}");
    let live = &detail["stream"]["live"];
    assert_eq!((&live["state"], &live["stream_id"]), (&json!("active"), &json!(STREAM)), "{detail:#}");
    assert_eq!(live["session_id"], "stream-56C1CADC-8f7a2b1c", "{detail:#}");
    platform.rig.agent().more_frames("cam1", 15).await;
    platform.stop(STREAM).await;
    platform.hear_activity("stop", STREAM).await;
    let live = platform.get("/streams/cam1").await["stream"]["live"].clone();
    assert_eq!(
        (&live["state"], &live["keepalive_stats"]["keepalive_count"]),
        (&json!("stopped"), &json!(2)),
        "{live:#}"
    );
    let output = receiver.finish().await;
    platform.rig.agent().more_frames("cam1", 30).await;
    platform.rig.stop().await;
    platform.hear("connection/hive-cam", |report| report["status"] == "disconnected").await;
    let received = media::decoded(&output).await;
    let archived = footage::archived_pictures(&platform.rig.archive("cam1")).await;
    let at = archived.windows(received.len().max(1)).position(|pictures| pictures == received);
    note(&format!("{} pictures received, at {at:?} of {} archived", received.len(), archived.len()));
    assert!(received.len() >= 45 && at.is_some(), "{} received, {} archived", received.len(), archived.len());
}

#[tokio::test]
async fn what_a_receiver_asks_for() {
    let mut platform = Platform::new("hive-asks", drawn()).await;
    platform.start().await;
    let mut receiver = Receiver::new("user2415@host-d1").await;
    let asked = Instant::now();
    platform.play(STREAM, &receiver.sdp()).await;
    assert!(begins_idr(&receiver.packet().await), "it begins with an IDR");
    let first = Instant::now();
    assert_eq!(receiver.report().await.first(), Some(&SR));
    let (began, reported) = (first - asked, first.elapsed());
    assert!(reported < Duration::from_millis(200), "a sender report with the first packet, not after {reported:?}");
    let mut nack = Duration::ZERO;
    for round in 0..20 {
        let mut sequence = 0;
        for _ in 0..7 {
            let packet = receiver.packet().await;
            sequence = u16::from_be_bytes([packet[2], packet[3]]);
        }
        nack = nack.max(receiver.nack(sequence.wrapping_sub(round % 5).to_be_bytes()).await);
    }
    let mut pli = Duration::ZERO;
    for round in 0..4 {
        let quiet = Instant::now() + Duration::from_millis(600 + round * 37);
        while Instant::now() < quiet {
            assert!(!begins_idr(&receiver.packet().await), "nobody has asked for one");
        }
        pli = pli.max(receiver.pli().await);
    }
    note(&format!(
        "first packet {began:?} after play, report {reported:?} after it; NACK {nack:?}, PLI {pli:?} at most"
    ));
    assert!(nack < Duration::from_millis(50), "{nack:?} until a packet is resent");
    assert!(pli < Duration::from_millis(200), "{pli:?} until an IDR");
    platform.stop(STREAM).await;
    receiver.goodbye().await;
    let stats = platform.get("/streams/cam1").await["stream"]["live"]["rtp"].clone();
    assert_eq!((&stats["resent"], &stats["plis"]), (&json!(20), &json!(4)), "{stats:#}");
    platform.rig.stop().await;
}

/// REMB of 800 kbit/s: 3 s later the encoder sends less than 900, and its own rate again when the stream is over.
#[tokio::test]
async fn the_encoder_does_as_it_is_told() {
    let pattern = json!({ "width": 1920, "height": 1080, "frame_rate": 30, "gop": 10, "bitrate": 4_000_000 });
    let mut platform = Platform::new("hive-remb", local("cam1", pattern)).await;
    platform.start().await;
    let mut receiver = Receiver::new("user1@host-1").await;
    platform.play(STREAM, &receiver.sdp()).await;
    receiver.kilobits(Duration::from_secs(1)).await;
    let before = receiver.kilobits(Duration::from_secs(3)).await;
    receiver.remb(200_000).await;
    receiver.kilobits(Duration::from_secs(3)).await;
    let after = receiver.kilobits(Duration::from_secs(3)).await;
    note(&format!("REMB 800: from {before:.0} to {after:.0} kbit/s"));
    let stats = platform.get("/streams/cam1").await["stream"]["live"]["rtp"].clone();
    assert_eq!((&stats["rembs"], &stats["bitrate"]), (&json!(1), &json!(800_000)), "{stats:#}");
    assert!(before > 1_000.0 && after < 900.0, "from {before} to {after} kbit/s");
    // Another stream takes the place of the first: what its receiver could take counts no more.
    let other = Receiver::new("user1@host-1").await;
    platform.play("another", &other.sdp()).await;
    receiver.goodbye().await;
    platform.hear_activity("stop", STREAM).await;
    platform.hear_activity("start", "another").await;
    other.kilobits(Duration::from_secs(2)).await;
    let again = other.kilobits(Duration::from_secs(3)).await;
    assert!(again > 1_000.0, "{again} kbit/s");
    platform.rig.stop().await;
    platform.hear_activity("stop", "another").await;
}

/// Keepalives carry a stream over the silence; without them it ends, and says so.
#[tokio::test]
async fn silence_ends_it() {
    let mut platform = Platform::new("hive-silence", drawn()).await;
    platform.rig.config["honeycomb"]["silence"] = json!("3s");
    platform.start().await;
    let mut receiver = Receiver::new("user1@host-1").await;
    platform.play(STREAM, &receiver.sdp()).await;
    receiver.report().await;
    for count in 1..=5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // A keepalive of another stream does not count.
        platform.keepalive("another", count).await;
        platform.keepalive(STREAM, count).await;
    }
    let last_sign = Instant::now();
    receiver.goodbye().await;
    let silent = last_sign.elapsed().as_secs_f64();
    note(&format!("ended {silent:.2} s after the last keepalive, of 3"));
    assert!((2.5..4.0).contains(&silent), "after {silent} s");
    platform.hear_activity("start", STREAM).await;
    platform.hear_activity("stop", STREAM).await;
    platform.rig.stop().await;
}

use edgecam_media::Timestamp;
use serde_json::json;

use super::*;

const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
const STREAM: &str = "8f7a2b1c-3f51-4a5e-9c3b-0d5a4b1e7a10";

fn read(command: &str, mut payload: Value) -> Result<HoneycombCommand, HoneycombError> {
    let common = json!({
        "requestId": "5f0f6d0e-7a0e-4a51-a3de-7f4bb2f4e1aa",
        "creationTimestamp": "2025-01-12T10:20:30.123456Z",
        "sourceId": CAMERA,
        "sourceType": "hive-cam",
    });
    for (name, value) in common.as_object().expect("an object") {
        payload.as_object_mut().expect("an object").entry(name).or_insert(value.clone());
    }
    let topic = format!("prod/honeycomb/{CAMERA}/{command}");
    let message = parse("prod", &topic, payload.to_string().as_bytes())?;
    assert_eq!(message.camera.as_str(), CAMERA);
    Ok(message.command)
}

#[test]
fn commands_as_the_platform_writes_them() {
    let stream_id = STREAM.to_owned();
    let mode = |mode, minutes, interval_seconds| HoneycombCommand::SetMode { mode, minutes, interval_seconds };
    let settings = |section, values: Value| {
        let values = values.as_object().expect("an object").clone();
        HoneycombCommand::Settings { section, values }
    };
    for (name, payload, expected) in [
        (
            "stream/play",
            json!({ "streamId": STREAM, "sdpOffer": "v=0\r\n", "messageType": "play" }),
            HoneycombCommand::Play { stream_id: stream_id.clone(), sdp: "v=0\r\n".to_owned() },
        ),
        (
            "stream/stop",
            json!({ "streamId": STREAM, "messageType": "stop" }),
            HoneycombCommand::Stop { stream_id: stream_id.clone() },
        ),
        (
            "stream/keepalive",
            json!({ "streamId": STREAM, "keepaliveCount": 0 }),
            HoneycombCommand::Keepalive { stream_id: stream_id.clone(), count: Some(0) },
        ),
        ("stream/keepalive", json!({ "streamId": STREAM }), HoneycombCommand::Keepalive { stream_id, count: None }),
        (
            "system/setmode",
            json!({ "mode": "ARMED", "type": "NA", "durationMinutes": "NA", "intervalSeconds": "NA" }),
            mode(Mode::Armed, None, None),
        ),
        (
            "system/setmode",
            json!({ "mode": "PRIVACY", "durationMinutes": 30, "intervalSeconds": "5" }),
            mode(Mode::Privacy, Some(30), Some(5)),
        ),
        (
            "system/setmode",
            json!({ "requestId": "restore_56C1_1736677230", "creationTimestamp": "2025-01-12T11:20:30Z", "mode": "LIVESTREAMONLY" }),
            mode(Mode::LivestreamOnly, None, None),
        ),
        ("system/reboot", json!({ "reason": "web_interface" }), HoneycombCommand::Reboot),
        (
            "settings/nightvision",
            json!({ "settings": { "night_vision": "auto" } }),
            settings(Section::NightVision, json!({ "night_vision": "auto" })),
        ),
        ("settings/update", json!({ "fps": 10 }), settings(Section::Update, json!({ "fps": 10 }))),
    ] {
        assert_eq!(read(name, payload.clone()), Ok(expected), "{name} {payload}");
    }
}

#[test]
fn what_is_refused() {
    for (name, payload, expected) in [
        ("stream/pause", json!({}), HoneycombError::Unknown("stream/pause".to_owned())),
        ("sound/play", json!({}), HoneycombError::Unknown("sound/play".to_owned())),
        ("stream/play", json!({ "streamId": STREAM }), HoneycombError::Missing("sdpOffer")),
        ("stream/play", json!({ "sdpOffer": "v=0" }), HoneycombError::Missing("streamId")),
        ("stream/stop", json!({ "streamId": "" }), HoneycombError::Missing("streamId")),
        ("stream/stop", json!({ "streamId": STREAM, "requestId": "" }), HoneycombError::Missing("requestId")),
        ("stream/stop", json!({ "streamId": "a\nb" }), HoneycombError::Value("a\u{fffd}b".to_owned(), "streamId")),
        ("stream/stop", json!({ "streamId": "x".repeat(129) }), HoneycombError::Value("x".repeat(64), "streamId")),
        ("system/setmode", json!({}), HoneycombError::Missing("mode")),
        ("system/setmode", json!({ "mode": "armed" }), HoneycombError::Value("armed".to_owned(), "mode")),
        (
            "system/setmode",
            json!({ "mode": "ARMED", "durationMinutes": -1 }),
            HoneycombError::Value("-1".to_owned(), "durationMinutes"),
        ),
    ] {
        assert_eq!(read(name, payload.clone()), Err(expected), "{name} {payload}");
    }
    let at = |topic: &str, payload: &[u8]| parse("prod", topic, payload).map(drop);
    let play = format!("prod/honeycomb/{CAMERA}/stream/play");
    assert!(matches!(read("stream/stop", json!({ "streamId": 7 })), Err(HoneycombError::Json(_))));
    for payload in [&b"{"[..], b"[]", b"", b"null", &[0xff; 40]] {
        assert!(matches!(at(&play, payload), Err(HoneycombError::Json(_))), "{payload:?}");
    }
    assert_eq!(at(&play, &vec![b' '; 1 << 20]), Err(HoneycombError::TooLong(1 << 20)));
    for (topic, expected) in [
        ("dev/honeycomb/X/stream/play", HoneycombError::Topic),
        ("prod/honeycomb", HoneycombError::Topic),
        ("prod/honeycomb/", HoneycombError::Topic),
        ("prod/honeycomb/56c1cadcf1fa4c6caeba3e2fd85efebf/stream/play", HoneycombError::CameraId),
        ("prod/honeycomb/56C1/stream/play", HoneycombError::CameraId),
        ("prod/honeycomb//stream/play", HoneycombError::CameraId),
    ] {
        assert_eq!(at(topic, b"{}"), Err(expected), "{topic}");
    }
}

#[test]
fn reports_have_the_platforms_shape() {
    let camera: CameraId = CAMERA.parse().expect("an id");
    assert_eq!(filter("prod", &camera), format!("prod/honeycomb/{CAMERA}/#"));
    let device = Device {
        software_version: "0.1.0".to_owned(),
        hardware_version: "gateway".to_owned(),
        serial_number: "42".to_owned(),
        client_id: "thing-1".to_owned(),
        address: "10.0.0.7".parse().ok(),
    };
    let now = Timestamp::from_unix_millis(1_795_228_575_129);
    let time = "2026-11-21T02:36:15.129Z";
    let check = |report: Report, topic: &str, expected: Value| {
        assert_eq!(report.topic, format!("prod/device/{topic}"));
        assert_eq!(report.payload, expected);
    };
    let about = json!({
        "softwareVersion": "0.1.0", "hardwareVersion": "gateway", "serialNumber": "42", "deviceType": "hive-cam"
    });
    check(
        connection("prod", &camera, &device, now),
        &format!("connection/hive-cam/{CAMERA}"),
        json!({
            "status": "connected", "clientId": "thing-1", "ipAddress": "10.0.0.7", "timestamp": time, "device": about
        }),
    );
    check(
        last_will("prod", &camera, &device),
        &format!("connection/hive-cam/{CAMERA}"),
        json!({ "status": "disconnected", "clientId": "thing-1", "ipAddress": "10.0.0.7", "device": about }),
    );
    check(
        status("prod", &camera, &device, std::time::Duration::from_secs(77), now),
        &format!("status/hive-cam/{CAMERA}"),
        json!({
            "status": "online", "timestamp": time, "uptime": 77,
            "ethernet": { "ipAddress": "10.0.0.7", "linkStatus": "up" }
        }),
    );
    check(
        state("prod", &camera, Mode::Privacy, now),
        &format!("message/hive-cam/{CAMERA}/camera/state"),
        json!({ "status": "online", "timestamp": time, "mode": "PRIVACY" }),
    );
    let person = Activity {
        event_id: "e1".to_owned(),
        kind: "PERSON".to_owned(),
        confidence: Some(0.5),
        region: None,
        reason: None,
    };
    check(
        activity_start("prod", &camera, &person, now),
        &format!("message/hive-cam/{CAMERA}/activity/start"),
        json!({
            "eventId": "e1", "eventType": "start", "activityType": "PERSON", "timestamp": time, "confidence": 0.5
        }),
    );
    let over = Activity { confidence: None, reason: Some("dark".to_owned()), ..person };
    check(
        activity_stop("prod", &camera, &over, now),
        &format!("message/hive-cam/{CAMERA}/activity/stop"),
        json!({ "eventId": "e1", "eventType": "stop", "activityType": "PERSON", "timestamp": time, "reason": "dark" }),
    );
}

#[test]
fn any_bytes_have_an_answer() {
    let mut rng = fastrand::Rng::with_seed(20_261_121);
    let play = json!({
        "requestId": "r", "streamId": STREAM, "sdpOffer": "v=0", "mode": "ARMED", "durationMinutes": "NA",
        "keepaliveCount": 7, "settings": { "a": [1] },
    });
    let payload = play.to_string();
    let commands = ["stream/play", "stream/keepalive", "system/setmode", "settings/update", "x"];
    for _ in 0..20_000 {
        let mut bytes = payload.clone().into_bytes();
        (0..rng.usize(1..4)).for_each(|_| {
            let at = rng.usize(0..bytes.len());
            match rng.u8(0..3) {
                0 => bytes[at] = rng.u8(..),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, b"\"{}[]:,0-\\"[rng.usize(0..10)]),
            }
        });
        let topic = format!("prod/honeycomb/{CAMERA}/{}", commands[rng.usize(0..commands.len())]);
        if let Ok(message) = parse("prod", &topic, &bytes) {
            assert!(!message.request_id.is_empty() && message.request_id.len() <= 128);
        }
    }
}

//! What the platform wants to hear of a camera: topics and payloads.

use std::net::IpAddr;
use std::time::Duration;

use edgecam_media::Timestamp;
use serde_json::{Value, json};

use super::{CameraId, Mode};

/// A message to the platform.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Its topic.
    pub topic: String,
    /// Its payload, JSON.
    pub payload: Value,
}

/// What the platform wants to know of a device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Device {
    /// The agent's version.
    pub software_version: String,
    /// The device's model.
    pub hardware_version: String,
    /// The device's serial number.
    pub serial_number: String,
    /// Its MQTT client id.
    pub client_id: String,
    /// Its address on the way to the broker.
    pub address: Option<IpAddr>,
}

/// Something that happens in front of a camera.
#[derive(Clone, PartialEq, Debug)]
pub struct Activity {
    /// The same at its start and its end.
    pub event_id: String,
    /// What: `MOTION`, `PERSON`, `VEHICLE`, `AUDIO`; ours for a stream is `LIVESTREAM`.
    pub kind: String,
    /// How sure it is, 0 to 1.
    pub confidence: Option<f64>,
    /// Where in the picture.
    pub region: Option<Value>,
    /// Why it is over, if that is not as wanted.
    pub reason: Option<String>,
}

/// The camera is there.
pub fn connection(prefix: &str, camera: &CameraId, device: &Device, now: Timestamp) -> Report {
    let mut payload = connection_payload("connected", device);
    payload["timestamp"] = json!(now.to_string());
    Report { topic: connection_topic(prefix, camera), payload }
}

/// What is said when the camera has gone, by the broker or, with a time, by ourselves. The broker does not know when
/// that will be: it has no time.
pub fn last_will(prefix: &str, camera: &CameraId, device: &Device) -> Report {
    Report { topic: connection_topic(prefix, camera), payload: connection_payload("disconnected", device) }
}

/// The heartbeat, due every 600 s.
pub fn status(prefix: &str, camera: &CameraId, device: &Device, uptime: Duration, now: Timestamp) -> Report {
    let payload = json!({
        "status": "online",
        "timestamp": now.to_string(),
        "uptime": uptime.as_secs(),
        "ethernet": { "ipAddress": device.address, "linkStatus": "up" },
    });
    Report { topic: format!("{prefix}/device/status/hive-cam/{camera}"), payload }
}

/// The camera's mode has changed.
pub fn state(prefix: &str, camera: &CameraId, mode: Mode, now: Timestamp) -> Report {
    let payload = json!({ "status": "online", "timestamp": now.to_string(), "mode": mode.name() });
    Report { topic: format!("{prefix}/device/message/hive-cam/{camera}/camera/state"), payload }
}

/// Something begins.
pub fn activity_start(prefix: &str, camera: &CameraId, activity: &Activity, at: Timestamp) -> Report {
    activity_report(prefix, camera, activity, "start", at)
}

/// It is over.
pub fn activity_stop(prefix: &str, camera: &CameraId, activity: &Activity, at: Timestamp) -> Report {
    activity_report(prefix, camera, activity, "stop", at)
}

fn connection_topic(prefix: &str, camera: &CameraId) -> String {
    format!("{prefix}/device/connection/hive-cam/{camera}")
}

fn connection_payload(status: &str, device: &Device) -> Value {
    json!({
        "status": status,
        "clientId": device.client_id,
        "ipAddress": device.address,
        "device": {
            "softwareVersion": device.software_version,
            "hardwareVersion": device.hardware_version,
            "serialNumber": device.serial_number,
            "deviceType": "hive-cam",
        },
    })
}

fn activity_report(prefix: &str, camera: &CameraId, activity: &Activity, what: &str, at: Timestamp) -> Report {
    let mut payload = json!({
        "eventId": activity.event_id,
        "eventType": what,
        "activityType": activity.kind,
        "timestamp": at.to_string(),
    });
    if let Some(confidence) = activity.confidence {
        payload["confidence"] = json!(confidence);
    }
    if let Some(region) = &activity.region {
        payload["region"] = region.clone();
    }
    if let Some(reason) = &activity.reason {
        payload["reason"] = json!(reason);
    }
    Report { topic: format!("{prefix}/device/message/hive-cam/{camera}/activity/{what}"), payload }
}

//! A named device shadow ("Device Shadow MQTT topics"): desired → commands → reported. Pure.
//!
//! `{"cameras": {"door": {"enabled": true, "recording": true, "encoder": {"bitrate": 800000}}}}`. What cannot be done is
//! said under `reported.rejected`, and stays in `desired`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Act;
use crate::control::command::{Request, is_id, printable};
use crate::control::reply::{Outcome, Reply};
use crate::telemetry::report::AgentReport;

/// Bytes of a shadow document at most ("AWS IoT Device Shadow limits"), less what surrounds ours.
const DOCUMENT_MOST: usize = 7_500;
/// Rejected keys that are named.
const REJECTED_MOST: usize = 16;

pub(super) struct Shadow {
    prefix: String,
    name: String,
    /// The newest version that was acted on.
    version: Option<u64>,
    /// Commands that have not been answered, and the keys they are about.
    waiting: BTreeMap<String, String>,
    rejected: BTreeMap<String, String>,
    /// What was reported last, and which cameras were in it.
    last: Option<Value>,
    cameras: BTreeSet<String>,
    is_synced: bool,
    count: u64,
}

impl Shadow {
    pub(super) fn new(thing: &str, name: &str) -> Self {
        Self {
            prefix: format!("$aws/things/{thing}/shadow/name/{name}/"),
            name: name.to_owned(),
            version: None,
            waiting: BTreeMap::new(),
            rejected: BTreeMap::new(),
            last: None,
            cameras: BTreeSet::new(),
            is_synced: false,
            count: 0,
        }
    }

    pub(super) fn filters(&self) -> Vec<String> {
        ["get/accepted", "get/rejected", "update/delta", "update/rejected"]
            .map(|rest| format!("{}{rest}", self.prefix))
            .to_vec()
    }

    pub(super) fn connected(&mut self) -> Vec<Act> {
        self.is_synced = false;
        vec![self.get()]
    }

    pub(super) fn take(&mut self, topic: &str, payload: &[u8]) -> Option<Vec<Act>> {
        let rest = topic.strip_prefix(&self.prefix)?.to_owned();
        let message: Value = serde_json::from_slice(payload).unwrap_or_default();
        Some(match rest.as_str() {
            "get/accepted" => {
                self.is_synced = true;
                self.last = None;
                self.delta(&message, &message["state"]["delta"])
            }
            "get/rejected" => {
                // 404: there is none yet; the first report makes it.
                if message["code"] != 404 {
                    tracing::warn!(shadow = self.name, code = %message["code"], reason = %message["message"], "the shadow cannot be read");
                }
                self.is_synced = true;
                self.last = None;
                Vec::new()
            }
            "update/delta" => self.delta(&message, &message["state"]),
            "update/rejected" => {
                tracing::warn!(shadow = self.name, code = %message["code"], reason = %message["message"], "the shadow takes no report");
                self.last = None;
                // 409: somebody was faster.
                if message["code"] == 409 { vec![self.get()] } else { Vec::new() }
            }
            _ => Vec::new(),
        })
    }

    /// Takes an answer; returns whether it was to one of ours.
    pub(super) fn answered(&mut self, reply: &Reply) -> bool {
        if !reply.is_final() {
            return self.waiting.contains_key(&reply.request_id);
        }
        let Some(key) = self.waiting.remove(&reply.request_id) else {
            return reply.request_id.starts_with("shadow:");
        };
        if reply.status != Outcome::Done {
            self.reject(key, reply.reason.clone().unwrap_or_default());
        }
        // Told with what has come of it.
        self.last = None;
        true
    }

    pub(super) fn report(&mut self, report: &AgentReport) -> Vec<Act> {
        if !self.is_synced || !self.waiting.is_empty() {
            return Vec::new();
        }
        let mut cameras = Map::new();
        for stream in &report.streams {
            let recording = stream.archive.as_ref().map(|archive| archive.is_recording);
            let mut camera = json!({ "enabled": stream.state != "disabled", "state": stream.state });
            if let Some(recording) = recording {
                camera["recording"] = json!(recording);
            }
            if let Some(encoder) = &stream.encoder {
                camera["encoder"] = encoder.clone();
            }
            cameras.insert(stream.camera_id.clone(), camera);
        }
        let names: BTreeSet<String> = cameras.keys().cloned().collect();
        let rejected = if self.rejected.is_empty() { Value::Null } else { json!(self.rejected) };
        let mut reported = json!({ "agent": report.version, "cameras": cameras, "rejected": rejected });
        fit(&mut reported);
        if self.last.as_ref() == Some(&reported) {
            return Vec::new();
        }
        self.last = Some(reported.clone());
        // A key that is null is deleted.
        for gone in self.cameras.difference(&names) {
            reported["cameras"][gone] = Value::Null;
        }
        self.cameras = names;
        self.count += 1;
        let update = json!({ "state": { "reported": reported }, "clientToken": format!("report-{}", self.count) });
        vec![Act::Publish(format!("{}update", self.prefix), update)]
    }

    fn delta(&mut self, message: &Value, delta: &Value) -> Vec<Act> {
        let version = message["version"].as_u64();
        if version.is_none() || version < self.version || (version == self.version && !self.waiting.is_empty()) {
            tracing::debug!(shadow = self.name, ?version, "an old version of the shadow is dropped");
            return Vec::new();
        }
        self.version = version;
        self.rejected.clear();
        let version = version.unwrap_or_default();
        let mut acts = Vec::new();
        for (key, value) in delta.as_object().into_iter().flatten() {
            match (key.as_str(), value.as_object()) {
                ("cameras", Some(cameras)) => {
                    for (camera, wanted) in cameras {
                        self.camera(version, camera, wanted, &mut acts);
                    }
                }
                _ => self.reject(printable(key), "the shadow has `cameras` and nothing else".to_owned()),
            }
        }
        self.last = None;
        acts
    }

    fn camera(&mut self, version: u64, camera: &str, wanted: &Value, acts: &mut Vec<Act>) {
        for (key, value) in wanted.as_object().into_iter().flatten() {
            let path = format!("cameras.{}.{}", printable(camera), printable(key));
            let (name, mut arguments) = match key.as_str() {
                "enabled" => ("camera", json!({ "enabled": value })),
                "recording" => ("record", json!({ "on": value })),
                "encoder" if value.is_object() => ("encoder", value.clone()),
                _ => {
                    self.reject(path, "a camera has `enabled`, `recording` and `encoder`".to_owned());
                    continue;
                }
            };
            let id = format!("shadow:{version}:{}:{}", acts.len(), crate::host::wall_clock().unix_millis());
            debug_assert!(is_id(&id));
            arguments["requestId"] = json!(id);
            match Request::parse(name, Some(camera), arguments.to_string().as_bytes()) {
                Ok(request) => {
                    self.waiting.insert(id, path);
                    acts.push(Act::Submit(request));
                }
                Err(error) => self.reject(path, error.reason),
            }
        }
    }

    fn reject(&mut self, key: String, reason: String) {
        if self.rejected.len() < REJECTED_MOST {
            self.rejected.insert(key, reason.chars().take(200).collect());
        }
    }

    fn get(&self) -> Act {
        Act::Publish(format!("{}get", self.prefix), json!({}))
    }
}

/// Leaves out what matters least until the document fits.
fn fit(reported: &mut Value) {
    for key in ["encoder", "state", "recording", "enabled"] {
        if reported.to_string().len() <= DOCUMENT_MOST {
            return;
        }
        reported["truncated"] = json!(true);
        for camera in reported["cameras"].as_object_mut().into_iter().flat_map(|cameras| cameras.values_mut()) {
            if let Some(camera) = camera.as_object_mut() {
                camera.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::command::Command;

    fn delta(shadow: &mut Shadow, version: u64, state: &Value) -> Vec<Act> {
        let payload = json!({ "version": version, "state": state }).to_string();
        shadow.take("$aws/things/gw/shadow/name/edgecam/update/delta", payload.as_bytes()).expect("its topic")
    }

    fn requests(acts: &[Act]) -> Vec<Request> {
        acts.iter()
            .filter_map(|act| if let Act::Submit(request) = act { Some(request.clone()) } else { None })
            .collect()
    }

    #[test]
    fn desired_becomes_commands_and_old_versions_are_dropped() {
        let mut shadow = Shadow::new("gw", "edgecam");
        let state = json!({ "cameras": { "door": { "enabled": false, "recording": true } } });
        let first = requests(&delta(&mut shadow, 5, &state));
        let commands: Vec<&Command> = first.iter().map(|request| &request.command).collect();
        assert_eq!(commands, [&Command::Camera(false), &Command::Record(true)]);
        assert_eq!(delta(&mut shadow, 4, &state), [], "late");
        assert_eq!(delta(&mut shadow, 5, &state), [], "twice");
        for request in &first {
            assert!(shadow.answered(&Reply::to(request, Outcome::Done)));
        }
        assert!(shadow.rejected.is_empty() && shadow.waiting.is_empty());
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let mut shadow = Shadow::new("gw", "edgecam");
        let state = json!({ "colour": 1, "cameras": { "door": { "recording": "yes", "zoom": 2, "encoder": { "bitrate": 1 } } } });
        let asked = requests(&delta(&mut shadow, 1, &state));
        assert_eq!(asked.len(), 1);
        shadow.answered(&Reply::to(&asked[0], Outcome::Rejected).because("too little"));
        let keys: Vec<&str> = shadow.rejected.keys().map(String::as_str).collect();
        assert_eq!(keys, ["cameras.door.encoder", "cameras.door.recording", "cameras.door.zoom", "colour"]);
    }

    #[test]
    fn a_document_fits() {
        let cameras: Map<String, Value> = (0..96)
            .map(|n| (format!("camera-{n}"), json!({ "enabled": true, "recording": true, "state": "streaming", "encoder": { "bitrate": 1_000_000, "gop": 30 } })))
            .collect();
        let mut reported = json!({ "cameras": cameras });
        fit(&mut reported);
        assert!(reported.to_string().len() <= DOCUMENT_MOST && reported["truncated"] == true);
        assert_eq!(reported["cameras"].as_object().map(Map::len), Some(96));
    }
}

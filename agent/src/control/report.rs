//! What is reported over MQTT: the agent, each camera, each switch; and their announcement to Home Assistant.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use super::mqtt::{Kind, Message};
use super::topics::{Switch, Topics};
use crate::telemetry::report::{AgentReport, StreamReport};

/// What is the same as when it was last reported is not reported before the next heartbeat.
#[derive(Default)]
pub(super) struct Reporter {
    /// By topic: what counts as news, and the payload.
    last: BTreeMap<String, String>,
}

/// The agent itself.
#[derive(Serialize)]
struct AgentStatus<'a> {
    status: &'static str,
    health: &'static str,
    version: &'static str,
    thing: &'a str,
    uptime_seconds: u64,
    active_streams: usize,
    cameras: Vec<&'a str>,
    clock_skew_seconds: Option<i64>,
    panics: u64,
    timestamp: &'a str,
}

/// What the broker says when we vanish.
pub(super) fn last_will(topics: &Topics) -> Message {
    state(topics.status(None), json!({ "status": "offline" }).to_string())
}

/// What we say when we end in order.
pub(super) fn goodbye(topics: &Topics) -> Message {
    state(topics.status(None), json!({ "status": "stopped" }).to_string())
}

impl Reporter {
    /// What is to be published now: everything with `all`, else what has changed.
    pub(super) fn due(&mut self, report: &AgentReport, topics: &Topics, discovery: bool, all: bool) -> Vec<Message> {
        let mut messages = Vec::new();
        let names: Vec<&str> = report.streams.iter().map(|stream| stream.camera_id.as_str()).collect();
        let status = AgentStatus {
            status: "online",
            health: report.status,
            version: report.version,
            thing: &report.thing,
            uptime_seconds: report.uptime_seconds,
            active_streams: report.active_streams,
            cameras: names.clone(),
            clock_skew_seconds: report.clock_skew_seconds,
            panics: report.panics,
            timestamp: &report.timestamp,
        };
        let news = format!("{} {} {names:?} {}", report.status, report.active_streams, report.panics);
        self.publish(&mut messages, topics.status(None), news, all, || text(&status));
        for stream in &report.streams {
            let name = stream.camera_id.as_str();
            self.publish(&mut messages, topics.status(Some(name)), news_of(stream), all, || {
                camera(stream, &report.timestamp)
            });
            for (switch, is_on) in switches(stream) {
                let word = if is_on { "ON" } else { "OFF" };
                self.publish(&mut messages, topics.state(name, switch), word.to_owned(), all, || word.to_owned());
            }
            if discovery {
                for (topic, payload) in announcements(stream, topics, &report.thing) {
                    self.publish(&mut messages, topic, payload.clone(), false, || payload);
                }
            }
        }
        self.forget_gone(&mut messages, topics, &names);
        messages
    }

    fn publish(
        &mut self,
        messages: &mut Vec<Message>,
        topic: String,
        news: String,
        all: bool,
        payload: impl FnOnce() -> String,
    ) {
        let is_news = self.last.get(&topic) != Some(&news);
        if is_news || all {
            messages.push(state(topic.clone(), payload()));
            self.last.insert(topic, news);
        }
    }

    /// A camera that is no longer in the config leaves no retained status behind.
    fn forget_gone(&mut self, messages: &mut Vec<Message>, topics: &Topics, names: &[&str]) {
        let agent = topics.status(None);
        let is_kept = |topic: &str| {
            topic == agent
                || topic.starts_with("homeassistant/")
                || names.iter().any(|name| {
                    topic == topics.status(Some(name))
                        || Switch::ALL.iter().any(|switch| topic == topics.state(name, *switch))
                })
        };
        let gone: Vec<String> = self.last.keys().filter(|topic| !is_kept(topic)).cloned().collect();
        for topic in gone {
            self.last.remove(&topic);
            // An empty retained message deletes the one before (MQTT 3.1.1 §3.3.1.3).
            messages.push(state(topic, String::new()));
        }
    }
}

/// What of a camera's report is worth telling at once.
fn news_of(stream: &StreamReport) -> String {
    let archive = stream.archive.as_ref().map(|archive| (archive.recorder_status, &archive.details));
    let upload = stream.upload.as_ref().map(|upload| (upload.state, upload.uploader_status, &upload.details));
    format!("{} {:?} {archive:?} {upload:?}", stream.state, stream.error)
}

fn camera(stream: &StreamReport, timestamp: &str) -> String {
    let archive = stream.archive.as_ref();
    let upload = stream.upload.as_ref();
    text(&json!({
        "timestamp": timestamp,
        "state": stream.state,
        "stateSeconds": stream.state_seconds,
        "error": stream.error,
        "video": stream.video,
        "recorder": archive.map(|archive| json!({
            "RecorderStatus": archive.recorder_status,
            "JobStatusDetails": archive.details,
            "recorded": { "start": archive.earliest, "end": stream.latest },
            "bytes": archive.bytes,
            "spaceUsedPercent": archive.space_used_percent,
        })),
        "uploader": upload.map(|upload| json!({
            "UploaderStatus": upload.uploader_status,
            "JobStatusDetails": upload.details,
            "state": upload.state,
            "stream": upload.stream,
            "uploaded": { "end": upload.persisted_until },
            "lagSeconds": upload.lag_seconds,
            "historyGaps": upload.history_gaps,
        })),
        "lost": stream.lost,
    }))
}

fn switches(stream: &StreamReport) -> Vec<(Switch, bool)> {
    let mut switches = vec![(Switch::Enabled, stream.state != "disabled")];
    switches.extend(stream.archive.as_ref().map(|archive| (Switch::Record, archive.is_recording)));
    switches
}

/// Home Assistant's MQTT discovery: one retained config message for each switch and sensor.
fn announcements(stream: &StreamReport, topics: &Topics, thing: &str) -> Vec<(String, String)> {
    let name = &stream.camera_id;
    let slug = |text: &str| text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>();
    let id = format!("{}_{}", slug(thing), slug(name));
    let device = json!({ "identifiers": [format!("edgecam_{id}")], "name": format!("{thing} {name}"), "manufacturer": "edgecam" });
    let availability = json!([{
        "topic": topics.status(None),
        "value_template": "{{ value_json.status }}",
        "payload_available": "online",
        "payload_not_available": "offline",
    }]);
    let mut found: Vec<(String, String)> = switches(stream)
        .into_iter()
        .map(|(switch, _)| {
            let key = switch.text();
            let config = json!({
                "name": key, "unique_id": format!("edgecam_{id}_{key}"), "device": device, "availability": availability,
                "command_topic": topics.set(name, switch), "state_topic": topics.state(name, switch),
            });
            (format!("homeassistant/switch/edgecam_{id}/{key}/config"), config.to_string())
        })
        .collect();
    let sensor = json!({
        "name": "state", "unique_id": format!("edgecam_{id}_state"), "device": device, "availability": availability,
        "state_topic": topics.status(Some(name)), "value_template": "{{ value_json.state }}",
    });
    found.push((format!("homeassistant/sensor/edgecam_{id}/state/config"), sensor.to_string()));
    found
}

fn state(topic: String, payload: String) -> Message {
    Message { topic, payload: payload.into(), retain: true, kind: Kind::State }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

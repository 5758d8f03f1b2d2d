//! The honeycomb language: what a platform of hive cameras says to a camera by MQTT, and what it wants to hear.
//!
//! Tolerant where the platform itself is careless: request ids of any form, local times with a `Z`, numbers that are
//! `"NA"`. Strict where a mistake would have an effect: the topic decides which camera is meant, and an unknown command
//! or mode is refused. There are no replies in this language; effects are seen in reports and in the stream.
//!
//! Deliberately absent: MQTT itself, and what the commands do.

mod report;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value};

pub use report::{Activity, Device, Report, activity_start, activity_stop, connection, last_will, state, status};

/// Bytes of the longest message that is read; a `play` has about 2 KB.
const LONGEST: usize = 64 << 10;
/// Bytes of the longest id.
const LONGEST_ID: usize = 128;

/// A camera's name in this language: 32 upper-case hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CameraId(String);

/// A message to a camera.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// Whom it is for.
    pub camera: CameraId,
    /// The same id is the same request.
    pub request_id: String,
    /// What is wanted.
    pub command: HoneycombCommand,
}

/// What is wanted of a camera.
#[derive(Clone, PartialEq, Debug)]
pub enum HoneycombCommand {
    /// Send video; asked for a stream that runs, go on sending.
    Play {
        /// The stream.
        stream_id: String,
        /// Where to, and as what.
        sdp: String,
    },
    /// Send no more.
    Stop {
        /// The stream.
        stream_id: String,
    },
    /// Go on sending.
    Keepalive {
        /// The stream.
        stream_id: String,
        /// How many the platform has sent before.
        count: Option<u64>,
    },
    /// Change what the camera does by itself.
    SetMode {
        /// What it is to do.
        mode: Mode,
        /// For how long, if not for ever.
        minutes: Option<u32>,
        /// How often, for what is done again and again.
        interval_seconds: Option<u32>,
    },
    /// Start anew.
    Reboot,
    /// Change settings.
    Settings {
        /// Which ones.
        section: Section,
        /// Names and values, as the platform has them.
        values: Map<String, Value>,
    },
}

/// What a camera does by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It detects and records.
    Armed,
    /// It can be watched, and does nothing else.
    LivestreamOnly,
    /// It cannot be watched either.
    Privacy,
}

/// A group of settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// Any.
    Update,
    /// How sensitive detection is.
    Detection,
    /// How recordings are made.
    Recording,
    /// Infrared light.
    NightVision,
    /// Where motion counts.
    MotionZones,
}

/// Why a message has no effect.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HoneycombError {
    /// Another topic tree.
    #[error("the topic is not '{{prefix}}/honeycomb/{{camera}}/{{group}}/{{command}}'")]
    Topic,
    /// A camera id of another form.
    #[error("the camera id is not 32 upper-case hex digits")]
    CameraId,
    /// A command that is not in the language, or not one for this agent.
    #[error("the command '{0}' is not known")]
    Unknown(String),
    /// Longer than any message that makes sense.
    #[error("the message has {0} bytes, more than 65536")]
    TooLong(usize),
    /// No JSON, or with other types.
    #[error("the message cannot be read: {0}")]
    Json(String),
    /// A field is missing or empty.
    #[error("the message has no '{0}'")]
    Missing(&'static str),
    /// A value outside of its range.
    #[error("'{0}' cannot be used as '{1}'")]
    Value(String, &'static str),
}

/// A message as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    request_id: Option<String>,
    stream_id: Option<String>,
    sdp_offer: Option<String>,
    keepalive_count: Value,
    mode: Option<String>,
    duration_minutes: Value,
    interval_seconds: Value,
    settings: Option<Map<String, Value>>,
}

impl CameraId {
    /// The id as it stands in topics.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CameraId {
    type Err = HoneycombError;

    fn from_str(text: &str) -> Result<Self, HoneycombError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
        let is_id = text.len() == 32 && text.bytes().all(is_digit);
        is_id.then(|| Self(text.to_owned())).ok_or(HoneycombError::CameraId)
    }
}

impl fmt::Display for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Mode {
    /// The word for it on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Armed => "ARMED",
            Self::LivestreamOnly => "LIVESTREAMONLY",
            Self::Privacy => "PRIVACY",
        }
    }
}

/// The filter that all messages to a camera pass.
pub fn filter(prefix: &str, camera: &CameraId) -> String {
    format!("{prefix}/honeycomb/{camera}/#")
}

/// Reads a message. `prefix` is what stands in front of `/honeycomb/`.
pub fn parse(prefix: &str, topic: &str, payload: &[u8]) -> Result<Message, HoneycombError> {
    let path = topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("/honeycomb/"));
    let (camera, command) = path.and_then(|path| path.split_once('/')).ok_or(HoneycombError::Topic)?;
    let camera: CameraId = camera.parse()?;
    if payload.len() > LONGEST {
        return Err(HoneycombError::TooLong(payload.len()));
    }
    let unreadable = |error: serde_json::Error| HoneycombError::Json(error.to_string());
    let all: Map<String, Value> = serde_json::from_slice(payload).map_err(unreadable)?;
    let written: Written = serde_json::from_value(Value::Object(all.clone())).map_err(unreadable)?;
    let command = written.command(command, all)?;
    let request_id = id(written.request_id, "requestId")?;
    Ok(Message { camera, request_id, command })
}

impl Written {
    fn command(&self, name: &str, all: Map<String, Value>) -> Result<HoneycombCommand, HoneycombError> {
        let stream_id = || id(self.stream_id.clone(), "streamId");
        let section = match name {
            "stream/play" => {
                let sdp = self.sdp_offer.clone().filter(|sdp| !sdp.is_empty());
                let sdp = sdp.ok_or(HoneycombError::Missing("sdpOffer"))?;
                return Ok(HoneycombCommand::Play { stream_id: stream_id()?, sdp });
            }
            "stream/stop" => return Ok(HoneycombCommand::Stop { stream_id: stream_id()? }),
            "stream/keepalive" => {
                let count = number(&self.keepalive_count, "keepaliveCount")?;
                return Ok(HoneycombCommand::Keepalive { stream_id: stream_id()?, count });
            }
            "system/setmode" => {
                let mode = match self.mode.as_deref().unwrap_or_default() {
                    "" => return Err(HoneycombError::Missing("mode")),
                    "ARMED" => Mode::Armed,
                    "LIVESTREAMONLY" => Mode::LivestreamOnly,
                    "PRIVACY" => Mode::Privacy,
                    other => return Err(HoneycombError::Value(excerpt(other), "mode")),
                };
                let minutes = number(&self.duration_minutes, "durationMinutes")?;
                let interval_seconds = number(&self.interval_seconds, "intervalSeconds")?;
                return Ok(HoneycombCommand::SetMode { mode, minutes, interval_seconds });
            }
            "system/reboot" => return Ok(HoneycombCommand::Reboot),
            "settings/update" => Section::Update,
            "settings/detection" => Section::Detection,
            "settings/recording" => Section::Recording,
            "settings/nightvision" => Section::NightVision,
            "settings/motionzones" => Section::MotionZones,
            other => return Err(HoneycombError::Unknown(excerpt(other))),
        };
        // They stand in an object of their own, or beside the fields that every message has.
        let values = self.settings.clone().unwrap_or_else(|| {
            let common = ["requestId", "creationTimestamp", "sourceId", "sourceType"];
            all.into_iter().filter(|(name, _)| !common.contains(&name.as_str())).collect()
        });
        Ok(HoneycombCommand::Settings { section, values })
    }
}

fn id(text: Option<String>, name: &'static str) -> Result<String, HoneycombError> {
    let text = text.filter(|text| !text.is_empty()).ok_or(HoneycombError::Missing(name))?;
    if text.len() > LONGEST_ID || text.chars().any(char::is_control) {
        return Err(HoneycombError::Value(excerpt(&text), name));
    }
    Ok(text)
}

/// A number, one written as text, or none: absent, `null` or `"NA"`.
fn number<T: TryFrom<u64>>(value: &Value, name: &'static str) -> Result<Option<T>, HoneycombError> {
    let found = match value {
        Value::Null => return Ok(None),
        Value::String(text) if matches!(text.trim(), "" | "NA") => return Ok(None),
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64(),
    };
    let number = found.and_then(|number: u64| T::try_from(number).ok());
    number.map(Some).ok_or_else(|| HoneycombError::Value(excerpt(&value.to_string()), name))
}

/// Enough of a text from outside to find it by.
fn excerpt(text: &str) -> String {
    text.chars().take(64).map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

//! Commands: one closed vocabulary behind every transport. Parsing is pure and is fuzzed.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::view::View;
use crate::config::schedule::Period;
use crate::encode::Control;
use crate::live::honeycomb::Mode;
use crate::upload::LEASE;

/// Longest request id.
const ID_MOST: usize = 64;
/// Longest command, in bytes: AWS IoT's limit of a payload.
const COMMAND_MOST: usize = 128 << 10;

/// The name of a command: what a transport may be allowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// Upload live for a while.
    Live,
    /// End what `live` and `upload` began.
    Stop,
    /// Upload a range of the past.
    Upload,
    /// Switch the archive on or off.
    Record,
    /// A JPEG of the newest picture.
    Snapshot,
    /// An MP4 of a range of the past.
    Clip,
    /// Set the encoder.
    Encoder,
    /// Ask for an IDR.
    Keyframe,
    /// Switch the camera on or off.
    Camera,
    /// Read or replace the config.
    Config,
    /// Restart the agent.
    Restart,
    /// Tell how things are.
    Status,
}

/// A command, understood and within its limits.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Upload live; each request extends the lease.
    Live(Duration),
    /// End what `live` and `upload` began.
    Stop,
    /// Upload a range of the past.
    Upload(Period),
    /// Switch the archive on or off.
    Record(bool),
    /// A JPEG of the newest picture, at most so many pixels wide.
    Snapshot {
        /// Pixels.
        max_width: u32,
    },
    /// An MP4 of a range of the past.
    Clip(Period),
    /// Set the encoder.
    Encoder(Control),
    /// Ask for an IDR.
    Keyframe,
    /// Switch the camera on or off.
    Camera(bool),
    /// Switch camera and archive, as a platform of hive cameras names the combinations.
    Mode(Mode),
    /// Live view by RTP.
    View(View),
    /// Read the config.
    ConfigGet,
    /// Replace the config.
    ConfigSet(String),
    /// Restart the agent.
    Restart,
    /// Tell how things are.
    Status,
}

/// A command, and who is to hear of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// The caller's name for it: two requests of one name have one effect.
    pub id: String,
    /// The camera; `None` when it is about the agent.
    pub camera: Option<String>,
    /// What to do.
    pub command: Command,
}

/// Why a command is not one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Malformed {
    /// Its request id, as far as it could be read.
    pub id: Option<String>,
    /// For a person.
    pub reason: String,
}

impl Name {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Live,
        Self::Stop,
        Self::Upload,
        Self::Record,
        Self::Snapshot,
        Self::Clip,
        Self::Encoder,
        Self::Keyframe,
        Self::Camera,
        Self::Config,
        Self::Restart,
        Self::Status,
    ];

    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stop => "stop",
            Self::Upload => "upload",
            Self::Record => "record",
            Self::Snapshot => "snapshot",
            Self::Clip => "clip",
            Self::Encoder => "encoder",
            Self::Keyframe => "keyframe",
            Self::Camera => "camera",
            Self::Config => "config",
            Self::Restart => "restart",
            Self::Status => "status",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|name| name.text() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::text).join(", ");
            format!("there is no command `{}`; there are {names}", printable(text))
        })
    }

    /// Whether it is about a camera, about the agent, or either.
    fn target(self) -> Target {
        match self {
            Self::Config | Self::Restart => Target::Agent,
            Self::Status => Target::Either,
            _ => Target::Camera,
        }
    }
}

#[derive(PartialEq)]
enum Target {
    Agent,
    Camera,
    Either,
}

impl Command {
    /// Its name.
    pub fn name(&self) -> Name {
        match self {
            Self::Live(_) | Self::View(_) => Name::Live,
            Self::Stop => Name::Stop,
            Self::Upload(_) => Name::Upload,
            Self::Record(_) => Name::Record,
            Self::Snapshot { .. } => Name::Snapshot,
            Self::Clip(_) => Name::Clip,
            Self::Encoder(_) => Name::Encoder,
            Self::Keyframe => Name::Keyframe,
            Self::Camera(_) | Self::Mode(_) => Name::Camera,
            Self::ConfigGet | Self::ConfigSet(_) => Name::Config,
            Self::Restart => Name::Restart,
            Self::Status => Name::Status,
        }
    }

    /// What a transport must be allowed for it.
    pub fn needs(&self) -> Vec<Name> {
        match self {
            Self::Mode(_) => vec![Name::Camera, Name::Record],
            other => vec![other.name()],
        }
    }

    /// Whether doing it twice is different from doing it once, so that it must be remembered over a restart. A stream
    /// does not outlive the agent: asked for again after a restart, it is to be started.
    pub fn has_effect(&self) -> bool {
        !matches!(self, Self::Snapshot { .. } | Self::ConfigGet | Self::Status | Self::View(_))
    }

    /// Whether it comes so often, and means so little each time, that it is neither remembered nor logged.
    pub fn is_fleeting(&self) -> bool {
        matches!(self, Self::View(View::Keepalive { .. }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LiveArguments {
    seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeArguments {
    start: Value,
    end: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotArguments {
    #[serde(rename = "maxWidth")]
    max_width: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordArguments {
    on: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CameraArguments {
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigArguments {
    config: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoArguments {}

impl Request {
    /// Reads the JSON object that comes with the command `name`; `camera` is what the transport's address says.
    pub fn parse(name: &str, camera: Option<&str>, payload: &[u8]) -> Result<Self, Malformed> {
        if payload.len() > COMMAND_MOST {
            let reason = format!("a command has at most {COMMAND_MOST} bytes, not {}", payload.len());
            return Err(Malformed { id: None, reason });
        }
        let mut object: Map<String, Value> = serde_json::from_slice(payload)
            .map_err(|error| Malformed { id: None, reason: format!("the command is not a JSON object: {error}") })?;
        let id = match object.remove("requestId") {
            Some(Value::String(id)) if is_id(&id) => id,
            Some(_) => {
                let reason = format!("requestId must be 1 to {ID_MOST} letters, digits, `-`, `_`, `.` or `:`");
                return Err(Malformed { id: None, reason });
            }
            None => return Err(Malformed { id: None, reason: "requestId is missing".to_owned() }),
        };
        let command = Self::command(name, camera.is_some(), object);
        let camera = camera.map(str::to_owned);
        command
            .map(|command| Self { id: id.clone(), camera, command })
            .map_err(|reason| Malformed { id: Some(id), reason })
    }

    fn command(name: &str, has_camera: bool, arguments: Map<String, Value>) -> Result<Command, String> {
        let name = Name::parse(name)?;
        match name.target() {
            Target::Agent if has_camera => return Err(format!("`{}` is about the agent, not a camera", name.text())),
            Target::Camera if !has_camera => return Err(format!("`{}` needs a camera", name.text())),
            _ => {}
        }
        match name {
            Name::Live => {
                let seconds = take::<LiveArguments>(arguments)?.seconds.unwrap_or(LEASE.as_secs());
                if !(1..=86_400).contains(&seconds) {
                    return Err("seconds must be 1 to 86400".to_owned());
                }
                Ok(Command::Live(Duration::from_secs(seconds)))
            }
            Name::Upload => period(take(arguments)?).map(Command::Upload),
            Name::Clip => period(take(arguments)?).map(Command::Clip),
            Name::Record => Ok(Command::Record(take::<RecordArguments>(arguments)?.on)),
            Name::Camera => Ok(Command::Camera(take::<CameraArguments>(arguments)?.enabled)),
            Name::Snapshot => {
                let max_width = take::<SnapshotArguments>(arguments)?.max_width.unwrap_or(640);
                if !(16..=8192).contains(&max_width) {
                    return Err("maxWidth must be 16 to 8192 pixels".to_owned());
                }
                Ok(Command::Snapshot { max_width })
            }
            Name::Encoder => {
                let control: Control = take(arguments)?;
                if control == Control::default() {
                    return Err("nothing to set: give one of resolution, framerate, gop, bitrate".to_owned());
                }
                Ok(Command::Encoder(control))
            }
            Name::Config => Ok(match take::<ConfigArguments>(arguments)?.config {
                None => Command::ConfigGet,
                Some(Value::String(text)) => Command::ConfigSet(text),
                // JSON is YAML too.
                Some(config @ Value::Object(_)) => Command::ConfigSet(config.to_string()),
                Some(_) => return Err("config must be a text (YAML) or an object".to_owned()),
            }),
            Name::Stop => take::<NoArguments>(arguments).map(|_| Command::Stop),
            Name::Keyframe => take::<NoArguments>(arguments).map(|_| Command::Keyframe),
            Name::Restart => take::<NoArguments>(arguments).map(|_| Command::Restart),
            Name::Status => take::<NoArguments>(arguments).map(|_| Command::Status),
        }
    }
}

/// Whether `id` can be a request id: it becomes a level of a topic.
pub fn is_id(id: &str) -> bool {
    (1..=ID_MOST).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
}

fn take<T: DeserializeOwned>(arguments: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(arguments)).map_err(|error| error.to_string())
}

fn period(range: RangeArguments) -> Result<Period, String> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    format!("{}/{}", text(range.start), text(range.end)).parse()
}

/// What a stranger wrote, short and without control characters.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, camera: Option<&str>, payload: &str) -> Result<Command, String> {
        Request::parse(name, camera, payload.as_bytes()).map(|request| request.command).map_err(|error| error.reason)
    }

    #[test]
    fn commands() {
        let cam = Some("door");
        let some = |payload: &str| format!(r#"{{"requestId":"a-1"{payload}}}"#);
        assert_eq!(parse("live", cam, &some("")), Ok(Command::Live(Duration::from_secs(300))));
        assert_eq!(parse("live", cam, &some(r#","seconds":10"#)), Ok(Command::Live(Duration::from_secs(10))));
        assert_eq!(parse("record", cam, &some(r#","on":false"#)), Ok(Command::Record(false)));
        let range = Period {
            start: edgecam_media::Timestamp::from_unix_millis(1000),
            end: edgecam_media::Timestamp::from_unix_millis(2000),
        };
        assert_eq!(
            parse("clip", cam, &some(r#","start":1000,"end":"1970-01-01T00:00:02Z""#)),
            Ok(Command::Clip(range))
        );
        assert_eq!(parse("config", None, &some("")), Ok(Command::ConfigGet));
        let set = parse("config", None, &some(r#","config":{"cameras":[]}"#));
        assert_eq!(set, Ok(Command::ConfigSet(r#"{"cameras":[]}"#.to_owned())));
        let control = Control { bitrate: Some(800_000), ..Control::default() };
        assert_eq!(parse("encoder", cam, &some(r#","bitrate":800000"#)), Ok(Command::Encoder(control)));
        assert_eq!(parse("status", None, &some("")), parse("status", cam, &some("")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cam = Some("door");
        for (name, camera, payload, says) in [
            ("live", cam, "", "not a JSON object"),
            ("live", cam, "[1]", "not a JSON object"),
            ("live", cam, "{}", "requestId is missing"),
            ("live", cam, r#"{"requestId":7}"#, "requestId must be"),
            ("live", cam, r#"{"requestId":"a/b"}"#, "requestId must be"),
            ("live", cam, r#"{"requestId":"a","seconds":0}"#, "1 to 86400"),
            ("live", cam, r#"{"requestId":"a","seconds":"9"}"#, "invalid type"),
            ("live", cam, r#"{"requestId":"a","secnods":9}"#, "unknown field `secnods`"),
            ("live", None, r#"{"requestId":"a"}"#, "needs a camera"),
            ("restart", cam, r#"{"requestId":"a"}"#, "about the agent"),
            ("explode", cam, r#"{"requestId":"a"}"#, "no command `explode`"),
            ("clip", cam, r#"{"requestId":"a","start":2,"end":1}"#, "ends before"),
            ("encoder", cam, r#"{"requestId":"a"}"#, "nothing to set"),
            ("config", None, r#"{"requestId":"a","config":3}"#, "text (YAML) or an object"),
        ] {
            let error = parse(name, camera, payload).expect_err(payload);
            assert!(error.contains(says), "{payload}: {error}");
        }
    }
}

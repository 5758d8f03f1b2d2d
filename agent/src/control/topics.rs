//! Which topic says what: `<prefix>[/<camera>]/cmd/<command>` in, `…/reply/<requestId>` and `…/status` out, and
//! `<prefix>/<camera>/<switch>/set` in, `…/state` out. Pure.

use super::command::Command;
use super::mqtt::limits;

/// What a topic asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked<'a> {
    /// A command.
    Command { camera: Option<&'a str>, name: &'a str },
    /// A switch.
    Set { camera: &'a str, switch: &'a str },
}

/// What can be switched by a plain ON or OFF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Switch {
    /// The camera.
    Enabled,
    /// Its archive.
    Record,
}

/// The topics below one prefix.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    prefix: String,
}

impl Switch {
    pub(super) const ALL: [Self; 2] = [Self::Enabled, Self::Record];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Record => "record",
        }
    }

    /// The command for it.
    pub(super) fn command(self, on: bool) -> Command {
        match self {
            Self::Enabled => Command::Camera(on),
            Self::Record => Command::Record(on),
        }
    }
}

/// ON or OFF, as people and home automation write it.
pub(super) fn on_or_off(payload: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(payload).ok()?.trim();
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match () {
        () if is(&["on", "true", "1"]) => Some(true),
        () if is(&["off", "false", "0"]) => Some(false),
        () => None,
    }
}

impl Topics {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// What to subscribe to.
    pub(super) fn filters(&self) -> Vec<String> {
        ["cmd/+", "+/cmd/+", "+/+/set"].map(|rest| format!("{}/{rest}", self.prefix)).to_vec()
    }

    pub(super) fn parse<'a>(&self, topic: &'a str) -> Option<Asked<'a>> {
        let rest = topic.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        let levels: Vec<&str> = rest.split('/').collect();
        match levels[..] {
            ["cmd", name] => Some(Asked::Command { camera: None, name }),
            [camera, "cmd", name] => Some(Asked::Command { camera: Some(camera), name }),
            [camera, switch, "set"] => Some(Asked::Set { camera, switch }),
            _ => None,
        }
    }

    /// Where an answer goes. A camera's name that cannot be in a topic, or has no end, is left out.
    pub(super) fn reply(&self, camera: Option<&str>, id: &str) -> String {
        let id = if id.is_empty() { "unknown" } else { id };
        let with_camera = camera.map(|camera| format!("{}/{camera}/reply/{id}", self.prefix));
        with_camera
            .filter(|topic| limits::topic(topic).is_ok())
            .unwrap_or_else(|| format!("{}/reply/{id}", self.prefix))
    }

    pub(super) fn status(&self, camera: Option<&str>) -> String {
        match camera {
            Some(camera) => format!("{}/{camera}/status", self.prefix),
            None => format!("{}/status", self.prefix),
        }
    }

    /// Where what a camera sees is told.
    pub(super) fn event(&self, camera: &str) -> String {
        format!("{}/{camera}/event", self.prefix)
    }

    pub(super) fn state(&self, camera: &str, switch: Switch) -> String {
        format!("{}/{camera}/{}/state", self.prefix, switch.text())
    }

    pub(super) fn set(&self, camera: &str, switch: Switch) -> String {
        format!("{}/{camera}/{}/set", self.prefix, switch.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics() {
        let topics = Topics::new("edgecam/gw");
        assert_eq!(topics.parse("edgecam/gw/cmd/status"), Some(Asked::Command { camera: None, name: "status" }));
        let live = Asked::Command { camera: Some("door"), name: "live" };
        assert_eq!(topics.parse("edgecam/gw/door/cmd/live"), Some(live));
        assert_eq!(topics.parse("edgecam/gw/door/record/set"), Some(Asked::Set { camera: "door", switch: "record" }));
        for other in ["edgecam/gw", "edgecam/gwx/cmd/a", "edgecam/gw/a/b/c/set", "x", "edgecam/gw/door/cmd/a/b"] {
            assert_eq!(topics.parse(other), None, "{other}");
        }
        assert_eq!(topics.reply(Some("door"), "1"), "edgecam/gw/door/reply/1");
        assert_eq!(topics.reply(Some(&"x".repeat(300)), ""), "edgecam/gw/reply/unknown");
        for filter in topics.filters() {
            assert_eq!(limits::filter(&filter), Ok(()));
        }
        assert_eq!(
            [&b"ON"[..], b" off ", b"1", b"maybe", b"\xff"].map(on_or_off),
            [Some(true), Some(false), Some(true), None, None]
        );
    }
}

//! What the platform hears: that cameras are connected, a heartbeat, modes, and streams that begin and end.
//!
//! It is looked for news once a second. The connection and the heartbeat are told while the broker can be reached, for
//! old ones are of no use; modes and streams wait for the broker, in order.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use edgecam_media::Timestamp;
use serde_json::json;
use tokio::sync::watch;

use super::Honeycomb;
use crate::config::{Config, identity};
use crate::control::mqtt::Link;
use crate::host::wall_clock;
use crate::live::honeycomb::{self, Activity, Device, Mode};
use crate::live::streams::{StreamDetail, StreamState};

/// Between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(600);
/// An address that nobody has (RFC 5737): which of ours is used to leave the house.
const ANYWHERE: &str = "192.0.2.1";

/// What has been told of the connection. Modes and streams are shared: see [`super::Told`].
pub(in crate::control) struct Reports {
    link: watch::Receiver<Link>,
    device: Device,
    /// The connection that cameras were reported on.
    connection: Option<u64>,
    beat: Instant,
    is_first: bool,
}

/// A stream, as far as it has been told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) stream_id: String,
    session: String,
    pub(super) runs: bool,
}

/// A stream has begun or ended.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Change {
    Start(String),
    Stop(String),
}

impl Reports {
    pub(in crate::control) fn new(link: watch::Receiver<Link>, client_id: &str) -> Self {
        let device = Device {
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            hardware_version: identity::model().unwrap_or_default(),
            serial_number: identity::serial().unwrap_or_default(),
            client_id: client_id.to_owned(),
            address: None,
        };
        Self { link, device, connection: None, beat: Instant::now(), is_first: true }
    }

    /// Tells what is new.
    pub(in crate::control) async fn look(&mut self, platform: &Honeycomb) {
        let shared = &platform.0;
        let now = wall_clock();
        let (uptime, modes, streams) = {
            // While a config is being applied there is nothing to say that would not be wrong in a second.
            let Ok(agent) = shared.control.agent().try_read() else { return };
            let Some(agent) = agent.as_ref() else { return };
            let mut streams = Vec::new();
            for (name, id) in &shared.settings.cameras {
                streams.push((name.clone(), id, agent.streams().get(id.as_str()).await.as_ref().and_then(seen)));
            }
            (agent.started.elapsed(), modes(agent.config()), streams)
        };
        self.tell_connection(platform, uptime, now);
        let prefix = &shared.settings.topic_prefix;
        for (name, mode) in modes {
            let Some(id) = shared.settings.cameras.get(&name) else { continue };
            let before = platform.told().modes.insert(name, mode);
            if before != Some(mode) {
                platform.publish(honeycomb::state(prefix, id, mode, now));
            }
        }
        for (name, id, stream) in streams {
            let before = platform.told().streams.get(&name).cloned();
            // What has ended before we came is no news.
            let is_old = self.is_first && stream.as_ref().is_some_and(|stream| !stream.runs);
            let changes = if is_old { Vec::new() } else { changes(before.as_ref(), stream.as_ref()) };
            for change in changes {
                platform.publish(match change {
                    Change::Start(stream) => honeycomb::activity_start(prefix, id, &livestream(&stream, None), now),
                    Change::Stop(stream) => honeycomb::activity_stop(prefix, id, &livestream(&stream, None), now),
                });
            }
            let mut told = platform.told();
            match stream {
                Some(stream) => told.streams.insert(name, stream),
                None => told.streams.remove(&name),
            };
        }
        self.is_first = false;
    }

    /// The agent ends: streams end with it, and cameras go.
    pub(in crate::control) fn goodbye(&self, platform: &Honeycomb) {
        let prefix = &platform.0.settings.topic_prefix;
        let now = wall_clock();
        let streams = std::mem::take(&mut platform.told().streams);
        for (name, id) in &platform.0.settings.cameras {
            if let Some(stream) = streams.get(name).filter(|stream| stream.runs) {
                let reason = Some("the agent ends".to_owned());
                let activity = livestream(&stream.stream_id, reason);
                platform.publish(honeycomb::activity_stop(prefix, id, &activity, now));
            }
            let mut gone = honeycomb::last_will(prefix, id, &self.device);
            gone.payload["timestamp"] = json!(now.to_string());
            platform.publish(gone);
        }
    }

    fn tell_connection(&mut self, platform: &Honeycomb, uptime: Duration, now: Timestamp) {
        let Link::Up(number) = *self.link.borrow() else { return };
        let is_new = self.connection.replace(number) != Some(number);
        if !is_new && self.beat.elapsed() < HEARTBEAT {
            return;
        }
        self.beat = Instant::now();
        self.device.address = address();
        let prefix = &platform.0.settings.topic_prefix;
        for id in platform.0.settings.cameras.values() {
            if is_new {
                platform.publish(honeycomb::connection(prefix, id, &self.device, now));
            }
            platform.publish(honeycomb::status(prefix, id, &self.device, uptime, now));
        }
    }
}

/// A stream as the platform's activities name what happens.
pub(super) fn livestream(stream_id: &str, reason: Option<String>) -> Activity {
    let kind = "LIVESTREAM".to_owned();
    Activity { event_id: stream_id.to_owned(), kind, confidence: None, region: None, reason }
}

fn modes(config: &Config) -> Vec<(String, Mode)> {
    let mode = |camera: &crate::config::Camera| match (camera.switches.enabled, camera.switches.recording) {
        (false, _) => Mode::Privacy,
        (true, false) => Mode::LivestreamOnly,
        (true, true) => Mode::Armed,
    };
    config.cameras.iter().map(|camera| (camera.name.clone(), mode(camera))).collect()
}

fn seen(detail: &StreamDetail) -> Option<Seen> {
    let stream = &detail.stream;
    // What could not be started was never there.
    (stream.state != StreamState::Error.name()).then(|| Seen {
        stream_id: stream.stream_id.clone(),
        session: stream.started_at.clone(),
        runs: stream.stopped_at.is_none(),
    })
}

/// What has happened from `before` to `now`, in order.
fn changes(before: Option<&Seen>, now: Option<&Seen>) -> Vec<Change> {
    let is_same = |a: &Seen, b: &Seen| a.stream_id == b.stream_id && a.session == b.session;
    let mut changes = Vec::new();
    if let Some(before) = before.filter(|before| before.runs)
        && now.is_none_or(|now| !now.runs || !is_same(before, now))
    {
        changes.push(Change::Stop(before.stream_id.clone()));
    }
    if let Some(now) = now.filter(|now| before.is_none_or(|before| !is_same(before, now))) {
        changes.push(Change::Start(now.stream_id.clone()));
        // It did not last until we looked.
        if !now.runs {
            changes.push(Change::Stop(now.stream_id.clone()));
        }
    }
    changes
}

/// Our address on the way out. Nothing is sent.
fn address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect((ANYWHERE, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_begins_and_ends_once() {
        let seen = |id: &str, session: &str, runs| Seen { stream_id: id.to_owned(), session: session.to_owned(), runs };
        let start = |id: &str| Change::Start(id.to_owned());
        let stop = |id: &str| Change::Stop(id.to_owned());
        for (before, now, expected) in [
            (None, None, vec![]),
            (None, Some(seen("a", "1", true)), vec![start("a")]),
            (None, Some(seen("a", "1", false)), vec![start("a"), stop("a")]),
            (Some(seen("a", "1", true)), Some(seen("a", "1", true)), vec![]),
            (Some(seen("a", "1", true)), Some(seen("a", "1", false)), vec![stop("a")]),
            (Some(seen("a", "1", false)), Some(seen("a", "1", false)), vec![]),
            (Some(seen("a", "1", false)), Some(seen("a", "2", true)), vec![start("a")]),
            (Some(seen("a", "1", true)), Some(seen("b", "2", true)), vec![stop("a"), start("b")]),
            (Some(seen("a", "1", true)), Some(seen("b", "2", false)), vec![stop("a"), start("b"), stop("b")]),
            (Some(seen("a", "1", true)), None, vec![stop("a")]),
            (Some(seen("a", "1", false)), None, vec![]),
        ] {
            assert_eq!(changes(before.as_ref(), now.as_ref()), expected, "{before:?} {now:?}");
        }
    }
}

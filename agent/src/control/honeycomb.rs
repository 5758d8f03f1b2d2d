//! The honeycomb language as a transport: a platform's messages become commands, and it hears what it wants to know.
//!
//! There are no replies in this language. What is refused is said in the log and counted; a `play` that is refused is
//! also reported as a stream that has stopped, so that nobody waits for its pictures.

mod reports;
mod settings;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) use reports::Reports;

use self::reports::{Seen, livestream};
use super::command::{Command, Request};
use super::dispatch::Control;
use super::mqtt::{Client, Incoming, Kind, Message};
use super::reply::{Outcome, Reply};
use super::view::{Play, View};
use crate::config;
use crate::host::wall_clock;
use crate::live::honeycomb::{self, HoneycombCommand, HoneycombError, Mode, Report, Section};

const TRANSPORT: &str = "honeycomb";

/// A platform at the other end of the MQTT connection. Clones share it.
#[derive(Clone)]
pub(super) struct Honeycomb(Arc<Shared>);

struct Shared {
    settings: config::Honeycomb,
    client: Client,
    control: Control,
    told: Mutex<Told>,
}

/// What the platform has been told, by our names of the cameras.
#[derive(Default)]
struct Told {
    modes: BTreeMap<String, Mode>,
    streams: BTreeMap<String, Seen>,
}

/// What the platform wants of one camera.
struct Wish {
    camera: String,
    request_id: String,
}

/// What to subscribe to.
pub(super) fn filters(settings: &config::Honeycomb) -> Vec<String> {
    settings.cameras.values().map(|id| honeycomb::filter(&settings.topic_prefix, id)).collect()
}

impl Honeycomb {
    pub(super) fn new(settings: config::Honeycomb, client: Client, control: Control) -> Self {
        Self(Arc::new(Shared { settings, client, control, told: Mutex::default() }))
    }

    /// Whether a message is in this language.
    pub(super) fn is_for(&self, topic: &str) -> bool {
        let rest = topic.strip_prefix(&self.0.settings.topic_prefix);
        rest.is_some_and(|rest| rest.starts_with("/honeycomb/"))
    }

    /// What an earlier run owes: a reboot that was asked for is over.
    pub(super) fn greet(&self) {
        for reply in self.0.control.due(TRANSPORT) {
            tracing::info!(request_id = reply.request_id, status = ?reply.status, "what the platform asked for before the restart");
        }
    }

    /// Acts on a message.
    pub(super) fn take(&self, incoming: &Incoming) {
        let Shared { settings, control, .. } = &*self.0;
        let message = match incoming.too_large {
            Some(bytes) => Err(HoneycombError::TooLong(bytes)),
            None => honeycomb::parse(&settings.topic_prefix, &incoming.topic, &incoming.payload),
        };
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                match error {
                    HoneycombError::Unknown(_) => control.count_unsupported(),
                    _ => control.count_rejected(),
                }
                tracing::warn!(topic = incoming.topic, %error, "a message of the platform is refused");
                return;
            }
        };
        // A broker that remembers us may still send what an earlier config has subscribed to.
        let Some(camera) = settings.camera(&message.camera) else { return control.count_rejected() };
        let wish = Wish { camera: camera.to_owned(), request_id: message.request_id };
        match message.command {
            HoneycombCommand::Play { stream_id, sdp } => self.play(wish, stream_id, sdp),
            HoneycombCommand::Stop { stream_id } => {
                self.submit(wish, Command::View(View::Stop { stream_id: Some(stream_id) }), |_, _| ());
            }
            HoneycombCommand::Keepalive { stream_id, .. } => {
                self.submit(wish, Command::View(View::Keepalive { stream_id }), |_, _| ());
            }
            HoneycombCommand::SetMode { mode, minutes, interval_seconds } => {
                if minutes.is_some() || interval_seconds.is_some() {
                    tracing::info!(camera_name = wish.camera, minutes, interval_seconds, "a mode lasts until the next");
                }
                self.submit(wish, Command::Mode(mode), |link, wish| {
                    // Told again, whether it has changed or not.
                    link.told().modes.remove(&wish.camera);
                });
            }
            HoneycombCommand::Reboot => {
                self.submit(wish, Command::Restart, |_, _| ());
            }
            HoneycombCommand::Settings { section, values } => self.settings(wish, section, &values),
        }
    }

    /// There was no room for a message.
    pub(super) fn refuse(&self, incoming: &Incoming) {
        self.0.control.count_busy();
        tracing::debug!(topic = incoming.topic, "too many messages at once: one of the platform's is passed over");
    }

    fn play(&self, wish: Wish, stream_id: String, sdp: String) {
        let id = stream_id.clone();
        let play = Play { stream_id, sdp, bitrate: (None, None) };
        let refused = move |link: &Self, wish: &Wish, reply: &Reply| {
            // What runs goes on, whatever was wrong with asking for it once more.
            let runs = link.told().streams.get(&wish.camera).is_some_and(|seen| seen.runs && seen.stream_id == id);
            if let Some(camera) = link.0.settings.cameras.get(&wish.camera).filter(|_| !runs) {
                let activity = livestream(&id, reply.reason.clone());
                let prefix = &link.0.settings.topic_prefix;
                link.publish(honeycomb::activity_stop(prefix, camera, &activity, wall_clock()));
            }
        };
        self.submit_or(wish, Command::View(View::Play(play)), |_, _| (), refused);
    }

    fn settings(&self, wish: Wish, section: Section, values: &serde_json::Map<String, serde_json::Value>) {
        let control = &self.0.control;
        let (wanted, rest) = match section {
            Section::Update => match settings::encoder(values) {
                Ok(found) => found,
                Err(reason) => {
                    control.count_rejected();
                    tracing::warn!(camera_name = wish.camera, reason, "settings of the platform are refused");
                    return;
                }
            },
            _ => (Default::default(), values.keys().cloned().collect()),
        };
        if !rest.is_empty() {
            control.count_unsupported();
            let names: Vec<String> = rest.iter().take(16).map(|name| super::command::printable(name)).collect();
            tracing::warn!(camera_name = wish.camera, ?section, settings = ?names, "this agent has no such settings");
        }
        if wanted != Default::default() {
            self.submit(wish, Command::Encoder(wanted), |_, _| ());
        }
    }

    fn submit(&self, wish: Wish, command: Command, done: impl Fn(&Self, &Wish) + Send + 'static) {
        self.submit_or(wish, command, done, |_, _, _| ());
    }

    fn submit_or(
        &self,
        wish: Wish,
        command: Command,
        done: impl Fn(&Self, &Wish) + Send + 'static,
        refused: impl Fn(&Self, &Wish, &Reply) + Send + 'static,
    ) {
        let is_fleeting = command.is_fleeting();
        let camera = (command != Command::Restart).then(|| wish.camera.clone());
        let request = Request { id: wish.request_id.clone(), camera, command };
        let link = self.clone();
        let answer = move |reply: Reply| match reply.status {
            Outcome::Accepted => {}
            Outcome::Done => done(&link, &wish),
            Outcome::Rejected | Outcome::Busy | Outcome::Failed => {
                let (camera_name, reason) = (&wish.camera, reply.reason.as_deref().unwrap_or_default());
                if is_fleeting {
                    tracing::debug!(camera_name, reason, "a keepalive has no effect");
                } else {
                    let command = reply.command.map(super::command::Name::text);
                    tracing::warn!(camera_name, command, reason, "what the platform asks for is refused");
                }
                refused(&link, &wish, &reply);
            }
        };
        self.0.control.submit(TRANSPORT, request, Box::new(answer));
    }

    fn publish(&self, report: Report) {
        let Report { topic, payload } = report;
        // None of them is retained: the platform does not ask for that.
        let message = Message { topic, payload: payload.to_string().into(), retain: false, kind: Kind::Report };
        if let Err(refused) = self.0.client.publish(message) {
            tracing::warn!(%refused, "a message cannot be published");
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

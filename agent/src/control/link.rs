//! MQTT as a transport of commands, and as the place where reports go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::command::{Request, is_id};
use super::dispatch::Control;
use super::honeycomb::{self, Honeycomb, Reports};
use super::iot::{self, Act, Iot};
use super::mqtt::{Client, Connection, Inbox, Incoming, Kind, Link, Message, Settings};
use super::reply::{Outcome, Reply};
use super::report::{Reporter, goodbye, last_will};
use super::topics::{Asked, Switch, Topics, on_or_off};
use crate::config::{self, Mqtt};
use crate::event::outlet::Give;
use crate::host::wall_clock;
use crate::telemetry::report;

/// How often it is looked whether there is something to report.
const LOOK: Duration = Duration::from_secs(1);
const TRANSPORT: &str = "mqtt";

/// Commands and reports over one MQTT connection.
#[derive(Clone)]
pub struct MqttLink {
    client: Client,
    inbox: Arc<Mutex<Inbox>>,
    control: Control,
    topics: Topics,
    settings: Mqtt,
    sets: Arc<AtomicU64>,
    iot: Arc<std::sync::Mutex<Iot>>,
    platform: Option<Honeycomb>,
}

impl MqttLink {
    /// The client that [`super::mqtt::run`] connects, and what is done with it. Fails only if no thread can be started.
    pub fn new(settings: &Mqtt, platform: Option<&config::Honeycomb>, control: Control) -> std::io::Result<Self> {
        let topics = Topics::new(&settings.topic_prefix);
        let connection: Connection = settings.connection.clone();
        let iot = Iot::new(settings, &settings.thing);
        let of_platform = platform.map(honeycomb::filters).unwrap_or_default();
        let subscriptions = [topics.filters(), iot.filters(), of_platform].concat();
        let client = Settings { connection, last_will: Some(last_will(&topics)), subscriptions };
        let (client, inbox) = Client::new(client)?;
        control.set_mqtt(Some(client.clone()));
        let inbox = Arc::new(Mutex::new(inbox));
        let platform = platform.map(|platform| Honeycomb::new(platform.clone(), client.clone(), control.clone()));
        Ok(Self {
            client,
            inbox,
            control,
            topics,
            settings: settings.clone(),
            sets: Arc::default(),
            iot: Arc::new(std::sync::Mutex::new(iot)),
            platform,
        })
    }

    /// The connection's handle.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Takes commands and reports until `cancel` is called; then says goodbye.
    pub async fn run(self, cancel: CancellationToken) {
        for reply in self.control.due(TRANSPORT) {
            self.publish_reply(&reply);
        }
        for reply in self.control.due(iot::TRANSPORT) {
            self.answered_iot(&reply);
        }
        let mut link = self.client.link();
        if matches!(*link.borrow_and_update(), Link::Up(_)) {
            let acts = self.iot().connected();
            self.act(acts);
        }
        let mut platform = self.platform.as_ref().map(|platform| {
            platform.greet();
            (platform, Reports::new(self.client.link(), &self.settings.connection.client_id))
        });
        if let Some(agent) = self.control.agent().read().await.as_ref() {
            agent.broker().connect(Some(self.give_events()));
        }
        let mut inbox = self.inbox.lock().await;
        let mut reporter = Reporter::default();
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heartbeat = Instant::now();
        loop {
            let Inbox { messages, overflow } = &mut *inbox;
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(incoming) = messages.recv() => self.take(&incoming),
                Some(incoming) = overflow.recv() => self.refuse(&incoming),
                Ok(()) = link.changed() => {
                    if matches!(*link.borrow_and_update(), Link::Up(_)) {
                        let acts = self.iot().connected();
                        self.act(acts);
                    }
                }
                _ = tick.tick() => {
                    let all = heartbeat.elapsed() >= self.settings.heartbeat;
                    if all {
                        heartbeat = Instant::now();
                    }
                    self.report(&mut reporter, all).await;
                    if let Some((platform, reports)) = &mut platform {
                        reports.look(platform).await;
                    }
                }
            }
        }
        if let Some((platform, reports)) = &platform {
            reports.goodbye(platform);
        }
        self.publish(goodbye(&self.topics));
        self.control.set_mqtt(None);
    }

    async fn report(&self, reporter: &mut Reporter, all: bool) {
        let report = {
            // While a config is being applied there is nothing to say that would not be wrong in a second.
            let Ok(agent) = self.control.agent().try_read() else { return };
            let Some(agent) = agent.as_ref() else { return };
            report::agent(agent, wall_clock())
        };
        for message in reporter.due(&report, &self.topics, self.settings.home_assistant, all) {
            self.publish(message);
        }
        let acts = self.iot().report(&report);
        self.act(acts);
    }

    /// Not to be held while something is submitted: the answer may come at once.
    fn iot(&self) -> std::sync::MutexGuard<'_, Iot> {
        self.iot.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn act(&self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Publish(topic, document) => {
                    let payload = document.to_string().into();
                    self.publish(Message { topic, payload, retain: false, kind: Kind::Report });
                }
                Act::Submit(request) => {
                    let link = self.clone();
                    let answer = move |reply: Reply| link.answered_iot(&reply);
                    self.control.submit(iot::TRANSPORT, request, Box::new(answer));
                }
            }
        }
    }

    fn answered_iot(&self, reply: &Reply) {
        // What does not fit into AWS IoT's own answer, a picture, can be had here.
        if reply.result.is_some() && reply.is_final() {
            self.publish_reply(reply);
        }
        let acts = self.iot().answered(reply);
        self.act(acts);
    }

    fn take(&self, incoming: &Incoming) {
        if incoming.retain {
            // It may be days old: a command counts when it is given.
            tracing::warn!(topic = incoming.topic, "a retained command is ignored");
            self.control.count_rejected();
            return;
        }
        if let Some(platform) = self.platform.as_ref().filter(|platform| platform.is_for(&incoming.topic)) {
            return platform.take(incoming);
        }
        if let Some(bytes) = incoming.too_large {
            let camera = self.camera_of(incoming);
            let reason = format!("a command has at most 131072 bytes, not {bytes}");
            return self.reject(Reply::unread(None, camera, Outcome::Rejected, reason));
        }
        let of_iot = self.iot().take(&incoming.topic, &incoming.payload);
        if let Some(acts) = of_iot {
            return self.act(acts);
        }
        match self.topics.parse(&incoming.topic) {
            Some(Asked::Command { camera, name }) => match Request::parse(name, camera, &incoming.payload) {
                Ok(request) => self.submit(request, false),
                Err(error) => self.reject(Reply::unread(error.id, camera, Outcome::Rejected, error.reason)),
            },
            Some(Asked::Set { camera, switch }) => self.set(camera, switch, &incoming.payload),
            None => self.control.count_rejected(),
        }
    }

    fn set(&self, camera: &str, switch: &str, payload: &[u8]) {
        let found = Switch::ALL.into_iter().find(|known| known.text() == switch);
        match (found, on_or_off(payload)) {
            (Some(switch), Some(on)) => {
                // Nobody waits for an answer: the state that follows is one.
                let number = self.sets.fetch_add(1, Ordering::Relaxed);
                let id = format!("set-{}-{number}", wall_clock().unix_millis());
                self.submit(Request { id, camera: Some(camera.to_owned()), command: switch.command(on) }, true);
            }
            (None, _) => {
                let names = Switch::ALL.map(Switch::text).join(" and ");
                let reason = format!("there is no such switch; there are {names}");
                self.reject(Reply::unread(None, Some(camera), Outcome::Rejected, reason));
            }
            (_, None) => {
                let reason = "a switch takes ON or OFF".to_owned();
                self.reject(Reply::unread(None, Some(camera), Outcome::Rejected, reason));
            }
        }
    }

    fn submit(&self, request: Request, only_if_refused: bool) {
        let link = self.clone();
        let answer = move |reply: Reply| {
            if !only_if_refused || !matches!(reply.status, Outcome::Accepted | Outcome::Done) {
                link.publish_reply(&reply);
            }
        };
        self.control.submit(TRANSPORT, request, Box::new(answer));
    }

    /// There was no room for it.
    fn refuse(&self, incoming: &Incoming) {
        if let Some(platform) = self.platform.as_ref().filter(|platform| platform.is_for(&incoming.topic)) {
            return platform.refuse(incoming);
        }
        let id = serde_json::from_slice::<serde_json::Value>(&incoming.payload)
            .ok()
            .and_then(|value| value.get("requestId")?.as_str().filter(|id| is_id(id)).map(str::to_owned));
        let reason = "too many commands at once: ask again in a second".to_owned();
        self.control.count_busy();
        self.publish_reply(&Reply::unread(id, self.camera_of(incoming), Outcome::Busy, reason));
    }

    fn camera_of<'a>(&self, incoming: &'a Incoming) -> Option<&'a str> {
        match self.topics.parse(&incoming.topic)? {
            Asked::Command { camera, .. } => camera,
            Asked::Set { camera, .. } => Some(camera),
        }
    }

    fn reject(&self, reply: Reply) {
        tracing::warn!(camera_name = reply.camera, reason = reply.reason, "a command is refused");
        self.control.count_rejected();
        self.publish_reply(&reply);
    }

    /// What a camera sees goes out as reports do.
    fn give_events(&self) -> Give {
        let (client, topics) = (self.client.clone(), self.topics.clone());
        Arc::new(move |camera, payload| {
            let message = Message { topic: topics.event(camera), payload, retain: false, kind: Kind::Report };
            if let Err(refused) = client.publish(message) {
                tracing::warn!(%refused, "an event cannot be published");
            }
        })
    }

    fn publish_reply(&self, reply: &Reply) {
        let topic = self.topics.reply(reply.camera.as_deref(), &reply.request_id);
        let payload = serde_json::to_vec(reply).unwrap_or_default();
        let kind = if reply.is_final() { Kind::Reply } else { Kind::Report };
        let message = Message { topic, payload: payload.into(), retain: false, kind };
        let Err(refused) = self.client.publish(message) else { return };
        // The result does not fit: say so instead.
        tracing::warn!(%refused, "a reply cannot be published");
        let without =
            Reply { result: None, ..reply.clone() }.because(format!("the result does not fit: {}", refused.reason));
        let payload = serde_json::to_vec(&without).unwrap_or_default();
        self.publish(Message { topic: refused.topic, payload: payload.into(), retain: false, kind: Kind::Reply });
    }

    fn publish(&self, message: Message) {
        if let Err(refused) = self.client.publish(message) {
            tracing::warn!(%refused, "a message cannot be published");
        }
    }
}

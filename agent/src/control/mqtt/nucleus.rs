//! The same messages over the nucleus of Greengrass: it has the connection to AWS IoT, we have its IPC.
//!
//! What waits is kept as for a broker of our own: nucleus lite keeps nothing while it is offline. There is no last will,
//! and where the nucleus does not keep messages (lite), retained ones are not.

use std::collections::BTreeMap;
use std::future::ready;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use edgecam_kvs::Backoff;
use edgecam_media::Ticks;
use futures_util::StreamExt as _;
use futures_util::stream::{SelectAll, once, unfold};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Shared, unpack};
use super::limits::Pace;
use super::message::Incoming;
use super::status::{MqttState, Reason};
use super::wire::PAYLOAD_MOST;
use crate::event::outbox::{Next, Sequence};
use crate::host::greengrass::{Fault, Ipc, Subscription, shared};
use crate::host::wall_clock;

/// For what still waits when it is told to end.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// Topics that are not allowed are tried again after this time.
const HELD_BACK_FOR: Duration = Duration::from_secs(10 * 60);
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// What the component is not allowed at all is tried again after this time.
const RETRY_REFUSED: Duration = Duration::from_secs(60);

/// Why messages do not go on.
struct Stop {
    reason: Reason,
    message: String,
}

/// A message on its way.
struct Going {
    /// Its place in the outbox; `None` for a state.
    sequence: Option<Sequence>,
    topic: String,
    payload: Bytes,
    retain: bool,
}

/// Publishes and subscribes through the nucleus until `cancel`; then sends what it can within a second.
pub async fn run_over_nucleus(client: Client, cancel: CancellationToken) {
    let on = &*client.shared;
    let Some(ipc) = shared() else {
        let message = "`mqtt.endpoint: greengrass` works only in a component: Greengrass did not start this agent";
        tracing::error!("MQTT: {message}");
        on.status().last_error = Some(message.to_owned());
        let until = wall_clock();
        on.is_now(MqttState::Waiting { reason: Reason::Refused, message: message.to_owned(), until });
        return cancel.cancelled().await;
    };
    let mut road = Road { on, ipc, held_back: BTreeMap::new(), pace: Pace::new(Instant::now()), suspect: None };
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut rng = fastrand::Rng::new();
    let mut said = String::new();
    while !cancel.is_cancelled() {
        on.is_now(MqttState::Connecting);
        let began = Instant::now();
        let stop = tokio::select! {
            () = cancel.cancelled() => break,
            stop = road.go() => stop,
        };
        if began.elapsed() >= RETRY.1 {
            backoff.succeeded();
        }
        let longest = if stop.reason == Reason::Policy { RETRY_REFUSED } else { RETRY.1 };
        let wait = backoff.failed_with(longest, &mut rng);
        if stop.message != said {
            tracing::warn!(reason = stop.reason.name(), "MQTT: {}", stop.message);
            said.clone_from(&stop.message);
        }
        {
            let mut status = on.status();
            status.failures += 1;
            status.last_error = Some(stop.message.clone());
        }
        let until = wall_clock() + Ticks::from_duration(wait);
        on.is_now(MqttState::Waiting { reason: stop.reason, message: stop.message, until });
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    // What could not be sent in time is for the next run.
    if timeout(LEAVE_WITHIN, road.drain()).await.is_err() {
        tracing::info!("MQTT: the rest of the messages waits for the next run");
    }
    if timeout(LEAVE_WITHIN, on.outbox.settled()).await.is_err() {
        tracing::warn!("MQTT: not all messages could be written to disk");
    }
    on.is_now(MqttState::Stopped);
}

/// The way through the nucleus, and what has been learnt about it.
struct Road<'a> {
    on: &'a Shared,
    ipc: &'a Ipc,
    held_back: BTreeMap<String, Instant>,
    pace: Pace,
    /// A large message that the connection ended over: the second time it is given up.
    suspect: Option<Sequence>,
}

impl Road<'_> {
    /// Subscribes, then sends and receives until something ends it.
    async fn go(&mut self) -> Stop {
        let mut link = self.ipc.link();
        if link.wait_for(|is_up| *is_up).await.is_err() {
            return network("it has ended");
        }
        let incoming = match self.subscribe().await {
            Ok(incoming) => incoming,
            Err(stop) => return stop,
        };
        let on = self.on;
        on.outbox.rewind();
        on.states().send_all();
        on.is_now(MqttState::Connected);
        let ended = async {
            // After an error there is no connection any more either.
            link.wait_for(|is_up| !is_up).await.ok();
            network(self.ipc.status().error.as_deref().unwrap_or("the nucleus closed the connection"))
        };
        let publish = publish(on, self.ipc, &mut self.held_back, &mut self.pace, &mut self.suspect);
        tokio::select! {
            // What became of a message is heard before the end of the connection, with which it comes.
            biased;
            stop = publish => stop,
            stop = ended => stop,
            stop = receive(on, incoming) => stop,
        }
    }

    /// A subscription for each filter. One that is not allowed is left out and said.
    async fn subscribe(&self) -> Result<SelectAll<futures_util::stream::BoxStream<'static, Value>>, Stop> {
        let mut all = SelectAll::new();
        let mut refused = Vec::new();
        for filter in &self.on.settings.subscriptions {
            match self.ipc.subscribe("SubscribeToIoTCore", json!({ "topicName": filter, "qos": "1" })).await {
                Ok(subscription) => all.push(events(subscription).boxed()),
                Err(fault @ (Fault::Closed(_) | Fault::Silent)) => return Err(network(&fault.to_string())),
                Err(fault) => refused.push((filter.clone(), fault)),
            }
        }
        let mut status = self.on.status();
        if let Some((filter, fault)) = refused.first() {
            let message = format!("no commands on `{filter}`: {fault}");
            tracing::warn!("MQTT: {message}");
            status.last_error = Some(message);
        }
        status.refused_filters = refused.into_iter().map(|(filter, _)| filter).collect();
        Ok(all)
    }

    /// Sends what still waits.
    async fn drain(&mut self) {
        // What was on its way may have arrived, or not.
        self.on.outbox.rewind();
        while !(self.on.states().is_idle() && self.on.outbox.status().entries == 0) {
            let Some(going) = next(self.on) else { return self.on.outbox.changed().await };
            let done = send(self.on, self.ipc, &going, &mut self.suspect).await;
            if done.is_err() {
                return;
            }
        }
    }
}

fn network(message: &str) -> Stop {
    Stop { reason: Reason::Network, message: message.to_owned() }
}

/// The messages of a subscription, and null when it has ended.
fn events(subscription: Subscription) -> impl futures_util::Stream<Item = Value> {
    let messages =
        unfold(subscription, async |mut subscription| subscription.next().await.map(|event| (event, subscription)));
    messages.chain(once(ready(Value::Null)))
}

/// Takes messages until one subscription has ended: all are made again then.
async fn receive(on: &Shared, mut incoming: SelectAll<futures_util::stream::BoxStream<'static, Value>>) -> Stop {
    while let Some(event) = incoming.next().await {
        if event.is_null() {
            return network("the nucleus ended a subscription");
        }
        match message(&event) {
            Some(message) => on.deliver(message),
            None => on.status().received_and_dropped += 1,
        }
    }
    // Without any subscription (all are refused) there is nothing to wait for.
    std::future::pending().await
}

/// `IoTCoreMessage`.
fn message(event: &Value) -> Option<Incoming> {
    let message = event.get("message")?;
    let topic = message.get("topicName")?.as_str()?.to_owned();
    let retain = message.get("retain").and_then(Value::as_bool).unwrap_or(false);
    let payload = STANDARD.decode(message.get("payload").and_then(Value::as_str).unwrap_or_default()).ok()?;
    let too_large = Some(payload.len()).filter(|bytes| *bytes > PAYLOAD_MOST);
    let payload = if too_large.is_some() { Bytes::new() } else { payload.into() };
    Some(Incoming { topic, payload, retain, too_large })
}

/// What is to be sent next.
fn next(on: &Shared) -> Option<Going> {
    if let Some((topic, payload, retain)) = on.states().next() {
        return Some(Going { sequence: None, topic, payload, retain });
    }
    loop {
        let Next::Message(sequence, body) = on.outbox.take() else { return None };
        match unpack(&body) {
            Some((topic, payload, retain)) => return Some(Going { sequence: Some(sequence), topic, payload, retain }),
            None => on.outbox.done(sequence),
        }
    }
}

/// Sends, in order, until something stops it.
async fn publish(
    on: &Shared,
    ipc: &Ipc,
    held_back: &mut BTreeMap<String, Instant>,
    pace: &mut Pace,
    suspect: &mut Option<Sequence>,
) -> Stop {
    loop {
        let Some(going) = next(on) else {
            tokio::select! {
                () = on.changed.notified() => {}
                () = on.outbox.changed() => {}
            }
            continue;
        };
        let now = Instant::now();
        held_back.retain(|_, until| *until > now);
        if held_back.contains_key(&going.topic) {
            refuse(on, &going);
            continue;
        }
        while let Err(until) = pace.ready(Instant::now()) {
            tokio::time::sleep_until(until.into()).await;
        }
        pace.sent(going.payload.len());
        match send(on, ipc, &going, suspect).await {
            Ok(true) => {}
            Ok(false) => {
                held_back.insert(going.topic, Instant::now() + HELD_BACK_FOR);
                on.status().refused_topics = held_back.keys().cloned().collect();
            }
            Err(stop) => return stop,
        }
    }
}

/// Sends one message; whether its topic is allowed.
async fn send(on: &Shared, ipc: &Ipc, going: &Going, suspect: &mut Option<Sequence>) -> Result<bool, Stop> {
    let mut request = json!({ "topicName": going.topic, "qos": "1", "payload": STANDARD.encode(&going.payload) });
    if going.retain {
        request["retain"] = json!(true);
    }
    let fault = match ipc.call("PublishToIoTCore", request).await {
        Ok(_) => {
            if let Some(sequence) = going.sequence {
                on.outbox.done(sequence);
            }
            on.status().published += 1;
            return Ok(true);
        }
        Err(fault) => fault,
    };
    let is_seen_again = going.sequence.is_none() || *suspect == going.sequence;
    *suspect = going.sequence.filter(|_| matches!(fault, Fault::TooLarge(_)));
    match fault {
        Fault::Unauthorized(_) | Fault::NotFound(_) | Fault::Unsupported(_) => {
            let message = format!("`{}` cannot be published: {fault}", going.topic);
            tracing::warn!("MQTT: {message}");
            on.status().last_error = Some(message);
            refuse(on, going);
            Ok(false)
        }
        Fault::TooLarge(bytes) if is_seen_again => {
            let message = format!("`{}`: {bytes} bytes are more than this nucleus takes; left out", going.topic);
            tracing::warn!("MQTT: {message}");
            on.status().last_error = Some(message);
            refuse(on, going);
            Ok(true)
        }
        fault => Err(network(&fault.to_string())),
    }
}

/// It cannot be sent, now or ever.
fn refuse(on: &Shared, going: &Going) {
    on.status().refused += 1;
    if let Some(sequence) = going.sequence {
        on.outbox.done(sequence);
    }
}

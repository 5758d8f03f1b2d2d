//! The connection's task: connection after connection, until it is told to end.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::{Connect, LastWill, Packet, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::attempts::{Attempts, Closed, Connected, Ended, Suspect, Verdict};
use super::client::{Client, Shared};
use super::connect::{self, Failure, Stream};
use super::serve::{End, Serving};
use super::session::{InFlight, Session};
use super::status::{MqttState, Reason};
use super::wire::{self, Decoder, Received};
use crate::host::mutual_tls::STEP_TIMEOUT;
use crate::host::{certificate, wall_clock};
use crate::upload::Network;

/// What the broker objects to is tried again after this time: somebody may have mended its policy.
const HELD_BACK_FOR: Duration = Duration::from_secs(10 * 60);

/// What outlives a connection.
#[derive(Default)]
pub(super) struct Memory {
    /// What the broker has not acknowledged.
    in_flight: VecDeque<InFlight>,
    /// Topics the broker closes the connection over, and until when.
    pub(super) held_back: BTreeMap<String, Instant>,
    subscriptions_held_back: Option<Instant>,
}

/// Connects, again and again, until `cancel`: then sends what it can within a second and says good-bye.
pub async fn run(client: Client, network: Arc<Network>, cancel: CancellationToken) {
    let shared = &*client.shared;
    let mut rng = fastrand::Rng::new();
    let (mut attempts, mut memory) = (Attempts::default(), Memory::default());
    let mut said = String::new();
    while !cancel.is_cancelled() {
        shared.is_now(MqttState::Connecting);
        let Some(ended) = attempt(shared, &mut memory, &network, &cancel).await else { break };
        let verdict = attempts.ended(ended, &shared.settings.connection.client_id, &mut rng);
        if verdict.message != said {
            tracing::warn!(reason = verdict.reason.name(), "MQTT: {}", verdict.message);
            said.clone_from(&verdict.message);
        }
        memory.hold_back(verdict.hold_back.clone());
        wait(shared, &memory, verdict, &cancel).await;
    }
    // What could not be sent in time is for the next run.
    if timeout(STEP_TIMEOUT, shared.outbox.settled()).await.is_err() {
        tracing::warn!("MQTT: not all messages could be written to disk");
    }
    shared.is_now(MqttState::Stopped);
}

async fn wait(shared: &Shared, memory: &Memory, verdict: Verdict, cancel: &CancellationToken) {
    let until = wall_clock() + edgecam_media::Ticks::from_duration(verdict.wait);
    {
        let mut status = shared.status();
        status.failures += 1;
        status.last_error = Some(verdict.message.clone());
        status.refused_topics = memory.held_back.keys().cloned().collect();
    }
    shared.is_now(MqttState::Waiting { reason: verdict.reason, message: verdict.message, until });
    tokio::select! {
        () = cancel.cancelled() => {}
        () = tokio::time::sleep(verdict.wait) => {}
    }
}

impl Memory {
    fn hold_back(&mut self, suspect: Option<Suspect>) {
        let now = Instant::now();
        self.held_back.retain(|_, until| *until > now);
        self.subscriptions_held_back = self.subscriptions_held_back.filter(|until| *until > now);
        match suspect {
            Some(Suspect::Publish(topic, _)) => {
                // Packets that are on their way would be objected to again.
                self.in_flight.clear();
                self.held_back.insert(topic, now + HELD_BACK_FOR);
            }
            Some(Suspect::Subscribe(_)) => self.subscriptions_held_back = Some(now + HELD_BACK_FOR),
            None => {}
        }
    }
}

/// One connection, from the files on disk to its end; `None` when it was told to end.
async fn attempt(shared: &Shared, memory: &mut Memory, network: &Network, cancel: &CancellationToken) -> Option<Ended> {
    let connecting = establish(shared, network);
    let connected = tokio::select! {
        () = cancel.cancelled() => return None,
        connected = connecting => connected,
    };
    let (stream, session_present) = match connected {
        Ok(connected) => connected,
        Err(Failure { reason, message }) => return Some(Ended { reason, message, connected: None }),
    };
    let began = Instant::now();
    tracing::info!(session_present, "MQTT: connected to {}", shared.settings.connection.host);
    let in_flight = std::mem::take(&mut memory.in_flight);
    // What a broker has forgotten is no longer on its way to it: it is sent as new, from the outbox, in order.
    let in_flight = if session_present { in_flight } else { VecDeque::new() };
    if in_flight.is_empty() {
        shared.outbox.rewind();
    }
    let filters: &[String] =
        if memory.subscriptions_held_back.is_none() { &shared.settings.subscriptions } else { &[] };
    let session = Session::begin(shared.settings.connection.keep_alive, in_flight, filters, began);
    let mut serving = Serving::new(shared, stream, session, &memory.held_back);
    shared.is_now(MqttState::Connected);
    let end = serving.serve(cancel).await;
    let (session, unanswered) = serving.end();
    memory.in_flight = session.end();
    let (closed, reason, message) = match end {
        End::Left => return None,
        End::Closed(Closed::Orderly) => {
            (Some(Closed::Orderly), Reason::Network, "the broker closed the connection".to_owned())
        }
        End::Closed(Closed::Cut) => (Some(Closed::Cut), Reason::Network, "the connection was cut".to_owned()),
        End::Broke(reason, message) => (None, reason, message),
    };
    let connected = Connected { lasted: began.elapsed(), session_present, closed, unanswered };
    Some(Ended { reason, message, connected: Some(connected) })
}

/// From the files on disk to the broker's acceptance.
async fn establish(shared: &Shared, network: &Network) -> Result<(Box<dyn Stream>, bool), Failure> {
    let connection = &shared.settings.connection;
    let identity = connect::identity(connection).await?;
    let expires = identity.as_ref().and_then(|identity| identity.expires);
    shared.status().certificate_expires = expires;
    let warning = expires.and_then(|expires| certificate::warning(expires, wall_clock()));
    if let Some(warning) = &warning {
        tracing::warn!("MQTT: {warning}");
    }
    let connected = async {
        let mut stream = connect::open(connection, identity, network).await?;
        let accepted = timeout(STEP_TIMEOUT, accepted(shared, &mut stream)).await;
        let session_present = accepted.unwrap_or_else(|_| {
            let message = format!("the broker did not answer within {} s", STEP_TIMEOUT.as_secs());
            Err(Failure::new(Reason::Network, message))
        })?;
        Ok((stream, session_present))
    };
    connected.await.map_err(|failure: Failure| match warning {
        // A broker says little about why it does not like a certificate; this is likely why.
        Some(warning) if failure.reason != Reason::Network => {
            Failure::new(failure.reason, format!("{}; {warning}", failure.message))
        }
        _ => failure,
    })
}

/// CONNECT and CONNACK: whether the broker knows us from before.
async fn accepted(shared: &Shared, stream: &mut Box<dyn Stream>) -> Result<bool, Failure> {
    let settings = &shared.settings;
    let connection = &settings.connection;
    let will = settings.last_will.as_ref();
    let packet = Connect {
        keep_alive: connection.keep_alive.as_secs().try_into().unwrap_or(u16::MAX),
        clean_session: false,
        last_will: will.map(|will| LastWill {
            topic: will.topic.clone(),
            message: will.payload.clone(),
            qos: QoS::AtLeastOnce,
            retain: will.retain,
        }),
        login: connection.login.as_ref().map(|login| rumqttc::Login {
            username: login.username.clone(),
            password: login.password.expose().to_owned(),
        }),
        ..Connect::new(&connection.client_id)
    };
    let mut out = BytesMut::new();
    wire::put(&mut out, &Packet::Connect(packet));
    let sent = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    // A broker that does not like our certificate may be gone already; what it had to say can still be read.
    let unsent = sent.await.err();
    let mut decoder = Decoder::default();
    loop {
        // Byte by byte: what follows a CONNACK is for the session.
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(0) => return Err(closed(None)),
            Ok(_) => decoder.feed(&byte),
            Err(error) => {
                let failure = connect::untrusted(&error, connection);
                return Err(failure.unwrap_or_else(|| closed(Some(unsent.unwrap_or(error)))));
            }
        }
        match decoder.next() {
            Ok(None) => {}
            Ok(Some(Received::ConnAck { session_present, code: 0 })) => return Ok(session_present),
            Ok(Some(Received::ConnAck { code, .. })) => return Err(connect::refused(code, &connection.client_id)),
            Ok(Some(_)) => return Err(Failure::new(Reason::Protocol, "the broker did not begin with a CONNACK")),
            Err(error) => return Err(Failure::new(Reason::Protocol, error.to_string())),
        }
    }
}

/// AWS IoT says nothing to a certificate it does not know, nor to a client that its policy does not allow.
fn closed(error: Option<io::Error>) -> Failure {
    let how = error.map(|error| format!(" ({error})")).unwrap_or_default();
    let message = format!(
        "the broker closed the connection{how} before it accepted us: it does not know our certificate, or its policy \
         does not allow this client id, last will or persistent session"
    );
    Failure::new(Reason::Refused, message)
}

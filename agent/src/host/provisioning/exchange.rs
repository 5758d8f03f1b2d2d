//! The conversation with AWS IoT: what is asked, which answers count, how long each may take. Sans-IO.
//!
//! Invariants: what nobody waits for is ignored, as QoS 1 may bring an answer twice; the ownership token is used once and
//! shown nowhere. A certificate is asked for twice before it is given up: the connection may have been cut before the
//! answer came, and AWS IoT deletes a certificate that is not used within the hour. A thing is asked for once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ProvisioningError, Step};
use crate::config::secret::Secret;
use crate::control::mqtt::{Incoming, Kind, Message, MqttState, MqttStatus, Reason};

/// From the start to a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// For each request for a certificate.
const CERTIFICATE_WITHIN: Duration = Duration::from_secs(15);
const CERTIFICATE_REQUESTS: u32 = 2;
/// A template's Lambda function may take 5 s, and all devices of a delivery may ask at once.
const THING_WITHIN: Duration = Duration::from_secs(30);
/// Of AWS IoT's words, in an error.
const WORDS_MOST: usize = 400;
const CREATE: &str = "$aws/certificates/create-from-csr/json";

/// One device's conversation.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Topic of RegisterThing.
    provision: String,
    request: Bytes,
    parameters: Value,
    stage: Stage,
    until: Instant,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    /// A certificate has been asked for, so many times.
    Certificate(u32),
    /// There is a certificate, and it is being written.
    Keeping(Owned),
    /// A thing has been asked for.
    Thing {
        certificate_id: String,
    },
    Ended,
}

/// CreateCertificateFromCsr's answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    certificate_id: String,
    certificate_pem: String,
    certificate_ownership_token: String,
}

/// RegisterThing's answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    thing_name: Option<String>,
    #[serde(default)]
    device_configuration: Option<Map<String, Value>>,
}

/// Either's refusal.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Rejected {
    status_code: u16,
    error_code: String,
    error_message: String,
}

#[derive(Debug)]
struct Owned {
    certificate_id: String,
    token: Secret,
}

/// What an answer asks for.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Write this certificate (PEM), then tell [`Exchange::kept`].
    Keep(String),
    /// The device is registered.
    Done { thing: Option<String>, certificate_id: String, configuration: Map<String, Value> },
}

impl Exchange {
    pub(super) fn new(template: &str, parameters: &BTreeMap<String, String>, csr: &str, now: Instant) -> Self {
        Self {
            provision: format!("$aws/provisioning-templates/{template}/provision/json"),
            request: json!({ "certificateSigningRequest": csr }).to_string().into(),
            parameters: json!(parameters),
            stage: Stage::Connecting,
            until: now + CONNECT_WITHIN,
        }
    }

    /// All of them at once, before anything is asked: fewer than one SUBSCRIBE holds.
    pub(super) fn subscriptions(&self) -> Vec<String> {
        let answers = |topic: &str| [format!("{topic}/accepted"), format!("{topic}/rejected")];
        [answers(CREATE), answers(&self.provision)].concat()
    }

    /// What the connection is doing: something to publish, or nothing, or no hope.
    pub(super) fn look(&mut self, status: &MqttStatus, now: Instant) -> Result<Option<Message>, ProvisioningError> {
        if !status.refused_filters.is_empty() {
            let filters = status.refused_filters.join("`, `");
            let message = format!("the claim certificate's policy does not allow subscribing to `{filters}`");
            return Err(ProvisioningError::Connection(message));
        }
        match &status.state {
            MqttState::Waiting { reason, message, .. } if *reason != Reason::Network => {
                return Err(ProvisioningError::Connection(message.clone()));
            }
            MqttState::Connected if matches!(self.stage, Stage::Connecting) => return Ok(Some(self.ask(1, now))),
            _ => {}
        }
        if now < self.until {
            return Ok(None);
        }
        let is_connected = status.state == MqttState::Connected;
        let last = status.last_error.clone().filter(|_| !is_connected);
        match self.stage {
            Stage::Connecting => {
                let last = last.unwrap_or_else(|| "the broker did not answer".to_owned());
                let message = format!("no connection within {} s: {last}", CONNECT_WITHIN.as_secs());
                Err(ProvisioningError::Connection(message))
            }
            Stage::Certificate(times) if times < CERTIFICATE_REQUESTS => Ok(Some(self.ask(times + 1, now))),
            Stage::Certificate(times) => {
                Err(silent(Step::Certificate, CERTIFICATE_WITHIN * times, &format!("{CREATE}/*"), last))
            }
            Stage::Thing { .. } => Err(silent(Step::Thing, THING_WITHIN, &format!("{}/*", self.provision), last)),
            Stage::Keeping(_) | Stage::Ended => Ok(None),
        }
    }

    /// A message has come.
    pub(super) fn receive(&mut self, incoming: &Incoming) -> Result<Option<Action>, ProvisioningError> {
        let (step, topic) = match &self.stage {
            Stage::Certificate(_) => (Step::Certificate, CREATE),
            Stage::Thing { .. } => (Step::Thing, self.provision.as_str()),
            Stage::Connecting | Stage::Keeping(_) | Stage::Ended => return Ok(None),
        };
        let is_accepted = match incoming.topic.strip_prefix(topic) {
            // A broker that keeps answers has one for somebody else.
            _ if incoming.retain => return Ok(None),
            Some("/accepted") => true,
            Some("/rejected") => false,
            _ => return Ok(None),
        };
        let unusable = |reason: String| ProvisioningError::Answer { step, reason };
        if let Some(bytes) = incoming.too_large {
            return Err(unusable(format!("{bytes} bytes")));
        }
        if !is_accepted {
            self.stage = Stage::Ended;
            return Err(ProvisioningError::Rejected { step, reason: refusal(&incoming.payload) });
        }
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Certificate(_) => {
                // What serde says about the text might show the token.
                let created: Created = serde_json::from_slice(&incoming.payload)
                    .map_err(|error| unusable(format!("not as documented, at column {}", error.column())))?;
                let token = Secret::new(created.certificate_ownership_token);
                self.stage = Stage::Keeping(Owned { certificate_id: created.certificate_id, token });
                Ok(Some(Action::Keep(created.certificate_pem)))
            }
            Stage::Thing { certificate_id } => {
                let registered: Registered = serde_json::from_slice(&incoming.payload)
                    .map_err(|error| unusable(format!("not as documented, at column {}", error.column())))?;
                let configuration = registered.device_configuration.unwrap_or_default();
                let thing = registered.thing_name.filter(|name| !name.is_empty());
                Ok(Some(Action::Done { thing, certificate_id, configuration }))
            }
            Stage::Connecting | Stage::Keeping(_) | Stage::Ended => Ok(None),
        }
    }

    /// The certificate is on disk: the thing can be asked for.
    pub(super) fn kept(&mut self, now: Instant) -> Option<Message> {
        let Stage::Keeping(Owned { certificate_id, token }) = std::mem::replace(&mut self.stage, Stage::Ended) else {
            return None;
        };
        self.stage = Stage::Thing { certificate_id };
        self.until = now + THING_WITHIN;
        let payload = json!({ "certificateOwnershipToken": token.expose(), "parameters": self.parameters });
        Some(message(&self.provision, payload.to_string().into()))
    }

    fn ask(&mut self, times: u32, now: Instant) -> Message {
        self.stage = Stage::Certificate(times);
        self.until = now + CERTIFICATE_WITHIN;
        message(CREATE, self.request.clone())
    }
}

fn message(topic: &str, payload: Bytes) -> Message {
    Message { topic: topic.to_owned(), payload, retain: false, kind: Kind::Report }
}

fn silent(step: Step, within: Duration, topics: &str, last: Option<String>) -> ProvisioningError {
    let reason =
        last.unwrap_or_else(|| format!("does the claim certificate's policy allow iot:Receive of `{topics}`?"));
    ProvisioningError::Silent { step, within, reason }
}

/// What AWS IoT says, for a person.
fn refusal(payload: &[u8]) -> String {
    let Rejected { status_code, error_code, error_message } = serde_json::from_slice(payload).unwrap_or_default();
    let words = match (error_code.as_str(), error_message.as_str()) {
        ("", "") => "without a reason".to_owned(),
        (code, message) => format!("{status_code} {code}: {message}"),
    };
    let is_plain = |c: char| if c.is_control() { ' ' } else { c };
    words.chars().take(WORDS_MOST).map(is_plain).collect()
}

#[cfg(test)]
mod tests;

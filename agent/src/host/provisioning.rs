//! A device's own identity, asked for with a certificate that a whole fleet shares: "Device provisioning MQTT API" in
//! AWS IoT's developer guide, with a request (CSR) for a key that is made here.
//!
//! Invariants: the key never leaves the device, and is on disk before a certificate for it is asked for; a certificate
//! has its name only once AWS IoT has registered the device, and never replaces another; each step has a deadline, and
//! each failure says which step it was. Deliberately absent: new certificates for a device that has one.

mod exchange;
mod place;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::exchange::{Action, Exchange};
use self::place::Place;
use crate::control::mqtt::{self, Client, Connection, Identity, Inbox};
use crate::run::stage::Stage;
use crate::upload::Network;

/// How often the connection is looked at: what it complains of is said at once.
const LOOK: Duration = Duration::from_millis(100);
/// For the connection to end in order.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);
/// "CreateProvisioningTemplate": 1 to 36 letters, digits, `_` and `-`.
const TEMPLATE_MOST: usize = 36;
/// RFC 5280, `ub-common-name`.
const COMMON_NAME_MOST: usize = 64;
/// The parameter that a device is usually told apart by.
pub const SERIAL_NUMBER: &str = "SerialNumber";

/// What is needed to ask.
#[derive(Clone, Debug)]
pub struct Settings {
    /// AWS IoT's endpoint, and the claim certificate as who we are.
    pub connection: Connection,
    /// Name of the provisioning template.
    pub template: String,
    /// What the template wants to know.
    pub parameters: BTreeMap<String, String>,
    /// Where key and certificate go.
    pub directory: PathBuf,
}

/// A device with an identity of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Provisioned {
    /// Where its certificate and key are.
    pub identity: Identity,
    /// Name of its thing, if the template makes one.
    pub thing: Option<String>,
    /// The certificate's id at AWS IoT.
    pub certificate_id: String,
    /// What the template has for the device.
    pub configuration: Map<String, Value>,
}

/// Something that AWS IoT is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// `CreateCertificateFromCsr`.
    Certificate,
    /// `RegisterThing`.
    Thing,
}

/// Why a device has no identity.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProvisioningError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Settings(String),
    /// Key or certificate cannot be kept in the directory.
    #[error("{0}")]
    Directory(String),
    /// No connection, or not one that is allowed what it takes.
    #[error("{0}")]
    Connection(String),
    /// AWS IoT says no.
    #[error("AWS IoT refuses {step}: {reason}")]
    Rejected {
        /// What was asked for.
        step: Step,
        /// In AWS IoT's words, with status and code.
        reason: String,
    },
    /// AWS IoT says nothing.
    #[error(
        "AWS IoT did not answer the request for {step} within {} s: {reason}", within.as_secs()
    )]
    Silent {
        /// What was asked for.
        step: Step,
        /// How long it was waited for.
        within: Duration,
        /// What it may come from.
        reason: String,
    },
    /// The answer cannot be used.
    #[error("AWS IoT's answer to the request for {step} cannot be used: {reason}")]
    Answer {
        /// What was asked for.
        step: Step,
        /// What is wrong with it.
        reason: String,
    },
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificate => "a certificate",
            Self::Thing => "a thing",
        })
    }
}

/// Asks for an identity and keeps it.
pub async fn provision(settings: Settings, network: Arc<Network>) -> Result<Provisioned, ProvisioningError> {
    check(&settings)?;
    let (directory, known) = (settings.directory.clone(), known(&settings.connection));
    let name = common_name(&settings.parameters);
    let opened = blocking(move || {
        let place = Place::open(&directory, &known)?;
        let request = place.request(&name)?;
        Ok((place, request))
    });
    let (place, request) = opened.await.map_err(ProvisioningError::Directory)?;
    let exchange = Exchange::new(&settings.template, &settings.parameters, &request, Instant::now());
    let subscriptions = exchange.subscriptions();
    let settings = mqtt::Settings { connection: settings.connection, last_will: None, subscriptions };
    let (client, inbox) = Client::new(settings).map_err(|error| ProvisioningError::Connection(error.to_string()))?;
    let cancel = CancellationToken::new();
    let stage = {
        let (client, cancel) = (client.clone(), cancel.clone());
        Stage::spawn("mqtt".to_owned(), cancel.clone(), move || {
            mqtt::run(client.clone(), network.clone(), cancel.clone())
        })
    };
    let result = converse(place, exchange, &client, inbox).await;
    cancel.cancel();
    stage.end(LEAVE_WITHIN).await;
    result
}

async fn converse(
    mut place: Place,
    mut exchange: Exchange,
    client: &Client,
    mut inbox: Inbox,
) -> Result<Provisioned, ProvisioningError> {
    let publish =
        |message| client.publish(message).map_err(|refused| ProvisioningError::Connection(refused.to_string()));
    loop {
        if let Some(message) = exchange.look(&client.status(), Instant::now())? {
            publish(message)?;
        }
        let incoming = tokio::select! {
            Some(incoming) = inbox.messages.recv() => incoming,
            () = sleep(LOOK) => continue,
        };
        match exchange.receive(&incoming)? {
            None => {}
            Some(Action::Keep(certificate)) => {
                let kept = blocking(move || {
                    let kept = place.keep(&certificate);
                    Ok((place, kept))
                });
                let kept = kept.await.map_err(ProvisioningError::Directory)?;
                place = kept.0;
                kept.1?;
                if let Some(message) = exchange.kept(Instant::now()) {
                    publish(message)?;
                }
            }
            Some(Action::Done { thing, certificate_id, configuration }) => {
                let identity = blocking(move || place.finish()).await.map_err(ProvisioningError::Directory)?;
                return Ok(Provisioned { identity, thing, certificate_id, configuration });
            }
        }
    }
}

fn check(settings: &Settings) -> Result<(), ProvisioningError> {
    let template = &settings.template;
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !(1..=TEMPLATE_MOST).contains(&template.len()) || !template.chars().all(is_legal) {
        let message =
            format!("`{template}` is not the name of a template: 1 to {TEMPLATE_MOST} letters, digits, `_` and `-`");
        return Err(ProvisioningError::Settings(message));
    }
    let has_claim = settings.connection.tls.as_ref().is_some_and(|tls| tls.identity.is_some());
    if !has_claim {
        return Err(ProvisioningError::Settings("a claim certificate and its key are needed".to_owned()));
    }
    Ok(())
}

/// Files that may stand in the directory and are not the device's certificate.
fn known(connection: &Connection) -> Vec<PathBuf> {
    let tls = connection.tls.as_ref();
    let claim = tls.and_then(|tls| tls.identity.as_ref());
    let claim = claim.map(|claim| [claim.certificate.clone(), claim.private_key.clone()]);
    claim.into_iter().flatten().chain(tls.and_then(|tls| tls.ca_file.clone())).collect()
}

/// Who the request is for: AWS IoT takes any name, people look at it.
fn common_name(parameters: &BTreeMap<String, String>) -> String {
    let serial = parameters.get(SERIAL_NUMBER).filter(|serial| (1..=COMMON_NAME_MOST).contains(&serial.len()));
    serial.map_or_else(|| "edgecam".to_owned(), Clone::clone)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let named = |serial: &str| common_name(&BTreeMap::from([(SERIAL_NUMBER.to_owned(), serial.to_owned())]));
        assert_eq!((named("7"), named(""), named(&"x".repeat(65))), ("7".into(), "edgecam".into(), "edgecam".into()));
        assert_eq!(common_name(&BTreeMap::new()), "edgecam");
    }
}

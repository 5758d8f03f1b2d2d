//! The stand-in for AWS IoT's fleet provisioning: it signs what openssl has verified, and refuses what the service does.
//! It uses no code of the agent's.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::broker::{Broker, Listener};
use crate::harness::pki::Authority;

const CREATE: &str = "$aws/certificates/create-from-csr/json";
pub(super) const TEMPLATE: &str = "fleet-1";
/// The one serial number that the template's hook does not let in.
pub(super) const STOLEN: &str = "stolen";

/// What the service does wrong, or has done before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whim {
    /// Nothing.
    None,
    /// It says nothing to a request for a certificate.
    Silent,
    /// It signs somebody else's key.
    OtherKey,
    /// Somebody has used the token before the device does.
    UsedToken,
    /// It does not like the request for a certificate.
    BadRequest,
}

/// The service.
pub(super) struct Service {
    heard: Listener,
    pub(super) whim: Whim,
    /// Tokens, and whether they have been used.
    tokens: BTreeMap<String, bool>,
    /// What it was asked for: topic and payload.
    pub(super) requests: Vec<(String, String)>,
    /// Things, by their serial number.
    pub(super) things: BTreeMap<String, String>,
}

impl Service {
    pub(super) async fn new(broker: &Broker) -> Self {
        let heard = broker.listen_as("service", "$aws/#").await;
        let (tokens, requests, things) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { heard, whim: Whim::None, tokens, requests, things }
    }

    /// Serves for ever.
    pub(super) async fn serve(&mut self, broker: &Broker) {
        loop {
            let Some((_, topic, payload)) = self.heard.next_within(Duration::from_secs(2)).await else { continue };
            if topic.ends_with("/accepted") || topic.ends_with("/rejected") {
                // Its own answers.
                continue;
            }
            self.requests.push((topic.clone(), payload.clone()));
            let message: Value = serde_json::from_str(&payload).unwrap_or_else(|error| panic!("{topic}: {error}"));
            let levels: Vec<&str> = topic.split('/').collect();
            let answer = match levels[..] {
                ["$aws", "certificates", "create-from-csr", "json"] => {
                    if self.whim == Whim::Silent {
                        continue;
                    }
                    self.create(broker, &message)
                }
                ["$aws", "provisioning-templates", template, "provision", "json"] => self.register(template, &message),
                _ => panic!("no such topic: {topic}"),
            };
            let (end, answer) = match answer {
                Ok(answer) => ("accepted", answer),
                Err((status, code, words)) => {
                    ("rejected", json!({ "statusCode": status, "errorCode": code, "errorMessage": words }))
                }
            };
            broker.say(&format!("{topic}/{end}"), &answer.to_string(), &[]).await;
        }
    }

    fn create(&mut self, broker: &Broker, message: &Value) -> Result<Value, (u16, &'static str, String)> {
        known(message, &["certificateSigningRequest"]);
        let number = self.tokens.len();
        let request = message["certificateSigningRequest"].as_str().unwrap_or_default();
        let request = if self.whim == Whim::BadRequest { "not a request" } else { request };
        let bad = |_| (400, "InvalidCertificateSigningRequest", "Unable to parse the CSR".to_owned());
        let mut certificate = broker.authority.sign(&broker.scratch, &format!("{number}"), request).map_err(bad)?;
        if self.whim == Whim::OtherKey {
            certificate = std::fs::read_to_string(broker.client("other").certificate).expect("there");
        }
        let token = format!("token-{number}-{}", "x".repeat(400));
        self.tokens.insert(token.clone(), self.whim == Whim::UsedToken);
        let id = format!("{number:064x}");
        Ok(json!({ "certificateOwnershipToken": token, "certificateId": id, "certificatePem": certificate }))
    }

    fn register(&mut self, template: &str, message: &Value) -> Result<Value, (u16, &'static str, String)> {
        known(message, &["certificateOwnershipToken", "parameters"]);
        if template != TEMPLATE {
            return Err((404, "ResourceNotFoundException", format!("Template {template} not found")));
        }
        let token = message["certificateOwnershipToken"].as_str().unwrap_or_default();
        match self.tokens.get_mut(token) {
            None => return Err((400, "InvalidCertificateOwnershipToken", "Unknown token".to_owned())),
            Some(true) => return Err((400, "InvalidCertificateOwnershipToken", "Token was used".to_owned())),
            Some(used) => *used = true,
        }
        let parameters = message["parameters"].as_object().expect("parameters");
        let strings: BTreeMap<&str, &str> =
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("a string"))).collect();
        let Some(serial) = strings.get("SerialNumber").filter(|serial| !serial.is_empty()) else {
            return Err((400, "InvalidParameters", "SerialNumber is missing".to_owned()));
        };
        if *serial == STOLEN {
            return Err((403, "AccessDenied", "Pre-provisioning hook does not allow this device".to_owned()));
        }
        let thing = format!("cam-{serial}");
        self.things.insert((*serial).to_owned(), thing.clone());
        Ok(json!({ "deviceConfiguration": { "Site": strings.get("Site") }, "thingName": thing }))
    }

    /// Certificates that were asked for.
    pub(super) fn certificates(&self) -> usize {
        self.requests.iter().filter(|(topic, _)| topic == CREATE).count()
    }
}

fn known(message: &Value, keys: &[&str]) {
    for key in message.as_object().unwrap_or_else(|| panic!("{message} is not an object")).keys() {
        assert!(keys.contains(&key.as_str()), "`{key}` is not in the API: {message}");
    }
}

/// What the stand-in itself does not let through.
pub(super) async fn check_that_it_is_strict(broker: &Broker) {
    let mut service = Service::new(broker).await;
    let code = |answer: Result<Value, (u16, &'static str, String)>| answer.expect_err("refused").1;
    let create = |text: &str| json!({ "certificateSigningRequest": text });
    assert_eq!(code(service.create(broker, &create("nonsense"))), "InvalidCertificateSigningRequest");
    let authority = Authority::new("no request");
    assert_eq!(code(service.create(broker, &create(&authority.pem))), "InvalidCertificateSigningRequest");
    let ask = |token: &str| json!({ "certificateOwnershipToken": token, "parameters": { "SerialNumber": "1" } });
    assert_eq!(code(service.register("other", &ask("x"))), "ResourceNotFoundException");
    assert_eq!(code(service.register(TEMPLATE, &ask("x"))), "InvalidCertificateOwnershipToken");
    service.tokens.insert("t".to_owned(), false);
    service.register(TEMPLATE, &ask("t")).expect("once");
    assert_eq!(code(service.register(TEMPLATE, &ask("t"))), "InvalidCertificateOwnershipToken");
}

//! `edgecam provision`: an identity of its own for a device that has only its fleet's claim certificate.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::EXIT_CONFIG;
use super::output::{fail, say};
use crate::config::{self, identity};
use crate::control::mqtt::Connection;
use crate::host::provisioning::{self, Provisioned, ProvisioningError, SERIAL_NUMBER, Settings};
use crate::telemetry;
use crate::upload::Network;

#[derive(Args)]
pub(super) struct Arguments {
    /// AWS IoT's endpoint: what `aws iot describe-endpoint --endpoint-type iot:Data-ATS` prints
    #[arg(long, value_name = "HOST")]
    endpoint: String,
    /// Its port: 8883, or 443 where a firewall allows no other [default: 8883]
    #[arg(long)]
    port: Option<u16>,
    /// The fleet's claim certificate (PEM)
    #[arg(long, value_name = "FILE")]
    claim_certificate: PathBuf,
    /// Its private key (PEM), readable by nobody else
    #[arg(long, value_name = "FILE")]
    claim_key: PathBuf,
    /// CA certificates (PEM) to trust [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Client id, where the claim certificate's policy wants a certain one [default: another one each time]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Name of the provisioning template
    #[arg(long, value_name = "NAME")]
    template: String,
    /// Where key and certificate go; made if it is missing, and it holds no certificate yet
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// What the template wants to know; SerialNumber is this device's serial number unless given
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    // What goes wrong is said once, at the end.
    telemetry::log::init(tracing::Level::ERROR);
    let written = mqtt(&arguments);
    let settings = match settings(arguments, &written) {
        Ok(settings) => settings,
        Err(message) => return fail(EXIT_CONFIG, format_args!("{message}")),
    };
    match provisioning::provision(settings, Arc::new(Network::default())).await {
        Ok(provisioned) => {
            print(&provisioned, written);
            ExitCode::SUCCESS
        }
        Err(error @ ProvisioningError::Settings(_)) => fail(EXIT_CONFIG, format_args!("{error}")),
        Err(error) => fail(1, format_args!("{error}")),
    }
}

fn settings(arguments: Arguments, written: &Value) -> Result<Settings, String> {
    let mut parameters = BTreeMap::new();
    for parameter in &arguments.parameters {
        let Some((name, value)) = parameter.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(format!("--parameter `{parameter}` is not NAME=VALUE"));
        };
        if parameters.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("--parameter `{name}` is there twice"));
        }
    }
    if !parameters.contains_key(SERIAL_NUMBER) {
        let serial = identity::serial()
            .ok_or(format!("this device has no usable serial number: give it with --parameter {SERIAL_NUMBER}=…"))?;
        parameters.insert(SERIAL_NUMBER.to_owned(), serial);
    }
    let directory = std::path::absolute(&arguments.directory)
        .map_err(|error| format!("--directory {}: {error}", arguments.directory.display()))?;
    let client_id = arguments.client_id.unwrap_or_else(|| format!("edgecam-{:016x}", fastrand::u64(..)));
    let connection = connection(written, &client_id)?;
    Ok(Settings { connection, template: arguments.template, parameters, directory })
}

/// The section `mqtt` as it would be written for the claim certificate.
fn mqtt(arguments: &Arguments) -> Value {
    let mut written = json!({
        "endpoint": arguments.endpoint,
        "certificate": arguments.claim_certificate,
        "private_key": arguments.claim_key,
    });
    if let Some(port) = arguments.port {
        written["port"] = json!(port);
    }
    if let Some(ca_file) = &arguments.ca_file {
        let ca_file = std::path::absolute(ca_file).unwrap_or_else(|_| ca_file.clone());
        written["ca_file"] = json!(ca_file);
    }
    written
}

/// What the config file would say, with its checks. Nothing waits on disk.
fn connection(written: &Value, client_id: &str) -> Result<Connection, String> {
    let mut written = written.clone();
    written["client_id"] = json!(client_id);
    written["outbox"] = json!({ "enabled": false });
    let config = config::parse(&json!({ "mqtt": written }).to_string()).map_err(|error| error.to_string())?;
    config.mqtt.map(|mqtt| mqtt.connection).ok_or_else(|| "no endpoint".to_owned())
}

/// What to put into the config: YAML, of which JSON's strings are part.
fn print(provisioned: &Provisioned, mut written: Value) {
    let Provisioned { identity, thing, certificate_id, configuration } = provisioned;
    written["certificate"] = json!(identity.certificate);
    written["private_key"] = json!(identity.private_key);
    say(format_args!("# This device has the certificate {}. Its config:", Value::from(certificate_id.as_str())));
    if !configuration.is_empty() {
        say(format_args!("# The template says: {}", Value::Object(configuration.clone())));
    }
    if let Some(thing) = thing {
        say(format_args!("thing: {}", Value::from(thing.as_str())));
    }
    say(format_args!("mqtt:"));
    for key in ["endpoint", "port", "ca_file", "certificate", "private_key"] {
        if let Some(value) = written.get(key) {
            say(format_args!("  {key}: {value}"));
        }
    }
}

//! The component's configuration as the agent's config: read at the start, followed, and judged before a deployment
//! makes it real.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgecam_kvs::Backoff;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{Component, News, RETRY};
use crate::config;
use crate::control::journal::replace;
use crate::host::greengrass::{self, Fault};

/// Updates come in storms, a key at a time: the config is read when none has come for this long …
const QUIET: Duration = Duration::from_millis(300);
/// … or when they have been coming for this long.
const STORM: Duration = Duration::from_secs(3);

/// How the start went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begun {
    /// The file holds the component's configuration.
    Fresh,
    /// The nucleus did not answer; the file holds what it said last.
    Remembered(Fault),
    /// What the nucleus says cannot be used; the file holds what it said before.
    Refused(String),
}

/// Puts the component's configuration into `file`, for the start. The error is of a configuration that cannot be used
/// when there is none from before. Without either it is asked for until the nucleus answers; `say` hears of it.
pub async fn begin(file: &Path, mut say: impl FnMut(&str)) -> Result<Begun, String> {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut rng = fastrand::Rng::new();
    loop {
        let fault = match greengrass::ask("GetConfiguration", json!({ "keyPath": [] })).await {
            Ok(answer) => match usable(answer.get("value").unwrap_or(&Value::Null)) {
                Ok(text) => {
                    let kept = keep(file.to_owned(), text).await;
                    return kept.map(|_| Begun::Fresh).map_err(|error| error.to_string());
                }
                Err(error) if config::load(file).is_ok() => return Ok(Begun::Refused(error)),
                Err(error) => return Err(error),
            },
            Err(fault) => fault,
        };
        if config::load(file).is_ok() {
            return Ok(Begun::Remembered(fault));
        }
        say(&format!("there is no configuration yet: {fault}; asking again"));
        tokio::time::sleep(backoff.failed(&mut rng)).await;
    }
}

/// Tells the nucleus that the component cannot run. It may be told in vain.
pub async fn give_up() {
    greengrass::ask("UpdateState", json!({ "state": "ERRORED" })).await.ok();
}

impl Component {
    /// Notes each change.
    pub(super) async fn follow_config(&self) {
        if self.0.file.is_none() {
            return;
        }
        let request = json!({ "keyPath": [] });
        let mut updates = self.subscribe("configuration updates", "SubscribeToConfigurationUpdate", request);
        loop {
            // Once subscribed it is read too: it may have changed before.
            updates.next().await;
            self.0.dirty.notify_one();
        }
    }

    /// Reads it when a storm of changes is over.
    pub(super) async fn refresh_config(&self) {
        let Some(file) = &self.0.file else { return };
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut rng = fastrand::Rng::new();
        loop {
            self.0.dirty.notified().await;
            let since = Instant::now();
            while let Some(left) = STORM.checked_sub(since.elapsed())
                && timeout(QUIET.min(left), self.0.dirty.notified()).await.is_ok()
            {}
            match self.read_config(file).await {
                Ok(()) => backoff.succeeded(),
                Err(fault) => {
                    tracing::warn!(%fault, "Greengrass: the component's configuration cannot be read; trying again");
                    tokio::time::sleep(backoff.failed(&mut rng)).await;
                    self.0.dirty.notify_one();
                }
            }
        }
    }

    async fn read_config(&self, file: &Path) -> Result<(), Fault> {
        let answer = self.0.ipc.call("GetConfiguration", json!({ "keyPath": [] })).await?;
        let refused = match usable(answer.get("value").unwrap_or(&Value::Null)) {
            Ok(text) => match keep(file.to_owned(), text).await {
                Ok(is_new) => {
                    if is_new {
                        self.lock().configs += 1;
                        self.0.changed.notify_one();
                    }
                    None
                }
                Err(error) => Some(format!("{}: {error}", file.display())),
            },
            Err(error) => Some(error),
        };
        let mut status = self.lock();
        if let Some(error) = &refused
            && status.config_refused.as_ref() != Some(error)
        {
            tracing::error!(error, "Greengrass: the component's configuration cannot be used; the one before stays");
        }
        status.config_refused = refused;
        Ok(())
    }

    /// Says of each configuration that a deployment brings whether it can be used, before it is in force.
    pub(super) async fn judge_configs(&self) {
        if self.0.file.is_none() {
            return;
        }
        let operation = "SubscribeToValidateConfigurationUpdates";
        let mut asked = self.subscribe("configuration checks", operation, json!({}));
        loop {
            let News::Event(event) = asked.next().await else { continue };
            let Some(event) = event.get("validateConfigurationUpdateEvent") else { continue };
            let judged = usable(event.get("configuration").unwrap_or(&Value::Null));
            let report = json!({ "configurationValidityReport": {
                "status": if judged.is_ok() { "ACCEPTED" } else { "REJECTED" },
                "deploymentId": event.get("deploymentId"),
                "message": judged.as_ref().err(),
            } });
            if let Err(error) = &judged {
                tracing::warn!(error, "Greengrass: the configuration of a deployment is refused");
            }
            if let Err(fault) = self.0.ipc.call("SendConfigurationValidityReport", report).await {
                tracing::warn!(%fault, "Greengrass: the nucleus could not be told whether a configuration can be used");
            }
        }
    }
}

/// The config as text, if it is one.
fn usable(configuration: &Value) -> Result<String, String> {
    let text = text(configuration)?;
    config::parse(&text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// The component's configuration as a config file: the key `config`, where it is a text (YAML); else all keys, but for
/// those that are the nucleus's.
fn text(configuration: &Value) -> Result<String, String> {
    let Value::Object(keys) = configuration else {
        return Err("the component's configuration is not a map".to_owned());
    };
    if let Some(Value::String(text)) = keys.get("config") {
        let others: Vec<&str> =
            keys.keys().map(String::as_str).filter(|key| *key != "config" && *key != ACCESS_CONTROL).collect();
        return match others.is_empty() {
            true => Ok(text.clone()),
            false => Err(format!("`config` is the whole config: leave out {}", others.join(", "))),
        };
    }
    let own: Map<String, Value> =
        keys.iter().filter(|(key, _)| *key != ACCESS_CONTROL).map(|(key, value)| (key.clone(), plain(value))).collect();
    // JSON is YAML too.
    serde_json::to_string_pretty(&own).map_err(|error| error.to_string())
}

/// What the nucleus reads by itself.
const ACCESS_CONTROL: &str = "accessControl";

/// The classic nucleus keeps whole numbers as floating point: 15 comes back as 15.0. (Nucleus lite keeps them as text;
/// the config takes `"15"` where a number belongs.)
fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(keys) => keys.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => json!(float as i64),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

/// Writes the file if that is news.
async fn keep(file: PathBuf, text: String) -> std::io::Result<bool> {
    let written = tokio::task::spawn_blocking(move || {
        if std::fs::read_to_string(&file).is_ok_and(|before| before == text) {
            return Ok(false);
        }
        replace(&file, text.as_bytes()).map(|()| true)
    });
    written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_both_nuclei() {
        let camera = |width: Value| json!({ "cameras": [{ "name": "a", "test_pattern": { "width": width } }] });
        for width in [json!(320), json!(320.0), json!("320")] {
            let mut configuration = camera(width.clone());
            configuration["accessControl"] = json!({ "aws.greengrass.ipc.mqttproxy": {} });
            let config = config::parse(&usable(&configuration).expect("usable")).expect("a config");
            let config::source::Source::TestPattern(pattern) = config.cameras[0].source else { panic!("a pattern") };
            assert_eq!(pattern.width, 320, "{width}");
        }
        let text = usable(&json!({ "config": "cameras: []\n" })).expect("usable");
        assert_eq!(text, "cameras: []\n");
        for (configuration, says) in [
            (json!(null), "not a map"),
            (json!({ "cameras": [{ "naem": "a" }] }), "unknown key `naem`"),
            (json!({ "config": "cameras: []", "thing": "x" }), "leave out thing"),
            (camera(json!(320.5)), "u32"),
        ] {
            let error = usable(&configuration).expect_err(says);
            assert!(error.contains(says), "{configuration}: {error}");
        }
    }
}

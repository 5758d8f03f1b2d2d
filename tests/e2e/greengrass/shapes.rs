//! What each operation takes, from the service's model (greengrass-ipc-model), and AWS IoT's limits.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Keys an operation takes; those with `!` must be there.
const KEYS: &[(&str, &[&str])] = &[
    ("GetConfiguration", &["componentName", "!keyPath"]),
    ("UpdateConfiguration", &["keyPath", "!timestamp", "!valueToMerge"]),
    ("SubscribeToConfigurationUpdate", &["componentName", "keyPath"]),
    ("SubscribeToValidateConfigurationUpdates", &[]),
    ("SendConfigurationValidityReport", &["!configurationValidityReport"]),
    ("UpdateState", &["!state"]),
    ("SubscribeToComponentUpdates", &[]),
    ("DeferComponentUpdate", &["!deploymentId", "message", "recheckAfterMs"]),
    ("SubscribeToIoTCore", &["!topicName", "!qos"]),
    ("PublishToIoTCore", &["!topicName", "!qos", "payload", "retain"]),
    ("PublishToTopic", &["!topic", "!publishMessage"]),
    ("SubscribeToTopic", &["!topic", "receiveMode"]),
    ("GetSecretValue", &["!secretId", "versionId", "versionStage", "refresh"]),
];

pub(super) fn check(operation: &str, request: &Value) -> Result<(), String> {
    let Some((_, keys)) = KEYS.iter().find(|(name, _)| *name == operation) else {
        return Err("no such operation".to_owned());
    };
    let given = request.as_object().ok_or("no object")?;
    let named = |key: &str| keys.iter().any(|known| known.trim_start_matches('!') == key);
    if let Some(key) = given.keys().find(|key| !named(key)) {
        return Err(format!("`{key}` is not in the model"));
    }
    if let Some(key) = keys.iter().filter_map(|key| key.strip_prefix('!')).find(|key| !given.contains_key(*key)) {
        return Err(format!("`{key}` is missing"));
    }
    let one_of = |value: &Value, all: &[&str]| match value.as_str() {
        Some(text) if all.contains(&text) => Ok(()),
        _ => Err(format!("{value} is not one of {all:?}")),
    };
    match operation {
        "UpdateState" => one_of(&request["state"], &["RUNNING", "ERRORED"]),
        "GetConfiguration" | "SubscribeToConfigurationUpdate" => {
            let is_path = |path: &Value| path.as_array().is_some_and(|path| path.iter().all(Value::is_string));
            if request.get("keyPath").is_none_or(is_path) {
                Ok(())
            } else {
                Err("keyPath is no list of strings".to_owned())
            }
        }
        "SendConfigurationValidityReport" => {
            let report = &request["configurationValidityReport"];
            one_of(&report["status"], &["ACCEPTED", "REJECTED"])?;
            if report["deploymentId"].is_string() { Ok(()) } else { Err("no deploymentId".to_owned()) }
        }
        "DeferComponentUpdate" => match request.get("recheckAfterMs") {
            Some(wait) if wait.as_u64().is_none() => Err("recheckAfterMs is no number of milliseconds".to_owned()),
            _ => Ok(()),
        },
        "SubscribeToIoTCore" => {
            one_of(&request["qos"], &["0", "1"])?;
            topic(request["topicName"].as_str().unwrap_or_default(), true)
        }
        "PublishToIoTCore" => {
            one_of(&request["qos"], &["0", "1"])?;
            topic(request["topicName"].as_str().unwrap_or_default(), false)?;
            let payload = STANDARD.decode(request["payload"].as_str().unwrap_or_default());
            match payload {
                Ok(payload) if payload.len() <= 128 << 10 => Ok(()),
                Ok(payload) => Err(format!("{} bytes", payload.len())),
                Err(error) => Err(error.to_string()),
            }
        }
        "PublishToTopic" => {
            let message = &request["publishMessage"];
            let is_json = message["jsonMessage"]["message"].is_object();
            let binary = message["binaryMessage"]["message"].as_str().map(|text| STANDARD.decode(text).is_ok());
            if is_json != (binary == Some(true)) {
                Ok(())
            } else {
                Err("neither a JSON nor a binary message".to_owned())
            }
        }
        _ => Ok(()),
    }
}

/// "AWS IoT Core message broker and protocol limits and quotas".
fn topic(topic: &str, is_filter: bool) -> Result<(), String> {
    let has_wildcard = topic.contains(['+', '#']);
    match () {
        () if topic.is_empty() || topic.len() > 256 => Err(format!("a topic of {} bytes", topic.len())),
        () if topic.matches('/').count() > 7 => Err("more than 7 slashes".to_owned()),
        () if has_wildcard && !is_filter => Err("a wildcard".to_owned()),
        () => Ok(()),
    }
}

/// MQTT 3.1.1 §4.7.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some(level), Some(found)) if level == "+" || level == found => {}
            _ => return false,
        }
    }
}

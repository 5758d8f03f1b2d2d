//! A camera's URL out of a secret: from Greengrass' secret manager, or from AWS Secrets Manager itself.
//!
//! It is read before the first attempt, when the camera is not to be had by what it said, so that what has been changed
//! needs nobody here, and now and then. What it held last stays in use while it cannot be read: a camera that comes back must not
//! wait for the uplink. It is never logged.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::timeout;
use url::Url;

use super::super::CaptureError;
use crate::config::camera_url;
use crate::config::secret::Secret;
use crate::config::source::{Credentials, Read, UrlSecret};
use crate::event::publish::Aws;
use crate::event::publish::aws::{Call, Connection, Service};
use crate::host::greengrass::{self, Fault, Place};
use crate::http::Method;

/// For AWS to answer.
const DEADLINE: Duration = Duration::from_secs(20);
/// The same while there is what the secret held last.
const DOUBT: Duration = Duration::from_secs(3);
/// What was read so long ago is read again at the next attempt.
const OLD: Duration = Duration::from_secs(3600);
/// What the URL is called: by the KVS Edge Agent and by the Edge Connector, in any case.
const KEYS: [&str; 2] = ["MediaURI", "RTSPStreamURL"];

/// The URL, without user and password, and these.
pub(super) async fn url(secret: &UrlSecret) -> Result<(Url, Option<Credentials>), CaptureError> {
    let last = secret.last.get();
    if let Some(Read { url, credentials, at: Some(at) }) = &last
        && at.elapsed() < OLD
    {
        return Ok((url.clone(), credentials.clone()));
    }
    // A camera that is back must not wait long for a service that is away.
    let patience = if last.is_some() { DOUBT } else { DEADLINE };
    match (read(secret, patience).await, last) {
        (Ok((url, credentials)), _) => {
            secret.last.keep(url.clone(), credentials.clone());
            Ok((url, credentials))
        }
        (Err(error), Some(Read { url, credentials, .. })) => {
            tracing::warn!(%error, "the URL that the secret held last stays in use");
            Ok((url, credentials))
        }
        (Err(error), None) => Err(error),
    }
}

async fn read(secret: &UrlSecret, patience: Duration) -> Result<(Url, Option<Credentials>), CaptureError> {
    let id = &secret.id;
    let value = match from_greengrass(id).await {
        Ok(Some(value)) => value,
        elsewhere => match timeout(patience, from_aws(secret)).await {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => return Err(explain(id, elsewhere, &error)),
            Err(_) => return Err(explain(id, elsewhere, "AWS does not answer")),
        },
    };
    let found = find(&value).and_then(|url| camera_url(url.expose()));
    found.map_err(|error| CaptureError::NotFound(format!("the secret `{id}`: {error}")))
}

fn explain(id: &str, of_greengrass: Result<Option<Secret>, Fault>, error: &str) -> CaptureError {
    let also = of_greengrass.err().map(|fault| format!("; from Greengrass: {fault}")).unwrap_or_default();
    CaptureError::Unreachable(format!("the secret `{id}`: {error}{also}"))
}

/// `None`: there is no Greengrass.
async fn from_greengrass(id: &str) -> Result<Option<Secret>, Fault> {
    if Place::of_environment().is_none() {
        return Ok(None);
    }
    let answer = greengrass::ask("GetSecretValue", json!({ "secretId": id })).await?;
    let text = answer.pointer("/secretValue/secretString").and_then(Value::as_str);
    text.map(|text| Some(Secret::new(text))).ok_or_else(|| Fault::NotFound("it is not text".to_owned()))
}

/// `GetSecretValue` of Secrets Manager.
async fn from_aws(secret: &UrlSecret) -> Result<Secret, String> {
    let aws = Aws { config: secret.aws.clone(), ..Aws::default() };
    let call = Call {
        service: Service::SecretsManager,
        method: Method::POST,
        object: None,
        headers: vec![
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target", "secretsmanager.GetSecretValue".to_owned()),
        ],
        body: json!({ "SecretId": secret.id }).to_string().into(),
    };
    let answer = Connection::default().call(&aws, &call).await.map_err(|failure| failure.to_string())?;
    if !answer.status.is_success() {
        let (kind, message) = answer.json_error();
        return Err(answer.failure("Secrets Manager", &kind, &message).to_string());
    }
    let value: Value = serde_json::from_slice(&answer.body).map_err(|_| "the answer is no JSON".to_owned())?;
    let text = value.get("SecretString").and_then(Value::as_str);
    text.map(Secret::new).ok_or_else(|| "it is not text".to_owned())
}

/// The URL in the secret's JSON.
fn find(secret: &Secret) -> Result<Secret, String> {
    let wanted = format!("it must be JSON with the URL as `{}`", KEYS.join("` or `"));
    let keys: Map<String, Value> = serde_json::from_str(secret.expose()).map_err(|_| wanted.clone())?;
    let is_key = |name: &str| KEYS.iter().any(|key| key.eq_ignore_ascii_case(name));
    let found = keys.iter().find(|(name, _)| is_key(name)).and_then(|(_, value)| value.as_str());
    found.map(Secret::new).ok_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_both_kinds() {
        let read = |text: &str| find(&Secret::new(text)).and_then(|url| camera_url(url.expose()));
        for text in [
            r#"{"MediaURI":"rtsp://admin:s%20ecret@10.0.0.7/1"}"#,
            r#"{"other":1,"RTSPStreamURL":"rtsp://admin:s%20ecret@10.0.0.7/1"}"#,
            r#"{"rtspstreamurl":"rtsp://admin:s%20ecret@10.0.0.7/1"}"#,
        ] {
            let (url, credentials) = read(text).expect("a URL");
            let credentials = credentials.expect("user and password");
            assert_eq!((url.as_str(), credentials.username.as_str()), ("rtsp://10.0.0.7/1", "admin"), "{text}");
            assert_eq!(credentials.password.expose(), "s ecret");
        }
        for (text, says) in [
            ("rtsp://u:hidden@h/", "must be JSON"),
            (r#"{"MediaURI":7}"#, "MediaURI"),
            (r#"{"url":"rtsp://u:hidden@h/"}"#, "MediaURI"),
            (r#"{"MediaURI":"http://u:hidden@h/"}"#, "rtsp://"),
            (r#"{"MediaURI":"u:hidden"}"#, "must begin with rtsp://"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(says) && !error.contains("hidden"), "{text}: {error}");
        }
    }
}

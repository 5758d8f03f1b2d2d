//! What a person or a benchmark asks of the running binary, under `/__admin/`. Not part of the service, not
//! authenticated.
//!
//! | request | answer |
//! |---|---|
//! | `GET /__admin/state[?stream=NAME]` | all records, or those of one stream |
//! | `GET /__admin/totals` | figures per stream |
//! | `POST /__admin/fault` with a [`Fault`] | `{"id":N}` |
//! | `POST /__admin/clear` | faults are over |
//! | `POST /__admin/credentials` with access_key, secret_key, session_token, expires_in_s | replaces all credentials |
//! | `POST /__admin/stream` with name, retention_hours | creates a stream |

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{Credentials, StreamSpec};
use crate::error::ServiceError;
use crate::fault::Fault;
use crate::http::head::Head;
use crate::server::{clear_faults, set_fault};
use crate::state::Shared;

/// Where all of it is.
pub(crate) const PREFIX: &str = "/__admin/";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCredentials {
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
    expires_in_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewStream {
    name: String,
    retention_hours: Option<u32>,
}

fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, ServiceError> {
    serde_json::from_slice(body).map_err(|error| ServiceError::front_end(400, "BadRequest", error.to_string()))
}

/// Answers an admin request.
pub(crate) fn answer(shared: &Shared, head: &Head, body: &[u8]) -> Result<Value, ServiceError> {
    match (head.method.as_str(), head.path.strip_prefix(PREFIX).unwrap_or_default()) {
        ("GET", "state") => state(shared, head.query_parameter("stream")),
        ("GET", "totals") => {
            let state = shared.lock();
            Ok(json!(state.streams.values().map(|stream| stream.record.totals()).collect::<Vec<_>>()))
        }
        ("POST", "fault") => Ok(json!({ "id": set_fault(shared, parse::<Fault>(body)?) })),
        ("POST", "clear") => {
            clear_faults(shared);
            Ok(json!({}))
        }
        ("POST", "credentials") => {
            let NewCredentials { access_key, secret_key, session_token, expires_in_s } = parse(body)?;
            let expires = expires_in_s.map(|seconds| SystemTime::now() + Duration::from_secs(seconds));
            shared.lock().credentials = vec![Credentials { access_key, secret_key, session_token, expires }];
            Ok(json!({}))
        }
        ("POST", "stream") => {
            let NewStream { name, retention_hours } = parse(body)?;
            Ok(
                json!({ "created": shared.create_stream(&StreamSpec { name, retention_hours: retention_hours.unwrap_or(24) }) }),
            )
        }
        _ => Err(ServiceError::front_end(404, "NotFound", "there is nothing of that name here")),
    }
}

fn state(shared: &Shared, stream: Option<&str>) -> Result<Value, ServiceError> {
    let state = shared.lock();
    match stream {
        Some(name) => {
            let stream = state.streams.get(name).ok_or_else(|| ServiceError::not_found(name))?;
            Ok(json!(stream.record))
        }
        None => Ok(json!({
            "endpoint": shared.endpoint,
            "connections": state.connections,
            "streams": state.streams.values().map(|stream| &stream.record).collect::<Vec<_>>(),
            "stray_attempts": state.stray_attempts,
        })),
    }
}

//! Live view by RTP as the platform's own service offers it by REST. A camera goes by our name or by the platform's id.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::api::{Answer, camera as find, error};
use crate::control::Control;
use crate::control::command::Command;
use crate::control::reply::Outcome;
use crate::control::view::{self, Play, View};
use crate::live::streams::{Conflict, Played, StreamDetail};

const TRANSPORT: &str = "http";

/// Body of `POST /streams/{camera}/start`; none is the same as an empty one.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct StartRequest {
    /// kbit/s.
    max_bandwidth: Option<u32>,
    /// kbit/s.
    min_bandwidth: Option<u32>,
    /// The receiver's SDP: where to send to, and as what.
    sdp_offer: Option<String>,
}

/// `POST /streams/{camera}/start`: 201 when it has begun, 409 when one runs already.
pub(super) async fn start(State(control): State<Control>, Path(id): Path<String>, body: Bytes) -> Response {
    begin(&control, &id, &body).await.unwrap_or_else(IntoResponse::into_response)
}

async fn begin(control: &Control, id: &str, body: &[u8]) -> Result<Response, (StatusCode, Json<Value>)> {
    let bad = |text: String| error(StatusCode::BAD_REQUEST, text);
    let request: StartRequest = match body.trim_ascii() {
        [] => StartRequest::default(),
        body => serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?,
    };
    let name = find(control.agent(), id).await?.config.name;
    let missing = "sdp_offer is missing: the SDP of the receiver, which says where video is to be sent";
    let sdp = request.sdp_offer.filter(|sdp| !sdp.is_empty()).ok_or_else(|| bad(missing.to_owned()))?;
    let bits = |kilobits: Option<u32>| kilobits.map(|kilobits| kilobits.saturating_mul(1000));
    let play = Play { stream_id: uuid(), sdp, bitrate: (bits(request.min_bandwidth), bits(request.max_bandwidth)) };
    allowed(control, &Command::View(View::Play(play.clone())))?;
    if let Some(running) = detail(control.agent(), &name).await.filter(|detail| detail.stream.stopped_at.is_none()) {
        let conflict = Conflict {
            error: "a stream of this camera runs already".to_owned(),
            session_id: running.stream.session_id,
        };
        return Ok((StatusCode::CONFLICT, Json(json!(conflict))).into_response());
    }
    let played = view::play(control.agent(), &name, &play).await.map_err(|(outcome, reason)| match outcome {
        Outcome::Rejected => error(StatusCode::UNPROCESSABLE_ENTITY, reason),
        _ => error(StatusCode::SERVICE_UNAVAILABLE, reason),
    })?;
    let (Played::Started(started) | Played::Extended(started)) = played;
    Ok((StatusCode::CREATED, Json(json!(started))).into_response())
}

/// `POST /streams/{camera}/keepalive`: goes on with the stream that runs, for receivers that send no REMB.
pub(super) async fn keepalive(State(control): State<Control>, Path(id): Path<String>) -> Answer {
    let name = find(control.agent(), &id).await?.config.name;
    let missing = || error(StatusCode::NOT_FOUND, format!("no stream of `{id}` runs"));
    let detail = detail(control.agent(), &name).await.ok_or_else(missing)?;
    let agent = control.agent().read().await;
    let agent = agent.as_ref().ok_or_else(missing)?;
    let goes_on = agent.streams().keepalive(agent.config().live_id(&name), &detail.stream.stream_id).await;
    goes_on.then(|| Json(json!({ "session_id": detail.stream.session_id }))).ok_or_else(missing)
}

/// `POST /streams/{camera}/stop`: the final statistics, or 404.
pub(super) async fn stop(State(control): State<Control>, Path(id): Path<String>) -> Answer {
    allowed(&control, &Command::View(View::Stop { stream_id: None }))?;
    let name = find(control.agent(), &id).await?.config.name;
    let report = view::stop(control.agent(), &name, None).await;
    let report = report.ok_or_else(|| error(StatusCode::NOT_FOUND, format!("no stream of `{id}` runs")))?;
    Ok(Json(json!(report)))
}

/// `GET /viewers`: who receives.
pub(super) async fn viewers(State(control): State<Control>) -> Json<Value> {
    let agent = control.agent().read().await;
    match agent.as_ref() {
        Some(agent) => Json(json!(agent.streams().viewers(None).await)),
        None => Json(json!({ "viewers": [], "count": 0 })),
    }
}

/// `GET /viewers/{camera}`.
pub(super) async fn viewers_of(State(control): State<Control>, Path(id): Path<String>) -> Answer {
    let name = find(control.agent(), &id).await?.config.name;
    let agent = control.agent().read().await;
    let missing = || error(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping".to_owned());
    let agent = agent.as_ref().ok_or_else(missing)?;
    Ok(Json(json!(agent.streams().viewers(Some(agent.config().live_id(&name))).await)))
}

/// The stream of a camera that has or had one.
pub(super) async fn detail(agent: &Shared, name: &str) -> Option<StreamDetail> {
    let agent = agent.read().await;
    let agent = agent.as_ref()?;
    agent.streams().get(agent.config().live_id(name)).await
}

/// Puts what the platform's service says of a stream into what we say of a camera. `state` and `camera_id` are ours;
/// theirs are in `live`.
pub(super) fn merge(camera: &mut Value, detail: Option<&StreamDetail>) {
    let Some(camera) = camera.as_object_mut() else { return };
    camera.insert("viewer_count".to_owned(), json!(detail.map_or(0, |detail| detail.viewer_count)));
    let live = detail.map(|detail| json!(detail.stream));
    for name in ["session_id", "stream_id", "started_at", "stopped_at", "duration_seconds", "keepalive_stats"] {
        camera.insert(name.to_owned(), live.as_ref().map_or(Value::Null, |live| live[name].clone()));
    }
    camera.insert("live".to_owned(), live.unwrap_or(Value::Null));
}

fn allowed(control: &Control, command: &Command) -> Result<(), (StatusCode, Json<Value>)> {
    control.forbidden(TRANSPORT, command).map_or(Ok(()), |name| {
        let text = format!("`{}` is not allowed over {TRANSPORT}: see `commands` in the config", name.text());
        Err(error(StatusCode::FORBIDDEN, text))
    })
}

/// A random one (RFC 9562 section 5.4).
fn uuid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids() {
        for _ in 0..100 {
            let id = uuid();
            let bytes = id.as_bytes();
            assert!(id.len() == 36 && bytes[14] == b'4' && b"89ab".contains(&bytes[19]), "{id}");
            assert!(id.split('-').map(str::len).eq([8, 4, 4, 4, 12]), "{id}");
        }
    }
}

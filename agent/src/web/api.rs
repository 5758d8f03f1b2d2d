//! The handlers. Answers are JSON; errors say what to do.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use crate::host::wall_clock;
use crate::telemetry::metrics as prometheus;
use crate::telemetry::report::{self, AgentReport, StreamReport};
use crate::topology::CameraHandle;
use crate::upload::{LEASE, schedule::Period};

type Answer = Result<Json<Value>, (StatusCode, Json<Value>)>;

async fn report(agent: &Shared) -> Option<AgentReport> {
    agent.read().await.as_ref().map(|agent| report::agent(agent, wall_clock()))
}

async fn camera(agent: &Shared, name: &str) -> Result<CameraHandle, (StatusCode, Json<Value>)> {
    let found =
        agent.read().await.as_ref().and_then(|agent| agent.cameras().into_iter().find(|c| c.config.name == name));
    found.ok_or_else(|| error(StatusCode::NOT_FOUND, format!("there is no camera `{name}`")))
}

fn error(status: StatusCode, text: String) -> (StatusCode, Json<Value>) {
    (status, Json(json!({ "error": text })))
}

/// `GET /health`: 200 when all is well, else 503; the body says what is not.
pub(super) async fn health(State(agent): State<Shared>) -> Response {
    let Some(report) = report(&agent).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "stopping" }))).into_response();
    };
    let status = if report.status == "healthy" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": report.status,
        "timestamp": report.timestamp,
        "version": report.version,
        "thing": report.thing,
        "uptime_seconds": report.uptime_seconds,
        "clock_skew_seconds": report.clock_skew_seconds,
        "active_streams": report.active_streams,
        "streams": report.streams.len(),
    });
    (status, Json(body)).into_response()
}

/// `GET /health/stream`: the state of each camera.
pub(super) async fn health_stream(State(agent): State<Shared>) -> Response {
    let streams = report(&agent).await.map(|report| report.streams).unwrap_or_default();
    let is_well = streams.iter().all(|stream| stream.state == "streaming" || stream.state == "ended");
    let brief =
        |stream: &StreamReport| (stream.camera_id.clone(), json!({ "state": stream.state, "error": stream.error }));
    let body: serde_json::Map<String, Value> = streams.iter().map(brief).collect();
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Value::Object(body))).into_response()
}

/// `GET /streams`.
pub(super) async fn streams(State(agent): State<Shared>) -> Json<Value> {
    let streams = report(&agent).await.map(|report| report.streams).unwrap_or_default();
    Json(json!({ "count": streams.len(), "streams": streams }))
}

/// `GET /streams/{camera}`.
pub(super) async fn stream(State(agent): State<Shared>, Path(name): Path<String>) -> Answer {
    let camera = camera(&agent, &name).await?;
    Ok(Json(json!({ "stream": report::stream(&camera) })))
}

/// Body of `POST /streams/{camera}/live`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LiveRequest {
    seconds: Option<u64>,
}

/// `POST /streams/{camera}/live`: uploads live for 300 s or as long as asked for; each request extends the lease.
pub(super) async fn live(
    State(agent): State<Shared>,
    Path(name): Path<String>,
    Json(request): Json<LiveRequest>,
) -> Answer {
    let camera = camera(&agent, &name).await?;
    let Some(upload) = &camera.upload else {
        return Err(error(StatusCode::CONFLICT, format!("`{name}` has no upload in the config")));
    };
    let seconds = request.seconds.unwrap_or(LEASE.as_secs());
    if !(1..=86_400).contains(&seconds) {
        return Err(error(StatusCode::BAD_REQUEST, "seconds must be 1 to 86400".to_owned()));
    }
    upload.lease(Duration::from_secs(seconds));
    Ok(Json(json!({ "status": "accepted", "stream": upload.stream, "seconds": seconds })))
}

/// Body of `POST /streams/{camera}/upload`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadRequest {
    start: String,
    end: String,
}

/// `POST /streams/{camera}/upload`: uploads a range of the past.
pub(super) async fn upload(
    State(agent): State<Shared>,
    Path(name): Path<String>,
    Json(request): Json<UploadRequest>,
) -> Answer {
    let camera = camera(&agent, &name).await?;
    let Some(upload) = &camera.upload else {
        return Err(error(StatusCode::CONFLICT, format!("`{name}` has no upload in the config")));
    };
    if upload.mode == crate::config::UploadMode::Continuous {
        return Err(error(
            StatusCode::CONFLICT,
            format!("`{name}` is uploaded continuously: its footage is or will be there"),
        ));
    }
    let range: Period =
        format!("{}/{}", request.start, request.end).parse().map_err(|text| error(StatusCode::BAD_REQUEST, text))?;
    let is_busy = upload.demand.borrow().range.is_some();
    if is_busy {
        return Err(error(StatusCode::CONFLICT, "another range is being uploaded".to_owned()));
    }
    upload.demand.send_modify(|demand| demand.range = Some(range));
    Ok(Json(json!({ "status": "accepted", "stream": upload.stream })))
}

/// `GET /metrics`.
pub(super) async fn metrics(State(agent): State<Shared>) -> Response {
    let text = report(&agent).await.map(|report| prometheus::render(&report)).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// `GET /`: the status page.
pub(super) async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("page.html")))
}

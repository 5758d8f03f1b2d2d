//! The handlers. Answers are JSON; errors say what to do.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

use super::{Shared, view};
use crate::control::{Control, greengrass};
use crate::host::wall_clock;
use crate::telemetry::metrics as prometheus;
use crate::telemetry::report::{self, AgentReport, StreamReport};
use crate::topology::CameraHandle;

pub(super) type Answer = Result<Json<Value>, (StatusCode, Json<Value>)>;

async fn report(control: &Control) -> Option<AgentReport> {
    let report = control.agent().read().await.as_ref().map(|agent| report::agent(agent, wall_clock()))?;
    let greengrass = control.greengrass();
    let is_refused = greengrass.as_ref().is_some_and(|status| status.config_refused.is_some());
    Some(AgentReport {
        status: if is_refused { "degraded" } else { report.status },
        mqtt: control.mqtt().map(report::mqtt),
        greengrass: greengrass.as_ref().map(greengrass::Status::to_json),
        commands: Some(control.counts()),
        ..report
    })
}

pub(super) async fn camera(agent: &Shared, name: &str) -> Result<CameraHandle, (StatusCode, Json<Value>)> {
    let found = agent.read().await.as_ref().and_then(|agent| {
        let name = agent.config().name_of(name);
        agent.cameras().into_iter().find(|camera| camera.config.name == name)
    });
    found.ok_or_else(|| error(StatusCode::NOT_FOUND, format!("there is no camera `{name}`")))
}

pub(super) fn error(status: StatusCode, text: String) -> (StatusCode, Json<Value>) {
    (status, Json(json!({ "error": text })))
}

/// `GET /health`: 200 when all is well, else 503; the body says what is not. `active_streams` are cameras that stream;
/// what the platform's service calls so is `live_streams`.
pub(super) async fn health(State(control): State<Control>) -> Response {
    let Some(report) = report(&control).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "stopping" }))).into_response();
    };
    let status = if report.status == "healthy" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let live = match control.agent().read().await.as_ref() {
        Some(agent) => Some(agent.streams().health(report.status == "healthy").await),
        None => None,
    };
    let body = json!({
        "status": report.status,
        "timestamp": report.timestamp,
        "version": report.version,
        "thing": report.thing,
        "uptime_seconds": report.uptime_seconds,
        "clock_skew_seconds": report.clock_skew_seconds,
        "active_streams": report.active_streams,
        "streams": report.streams.len(),
        "nvrs": report.nvrs,
        "publishers": report.publishers,
        "mqtt": report.mqtt,
        "greengrass": report.greengrass,
        "live_streams": live.as_ref().map(|live| live.active_streams),
        "total_viewers": live.as_ref().map(|live| live.total_viewers),
    });
    (status, Json(body)).into_response()
}

/// `GET /health/stream`: the state of each camera.
pub(super) async fn health_stream(State(control): State<Control>) -> Response {
    let streams = report(&control).await.map(|report| report.streams).unwrap_or_default();
    let is_well = streams.iter().all(|stream| stream.state == "streaming" || stream.state == "ended");
    let brief =
        |stream: &StreamReport| (stream.camera_id.clone(), json!({ "state": stream.state, "error": stream.error }));
    let body: serde_json::Map<String, Value> = streams.iter().map(brief).collect();
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Value::Object(body))).into_response()
}

/// `GET /streams`.
pub(super) async fn streams(State(control): State<Control>) -> Json<Value> {
    let streams = report(&control).await.map(|report| report.streams).unwrap_or_default();
    let mut all = Vec::new();
    for stream in streams {
        let detail = view::detail(control.agent(), &stream.camera_id).await;
        let mut stream = json!(stream);
        view::merge(&mut stream, detail.as_ref());
        all.push(stream);
    }
    Json(json!({ "count": all.len(), "streams": all }))
}

/// `GET /streams/{camera}`.
pub(super) async fn stream(State(control): State<Control>, Path(name): Path<String>) -> Answer {
    let camera = camera(control.agent(), &name).await?;
    let detail = view::detail(control.agent(), &camera.config.name).await;
    let mut stream = json!(report::stream(&camera));
    view::merge(&mut stream, detail.as_ref());
    let viewers = detail.map(|detail| detail.viewers).unwrap_or_default();
    Ok(Json(json!({ "stream": stream, "viewer_count": viewers.len(), "viewers": viewers })))
}

/// `GET /metrics`.
pub(super) async fn metrics(State(control): State<Control>) -> Response {
    let agent = control.agent().read().await;
    let kvs_infer = agent.as_ref().and_then(|agent| agent.config().http.as_ref()).is_some_and(|http| http.kvs_infer);
    drop(agent);
    let text = report(&control).await.map(|report| prometheus::render(&report, kvs_infer)).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// `GET /`: the status page.
pub(super) async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  img-src 'self' blob:";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("page.html")))
}

//! Commands over HTTP, and the files they make.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::api::{Answer, camera as find, error};
use crate::config::schedule::Period;
use crate::control::command::{Command, Request};
use crate::control::reply::{Outcome, Reply};
use crate::control::{Control, clip_directory, live as uploads, snapshot as snapshots};
use crate::upload::LEASE;

/// For a command to be done before it is answered with what has been done so far.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a file that are read at once.
const CHUNK: u64 = 256 << 10;
const TRANSPORT: &str = "http";

/// Body of `POST /streams/{camera}/live`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LiveRequest {
    seconds: Option<u64>,
}

/// `POST /streams/{camera}/live`: uploads live for 300 s or as long as asked for; each request extends the lease.
pub(super) async fn live(
    State(control): State<Control>,
    Path(name): Path<String>,
    Json(request): Json<LiveRequest>,
) -> Answer {
    let camera = find(control.agent(), &name).await?;
    let seconds = request.seconds.unwrap_or(LEASE.as_secs());
    if !(1..=86_400).contains(&seconds) {
        return Err(error(StatusCode::BAD_REQUEST, "seconds must be 1 to 86400".to_owned()));
    }
    accepted(uploads::begin(&camera, Duration::from_secs(seconds)))
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
    State(control): State<Control>,
    Path(name): Path<String>,
    Json(request): Json<UploadRequest>,
) -> Answer {
    let camera = find(control.agent(), &name).await?;
    let range: Period =
        format!("{}/{}", request.start, request.end).parse().map_err(|text| error(StatusCode::BAD_REQUEST, text))?;
    accepted(uploads::ask(&camera, range))
}

fn accepted(ending: crate::control::reply::Ending) -> Answer {
    let result = ending.map_err(|(_, reason)| error(StatusCode::CONFLICT, reason))?;
    let mut body = json!({ "status": "accepted" });
    if let (Some(body), Some(Value::Object(result))) = (body.as_object_mut(), result) {
        body.extend(result);
    }
    Ok(Json(body))
}

/// `POST /commands/{command}`: a command to the agent.
pub(super) async fn agent(State(control): State<Control>, Path(command): Path<String>, body: Bytes) -> Response {
    run(&control, &command, None, &body).await
}

/// `POST /streams/{camera}/commands/{command}`: a command to a camera.
pub(super) async fn camera(
    State(control): State<Control>,
    Path((camera, command)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    run(&control, &command, Some(&camera), &body).await
}

async fn run(control: &Control, command: &str, camera: Option<&str>, body: &[u8]) -> Response {
    let request = match Request::parse(command, camera, body) {
        Ok(request) => request,
        Err(error) => {
            control.count_rejected();
            return answer(&Reply::unread(error.id, camera, Outcome::Rejected, error.reason));
        }
    };
    let mut last = Reply::to(&request, Outcome::Accepted);
    // The process that would answer is gone by then.
    let is_last_word = request.command == Command::Restart;
    let (send, mut replies) = mpsc::channel(4);
    // Progress that nobody waits for is not worth keeping.
    control.submit(TRANSPORT, request, Box::new(move |reply| drop(send.try_send(reply))));
    let until = tokio::time::Instant::now() + if is_last_word { Duration::from_millis(100) } else { PATIENCE };
    while let Ok(Some(reply)) = tokio::time::timeout_at(until, replies.recv()).await {
        let is_final = reply.is_final();
        last = reply;
        if is_final {
            break;
        }
    }
    answer(&last)
}

fn answer(reply: &Reply) -> Response {
    let status = match reply.status {
        Outcome::Accepted => StatusCode::ACCEPTED,
        Outcome::Done => StatusCode::OK,
        Outcome::Rejected => StatusCode::UNPROCESSABLE_ENTITY,
        Outcome::Busy => StatusCode::TOO_MANY_REQUESTS,
        Outcome::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(json!(reply))).into_response()
}

/// `GET /streams/{camera}/snapshot.jpg`: the newest picture.
pub(super) async fn snapshot(State(control): State<Control>, Path(name): Path<String>) -> Response {
    let camera = match find(control.agent(), &name).await {
        Ok(camera) => camera,
        Err(error) => return error.into_response(),
    };
    match snapshots::newest(&camera, u32::MAX).await {
        Ok((jpeg, _)) => {
            let headers = [(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "no-store")];
            (headers, jpeg.bytes).into_response()
        }
        Err(reason) => error(StatusCode::CONFLICT, reason).into_response(),
    }
}

/// `GET /clips/{camera}/{file}`: a clip that a command has cut.
pub(super) async fn clip(State(control): State<Control>, Path((camera, file)): Path<(String, String)>) -> Response {
    let is_plain =
        |text: &str| !text.starts_with('.') && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let state_dir = control.agent().read().await.as_ref().map(|agent| agent.config().state_dir.clone());
    let path =
        state_dir.filter(|_| is_plain(&camera) && is_plain(&file)).map(|dir| clip_directory(&dir, &camera).join(&file));
    let opened = path.and_then(|path| {
        let file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        Some((Arc::new(file), length))
    });
    let Some((file, length)) = opened else {
        return error(StatusCode::NOT_FOUND, "there is no such clip".to_owned()).into_response();
    };
    let headers = [(header::CONTENT_TYPE, "video/mp4".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    (headers, Body::from_stream(chunks(file, length))).into_response()
}

/// A file, piece by piece, read where it may block.
fn chunks(file: Arc<File>, length: u64) -> impl stream::Stream<Item = std::io::Result<Vec<u8>>> {
    stream::try_unfold(0, move |offset| {
        let file = file.clone();
        async move {
            let size = CHUNK.min(length - offset);
            if size == 0 {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; size as usize];
                file.read_exact_at(&mut bytes, offset).map(|()| bytes)
            });
            let bytes = read.await.map_err(std::io::Error::other)??;
            Ok(Some((bytes, offset + size)))
        }
    })
}

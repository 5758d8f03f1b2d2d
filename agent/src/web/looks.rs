//! What cameras see: as it happens, as the picture that was looked at, and for a picture that somebody sends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Multipart, Path, Query, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use super::api::{camera as find, error};
use crate::control::Control;

/// Listeners at once.
const MOST_LISTENERS: usize = 16;
/// A listener that hears nothing is told that the connection stands.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Pictures that are looked at for somebody at once.
const MOST_PREDICTIONS: usize = 2;

static PREDICTIONS: Semaphore = Semaphore::const_new(MOST_PREDICTIONS);
static LISTENERS: std::sync::LazyLock<Arc<Semaphore>> =
    std::sync::LazyLock::new(|| Arc::new(Semaphore::new(MOST_LISTENERS)));

/// Which camera, and which of its detectors.
#[derive(Deserialize)]
pub(super) struct Which {
    camera: Option<String>,
    detector: Option<String>,
}

/// `GET /stream`: server-sent events, one for each look; of one camera with `?camera=`.
pub(super) async fn listen(State(control): State<Control>, Query(which): Query<Which>) -> Response {
    let Ok(permit) = LISTENERS.clone().try_acquire_owned() else {
        let text = format!("{MOST_LISTENERS} listen already");
        return error(StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let cameras = match &which.camera {
        Some(name) => match find(control.agent(), name).await {
            Ok(camera) => vec![camera],
            Err(error) => return error.into_response(),
        },
        None => control.agent().read().await.as_ref().map(|agent| agent.cameras()).unwrap_or_default(),
    };
    let looks: Vec<_> = cameras.iter().filter_map(|camera| camera.looks.as_ref()).map(|looks| looks.listen()).collect();
    if looks.is_empty() {
        return error(StatusCode::CONFLICT, "no detector looks: see `detectors` in the config".to_owned())
            .into_response();
    }
    Sse::new(events(looks, permit)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn events(
    looks: Vec<broadcast::Receiver<Arc<Value>>>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let one = |looks: broadcast::Receiver<Arc<Value>>| {
        Box::pin(stream::unfold(looks, |mut looks| async {
            loop {
                match looks.recv().await {
                    Ok(look) => return Some((look, looks)),
                    // Whoever is too slow for all gets the newest.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        }))
    };
    stream::select_all(looks.into_iter().map(one)).map(move |look| {
        let _held = &permit;
        Ok(Event::default().data(look.to_string()))
    })
}

/// `GET /streams/{camera}/seen.jpg`: the newest picture that was looked at. Made while somebody asks for it: the first
/// who asks gets 202 and comes again.
pub(super) async fn seen(State(control): State<Control>, Path(name): Path<String>) -> Response {
    let camera = match find(control.agent(), &name).await {
        Ok(camera) => camera,
        Err(error) => return error.into_response(),
    };
    let Some(looks) = &camera.looks else {
        return error(StatusCode::CONFLICT, format!("no detector looks at `{name}`")).into_response();
    };
    match looks.picture() {
        Some((at, jpeg)) => {
            let headers = [
                (header::CONTENT_TYPE, "image/jpeg".to_owned()),
                (header::CACHE_CONTROL, "no-store".to_owned()),
                (HeaderName::from_static("x-edgecam-timestamp"), at.to_string()),
            ];
            (headers, jpeg).into_response()
        }
        None => (StatusCode::ACCEPTED, [(header::RETRY_AFTER, "1")]).into_response(),
    }
}

/// `POST /predict`: what a detector sees on a JPEG: as the body, or as a part of `multipart/form-data`. With `?camera=` and
/// `?detector=` by name, else the first there is.
pub(super) async fn predict(State(control): State<Control>, Query(which): Query<Which>, request: Request) -> Response {
    let Ok(_permit) = PREDICTIONS.try_acquire() else {
        let text = format!("{MOST_PREDICTIONS} pictures are being looked at already: try again");
        return error(StatusCode::TOO_MANY_REQUESTS, text).into_response();
    };
    let picture = match picture(request).await {
        Ok(picture) => picture,
        Err(refused) => return refused.into_response(),
    };
    let agent = control.agent().read().await;
    let (camera, detector) = (which.camera.as_deref(), which.detector.as_deref());
    let predictor = agent.as_ref().and_then(|agent| agent.predictor(camera, detector));
    drop(agent);
    let Some(predictor) = predictor else {
        let text = "there is no such detector: see `detectors` in the config".to_owned();
        return error(StatusCode::CONFLICT, text).into_response();
    };
    match tokio::task::spawn_blocking(move || predictor.predict(&picture)).await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(text)) => error(StatusCode::UNPROCESSABLE_ENTITY, text).into_response(),
        Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, failed.to_string()).into_response(),
    }
}

/// The picture in a request: its body, or the first part of a form that has a file name or is called `image` or `file`.
async fn picture(request: Request) -> Result<Bytes, (StatusCode, Json<Value>)> {
    let refused = |text: String| error(StatusCode::BAD_REQUEST, text);
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        let body = Bytes::from_request(request, &()).await;
        return body.map_err(|error| refused(error.body_text()));
    }
    let mut form = Multipart::from_request(request, &()).await.map_err(|error| refused(error.body_text()))?;
    while let Some(part) = form.next_field().await.map_err(|error| refused(error.body_text()))? {
        if part.file_name().is_some() || matches!(part.name(), Some("image" | "file")) {
            return part.bytes().await.map_err(|error| refused(error.body_text()));
        }
    }
    Err(refused("the form has no picture: send a JPEG as the part `image`".to_owned()))
}

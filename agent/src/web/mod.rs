//! The local server: health, streams, metrics, a status page. On loopback unless the config says otherwise, and then
//! only with a token.

mod api;
mod commands;
mod guard;
mod looks;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use crate::config::Http;
use crate::control::Control;
use crate::topology::Agent;

/// Bytes of a picture that somebody sends.
const PICTURE: usize = 20 << 20;

/// The agent, as the server sees it.
pub type Shared = Arc<RwLock<Option<Agent>>>;

/// Serves until `cancel` is called. A port that is taken is tried again: the agent goes on without the page.
pub async fn run(settings: Http, control: Control, cancel: CancellationToken) {
    let router = router(&settings, control);
    loop {
        let error = match TcpListener::bind(settings.listen).await {
            Ok(listener) => {
                tracing::info!(listen = %settings.listen, "status page and metrics");
                let until = cancel.clone().cancelled_owned();
                match axum::serve(listener, router.clone()).with_graceful_shutdown(until).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        tracing::error!(listen = %settings.listen, %error, "the status page cannot be served; trying again in 10 s");
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(std::time::Duration::from_secs(10)) => {}
        }
    }
}

fn router(settings: &Http, control: Control) -> Router {
    let guard = guard::Guard::new(settings);
    Router::new()
        .route("/", get(api::page))
        .route("/health", get(api::health))
        .route("/health/stream", get(api::health_stream))
        .route("/streams", get(api::streams))
        .route("/streams/{camera}", get(api::stream))
        .route("/streams/{camera}/start", post(view::start))
        .route("/streams/{camera}/keepalive", post(view::keepalive))
        .route("/streams/{camera}/stop", post(view::stop))
        .route("/viewers", get(view::viewers))
        .route("/viewers/{camera}", get(view::viewers_of))
        .route("/streams/{camera}/live", post(commands::live))
        .route("/streams/{camera}/upload", post(commands::upload))
        .route("/streams/{camera}/snapshot.jpg", get(commands::snapshot))
        .route("/streams/{camera}/seen.jpg", get(looks::seen))
        .route("/stream", get(looks::listen))
        .route("/predict", post(looks::predict).layer(DefaultBodyLimit::max(PICTURE)))
        .route("/clips/{camera}/{file}", get(commands::clip))
        .route("/commands/{command}", post(commands::agent))
        .route("/streams/{camera}/commands/{command}", post(commands::camera))
        .route("/metrics", get(api::metrics))
        .layer(axum::middleware::from_fn_with_state(guard, guard::check))
        .with_state(control)
}

//! Requests and their answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName};
use hyper::{HeaderMap, Method, StatusCode};
use rustls::ClientConfig;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;
use url::{Host, Origin, Url};

use super::auth::Authenticator;
use super::connection::Connection;
use super::error::{HttpError, HttpFault, Peer};
use super::{Request, Settings};
use crate::host::device_tls::client_config;

/// The body of a refusal that is read so that its connection can be used again.
const REFUSAL: usize = 64 << 10;

/// Asks one device.
pub struct Client {
    settings: Settings,
    /// Where user name and password may go.
    origin: Origin,
    auth: Authenticator,
    tls: Option<Arc<ClientConfig>>,
    open: Option<(Origin, Connection)>,
}

/// An answer whose body has not been read.
pub struct Answer<'a> {
    connection: &'a mut Connection,
    body: Incoming,
    status: StatusCode,
    headers: HeaderMap,
    url: Url,
    answer_timeout: Duration,
    idle_timeout: Duration,
}

impl Client {
    /// A client for the device at `origin`, of which scheme, host and port count.
    pub fn new(origin: &Url, settings: Settings) -> Self {
        let auth = Authenticator::new(settings.credentials.clone(), settings.auth);
        Self { settings, origin: origin.origin(), auth, tls: None, open: None }
    }

    /// Closes the connection, if there is one: an answer without end ends.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Sends a request, connecting where needed, and waits for the head of the answer. Any status is an answer, but
    /// 401: that is [`HttpFault::Unauthorized`].
    pub async fn send(&mut self, request: &Request) -> Result<Answer<'_>, HttpError> {
        let mut url = request.url.clone();
        let mut hops = request.redirects;
        let response = loop {
            let response = self.authorized(&url, request).await?;
            let Some(next) = target(&url, &response).filter(|_| request.redirects > 0) else { break response };
            url = follow(&url, next?, &mut hops)?;
        };
        let Some((_, connection)) = &mut self.open else { return Err(peer(&url)?.closed()) };
        let (head, body) = response.into_parts();
        let Settings { answer_timeout, idle_timeout, .. } = self.settings;
        Ok(Answer { connection, body, status: head.status, headers: head.headers, url, answer_timeout, idle_timeout })
    }

    async fn authorized(&mut self, url: &Url, request: &Request) -> Result<hyper::Response<Incoming>, HttpError> {
        let peer = peer(url)?;
        let may_authorize = url.origin() == self.origin;
        let mut is_first = true;
        loop {
            let mut response = self.exchange(url, &peer, request, may_authorize).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            let is_known = self.auth.has_credentials() && may_authorize;
            if !(is_first && is_known && self.auth.learn(response.headers())) {
                let advice = if is_known {
                    "user name and password are wrong, or this user may not do this"
                } else if self.auth.has_credentials() {
                    "it is not the device that they were given for"
                } else {
                    "it asks for user name and password, and none are configured"
                };
                let message = format!("{peer} answered 401 to {}: {advice}", request.method);
                return Err(HttpError::new(HttpFault::Unauthorized, message));
            }
            is_first = false;
            self.skip(response.body_mut()).await;
        }
    }

    /// Reads the rest of a body that nobody wants, so that its connection can be used again; or gives that up.
    async fn skip(&mut self, body: &mut Incoming) {
        let Some((_, connection)) = &mut self.open else { return };
        let rest = async {
            let mut left = REFUSAL;
            while let Some(Ok(frame)) = connection.frame(body).await {
                left = left.checked_sub(frame.data_ref().map_or(0, Bytes::len))?;
            }
            Some(())
        };
        if timeout(self.settings.idle_timeout, rest).await.ok().flatten().is_none() {
            self.open = None;
        }
    }

    async fn exchange(
        &mut self,
        url: &Url,
        peer: &Peer,
        request: &Request,
        may_authorize: bool,
    ) -> Result<hyper::Response<Incoming>, HttpError> {
        let mut is_reused = self.connect(url, peer).await?;
        loop {
            let message = self.message(url, peer, request, may_authorize)?;
            let Some((_, connection)) = &mut self.open else { return Err(peer.closed()) };
            let limit = self.settings.answer_timeout;
            let error = match timeout(limit, connection.send(message)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => error,
                Err(_) => {
                    self.open = None;
                    return Err(peer.silent("answer", limit));
                }
            };
            self.open = None;
            // The other side may close a connection at any time it is not used (RFC 9112 section 9.3.1).
            let was_unheard = error.is_canceled() || (error.is_incomplete_message() && request.method == Method::GET);
            if !(is_reused && was_unheard) {
                return Err(peer.broke(&error));
            }
            is_reused = self.connect(url, peer).await?;
        }
    }

    /// Makes sure of a connection; returns whether it is one that was used before.
    async fn connect(&mut self, url: &Url, peer: &Peer) -> Result<bool, HttpError> {
        let origin = url.origin();
        if let Some((to, connection)) = &mut self.open
            && *to == origin
            && timeout(self.settings.idle_timeout, connection.is_ready()).await == Ok(true)
        {
            return Ok(true);
        }
        self.open = None;
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some(self.tls(peer).await?),
            other => return Err(HttpError::malformed(format!("{peer}: `{other}` is not http or https"))),
        };
        self.open = Some((origin, Box::pin(Connection::open(peer, tls, &self.settings)).await?));
        Ok(false)
    }

    async fn tls(&mut self, peer: &Peer) -> Result<Arc<ClientConfig>, HttpError> {
        let (ca_file, insecure) = (self.settings.ca_file.clone(), self.settings.insecure);
        if insecure {
            warn!(device = %peer, "'insecure' is set: the device's certificate is not checked");
        }
        if let Some(config) = &self.tls {
            return Ok(config.clone());
        }
        let untrusting = |reason: String| HttpError::unreachable(format!("{peer}: {reason}"));
        let config = spawn_blocking(move || client_config(ca_file.as_deref(), insecure)).await;
        let config = Arc::new(config.map_err(|error| untrusting(error.to_string()))?.map_err(untrusting)?);
        Ok(self.tls.insert(config).clone())
    }

    fn message(
        &mut self,
        url: &Url,
        peer: &Peer,
        request: &Request,
        may_authorize: bool,
    ) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let host = match url.port() {
            Some(_) => peer.to_string(),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        let mut message = hyper::Request::builder().method(&request.method).uri(&target).header(header::HOST, host);
        let has_agent = request.headers.iter().any(|(name, _)| *name == header::USER_AGENT);
        if !has_agent {
            message = message.header(header::USER_AGENT, concat!("edgecam/", env!("CARGO_PKG_VERSION")));
        }
        for (name, value) in &request.headers {
            message = message.header(name, value);
        }
        if may_authorize && let Some(value) = self.auth.authorization(request.method.as_str(), &target, &request.body) {
            message = message.header(header::AUTHORIZATION, value);
        }
        let body = Full::new(request.body.clone());
        message.body(body).map_err(|_| HttpError::malformed(format!("{peer}: its URL cannot be asked for by HTTP")))
    }
}

impl Answer<'_> {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The URL that was asked in the end: another than the request's after redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// A header, if it is there and is text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its end. Waits at most [`Settings::idle_timeout`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let deadline = Instant::now() + self.idle_timeout;
        self.chunk_by(deadline, self.idle_timeout).await
    }

    async fn chunk_by(&mut self, deadline: Instant, limit: Duration) -> Result<Option<Bytes>, HttpError> {
        let Self { connection, body, .. } = self;
        loop {
            let frame = timeout_at(deadline, connection.frame(body)).await;
            let frame = frame.map_err(|_| connection.peer.silent("go on sending", limit))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(connection.peer.broke(&error)),
                Some(Ok(frame)) => {
                    // Trailers are of no use to anyone here.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, of at most `limit` bytes, within [`Settings::answer_timeout`].
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, HttpError> {
        let announced = self.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let too_large = |peer: &Peer| {
            HttpError::new(HttpFault::TooLarge, format!("{peer} sends more than the {limit} bytes it may"))
        };
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(too_large(&self.connection.peer));
        }
        let timeout = self.answer_timeout;
        let deadline = Instant::now() + timeout;
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk_by(deadline, timeout).await? {
            if whole.len() + chunk.len() > limit {
                return Err(too_large(&self.connection.peer));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

pub(super) fn peer(url: &Url) -> Result<Peer, HttpError> {
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err(HttpError::malformed("a URL without a host")),
    };
    Ok(Peer { host, port: url.port_or_known_default().unwrap_or(80) })
}

/// Where a redirect leads to, if the answer is one.
fn target(url: &Url, response: &hyper::Response<Incoming>) -> Option<Result<Url, HttpError>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok();
    let target = location.and_then(|location| url.join(location).ok());
    Some(target.ok_or_else(|| HttpError::malformed("a redirect to what is no URL")))
}

fn follow(from: &Url, to: Url, hops: &mut u8) -> Result<Url, HttpError> {
    let peer = peer(from)?;
    *hops = hops.checked_sub(1).ok_or_else(|| HttpError::malformed(format!("{peer} redirects again and again")))?;
    if from.scheme() == "https" && to.scheme() != "https" {
        return Err(HttpError::malformed(format!("{peer} redirects from https to {}", to.scheme())));
    }
    Ok(to)
}

#[cfg(test)]
mod tests;

//! Who may ask: everyone on loopback, else whoever has the token. A web page in the operator's browser must not reach
//! the agent by way of a rebound name, nor change anything by a plain form.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::Http;
use crate::config::secret::Secret;

/// What a request is checked against.
#[derive(Clone)]
pub(super) struct Guard {
    token: Option<Arc<Secret>>,
}

impl Guard {
    pub(super) fn new(settings: &Http) -> Self {
        Self { token: settings.token.clone().map(Arc::new) }
    }

    fn verdict(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        if let Some(token) = &self.token {
            let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
            if !same(given.as_bytes(), token.expose().as_bytes()) {
                return Err((StatusCode::UNAUTHORIZED, "send the token: Authorization: Bearer <token>\n"));
            }
            return Ok(());
        }
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let is_loopback = name == "localhost"
            || name.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if !is_loopback {
            return Err((StatusCode::FORBIDDEN, "without a token the agent answers to localhost only\n"));
        }
        let is_json =
            headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        // A picture that somebody sends changes nothing, whoever makes a browser send it.
        let may_change = method == Method::POST && path != "/predict";
        if may_change && !is_json {
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json\n"));
        }
        Ok(())
    }
}

pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.verdict(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err((status, text)) => (status, text).into_response(),
    }
}

/// Compares without telling by its time where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_ask() {
        let check = |token: Option<&str>, method: Method, headers: &[(&'static str, &str)]| {
            let guard = Guard { token: token.map(|token| Arc::new(Secret::new(token))) };
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().expect("a header"));
            }
            guard.verdict(&method, "/x", &map).err().map(|(status, _)| status.as_u16())
        };
        assert_eq!(check(None, Method::GET, &[("host", "127.0.0.1:8080")]), None);
        assert_eq!(check(None, Method::GET, &[("host", "[::1]:8080")]), None);
        assert_eq!(check(None, Method::GET, &[("host", "localhost")]), None);
        assert_eq!(check(None, Method::GET, &[("host", "evil.example:8080")]), Some(403));
        assert_eq!(check(None, Method::POST, &[("host", "localhost")]), Some(415));
        assert_eq!(check(None, Method::POST, &[("host", "localhost"), ("content-type", "application/json")]), None);
        assert_eq!(check(Some("t"), Method::GET, &[("host", "10.0.0.7")]), Some(401));
        assert_eq!(check(Some("t"), Method::GET, &[("authorization", "Bearer x")]), Some(401));
        assert_eq!(check(Some("t"), Method::GET, &[("authorization", "Bearer t")]), None);
    }
}

//! HTTP to devices: cameras, NVRs, and servers of streams. The other side is not trusted.
//!
//! Invariants: every wait has a deadline (connecting, the head of an answer, each piece of a body, a body read as a
//! whole); heads and bodies have limits; user name and password go only to the origin the client was made for, and are
//! in no error and no log; a redirect is followed only where a request asks for it, so many times at most, and never
//! from `https` to `http`.
//!
//! One [`Client`] has at most one connection, kept open from request to request. An answer's body comes piece by piece
//! ([`Answer::chunk`]), so that one without end can be read; an [`Answer`] that is dropped before its end costs the connection.
//!
//! Deliberately absent: compression, cookies, proxies, HTTP/2, a pool. A client belongs to one attempt of one source.

mod auth;
mod client;
mod connection;
mod error;
mod one_shot;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
pub use client::{Answer, Client};
pub use error::{HttpError, HttpFault};
pub use hyper::{Method, StatusCode, header};
pub use one_shot::OneShot;
use url::Url;

use crate::config::source::Credentials;

/// How a client behaves, whatever it asks for.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// For Basic and Digest; sent to the origin alone.
    pub credentials: Option<Credentials>,
    /// When they are sent.
    pub auth: AuthTime,
    /// CA certificates (PEM) to trust for `https` instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate. Off unless a person asks for it; logged as a warning at each connection.
    pub insecure: bool,
    /// For name resolution, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From a request to the head of its answer, and for a body that is read as a whole.
    pub answer_timeout: Duration,
    /// From one piece of a body to the next.
    pub idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let timeout = Duration::from_secs(10);
        Self {
            credentials: None,
            auth: AuthTime::WhenAsked,
            ca_file: None,
            insecure: false,
            connect_timeout: timeout,
            answer_timeout: timeout,
            idle_timeout: timeout,
        }
    }
}

/// When user name and password are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AuthTime {
    /// In answer to 401, by the scheme that it names: Digest or Basic.
    #[default]
    WhenAsked,
    /// By Basic with the first request (RFC 7617 section 2.2): for servers that do not ask properly.
    BasicAtOnce,
}

/// One request.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    method: Method,
    url: Url,
    headers: Vec<(header::HeaderName, String)>,
    body: Bytes,
    redirects: u8,
}

impl Request {
    /// `GET`. What user and password the URL holds is not sent.
    pub fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: Vec::new(), body: Bytes::new(), redirects: 0 }
    }

    /// `POST`.
    pub fn post(url: Url, content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![(header::CONTENT_TYPE, content_type.to_owned())];
        Self { method: Method::POST, url, headers, body: body.into(), redirects: 0 }
    }

    /// A request by any method.
    pub fn new(method: Method, url: Url, body: impl Into<Bytes>) -> Self {
        Self { method, url, headers: Vec::new(), body: body.into(), redirects: 0 }
    }

    /// The same with a header more.
    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Follow at most so many redirects. For `GET` alone.
    #[must_use]
    pub fn following(mut self, most: u8) -> Self {
        self.redirects = most;
        self
    }
}

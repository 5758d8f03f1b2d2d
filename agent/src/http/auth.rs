//! Who one is: Basic (RFC 7617) and Digest (RFC 7616), for one origin.

use http_auth::{PasswordClient, PasswordParams};
use hyper::HeaderMap;
use hyper::header::WWW_AUTHENTICATE;
use tracing::debug;

use super::AuthTime;
use crate::config::source::Credentials;

/// What is known of how to authenticate.
pub(super) struct Authenticator {
    credentials: Option<Credentials>,
    scheme: Option<PasswordClient>,
}

impl Authenticator {
    pub(super) fn new(credentials: Option<Credentials>, time: AuthTime) -> Self {
        let scheme = match time {
            AuthTime::WhenAsked => None,
            AuthTime::BasicAtOnce => PasswordClient::try_from("Basic realm=\"\"").ok(),
        };
        Self { credentials, scheme }
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Takes the challenge of a 401. Returns whether there is something new to answer.
    pub(super) fn learn(&mut self, headers: &HeaderMap) -> bool {
        if self.credentials.is_none() {
            return false;
        }
        let mut builder = PasswordClient::builder();
        for value in headers.get_all(WWW_AUTHENTICATE).iter().take(8) {
            match value.to_str() {
                Ok(text) => builder = builder.challenges(text),
                Err(_) => return false,
            }
        }
        match builder.build() {
            // Cameras lock out who repeats what they have refused.
            Ok(PasswordClient::Basic(_)) if matches!(self.scheme, Some(PasswordClient::Basic(_))) => false,
            Ok(scheme) => {
                self.scheme = Some(scheme);
                true
            }
            Err(error) => {
                debug!(error, "a challenge that cannot be answered");
                false
            }
        }
    }

    /// The value of `Authorization`, if one can be made.
    pub(super) fn authorization(&mut self, method: &str, uri: &str, body: &[u8]) -> Option<String> {
        let (credentials, scheme) = (self.credentials.as_ref()?, self.scheme.as_mut()?);
        let (username, password) = (credentials.username.as_str(), credentials.password.expose());
        scheme.respond(&PasswordParams { username, password, uri, method, body: Some(body) }).ok()
    }
}

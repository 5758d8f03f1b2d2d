//! An HTTP server that takes each event by POST. Any answer of 2xx means that it has arrived.

use std::path::PathBuf;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use url::Url;

use super::batch::{Failure, Sent};
use crate::config::secret::Secret;
use crate::event::message::Envelope;
use crate::http::{Client, HttpFault, Request, Settings, header::HeaderName};

const SIGNATURE: HeaderName = HeaderName::from_static("x-edgecam-signature");
const ID: HeaderName = HeaderName::from_static("x-edgecam-id");
const CAMERA: HeaderName = HeaderName::from_static("x-edgecam-camera");
/// An answer's body is not looked at beyond this.
const ANSWER: usize = 64 << 10;

/// A server and how to speak to it.
pub(super) struct Hook {
    url: Url,
    secret: Option<Secret>,
    client: Client,
}

impl Hook {
    pub(super) fn new(url: Url, secret: Option<Secret>, ca_file: Option<PathBuf>) -> Self {
        let client = Client::new(&url, Settings { ca_file, ..Settings::default() });
        Self { url, secret, client }
    }

    pub(super) async fn send(&mut self, envelope: &Envelope) -> Result<Sent, Failure> {
        let about: serde_json::Value = serde_json::from_slice(&envelope.json).unwrap_or_default();
        let field = |name: &str| about[name].as_str().unwrap_or_default().to_owned();
        let mut request = Request::post(self.url.clone(), "application/json", envelope.json.clone())
            .header(ID, field("id"))
            .header(CAMERA, field("camera_id"));
        if let Some(secret) = &self.secret {
            request = request.header(SIGNATURE, format!("sha256={}", signature(secret, &envelope.json)));
        }
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let answer = match self.client.send(&request).await {
            Ok(answer) => answer,
            Err(error) if error.fault == HttpFault::Unauthorized => return Err(Failure::lasting(error.to_string())),
            Err(error) => return Err(Failure::passing(error.to_string())),
        };
        let status = answer.status();
        // Read to its end, so that the connection can be used again; what it says does not matter.
        answer.bytes(ANSWER).await.ok();
        let text = format!("the webhook at {host} answered {}", status.as_u16());
        match status.as_u16() {
            200..=299 => Ok(Sent::all(1)),
            // It says that it will never take this one.
            400 | 410 | 413 | 422 => Err(Failure::poison(text)),
            408 | 425 | 429 | 500..=599 => Err(Failure::passing(text)),
            300..=399 => Err(Failure::lasting(format!("{text}: redirects are not followed; mend the URL"))),
            _ => Err(Failure::lasting(text)),
        }
    }
}

/// HMAC-SHA256 (RFC 2104) in hex.
fn signature(secret: &Secret, body: &[u8]) -> String {
    let mut mac = match Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) {
        Ok(mac) => mac,
        // A key of any length will do.
        Err(_) => return String::new(),
    };
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        // RFC 4231, test case 2.
        let found = signature(&Secret::new("Jefe"), b"what do ya want for nothing?");
        assert_eq!(found, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}

//! A stream of Kinesis Video Streams as a source: its live playback by HLS.
//!
//! A playback session has an end. The next one is opened before it, or when the service refuses the token, and playing goes
//! on with the fragment after the last: fragments are known by their numbers, which are the stream's and not the session's.

use std::time::{Duration, SystemTime};

use edgecam_kvs::{Fault, FaultClass, JSON, JsonCall};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::hls;
use super::{CaptureError, Sink};
use crate::config::source::{Hls, Kvs};
use crate::http::{Client, HttpError, Request, Settings, header};
use crate::upload::ControlPlane;
use crate::upload::tls::ca_bundle;

const PATH: &str = "/getHLSStreamingSessionURL";
/// Bytes of an answer at most: a URL with a token, or a reason.
const ANSWER: usize = 64 << 10;
/// Fragments in the playlist: as many as a late request may find again.
const FRAGMENTS: u32 = 30;
/// Of a session's time so much is used before the next one is opened.
const USED: f64 = 0.8;

/// Delivers until `cancel` is called (`Ok`) or the stream fails.
pub async fn attempt(settings: &Kvs, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Ok(()),
        error = play(settings, sink) => Err(error),
    }
}

async fn play(settings: &Kvs, sink: &mut Sink) -> CaptureError {
    let control = match ControlPlane::new(&settings.aws).await {
        Ok(control) => control,
        Err(fault) => return explain(fault),
    };
    let mut sessions = Sessions { settings, control, endpoint: None };
    let session = match sessions.open().await {
        Ok(session) => session,
        Err(error) => return error,
    };
    let hls = Hls {
        url: session.url.clone(),
        credentials: None,
        ca_file: ca_bundle(),
        insecure: false,
        stall_timeout: settings.stall_timeout,
    };
    hls::play_sessions(&hls, session, &mut sessions, sink).await
}

/// A playback session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Its master playlist; the token in it is a secret.
    pub(super) url: Url,
    /// When the next one is to be opened.
    pub(super) renew_at: Instant,
}

/// Opens sessions.
pub(super) struct Sessions<'a> {
    settings: &'a Kvs,
    control: ControlPlane,
    /// Host and port, once they are known.
    endpoint: Option<(String, u16)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Opened {
    #[serde(rename = "HLSStreamingSessionURL")]
    url: String,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(alias = "Message")]
    message: String,
}

impl Sessions<'_> {
    /// Opens a session.
    pub(super) async fn open(&mut self) -> Result<Session, CaptureError> {
        let stream = &self.settings.stream;
        let (host, port) = match self.endpoint.take() {
            Some(known) => known,
            None => self.control.playback_endpoint(stream).await.map_err(explain)?,
        };
        let body = json!({
            "StreamName": stream,
            "PlaybackMode": "LIVE",
            "ContainerFormat": "FRAGMENTED_MP4",
            "DiscontinuityMode": "ON_DISCONTINUITY",
            "DisplayFragmentTimestamp": "ALWAYS",
            "HLSFragmentSelector": { "FragmentSelectorType": "PRODUCER_TIMESTAMP" },
            "Expires": self.settings.session.as_secs(),
            "MaxMediaPlaylistFragmentResults": FRAGMENTS,
        })
        .to_string();
        let credentials = self.control.credentials().await.map_err(explain)?;
        let authority = if port == 443 { host.clone() } else { format!("{host}:{port}") };
        let region = self.control.region();
        let call = JsonCall { host: &authority, region, path: PATH, body: body.as_bytes() };
        let signed = call
            .headers(&credentials, SystemTime::now())
            .map_err(|error| CaptureError::Unreachable(error.to_string()))?;
        let unusable = |_| CaptureError::Unreachable(format!("the endpoint `{authority}` is no host"));
        let url = Url::parse(&format!("https://{authority}{PATH}")).map_err(unusable)?;
        let mut request = Request::post(url.clone(), JSON, body.clone());
        for (name, value) in signed {
            if let Ok(name) = header::HeaderName::try_from(name) {
                request = request.header(name, value);
            }
        }
        let unreachable = |error: HttpError| CaptureError::Unreachable(error.to_string());
        let mut client = Client::new(&url, Settings { ca_file: ca_bundle(), ..Settings::default() });
        let began = Instant::now();
        let answer = client.send(&request).await.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes(ANSWER).await.map_err(unreachable)?;
        if status != 200 {
            if matches!(status, 401 | 403) {
                self.control.forget_credentials().await;
            }
            return Err(self.refused(status, &bytes));
        }
        self.endpoint = Some((host, port));
        let opened: Option<Opened> = serde_json::from_slice(&bytes).ok();
        let url = opened.and_then(|opened| Url::parse(&opened.url).ok()).filter(|url| url.scheme() == "https");
        let Some(url) = url else {
            return Err(CaptureError::Unreachable(format!("{authority} gives no URL to play `{stream}` from")));
        };
        Ok(Session { url, renew_at: began + self.settings.session.mul_f64(USED) })
    }

    fn refused(&self, status: u16, body: &[u8]) -> CaptureError {
        let reason = serde_json::from_slice(body).map_or_else(|_| String::new(), |Reason { message }| message);
        let stream = &self.settings.stream;
        let text =
            format!("GetHLSStreamingSessionURL for the stream `{stream}` was refused with HTTP {status}: {reason}");
        match status {
            401 | 403 => CaptureError::AuthFailed(text),
            404 => CaptureError::NotFound(text),
            _ => CaptureError::Unreachable(text),
        }
    }
}

fn explain(fault: Fault) -> CaptureError {
    match fault.class {
        FaultClass::Credentials => CaptureError::AuthFailed(fault.message),
        FaultClass::NotFound => CaptureError::NotFound(fault.message),
        _ => CaptureError::Unreachable(fault.message),
    }
}

/// The number of the fragment that a URI of a playlist names.
pub(super) fn fragment_number(uri: &str) -> Option<&str> {
    let (_, query) = uri.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("FragmentNumber="))
}

/// Between two attempts to open the next session while the old one lasts.
pub(super) const AGAIN: Duration = Duration::from_secs(10);
/// How long to wait before a session that was refused early is opened anew: a service that refuses each is not to be asked
/// without end.
pub(super) const BETWEEN: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_have_numbers() {
        let uri = "getMP4MediaFragment.mp4?FragmentNumber=913438&SessionToken=x&TrackNumber=1";
        assert_eq!(fragment_number(uri), Some("913438"));
        assert_eq!(fragment_number("a.mp4?TrackNumber=1"), None);
        assert_eq!(fragment_number("a.mp4"), None);
    }
}

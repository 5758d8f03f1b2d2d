//! Calls to a NUUO server.

use std::fmt;

use url::Url;

use super::answers::{self, AnswerError, Camera};
use super::{End, Framing, requests};
use crate::capture::CaptureError;
use crate::config::source::{Nuuo, NuuoDialect};
use crate::http::{Answer, AuthTime, Client, HttpError, HttpFault, Request, Settings, header};

/// Of XML. A list of 64 cameras has about 300 KiB.
const BODY: usize = 4 << 20;
/// What the server is told one is: it serves gSOAP clients.
const AGENT: &str = "gSOAP/2.7";
const XML: &str = "text/xml; charset=utf-8";

/// A recorder one is logged in to.
pub(super) struct Nvr {
    client: Client,
    url: Url,
    settings: Nuuo,
    dialect: NuuoDialect,
    session: Option<String>,
    /// The live stream's connection: it stays for as long as that runs, and a Crystal has another port for it.
    live: Client,
    live_url: Url,
}

/// A live stream that has begun.
pub(super) struct Live<'a> {
    pub(super) answer: Answer<'a>,
    pub(super) framing: Framing,
}

/// Prints `host:port`.
impl fmt::Display for Nvr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}",
            self.url.host_str().unwrap_or_default(),
            self.url.port_or_known_default().unwrap_or_default()
        )
    }
}

impl Nvr {
    /// Finds out the dialect, and logs in where there is a session.
    pub(super) async fn connect(settings: &Nuuo) -> Result<Self, CaptureError> {
        let http = Settings {
            credentials: settings.credentials.clone(),
            // It asks for nothing else, and not all of its calls ask at all.
            auth: AuthTime::BasicAtOnce,
            connect_timeout: settings.setup_timeout,
            answer_timeout: settings.setup_timeout,
            // The receiver watches pictures, which is stricter.
            idle_timeout: settings.frame_timeout * 2,
            ..Settings::default()
        };
        let url = settings.server.clone();
        let mut client = Client::new(&url, http.clone());
        let dialect = match settings.dialect {
            Some(dialect) => dialect,
            None => detect(&mut client, &url).await?,
        };
        let mut live_url = url.clone();
        if dialect == NuuoDialect::Crystal {
            let port = url.port_or_known_default().unwrap_or_default().saturating_add(1);
            // Fails only for URLs without a host.
            live_url.set_port(Some(port)).ok();
        }
        let live = Client::new(&live_url, http);
        let mut nvr = Self { client, url, settings: settings.clone(), dialect, session: None, live, live_url };
        if dialect == NuuoDialect::Crystal {
            nvr.log_in().await?;
        }
        Ok(nvr)
    }

    pub(super) fn dialect(&self) -> NuuoDialect {
        self.dialect
    }

    /// Whether there are sessions, which expire.
    pub(super) fn has_session(&self) -> bool {
        self.dialect == NuuoDialect::Crystal
    }

    /// Ends what is still being sent.
    pub(super) fn hang_up(&mut self) {
        self.live.close();
    }

    /// Begins a session of a Crystal.
    pub(super) async fn log_in(&mut self) -> Result<(), CaptureError> {
        let text = self.call("event_session", requests::login()).await?;
        self.session = Some(answers::session(&text).map_err(|error| self.unusable(error))?);
        Ok(())
    }

    /// The cameras that are switched on.
    pub(super) async fn cameras(&mut self) -> Result<Vec<Camera>, CaptureError> {
        let mut cameras = match self.dialect {
            NuuoDialect::Titan => {
                let text = self.call("", requests::device_tree()).await?;
                answers::device_tree(&text).map_err(|error| self.unusable(error))?
            }
            NuuoDialect::Crystal => {
                let session = self.session.clone().unwrap_or_default();
                let text = self.call("RPC", requests::servers(&session)).await?;
                let mut cameras = Vec::new();
                for server in answers::servers(&text).map_err(|error| self.unusable(error))? {
                    let text = self.call("RPC", requests::devices(&session, &server)).await?;
                    cameras.extend(answers::devices(&text, &server).map_err(|error| self.unusable(error))?);
                }
                cameras
            }
        };
        cameras.retain(|camera| camera.enabled);
        Ok(cameras)
    }

    /// Begins the live stream of a camera.
    pub(super) async fn live(&mut self, camera: &Camera) -> Result<Live<'_>, End> {
        let mut url = path(&self.live_url, "live");
        let (request, framing) = match self.dialect {
            NuuoDialect::Titan => {
                let profile = self.settings.profile.name();
                url.query_pairs_mut().append_pair("sensor", &camera.id).append_pair("profile", profile);
                (Request::get(url), Framing::Multipart)
            }
            NuuoDialect::Crystal => {
                let session = self.session.as_deref().unwrap_or_default();
                let body = requests::live(session, camera, self.settings.profile);
                (Request::post(url, XML, body).header(header::USER_AGENT, AGENT), Framing::Requests)
            }
        };
        let peer = format!("{}:{}", self.live_url.host_str().unwrap_or_default(), self.live_url.port().unwrap_or(80));
        let answer = match self.live.send(&request).await {
            Ok(answer) => answer,
            Err(error) => return Err(End::Failed(failed(error))),
        };
        match answer.status().as_u16() {
            200 => Ok(Live { answer, framing }),
            403 => Err(End::Failed(CaptureError::AuthFailed(format!(
                "{peer} answered 403: this user may not watch this camera"
            )))),
            404 => Err(End::Failed(CaptureError::NotFound(format!("{peer} has no live stream of this camera (404)")))),
            status @ 300..=399 => Err(End::Failed(redirected(&peer, status))),
            status => Err(End::Expired(format!("it answered {status} to the request for live video"))),
        }
    }

    async fn call(&mut self, name: &str, body: String) -> Result<bytes::Bytes, CaptureError> {
        let request = Request::post(path(&self.url, name), XML, body).header(header::USER_AGENT, AGENT);
        let peer = self.to_string();
        let answer = self.client.send(&request).await.map_err(failed)?;
        let status = answer.status().as_u16();
        match status {
            300..=399 => return Err(redirected(&peer, status)),
            403 => return Err(CaptureError::AuthFailed(format!("{peer} answered 403: this user may not do this"))),
            // A fault comes with 500, and says more than the status.
            200 | 500 => {}
            _ => return Err(CaptureError::Unreachable(format!("{peer} answered {status} to /api/{name}"))),
        }
        answer.bytes(BODY).await.map_err(failed)
    }

    fn unusable(&self, error: AnswerError) -> CaptureError {
        match error {
            AnswerError::LoginFailed => CaptureError::AuthFailed(format!("{self} {error}")),
            error => CaptureError::Unreachable(format!("{self}: {error}")),
        }
    }
}

/// A Titan knows nothing of the question: it drops the connection, or answers what is no SOAP.
async fn detect(client: &mut Client, url: &Url) -> Result<NuuoDialect, CaptureError> {
    let request = Request::post(path(url, "RPC"), XML, requests::detect()).header(header::USER_AGENT, AGENT);
    let answer = match client.send(&request).await {
        Ok(answer) => answer,
        Err(error) if error.was_connected && error.fault != HttpFault::Unauthorized => return Ok(NuuoDialect::Titan),
        Err(error) => return Err(failed(error)),
    };
    // What is cut off here is no answer of a Crystal either.
    let text = answer.bytes(BODY).await.unwrap_or_default();
    Ok(if answers::is_crystal(&text) { NuuoDialect::Crystal } else { NuuoDialect::Titan })
}

fn path(url: &Url, name: &str) -> Url {
    let mut url = url.clone();
    url.set_path(&format!("/api/{name}"));
    url
}

fn failed(error: HttpError) -> CaptureError {
    match error.fault {
        HttpFault::Unauthorized => CaptureError::AuthFailed(error.to_string()),
        _ => CaptureError::Unreachable(error.to_string()),
    }
}

fn redirected(peer: &str, status: u16) -> CaptureError {
    CaptureError::Unreachable(format!(
        "{peer} answered {status}, a redirect, which is not followed: give the address of the NVR itself"
    ))
}

//! Calls to an ONVIF device, in the order that leads to a URL.

use bytes::Bytes;
use edgecam_media::Ticks;
use serde::Serialize;
use tracing::{debug, info, warn};
use url::Url;

use super::answers::{self, AnswerError, MediaProfile, PROFILES};
use super::requests::{self, Call, MEDIA1, MEDIA2};
use crate::capture::CaptureError;
use crate::config::secret::redact_url;
use crate::config::source::{Onvif, OnvifProfile, Rtsp};
use crate::host::wall_clock;
use crate::http::{Client, HttpError, HttpFault, Request, Settings};

/// Of XML. The profiles of an NVR with 64 channels have about 1 MiB.
const BODY: usize = 4 << 20;
/// Devices refuse what was signed longer ago than this, or is to come (5 s and more, by WS-Security).
const SKEW: Ticks = Ticks::from_seconds(5);
/// Profiles whose URLs are asked for when a person looks.
const SHOWN: usize = 32;

/// A profile with its URLs, for a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Offer {
    /// The profile.
    #[serde(flatten)]
    pub profile: MediaProfile,
    /// Where it is played, if the device says.
    pub stream: Option<String>,
    /// Where its still picture is, if there is one.
    pub snapshot: Option<String>,
}

struct Device<'a> {
    settings: &'a Onvif,
    client: Client,
    /// The device's clock minus ours, if it tells.
    skew: Option<Ticks>,
    media: &'static str,
    media_url: Url,
}

/// The RTSP source that the settings come to.
pub(super) async fn resolve(settings: &Onvif) -> Result<Rtsp, CaptureError> {
    let (mut device, profiles) = Device::open(settings).await?;
    let profile = choose(&profiles, settings)?;
    let url = device.stream_url(&profile.token).await?;
    let (name, encoding) = (&profile.name, &profile.encoding);
    info!(device = %settings, profile = profile.token, name, encoding, url = redact_url(&url), "the device names its stream");
    Ok(Rtsp { url, ..settings.rtsp.clone() })
}

/// What a device offers. With `urls`, where each is.
pub async fn list(settings: &Onvif, urls: bool) -> Result<Vec<Offer>, CaptureError> {
    let (mut device, profiles) = Box::pin(Device::open(settings)).await?;
    let mut offers = Vec::new();
    for (index, profile) in profiles.into_iter().enumerate() {
        let (mut stream, mut snapshot) = (None, None);
        if urls && index < SHOWN {
            stream = device.stream_url(&profile.token).await.ok().map(|url| url.to_string());
            snapshot = device.snapshot_url(&profile.token).await.ok().map(|url| url.to_string());
        }
        offers.push(Offer { profile, stream, snapshot });
    }
    Ok(offers)
}

impl<'a> Device<'a> {
    /// Clock, services, profiles.
    async fn open(settings: &'a Onvif) -> Result<(Self, Vec<MediaProfile>), CaptureError> {
        let http = Settings {
            credentials: settings.rtsp.credentials.clone(),
            connect_timeout: settings.rtsp.setup_timeout,
            answer_timeout: settings.rtsp.setup_timeout,
            idle_timeout: settings.rtsp.setup_timeout,
            ..Settings::default()
        };
        let client = Client::new(&settings.device, http);
        let media_url = settings.device.clone();
        let mut device = Self { settings, client, skew: None, media: MEDIA2, media_url };
        device.read_clock().await?;
        let services = device.services().await?;
        // What the newer service says counts: it is the one that should have answered.
        let (mut refusal, mut without_video) = (None, None);
        for (media, address) in services {
            (device.media, device.media_url) = (media, address);
            let error = match device.profiles().await {
                Ok(profiles) if has_video(&profiles) => return Ok((device, profiles)),
                // Some devices have encoders in the profiles of the older service only.
                Ok(profiles) if !profiles.is_empty() => {
                    without_video.get_or_insert((media, device.media_url.clone(), profiles));
                    continue;
                }
                Ok(_) => CaptureError::NotFound(format!("{settings} has no profile: make one in the device")),
                Err(error @ CaptureError::AuthFailed(_)) => return Err(error),
                // Some devices name a Media2 service and know none of its calls, or have nothing at its address.
                Err(error) => error,
            };
            debug!(device = %settings, media, %error, "no profiles");
            refusal.get_or_insert(error);
        }
        if let Some((media, address, profiles)) = without_video {
            (device.media, device.media_url) = (media, address);
            return Ok((device, profiles));
        }
        let none = || CaptureError::NotFound(format!("{settings} has no media service: it sends no video"));
        Err(refusal.unwrap_or_else(none))
    }

    async fn profiles(&mut self) -> Result<Vec<MediaProfile>, CaptureError> {
        let text = self.call(&self.media_url.clone(), &requests::profiles(self.media)).await?;
        let profiles = answers::profiles(&text).map_err(|error| self.unusable(error))?;
        if profiles.len() == PROFILES {
            warn!(device = %self.settings, "the device has {PROFILES} profiles or more: only these are looked at");
        }
        Ok(profiles)
    }

    async fn read_clock(&mut self) -> Result<(), CaptureError> {
        let text = self.send(&self.settings.device.clone(), &requests::system_time(), "").await?;
        match answers::system_time(&text) {
            Ok(time) => {
                let skew = time.since(wall_clock());
                if skew.get().abs() > SKEW.get() {
                    info!(device = %self.settings, seconds = skew.seconds(), "the device's clock is off; it is signed by that clock");
                }
                self.skew = Some(skew);
            }
            Err(error) => debug!(device = %self.settings, %error, "no clock"),
        }
        Ok(())
    }

    /// The media services, the newer one first, each with its address.
    async fn services(&mut self) -> Result<Vec<(&'static str, Url)>, CaptureError> {
        let device = self.settings.device.clone();
        let called = self.call(&device, &requests::services()).await;
        match called.and_then(|text| answers::services(&text).map_err(|error| self.unusable(error))) {
            Ok(services) => {
                let of = |namespace: &'static str| {
                    let service = services.iter().find(|service| service.namespace == namespace)?;
                    Some((namespace, self.dialled(&service.address)?))
                };
                Ok([MEDIA2, MEDIA1].into_iter().filter_map(of).collect())
            }
            Err(error @ CaptureError::AuthFailed(_)) => Err(error),
            Err(error) => {
                debug!(device = %self.settings, %error, "no GetServices");
                let text = self.call(&device, &requests::capabilities()).await?;
                let address = answers::capabilities(&text).map_err(|error| self.unusable(error))?;
                Ok(self.dialled(&address).map(|url| (MEDIA1, url)).into_iter().collect())
            }
        }
    }

    /// A service's address on the host that was dialled: a device behind NAT, or with two networks, knows another.
    fn dialled(&self, address: &str) -> Option<Url> {
        let named = Url::parse(address.trim()).ok()?;
        let mut url = self.settings.device.clone();
        if named.host_str() == url.host_str() && named.scheme() == url.scheme() {
            url.set_port(named.port()).ok()?;
        }
        url.set_path(named.path());
        url.set_query(named.query());
        Some(url)
    }

    async fn stream_url(&mut self, token: &str) -> Result<Url, CaptureError> {
        let text = self.call(&self.media_url.clone(), &requests::stream_uri(self.media, token)).await?;
        let url = answers::stream_uri(&text).map_err(|error| self.unusable(error))?;
        if !matches!(url.scheme(), "rtsp" | "rtsps") {
            let scheme = url.scheme();
            return Err(CaptureError::NotFound(format!(
                "{} gives a `{scheme}` URL for its stream, no rtsp",
                self.settings
            )));
        }
        self.on_dialled_host(url)
    }

    async fn snapshot_url(&mut self, token: &str) -> Result<Url, CaptureError> {
        let text = self.call(&self.media_url.clone(), &requests::snapshot_uri(self.media, token)).await?;
        let url = answers::snapshot_uri(&text).map_err(|error| self.unusable(error))?;
        self.on_dialled_host(url)
    }

    /// The same on the host that was dialled, without user and password.
    fn on_dialled_host(&self, mut url: Url) -> Result<Url, CaptureError> {
        let host = self.settings.device.host_str();
        let changed = url.set_host(host).is_ok() && url.set_username("").is_ok() && url.set_password(None).is_ok();
        let unusable = || CaptureError::NotFound(format!("{} gives a URL that cannot be used", self.settings));
        changed.then_some(url).ok_or_else(unusable)
    }

    /// A call that is signed where one has credentials.
    async fn call(&mut self, url: &Url, call: &Call) -> Result<Bytes, CaptureError> {
        let mut security = String::new();
        if let Some(credentials) = &self.settings.rtsp.credentials {
            let mut nonce = [0; 16];
            let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
            random
                .fill(&mut nonce)
                .map_err(|_| CaptureError::Unreachable("the system has no random numbers".to_owned()))?;
            let now = wall_clock() + self.skew.unwrap_or(Ticks::ZERO);
            security = requests::security(credentials, nonce, now);
        }
        self.send(url, call, &security).await
    }

    async fn send(&mut self, url: &Url, call: &Call, security: &str) -> Result<Bytes, CaptureError> {
        let content_type = format!("application/soap+xml; charset=utf-8; action=\"{}\"", call.action());
        let request = Request::post(url.clone(), &content_type, call.message(security));
        let answer = match self.client.send(&request).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.failed(error)),
        };
        match answer.status().as_u16() {
            // Faults come with any of these.
            200 | 400 | 403 | 500 => {}
            404 => {
                let message =
                    format!("{} has no ONVIF service there (404): another port, or switched off", self.settings);
                return Err(CaptureError::NotFound(message));
            }
            status => {
                let message = format!("{} answered {status} to {}", self.settings, call.name);
                return Err(CaptureError::Unreachable(message));
            }
        }
        match answer.bytes(BODY).await {
            Ok(text) => Ok(text),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: HttpError) -> CaptureError {
        match error.fault {
            HttpFault::Unauthorized => self.refused(&error.to_string()),
            _ => CaptureError::Unreachable(error.to_string()),
        }
    }

    fn unusable(&self, error: AnswerError) -> CaptureError {
        let message = format!("{}: {error}", self.settings);
        match error {
            AnswerError::NotAuthorized { .. } => self.refused(&message),
            _ => CaptureError::Unreachable(message),
        }
    }

    /// Wrong credentials, or a clock that makes right ones look old.
    fn refused(&self, message: &str) -> CaptureError {
        let clock = match self.skew {
            _ if self.settings.rtsp.credentials.is_none() => "none are configured for this source".to_owned(),
            Some(skew) if skew.get().abs() > SKEW.get() => {
                let (seconds, side) = (skew.seconds().round(), if skew.get() > 0 { "ahead of" } else { "behind" });
                let seconds = seconds.abs();
                format!("its clock is {seconds} s {side} this machine's, which was allowed for: set both by NTP")
            }
            Some(_) => "many cameras keep a separate list of users for ONVIF".to_owned(),
            None => "it does not tell its time: if that is not this machine's, it refuses every password".to_owned(),
        };
        CaptureError::AuthFailed(format!("{message}; {clock}"))
    }
}

fn has_video(profiles: &[MediaProfile]) -> bool {
    profiles.iter().any(|profile| !profile.encoding.is_empty())
}

/// The profile that the config means.
fn choose<'a>(profiles: &'a [MediaProfile], settings: &Onvif) -> Result<&'a MediaProfile, CaptureError> {
    let is_of_source =
        |profile: &&MediaProfile| settings.source.as_ref().is_none_or(|source| *source == profile.source);
    let of_source: Vec<&MediaProfile> = profiles.iter().filter(is_of_source).collect();
    let is_video = |profile: &&&MediaProfile| matches!(profile.encoding.as_str(), "H264" | "H265");
    let area = |profile: &&&MediaProfile| u64::from(profile.width) * u64::from(profile.height);
    let video = || of_source.iter().filter(is_video);
    // Of equal ones the first.
    let main = || video().rev().max_by_key(area);
    let found = match &settings.profile {
        OnvifProfile::Main => main(),
        OnvifProfile::Sub => {
            let main = main().map(|profile| &profile.token);
            let others = video().filter(|profile| Some(&profile.token) != main);
            others.min_by_key(area)
        }
        OnvifProfile::Named(name) => {
            let same = |known: &str| known.eq_ignore_ascii_case(name);
            of_source
                .iter()
                .find(|profile| same(&profile.token))
                .or(of_source.iter().find(|profile| same(&profile.name)))
        }
    };
    found.copied().ok_or_else(|| {
        let one = |profile: &&MediaProfile| {
            let MediaProfile { token, name, encoding, width, height, .. } = profile;
            let encoding = if encoding.is_empty() { "no video" } else { encoding };
            format!("`{token}` ({name}, {encoding} {width}x{height})")
        };
        let list = of_source.iter().take(12).map(one).collect::<Vec<_>>().join(", ");
        let list = if list.is_empty() { "none of that video source".to_owned() } else { list };
        CaptureError::NotFound(format!("{settings} has no profile that is {}; it has {list}", settings.profile))
    })
}

#[cfg(test)]
mod tests;

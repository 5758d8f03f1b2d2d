//! Recorders that are no RTSP servers: as written, checked, and as used.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::access::{Access, percent_decode};
use super::check::{Result, seconds, span, wrong};
use super::source::{Credentials, Rtsp, RtspTransport, Source};
use super::value::Span;

/// The port of NUUO's control interface.
const NUUO_PORT: u16 = 5250;

/// A camera of a NUUO recorder (Titan, Crystal), by NUUO's own interface.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenNuuo {
    /// `nuuo://host:port/Area?camera=&profile=`: the camera's name as the path, or its name or id as `camera`. The port is
    /// 5250 unless given. User and password may be in it, percent-encoded; better in the keys below.
    pub(crate) url: String,
    /// User name.
    pub(crate) username: Option<String>,
    /// File that holds the password.
    pub(crate) password_file: Option<PathBuf>,
    /// Environment variable that holds the password.
    pub(crate) password_env: Option<String>,
    /// Id or name of the camera, instead of the URL's. `edgecam nvr list` shows both.
    pub(crate) camera: Option<String>,
    /// `Original`, `Low` or `Minimum`, instead of the URL's. Default: Original.
    pub(crate) profile: Option<String>,
    /// `titan` or `crystal`. Default: found out at each connection.
    pub(crate) dialect: Option<String>,
    /// Deadline for each step of connecting. Default: 10s.
    pub(crate) setup_timeout: Option<Span>,
    /// A camera without a picture for this long is frozen, and connected anew. Default: 10s.
    pub(crate) frame_timeout: Option<Span>,
}

/// An ONVIF device: it is asked for the RTSP URL of one of its profiles.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenOnvif {
    /// `onvif://host[:port]`. The port is 80 unless given (Tapo 2020, Reolink 8000). User and password may be in it,
    /// percent-encoded; better in the keys below.
    pub(crate) url: String,
    /// User name.
    pub(crate) username: Option<String>,
    /// File that holds the password.
    pub(crate) password_file: Option<PathBuf>,
    /// Environment variable that holds the password.
    pub(crate) password_env: Option<String>,
    /// `main` (the largest), `sub` (the smallest), or the token or name of one. Default: main.
    pub(crate) profile: Option<String>,
    /// Token of the video source, of devices with several. `edgecam nvr list` shows them.
    pub(crate) source: Option<String>,
    /// `tcp` or `udp`, for the RTSP that follows. Default: tcp.
    pub(crate) transport: Option<String>,
    /// Deadline for each step of connecting. Default: 10s.
    pub(crate) setup_timeout: Option<Span>,
    /// A camera without a picture for this long is frozen, and connected anew. Default: 10s.
    pub(crate) frame_timeout: Option<Span>,
}

/// Settings of an `onvif` source.
#[derive(Clone, PartialEq, Debug)]
pub struct Onvif {
    /// The device service: `http://host:port/onvif/device_service`.
    pub device: Url,
    /// Which of its streams.
    pub profile: OnvifProfile,
    /// Which of its video sources, if it has several.
    pub source: Option<String>,
    /// How the stream is played; its URL is the device's to say.
    pub rtsp: Rtsp,
}

/// Which profile of a device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum OnvifProfile {
    /// The largest.
    #[default]
    Main,
    /// The smallest.
    Sub,
    /// By token or name.
    Named(String),
}

/// For messages.
impl fmt::Display for OnvifProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main => f.write_str("`main`"),
            Self::Sub => f.write_str("`sub`"),
            Self::Named(name) => write!(f, "`{name}`"),
        }
    }
}

/// Without secrets.
impl fmt::Display for Onvif {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.device.host_str().unwrap_or_default();
        write!(f, "onvif://{host}:{}", self.device.port_or_known_default().unwrap_or(80))?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, "/{source}"))
    }
}

pub(super) fn onvif(written: WrittenOnvif, key: &str) -> Result<Source> {
    let access = Access {
        url: &written.url,
        username: written.username,
        password_file: written.password_file,
        password_env: written.password_env,
    };
    let (url, credentials) = access.check(key, &["onvif"])?;
    let mut device = http(&url, 80).map_or_else(|| wrong(&format!("{key}.url"), "names no host"), Ok)?;
    device.set_path(if matches!(url.path(), "" | "/") { "/onvif/device_service" } else { url.path() });
    let profile = match written.profile.as_deref() {
        None | Some("main") => OnvifProfile::Main,
        Some("sub") => OnvifProfile::Sub,
        Some(name) => OnvifProfile::Named(name.to_owned()),
    };
    let transport = match written.transport.as_deref() {
        None | Some("tcp") => RtspTransport::Tcp,
        Some("udp") => RtspTransport::Udp,
        Some(other) => return wrong(&format!("{key}.transport"), format_args!("`{other}` is not tcp or udp")),
    };
    let range = (seconds(1), seconds(300));
    let rtsp = Rtsp {
        url: device.clone(),
        secret: None,
        credentials,
        transport,
        ca_file: None,
        insecure: false,
        setup_timeout: span(key, "setup_timeout", written.setup_timeout, seconds(10), range)?,
        frame_timeout: span(key, "frame_timeout", written.frame_timeout, seconds(10), range)?,
    };
    Ok(Source::Onvif(Onvif { device, profile, source: written.source, rtsp }))
}

/// Settings of a `nuuo` source.
#[derive(Clone, PartialEq, Debug)]
pub struct Nuuo {
    /// `http://host:port/`.
    pub server: Url,
    /// For Basic.
    pub credentials: Option<Credentials>,
    /// Which camera.
    pub camera: NuuoCamera,
    /// Which of its streams.
    pub profile: NuuoProfile,
    /// How the recorder speaks, if that is known.
    pub dialect: Option<NuuoDialect>,
    /// Deadline for connecting and for each call.
    pub setup_timeout: Duration,
    /// A camera that sends no picture for this long is frozen.
    pub frame_timeout: Duration,
}

/// Which camera of a recorder; what is not given fits any.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NuuoCamera {
    /// Its name.
    pub area: Option<String>,
    /// Its id, or its name.
    pub camera: Option<String>,
    /// Its recording server and its id, where the recorder has been asked already.
    pub exact: Option<(String, String)>,
}

/// Which stream of a camera.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NuuoProfile {
    /// As the camera sends it.
    #[default]
    Original,
    /// Smaller.
    Low,
    /// Smallest.
    Minimum,
}

/// How a recorder speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NuuoDialect {
    /// NT series: no session, multipart.
    Titan,
    /// Crystal and NCS: sessions, a stream of HTTP requests, capture times.
    Crystal,
}

impl NuuoProfile {
    /// As the recorder spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "Original",
            Self::Low => "Low",
            Self::Minimum => "Minimum",
        }
    }
}

/// For messages.
impl fmt::Display for NuuoCamera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((_, id)) = &self.exact {
            return write!(f, "with the id `{id}`");
        }
        match (&self.area, &self.camera) {
            (Some(area), Some(camera)) => write!(f, "`{area}` with the id `{camera}`"),
            (Some(name), None) | (None, Some(name)) => write!(f, "`{name}`"),
            (None, None) => f.write_str("meant by a URL that names none"),
        }
    }
}

/// Without secrets.
impl fmt::Display for Nuuo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.server.host_str().unwrap_or_default();
        let port = self.server.port_or_known_default().unwrap_or_default();
        write!(f, "nuuo://{host}:{port}/{}", self.camera.area.as_deref().unwrap_or_default())?;
        write!(f, "?profile={}", self.profile.name())?;
        let exact = self.camera.exact.as_ref().map(|(_, id)| id);
        let camera = self.camera.camera.as_ref().or(exact);
        camera.map_or(Ok(()), |camera| write!(f, "&camera={camera}"))
    }
}

pub(super) fn nuuo(written: WrittenNuuo, key: &str) -> Result<Source> {
    let access = Access {
        url: &written.url,
        username: written.username,
        password_file: written.password_file,
        password_env: written.password_env,
    };
    let (url, credentials) = access.check(key, &["nuuo"])?;
    let server = http(&url, NUUO_PORT).map_or_else(|| wrong(&format!("{key}.url"), "names no host"), Ok)?;
    let area = Some(percent_decode(url.path().trim_matches('/'))).filter(|area| !area.is_empty());
    let (mut camera, mut profile) = (written.camera, written.profile);
    for (name, value) in url.query_pairs() {
        let value = Some(value.into_owned()).filter(|value| !value.is_empty());
        match &*name {
            "camera" => camera = camera.or(value),
            "profile" => profile = profile.or(value),
            // It may be a password in the wrong place: it is not repeated.
            _ => return wrong(&format!("{key}.url"), "has a parameter that is not camera or profile"),
        }
    }
    let profile = match profile.as_deref().map(str::to_lowercase).as_deref() {
        None | Some("original") => NuuoProfile::Original,
        Some("low") => NuuoProfile::Low,
        Some("minimum") => NuuoProfile::Minimum,
        Some(other) => {
            return wrong(&format!("{key}.profile"), format_args!("`{other}` is not Original, Low or Minimum"));
        }
    };
    let dialect = match written.dialect.as_deref() {
        None => None,
        Some("titan") => Some(NuuoDialect::Titan),
        Some("crystal") => Some(NuuoDialect::Crystal),
        Some(other) => return wrong(&format!("{key}.dialect"), format_args!("`{other}` is not titan or crystal")),
    };
    let range = (seconds(1), seconds(300));
    Ok(Source::Nuuo(Nuuo {
        server,
        credentials,
        camera: NuuoCamera { area, camera, exact: None },
        profile,
        dialect,
        setup_timeout: span(key, "setup_timeout", written.setup_timeout, seconds(10), range)?,
        frame_timeout: span(key, "frame_timeout", written.frame_timeout, seconds(10), range)?,
    }))
}

/// The same host by HTTP.
fn http(url: &Url, port: u16) -> Option<Url> {
    Url::parse(&format!("http://{}:{}/", url.host_str()?, url.port().unwrap_or(port))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn source(keys: &str) -> std::result::Result<Source, String> {
        let config = parse(&format!("cameras: [{{name: a, {keys}}}]")).map_err(|error| error.to_string())?;
        config.cameras.into_iter().next().map(|camera| camera.source).ok_or_else(|| "no camera".to_owned())
    }

    #[test]
    fn urls_of_recorders() {
        for (keys, shown) in [
            (
                "nuuo: {url: 'nuuo://u:p%40w@10.0.0.9/First%20Floor'}",
                "nuuo://10.0.0.9:5250/First Floor?profile=Original",
            ),
            ("nuuo: {url: 'nuuo://nvr:3456/?camera=7&profile=low'}", "nuuo://nvr:3456/?profile=Low&camera=7"),
            (
                "nuuo: {url: 'nuuo://nvr/A?camera=7', camera: '8', profile: Minimum}",
                "nuuo://nvr:5250/A?profile=Minimum&camera=8",
            ),
        ] {
            match source(keys) {
                Ok(Source::Nuuo(nuuo)) => assert_eq!(nuuo.to_string(), shown),
                other => panic!("{keys}: {other:?}"),
            }
        }
        for (keys, device, shown) in [
            ("onvif: {url: 'onvif://u:p@10.0.0.7'}", "http://10.0.0.7/onvif/device_service", "onvif://10.0.0.7:80"),
            ("onvif: {url: 'onvif://cam:2020/x', source: v1}", "http://cam:2020/x", "onvif://cam:2020/v1"),
        ] {
            match source(keys) {
                Ok(Source::Onvif(onvif)) => {
                    assert_eq!((onvif.device.as_str(), onvif.to_string().as_str()), (device, shown))
                }
                other => panic!("{keys}: {other:?}"),
            }
        }
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        for (keys, says) in [
            ("nuuo: {url: 'rtsp://admin:secret@h/'}", "nuuo://"),
            ("nuuo: {url: 'nuuo://admin:secret@h/?password=secret'}", "not camera or profile"),
            ("nuuo: {url: 'nuuo://h/?profile=High'}", "`high` is not Original, Low or Minimum"),
            ("nuuo: {url: 'nuuo://h/', dialect: mini}", "`mini` is not titan or crystal"),
            ("nuuo: {url: 'nuuo://:secret@h/'}", "a password without a username"),
            ("onvif: {url: 'http://admin:secret@h/'}", "onvif://"),
            ("onvif: {url: 'onvif://h', transport: sctp}", "`sctp` is not tcp or udp"),
        ] {
            let error = source(keys).expect_err(keys);
            assert!(error.contains(says) && !error.contains("secret"), "{error}");
        }
    }
}

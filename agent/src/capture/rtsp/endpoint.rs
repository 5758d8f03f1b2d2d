//! Who is spoken to, and what went wrong, in words for a person who has to walk to the camera.
//!
//! Invariants: no message holds a user name, a password or a query string; each says host and port, what happened and
//! what to look at. The class of the error says what to do next: a refused password is not tried again in a second.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::time::Duration;

use url::{Host, Url};

use crate::capture::CaptureError;
use crate::config::secret::redact_url;

/// RTSP's port (RFC 2326 section 9.1).
const RTSP_PORT: u16 = 554;
/// RTSPS's port (RFC 7826 section 22.15).
const RTSPS_PORT: u16 = 322;

/// A step towards the first picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Describe,
    Setup,
    Play,
    Receive,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Describe => "DESCRIBE",
            Self::Setup => "SETUP",
            Self::Play => "PLAY",
            Self::Receive => "the stream",
        })
    }
}

/// A camera's address as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Endpoint {
    /// Host name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    url: String,
    has_credentials: bool,
}

/// Prints `host:port`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Endpoint {
    pub(super) fn new(url: &Url, has_credentials: bool) -> Result<Self, CaptureError> {
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(CaptureError::NotFound(format!("{} names no host", redact_url(url)))),
        };
        let port = url.port().unwrap_or(if url.scheme() == "rtsps" { RTSPS_PORT } else { RTSP_PORT });
        Ok(Self { host, port, url: redact_url(url), has_credentials })
    }

    /// The name does not resolve.
    pub(super) fn unresolved(&self, error: &Error) -> CaptureError {
        let host = &self.host;
        CaptureError::Unreachable(format!(
            "the name '{host}' cannot be resolved ({error}): check it, and the DNS server"
        ))
    }

    /// Connecting failed.
    pub(super) fn unconnected(&self, error: &Error) -> CaptureError {
        let port = self.port;
        CaptureError::Unreachable(match error.kind() {
            ErrorKind::ConnectionRefused => format!(
                "{self} refuses connections: the device is there, but nothing listens on port {port}. \
                 Is RTSP switched on in the camera, and is the port right?"
            ),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                format!("{self} cannot be reached ({error}): check address, cable and route")
            }
            ErrorKind::TimedOut => return self.silent_host(None),
            _ => format!("{self}: connecting failed ({error})"),
        })
    }

    /// Not even a refusal came.
    pub(super) fn silent_host(&self, waited: Option<Duration>) -> CaptureError {
        let waited = waited.map_or_else(String::new, |waited| format!(" within {} s", waited.as_secs_f32()));
        CaptureError::Unreachable(format!(
            "{self} does not answer{waited}: is the camera switched on, is the address right, is a firewall between?"
        ))
    }

    /// It takes connections and then says nothing.
    pub(super) fn silent_server(&self, step: Step, waited: Duration) -> CaptureError {
        let waited = waited.as_secs_f32();
        CaptureError::Unreachable(format!(
            "{self} takes connections but did not answer {step} within {waited} s: it hangs or is overloaded. \
             If that stays so, restart the camera"
        ))
    }

    /// The connection was closed, without a word.
    pub(super) fn closed(&self) -> CaptureError {
        CaptureError::Unreachable(format!(
            "{self} closed the connection: the camera restarts, or allows fewer viewers than it has"
        ))
    }

    /// Packets should come by UDP and none did.
    pub(super) fn no_udp(&self, waited: Duration) -> CaptureError {
        let waited = waited.as_secs_f32();
        CaptureError::Unreachable(format!(
            "{self} agreed to send by UDP, but nothing arrived within {waited} s: a firewall or NAT drops it. \
             Use the transport 'tcp'"
        ))
    }

    /// An error of the RTSP library, which gives a status code or else only text.
    pub(super) fn failed(&self, step: Step, error: &retina::Error) -> CaptureError {
        match error.status_code() {
            // A good status in an error: the answer could not be used.
            Some(status) if status >= 300 => self.refused(step, status),
            _ => self.broke(step, &error.to_string()),
        }
    }

    fn refused(&self, step: Step, status: u16) -> CaptureError {
        let unreachable = |text: String| CaptureError::Unreachable(format!("{self} {text}"));
        match status {
            401 if !self.has_credentials => {
                CaptureError::AuthFailed(format!("{self} asks for them, and none are configured for this source"))
            }
            401 => CaptureError::AuthFailed(format!(
                "{self} answered 401 to {step}. Many cameras keep a separate list of users for RTSP or ONVIF, and lock \
                 a user out after a few wrong passwords"
            )),
            403 => {
                CaptureError::AuthFailed(format!("{self} answered 403 to {step}: this user may not watch this stream"))
            }
            404 | 410 => CaptureError::NotFound(format!(
                "{} does not exist ({status} to {step}): the camera is there, its stream has another path",
                self.url
            )),
            453 | 503 => {
                unreachable(format!("answered {status} to {step}: it has too many viewers, or too little bandwidth"))
            }
            461 => unreachable(format!("answered 461 to {step}: it sends neither by TCP nor by UDP")),
            300..=399 => {
                unreachable(format!("answered {status} to {step}: the stream has moved; ask for it where it is now"))
            }
            _ => unreachable(format!("answered {status} to {step}")),
        }
    }

    fn broke(&self, step: Step, text: &str) -> CaptureError {
        let text = one_line(text);
        if let Some(reason) = text.strip_prefix("Unable to connect to RTSP server: ") {
            return match os_error(reason) {
                Some(error) => self.unconnected(&error),
                None => CaptureError::Unreachable(format!("{self}: connecting failed ({reason})")),
            };
        }
        if os_error(&text).is_some() || text.contains("EOF while expecting") {
            return match step {
                Step::Describe => CaptureError::Unreachable(format!(
                    "{self} closed the connection instead of answering {step}: does an RTSP server listen there, and is \
                     it rtsp or rtsps?"
                )),
                Step::Setup | Step::Play | Step::Receive => self.closed(),
            };
        }
        if step == Step::Describe && text.contains("Invalid RTSP message") {
            return CaptureError::Unreachable(format!(
                "what answers on {self} does not speak RTSP: is the port right?"
            ));
        }
        CaptureError::Unreachable(format!("{self}: {step} failed: {text}"))
    }
}

/// The library's errors go on for lines and may quote URLs.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let shown = line.split(' ').map(|word| if word.contains("://") { "[url]" } else { word });
    shown.collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

/// The system error that a text ends in: "(os error 111)", as std prints them.
fn os_error(text: &str) -> Option<Error> {
    let (_, after) = text.rsplit_once("(os error ")?;
    let (code, _) = after.split_once(')')?;
    code.parse().ok().map(Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new(&Url::parse(url).expect("a URL"), true).expect("a host")
    }

    #[test]
    fn ports_have_defaults() {
        for (url, shown) in [
            ("rtsp://10.0.0.5/a", "10.0.0.5:554"),
            ("rtsps://cam.local/a", "cam.local:322"),
            ("rtsp://[fe80::1]:8554/", "[fe80::1]:8554"),
        ] {
            assert_eq!(endpoint(url).to_string(), shown);
        }
        assert!(Endpoint::new(&Url::parse("rtsp:///x").expect("a URL"), false).is_err());
    }

    #[test]
    fn errors_have_a_class_and_no_secrets() {
        let camera = endpoint("rtsp://10.0.0.5/cam?password=hush");
        let check = |error: CaptureError, class: fn(&CaptureError) -> bool, says: &str| {
            let text = error.to_string();
            assert!(class(&error), "{error:?}");
            assert!(text.contains(says) && text.contains("10.0.0.5") && !text.contains("hush"), "{text}");
        };
        let unreachable = |error: &CaptureError| matches!(error, CaptureError::Unreachable(_));
        let auth = |error: &CaptureError| matches!(error, CaptureError::AuthFailed(_));
        let not_found = |error: &CaptureError| matches!(error, CaptureError::NotFound(_));
        check(camera.refused(Step::Describe, 401), auth, "401");
        check(camera.refused(Step::Play, 403), auth, "403");
        check(camera.refused(Step::Describe, 404), not_found, "/cam");
        check(camera.refused(Step::Setup, 461), unreachable, "neither");
        check(camera.refused(Step::Describe, 503), unreachable, "viewers");
        check(camera.refused(Step::Describe, 302), unreachable, "moved");
        let refused = "Unable to connect to RTSP server: Connection refused (os error 111)";
        check(camera.broke(Step::Describe, refused), unreachable, "nothing listens on port 554");
        let no_route = "Unable to connect to RTSP server: No route to host (os error 113)";
        check(camera.broke(Step::Describe, no_route), unreachable, "cable");
        let web_server = "RTSP framing error: Invalid RTSP message: byte 4: request-line; buffered:\n48 54";
        check(camera.broke(Step::Describe, web_server), unreachable, "does not speak RTSP");
        let quoting = "Bad URL rtsp://10.0.0.5/?password=hush; only x\n\nconn: 1";
        check(camera.broke(Step::Setup, quoting), unreachable, "SETUP failed: Bad URL [url] only x");
        let reset = "Error reading from RTSP peer: Connection reset by peer (os error 104)\n\nconn: 2";
        check(camera.broke(Step::Receive, reset), unreachable, "closed the connection");
        check(camera.broke(Step::Describe, reset), unreachable, "rtsp or rtsps");
        check(camera.silent_host(Some(Duration::from_secs(10))), unreachable, "within 10 s");
    }

    #[test]
    fn missing_credentials_are_said_to_be_missing() {
        let camera = Endpoint::new(&Url::parse("rtsp://h/").expect("a URL"), false).expect("a host");
        assert!(camera.refused(Step::Describe, 401).to_string().contains("none are configured"));
    }
}

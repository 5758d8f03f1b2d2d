//! Encoders that push, as written → as used.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use super::check::{Result, seconds, secret_file, span, wrong};
use super::secret::Secret;
use super::source::{Rtmp, Source};
use super::{Camera, identity, percent_decode, written};

/// The port of RTMP.
const PORT: u16 = 1935;

pub(super) fn rtmp(written: written::Rtmp, key: &str) -> Result<Source> {
    let at = format!("{key}.url");
    // The text itself may hold a key: it is not repeated in the message.
    let url = Url::parse(&written.url).ok().filter(|url| url.scheme() == "rtmp");
    let Some(url) = url else { return wrong(&at, "is not a URL such as rtmp://0.0.0.0:1935/live/KEY") };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return wrong(&at, "has a user, a password or a query: the key alone says who may publish");
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        // The crate takes the hosts of a scheme it does not know for names.
        Some(Host::Domain(name)) => name.parse().ok(),
        None => None,
    };
    let Some(address) = address else {
        return wrong(&at, "must name an address of this machine, such as 0.0.0.0 for all of them");
    };
    let mut parts: Vec<String> =
        url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).map(percent_decode).collect();
    let given = match (written.key_file, written.key_env) {
        (Some(_), Some(_)) => return wrong(key, "key_file and key_env: give one of them"),
        (Some(path), None) => Some(secret_file(&format!("{key}.key_file"), &path)?),
        (None, Some(name)) => match identity::environment(&name) {
            Some(value) => Some(Secret::new(value)),
            None => return wrong(&format!("{key}.key_env"), format_args!("{name} is not set in the environment")),
        },
        (None, None) => None,
    };
    let secret = match given {
        Some(secret) => secret,
        None if parts.len() >= 2 => Secret::new(parts.pop().unwrap_or_default()),
        None => return wrong(&at, "has no key: rtmp://ADDRESS:PORT/APP/KEY, or give key_file"),
    };
    if parts.is_empty() {
        return wrong(&at, "names no application: rtmp://ADDRESS:PORT/APP/KEY");
    }
    Ok(Source::Rtmp(Rtmp {
        listen: SocketAddr::new(address, url.port().unwrap_or(PORT)),
        app: parts.join("/"),
        key: secret,
        frame_timeout: span(key, "frame_timeout", written.frame_timeout, seconds(10), (seconds(1), seconds(300)))?,
    }))
}

/// An encoder's key leads to one camera.
pub(super) fn unique_keys(cameras: &[Camera]) -> Result<()> {
    let rtmp = |camera: &Camera| match &camera.source {
        Source::Rtmp(rtmp) => Some(rtmp.clone()),
        _ => None,
    };
    let mut seen: Vec<Rtmp> = Vec::new();
    for camera in cameras {
        let Some(new) = rtmp(camera) else { continue };
        let same_port = |known: &&Rtmp| known.listen.port() == new.listen.port();
        for known in seen.iter().filter(same_port) {
            let at = format!("cameras.{}.rtmp.url", camera.name);
            if known.listen == new.listen && known.app == new.app && known.key == new.key {
                return wrong(&at, "another camera has the same key: give each a key of its own");
            }
            if known.listen != new.listen && (known.listen.ip().is_unspecified() || new.listen.ip().is_unspecified()) {
                let message = format!("{} and {} overlap: use one address for both", known.listen, new.listen);
                return wrong(&at, message);
            }
        }
        seen.push(new);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn sources(keys: &[&str]) -> std::result::Result<Vec<Rtmp>, String> {
        let cameras: Vec<String> =
            keys.iter().enumerate().map(|(index, keys)| format!("{{name: c{index}, rtmp: {{{keys}}}}}")).collect();
        let config = parse(&format!("cameras: [{}]", cameras.join(", "))).map_err(|error| error.to_string())?;
        let of = |camera: Camera| match camera.source {
            Source::Rtmp(rtmp) => Some(rtmp),
            _ => None,
        };
        Ok(config.cameras.into_iter().filter_map(of).collect())
    }

    #[test]
    fn urls_of_listeners() {
        let path = identity::environment("PATH").expect("it is set");
        for (keys, listen, app, secret) in [
            ("url: 'rtmp://0.0.0.0/live/door'", "0.0.0.0:1935", "live", "door"),
            ("url: 'rtmp://127.0.0.1:1936/a/b/d%2For/'", "127.0.0.1:1936", "a/b", "d/or"),
            ("url: 'rtmp://[::]:19350/live', key_env: PATH", "[::]:19350", "live", &path),
        ] {
            let found = sources(&[keys]).expect(keys).pop().expect("one");
            let secret_found = found.key.expose().to_owned();
            assert_eq!((found.listen.to_string().as_str(), found.app.as_str()), (listen, app));
            assert_eq!(secret_found, secret);
        }
        let shared = ["url: 'rtmp://0.0.0.0/live/a'", "url: 'rtmp://0.0.0.0/live/b'", "url: 'rtmp://0.0.0.0/x/a'"];
        assert_eq!(sources(&shared).map(|found| found.len()), Ok(3));
    }

    #[test]
    fn mistakes_are_named_and_keys_are_not() {
        for (keys, says) in [
            (&["url: 'rtmp://0.0.0.0/secret'"][..], "no key"),
            (&["url: 'rtmp://camera.local/live/secret'"], "an address of this machine"),
            (&["url: 'http://0.0.0.0/live/secret'"], "is not a URL such as"),
            (&["url: 'rtmp://u:secret@0.0.0.0/live/secret'"], "the key alone"),
            (&["url: 'rtmp://0.0.0.0/', key_env: PATH"], "no application"),
            (&["url: 'rtmp://0.0.0.0/live', key_env: EDGECAM_NOT_SET"], "is not set"),
            (&["url: 'rtmp://0.0.0.0/live/secret'", "url: 'rtmp://0.0.0.0/live/secret'"], "c1.rtmp.url: another"),
            (&["url: 'rtmp://0.0.0.0/live/a'", "url: 'rtmp://127.0.0.1/live/b'"], "overlap"),
        ] {
            let error = sources(keys).expect_err(says);
            assert!(error.contains(says) && !error.contains("secret"), "{error}");
        }
    }
}

//! The section `mqtt`: as written, and as used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::check::{Result, seconds, secret_file, span, wrong};
use super::secret::Secret;
use super::value::{Size, Span};
use crate::control::mqtt::{Connection, Identity, Login, Proxy, Tls, Via, limits};
use crate::event::outbox::{self, Bounds};

/// What AWS IoT wants to hear on port 443 ("Protocols, port mappings, and authentication").
const ALPN: &str = "x-amzn-mqtt-ca";
/// Port of MQTT over TLS.
const TLS_PORT: u16 = 8883;
/// Longest user name or password: MQTT 3.1.1 §1.5.3.
const LOGIN_MOST: usize = 0xffff;
const MIB: u64 = 1 << 20;

/// The connection to an MQTT broker, such as AWS IoT Core.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    /// Host name of the broker. AWS IoT: what `aws iot describe-endpoint --endpoint-type iot:Data-ATS` prints. `greengrass`
    /// in a Greengrass component: its nucleus has the connection; keys about the connection itself are left out then.
    pub(crate) endpoint: String,
    /// Its port: 8883, or 443 where a firewall allows no other (AWS IoT then tells MQTT by ALPN). Default: 8883.
    pub(crate) port: Option<u16>,
    /// CA certificates (PEM) to trust. Default: the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// This device's certificate (PEM). Needs `private_key` too.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key (PEM). A key that others can read is refused.
    pub(crate) private_key: Option<PathBuf>,
    /// User name, for brokers that want one.
    pub(crate) username: Option<String>,
    /// File that holds the password.
    pub(crate) password_file: Option<PathBuf>,
    /// Client id, unique at the broker: two agents with one id would throw each other out. Default: the thing name.
    pub(crate) client_id: Option<String>,
    /// Longest silence before the connection is checked, 30s to 20m. Default: 1m.
    pub(crate) keep_alive: Option<Span>,
    /// HTTP proxy to go through, such as `http://proxy:3128`. User and password may be in it, percent-encoded; better
    /// in the key below.
    pub(crate) proxy: Option<String>,
    /// File that holds the proxy's password.
    pub(crate) proxy_password_file: Option<PathBuf>,
    /// First levels of our topics; `{thing}` is filled in. Default: `edgecam/{thing}`.
    pub(crate) topic_prefix: Option<String>,
    /// How often all is reported, besides at once when it changes: 10s to 1h. Default: 1m.
    pub(crate) heartbeat: Option<Span>,
    /// Announce cameras and switches to Home Assistant (MQTT discovery, below `homeassistant/`). Default: false.
    #[serde(default)]
    pub(crate) home_assistant: bool,
    /// Do AWS IoT jobs: restart, snapshot, config and upload, as far as `commands.iot` allows them. Default: false.
    #[serde(default)]
    pub(crate) jobs: bool,
    /// Name of the device shadow whose desired state is done and whose reported state is kept, such as `edgecam`.
    /// Default: none.
    pub(crate) shadow: Option<String>,
    /// Speak plain TCP, without TLS; only to a broker on this machine, for tests. Default: false.
    #[serde(default)]
    pub(crate) insecure_plain: bool,
    /// Reports and replies that wait for the broker.
    #[serde(default)]
    pub(crate) outbox: WrittenOutbox,
}

/// Reports and replies that wait for the broker. When there are too many, the oldest reports go first.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenOutbox {
    /// Whether they wait on disk, and survive a restart; otherwise in RAM. Default: true.
    pub(crate) enabled: Option<bool>,
    /// Where. Default: `<state_dir>/mqtt-outbox`.
    pub(crate) directory: Option<PathBuf>,
    /// Most bytes of them, 64 KiB to 1 GiB; files take up to three times as much for a short while. Default: 8 MiB on
    /// disk, 1 MiB in RAM.
    pub(crate) max_size: Option<Size>,
    /// Most messages, 100 to 1000000; each takes about 60 bytes of RAM. Default: 20000.
    pub(crate) max_messages: Option<usize>,
}

/// The connection to an MQTT broker, as used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mqtt {
    /// Where the broker is, and who we are.
    pub connection: Connection,
    /// First levels of our topics, without a slash at the end.
    pub topic_prefix: String,
    /// How often all is reported.
    pub heartbeat: Duration,
    /// Whether to announce cameras and switches to Home Assistant.
    pub home_assistant: bool,
    /// Whether to do AWS IoT jobs.
    pub jobs: bool,
    /// Name of the device shadow.
    pub shadow: Option<String>,
    /// Name of the thing, for AWS IoT's topics.
    pub thing: String,
}

pub(super) fn check(written: Written, thing: &str, state_dir: &Path) -> Result<Mqtt> {
    let via = via(&written)?;
    let host = host(&written.endpoint)?;
    let tls = tls(&written, &host)?;
    let client_id = written.client_id.unwrap_or_else(|| thing.to_owned());
    limits::client_id(&client_id).or_else(|error| wrong("mqtt.client_id", format_args!("`{client_id}`: {error}")))?;
    let login = match (written.username, written.password_file) {
        (Some(username), Some(path)) => Some(self::login("mqtt", username, secret_file("mqtt.password_file", &path)?)?),
        (Some(_), None) => return wrong("mqtt.username", "needs password_file too"),
        (None, Some(_)) => return wrong("mqtt.password_file", "a password without a username"),
        (None, None) => None,
    };
    let keep_alive = span("mqtt", "keep_alive", written.keep_alive, seconds(60), (seconds(30), seconds(1200)))?;
    Ok(Mqtt {
        heartbeat: span("mqtt", "heartbeat", written.heartbeat, seconds(60), (seconds(10), seconds(3600)))?,
        home_assistant: written.home_assistant,
        jobs: written.jobs,
        shadow: shadow(written.shadow)?,
        thing: thing.to_owned(),
        topic_prefix: topic_prefix(written.topic_prefix.as_deref().unwrap_or("edgecam/{thing}"), thing)?,
        connection: Connection {
            via,
            port: written.port.unwrap_or(if tls.is_some() { TLS_PORT } else { 1883 }),
            host,
            tls,
            client_id,
            login,
            keep_alive: Duration::from_secs(keep_alive.as_secs()),
            proxy: proxy(written.proxy.as_deref(), written.proxy_password_file.as_deref(), written.insecure_plain)?,
            outbox: outbox(written.outbox, state_dir)?,
        },
    })
}

/// What the nucleus stands for.
const NUCLEUS: &str = "greengrass";

fn via(written: &Written) -> Result<Via> {
    if written.endpoint != NUCLEUS {
        return Ok(Via::Broker);
    }
    let keys = [
        ("port", written.port.is_some()),
        ("ca_file", written.ca_file.is_some()),
        ("certificate", written.certificate.is_some()),
        ("private_key", written.private_key.is_some()),
        ("username", written.username.is_some()),
        ("password_file", written.password_file.is_some()),
        ("client_id", written.client_id.is_some()),
        ("keep_alive", written.keep_alive.is_some()),
        ("proxy", written.proxy.is_some()),
        ("insecure_plain", written.insecure_plain),
    ];
    match keys.iter().find(|(_, is_given)| *is_given) {
        Some((key, _)) => wrong(&format!("mqtt.{key}"), "the nucleus has the connection: leave it out"),
        None => Ok(Via::Nucleus),
    }
}

/// "Device Shadow" limits: 64 bytes of letters, digits, `-`, `_` and `:`.
fn shadow(name: Option<String>) -> Result<Option<String>> {
    let is_legal = |name: &str| {
        (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_:".contains(c))
    };
    match name {
        Some(name) if !is_legal(&name) => {
            wrong("mqtt.shadow", format_args!("`{name}` is not 1 to 64 letters, digits, `-`, `_` or `:`"))
        }
        name => Ok(name),
    }
}

/// People paste URLs: what to write instead is said.
fn host(endpoint: &str) -> Result<String> {
    let bare = endpoint.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(endpoint);
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    let is_address = bare.parse::<std::net::Ipv6Addr>().is_ok();
    if bare.is_empty() || !bare.chars().all(is_legal) || (bare.contains(':') && !is_address) {
        let message = format!("`{endpoint}` is not a host name: write it without scheme and path, the port in `port`");
        return wrong("mqtt.endpoint", message);
    }
    Ok(bare.to_owned())
}

fn tls(written: &Written, host: &str) -> Result<Option<Tls>> {
    let identity = match (&written.certificate, &written.private_key) {
        (Some(certificate), Some(private_key)) => {
            Some(Identity { certificate: certificate.clone(), private_key: private_key.clone() })
        }
        (None, None) => None,
        (Some(_), None) => return wrong("mqtt.certificate", "needs private_key too"),
        (None, Some(_)) => return wrong("mqtt.private_key", "needs certificate too"),
    };
    if written.insecure_plain {
        let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !is_here {
            return wrong("mqtt.insecure_plain", format_args!("`{host}` is not this machine: only TLS goes there"));
        }
        if identity.is_some() || written.ca_file.is_some() {
            return wrong("mqtt.insecure_plain", "certificates are for TLS: leave one of them out");
        }
        return Ok(None);
    }
    if host.ends_with(".amazonaws.com") && identity.is_none() {
        return wrong("mqtt", "AWS IoT wants a certificate: set certificate and private_key");
    }
    let alpn = (written.port == Some(443)).then_some(ALPN);
    Ok(Some(Tls { ca_file: written.ca_file.clone(), identity, alpn }))
}

fn login(key: &str, username: String, password: Secret) -> Result<Login> {
    if username.len() > LOGIN_MOST || password.expose().len() > LOGIN_MOST {
        return wrong(key, format_args!("user name and password have at most {LOGIN_MOST} bytes"));
    }
    Ok(Login { username, password })
}

fn proxy(url: Option<&str>, password_file: Option<&Path>, is_plain: bool) -> Result<Option<Proxy>> {
    let Some(text) = url else {
        return if password_file.is_some() { wrong("mqtt.proxy_password_file", "there is no proxy") } else { Ok(None) };
    };
    if is_plain {
        return wrong("mqtt.proxy", "a broker on this machine needs none");
    }
    // The text itself may hold a password: it is not repeated in the message.
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.host_str().is_some());
    let Some(url) = url else { return wrong("mqtt.proxy", "is not a URL such as http://proxy:3128") };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let username = super::access::percent_decode(url.username());
    let password = match password_file {
        Some(path) => Some(secret_file("mqtt.proxy_password_file", path)?),
        None => url.password().map(|password| Secret::new(super::access::percent_decode(password))),
    };
    let login = match (username.is_empty(), password) {
        (true, Some(_)) => return wrong("mqtt.proxy", "a password without a user name"),
        (true, None) => None,
        (false, password) => Some(login("mqtt.proxy", username, password.unwrap_or_else(|| Secret::new("")))?),
    };
    Ok(Some(Proxy { host, port: url.port().unwrap_or(80), login }))
}

fn topic_prefix(template: &str, thing: &str) -> Result<String> {
    let prefix = template.replace("{thing}", thing);
    if let Some(rest) = template.replace("{thing}", "").split_once('{') {
        let key = rest.1.split('}').next().unwrap_or_default();
        return wrong("mqtt.topic_prefix", format_args!("`{{{key}}}` is not known; known is {{thing}}"));
    }
    let prefix = prefix.trim_end_matches('/').to_owned();
    if let Err(error) = limits::topic(&prefix) {
        return wrong("mqtt.topic_prefix", format_args!("`{prefix}`: {error}"));
    }
    if prefix.starts_with('$') || prefix.starts_with('/') || prefix.contains("//") {
        return wrong("mqtt.topic_prefix", format_args!("`{prefix}` begins with `$` or has an empty level"));
    }
    Ok(prefix)
}

fn outbox(written: WrittenOutbox, state_dir: &Path) -> Result<outbox::Settings> {
    let is_on_disk = written.enabled.unwrap_or(true);
    let bytes = written.max_size.map_or(if is_on_disk { 8 * MIB } else { MIB }, |size| size.0);
    if !(64 << 10..=1 << 30).contains(&bytes) {
        return wrong("mqtt.outbox.max_size", "must be 64 KiB to 1 GiB");
    }
    let entries = written.max_messages.unwrap_or(20_000);
    if !(100..=1_000_000).contains(&entries) {
        return wrong("mqtt.outbox.max_messages", "must be 100 to 1000000");
    }
    if !is_on_disk && written.directory.is_some() {
        return wrong("mqtt.outbox.directory", "is for an outbox on disk, which is not enabled");
    }
    let directory = is_on_disk.then(|| written.directory.unwrap_or_else(|| state_dir.join("mqtt-outbox")));
    Ok(outbox::Settings { directory, bounds: Bounds { bytes, entries } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn parsed(keys: &str) -> std::result::Result<Mqtt, String> {
        let config = parse(&format!("thing: gw\nstate_dir: /var/lib/edgecam\nmqtt: {{endpoint: broker, {keys}}}\n"));
        config.map_err(|error| error.to_string()).and_then(|config| config.mqtt.ok_or_else(|| "no mqtt".to_owned()))
    }

    #[test]
    fn defaults() {
        assert_eq!(parse("thing: gw\n").map(|config| config.mqtt).map_err(|error| error.to_string()), Ok(None));
        let mqtt = parsed("").expect("valid");
        let Connection { host, port, tls, client_id, keep_alive, proxy, outbox, login, via } = mqtt.connection;
        assert_eq!(via, Via::Broker);
        assert_eq!((host.as_str(), port, client_id.as_str(), proxy, login), ("broker", 8883, "gw", None, None));
        assert_eq!((tls, keep_alive), (Some(Tls { ca_file: None, identity: None, alpn: None }), seconds(60)));
        assert_eq!(outbox.directory.as_deref(), Some(Path::new("/var/lib/edgecam/mqtt-outbox")));
        assert_eq!(outbox.bounds, Bounds { bytes: 8 << 20, entries: 20_000 });
        assert_eq!(mqtt.topic_prefix, "edgecam/gw");
    }

    #[test]
    fn what_is_written_is_used() {
        let mqtt =
            parsed("port: 443, certificate: /c, private_key: /k, client_id: cam7, keep_alive: 1200s").expect("ok");
        let identity = Identity { certificate: "/c".into(), private_key: "/k".into() };
        let expected = Tls { ca_file: None, identity: Some(identity), alpn: Some("x-amzn-mqtt-ca") };
        assert_eq!(mqtt.connection.tls, Some(expected));
        let mqtt = parsed("proxy: 'http://u:s%23t@[::1]:3128', topic_prefix: 'site/{thing}/'").expect("ok");
        let login = Login { username: "u".to_owned(), password: Secret::new("s#t") };
        assert_eq!(mqtt.connection.proxy, Some(Proxy { host: "::1".to_owned(), port: 3128, login: Some(login) }));
        assert_eq!(mqtt.topic_prefix, "site/gw");
        let plain = parse("mqtt: {endpoint: 127.0.0.1, insecure_plain: true, outbox: {enabled: false}}\n");
        let plain = plain.ok().and_then(|config| config.mqtt).expect("ok").connection;
        assert_eq!((plain.tls, plain.port, plain.outbox.directory), (None, 1883, None));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (keys, part) in [
            ("keep_alive: 10s", "mqtt.keep_alive: must be 30s to 20m"),
            ("certificate: /c", "mqtt.certificate: needs private_key"),
            ("private_key: /k", "mqtt.private_key: needs certificate"),
            ("insecure_plain: true", "mqtt.insecure_plain: `broker` is not this machine"),
            ("client_id: ''", "mqtt.client_id"),
            ("username: u", "mqtt.username: needs password_file"),
            ("proxy: 'socks5://secret@proxy'", "mqtt.proxy: is not a URL such as http://"),
            ("proxy_password_file: /p", "mqtt.proxy_password_file: there is no proxy"),
            ("topic_prefix: 'a/b/c/d/e/f/g/h/i'", "mqtt.topic_prefix: `a/b/c/d/e/f/g/h/i`: 8 slashes"),
            ("topic_prefix: 'a/{camera}'", "`{camera}` is not known"),
            ("topic_prefix: 'a/+'", "wildcard"),
            ("topic_prefix: '$aws/things/x'", "mqtt.topic_prefix"),
            ("outbox: {max_size: 1 KiB}", "mqtt.outbox.max_size: must be 64 KiB"),
            ("outbox: {max_messages: 1}", "mqtt.outbox.max_messages"),
            ("outbox: {enabled: false, directory: /x}", "mqtt.outbox.directory"),
            ("keep_alife: 60s", "did you mean `keep_alive`"),
        ] {
            let message = parsed(keys).expect_err(keys);
            assert!(message.contains(part) && !message.contains("secret"), "{keys}: {message}");
        }
        for endpoint in ["https://x", "x:8883", "x/y", "''"] {
            let message =
                parse(&format!("mqtt: {{endpoint: '{endpoint}'}}\n").replace("'''", "'")).expect_err(endpoint);
            assert!(message.to_string().contains("mqtt.endpoint"), "{message}");
        }
        let nucleus = |keys: &str| parse(&format!("mqtt: {{endpoint: greengrass{keys}}}\n"));
        let via = nucleus("").ok().and_then(|config| config.mqtt).map(|mqtt| mqtt.connection.via);
        assert_eq!(via, Some(Via::Nucleus));
        assert!(nucleus(", port: 443").expect_err("a port").to_string().contains("mqtt.port: the nucleus has"));
        let aws = parse("mqtt: {endpoint: a-ats.iot.eu-west-1.amazonaws.com}\n").expect_err("no certificate");
        assert!(aws.to_string().contains("certificate and private_key"));
    }
}

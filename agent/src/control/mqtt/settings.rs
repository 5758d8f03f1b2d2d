//! What a connection needs to know.

use std::path::PathBuf;
use std::time::Duration;

use super::message::Message;
use crate::config::secret::Secret;
use crate::event::outbox;
use crate::host::certificate::Identity;

/// Everything about one client of one broker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the broker is, and who we are.
    pub connection: Connection,
    /// What the broker publishes when we vanish.
    pub last_will: Option<Message>,
    /// Topic filters to subscribe to, with QoS 1.
    pub subscriptions: Vec<String>,
}

/// Who has the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Via {
    /// We have.
    #[default]
    Broker,
    /// The nucleus of Greengrass: we have its IPC.
    Nucleus,
}

/// Where the broker is, and who we are: what the config decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// Who has the connection; all but `outbox` is for one of our own.
    pub via: Via,
    /// Host of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS; `None` is plain TCP, which the config allows on loopback alone.
    pub tls: Option<Tls>,
    /// Client id, unique at the broker: 1 to 128 bytes.
    pub client_id: String,
    /// User name and password, for brokers that want them.
    pub login: Option<Login>,
    /// Longest silence from our side: 30 s to 20 min.
    pub keep_alive: Duration,
    /// HTTP proxy to go through.
    pub proxy: Option<Proxy>,
    /// What waits for the broker.
    pub outbox: outbox::Settings,
}

/// How TLS is done. The files are read anew for each connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// CA certificates (PEM) to trust; `None` for the system's.
    pub ca_file: Option<PathBuf>,
    /// Who we are.
    pub identity: Option<Identity>,
    /// Protocol to ask for (RFC 7301): AWS IoT wants `x-amzn-mqtt-ca` on port 443.
    pub alpn: Option<&'static str>,
}

/// User name and password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// An HTTP proxy that is asked with CONNECT (RFC 9110 §9.3.6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proxy {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it wants to know, with basic authentication.
    pub login: Option<Login>,
}

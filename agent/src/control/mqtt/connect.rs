//! From nothing to a stream to the broker: TCP, proxy, TLS; and what a CONNACK means.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::proxy;
use super::settings::Connection;
use super::status::Reason;
use crate::host::certificate::Loaded;
use crate::host::mutual_tls::{self, FailureKind, Manner, STEP_TIMEOUT, Server};
use crate::upload::Network;

/// Bytes both ways: TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// For a person.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl From<mutual_tls::Failure> for Failure {
    fn from(failure: mutual_tls::Failure) -> Self {
        let reason = match failure.kind {
            FailureKind::Unreachable => Reason::Network,
            FailureKind::Untrusted => Reason::Tls,
            FailureKind::Identity => Reason::Identity,
        };
        Self::new(reason, failure.message)
    }
}

fn broker(connection: &Connection) -> Server<'_> {
    Server { who: "the broker", host: &connection.host, port: connection.port, section: "mqtt" }
}

/// Reads our certificate and key. First of all: what is wrong with them is said even when there is no network.
pub(super) async fn identity(connection: &Connection) -> Result<Option<Loaded>, Failure> {
    match connection.tls.as_ref().and_then(|tls| tls.identity.as_ref()) {
        Some(identity) => Ok(Some(mutual_tls::identity(identity).await?)),
        None => Ok(None),
    }
}

/// Connects.
pub(super) async fn open(
    connection: &Connection,
    identity: Option<Loaded>,
    network: &Network,
) -> Result<Box<dyn Stream>, Failure> {
    let Some(tls) = &connection.tls else { return plain(connection, network).await };
    let tcp = match &connection.proxy {
        Some(proxy) => {
            let server = Server { who: "the proxy", host: &proxy.host, port: proxy.port, section: "mqtt" };
            let mut tcp = mutual_tls::tcp(server, network, |_| Ok(())).await?;
            let asked = timeout(STEP_TIMEOUT, proxy::connect(&mut tcp, proxy, &connection.host, connection.port)).await;
            asked.unwrap_or_else(|_| Err(mutual_tls::late("the proxy's answer"))).map_err(|message| {
                Failure::new(Reason::Network, format!("proxy {}:{}: {message}", proxy.host, proxy.port))
            })?;
            tcp
        }
        None => mutual_tls::tcp(broker(connection), network, |_| Ok(())).await?,
    };
    let manner = Manner { ca_file: tls.ca_file.clone(), identity, alpn: tls.alpn };
    Ok(Box::new(mutual_tls::tls(broker(connection), tcp, manner).await?))
}

/// The config allows it on this machine alone, and so do we whatever the name means today.
async fn plain(connection: &Connection, network: &Network) -> Result<Box<dyn Stream>, Failure> {
    let only_here = |address: std::net::SocketAddr| match address.ip().is_loopback() {
        true => Ok(()),
        false => Err(format!("{} is {}, not this machine: only TLS goes there", connection.host, address.ip())),
    };
    Ok(Box::new(mutual_tls::tcp(broker(connection), network, only_here).await?))
}

/// What TLS found wrong, if that is what `error` is about.
pub(super) fn untrusted(error: &io::Error, connection: &Connection) -> Option<Failure> {
    mutual_tls::untrusted(error, broker(connection)).map(Failure::from)
}

/// What a CONNACK's code means (MQTT 3.1.1 §3.2.2.3, and AWS IoT's own).
pub(super) fn refused(code: u8, client_id: &str) -> Failure {
    let message = match code {
        1 => "the broker does not speak MQTT 3.1.1".to_owned(),
        2 => format!("the broker does not accept the client id `{client_id}`"),
        3 => "the broker is there, but not ready".to_owned(),
        4 => "the broker does not accept our user name and password".to_owned(),
        5 | 7 => {
            format!("the broker does not allow the client `{client_id}` to connect: look at its policy (iot:Connect)")
        }
        other => format!("the broker refuses the connection with code {other}"),
    };
    Failure::new(if code == 3 { Reason::Network } else { Reason::Refused }, message)
}

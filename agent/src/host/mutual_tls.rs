//! TLS to a server that wants to know who we are: each step with a deadline, each failure in plain words.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgecam_media::Timestamp;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error as TlsError};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::{Identity, Loaded, date};
use crate::upload::Network;
use crate::upload::tls::trusting;

/// For each step: one address, TLS, an answer. What is wrong is said within 5 s.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(4);
/// The kernel gives a connection up whose data is not acknowledged for this long.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Whom to connect to, and what a person calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server<'a> {
    /// Such as "the broker".
    pub(crate) who: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// Section of the config with the keys `ca_file` and `certificate`.
    pub(crate) section: &'a str,
}

/// How TLS is done.
#[derive(Debug)]
pub(crate) struct Manner {
    /// CA certificates (PEM) to trust; `None` for the usual ones.
    pub(crate) ca_file: Option<PathBuf>,
    /// Who we are.
    pub(crate) identity: Option<Loaded>,
    /// Protocol to ask for (RFC 7301).
    pub(crate) alpn: Option<&'static str>,
}

/// Kinds of failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FailureKind {
    /// No connection, or it broke.
    Unreachable,
    /// One side does not trust the other's certificate.
    Untrusted,
    /// Our certificate or key cannot be used as it is on disk.
    Identity,
}

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// For a person.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Reads our certificate and key, anew for each connection: they may have been replaced.
pub(crate) async fn identity(identity: &Identity) -> Result<Loaded, Failure> {
    let identity = identity.clone();
    let loaded = spawn_blocking(move || identity.load()).await;
    let loaded = loaded.unwrap_or_else(|error| Err(error.to_string()));
    loaded.map_err(|message| Failure::new(FailureKind::Identity, message))
}

/// A TCP connection to the first address that takes one.
pub(crate) async fn tcp(
    server: Server<'_>,
    network: &Network,
    is_allowed: impl Fn(SocketAddr) -> Result<(), String>,
) -> Result<TcpStream, Failure> {
    let Server { who, host, port, .. } = server;
    let unreachable =
        |message: String| Failure::new(FailureKind::Unreachable, format!("{who} cannot be reached: {message}"));
    let addresses = network.resolve(host, port).await.map_err(|fault| unreachable(fault.message))?;
    let mut last = format!("{host} has no address");
    for address in addresses {
        if let Err(message) = is_allowed(address) {
            last = message;
            continue;
        }
        match timeout(STEP_TIMEOUT, connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = format!("{host}:{port} ({address}): {error}"),
            Err(_) => last = late(&format!("connecting to {host}:{port} ({address})")),
        }
    }
    Err(unreachable(last))
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(stream)
}

/// TLS over a connection.
pub(crate) async fn tls(server: Server<'_>, tcp: TcpStream, manner: Manner) -> Result<TlsStream<TcpStream>, Failure> {
    let Server { host, port, .. } = server;
    let config = spawn_blocking(move || client_config(manner)).await;
    let config = config.unwrap_or_else(|error| Err(Failure::new(FailureKind::Untrusted, error.to_string())))?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::new(FailureKind::Untrusted, format!("`{host}` is not a host name")))?;
    match timeout(STEP_TIMEOUT, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(untrusted(&error, server).unwrap_or_else(|| {
            Failure::new(FailureKind::Unreachable, format!("TLS with {host}:{port} failed: {error}"))
        })),
        Err(_) => Err(Failure::new(FailureKind::Unreachable, late(&format!("the TLS handshake with {host}:{port}")))),
    }
}

/// Something took longer than one step may.
pub(crate) fn late(what: &str) -> String {
    format!("{what} took longer than {} s", STEP_TIMEOUT.as_secs())
}

fn client_config(manner: Manner) -> Result<ClientConfig, Failure> {
    let trusting =
        trusting(manner.ca_file.as_deref()).map_err(|message| Failure::new(FailureKind::Untrusted, message))?;
    let mut config = match manner.identity {
        Some(Loaded { chain, key, .. }) => trusting.with_client_auth_cert(chain, key).map_err(|error| {
            let message = match error {
                TlsError::InconsistentKeys(_) => "the private key does not belong to the certificate".to_owned(),
                other => format!("our certificate and key cannot be used: {other}"),
            };
            Failure::new(FailureKind::Identity, message)
        })?,
        None => trusting.with_no_client_auth(),
    };
    config.alpn_protocols.extend(manner.alpn.map(|protocol| protocol.as_bytes().to_vec()));
    Ok(config)
}

/// What TLS found wrong, if that is what `error` is about. With TLS 1.3 a server says what it thinks of our certificate
/// only when the handshake is over for us: reads fail then.
pub(crate) fn untrusted(error: &io::Error, server: Server<'_>) -> Option<Failure> {
    let error = error.get_ref()?.downcast_ref::<TlsError>()?;
    let message = match error {
        TlsError::InvalidCertificate(error) => theirs(error, server),
        TlsError::AlertReceived(alert) => ours(*alert, server)?,
        other => format!("TLS with {} failed: {other}", server.host),
    };
    Some(Failure::new(FailureKind::Untrusted, message))
}

/// What is wrong with the server's certificate.
fn theirs(error: &CertificateError, server: Server<'_>) -> String {
    let Server { who, host, section, .. } = server;
    let date = |seconds: u64| date(Timestamp::from_unix(Duration::from_secs(seconds)));
    match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate of {who} expired on {}; here it is {}",
            date(not_after.as_secs()),
            date(time.as_secs())
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate of {who} is valid from {} on; here it is {}: set the clock",
            date(not_before.as_secs()),
            date(time.as_secs())
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| name_in(name)).collect();
            format!("the certificate of {who} is for {}, not for {host}", names.join(", "))
        }
        CertificateError::UnknownIssuer => {
            format!("the certificate of {who} was not issued by a CA that is trusted here: see {section}.ca_file")
        }
        other => format!("the certificate of {who} is not accepted: {other}"),
    }
}

/// rustls writes names as `DnsName("example.org")`.
fn name_in(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

/// What is wrong with our certificate, as the server says it.
fn ours(alert: AlertDescription, server: Server<'_>) -> Option<String> {
    let Server { who, section, .. } = server;
    let what = match alert {
        AlertDescription::UnknownCA => "was issued by a CA it does not trust".to_owned(),
        AlertDescription::CertificateExpired => "has expired, by its clock".to_owned(),
        AlertDescription::CertificateRevoked => "has been revoked".to_owned(),
        AlertDescription::CertificateRequired => format!("is missing: see {section}.certificate"),
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => "is not accepted".to_owned(),
        AlertDescription::HandshakeFailure => "or every cipher we know is not accepted".to_owned(),
        AlertDescription::NoApplicationProtocol => return Some(format!("{who} does not speak MQTT on this port")),
        AlertDescription::CloseNotify => return None,
        other => return Some(format!("{who} broke TLS off: {other:?}")),
    };
    Some(format!("{who} says that our certificate {what}"))
}

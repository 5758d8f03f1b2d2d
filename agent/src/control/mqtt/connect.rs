//! From nothing to a stream to the broker: TCP, proxy, TLS; each step with a deadline, each failure in plain words.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use edgecam_media::Timestamp;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error as TlsError};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::proxy;
use super::settings::{Connection, Tls};
use super::status::Reason;
use crate::host::certificate::Loaded;
use crate::upload::Network;
use crate::upload::tls::trusting;

/// For each step: one address, proxy, TLS, CONNACK. What is wrong is said within 5 s.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(4);
/// The kernel gives a connection up whose data is not acknowledged for this long.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

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

/// Reads our certificate and key. First of all: what is wrong with them is said even when there is no network.
pub(super) async fn identity(connection: &Connection) -> Result<Option<Loaded>, Failure> {
    let Some(identity) = connection.tls.as_ref().and_then(|tls| tls.identity.clone()) else { return Ok(None) };
    let loaded = spawn_blocking(move || identity.load()).await;
    let loaded = loaded.unwrap_or_else(|error| Err(error.to_string()));
    loaded.map(Some).map_err(|message| Failure::new(Reason::Identity, message))
}

/// Connects.
pub(super) async fn open(
    connection: &Connection,
    identity: Option<Loaded>,
    network: &Network,
) -> Result<Box<dyn Stream>, Failure> {
    let broker = format!("{}:{}", connection.host, connection.port);
    let tcp = match &connection.proxy {
        Some(proxy) => {
            let mut tcp = tcp(&proxy.host, proxy.port, "the proxy", network, false).await?;
            let asked = timeout(STEP_TIMEOUT, proxy::connect(&mut tcp, proxy, &connection.host, connection.port)).await;
            asked.unwrap_or_else(|_| Err(late("the proxy's answer"))).map_err(|message| {
                Failure::new(Reason::Network, format!("proxy {}:{}: {message}", proxy.host, proxy.port))
            })?;
            tcp
        }
        None => tcp(&connection.host, connection.port, "the broker", network, connection.tls.is_none()).await?,
    };
    let Some(tls) = &connection.tls else { return Ok(Box::new(tcp)) };
    let tls = tls.clone();
    let config = spawn_blocking(move || client_config(&tls, identity)).await;
    let config = config.unwrap_or_else(|error| Err(Failure::new(Reason::Tls, error.to_string())))?;
    let name = ServerName::try_from(connection.host.clone())
        .map_err(|_| Failure::new(Reason::Tls, format!("`{}` is not a host name", connection.host)))?;
    match timeout(STEP_TIMEOUT, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(untrusted(&error, &connection.host)
            .unwrap_or_else(|| Failure::new(Reason::Network, format!("TLS with {broker} failed: {error}")))),
        Err(_) => Err(Failure::new(Reason::Network, late(&format!("the TLS handshake with {broker}")))),
    }
}

fn late(what: &str) -> String {
    format!("{what} took longer than {} s", STEP_TIMEOUT.as_secs())
}

async fn tcp(host: &str, port: u16, who: &str, network: &Network, only_loopback: bool) -> Result<TcpStream, Failure> {
    let unreachable = |message: String| Failure::new(Reason::Network, format!("{who} cannot be reached: {message}"));
    let addresses = network.resolve(host, port).await.map_err(|fault| unreachable(fault.message))?;
    let mut last = unreachable(format!("{host} has no address"));
    for address in addresses {
        if only_loopback && !address.ip().is_loopback() {
            let message = format!("{host} is {}, not this machine: only TLS goes there", address.ip());
            last = Failure::new(Reason::Refused, message);
            continue;
        }
        match timeout(STEP_TIMEOUT, connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = unreachable(format!("{host}:{port} ({address}): {error}")),
            Err(_) => last = unreachable(late(&format!("connecting to {host}:{port} ({address})"))),
        }
    }
    Err(last)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(stream)
}

fn client_config(tls: &Tls, identity: Option<Loaded>) -> Result<ClientConfig, Failure> {
    let trusting = trusting(tls.ca_file.as_deref()).map_err(|message| Failure::new(Reason::Tls, message))?;
    let mut config = match identity {
        Some(Loaded { chain, key, .. }) => trusting.with_client_auth_cert(chain, key).map_err(|error| {
            let message = match error {
                TlsError::InconsistentKeys(_) => "the private key does not belong to the certificate".to_owned(),
                other => format!("our certificate and key cannot be used: {other}"),
            };
            Failure::new(Reason::Identity, message)
        })?,
        None => trusting.with_no_client_auth(),
    };
    config.alpn_protocols.extend(tls.alpn.map(|protocol| protocol.as_bytes().to_vec()));
    Ok(config)
}

/// What TLS found wrong, if that is what `error` is about.
pub(super) fn untrusted(error: &io::Error, host: &str) -> Option<Failure> {
    let error = error.get_ref()?.downcast_ref::<TlsError>()?;
    let message = match error {
        TlsError::InvalidCertificate(error) => theirs(error, host),
        TlsError::AlertReceived(alert) => ours(*alert)?,
        other => format!("TLS with {host} failed: {other}"),
    };
    Some(Failure::new(Reason::Tls, message))
}

/// What is wrong with the broker's certificate.
fn theirs(error: &CertificateError, host: &str) -> String {
    let date = |seconds: u64| crate::host::certificate::date(Timestamp::from_unix(Duration::from_secs(seconds)));
    match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the broker's certificate expired on {}; here it is {}",
            date(not_after.as_secs()),
            date(time.as_secs())
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the broker's certificate is valid from {} on; here it is {}: set the clock",
            date(not_before.as_secs()),
            date(time.as_secs())
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| name_in(name)).collect();
            format!("the broker's certificate is for {}, not for {host}", names.join(", "))
        }
        CertificateError::UnknownIssuer => {
            format!("the certificate of {host} was not issued by a CA that is trusted here: see mqtt.ca_file")
        }
        other => format!("the broker's certificate is not accepted: {other}"),
    }
}

/// rustls writes names as `DnsName("example.org")`.
fn name_in(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

/// What is wrong with our certificate, as the broker says it.
fn ours(alert: AlertDescription) -> Option<String> {
    let what = match alert {
        AlertDescription::UnknownCA => "was issued by a CA it does not trust",
        AlertDescription::CertificateExpired => "has expired, by its clock",
        AlertDescription::CertificateRevoked => "has been revoked",
        AlertDescription::CertificateRequired => "is missing: see mqtt.certificate",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => "is not accepted",
        AlertDescription::HandshakeFailure => "or every cipher we know is not accepted",
        AlertDescription::NoApplicationProtocol => {
            return Some("the broker does not speak MQTT on this port".to_owned());
        }
        AlertDescription::CloseNotify => return None,
        other => return Some(format!("the broker broke TLS off: {other:?}")),
    };
    Some(format!("the broker says that our certificate {what}"))
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

//! `rtsps`: the RTSP library speaks plain TCP, so it is given a listener on loopback whose other end is the camera's
//! TLS connection.
//!
//! Invariants: the TLS connection stands before the listener exists; the listener takes exactly one connection; both
//! end with the attempt. User name and password go through the tunnel only in the RTSP messages themselves.
//!
//! Deliberately absent: UDP, which would travel beside the tunnel and in the clear.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::warn;
use url::Url;

use super::endpoint::{Endpoint, Step};
use crate::capture::CaptureError;
use crate::config::source::Rtsp;
use crate::host::device_tls::{client_config, handshake_failure};

/// From the camera at once: a TLS record holds up to 16 KiB.
const FROM_CAMERA: usize = 64 << 10;
/// To the camera go only requests.
const TO_CAMERA: usize = 4 << 10;

/// A TLS connection to a camera, and where to reach it.
pub(super) struct Tunnel {
    listener: TcpListener,
    camera: TlsStream<TcpStream>,
    url: Url,
}

impl Tunnel {
    /// Connects. Connecting and the handshake each have `setup_timeout`.
    pub(super) async fn open(settings: &Rtsp, endpoint: &Endpoint) -> Result<Self, CaptureError> {
        let untrusting = |reason: String| CaptureError::Unreachable(format!("{endpoint}: {reason}"));
        let (ca_file, insecure) = (settings.ca_file.clone(), settings.insecure);
        if insecure {
            warn!(camera = %endpoint, "'insecure' is set: the camera's certificate is not checked");
        }
        let config = spawn_blocking(move || client_config(ca_file.as_deref(), insecure)).await;
        let config = config.map_err(|error| untrusting(error.to_string()))?.map_err(untrusting)?;
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| untrusting(error.to_string()))?;

        let connect = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        let tcp = timeout(settings.setup_timeout, connect)
            .await
            .map_err(|_| endpoint.silent_host(Some(settings.setup_timeout)))?
            .map_err(|error| endpoint.unconnected(&error))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let camera = timeout(settings.setup_timeout, handshake)
            .await
            .map_err(|_| endpoint.silent_server(Step::Describe, settings.setup_timeout))?
            .map_err(|error| untrusting(handshake_failure(&error)))?;

        let no_loopback = |error: io::Error| untrusting(format!("no listener on loopback: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(no_loopback)?;
        let port = listener.local_addr().map_err(no_loopback)?.port();
        let url = through(&settings.url, port).ok_or_else(|| untrusting("its URL cannot be tunnelled".to_owned()))?;
        Ok(Self { listener, camera, url })
    }

    /// The URL to ask for instead of the camera's own.
    pub(super) fn url(&self) -> Url {
        self.url.clone()
    }

    /// Carries the one connection until either side closes it.
    pub(super) async fn carry(self) -> io::Result<()> {
        let Self { listener, mut camera, .. } = self;
        let (mut local, _) = listener.accept().await?;
        drop(listener);
        copy_bidirectional_with_sizes(&mut local, &mut camera, TO_CAMERA, FROM_CAMERA).await?;
        Ok(())
    }
}

/// The same path and query, on a port of loopback.
fn through(url: &Url, port: u16) -> Option<Url> {
    let mut url = url.clone();
    url.set_scheme("rtsp").ok()?;
    url.set_host(Some("127.0.0.1")).ok()?;
    url.set_port(Some(port)).ok()?;
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_rewritten() {
        for (url, expected) in [
            ("rtsps://cam.local:7441/token?enableSrtp", "rtsp://127.0.0.1:4711/token?enableSrtp"),
            ("rtsps://10.0.0.5/", "rtsp://127.0.0.1:4711/"),
            ("rtsps://[fe80::1]/a/b", "rtsp://127.0.0.1:4711/a/b"),
        ] {
            let tunnelled = through(&Url::parse(url).expect("a URL"), 4711).expect("rewritten");
            assert_eq!(tunnelled.as_str(), expected);
        }
    }
}

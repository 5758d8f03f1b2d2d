//! One connection: TCP or TLS, and the future that moves its bytes.
//!
//! The library gives that future to whoever spawns tasks. Here it is polled beside whatever waits for the connection,
//! so that it ends with its owner.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::Settings;
use super::error::{HttpError, Peer};
use crate::host::device_tls::handshake_failure;

/// The head of an answer, and what is read at once of its body.
const BUFFER: usize = 64 << 10;
/// Addresses of a name that are tried.
const ADDRESSES: usize = 8;
/// Lines in the head of an answer.
const HEADERS: usize = 64;

type Io = TokioIo<Either<TcpStream, Box<TlsStream<TcpStream>>>>;
type Driver = Pin<Box<http1::Connection<Io, Full<Bytes>>>>;

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Option<Driver>,
    pub(super) peer: Peer,
}

impl Connection {
    /// Connects to `peer`; with `tls`, by TLS.
    pub(super) async fn open(
        peer: &Peer,
        tls: Option<Arc<ClientConfig>>,
        settings: &Settings,
    ) -> Result<Self, HttpError> {
        let limit = settings.connect_timeout;
        let deadline = Instant::now() + limit;
        let addresses: Vec<_> = timeout_at(deadline, lookup_host((peer.host.as_str(), peer.port)))
            .await
            .map_err(|_| peer.unresolved(&io::ErrorKind::TimedOut.into()))?
            .map_err(|error| peer.unresolved(&error))?
            .take(ADDRESSES)
            .collect();
        let tcp = connect(&addresses, peer, deadline, limit).await?;
        // A request is one write. That this fails would only cost time.
        tcp.set_nodelay(true).ok();
        let io = match tls {
            None => Either::Left(tcp),
            Some(config) => {
                let untrusting = |reason: String| HttpError::unreachable(format!("{peer}: {reason}"));
                let name = ServerName::try_from(peer.host.clone()).map_err(|error| untrusting(error.to_string()))?;
                let handshake = TlsConnector::from(config).connect(name, tcp);
                let tls = timeout_at(deadline, handshake)
                    .await
                    .map_err(|_| peer.silent("finish the TLS handshake", limit))?
                    .map_err(|error| untrusting(handshake_failure(&error)))?;
                Either::Right(Box::new(tls))
            }
        };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER).max_headers(HEADERS).title_case_headers(true);
        // Devices write what they like.
        builder.allow_spaces_after_header_name_in_responses(true).ignore_invalid_headers_in_responses(true);
        let (sender, driver) = builder.handshake(TokioIo::new(io)).await.map_err(|error| peer.broke(&error))?;
        Ok(Self { sender, driver: Some(Box::pin(driver)), peer: peer.clone() })
    }

    /// Whether a request may be sent on it. Notices that the other side has closed it.
    pub(super) async fn is_ready(&mut self) -> bool {
        let Self { sender, driver, .. } = self;
        drive(driver, sender.ready()).await.is_ok() && driver.is_some()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: hyper::Request<Full<Bytes>>,
    ) -> Result<hyper::Response<Incoming>, hyper::Error> {
        let Self { sender, driver, .. } = self;
        drive(driver, sender.send_request(request)).await
    }

    /// The next piece of a body; `None` at its end.
    pub(super) async fn frame(&mut self, body: &mut Incoming) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        drive(&mut self.driver, poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))).await
    }
}

/// Connects to the first address that answers. Each has its share of what is left of `limit`: one that is silent leaves
/// time for the others.
async fn connect(
    addresses: &[SocketAddr],
    peer: &Peer,
    deadline: Instant,
    limit: Duration,
) -> Result<TcpStream, HttpError> {
    let mut failure = None;
    for (address, left) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        failure = Some(match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => peer.unconnected(&error),
            Err(_) => peer.silent_host(limit),
        });
    }
    Err(failure.unwrap_or_else(|| peer.unresolved(&io::ErrorKind::NotFound.into())))
}

/// Waits for `work`, moving the connection's bytes meanwhile.
async fn drive<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        let Some(running) = driver else { return Poll::Pending };
        // What ended it reaches `work`, which waits for the same connection.
        if running.as_mut().poll(cx).is_ready() {
            *driver = None;
            return work.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A listener whose queue is full is silent: Linux drops what comes.
    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next() {
        let silent = tokio::net::TcpSocket::new_v4().expect("a socket");
        silent.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let silent = silent.listen(0).expect("listening");
        let silent_address = silent.local_addr().expect("its address");
        let mut queued = Vec::new();
        while let Ok(tcp) = timeout(Duration::from_millis(300), TcpStream::connect(silent_address)).await {
            queued.push(tcp.expect("queued"));
        }
        let good = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let good_address = good.local_addr().expect("its address");
        let peer = Peer { host: "nvr".to_owned(), port: 80 };
        let limit = Duration::from_millis(600);
        let addresses = [silent_address, good_address];
        let tcp = connect(&addresses, &peer, Instant::now() + limit, limit).await.expect("the second answers");
        assert_eq!(tcp.peer_addr().expect("its address"), good_address);
        let error = connect(&addresses[..1], &peer, Instant::now() + limit, limit).await.expect_err("silent");
        assert!(error.to_string().contains("does not answer within 0.6 s"), "{error}");
        assert!(connect(&[], &peer, Instant::now() + limit, limit).await.is_err());
    }
}

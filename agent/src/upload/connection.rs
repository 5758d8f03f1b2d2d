//! One TLS connection to a data endpoint.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use edgecam_kvs::{Fault, FaultClass};
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::network::Network;

/// For each step: TCP to one address, TLS.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// A larger send buffer would only hide from us how slow the link is: acks come behind what is in it.
const SEND_BUFFER: u32 = 256 << 10;
/// The socket takes more only when less than this waits in it: so acks are not behind seconds of data on a slow link, and
/// what it takes shows that the link moves.
const NOT_SENT_LOW_WATER: u32 = 16 << 10;
/// The kernel gives a connection up whose data is not acknowledged for this long.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(8);
/// Pieces handed to one write.
const SLICES: usize = 48;

/// An open connection.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    needs_flush: bool,
    read: Box<[u8; 4096]>,
}

/// What a connection has done.
pub(crate) enum Io {
    /// It has taken this many bytes.
    Written(usize),
    /// It has brought these bytes.
    Read(Bytes),
    /// It is over.
    Closed(String),
}

impl Connection {
    /// Connects to `host`, trying each of its addresses.
    pub(crate) async fn open(host: &str, port: u16, shared: &Network) -> Result<Self, Fault> {
        let network = |message: String| Fault::new(FaultClass::Network, message);
        let late = |what: &str| network(format!("{what} took longer than {} s", STEP_TIMEOUT.as_secs()));
        let tls = shared.tls().await?;
        let addresses = shared.resolve(host, port).await?;
        let mut last = network(format!("{host} has no address"));
        for address in addresses {
            match timeout(STEP_TIMEOUT, connect(address)).await {
                Ok(Ok(stream)) => {
                    let name = ServerName::try_from(host.to_owned())
                        .map_err(|_| network(format!("`{host}` is not a host name")))?;
                    let handshake = TlsConnector::from(tls).connect(name, stream);
                    let stream = timeout(STEP_TIMEOUT, handshake)
                        .await
                        .map_err(|_| late(&format!("the TLS handshake with {host}:{port}")))?
                        .map_err(|error| network(format!("TLS with {host}:{port} failed: {error}")))?;
                    return Ok(Self { stream, needs_flush: false, read: Box::new([0; 4096]) });
                }
                Ok(Err(error)) => last = network(format!("cannot connect to {host}:{port} ({address}): {error}")),
                Err(_) => last = late(&format!("connecting to {host}:{port} ({address})")),
            }
        }
        Err(last)
    }

    /// Writes what it can of `out`, and reads what there is.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, out: Option<&VecDeque<Bytes>>) -> Poll<Io> {
        let mut buffer = ReadBuf::new(&mut self.read[..]);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                return Poll::Ready(Io::Closed("the service closed the connection".to_owned()));
            }
            Poll::Ready(Ok(())) => return Poll::Ready(Io::Read(Bytes::copy_from_slice(buffer.filled()))),
            Poll::Ready(Err(error)) => return Poll::Ready(Io::Closed(format!("the connection broke: {error}"))),
            Poll::Pending => {}
        }
        if let Some(out) = out.filter(|out| !out.is_empty()) {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(out) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Io::Closed("the connection takes no more".to_owned())),
                Poll::Ready(Ok(count)) => {
                    self.needs_flush = true;
                    return Poll::Ready(Io::Written(count));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Io::Closed(format!("the connection broke: {error}"))),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.needs_flush {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Io::Closed(format!("the connection broke: {error}"))),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}

async fn connect(address: std::net::SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_nodelay(true)?;
    let stream = socket.connect(address).await?;
    let options = SockRef::from(&stream);
    options.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    options.set_tcp_notsent_lowat(NOT_SENT_LOW_WATER)?;
    Ok(stream)
}

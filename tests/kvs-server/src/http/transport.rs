//! A TCP connection with or without TLS on it, and the ways to end one that tests ask for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{Shutdown, sockopt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

/// How long what the peer still sends is read and thrown away after our FIN: closing with unread data would be a reset,
/// which takes from the peer what it has not read yet.
const LINGER: Duration = Duration::from_secs(2);
/// Receive buffer of a throttled connection: small, so that the peer feels it soon. The kernel doubles it.
const SMALL_RECEIVE_BUFFER: usize = 16 * 1024;
/// The same when it is not throttled any more. The kernel's own choice cannot be had back.
const LARGE_RECEIVE_BUFFER: usize = 1024 * 1024;

/// A connection.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Orderly: TLS close_notify, FIN, and a short wait for the peer's own end.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        let orderly = async {
            self.shutdown().await?;
            discard(&mut self).await
        };
        timeout(LINGER, orderly).await.unwrap_or(Ok(()))
    }

    /// FIN in the middle of whatever was going on, without TLS close_notify.
    pub(crate) async fn cut_with_fin(self) -> io::Result<()> {
        rustix::net::shutdown(self.tcp(), Shutdown::Write)?;
        let mut tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.into_inner().0,
        };
        timeout(LINGER, discard(&mut tcp)).await.unwrap_or(Ok(()))
    }

    /// RST: `SO_LINGER` of zero.
    pub(crate) fn cut_with_reset(self) -> io::Result<()> {
        self.tcp().set_zero_linger()
    }

    pub(crate) fn set_receive_buffer(&self, small: bool) -> io::Result<()> {
        let size = if small { SMALL_RECEIVE_BUFFER } else { LARGE_RECEIVE_BUFFER };
        Ok(sockopt::set_socket_recv_buffer_size(self.tcp(), size)?)
    }
}

async fn discard(from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    while from.read(&mut buffer).await? > 0 {}
    Ok(())
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(context),
        }
    }
}

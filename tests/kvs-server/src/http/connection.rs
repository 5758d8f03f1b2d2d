//! One client's connection: request heads in, responses out, and for PutMedia both directions at once in a single task.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use crate::http::body::Body;
use crate::http::head::{Framing, Head, MAX_HEAD};
use crate::http::transport::Transport;

/// A connection may be silent for this long between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// A client that does not take a response within this time is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BODY: u64 = 64 * 1024;

/// A connection and what was read from it too early.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    input: BytesMut,
    unflushed: bool,
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

impl Connection {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, input: BytesMut::with_capacity(4096), unflushed: false }
    }

    pub(crate) fn into_transport(self) -> Transport {
        self.transport
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The next request's head; `None` when the client ended the connection (or fell silent) between two requests.
    /// An `InvalidData` error is a request that is not HTTP as this server wants it.
    pub(crate) async fn read_head(&mut self) -> io::Result<Option<Head>> {
        timeout(HEAD_TIMEOUT, self.read_head_unbounded()).await.unwrap_or(Ok(None))
    }

    async fn read_head_unbounded(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.input.split_to(end);
                self.input.advance(4);
                return Head::parse(&head).map(Some).map_err(invalid);
            }
            if self.input.len() > MAX_HEAD {
                return Err(invalid("the head is too long"));
            }
            if self.transport.read_buf(&mut self.input).await? == 0 {
                return if self.input.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The whole body of a small request.
    pub(crate) async fn read_body(&mut self, framing: Framing) -> io::Result<Vec<u8>> {
        let (mut body, mut content) = (Body::new(framing), Vec::new());
        if matches!(framing, Framing::Length(length) if length > MAX_BODY) {
            return Err(invalid("the body is too long"));
        }
        while !body.is_complete() {
            let step = body.step(&self.input).map_err(invalid)?;
            content.extend_from_slice(self.input.get(step.content).unwrap_or_default());
            self.input.advance(step.used);
            if content.len() as u64 > MAX_BODY {
                return Err(invalid("the body is too long"));
            }
            if self.input.is_empty()
                && !body.is_complete()
                && timeout(HEAD_TIMEOUT, self.transport.read_buf(&mut self.input)).await?? == 0
            {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(content)
    }

    /// What came after the head in the same reads.
    pub(crate) fn take_input(&mut self) -> Bytes {
        self.input.split().freeze()
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let write = async {
            self.transport.write_all(bytes).await?;
            self.transport.flush().await
        };
        timeout(WRITE_TIMEOUT, write).await?
    }

    /// Writes `output` as far as the peer takes it, and returns with the next piece of input: 0 bytes are the peer's
    /// end. Without a buffer it only writes, and never returns but with an error. Can be dropped at any await and
    /// called again.
    pub(crate) async fn exchange(&mut self, output: &mut BytesMut, mut input: Option<&mut [u8]>) -> io::Result<usize> {
        poll_fn(|context| {
            while !output.is_empty() {
                match Pin::new(&mut self.transport).poll_write(context, output) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(written) => output.advance(written?),
                    Poll::Pending => break,
                }
                self.unflushed = true;
            }
            if self.unflushed
                && let Poll::Ready(flushed) = Pin::new(&mut self.transport).poll_flush(context)
            {
                flushed?;
                self.unflushed = false;
            }
            let Some(input) = input.as_deref_mut() else { return Poll::Pending };
            let mut buffer = ReadBuf::new(input);
            ready!(Pin::new(&mut self.transport).poll_read(context, &mut buffer))?;
            Poll::Ready(Ok(buffer.filled().len()))
        })
        .await
    }
}

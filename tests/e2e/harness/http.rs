//! HTTP as plainly as it gets: one request, one connection, everything checked by the caller.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}{}", self.head, self.body))
    }
}

pub(crate) async fn get(port: u16, path: &str) -> io::Result<Answer> {
    request(port, "GET", path, &[("host", "127.0.0.1")], "").await
}

pub(crate) async fn post(port: u16, path: &str, body: &Value) -> io::Result<Answer> {
    request(port, "POST", path, &[("host", "127.0.0.1"), ("content-type", "application/json")], &body.to_string()).await
}

/// A request with exactly these fields, besides those that frame it.
pub(crate) async fn request(
    port: u16,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let text =
        format!("{method} {path} HTTP/1.1\r\n{fields}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    let exchange = async {
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        tcp.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer: String = timeout(PATIENCE, exchange).await.map_err(io::Error::other).flatten()?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(format!("cut off: {answer}")))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

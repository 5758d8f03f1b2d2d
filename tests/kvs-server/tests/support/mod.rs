//! A client of the stand-in: signs by itself, sends what it is told, reads acknowledgements.

#![allow(dead_code, reason = "each test binary uses its part")]

#[path = "../../src/clock.rs"]
mod clock;
pub(crate) mod mkv;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use kvs_server::{Config, Credentials, KvsServer, StreamSpec};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) const STREAM: &str = "cam1";
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory of its own for every server of a test run; it exists once something is written there.
pub(crate) fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("kvs-server-{}-{count}", std::process::id()))
}

/// Plain TCP, one stream of 24 hours.
pub(crate) fn config() -> Config {
    let streams = vec![StreamSpec { name: STREAM.to_owned(), retention_hours: 24 }];
    Config { tls: false, streams, ..Config::new(directory()) }
}

pub(crate) async fn start(config: Config) -> KvsServer {
    KvsServer::start(config).await.expect("a server")
}

/// A request that is right until a test spoils it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) unsigned: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) credentials: Credentials,
    pub(crate) at: SystemTime,
    pub(crate) service: String,
}

impl Request {
    fn new(path: &str) -> Self {
        Self {
            method: "POST".to_owned(),
            path: path.to_owned(),
            fields: vec![],
            unsigned: vec![],
            body: vec![],
            credentials: Credentials::example(),
            at: SystemTime::now(),
            service: "kinesisvideo".to_owned(),
        }
    }

    pub(crate) fn control(path: &str, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        Self::new(path)
            .field("content-length", &body.len().to_string())
            .field("content-type", "application/json")
            .with_body(body)
    }

    pub(crate) fn put_media(stream: &str) -> Self {
        let start = clock::now_ms();
        Self::new("/putMedia")
            .field("connection", "keep-alive")
            .field("transfer-encoding", "chunked")
            .field("user-agent", "test/1.0  (two  spaces)")
            .field("x-amzn-fragment-acknowledgment-required", "1")
            .field("x-amzn-fragment-timecode-type", "ABSOLUTE")
            .field("x-amzn-producer-start-timestamp", &format!("{}.{:03}", start / 1000, start % 1000))
            .field("x-amzn-stream-name", stream)
    }

    fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// Adds or replaces a signed field.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(field, _)| field != name);
        self
    }

    /// Adds a field after signing.
    pub(crate) fn unsigned(mut self, name: &str, value: &str) -> Self {
        self.unsigned.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// The head as it goes over the wire.
    pub(crate) fn head(&self, host: &str) -> String {
        let date = clock::format_amz_date(i64::try_from(clock::unix_ms(self.at) / 1000).expect("now"));
        let mut fields = vec![("host".to_owned(), host.to_owned()), ("x-amz-date".to_owned(), date.clone())];
        fields.extend(self.fields.clone());
        fields.sort();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let squeezed = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
        let canonical: String = fields.iter().map(|(name, value)| format!("{name}:{}\n", squeezed(value))).collect();
        let signed = fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let payload = hex(&Sha256::digest(&self.body));
        let request = format!("{}\n{}\n\n{canonical}\n{signed}\n{payload}", self.method, self.path);
        let day: String = date.chars().take(8).collect();
        let scope = format!("{day}/eu-west-1/{}/aws4_request", self.service);
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(request)));
        let mut key = format!("AWS4{}", self.credentials.secret_key).into_bytes();
        for part in [day.as_str(), "eu-west-1", self.service.as_str(), "aws4_request", to_sign.as_str()] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
            mac.update(part.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        let credential = format!("{}/{scope}", self.credentials.access_key);
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={}", hex(&key));
        fields.push(("Authorization".to_owned(), authorization));
        fields.extend(self.unsigned.clone());
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{} {} HTTP/1.1\r\n{fields}\r\n", self.method, self.path)
    }

    pub(crate) async fn send(&self, server: &KvsServer) -> Client {
        let mut client = Client::connect(server.port()).await.expect("a connection");
        let bytes = [self.head(&format!("localhost:{}", server.port())).as_bytes(), &self.body].concat();
        client.write(&bytes).await.expect("written");
        client
    }

    /// Sends it and reads a response with a length: status, error type, body.
    pub(crate) async fn answer(&self, server: &KvsServer) -> (u16, String, Value) {
        let mut client = self.send(server).await;
        client.answer().await
    }

    /// Sends it and expects a session.
    pub(crate) async fn session(&self, server: &KvsServer) -> Client {
        let mut client = self.send(server).await;
        assert_eq!(client.head().await.0, 200);
        client
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) tcp: BufReader<TcpStream>,
    text: String,
}

impl Client {
    pub(crate) async fn connect(port: u16) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        tcp.set_nodelay(true)?;
        Ok(Self { tcp: BufReader::new(tcp), text: String::new() })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.tcp.get_mut().write_all(bytes).await
    }

    /// Sends content as chunks.
    pub(crate) async fn send(&mut self, content: &[u8]) -> std::io::Result<()> {
        for part in content.chunks(1000) {
            let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
            self.write(&chunk).await?;
        }
        Ok(())
    }

    pub(crate) async fn end(&mut self) {
        self.write(b"0\r\n\r\n").await.expect("written");
    }

    async fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        timeout(PATIENCE, self.tcp.read_line(&mut line)).await??;
        Ok(line)
    }

    /// Status, and fields by their lower case names.
    pub(crate) async fn head(&mut self) -> (u16, Vec<(String, String)>) {
        let status = self.line().await.expect("a status line");
        let status = status
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("status {status:?}"));
        let mut fields = vec![];
        loop {
            let line = self.line().await.expect("a field");
            let Some((name, value)) = line.trim_end().split_once(':') else { return (status, fields) };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    pub(crate) async fn answer(&mut self) -> (u16, String, Value) {
        let (status, fields) = self.head().await;
        let field = |name: &str| {
            fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let mut body = vec![0; field("content-length").parse().expect("a length")];
        timeout(PATIENCE, self.tcp.read_exact(&mut body)).await.expect("in time").expect("a body");
        let error_type = field("x-amzn-errortype").trim_end_matches(':').to_owned();
        (status, error_type, serde_json::from_slice(&body).expect("JSON"))
    }

    /// Status and body of an answer that need not be JSON.
    pub(crate) async fn page(&mut self) -> (u16, String) {
        let (status, fields) = self.head().await;
        let length = fields.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.as_str());
        let mut body = vec![0; length.and_then(|length| length.parse().ok()).expect("a length")];
        timeout(PATIENCE, self.tcp.read_exact(&mut body)).await.expect("in time").expect("a body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// One chunk; `None` is the end of the response.
    pub(crate) async fn chunk(&mut self) -> std::io::Result<Option<String>> {
        let size = self.line().await?;
        if size.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(size.trim_end(), 16).map_err(std::io::Error::other)?;
        let mut content = vec![0; size + 2];
        self.tcp.read_exact(&mut content).await?;
        content.truncate(size);
        Ok((size > 0).then(|| String::from_utf8(content).expect("UTF-8")))
    }

    /// The next line of the acknowledgement stream; `None` is its end.
    pub(crate) async fn ack_line(&mut self) -> std::io::Result<Option<String>> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let line = line.to_owned();
                self.text = rest.to_owned();
                return Ok(Some(line));
            }
            match timeout(PATIENCE, self.chunk()).await?? {
                Some(chunk) => self.text.push_str(&chunk),
                None => return Ok(None),
            }
        }
    }

    /// The next acknowledgement as `EVENT timecode`, with the error id if there is one.
    pub(crate) async fn ack(&mut self) -> std::io::Result<Option<String>> {
        let Some(line) = self.ack_line().await? else { return Ok(None) };
        let ack: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let words = [
            ack["EventType"].as_str().map(str::to_owned),
            ack["FragmentTimecode"].as_i64().map(|ms| ms.to_string()),
            ack["ErrorId"].as_u64().map(|id| id.to_string()),
        ];
        Ok(Some(words.into_iter().flatten().collect::<Vec<_>>().join(" ")))
    }

    /// All acknowledgements up to the end of the response.
    pub(crate) async fn acks(&mut self) -> Vec<String> {
        let mut acks = vec![];
        while let Some(ack) = self.ack().await.expect("an orderly end") {
            acks.push(ack);
        }
        acks
    }
}

//! What the caller decides before the server starts. Everything that may change later is a method of
//! [`KvsServer`](crate::KvsServer).

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// How the stand-in behaves. [`Config::new`] has the service's own figures where the service documents them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Port on 127.0.0.1; 0 takes any free one.
    pub port: u16,
    /// Where `ca.pem` is written (created when missing).
    pub dir: PathBuf,
    /// TLS 1.2 and 1.3; otherwise plain TCP.
    pub tls: bool,
    /// Accept unsigned PutMedia requests, and any POST of Matroska to any path, as other programs write it. Unless
    /// they have `x-amzn-fragment-acknowledgment-required`, they are answered when all of it has come.
    pub lenient: bool,
    /// Region that signatures must be scoped to; `None` takes any.
    pub region: Option<String>,
    /// Who may call. More can be added while running.
    pub credentials: Vec<Credentials>,
    /// What `GetDataEndpoint` answers; `None` is this server.
    pub data_endpoint: Option<String>,
    /// Streams that exist from the start.
    pub streams: Vec<StreamSpec>,
    /// What `ListEdgeAgentConfigurations` answers: entries of its `EdgeConfigs`.
    pub edge_configurations: Vec<Value>,
    /// How long a stream made by `CreateStream` stays CREATING.
    pub create_delay: Duration,
    /// From RECEIVED to PERSISTED.
    pub persist_delay: Duration,
    /// Without data for this long the session is closed (the service: 30 s).
    pub idle_timeout: Duration,
    /// Without data an IDLE acknowledgement is sent this often.
    pub idle_ack_every: Duration,
    /// Sessions older than this end with 4003.
    pub max_connection: Option<Duration>,
    /// How long a session may go on, finishing what it has begun, after a newer one was opened for its stream.
    pub overlap_grace: Duration,
    /// Keep a record, with hash, of every block; off for benchmarks.
    pub record_blocks: bool,
    /// What becomes of the media of persisted fragments.
    pub dump: Dump,
}

impl Config {
    /// The defaults: TLS, strict, any port, one pair of credentials ([`Credentials::example`]), no streams.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            port: 0,
            dir: dir.into(),
            tls: true,
            lenient: false,
            region: None,
            credentials: vec![Credentials::example()],
            data_endpoint: None,
            streams: Vec::new(),
            edge_configurations: Vec::new(),
            create_delay: Duration::ZERO,
            persist_delay: Duration::from_millis(50),
            idle_timeout: Duration::from_secs(30),
            idle_ack_every: Duration::from_secs(5),
            max_connection: None,
            overlap_grace: Duration::from_secs(5),
            record_blocks: true,
            dump: Dump::Off,
        }
    }
}

/// A stream that exists from the start.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// `StreamName`.
    pub name: String,
    /// `DataRetentionInHours`; with 0 nothing is ever PERSISTED.
    pub retention_hours: u32,
}

/// One principal that may call.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// Session token; when there is one, requests must carry it.
    pub session_token: Option<String>,
    /// From then on requests are refused with `ExpiredTokenException`.
    pub expires: Option<SystemTime>,
}

impl Credentials {
    /// Long-term credentials.
    #[must_use]
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self { access_key: access_key.into(), secret_key: secret_key.into(), session_token: None, expires: None }
    }

    /// Temporary credentials.
    #[must_use]
    pub fn with_token(mut self, session_token: impl Into<String>, expires: Option<SystemTime>) -> Self {
        self.session_token = Some(session_token.into());
        self.expires = expires;
        self
    }

    /// The pair from the AWS documentation, which no account has.
    #[must_use]
    pub fn example() -> Self {
        Self::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// What becomes of the media of persisted fragments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Dump {
    /// Nothing is kept.
    #[default]
    Off,
    /// Kept as bytes, one Matroska file per session; see [`KvsServer::dumped`](crate::KvsServer::dumped).
    Memory,
    /// Written to `<directory>/<stream>-<session>.mkv`.
    Directory(PathBuf),
}

//! The stand-in as a program: says in one line of JSON where it is, and at the end in another what it got.
//!
//! Everything else is asked and ordered over HTTP; see `GET /__admin/state` and `POST /__admin/fault`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use kvs_server::{Config, Credentials, Dump, KvsServer, StreamSpec};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

/// A strict local stand-in for Amazon Kinesis Video Streams
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Port on 127.0.0.1; 0 takes any free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where ca.pem is written
    #[arg(long)]
    dir: PathBuf,
    /// TCP without TLS
    #[arg(long)]
    plain: bool,
    /// Accept unsigned POSTs of Matroska to any path, as other programs write it
    #[arg(long)]
    lenient: bool,
    /// Create a stream; may be repeated
    #[arg(long = "stream", value_name = "NAME")]
    streams: Vec<String>,
    /// Retention of the streams created so; with 0 nothing is ever PERSISTED
    #[arg(long, default_value_t = 24, value_name = "HOURS")]
    retention: u32,
    /// From RECEIVED to PERSISTED
    #[arg(long, default_value_t = 50, value_name = "MS")]
    persist_delay_ms: u64,
    /// Sessions older than this end with 4003
    #[arg(long, value_name = "SECONDS")]
    max_connection_s: Option<u64>,
    /// Region that signatures must be scoped to
    #[arg(long)]
    region: Option<String>,
    /// What GetDataEndpoint answers; this server if not given
    #[arg(long, value_name = "URL")]
    data_endpoint: Option<String>,
    /// Access key id
    #[arg(long, default_value_t = Credentials::example().access_key)]
    access_key: String,
    /// Secret access key
    #[arg(long, default_value_t = Credentials::example().secret_key, hide_default_value = true)]
    secret_key: String,
    /// Session token that requests must carry
    #[arg(long)]
    session_token: Option<String>,
    /// Record every frame with a hash
    #[arg(long)]
    record_blocks: bool,
    /// Write persisted media to <DIR>/<stream>-<session>.mkv
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
}

impl From<Arguments> for Config {
    fn from(arguments: Arguments) -> Self {
        let retention_hours = arguments.retention;
        Self {
            port: arguments.port,
            tls: !arguments.plain,
            lenient: arguments.lenient,
            region: arguments.region,
            credentials: vec![Credentials {
                session_token: arguments.session_token,
                ..Credentials::new(arguments.access_key, arguments.secret_key)
            }],
            data_endpoint: arguments.data_endpoint,
            streams: arguments.streams.into_iter().map(|name| StreamSpec { name, retention_hours }).collect(),
            persist_delay: Duration::from_millis(arguments.persist_delay_ms),
            max_connection: arguments.max_connection_s.map(Duration::from_secs),
            record_blocks: arguments.record_blocks,
            dump: arguments.dump.map_or(Dump::Off, Dump::Directory),
            ..Self::new(arguments.dir)
        }
    }
}

fn print(line: &Value) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let tls = !arguments.plain;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let server = KvsServer::start(arguments.into()).await?;
    let ca = tls.then(|| server.ca_pem_path());
    print(&json!({ "port": server.port(), "endpoint": server.endpoint(), "ca": ca }))?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    server.stop().await?;
    print(&json!({ "connections": server.connections(), "streams": server.totals() }))
}

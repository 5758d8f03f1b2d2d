//! `edgecam upload SOURCE STREAM`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::EXIT_CONFIG;
use super::output::{bytes, fail, progress, say};
use crate::config::source::Source;
use crate::config::{self, Aws};
use crate::producer::{Connected, Producer};
use crate::telemetry;

#[derive(Args)]
pub(super) struct Arguments {
    /// A file (MP4, Matroska, H.264), a FIFO, `-` for standard input, a camera such as /dev/video0, a URL (rtsp://, onvif://, nuuo://, kvs://, rtmp:// to listen at, or https:// of a playlist), or `test` for the test pattern
    source: String,
    /// Name of the stream
    stream: String,
    /// Stop after so many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// Frames a second, for H.264 that does not say
    #[arg(long)]
    fps: Option<f64>,
    /// AWS region
    #[arg(long)]
    region: Option<String>,
    /// Create the stream if it does not exist, keeping footage for so many hours
    #[arg(long, value_name = "HOURS")]
    create: Option<u32>,
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    telemetry::log::init(tracing::Level::WARN);
    let mut source = match source(&arguments.source, arguments.fps) {
        Ok(source) => source,
        Err(error) => return fail(EXIT_CONFIG, format_args!("{error}")),
    };
    if let Source::Kvs(kvs) = &mut source {
        kvs.aws.region.clone_from(&arguments.region);
    }
    let aws = Aws { region: arguments.region, create_streams: arguments.create, ..Aws::default() };
    let mut connected = match Producer::new(source).with_aws(aws).connect(&arguments.stream).await {
        Ok(connected) => connected,
        Err(error) => return fail(1, format_args!("{error}")),
    };
    let began = Instant::now();
    let result = upload(&mut connected, arguments.seconds.map(Duration::from_secs)).await;
    connected.disconnect().await;
    match result {
        Ok(summary) => {
            let (frames, size, seconds) = (summary.frames, bytes(summary.bytes), began.elapsed().as_secs_f64());
            say(format_args!("stored in {}: {frames} frames, {size}, in {seconds:.1} s", arguments.stream));
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, format_args!("{error}")),
    }
}

async fn upload(
    connected: &mut Connected,
    duration: Option<Duration>,
) -> Result<crate::producer::Summary, crate::producer::ProducerError> {
    let mut watch = connected.progress();
    let upload = connected.upload(duration);
    tokio::pin!(upload);
    if !io::stderr().is_terminal() {
        return upload.await;
    }
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let result = loop {
        tokio::select! {
            result = &mut upload => break result,
            _ = tick.tick() => {
                let now = watch.borrow_and_update().clone();
                let elapsed = began.elapsed();
                let bar = duration.map(|duration| bar(elapsed.as_secs_f64() / duration.as_secs_f64())).unwrap_or_default();
                let (state, size) = (now.state.name(), bytes(now.bytes));
                let seconds = elapsed.as_secs();
                progress(&format!("{bar}{seconds:>4} s  {} frames  {size}  {} fragments stored  {state}", now.frames, now.fragments_persisted));
            }
        }
    };
    progress("");
    result
}

fn bar(share: f64) -> String {
    const WIDTH: usize = 24;
    let done = (share.clamp(0.0, 1.0) * WIDTH as f64) as usize;
    format!("[{}{}] ", "#".repeat(done), ".".repeat(WIDTH - done))
}

/// A source from one word: what the config file would say, with its checks.
fn source(text: &str, fps: Option<f64>) -> Result<Source, config::ConfigError> {
    let quoted = serde_json::Value::String(text.to_owned()).to_string();
    let rate = fps.map(|fps| format!(", frame_rate: {fps}")).unwrap_or_default();
    let source = if text == "test" {
        "test_pattern: {}".to_owned()
    } else if let Some((scheme, _)) = text.split_once("://") {
        let kind = match scheme {
            "nuuo" | "onvif" | "kvs" | "rtmp" => scheme,
            "http" | "https" => "hls",
            _ => "rtsp",
        };
        format!("{kind}: {{url: {quoted}}}")
    } else if text.starts_with("/dev/video") || text.starts_with("/dev/v4l/") {
        format!("v4l2: {{device: {quoted}{rate}}}")
    } else if text == "-" || is_fifo(text) {
        format!("elementary_stream: {{path: {quoted}{rate}}}")
    } else {
        format!("file: {{path: {quoted}, loop: false{rate}}}")
    };
    let config = config::parse(&format!("cameras: [{{name: upload, {source}}}]"))?;
    let camera = config.cameras.into_iter().next();
    camera.map(|camera| camera.source).ok_or_else(|| config::ConfigError::new("no source"))
}

fn is_fifo(path: &str) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(PathBuf::from(path)).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

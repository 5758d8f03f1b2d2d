//! A DeepLens camera (or another with the GEO GC6500 encoder): set with the vendor's tool, read from its FIFO.
//!
//! The tool cannot be asked what the encoder is set to, so the stream is looked at: size, rate, GOP and bitrate are
//! compared with what was asked, and what differs is in the status. A setting that fails is said and stops nothing.

mod check;
pub mod tool;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::check::Check;
use self::tool::{Setting, Tool, settings};
use super::elementary_stream::{self, Observed};
use super::{CaptureError, Sink};
use crate::config::source::{ElementaryStream, Input, Mxuvc};
use crate::encode::{Control, Encoding};

/// Each IDR that is asked for is a process.
const BETWEEN_IDRS: Duration = Duration::from_secs(1);
/// To set the encoder back at the end.
const RESTORE: Duration = Duration::from_millis(1_300);
/// Pictures between the reader and the check of them; when there is no room they go unchecked.
const QUEUE: usize = 64;

/// Sets the encoder and delivers its stream until `cancel` is called (`Ok`) or the stream fails.
pub async fn attempt(source: &Mxuvc, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    let stream = ElementaryStream {
        input: Input::Path(source.stream.clone()),
        frame_rate: None,
        repeat: false,
        frame_timeout: source.frame_timeout,
    };
    let (send, observed) = mpsc::channel(QUEUE);
    let watcher = Watcher::new(source, sink, observed);
    let end = {
        let reading = elementary_stream::read(&stream, sink, cancel, Some(send));
        // Reading goes on while the encoder is being set: the FIFO's writer must not be held up.
        tokio::select! {
            biased;
            end = reading => end,
            never = watcher.run() => match never {},
        }
    };
    if let (Some(old), true) = (&source.restore, cancel.is_cancelled()) {
        restore(source, old).await;
    }
    end
}

async fn restore(source: &Mxuvc, old: &Encoding) {
    let all = async {
        for setting in settings(old, None, None) {
            if let Err(error) = Tool(source).once(setting, RESTORE).await {
                tracing::warn!(%error, "the encoder was not set back");
            }
        }
    };
    if timeout(RESTORE, all).await.is_err() {
        tracing::warn!("the encoder was not set back in time");
    }
}

/// Sets the encoder when it is to be set, and compares its stream with that.
struct Watcher<'a> {
    source: &'a Mxuvc,
    control: tokio::sync::watch::Receiver<Control>,
    idr_requests: tokio::sync::watch::Receiver<u64>,
    observed: mpsc::Receiver<Observed>,
    particulars: super::sink::Describer,
}

enum Never {}

impl<'a> Watcher<'a> {
    fn new(source: &'a Mxuvc, sink: &Sink, observed: mpsc::Receiver<Observed>) -> Self {
        let (control, idr_requests) = (sink.encoder(), sink.idr_requests());
        Self { source, control, idr_requests, observed, particulars: sink.describer() }
    }

    async fn run(mut self) -> Never {
        let mut wanted = self.source.encoding.under(*self.control.borrow_and_update());
        let mut failures = self.set(&wanted, None).await;
        let mut check = None;
        let mut next_idr = Instant::now();
        loop {
            let is_wanted = self.idr_requests.has_changed().unwrap_or(false);
            tokio::select! {
                Ok(()) = self.control.changed() => {
                    let new = self.source.encoding.under(*self.control.borrow_and_update());
                    if new != wanted {
                        failures = self.set(&new, Some(&wanted)).await;
                        (wanted, check) = (new, None);
                    }
                }
                () = sleep_until(next_idr), if is_wanted => {
                    self.idr_requests.mark_unchanged();
                    next_idr = Instant::now() + BETWEEN_IDRS;
                    if let Err(error) = Tool(self.source).set(Setting::IFrame).await {
                        tracing::warn!(%error, "the encoder was not asked for an IDR");
                    }
                }
                Ok(()) = self.idr_requests.changed(), if !is_wanted => self.idr_requests.mark_changed(),
                Some(Observed { picture, at }) = self.observed.recv() => {
                    let check = check.get_or_insert_with(|| Check::new(wanted, at));
                    if let Some(differences) = check.picture(&picture, at) {
                        for note in &differences {
                            tracing::warn!(channel = self.source.channel, "{note}");
                        }
                        let notes = failures.iter().cloned().chain(differences).collect();
                        self.particulars.describe(|camera| camera.notes = notes);
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    /// Sets what is other than `before`; returns what failed.
    async fn set(&mut self, wanted: &Encoding, before: Option<&Encoding>) -> Vec<String> {
        let mut failures = Vec::new();
        for setting in settings(wanted, self.source.frame_size, before) {
            if let Err(error) = Tool(self.source).set(setting).await {
                tracing::warn!(channel = self.source.channel, %error, "the encoder was not set as asked");
                failures.push(error);
            }
        }
        let Encoding { width, height, frame_rate, gop, bitrate } = wanted;
        let asked = format!("{width}x{height} at {frame_rate} fps, {} kbit/s, GOP {gop}", bitrate / 1000);
        let (device, notes) = (format!("mxuvc channel {}", self.source.channel), failures.clone());
        self.particulars.describe(|camera| {
            (camera.device, camera.asked, camera.notes) = (Some(device), Some(asked), notes);
        });
        // Pictures from before, and with gaps: the queue was full while the tool was at work.
        while self.observed.try_recv().is_ok() {}
        failures
    }
}

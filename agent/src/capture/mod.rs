//! Sources: each turns what its device sends into pictures and hands them to a [`Sink`].
//!
//! One attempt is one call of [`attempt`]: it opens the source, delivers until something ends it, and returns why. It
//! keeps nothing for the next attempt. Waiting, backing off and reporting belong to the caller.

mod audio_lane;
mod continuity;
pub mod elementary_stream;
pub mod file;
pub mod hls;
mod idr_watch;
pub mod kvs;
pub mod mxuvc;
pub mod nuuo;
pub mod nvr;
pub mod onvif;
mod pace;
mod path_error;
pub mod rtmp;
pub mod rtsp;
mod sink;
mod sniff;
pub mod supervisor;
pub mod test_pattern;
pub mod v4l2;

use std::time::Duration;

pub use sink::{Clocks, Delivered, Lost, Particulars, Sink, Waiting};
use tokio_util::sync::CancellationToken;

use crate::config::source::Source;

/// Why a source stopped, and by that what to do next.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The source has no more to give: the end of a file that does not repeat, or a writer that closed.
    #[error("the source has ended")]
    Ended,
    /// It cannot be reached or was lost.
    #[error("{0}")]
    Unreachable(String),
    /// It is there and sends no pictures.
    #[error("no picture for {} s", .0.as_secs())]
    Stalled(Duration),
    /// It refused user name and password.
    #[error("the camera refused user name and password: {0}")]
    AuthFailed(String),
    /// It sends something the agent cannot take.
    #[error("{0}")]
    UnsupportedCodec(String),
    /// A device on this machine is not connected, or was unplugged.
    #[error("{0}")]
    Unplugged(String),
    /// Another program uses the device.
    #[error("{0}")]
    Busy(String),
    /// The agent's user may not use the device.
    #[error("{0}")]
    PermissionDenied(String),
    /// The device's bus has no room for what is asked.
    #[error("{0}")]
    UsbBandwidth(String),
    /// The device cannot give what is asked.
    #[error("{0}")]
    UnsupportedFormat(String),
    /// There is no such device, file or stream.
    #[error("{0}")]
    NotFound(String),
}

/// Opens `source` and delivers its pictures to `sink` until it ends, fails, or `cancel` is called (`Ok`).
pub async fn attempt(source: &Source, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    match source {
        Source::Rtsp(settings) => rtsp::attempt(settings, sink, cancel).await,
        Source::Nuuo(settings) => nuuo::attempt(settings, sink, cancel).await,
        Source::Onvif(settings) => onvif::attempt(settings, sink, cancel).await,
        Source::ElementaryStream(settings) => elementary_stream::attempt(settings, sink, cancel).await,
        Source::Hls(settings) => hls::attempt(settings, sink, cancel).await,
        Source::File(settings) => file::attempt(settings, sink, cancel).await,
        Source::Kvs(settings) => kvs::attempt(settings, sink, cancel).await,
        Source::Rtmp(settings) => rtmp::attempt(settings, sink, cancel).await,
        Source::TestPattern(settings) => test_pattern::attempt(settings, sink, cancel).await,
        Source::V4l2(settings) => v4l2::attempt(settings, sink, cancel).await,
        Source::Mxuvc(settings) => mxuvc::attempt(settings, sink, cancel).await,
    }
}

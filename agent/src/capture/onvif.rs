//! ONVIF devices: asked over SOAP for the RTSP URL of one of their profiles, which the `rtsp` source then plays.
//!
//! Invariants: a device is not trusted: bodies, XML and waiting are bounded. Host and credentials are those of the
//! config, whatever addresses the device gives: it may not know its own, and must not send a password elsewhere. Its
//! clock is asked for before anything is signed, and the signature uses that clock.
//!
//! Deliberately absent: events, PTZ, settings. Only what leads to pictures is asked for.

mod answers;
mod device;
pub mod discovery;
mod requests;

pub use self::answers::{
    MediaProfile, Service, capabilities, profiles, services, snapshot_uri, stream_uri, system_time,
};
pub use self::device::{Offer, list};
use super::{CaptureError, Sink, rtsp};
use crate::config::source::Onvif;
use tokio_util::sync::CancellationToken;

/// Finds out the URL, connects and delivers until `cancel` is called (`Ok`) or something ends it.
pub async fn attempt(settings: &Onvif, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    let rtsp = tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(()),
        rtsp = Box::pin(device::resolve(settings)) => rtsp?,
    };
    rtsp::attempt(&rtsp, sink, cancel).await
}

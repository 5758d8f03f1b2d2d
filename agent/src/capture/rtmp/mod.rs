//! Encoders that push to us by RTMP.
//!
//! An attempt takes a seat at the [`listener`] of its address, which cameras share by their keys, and is given the
//! connection of whoever publishes with its key: one at a time. When that one goes, or sends nothing, the seat stays, and
//! the next one's footage continues on the same clock. So an encoder that was cut off can come back at once.

mod listener;
mod publisher;

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::listener::Seat;
use self::publisher::{Feed, Publisher};
use super::{CaptureError, Sink};
use crate::config::source::Rtmp;

/// How often to say that an encoder is waited for, and what was refused meanwhile.
const TELL: Duration = Duration::from_secs(2);

/// Delivers what is published until `cancel` is called (`Ok`) or it cannot be taken.
pub async fn attempt(settings: &Rtmp, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Ok(()),
        end = run(settings, sink) => end,
    }
}

async fn run(settings: &Rtmp, sink: &mut Sink) -> Result<(), CaptureError> {
    let mut seat = Seat::take(settings).await?;
    let mut feed = Feed::default();
    let mut why = "no encoder publishes: waiting for one";
    loop {
        let mut publisher = wait(&mut seat, why, sink).await;
        let peer = publisher.peer;
        info!(%peer, "an encoder publishes");
        sink.describe(|particulars| particulars.device = Some(format!("encoder at {}", peer.ip())));
        let told = tell(seat.refusals(), sink.describer());
        let end = tokio::select! {
            end = publisher.deliver(settings, &mut feed, sink) => end,
            () = told => Ok(()),
        };
        match end {
            Ok(()) => {
                info!(%peer, "the encoder has finished");
                why = "the encoder has finished: waiting for the next one";
            }
            Err(CaptureError::UnsupportedCodec(what)) => return Err(CaptureError::UnsupportedCodec(what)),
            Err(CaptureError::Stalled(_)) => {
                warn!(%peer, "the encoder sent no picture in time: it is cut off");
                why = "the encoder sent no picture in time and was cut off: waiting for one";
            }
            Err(error) => {
                warn!(%peer, %error, "the encoder has gone");
                why = "the encoder has gone: waiting for it to come back";
            }
        }
    }
}

/// Waits for an encoder, however long that takes.
async fn wait(seat: &mut Seat, why: &'static str, sink: &Sink) -> Publisher {
    loop {
        sink.waiting(why);
        let notes = seat.refusals().borrow().notes();
        sink.describe(|particulars| particulars.notes = notes);
        if let Ok(publisher) = timeout(TELL, seat.publisher()).await {
            return publisher;
        }
    }
}

/// Tells what is refused while one publishes; without end.
async fn tell(mut refusals: tokio::sync::watch::Receiver<listener::Refusals>, describer: super::sink::Describer) {
    loop {
        let notes = refusals.borrow_and_update().notes();
        describer.describe(|particulars| particulars.notes = notes);
        if refusals.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

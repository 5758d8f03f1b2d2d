//! Cameras at drivers of the Linux kernel (Video4Linux 2): USB, CSI, HDMI.
//!
//! In the order of use: [`find`] says which device is meant, [`choice`] which of its formats costs least, `open` sets it up,
//! `session` is the thread that waits for its pictures. A camera that was unplugged is looked for every second and
//! recognised by what it is, wherever it comes back.

pub mod choice;
pub mod controls;
mod explain;
pub mod find;
pub mod ioctl;
mod open;
mod pulse;
mod session;
pub mod survey;
mod uvc;

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use edgecam_media::Ticks;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::pulse::{HANGS, Pulse, PulseWatch};
use self::session::{Event, Session};
use super::{CaptureError, Lost, Sink};
use crate::config::source::V4l2;
use crate::run::thread;

/// For all devices of the machine to say what they are.
const FIND: Duration = Duration::from_secs(10);
/// What is said of a driver that does not return from a system call.
const HUNG: &str = "the camera's driver does not answer: it hangs. Unplug the camera and plug it in again; if that \
                    does not help, load its driver anew or restart the machine";
/// What the thread may have told that was not heard yet. When it is full the thread waits, and the driver drops pictures,
/// which its sequence numbers tell.
const QUEUE: usize = 4;

/// Delivers until `cancel` is called (`Ok`) or the camera fails.
pub async fn attempt(settings: &V4l2, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    let (device, remembered) = (settings.device.clone(), sink.remembered());
    // Opening a device may wake it up, and a driver may take its time.
    let finding = tokio::task::spawn_blocking(move || find::find(&device, remembered.as_deref()));
    let found = match timeout(FIND, finding).await {
        Ok(Ok(found)) => found,
        Ok(Err(panicked)) => Err(CaptureError::Unreachable(format!("looking for the camera: {panicked}"))),
        Err(_) => Err(CaptureError::Stalled(FIND)),
    };
    if let Err(CaptureError::Unplugged(_)) = &found {
        sink.describe(|camera| camera.miss(Instant::now()));
    }
    let node = found?;
    let shown = node.path.display().to_string();
    sink.describe(|camera| {
        (camera.identity, camera.missing_since) = (Some(node.identity()), None);
        camera.device = Some(format!("{} ({})", node.path.display(), node.capability.card));
    });
    let (send, mut events) = mpsc::channel(QUEUE);
    let (alive, stop) = sync_channel(0);
    let pulse = Pulse::default();
    let session = Session {
        settings: settings.clone(),
        node,
        clocks: sink.clocks(),
        idr_requests: sink.idr_requests(),
        control: sink.encoder(),
        events: send,
        stop,
        pulse: pulse.clone(),
    };
    let thread = thread::start("v4l2", move || session.run())
        .map_err(|error| CaptureError::Unreachable(format!("{shown}: no thread for it: {error}")))?;
    let mut watch = PulseWatch::new(Instant::now());
    let mut look = tokio::time::interval(HANGS / 4);
    loop {
        let event: Option<Event> = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            event = events.recv() => event,
            _ = look.tick() => {
                if watch.hangs(pulse.beats(), Instant::now()) {
                    tracing::warn!(device = %shown, "the camera's driver hangs");
                    sink.hangs(HUNG);
                }
                continue;
            }
        };
        match event {
            Some(Event::Picture { picture, at }) => sink.deliver(picture, Ticks::from_duration(at.monotonic), at),
            Some(Event::Lost(lost)) => sink.count_lost(|all| *all = Lost { packets: all.packets, ..lost }),
            Some(Event::Opened { asked, given, notes, refuses_idrs }) => {
                tracing::info!(device = %shown, %asked, %given, "the camera is open");
                for note in &notes {
                    tracing::warn!(device = %shown, "{note}");
                }
                sink.describe(|camera| {
                    (camera.asked, camera.given, camera.notes) = (Some(asked), Some(given), notes);
                    camera.refuses_idrs = refuses_idrs;
                });
            }
            None => break,
        }
    }
    drop((alive, events));
    match thread.ended().await {
        Ok(result) => result,
        Err(panicked) => Err(CaptureError::Unreachable(format!("{shown}: {panicked}"))),
    }
}

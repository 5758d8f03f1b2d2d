//! A drawn scene, encoded on the device: a camera that is always there.
//!
//! One thread draws and encodes; this side delivers. Frames whose time has passed are not drawn, and counted: coded
//! pictures are never dropped. The thread ends when the attempt ends, at the latest after the frame it is encoding.

pub(crate) mod font;
mod scene;

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use edgecam_media::Ticks;
use edgecam_media::assembler::Picture;
use edgecam_media::clock::Arrival;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::scene::Scene;
use super::sink::Clocks;
use super::{CaptureError, Sink};
use crate::encode::coder::Coder;
use crate::encode::frame::Frame;
use crate::encode::{Colour, Control, EncodeError, Encoding};
use crate::run::thread;

/// Pictures between the thread and the log. The log takes them at once, so one would do; more only bridge the time in
/// which the runtime is busy. When it is full the thread waits, and is late for its next frame.
const QUEUE: usize = 4;

/// Draws and delivers until `cancel` is called (`Ok`) or the encoder fails.
pub async fn attempt(settings: &Encoding, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    let size = format!("test pattern of {}x{}", settings.width, settings.height);
    let unusable = |reason: &str| CaptureError::UnsupportedCodec(format!("{size}: {reason}"));
    settings.check().map_err(|error| unusable(&error))?;
    let (send, mut pictures) = mpsc::channel(QUEUE);
    let (alive, stop) = sync_channel(0);
    let studio = Studio {
        settings: *settings,
        clocks: sink.clocks(),
        idr_requests: sink.idr_requests(),
        control: sink.encoder(),
        pictures: send,
        stop,
    };
    let thread = thread::start("test-pattern", move || studio.run())
        .map_err(|error| CaptureError::Unreachable(format!("{size}: no thread to draw in: {error}")))?;
    let mut delivered = false;
    loop {
        let drawn: Option<Drawn> = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            drawn = pictures.recv() => drawn,
        };
        let Some(Drawn { picture, media, at, late }) = drawn else { break };
        sink.count_lost(|lost| lost.late += late);
        sink.deliver(picture, media, at);
        delivered = true;
    }
    drop((alive, pictures));
    match thread.ended().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if delivered => Err(CaptureError::Unreachable(format!("{size}: {error}"))),
        Ok(Err(error)) => Err(unusable(&error.to_string())),
        Err(panicked) => Err(CaptureError::Unreachable(format!("{size}: {panicked}"))),
    }
}

/// A picture as it leaves the thread.
struct Drawn {
    picture: Picture,
    media: Ticks,
    at: Arrival,
    /// Frames before it that were not drawn.
    late: u64,
}

/// All that the thread owns.
struct Studio {
    settings: Encoding,
    clocks: Clocks,
    idr_requests: watch::Receiver<u64>,
    control: watch::Receiver<Control>,
    pictures: mpsc::Sender<Drawn>,
    stop: Receiver<()>,
}

impl Studio {
    fn run(mut self) -> Result<(), EncodeError> {
        let mut settings = self.settings.under(*self.control.borrow_and_update());
        let mut scene = set_up(&settings)?;
        let mut coder = Coder::new(settings.settings(Colour::Bt709), self.idr_requests)?;
        let mut schedule = Schedule::new(Duration::ZERO, settings.frame_rate);
        let started = Instant::now();
        loop {
            if self.control.has_changed().unwrap_or(false) {
                let new = self.settings.under(*self.control.borrow_and_update());
                if new != settings {
                    scene = set_up(&new)?;
                    coder.change(new.settings(Colour::Bt709))?;
                    schedule = Schedule::new(schedule.due(), new.frame_rate);
                    settings = new;
                }
            }
            let wait = schedule.due().saturating_sub(started.elapsed());
            // Nothing is ever sent: the channel closes when the attempt ends.
            if !matches!(self.stop.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
                return Ok(());
            }
            let (number, late) = schedule.take(started.elapsed());
            let at = self.clocks.now();
            let frame = scene.draw(number, at.wall);
            if let Some(picture) = coder.encode(frame.view(), schedule.time_of(number))? {
                let drawn = Drawn { picture, media: Ticks::from_duration(schedule.time_of(number)), at, late };
                if self.pictures.blocking_send(drawn).is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn set_up(settings: &Encoding) -> Result<Scene, EncodeError> {
    let Encoding { width, height, frame_rate, .. } = *settings;
    let refused = || EncodeError { encoder: "test pattern", reason: format!("no picture has {width}x{height} pixels") };
    Ok(Scene::new(Frame::black(width, height).ok_or_else(refused)?, frame_rate))
}

/// Which frame is due when.
#[derive(Debug)]
struct Schedule {
    /// When frame 0 is due.
    from: Duration,
    rate: f64,
    next: u64,
}

impl Schedule {
    fn new(from: Duration, rate: f64) -> Self {
        Self { from, rate, next: 0 }
    }

    /// When the next frame is to be drawn, from the start on.
    fn due(&self) -> Duration {
        self.time_of(self.next)
    }

    fn time_of(&self, number: u64) -> Duration {
        self.from + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// The frame to draw at `elapsed`, and how many before it are too late to be drawn.
    fn take(&mut self, elapsed: Duration) -> (u64, u64) {
        let current = (elapsed.saturating_sub(self.from).as_secs_f64() * self.rate) as u64;
        let number = self.next.max(current);
        let late = number - self.next;
        self.next = number + 1;
        (number, late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_frames_are_left_out() {
        let mut schedule = Schedule::new(Duration::ZERO, 25.0);
        for (elapsed_millis, expected, then_due_millis) in [
            (0, (0, 0), 40),
            (41, (1, 0), 80),
            // Late, but within its own time.
            (119, (2, 0), 120),
            (200, (5, 2), 240),
            (240, (6, 0), 280),
            // Woken early: still the next frame, never the same again.
            (270, (7, 0), 320),
        ] {
            assert_eq!(schedule.take(Duration::from_millis(elapsed_millis)), expected, "at {elapsed_millis} ms");
            assert_eq!(schedule.due(), Duration::from_millis(then_due_millis));
        }
    }

    #[test]
    fn ntsc_rates_do_not_drift() {
        let schedule = Schedule::new(Duration::ZERO, 30_000.0 / 1001.0);
        assert_eq!(schedule.time_of(30_000), Duration::from_secs(1001));
    }
}

//! Motion JPEG by RTSP: decoded and encoded to H.264 in a thread of its own.
//!
//! Invariants: one JPEG waits at most, and a newer one replaces it, counted. Nothing here holds up the connection.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use edgecam_media::Ticks;
use edgecam_media::assembler::Picture;
use edgecam_media::clock::Arrival;
use tokio::sync::{mpsc, watch};

use crate::capture::{CaptureError, Sink};
use crate::decode::mjpeg::JpegDecoder420;
use crate::encode::coder::Coder;
use crate::encode::{Colour, Control, Encoding};
use crate::run::thread::{self, Thread};

/// Frames a second where neither the SDP nor the first frames say.
const DEFAULT_RATE: f64 = 15.0;
/// Bits for each pixel of each frame: 2.7 Mbit/s at 1280x720 and 30 frames a second.
const BITS_PER_PIXEL: f64 = 0.1;
/// Frames in a row that cannot be decoded, after which the stream is taken to be of no use.
const MOST_UNDECODABLE: u32 = 100;

/// One JPEG and when it was taken.
struct Frame {
    jpeg: Vec<u8>,
    media: Ticks,
    at: Arrival,
}

#[derive(Default)]
struct State {
    frame: Option<Frame>,
    is_closed: bool,
}

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next frame; `None` when no more will come.
    fn take(&self) -> Option<Frame> {
        let wait = |state: &mut State| state.frame.is_none() && !state.is_closed;
        let mut state = self.changed.wait_while(self.lock(), wait).unwrap_or_else(PoisonError::into_inner);
        if state.is_closed { None } else { state.frame.take() }
    }
}

/// A picture that was encoded.
pub(super) type Coded = (Picture, Ticks, Arrival);

/// The thread, as its owner sees it. It ends when this is dropped.
pub(super) struct Transcoder {
    slot: Arc<Slot>,
    pictures: mpsc::Receiver<Coded>,
    thread: Option<Thread<Result<(), String>>>,
}

impl Drop for Transcoder {
    fn drop(&mut self) {
        self.slot.lock().is_closed = true;
        self.slot.changed.notify_one();
    }
}

impl Transcoder {
    /// Starts the thread; `rate` is what the SDP says.
    pub(super) fn start(rate: Option<f64>, sink: &Sink) -> Result<Self, CaptureError> {
        let slot = Arc::new(Slot::default());
        let (send, pictures) = mpsc::channel(2);
        let work = Work {
            slot: slot.clone(),
            pictures: send,
            rate: rate.filter(|rate| (1.0..=60.0).contains(rate)),
            idr_requests: sink.idr_requests(),
            control: sink.encoder(),
        };
        let thread = thread::start("mjpeg", move || work.run())
            .map_err(|error| CaptureError::Unreachable(format!("no thread to encode MJPEG in: {error}")))?;
        Ok(Self { slot, pictures, thread: Some(thread) })
    }

    /// Takes a frame. One that still waits is too late.
    pub(super) fn push(&self, jpeg: Vec<u8>, media: Ticks, at: Arrival, sink: &Sink) {
        let replaced = self.slot.lock().frame.replace(Frame { jpeg, media, at }).is_some();
        self.slot.changed.notify_one();
        if replaced {
            sink.count_lost(|lost| lost.late += 1);
        }
    }

    /// The next picture; waits for it. Why the thread has ended, if it has. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Coded, CaptureError> {
        if let Some(picture) = self.pictures.recv().await {
            return Ok(picture);
        }
        let end = match self.thread.take() {
            Some(thread) => thread.ended().await,
            None => Ok(Ok(())),
        };
        Err(match end {
            Ok(Ok(())) => CaptureError::Unreachable("encoding has ended".to_owned()),
            Ok(Err(error)) => CaptureError::UnsupportedCodec(error),
            Err(panicked) => CaptureError::Unreachable(panicked.to_string()),
        })
    }
}

/// What the thread has.
struct Work {
    slot: Arc<Slot>,
    pictures: mpsc::Sender<Coded>,
    rate: Option<f64>,
    idr_requests: watch::Receiver<u64>,
    control: watch::Receiver<Control>,
}

impl Work {
    fn run(self) -> Result<(), String> {
        let mut decoder = JpegDecoder420::default();
        let mut coder: Option<Coder> = None;
        let mut undecodable = 0;
        let mut rate = self.rate;
        let mut before: Option<Ticks> = None;
        while let Some(Frame { jpeg, media, at }) = self.slot.take() {
            let picture = match decoder.decode(&jpeg) {
                Ok(picture) => picture,
                Err(error) => {
                    undecodable += 1;
                    if undecodable >= MOST_UNDECODABLE {
                        return Err(format!(
                            "{undecodable} JPEG pictures in a row cannot be decoded; the last: {error}"
                        ));
                    }
                    continue;
                }
            };
            undecodable = 0;
            let distance = before.replace(media).map(|before| (media - before).seconds());
            let measured = distance.map(|seconds| (1.0 / seconds.max(0.001)).clamp(1.0, 60.0));
            // Without a rate the first frame only tells when it was.
            let Some(known) = rate.or(measured) else { continue };
            rate = Some(known);
            let encoding = encoding((picture.width as u32, picture.height as u32), known);
            let settings = encoding.under(*self.control.borrow()).settings(Colour::Bt601Full);
            let refused = |error: crate::encode::EncodeError| error.to_string();
            let coder = match &mut coder {
                Some(coder) => {
                    coder.change(settings).map_err(refused)?;
                    coder
                }
                None => coder.insert(Coder::new(settings, self.idr_requests.clone()).map_err(refused)?),
            };
            if let Some(picture) = coder.encode(picture, at.monotonic).map_err(refused)?
                && self.pictures.blocking_send((picture, media, at)).is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What to encode pictures of this size to, where nobody asks for anything else: an IDR each second.
fn encoding((width, height): (u32, u32), rate: f64) -> Encoding {
    let rate = if rate.is_finite() { rate } else { DEFAULT_RATE };
    let bitrate = f64::from(width) * f64::from(height) * rate * BITS_PER_PIXEL;
    let bitrate = bitrate.clamp(150_000.0, 8_000_000.0) as u32;
    Encoding { width, height, frame_rate: rate, gop: rate.round().max(1.0) as u32, bitrate }
}

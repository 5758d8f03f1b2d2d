//! The thread of a camera: it waits for the driver, encodes what is not coded, and hands pictures over.
//!
//! It is the only one that touches the device. Raw pictures are encoded where the driver has put them; when several are
//! waiting, only the newest is, and the others are counted. Coded pictures are never dropped here.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use edgecam_media::Ticks;
use edgecam_media::assembler::{Assembler, Losses, Picture};
use edgecam_media::clock::Arrival;
use tokio::sync::{mpsc, watch};

use super::choice::PixelFormat;
use super::controls;
use super::explain::explain;
use super::find::Node;
use super::ioctl::buffers::Filled;
use super::open::{Opened, open};
use super::pulse::Pulse;
use crate::capture::idr_watch::IdrWatch;
use crate::capture::pace::Pace;
use crate::capture::sink::Clocks;
use crate::capture::{CaptureError, Lost};
use crate::config::source::V4l2;
use crate::decode::mjpeg::JpegDecoder420;
use crate::encode::coder::Coder;
use crate::encode::convert::{Raw, to_i420};
use crate::encode::frame::Frame;
use crate::encode::{Colour, Control, Encoding};

/// The longest the thread does not look whether it is to stop.
const TURN: Duration = Duration::from_millis(200);
/// So many refused buffers in a row, and the camera is taken for gone.
const MOST_FAILURES: u32 = 10;
/// A driver's time that is further from now than this is not believed.
const PLAUSIBLE_AGE: Duration = Duration::from_secs(5);

/// What the thread tells.
pub(super) enum Event {
    /// The camera runs.
    Opened {
        /// What it was asked for.
        asked: String,
        /// What it gives.
        given: String,
        /// What could not be set.
        notes: Vec<String>,
        /// Its own encoder codes, and cannot be asked for an IDR.
        refuses_idrs: bool,
    },
    /// A coded picture.
    Picture {
        /// The picture.
        picture: Picture,
        /// When it was taken.
        at: Arrival,
    },
    /// What was lost since the thread began.
    Lost(Lost),
}

/// All that the thread owns.
pub(super) struct Session {
    pub(super) settings: V4l2,
    pub(super) node: Node,
    pub(super) clocks: Clocks,
    pub(super) idr_requests: watch::Receiver<u64>,
    pub(super) control: watch::Receiver<Control>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) stop: Receiver<()>,
    pub(super) pulse: Pulse,
}

enum End {
    Stopped,
    /// What is asked of the camera needs it to be opened anew.
    Reopen,
}

impl Session {
    pub(super) fn run(mut self) -> Result<(), CaptureError> {
        let mut lost = Lost::default();
        loop {
            let wanted = self.settings.encoding.under(*self.control.borrow_and_update());
            match self.stream(wanted, &mut lost)? {
                End::Stopped => return Ok(()),
                End::Reopen => {}
            }
        }
    }

    fn stream(&mut self, mut wanted: Encoding, lost: &mut Lost) -> Result<End, CaptureError> {
        let opened = open(&self.node, &self.settings, &wanted)?;
        let Encoding { width, height, frame_rate, bitrate, gop } = wanted;
        let asked = format!("{width}x{height} at {frame_rate} fps, {} kbit/s, GOP {gop}", bitrate / 1000);
        let can_be_asked = || opened.unit.is_some() || controls::has_force_key_frame(&opened.device);
        let refuses_idrs = opened.format == PixelFormat::H264 && !can_be_asked();
        let event = Event::Opened { asked, given: opened.given(), notes: opened.notes.clone(), refuses_idrs };
        if self.events.blocking_send(event).is_err() {
            return Ok(End::Stopped);
        }
        let now = self.clocks.now().monotonic;
        let mut camera = Camera::new(opened, &wanted, self.idr_requests.clone(), now)
            .map_err(|error| CaptureError::UnsupportedFormat(error.to_string()))?;
        let mut last_picture = now;
        let (mut failures, mut told) = (0, *lost);
        loop {
            self.pulse.beat();
            // Nothing is ever sent: the channel closes when the attempt ends.
            if !matches!(self.stop.try_recv(), Err(TryRecvError::Empty)) {
                return Ok(End::Stopped);
            }
            if self.control.has_changed().unwrap_or(false) {
                let new = self.settings.encoding.under(*self.control.borrow_and_update());
                if !camera.change(&wanted, &new)? {
                    return Ok(End::Reopen);
                }
                wanted = new;
            }
            let taken = self.take(&mut camera, lost);
            let silence = self.clocks.now().monotonic.saturating_sub(last_picture);
            let filled = match taken {
                Ok(filled) => filled,
                Err(error) if failures + 1 < MOST_FAILURES && error.raw_os_error() == Some(EIO) => {
                    // A signal that was lost for a moment (VIDIOC_DQBUF): the driver goes on.
                    failures += 1;
                    lost.stream.malformed += 1;
                    None
                }
                Err(error) => return Err(explain(&self.node.path, "waiting for a picture", &error)),
            };
            let Some(filled) = filled else {
                if silence > self.settings.frame_timeout {
                    return Err(camera.no_picture(self.settings.frame_timeout));
                }
                continue;
            };
            failures = 0;
            let at = self.time_of(&filled);
            let pictures = camera.code(&filled, at, lost)?;
            camera
                .opened
                .buffers
                .give_back(filled)
                .map_err(|error| explain(&self.node.path, "giving a buffer back", &error))?;
            let now = self.clocks.now().monotonic;
            if !pictures.is_empty() {
                (last_picture, camera.reason) = (now, None);
                camera.idr_watch.delivered(now);
            } else if let Some(losses) = camera.left_out.take() {
                // It lives; whether it is of use shows when it has had time for an IDR.
                last_picture = now;
                camera.idr_watch.left_out(now, losses, &self.node.path.display().to_string())?;
            } else if !camera.is_paced_out && silence > self.settings.frame_timeout {
                return Err(camera.no_picture(self.settings.frame_timeout));
            }
            let news = (std::mem::replace(&mut told, *lost) != *lost).then_some(Event::Lost(*lost));
            let pictures = pictures.into_iter().map(|(picture, at)| Event::Picture { picture, at });
            for event in pictures.chain(news) {
                if self.events.blocking_send(event).is_err() {
                    return Ok(End::Stopped);
                }
            }
        }
    }

    /// The next picture to look at, if one comes within a turn.
    fn take(&self, camera: &mut Camera, lost: &mut Lost) -> std::io::Result<Option<Filled>> {
        let buffers = &mut camera.opened.buffers;
        if !buffers.wait(TURN)? {
            return Ok(None);
        }
        let Some(mut filled) = buffers.take()? else { return Ok(None) };
        lost.late += camera.sequence.gap(filled.sequence);
        while camera.opened.format != PixelFormat::H264 {
            // What goes wrong here is met again at the next turn; the picture that is here already is not lost by it.
            let Ok(true) = buffers.wait(Duration::ZERO) else { break };
            let Ok(Some(newer)) = buffers.take() else { break };
            lost.late += 1 + camera.sequence.gap(newer.sequence);
            buffers.give_back(std::mem::replace(&mut filled, newer))?;
        }
        Ok(Some(filled))
    }

    /// When a picture was taken, on our clocks.
    fn time_of(&self, filled: &Filled) -> Arrival {
        let now = self.clocks.now();
        let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(clock.tv_sec).unwrap_or(0);
        let machine = Duration::new(seconds, u32::try_from(clock.tv_nsec).unwrap_or(0));
        let age = filled.taken_at.and_then(|taken| machine.checked_sub(taken)).filter(|age| *age < PLAUSIBLE_AGE);
        let age = age.unwrap_or(Duration::ZERO);
        // The first pictures may be older than the attempt.
        Arrival { monotonic: now.monotonic.saturating_sub(age), wall: now.wall - Ticks::from_duration(age) }
    }
}

/// EIO.
const EIO: i32 = 5;

/// The camera as it runs, and what becomes of its pictures.
struct Camera {
    opened: Opened,
    coding: Coding,
    sequence: Sequence,
    pace: Pace,
    /// The last picture was left out because the camera gives more than is asked for.
    is_paced_out: bool,
    idr_requests: watch::Receiver<u64>,
    /// Why the last picture was of no use.
    reason: Option<String>,
    /// Pictures of the camera's encoder came with which decoding cannot start: what was lost so far.
    left_out: Option<Losses>,
    idr_watch: IdrWatch,
}

enum Coding {
    /// The camera codes.
    InCamera(Box<Assembler<Arrival>>),
    /// We code.
    Here { coder: Box<Coder>, jpeg: JpegDecoder420, scratch: Option<Frame> },
}

impl Camera {
    fn new(
        opened: Opened,
        wanted: &Encoding,
        mut idr_requests: watch::Receiver<u64>,
        now: Duration,
    ) -> Result<Self, crate::encode::EncodeError> {
        // What was asked of an earlier attempt is answered by the first picture of this one.
        idr_requests.mark_unchanged();
        let coding = match colour(opened.format) {
            None => Coding::InCamera(Box::default()),
            Some(colour) => Coding::Here {
                coder: Box::new(Coder::new(wanted.settings(colour), idr_requests.clone())?),
                jpeg: JpegDecoder420::default(),
                scratch: None,
            },
        };
        let pace = Pace::new(wanted.frame_rate, opened.rate);
        let sequence = Sequence::default();
        let idr_watch = IdrWatch::new(now);
        Ok(Self {
            opened,
            coding,
            sequence,
            pace,
            is_paced_out: false,
            idr_requests,
            reason: None,
            left_out: None,
            idr_watch,
        })
    }

    /// Goes over to other settings; `false` when the camera has to be opened anew for them.
    fn change(&mut self, old: &Encoding, new: &Encoding) -> Result<bool, CaptureError> {
        if (old.width, old.height, old.frame_rate) != (new.width, new.height, new.frame_rate) {
            return Ok(false);
        }
        // An extension unit takes a GOP before the camera runs.
        if self.opened.unit.is_some() && old.gop != new.gop {
            return Ok(false);
        }
        if let (Coding::Here { coder, .. }, Some(colour)) = (&mut self.coding, colour(self.opened.format)) {
            coder.change(new.settings(colour)).map_err(|error| CaptureError::UnsupportedFormat(error.to_string()))?;
        } else {
            for note in controls::set_camera(&self.opened.device, self.opened.unit, new, true) {
                tracing::warn!(%note, "the camera's encoder was not set as asked");
            }
        }
        Ok(true)
    }

    /// Makes coded pictures of a buffer: none of one that is damaged, and several of one that holds several.
    fn code(&mut self, filled: &Filled, at: Arrival, lost: &mut Lost) -> Result<Vec<(Picture, Arrival)>, CaptureError> {
        self.is_paced_out = false;
        let bytes = self.opened.buffers.bytes(filled);
        if filled.is_damaged || bytes.is_empty() {
            self.reason =
                Some(if filled.is_damaged { "the driver marks them as damaged" } else { "they are empty" }.to_owned());
            lost.stream.malformed += 1;
            if let Coding::InCamera(assembler) = &mut self.coding {
                assembler.lost();
                self.ask_for_idr();
            }
            return Ok(Vec::new());
        }
        match &mut self.coding {
            Coding::InCamera(assembler) => {
                let mut pictures = Vec::new();
                let before = assembler.losses();
                assembler.push_annex_b(bytes, at, |picture, at| pictures.push((picture, at)));
                // A buffer holds whole pictures (V4L2_PIX_FMT_H264): there is nothing to wait for.
                assembler.finish(at, |picture, at| pictures.push((picture, at)));
                let after = assembler.losses();
                lost.stream.malformed += after.malformed - before.malformed;
                lost.stream.skipped_to_idr += after.skipped_to_idr - before.skipped_to_idr;
                lost.stream.without_parameter_sets += after.without_parameter_sets - before.without_parameter_sets;
                lost.stream.garbage_bytes += after.garbage_bytes.saturating_sub(before.garbage_bytes);
                let is_left_out = after.skipped_to_idr > before.skipped_to_idr
                    || after.without_parameter_sets > before.without_parameter_sets;
                self.left_out = is_left_out.then_some(after);
                if is_left_out || self.idr_requests.has_changed().unwrap_or(false) {
                    self.idr_requests.mark_unchanged();
                    self.ask_for_idr();
                }
                Ok(pictures)
            }
            Coding::Here { coder, jpeg, scratch } => {
                if !self.pace.admit(at.monotonic) {
                    self.is_paced_out = true;
                    return Ok(Vec::new());
                }
                let view = match self.opened.format {
                    PixelFormat::Raw(layout) => {
                        let (width, height) = (self.opened.width as usize, self.opened.height as usize);
                        let stride = (self.opened.stride as usize).max(layout.row(width));
                        to_i420(Raw { layout, width, height, stride, data: bytes }, scratch).map_err(|e| e.to_string())
                    }
                    _ => jpeg.decode(bytes).map_err(|error| error.to_string()),
                };
                let view = match view {
                    Ok(view) => view,
                    Err(reason) => {
                        self.reason = Some(reason);
                        lost.stream.malformed += 1;
                        return Ok(Vec::new());
                    }
                };
                let coded = coder
                    .encode(view, at.monotonic)
                    .map_err(|error| CaptureError::UnsupportedFormat(format!("{}: {error}", self.opened.given())))?;
                Ok(coded.map(|picture| (picture, at)).into_iter().collect())
            }
        }
    }

    fn ask_for_idr(&self) {
        // Many cameras cannot be asked: then their own GOP decides.
        if controls::force_key_frame(&self.opened.device).is_err()
            && let Some(unit) = self.opened.unit
        {
            drop(unit.force_idr(&self.opened.device));
        }
    }

    /// The error of a camera that sends nothing that can be used.
    fn no_picture(&self, timeout: Duration) -> CaptureError {
        match &self.reason {
            None => CaptureError::Stalled(timeout),
            Some(reason) => CaptureError::UnsupportedFormat(format!(
                "buffers come, but no picture for {} s: {reason} ({})",
                timeout.as_secs(),
                self.opened.given()
            )),
        }
    }
}

/// What the samples of a format mean; `None` when they are coded.
fn colour(format: PixelFormat) -> Option<Colour> {
    match format {
        PixelFormat::H264 => None,
        PixelFormat::Mjpeg => Some(Colour::Bt601Full),
        PixelFormat::Raw(_) => Some(Colour::Bt601),
    }
}

/// Counts pictures that the camera took and the driver did not give.
#[derive(Debug, Default)]
struct Sequence(Option<u32>);

impl Sequence {
    fn gap(&mut self, sequence: u32) -> u64 {
        let expected = self.0.map(|last| last.wrapping_add(1));
        self.0 = Some(sequence);
        // Some drivers do not count, and some begin again.
        expected.and_then(|expected| sequence.checked_sub(expected)).map_or(0, u64::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_in_the_sequence() {
        let mut sequence = Sequence::default();
        let gaps: Vec<u64> = [7, 8, 11, 11, 0, 0, 1].into_iter().map(|number| sequence.gap(number)).collect();
        assert_eq!(gaps, [0, 0, 2, 0, 0, 0, 0]);
    }
}

//! Where all sources deliver: pictures get their timestamps here and go into the camera's log.

use std::time::{Duration, Instant};

use bytes::Bytes;
use edgecam_media::assembler::{Losses, Picture};
use edgecam_media::clock::{Arrival, ArrivalClock, Timeline};
use edgecam_media::{AccessUnit, AudioFormat, Ticks, Timestamp, TrackId};
use tokio::sync::watch;

use super::audio_lane::AudioLane;
use crate::encode::Control;
use crate::host::wall_clock;

/// Takes pictures from one attempt of a source.
pub struct Sink {
    clocks: Clocks,
    timeline: Timeline,
    arrivals: Option<ArrivalClock>,
    /// Footage of the past: when its first picture was taken, and that one's media time.
    recorded: Option<(Timestamp, Option<Ticks>)>,
    wants_audio: bool,
    audio: Option<AudioLane>,
    append: Box<dyn FnMut(Delivered) + Send + Sync>,
    force_idr: watch::Receiver<u64>,
    encoder: watch::Receiver<Control>,
    lost: watch::Sender<Lost>,
    particulars: watch::Sender<Particulars>,
    waiting: watch::Sender<Option<Waiting>>,
}

/// What a source tells about itself, and what its next attempt has to know.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Particulars {
    /// What stays the same of a device that is unplugged and plugged in again.
    pub identity: Option<String>,
    /// Since when that device has not been found.
    pub missing_since: Option<Instant>,
    /// The device, for people.
    pub device: Option<String>,
    /// What it was asked to give.
    pub asked: Option<String>,
    /// What it gives.
    pub given: Option<String>,
    /// What could not be set, and what is different from what was asked.
    pub notes: Vec<String>,
    /// Of a stream whose fragments have numbers: the last one that was played, and when it was taken. The next attempt goes on
    /// behind it.
    pub played: Option<(String, Option<Timestamp>)>,
    /// It codes by itself and cannot be asked for an IDR.
    pub refuses_idrs: bool,
}

/// Why a source delivers nothing for now, though its attempt goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// For something outside: it is not there, and may come at any time.
    For(&'static str),
    /// For a device that does not answer.
    Hung(&'static str),
}

/// So long a device that was unplugged is waited for, before another one that fits the config is taken in its place: then
/// someone has replaced it.
const LOYALTY: Duration = Duration::from_secs(60);

impl Particulars {
    /// The device was not found.
    pub fn miss(&mut self, now: Instant) {
        let since = *self.missing_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= LOYALTY {
            self.identity = None;
        }
    }
}

/// Tells about a source.
#[derive(Clone, Debug)]
pub struct Describer(watch::Sender<Particulars>);

impl Describer {
    /// See [`Sink::describe`].
    pub fn describe(&self, tell: impl FnOnce(&mut Particulars)) {
        self.0.send_if_modified(|particulars| {
            let before = particulars.clone();
            tell(particulars);
            *particulars != before
        });
    }
}

/// A stamped picture or frame of sound on its way into the log.
#[derive(Clone, PartialEq, Debug)]
pub struct Delivered {
    /// The picture, or the frame of sound.
    pub unit: AccessUnit,
    /// The wall clock was set back: see [`Timeline`].
    pub went_back: bool,
}

/// What this attempt could not deliver, counted since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// RTP packets missing.
    pub packets: u64,
    /// Pictures left out because they were older than the connection: what a FIFO still held.
    pub stale: u64,
    /// Frames not drawn, captured or encoded because their time had passed.
    pub late: u64,
    /// Frames of sound for which there was no picture, no place in time, or no reader.
    pub audio: u64,
    /// What the stream itself was missing.
    pub stream: Losses,
}

impl Lost {
    /// The sum of two attempts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            stale: self.stale + other.stale,
            late: self.late + other.late,
            audio: self.audio + other.audio,
            stream: Losses {
                malformed: self.stream.malformed + other.stream.malformed,
                skipped_to_idr: self.stream.skipped_to_idr + other.stream.skipped_to_idr,
                without_parameter_sets: self.stream.without_parameter_sets + other.stream.without_parameter_sets,
                garbage_bytes: self.stream.garbage_bytes + other.stream.garbage_bytes,
            },
        }
    }
}

/// Both clocks of the machine, to be read by a thread that has no [`Sink`].
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    started: Instant,
}

impl Clocks {
    /// Both clocks, now.
    pub fn now(self) -> Arrival {
        Arrival { monotonic: self.started.elapsed(), wall: wall_clock() }
    }
}

impl Sink {
    /// A sink that continues behind a picture stamped `latest`. `force_idr` changes whenever a reader wants an IDR.
    /// `encoder` says what is asked of the source's encoder.
    pub fn new(
        latest: Option<Timestamp>,
        force_idr: watch::Receiver<u64>,
        encoder: watch::Receiver<Control>,
        append: impl FnMut(Delivered) + Send + Sync + 'static,
    ) -> Self {
        Self {
            clocks: Clocks { started: Instant::now() },
            timeline: Timeline::after(latest),
            arrivals: None,
            recorded: None,
            wants_audio: false,
            audio: None,
            append: Box::new(append),
            force_idr,
            encoder,
            lost: watch::Sender::default(),
            particulars: watch::Sender::default(),
            waiting: watch::Sender::default(),
        }
    }

    /// The same with what earlier attempts have told.
    #[must_use]
    pub fn knowing(self, particulars: Particulars) -> Self {
        self.particulars.send_replace(particulars);
        self
    }

    /// The same for footage of the past, whose first picture was taken at `start`: only the source's clock counts, however
    /// fast pictures arrive.
    #[must_use]
    pub fn recorded(self, start: Timestamp) -> Self {
        Self { recorded: Some((start, None)), ..self }
    }

    /// Both clocks, now. To be read when data arrives, not when it has been parsed.
    pub fn now(&self) -> Arrival {
        self.clocks.now()
    }

    /// The clocks that [`Sink::now`] reads.
    pub fn clocks(&self) -> Clocks {
        self.clocks
    }

    /// Takes a picture of a source that has a clock; `media` is its time on that clock.
    pub fn deliver(&mut self, picture: Picture, media: Ticks, at: Arrival) {
        let at = match &mut self.recorded {
            None => at,
            Some((start, first)) => {
                let elapsed = media - *first.get_or_insert(media);
                Arrival { monotonic: elapsed.to_duration(), wall: *start + elapsed }
            }
        };
        let stamp = self.timeline.stamp(media, at, picture.is_idr);
        let Picture { is_idr, data, mut parameter_sets } = picture;
        if let Some(audio) = &mut self.audio {
            let append = &mut self.append;
            audio.before_picture(stamp.pts, is_idr, stamp.went_back, |unit| {
                append(Delivered { unit, went_back: false })
            });
            parameter_sets = parameter_sets.map(|sets| audio.describe(&sets));
        }
        let unit = AccessUnit { track: TrackId::VIDEO, pts: stamp.pts, is_idr, data, parameter_sets };
        (self.append)(Delivered { unit, went_back: stamp.went_back });
    }

    /// Whether the camera's sound is to be recorded. Off unless it was asked for.
    pub fn set_wants_audio(&mut self, wants_audio: bool) {
        self.wants_audio = wants_audio;
    }

    /// Whether [`Sink::deliver_audio`] is of any use.
    pub fn wants_audio(&self) -> bool {
        self.wants_audio
    }

    /// What the source's sound is like; from the next IDR on there is a track for it.
    pub fn set_audio(&mut self, format: AudioFormat) {
        self.audio = self.wants_audio.then(|| AudioLane::new(format));
    }

    /// Takes a frame of sound; `media` is its time on the source's audio clock.
    pub fn deliver_audio(&mut self, data: Bytes, media: Ticks, at: Arrival) {
        let Some(audio) = &mut self.audio else { return };
        let append = &mut self.append;
        let dropped = audio.push(data, media, at, |unit| append(Delivered { unit, went_back: false }));
        self.count_lost(|lost| lost.audio += dropped);
    }

    /// Takes a picture of a source without a clock. `frame_duration` is what the config or the stream says.
    pub fn deliver_on_arrival(&mut self, picture: Picture, frame_duration: Option<Ticks>, at: Arrival) {
        let clock = self.arrivals.get_or_insert_with(|| ArrivalClock::new(frame_duration));
        let media = clock.tick(at.monotonic);
        self.deliver(picture, media, at);
    }

    /// A watch that changes when a reader asks for an IDR; for sources that can make one.
    pub fn idr_requests(&self) -> watch::Receiver<u64> {
        self.force_idr.clone()
    }

    /// A watch that changes when something is asked of the encoder; for sources that have one.
    pub fn encoder(&self) -> watch::Receiver<Control> {
        self.encoder.clone()
    }

    /// Counts what could not be delivered; readers are woken only when something was.
    pub fn count_lost(&self, count: impl FnOnce(&mut Lost)) {
        self.lost.send_if_modified(|lost| {
            let before = *lost;
            count(lost);
            *lost != before
        });
    }

    /// The counters of [`Sink::count_lost`], for whoever reports them.
    pub fn lost(&self) -> watch::Receiver<Lost> {
        self.lost.subscribe()
    }

    /// The identity of the device that an earlier attempt used.
    pub fn remembered(&self) -> Option<String> {
        self.particulars.borrow().identity.clone()
    }

    /// What an earlier attempt has played.
    pub fn played(&self) -> Option<(String, Option<Timestamp>)> {
        self.particulars.borrow().played.clone()
    }

    /// Tells about the source; readers are woken only when something is new.
    pub fn describe(&self, tell: impl FnOnce(&mut Particulars)) {
        self.describer().describe(tell);
    }

    /// The source waits for something outside, and will for as long as it takes: said again and again, so that it is not
    /// taken for a hang.
    pub fn waiting(&self, for_what: &'static str) {
        self.waiting.send_replace(Some(Waiting::For(for_what)));
    }

    /// The device does not answer; said once. Nothing can be done about it from here: whoever watches the whole agent may
    /// end it.
    pub fn hangs(&self, what: &'static str) {
        self.waiting.send_replace(Some(Waiting::Hung(what)));
    }

    /// What [`Sink::waiting`] and [`Sink::hangs`] say.
    pub fn waits(&self) -> watch::Receiver<Option<Waiting>> {
        self.waiting.subscribe()
    }

    /// [`Sink::describe`] for whoever works beside the one who has the sink.
    pub fn describer(&self) -> Describer {
        Describer(self.particulars.clone())
    }

    /// What [`Sink::describe`] told, for whoever reports it.
    pub fn particulars(&self) -> watch::Receiver<Particulars> {
        self.particulars.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_camera_is_forgotten_after_a_while() {
        let now = Instant::now();
        let mut camera = Particulars { identity: Some("a".to_owned()), ..Particulars::default() };
        for (seconds, is_known) in [(0, true), (59, true), (60, false)] {
            camera.miss(now + Duration::from_secs(seconds));
            assert_eq!(camera.identity.is_some(), is_known, "after {seconds} s");
        }
    }
}

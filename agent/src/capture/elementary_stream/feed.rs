//! From chunks of a byte stream to delivered pictures: tells what it is, puts pictures together, leaves out what is old.

use std::time::Duration;

use edgecam_media::Ticks;
use edgecam_media::assembler::{Assembler, Losses, Picture};
use edgecam_media::clock::Arrival;
use tokio::sync::mpsc;

use super::Observed;
use super::stale::StaleFilter;
use crate::capture::idr_watch::IdrWatch;
use crate::capture::sniff;
use crate::capture::{CaptureError, Sink};
use crate::config::source::ElementaryStream;

/// For the stale filter only, where neither config nor stream says. A slower stream is not mistaken by it.
const ASSUMED_FRAME: Duration = Duration::from_millis(33);

/// The state of one attempt.
pub(super) struct Feed {
    name: String,
    configured: Option<Ticks>,
    announced: Option<Ticks>,
    assembler: Assembler<Arrival>,
    losses: Losses,
    /// The first bytes, until they have told what the stream is.
    head: Option<Vec<u8>>,
    stale: StaleFilter,
    idr_watch: IdrWatch,
    frame_timeout: Duration,
    /// When the last picture came, delivered or not; for a new writer, when it came.
    last_picture: Duration,
    observer: Option<mpsc::Sender<Observed>>,
}

impl Feed {
    /// `name` is for people.
    pub(super) fn new(name: String, settings: &ElementaryStream, stale: StaleFilter, now: Duration) -> Self {
        let configured = settings.frame_rate.filter(|rate| *rate > 0.0);
        Self {
            name,
            configured: configured.map(|rate| Ticks::new((90_000.0 / rate).round() as i64)),
            announced: None,
            assembler: Assembler::default(),
            losses: Losses::default(),
            head: Some(Vec::new()),
            stale,
            idr_watch: IdrWatch::new(now),
            frame_timeout: settings.frame_timeout,
            last_picture: now,
            observer: None,
        }
    }

    /// Shows delivered pictures to `observer`, which never holds them up.
    pub(super) fn show_to(&mut self, observer: Option<mpsc::Sender<Observed>>) {
        self.observer = observer;
    }

    fn frame_duration(&self) -> Option<Ticks> {
        self.configured.or(self.announced)
    }

    /// How long the writer has left to send its next picture.
    pub(super) fn patience(&self, now: Duration) -> Duration {
        (self.last_picture + self.frame_timeout).saturating_sub(now)
    }

    /// The error of a writer that has not sent one.
    pub(super) fn stalled(&self) -> CaptureError {
        CaptureError::Stalled(self.frame_timeout)
    }

    /// A writer has come: it has its own time to send a picture.
    pub(super) fn writer_came(&mut self, at: Arrival) {
        self.last_picture = at.monotonic;
        self.idr_watch = IdrWatch::new(at.monotonic);
    }

    /// Takes bytes that arrived at `at`.
    pub(super) fn push(&mut self, bytes: &[u8], at: Arrival, sink: &mut Sink) -> Result<(), CaptureError> {
        self.stale.arrived(
            bytes.len() as u64,
            at.monotonic,
            self.frame_duration().map_or(ASSUMED_FRAME, Ticks::to_duration),
        );
        self.recognise(bytes, at, sink)?;
        self.assemble(at, sink, |assembler, out| assembler.push_annex_b(bytes, at, out));
        let losses = self.assembler.losses();
        if losses != self.losses {
            let picture_left_out = losses.skipped_to_idr > self.losses.skipped_to_idr
                || losses.without_parameter_sets > self.losses.without_parameter_sets;
            self.losses = losses;
            sink.count_lost(|lost| lost.stream = losses);
            if picture_left_out {
                self.last_picture = at.monotonic;
                self.idr_watch.left_out(at.monotonic, losses, &self.name)?;
            }
        }
        // Bytes that never become a picture are no sign of life.
        if self.patience(at.monotonic) == Duration::ZERO { Err(self.stalled()) } else { Ok(()) }
    }

    /// The writer has gone: delivers the picture in progress. The next writer begins afresh, at an IDR.
    pub(super) fn writer_gone(&mut self, at: Arrival, sink: &mut Sink) {
        self.assemble(at, sink, |assembler, out| assembler.finish(at, out));
        self.assembler.lost();
        self.head = Some(Vec::new());
        self.stale = StaleFilter::none();
    }

    fn assemble(
        &mut self,
        now: Arrival,
        sink: &mut Sink,
        push: impl FnOnce(&mut Assembler<Arrival>, &mut dyn FnMut(Picture, Arrival)),
    ) {
        let Self { configured, announced, assembler, stale, idr_watch, last_picture, observer, .. } = self;
        let mut stale_pictures = 0;
        push(assembler, &mut |picture, at| {
            *last_picture = now.monotonic;
            if let Some(sets) = &picture.parameter_sets {
                *announced = sets.facts().frame_rate.map(|(frames, seconds)| Ticks::from_scale(seconds.into(), frames));
            }
            if stale.admit(picture.is_idr, at.monotonic) {
                idr_watch.delivered(now.monotonic);
                if let Some(observer) = observer {
                    // Its bytes are shared, not copied; without room it goes unobserved.
                    drop(observer.try_send(Observed { picture: picture.clone(), at: at.monotonic }));
                }
                sink.deliver_on_arrival(picture, configured.or(*announced), at);
            } else {
                stale_pictures += 1;
            }
        });
        sink.count_lost(|lost| lost.stale += stale_pictures);
    }

    /// Until the stream has told what it is, it is taken for H.264.
    fn recognise(&mut self, bytes: &[u8], at: Arrival, sink: &mut Sink) -> Result<(), CaptureError> {
        let Some(head) = &mut self.head else { return Ok(()) };
        let before = head.len();
        let room = sniff::LIMIT.saturating_sub(head.len());
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Some(content) = sniff::sniff(head) else { return Ok(()) };
        let codec = content.codec().ok_or_else(|| content.is_no_elementary_stream(&self.name))?;
        let head = self.head.take().unwrap_or_default();
        if codec != self.assembler.codec() {
            self.assembler = Assembler::new(codec);
            self.losses = Losses::default();
            self.assemble(at, sink, |assembler, out| assembler.push_annex_b(&head[..before], at, out));
        }
        Ok(())
    }
}

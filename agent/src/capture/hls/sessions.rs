//! A stream whose playback comes in sessions that end: from one to the next without a gap and without doubling.

use edgecam_media::Timestamp;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Stream;
use super::playlist::{Media, Segment};
use crate::capture::kvs::{AGAIN, BETWEEN, Session, Sessions, fragment_number};
use crate::capture::{CaptureError, Sink};
use crate::config::source::Hls;

/// The same for playback sessions that follow each other, of which `session` is the first. Why it has ended.
pub(in crate::capture) async fn play_sessions(
    settings: &Hls,
    session: Session,
    sessions: &mut Sessions<'_>,
    sink: &mut Sink,
) -> CaptureError {
    let mut stream = Stream::new(settings);
    let last = sink.played();
    stream.renewal = Some(Renewal { sessions, at: session.renew_at, refused: None, last });
    stream.play(sink).await
}

/// Of a stream that is played in sessions: when and how the next one is opened.
pub(super) struct Renewal<'a, 's> {
    sessions: &'a mut Sessions<'s>,
    at: Instant,
    /// When a session was refused before its time.
    refused: Option<Instant>,
    /// Number and time of the fragment that was played last.
    last: Option<(String, Option<Timestamp>)>,
}

impl Stream<'_, '_> {
    pub(super) fn played(&mut self, segment: &Segment, sink: &Sink) {
        if let Some(renewal) = &mut self.renewal {
            renewal.last = fragment_number(&segment.uri).map(|number| (number.to_owned(), segment.taken));
            sink.describe(|particulars| particulars.played = renewal.last.clone());
        }
    }

    /// Opens the next session where it is time. That it cannot be had just now is no matter while the old one lasts.
    pub(super) async fn renew_in_time(&mut self) -> Result<Option<Media>, CaptureError> {
        let Some(renewal) = self.renewal.as_mut().filter(|renewal| renewal.at <= Instant::now()) else {
            return Ok(None);
        };
        renewal.at = Instant::now() + AGAIN;
        match self.renew().await {
            Ok(media) => Ok(Some(media)),
            Err(error) => {
                warn!(stream = %self.shown(), %error, "the next playback session cannot be opened yet");
                Ok(None)
            }
        }
    }

    /// Opens the next session where `error` is that the token is refused; not again and again.
    pub(super) async fn renew_after(&mut self, error: CaptureError) -> Result<Media, CaptureError> {
        let Some(renewal) = &mut self.renewal else { return Err(error) };
        let is_first = renewal.refused.is_none_or(|at| at.elapsed() > BETWEEN);
        if !matches!(error, CaptureError::AuthFailed(_)) || !is_first {
            return Err(error);
        }
        renewal.refused = Some(Instant::now());
        info!(stream = %self.shown(), "the playback session is refused: the next one is opened");
        self.renew().await
    }

    /// Goes on in a session of its own, behind the fragment that was played last.
    async fn renew(&mut self) -> Result<Media, CaptureError> {
        let Some(renewal) = &mut self.renewal else { return self.open().await };
        let session = renewal.sessions.open().await?;
        let before = std::mem::replace(&mut self.url, session.url);
        let media = match self.open().await {
            Ok(media) => media,
            Err(error) => {
                self.url = before;
                return Err(error);
            }
        };
        if let Some(renewal) = &mut self.renewal {
            renewal.at = session.renew_at;
        }
        self.head = None;
        self.go_on(&media);
        debug!(stream = %self.shown(), next = self.next, sequence = media.sequence, "the next playback session");
        // Its clock may be another one; its pictures are the same.
        self.player.interrupted();
        if self.next.is_none() {
            self.interrupted();
        }
        Ok(media)
    }

    /// Of a stream in sessions: a playlist of a session that is new goes on behind what was played last.
    pub(super) fn go_on(&mut self, media: &Media) {
        if let Some(renewal) = &self.renewal {
            let at = renewal.last.as_ref().and_then(|(number, taken)| behind(media, number, *taken));
            self.next = at.map(|at| media.sequence + at as u64);
        }
    }
}

/// Where a playlist goes on behind a fragment: known by its number, or else by its time.
pub(super) fn behind(media: &Media, number: &str, taken: Option<Timestamp>) -> Option<usize> {
    let at = media.segments.iter().position(|segment| fragment_number(&segment.uri) == Some(number));
    let later = || media.segments.iter().position(|segment| segment.taken.zip(taken).is_some_and(|(a, b)| a > b));
    at.map(|at| at + 1).or_else(later)
}

//! Streams by HLS (RFC 8216): live and recorded, in transport streams and fragmented MP4.
//!
//! Segments are played at the pace of their own times: what comes in a burst goes into the log picture by picture. A
//! live stream is joined three target durations before its end (section 6.3.3), and one that is left behind by more than
//! twice that is joined anew. A segment that is not there, or cannot be read, is passed over; what follows begins at an
//! IDR.
//!
//! Invariants: every request has a deadline and a bound; redirects are followed five times at most; a playlist is asked
//! for no more often than the standard says (section 6.3.4).
//!
//! Deliberately absent: a change of quality while it runs, audio, encryption.

pub mod playlist;
mod segment;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgecam_media::{Ticks, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use url::Url;

use self::playlist::{Map, Media, Playlist, Segment, Variant};
use self::segment::{Segments, Timed};
use self::sessions::Renewal;
pub(super) use self::sessions::play_sessions;
use super::file::Pacer;
use super::{CaptureError, Sink};
use crate::config::source::Hls;
use crate::http::{Client, HttpError, HttpFault, Request, Settings, StatusCode, header};

/// Bytes of a playlist, and of a segment, at most.
const PLAYLIST: usize = 4 << 20;
const SEGMENT: usize = 64 << 20;
const REDIRECTS: u8 = 5;
/// Times a segment is asked for, and the pause before it is asked for again.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// A live stream is joined so many target durations before its end; behind twice that it is joined anew.
const BEHIND: u32 = 3;
/// So many segments in a row that cannot be read end the attempt.
const UNREADABLE: u32 = 5;
/// A playlist that ends so many segments before the next one is an older copy of the same; what is further off began anew.
const OLDER: u64 = 10;
/// Times inside a segment may go so much beyond its duration.
const BEYOND: Duration = Duration::from_secs(10);
/// A live stream's times are believed when they are so near to our clock.
const CLOCKS_APART: Ticks = Ticks::from_seconds(600);
/// A segment that took up to this long to load is caught up with at once; later than that, time begins anew.
const CATCH_UP: Duration = Duration::from_secs(30);
/// A frame of a stream of one picture.
const FRAME: Ticks = Ticks::new(3000);

/// Delivers until `cancel` is called (`Ok`), the stream ends or fails.
pub async fn attempt(settings: &Hls, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Ok(()),
        error = Stream::new(settings).play(sink) => Err(error),
    }
}

/// A stream that is being played.
struct Stream<'a, 's> {
    settings: &'a Hls,
    renewal: Option<Renewal<'a, 's>>,
    client: Client,
    /// The playlist of segments, once it is known.
    url: Url,
    segments: Segments,
    head: Option<(Arc<Map>, Bytes)>,
    /// Number of the next segment.
    next: Option<u64>,
    /// Since when the playlist is older than what was played.
    older: Option<Instant>,
    /// How many segments in a row could not be read, and why the last.
    unreadable: (u32, String),
    /// It was said that the server's times are not believed.
    is_clock_off: bool,
    player: Player,
}

/// The body of an answer that has one.
struct Answer {
    /// Where it was in the end.
    url: Url,
    /// Not only the range that was asked for.
    is_whole: bool,
    bytes: Bytes,
}

/// Why a resource could not be had.
enum Missing {
    /// It is not there (any more).
    Gone(String),
    Failed(CaptureError),
}

impl<'a> Stream<'a, '_> {
    fn new(settings: &'a Hls) -> Self {
        let Hls { url, credentials, ca_file, insecure, .. } = settings.clone();
        let http = Settings { credentials, ca_file, insecure, ..Settings::default() };
        Self {
            settings,
            renewal: None,
            client: Client::new(&url, http),
            url,
            segments: Segments::default(),
            head: None,
            next: None,
            older: None,
            unreadable: (0, String::new()),
            is_clock_off: false,
            player: Player::default(),
        }
    }

    async fn play(mut self, sink: &mut Sink) -> CaptureError {
        match self.run(sink).await {
            Ok(()) => CaptureError::Ended,
            Err(error) => error,
        }
    }

    /// Plays up to the end of what is recorded.
    async fn run(&mut self, sink: &mut Sink) -> Result<(), CaptureError> {
        let mut media = self.open().await?;
        self.go_on(&media);
        let was_live = !media.is_over;
        info!(stream = %self.shown(), live = was_live, segments = media.segments.len(), "playing");
        let mut loaded = Instant::now();
        let mut news = Instant::now();
        loop {
            let first = self.begin(&media);
            let pending = media.segments.len().saturating_sub(first);
            if pending > 0 {
                let sequence = media.sequence + first as u64;
                let segment = media.segments[first].clone();
                match self.segment(&segment, sequence, was_live, sink).await {
                    Ok(has_some) if has_some => news = Instant::now(),
                    Ok(_) => {}
                    Err(error) => {
                        // The same segment is looked for in the next session.
                        media = self.renew_after(error).await?;
                        continue;
                    }
                }
                self.next = Some(sequence + 1);
                self.played(&segment, sink);
            } else if media.is_over {
                return match was_live {
                    true => Err(CaptureError::Unreachable(format!("{}: the live stream has ended", self.shown()))),
                    false if self.player.started.is_none() && self.unreadable.0 > 0 => {
                        Err(CaptureError::UnsupportedCodec(std::mem::take(&mut self.unreadable.1)))
                    }
                    false => Ok(()),
                };
            }
            // Not sooner than the target duration after the last time; half of that if nothing was new.
            let wait = if pending > 1 { media.target } else { media.target / 2 };
            if media.is_over || (pending > 1 && loaded.elapsed() < wait) {
                continue;
            }
            let stalled = self.settings.stall_timeout.max(media.target * 3);
            if news.elapsed() > stalled {
                return Err(CaptureError::Stalled(stalled));
            }
            tokio::time::sleep_until(loaded + wait).await;
            loaded = Instant::now();
            if let Some(next) = self.renew_in_time().await? {
                media = next;
                continue;
            }
            media = match self.reload(media).await {
                Ok(media) => media,
                Err(error) => self.renew_after(error).await?,
            };
        }
    }

    /// The playlist of segments, by way of a master playlist if need be.
    async fn open(&mut self) -> Result<Media, CaptureError> {
        for _ in 0..2 {
            match self.playlist().await.map_err(Missing::into_error)? {
                Playlist::Media(media) => return Ok(media),
                Playlist::Master(variants) => {
                    let best = choose(&variants).ok_or_else(|| self.unsupported("no variant in H.264 or H.265"))?;
                    self.url = self.url.join(&best.uri).map_err(|_| self.unsupported("a variant without a URL"))?;
                }
            }
        }
        Err(self.unsupported("a master playlist that names another"))
    }

    /// The playlist anew; the old one where it cannot be had just now: then nothing is new, and that has a limit.
    async fn reload(&mut self, old: Media) -> Result<Media, CaptureError> {
        match self.playlist().await {
            Ok(Playlist::Media(media)) => Ok(media),
            Ok(Playlist::Master(_)) => Err(self.unsupported("a playlist that became a master playlist")),
            // Not there for a moment is what a server does that replaces the file.
            Err(Missing::Gone(error) | Missing::Failed(CaptureError::Unreachable(error))) => {
                debug!(stream = %self.shown(), error, "the playlist could not be loaded");
                Ok(old)
            }
            Err(Missing::Failed(error)) => Err(error),
        }
    }

    /// Which segment of the playlist is next.
    fn begin(&mut self, media: &Media) -> usize {
        let count = media.segments.len();
        let end = media.sequence + count as u64;
        let live = || {
            let mut left = media.target * BEHIND;
            let before = media.segments.iter().rev().take_while(|segment| {
                let fits = !left.is_zero();
                left = left.saturating_sub(segment.duration);
                fits
            });
            count - before.count()
        };
        let Some(next) = self.next else { return if media.is_over { 0 } else { live() } };
        if self.is_older(next, end, media.target) {
            return count;
        }
        let is_lost = next < media.sequence || next > end;
        let behind = |first: usize| media.segments[first..].iter().map(|segment| segment.duration).sum::<Duration>();
        let first = next.saturating_sub(media.sequence) as usize;
        let is_late = !media.is_over && !is_lost && behind(first.min(count)) > media.target * BEHIND * 3;
        if !is_lost && !is_late {
            return first;
        }
        // It began anew, went on without us, or is ahead: joined where it is now.
        let first = if next > end || is_late { live() } else { 0 };
        warn!(stream = %self.shown(), wanted = next, first = media.sequence, end, "the live stream went on elsewhere");
        self.interrupted();
        self.next = Some(media.sequence + first as u64);
        first
    }

    /// Whether the playlist, which ends at `end`, is a copy from before `next` was added, as caches give: it brings
    /// nothing new. One that stays so began anew.
    fn is_older(&mut self, next: u64, end: u64, target: Duration) -> bool {
        if next <= end || next - end > OLDER {
            self.older = None;
            return false;
        }
        // Where it began anew after all, the head may be another one.
        self.head = None;
        self.older.get_or_insert_with(Instant::now).elapsed() < target
    }

    /// What comes next does not continue what was played; the head may be another one under the same URI.
    fn interrupted(&mut self) {
        self.segments.interrupted();
        self.player.interrupted();
        self.head = None;
    }

    /// Fetches a segment and plays it; returns whether there was something to play.
    async fn segment(
        &mut self,
        segment: &Segment,
        sequence: u64,
        is_live: bool,
        sink: &mut Sink,
    ) -> Result<bool, CaptureError> {
        if segment.is_discontinuous {
            self.interrupted();
        }
        let fetched = match segment.is_gap {
            true => Err(Missing::Gone("it is a gap".to_owned())),
            false => self.fetch(segment).await,
        };
        let (head, bytes) = match fetched {
            Ok(fetched) => fetched,
            Err(Missing::Gone(why)) => {
                warn!(stream = %self.shown(), sequence, why, "a segment is not there: passed over");
                self.interrupted();
                return Ok(false);
            }
            Err(Missing::Failed(CaptureError::UnsupportedCodec(what))) => return self.unreadable(sequence, what),
            Err(Missing::Failed(error)) => return Err(error),
        };
        let mut segments = std::mem::take(&mut self.segments);
        // A parser that gives up by a panic has met what it was not made for: that costs the segment and no more.
        let parsed = tokio::task::spawn_blocking(move || {
            let pictures = segments.pictures(head, bytes);
            (segments, pictures)
        });
        let pictures = match parsed.await {
            Ok((segments, pictures)) => {
                self.segments = segments;
                pictures
            }
            Err(error) => Err(format!("a segment that is damaged ({error})")),
        };
        let pictures = match pictures {
            Ok(pictures) => pictures,
            Err(what) => return self.unreadable(sequence, format!("{} gives {what}", self.shown())),
        };
        self.unreadable.0 = 0;
        sink.count_lost(|lost| lost.stream = self.segments.losses());
        let has_some = !pictures.is_empty();
        let taken = segment.taken.filter(|_| is_live).filter(|taken| self.is_believed(*taken, sink.now().wall));
        self.player.play(pictures, segment.duration, taken, sink).await;
        Ok(has_some)
    }

    /// Passes over a segment that is there and cannot be read; too many of them are no accident.
    fn unreadable(&mut self, sequence: u64, what: String) -> Result<bool, CaptureError> {
        warn!(sequence, what, "a segment cannot be read: passed over");
        self.unreadable = (self.unreadable.0 + 1, what.clone());
        if self.unreadable.0 == UNREADABLE {
            return Err(CaptureError::UnsupportedCodec(what));
        }
        self.interrupted();
        Ok(false)
    }

    /// Whether the time that the server says is one that our clock could have shown.
    fn is_believed(&mut self, taken: Timestamp, now: Timestamp) -> bool {
        let off = taken.since(now);
        let is_believed = off.get().abs() <= CLOCKS_APART.get();
        if !is_believed && !std::mem::replace(&mut self.is_clock_off, true) {
            let off_seconds = off.get() / Ticks::from_seconds(1).get();
            warn!(stream = %self.shown(), off_seconds, "the server's clock is wrong: the time of arrival is used");
        }
        is_believed
    }

    async fn fetch(&mut self, segment: &Segment) -> Result<(Option<Bytes>, Bytes), Missing> {
        let head = match &segment.map {
            None => None,
            Some(map) => match &self.head {
                Some((known, head)) if known == map => Some(head.clone()),
                _ => {
                    let head = self.try_often(&map.uri, map.range).await?;
                    self.head = Some((map.clone(), head.clone()));
                    Some(head)
                }
            },
        };
        Ok((head, self.try_often(&segment.uri, segment.range).await?))
    }

    async fn try_often(&mut self, uri: &str, range: Option<(u64, u64)>) -> Result<Bytes, Missing> {
        let url = self.url.join(uri).map_err(|_| Missing::Gone("its URI is none".to_owned()))?;
        let mut request = Request::get(url).following(REDIRECTS);
        if let Some((offset, length)) = range {
            request = request.header(header::RANGE, format!("bytes={offset}-{}", offset + length - 1));
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.get(&request, SEGMENT).await {
                Ok(Answer { is_whole: true, bytes, .. }) => return Ok(cut(bytes, range)),
                Ok(Answer { bytes, .. }) => return Ok(bytes),
                Err(Missing::Failed(CaptureError::Unreachable(_))) if tries < TRIES => {
                    tokio::time::sleep(PAUSE * tries).await;
                }
                // The playlist says whether the server is there at all.
                Err(Missing::Failed(CaptureError::Unreachable(error))) => return Err(Missing::Gone(error)),
                Err(other) => return Err(other),
            }
        }
    }

    async fn playlist(&mut self) -> Result<Playlist, Missing> {
        let request = Request::get(self.url.clone()).following(REDIRECTS);
        let Answer { url, bytes, .. } = self.get(&request, PLAYLIST).await?;
        self.url = url;
        let text = String::from_utf8_lossy(&bytes);
        playlist::parse(&text).map_err(|error| Missing::Failed(self.unsupported(&error.to_string())))
    }

    async fn get(&mut self, request: &Request, limit: usize) -> Result<Answer, Missing> {
        let shown = self.shown();
        let failed = |error: HttpError| Missing::Failed(refused(&error));
        let answer = self.client.send(request).await.map_err(failed)?;
        match answer.status() {
            status @ (StatusCode::OK | StatusCode::PARTIAL_CONTENT) => {
                let (url, is_whole) = (answer.url().clone(), status == StatusCode::OK);
                Ok(Answer { url, is_whole, bytes: answer.bytes(limit).await.map_err(failed)? })
            }
            status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => {
                Err(Missing::Gone(format!("{shown} answers {}", status.as_u16())))
            }
            status @ StatusCode::FORBIDDEN => {
                Err(Missing::Failed(CaptureError::AuthFailed(format!("{shown} answers {}", status.as_u16()))))
            }
            status => Err(Missing::Failed(CaptureError::Unreachable(format!("{shown} answers {}", status.as_u16())))),
        }
    }

    fn unsupported(&self, what: &str) -> CaptureError {
        CaptureError::UnsupportedCodec(format!("{} gives {what}", self.shown()))
    }

    fn shown(&self) -> String {
        Hls::shown(&self.settings.url)
    }
}

impl Missing {
    fn into_error(self) -> CaptureError {
        match self {
            Self::Gone(why) => CaptureError::NotFound(why),
            Self::Failed(error) => error,
        }
    }
}

fn refused(error: &HttpError) -> CaptureError {
    match error.fault {
        HttpFault::Unauthorized => CaptureError::AuthFailed(error.to_string()),
        HttpFault::TooLarge => CaptureError::UnsupportedCodec(error.to_string()),
        _ => CaptureError::Unreachable(error.to_string()),
    }
}

/// The range that was meant, from a server that gives the whole instead. What is too short for that is left as it is.
fn cut(whole: Bytes, range: Option<(u64, u64)>) -> Bytes {
    let fits = range.and_then(|(offset, length)| {
        let begin = usize::try_from(offset).ok()?;
        let end = begin.checked_add(usize::try_from(length).ok()?)?;
        (end <= whole.len()).then_some(begin..end)
    });
    match fits {
        Some(range) => whole.slice(range),
        None => whole,
    }
}

/// The best variant that may be taken.
fn choose(variants: &[Variant]) -> Option<&Variant> {
    let is_known = |codec: &str| ["avc1", "avc3", "hvc1", "hev1"].iter().any(|name| codec.trim().starts_with(name));
    let is_taken = |variant: &&Variant| variant.codecs.as_ref().is_none_or(|codecs| codecs.split(',').any(is_known));
    variants.iter().filter(is_taken).max_by_key(|variant| variant.bandwidth)
}

/// Brings pictures to the log when their time has come, on one timeline.
struct Player {
    pacer: Pacer,
    started: Option<Instant>,
    /// Time on the stream's own clock, and on ours, where the current stretch begins.
    base: Option<(Ticks, Ticks)>,
    /// When the last picture ends.
    end: Ticks,
}

impl Default for Player {
    fn default() -> Self {
        Self { pacer: Pacer::giving_up(CATCH_UP), started: None, base: None, end: Ticks::ZERO }
    }
}

impl Player {
    /// The stream's clock begins anew with the next picture.
    fn interrupted(&mut self) {
        self.base = None;
    }

    /// `taken` is when the first of them was; `duration` is that of their segment.
    async fn play(&mut self, mut pictures: Vec<Timed>, duration: Duration, taken: Option<Timestamp>, sink: &mut Sink) {
        bound(&mut pictures, duration);
        let mut shown: Vec<Ticks> = pictures.iter().map(|(_, pts)| *pts).collect();
        shown.sort_unstable();
        let Some(&first) = shown.first() else { return };
        let last = shown.last().copied().unwrap_or(first);
        let frame = match shown.len() {
            0 | 1 => FRAME,
            count => Ticks::new((last - first).get() / (count as i64 - 1)),
        };
        // A jump of the stream's clock that its playlist does not tell.
        let is_near = |(from, ours): (Ticks, Ticks)| {
            let expected = self.end - ours + from;
            (first - expected).get().abs() < Ticks::from_seconds(10).get()
        };
        let (from, ours) = self.base.filter(|base| is_near(*base)).unwrap_or((first, self.end));
        self.base = Some((from, ours));
        let started = *self.started.get_or_insert_with(Instant::now);
        for ((picture, pts), due) in pictures.into_iter().zip(shown) {
            let due = ours + (due - from);
            tokio::time::sleep_until(started + self.pacer.wait_until(due, started.elapsed())).await;
            let media = ours + (pts - from);
            let mut at = sink.now();
            if let Some(taken) = taken {
                at.wall = taken + (pts - first);
            }
            sink.deliver(picture, media, at);
            self.end = self.end.max(media + frame);
        }
    }
}

/// A jump of the stream's clock inside a segment is no time to wait for: nothing is later than the segment may be long.
fn bound(pictures: &mut [Timed], duration: Duration) {
    let Some(first) = pictures.iter().map(|(_, pts)| *pts).min() else { return };
    let latest = first + Ticks::from_duration(duration + BEYOND);
    for (_, pts) in pictures {
        *pts = latest.min(*pts);
    }
}

#[cfg(test)]
mod tests;

//! One PutMedia request: what is written to its connection and what is read from it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgecam_media::ring::Position;
use edgecam_media::{AccessUnit, ParameterSets, Ticks, Timecode, Timestamp, mkv};

use crate::ack::{AckEvent, AckParser};
use crate::response::{Body, Head, ResponseError, ResponseReader};
use crate::window::{Progress, Window};

/// Names one PutMedia connection; never used twice in a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// The service takes fragments of at most 10 s (error 4002); a frame's own duration must fit as well.
pub(crate) const MAX_FRAGMENT: Ticks = Ticks::from_millis(9_700);
/// Inside a GOP with audio a fragment begins with audio: then it has a frame of both tracks.
const MAX_FRAGMENT_TO_AUDIO: Ticks = Ticks::from_millis(9_300);
/// The service takes at most 5 fragments a second: shorter GOPs share a fragment.
pub(crate) const MIN_FRAGMENT: Ticks = Ticks::from_millis(950);
/// The service takes fragments of at most 50 MB (error 4001).
const MAX_FRAGMENT_BYTES: usize = 48 << 20;
/// A peer that says nothing for this long about what it was sent is gone. With GOPs of a second it is found within 5 s.
const SILENCE: Duration = Duration::from_millis(3_500);
/// The same while the socket still takes bytes, if slowly: the ack may be behind a full send buffer.
const SILENCE_ON_A_SLOW_LINK: Duration = Duration::from_secs(30);
/// A socket that took no bytes for this long, and has some to take, is not slow but stuck.
const STUCK: Duration = Duration::from_secs(3);
/// Storing a fragment may take the service longer than receiving it.
const PERSIST_TIMEOUT: Duration = Duration::from_secs(30);
/// For the response head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For the last acks after the end of the request.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the next unit goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placement {
    /// Into the open Cluster.
    Append,
    /// Into a new Cluster.
    NewFragment,
    /// Into a new request: this one cannot take it.
    NewSession,
}

#[derive(Debug)]
struct Cluster {
    timecode: i64,
    start: Timestamp,
    bytes: usize,
}

/// An access unit together with where it stands in the log.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Where the reader stood before it.
    pub(crate) from: Position,
    /// Where it goes on.
    pub(crate) next: Position,
    pub(crate) unit: AccessUnit,
    pub(crate) sets: Arc<ParameterSets>,
    /// Its GOP is sent with audio.
    pub(crate) has_audio: bool,
    /// Names and values for the fragment that it begins.
    pub(crate) tags: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) opened: Instant,
    pub(crate) last_unit: Instant,
    out: VecDeque<Bytes>,
    out_bytes: usize,
    reader: ResponseReader,
    acks: AckParser,
    sets: Arc<ParameterSets>,
    has_audio: bool,
    cluster: Option<Cluster>,
    /// The latest timecode in the request so far, in milliseconds; the latest timestamp of the open Cluster.
    latest: Option<(i64, Timestamp)>,
    finished: Option<Instant>,
    ended: bool,
    last_ack: Instant,
    last_write: Instant,
}

impl Session {
    /// Begins the request: `head` is the signed request head; the Matroska header goes into the first chunk.
    /// `tracks` are those of its first GOP: what they hold, and whether there is audio.
    pub(crate) fn open(
        id: SessionId,
        head: Vec<u8>,
        tracks: (Arc<ParameterSets>, bool),
        uid: [u8; 16],
        now: Instant,
    ) -> Self {
        let (sets, has_audio) = tracks;
        let mut session = Self {
            id,
            opened: now,
            last_unit: now,
            out: VecDeque::new(),
            out_bytes: 0,
            reader: ResponseReader::default(),
            acks: AckParser::default(),
            cluster: None,
            latest: None,
            finished: None,
            ended: false,
            last_ack: now,
            last_write: now,
            sets: sets.clone(),
            has_audio,
        };
        session.queue(head.into());
        session.chunk(&[&mkv::header(&sets, has_audio, uid)], None);
        session
    }

    pub(crate) fn placement(&self, unit: &Unit) -> Placement {
        let AccessUnit { pts, is_idr, data, .. } = &unit.unit;
        let millis = pts.unix_millis();
        let same_sets = Arc::ptr_eq(&self.sets, &unit.sets) || self.sets == unit.sets;
        if self.finished.is_some() || !same_sets || self.has_audio != unit.has_audio {
            return Placement::NewSession;
        }
        let Some(cluster) = &self.cluster else {
            let later = self.latest.is_none_or(|(latest, _)| millis > latest);
            return if later { Placement::NewFragment } else { Placement::NewSession };
        };
        let span = pts.since(cluster.start);
        let is_later = self.latest.is_none_or(|(_, latest)| *pts > latest);
        let too_large = cluster.bytes + data.len() > MAX_FRAGMENT_BYTES;
        let most = if unit.unit.is_video() { MAX_FRAGMENT } else { MAX_FRAGMENT_TO_AUDIO };
        if (*is_idr && span >= MIN_FRAGMENT) || (is_later && span >= most) || too_large {
            let later = self.latest.is_none_or(|(latest, _)| millis > latest);
            return if later { Placement::NewFragment } else { Placement::NewSession };
        }
        // A step of the clock inside a fragment would break its limits.
        if (*is_idr && !is_later) || Timecode::relative(millis, cluster.timecode).is_none() {
            return Placement::NewSession;
        }
        Placement::Append
    }

    /// Whether `unit` would begin a fragment inside a GOP with audio whose audio has ceased: there had been time for some.
    pub(crate) fn is_without_audio(&self, unit: &Unit) -> bool {
        let span = self.open_span(unit.unit.pts);
        self.has_audio && unit.unit.is_video() && !unit.unit.is_idr && span.is_some_and(|span| span >= MAX_FRAGMENT)
    }

    /// Queues a unit that [`Session::placement`] has placed here. Returns whether a fragment began that does not begin
    /// with an IDR.
    pub(crate) fn push(&mut self, unit: &Unit, new_fragment: bool, window: &mut Window, now: Instant) -> bool {
        let millis = unit.unit.pts.unix_millis();
        let mut head = Vec::with_capacity(32);
        if new_fragment || self.cluster.is_none() {
            self.end_fragment(window, now);
            unit.tags.iter().for_each(|(name, value)| head.extend_from_slice(&mkv::tag(name, value)));
            self.cluster = Some(Cluster { timecode: millis, start: unit.unit.pts, bytes: 0 });
            head.extend_from_slice(&mkv::cluster(millis));
            window.begin(self.id, millis, unit.from, unit.next, now);
        } else {
            window.extend(self.id, unit.next);
        }
        let Some(cluster) = &mut self.cluster else { return false };
        cluster.bytes += unit.unit.data.len() + mkv::BLOCK_HEADER_SIZE;
        let begins_without_idr = !head.is_empty() && !unit.unit.is_idr;
        if let Some(timecode) = Timecode::relative(millis, cluster.timecode) {
            head.extend_from_slice(&mkv::block_header(&unit.unit, timecode));
            self.chunk(&[&head], Some(unit.unit.data.clone()));
        }
        let (latest, latest_pts) = self.latest.unwrap_or((millis, unit.unit.pts));
        self.latest = Some((latest.max(millis), latest_pts.max(unit.unit.pts)));
        self.last_unit = now;
        begins_without_idr
    }

    /// The open fragment is complete.
    pub(crate) fn end_fragment(&mut self, window: &mut Window, now: Instant) {
        if self.cluster.take().is_some() {
            window.complete(self.id, now);
        }
    }

    /// Ends the request: the service closes the open fragment, sends the last acks and ends the response.
    pub(crate) fn finish(&mut self, window: &mut Window, now: Instant) {
        if self.finished.is_none() {
            self.end_fragment(window, now);
            self.queue(Bytes::from_static(b"0\r\n\r\n"));
            self.finished = Some(now);
        }
    }

    /// Seconds of media in the open fragment, once `now_pts` is to be added.
    pub(crate) fn open_span(&self, now_pts: Timestamp) -> Option<Ticks> {
        self.cluster.as_ref().map(|cluster| now_pts.since(cluster.start))
    }

    /// Bytes to be written, in order.
    pub(crate) fn out(&self) -> &VecDeque<Bytes> {
        &self.out
    }

    pub(crate) fn out_bytes(&self) -> usize {
        self.out_bytes
    }

    /// The socket has taken `count` bytes off the front of [`Session::out`].
    pub(crate) fn written(&mut self, mut count: usize, now: Instant) {
        if count > 0 {
            self.last_write = now;
        }
        self.out_bytes -= count.min(self.out_bytes);
        while let Some(front) = self.out.front_mut() {
            if count < front.len() {
                bytes::Buf::advance(front, count);
                break;
            }
            count -= front.len();
            self.out.pop_front();
        }
    }

    /// Takes bytes of the response.
    pub(crate) fn received(&mut self, bytes: &[u8], now: Instant) -> Result<Vec<AckEvent>, ResponseError> {
        self.last_ack = now;
        let Self { reader, acks, ended, .. } = self;
        let mut events = Vec::new();
        reader.push(bytes, |body| match body {
            Body::Data(data) => acks.push(data, |event| events.push(event)),
            Body::End => *ended = true,
            Body::Head(_) => {}
        })?;
        Ok(events)
    }

    pub(crate) fn head(&self) -> Option<&Head> {
        self.reader.head()
    }

    pub(crate) fn error_message(&self) -> String {
        self.reader.error_message()
    }

    /// The response is complete.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.is_some()
    }

    /// When to give this connection up unless something comes from it, and for what.
    pub(crate) fn deadline(&self, window: &Window, now: Instant) -> Option<(Instant, &'static str)> {
        if self.head().is_none() {
            return Some((self.patient(self.opened.max(self.last_ack) + HEAD_TIMEOUT, now), "no answer to PutMedia"));
        }
        let finished = self.finished.map(|at| (at.max(self.last_write) + DRAIN_TIMEOUT, "no end of the response"));
        let expected = window.undone(self.id).filter_map(|entry| match (entry.progress, entry.completed) {
            (Progress::Sending, _) => Some((entry.since, SILENCE, "no ack")),
            (Progress::Buffering, Some(completed)) => Some((completed.max(entry.since), SILENCE, "no ack")),
            (Progress::Received, _) => Some((entry.since, PERSIST_TIMEOUT, "no PERSISTED ack")),
            (Progress::Buffering | Progress::Done, _) => None,
        });
        let silent = expected.map(|(since, patience, what)| {
            if patience != SILENCE {
                return (since + patience, what);
            }
            // What came later about another fragment shows that the peer is alive; but this one is waited for as well.
            let alive = self.patient(since.max(self.last_ack) + patience, now);
            (alive.min(since + PERSIST_TIMEOUT), what)
        });
        silent.chain(finished).min_by_key(|(at, _)| *at)
    }

    /// More patience while a slow link is still taking bytes.
    fn patient(&self, deadline: Instant, now: Instant) -> Instant {
        let is_slow = self.out_bytes > 0 && now.saturating_duration_since(self.last_write) < STUCK;
        let longest = self.last_ack + SILENCE_ON_A_SLOW_LINK;
        if is_slow { deadline.max((self.last_write + STUCK).min(longest)) } else { deadline }
    }

    /// One HTTP chunk out of `head` and, without copying it, `data`.
    fn chunk(&mut self, head: &[&[u8]], data: Option<Bytes>) {
        let size = head.iter().map(|part| part.len()).sum::<usize>() + data.as_ref().map_or(0, Bytes::len);
        let mut first = format!("{size:x}\r\n").into_bytes();
        head.iter().for_each(|part| first.extend_from_slice(part));
        self.queue(first.into());
        if let Some(data) = data {
            self.queue(data);
        }
        self.queue(Bytes::from_static(b"\r\n"));
    }

    fn queue(&mut self, bytes: Bytes) {
        self.out_bytes += bytes.len();
        self.out.push_back(bytes);
    }
}

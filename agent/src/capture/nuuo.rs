//! NUUO recorders by their own HTTP interface, in both dialects: Titan (multipart, no session) and Crystal (sessions, a
//! stream of HTTP requests, a capture time for each picture).
//!
//! Invariants: a recorder is not trusted: heads, bodies, XML and waiting are bounded, redirects are not followed. A
//! session that has expired, in whatever way the server says so, is replaced by a new one in the same attempt; one that
//! is refused when it is new ends the attempt, and the next one begins with another login. Logins of one attempt have a
//! pause between them, which grows while sessions are short; a new session's video begins with an IDR. Audio is never
//! taken for video, whatever its head says, and does not count as a sign of life of the video.
//!
//! Deliberately absent: recorded video and a logout, of which no source tells; audio, which is counted and left out.

mod answers;
mod api;
mod door;
mod parts;
mod requests;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use edgecam_kvs::Backoff;
use edgecam_media::Ticks;
use edgecam_media::annex_b::Splitter;
use edgecam_media::assembler::Assembler;
use edgecam_media::clock::Arrival;
use edgecam_media::nal::LENGTH_SIZE;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use self::answers::{Camera, Profile, device_tree, devices, is_crystal, servers, session};
use self::api::{Live, Nvr};
pub use self::parts::{Framing, Part, PartError, PartHead, PartReader};
use super::continuity::Continuity;
use super::idr_watch::IdrWatch;
use super::{CaptureError, Sink};
use crate::config::source::{Nuuo, NuuoDialect};
use crate::http::HttpFault;

/// FILETIME counts in 100 ns.
const FILETIME_RATE: u32 = 10_000_000;
/// Before the second login of an attempt.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Between logins, where sessions go on being short.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A session that lasted longer was a good one: the pauses begin anew.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// Connects and delivers until `cancel` is called (`Ok`) or something ends it.
pub async fn attempt(settings: &Nuuo, sink: &mut Sink, cancel: &CancellationToken) -> Result<(), CaptureError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Ok(()),
        error = Box::pin(watch(settings, sink)) => Err(error),
    }
}

/// How a recorder speaks, and its cameras.
pub async fn list(settings: &Nuuo) -> Result<(NuuoDialect, Vec<Camera>), CaptureError> {
    let asked = async {
        let mut nvr = Nvr::connect(settings).await?;
        let cameras = nvr.cameras().await?;
        Ok((nvr.dialect(), cameras))
    };
    Box::pin(asked).await
}

/// Logs in, and finds the camera.
async fn begin(settings: &Nuuo) -> Result<(Nvr, Camera), CaptureError> {
    let (door, credentials) = (door::of(&settings.server), settings.credentials.as_ref());
    let _place = door.enter(credentials).await?;
    let begun = async {
        let mut nvr = Nvr::connect(settings).await?;
        let camera = find(&mut nvr, settings).await?;
        Ok((nvr, camera))
    };
    let begun = begun.await;
    door.left(credentials, &begun);
    begun
}

async fn watch(settings: &Nuuo, sink: &mut Sink) -> CaptureError {
    let (mut nvr, camera) = match begin(settings).await {
        Ok(begun) => begun,
        Err(error) => return error,
    };
    let mut receiver = Receiver::new(settings, &nvr, &camera, sink);
    let mut pauses = LoginPauses::new();
    loop {
        let delivered_before = receiver.pictures;
        let end = match nvr.live(&camera).await {
            Ok(live) => receiver.receive(live, sink).await,
            Err(end) => end,
        };
        match end {
            End::Failed(error) => return error,
            End::Expired(reason) if nvr.has_session() && receiver.pictures > delivered_before => {
                let pause = pauses.next(Instant::now());
                let pause_ms = pause.as_millis() as u64;
                info!(nvr = %nvr, camera = camera.name, reason, pause_ms, "the session has expired: logging in again");
                nvr.hang_up();
                sleep(pause).await;
                if let Err(error) = nvr.log_in().await {
                    return error;
                }
                pauses.logged_in(Instant::now());
                receiver.begin_session(sink);
            }
            End::Expired(reason) => {
                let what = if nvr.has_session() { "refuses the session it has just given" } else { "refuses" };
                return CaptureError::Unreachable(format!("{nvr} {what}: {reason}"));
            }
        }
    }
}

/// The camera that the config means. One that was listed before is not asked for again: 64 cameras of one recorder would
/// ask for all of its 64 cameras each.
async fn find(nvr: &mut Nvr, settings: &Nuuo) -> Result<Camera, CaptureError> {
    if let Some((server, id)) = settings.camera.exact.clone() {
        return Ok(Camera { server, id, name: String::new(), profiles: Vec::new(), enabled: true });
    }
    let cameras = nvr.cameras().await?;
    let camera = answers::select(&cameras, &settings.camera).map_err(CaptureError::NotFound)?.clone();
    check_profile(&camera, settings)?;
    Ok(camera)
}

fn check_profile(camera: &Camera, settings: &Nuuo) -> Result<(), CaptureError> {
    let wanted = settings.profile.name();
    let names: Vec<&str> = camera.profiles.iter().map(|profile| profile.name.as_str()).collect();
    if names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    let (camera, names) = (settings.camera.to_string(), names.join(", "));
    Err(CaptureError::NotFound(format!("the camera {camera} has no profile {wanted}; it has {names}")))
}

/// How long to wait before another login in the same attempt.
struct LoginPauses {
    backoff: Backoff,
    rng: fastrand::Rng,
    /// Since when the session counts.
    since: Instant,
}

impl LoginPauses {
    /// The first session has just begun.
    fn new() -> Self {
        Self { backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), rng: fastrand::Rng::new(), since: Instant::now() }
    }

    fn logged_in(&mut self, now: Instant) {
        self.since = now;
    }

    /// The session ended at `now`. After a good one footage is not kept waiting.
    fn next(&mut self, now: Instant) -> Duration {
        if now.saturating_duration_since(self.since) > GOOD_SESSION {
            self.backoff.succeeded();
            return Duration::ZERO;
        }
        self.backoff.failed(&mut self.rng)
    }
}

/// Why a live stream is over.
enum End {
    /// The session counts no more, or the server says no for another reason that it does not tell.
    Expired(String),
    Failed(CaptureError),
}

/// From the parts of a stream to delivered pictures. Outlives sessions.
struct Receiver {
    settings: Nuuo,
    /// For messages.
    source: String,
    assembler: Assembler<()>,
    continuity: Continuity,
    clock: Option<CaptureClock>,
    idr_watch: IdrWatch,
    /// Delivered so far.
    pictures: u64,
}

impl Receiver {
    fn new(settings: &Nuuo, nvr: &Nvr, camera: &Camera, sink: &Sink) -> Self {
        let name = if camera.name.is_empty() { &camera.id } else { &camera.name };
        Self {
            settings: settings.clone(),
            source: format!("the camera `{name}` of {nvr}"),
            assembler: Assembler::default(),
            continuity: Continuity::default(),
            clock: None,
            idr_watch: IdrWatch::new(sink.now().monotonic),
            pictures: 0,
        }
    }

    /// Pictures were missed since the last one: those of the new session count from its first IDR.
    fn begin_session(&mut self, sink: &Sink) {
        self.assembler.lost();
        // The pause is not the encoder's fault.
        self.idr_watch = IdrWatch::new(sink.now().monotonic);
    }

    async fn receive(&mut self, mut live: Live<'_>, sink: &mut Sink) -> End {
        let limit = self.settings.frame_timeout;
        let mut parts = PartReader::new(live.framing);
        let mut deadline = Instant::now() + limit;
        loop {
            let Ok(chunk) = timeout_at(deadline, live.answer.chunk()).await else {
                return End::Failed(CaptureError::Stalled(limit));
            };
            match chunk {
                Ok(Some(bytes)) => parts.push(&bytes),
                Ok(None) => return self.ended(&parts),
                Err(error) if error.fault == HttpFault::Unreachable && !parts.is_between_parts() => {
                    return End::Failed(CaptureError::Unreachable(format!("{error}, in the middle of a picture")));
                }
                Err(error) => return End::Failed(CaptureError::Unreachable(error.to_string())),
            }
            let at = sink.now();
            loop {
                match parts.next_part() {
                    Ok(None) => break,
                    Ok(Some(part)) => match self.take(part, at, sink) {
                        Ok(true) => deadline = Instant::now() + limit,
                        Ok(false) => {}
                        Err(error) => return End::Failed(error),
                    },
                    Err(error @ PartError::NotAPart(_)) => return End::Expired(error.to_string()),
                    Err(error) => {
                        return End::Failed(CaptureError::Unreachable(format!("{}: {error}", self.source)));
                    }
                }
            }
        }
    }

    fn ended(&self, parts: &PartReader) -> End {
        if parts.is_between_parts() {
            return End::Failed(CaptureError::Unreachable(format!("{}: the server ended the stream", self.source)));
        }
        let rest = parts.rest();
        match rest.starts_with('<') {
            true => End::Expired(format!("it ended the stream with `{rest}`")),
            false => End::Failed(CaptureError::Unreachable(format!(
                "{}: the stream was cut in the middle of a picture",
                self.source
            ))),
        }
    }

    /// Takes a part; returns whether it is a picture.
    fn take(&mut self, part: Part, at: Arrival, sink: &mut Sink) -> Result<bool, CaptureError> {
        match kind(&part) {
            Kind::H264 => {}
            Kind::Audio => {
                sink.count_lost(|lost| lost.audio += 1);
                return Ok(false);
            }
            Kind::Other => {
                let content_type: String =
                    part.head.content_type.chars().filter(|c| !c.is_control()).take(40).collect();
                return Err(CaptureError::UnsupportedCodec(format!(
                    "{} sends `{content_type}`, and the agent takes H.264 from NUUO: set the camera's encoding to H.264 \
                     in the NVR, or use another profile",
                    self.source
                )));
            }
        }
        let media = match (part.head.time, &mut self.clock) {
            (time, Some(clock)) => Some(clock.media(time, at)),
            (Some(time), None) => {
                let clock = self.clock.insert(CaptureClock { first: time, last: Ticks::ZERO, last_at: at });
                Some(clock.media(Some(time), at))
            }
            (None, None) => None,
        };
        if let Some(media) = media
            && !self.continuity.follows(media, at.monotonic)
        {
            info!(source = self.source, "the NVR's clock jumped: going on at the next IDR");
            self.assembler.lost();
        }
        let Some(picture) = self.assembler.push_picture(length_prefixed(&part.body)) else {
            let losses = self.assembler.losses();
            sink.count_lost(|lost| lost.stream = losses);
            self.idr_watch.left_out(at.monotonic, losses, &self.source)?;
            return Ok(true);
        };
        self.idr_watch.delivered(at.monotonic);
        self.pictures += 1;
        match media {
            Some(media) => sink.deliver(picture, media, at),
            None => sink.deliver_on_arrival(picture, None, at),
        }
        Ok(true)
    }
}

/// What a part holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    H264,
    Audio,
    Other,
}

fn kind(part: &Part) -> Kind {
    let (class, subtype) = part.head.content_type.split_once('/').unwrap_or((&part.head.content_type, ""));
    match class {
        "video" if subtype.contains("264") => Kind::H264,
        // Some servers leave the codec out where they leave it out of the list, too.
        "video" | "" if subtype.is_empty() && part.body.starts_with(&[0, 0]) => Kind::H264,
        "video" | "image" => Kind::Other,
        _ => Kind::Audio,
    }
}

/// The capture time of pictures, counted from the first one.
struct CaptureClock {
    /// FILETIME of the first picture.
    first: u64,
    last: Ticks,
    last_at: Arrival,
}

impl CaptureClock {
    /// The media time of a picture; one without a time of its own is as far from the one before as its arrival.
    fn media(&mut self, time: Option<u64>, at: Arrival) -> Ticks {
        let since_last = at.monotonic.saturating_sub(self.last_at.monotonic);
        let by_arrival = self.last + Ticks::from_duration(since_last);
        let by_server = |time: u64| {
            let difference = i128::from(time) - i128::from(self.first);
            i64::try_from(difference).ok().map(|difference| Ticks::from_scale(difference, FILETIME_RATE))
        };
        (self.last, self.last_at) = (time.and_then(by_server).unwrap_or(by_arrival), at);
        self.last
    }
}

/// The NAL units of an access unit in Annex B form, each behind its length. Zeros behind a unit go.
fn length_prefixed(annex_b: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(annex_b.len() + 4 * LENGTH_SIZE);
    let mut put = |unit: &[u8]| {
        // A part holds at most 8 MiB.
        out.put_u32(unit.len() as u32);
        out.put_slice(unit);
    };
    let mut splitter = Splitter::default();
    splitter.push(annex_b, &mut put);
    splitter.finish(&mut put);
    out.freeze()
}

#[cfg(test)]
mod tests;

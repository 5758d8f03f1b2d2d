//! Runs one job: a [`Delivery`] between a cursor of the log and the connections to the service.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use edgecam_kvs::{Action, Delivery, Fault, FaultClass, PutMedia, Report, SessionId, Settings};
use edgecam_media::ring::Position;
use edgecam_media::{AccessUnit, Codec, Ticks, Timestamp};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Io};
use super::status::UploadState;
use super::task::Upload;
use super::{ControlPlane, Target};
use crate::footage::{Footage, Next};

/// Endpoint and description of a stream are kept this long, as Amazon's producer does.
const TARGET_LIFE: Duration = Duration::from_secs(40 * 60);
/// After this many failures to connect in a row the endpoint may have moved.
const FAILURES_BEFORE_REFRESH: u64 = 3;
/// What is left to do when a job ends gets this much time.
pub(super) const DRAIN: Duration = Duration::from_millis(4_000);

/// A fragment lasts about so long, when it is asked what went on in it.
const TAGGED: Ticks = Ticks::from_seconds(1);
/// Live footage that lags by less than a few GOPs has caught up.
const CAUGHT_UP: Ticks = Ticks::from_seconds(3);

/// What a new connection needs.
pub(super) struct Connected {
    connection: Connection,
    head: Vec<u8>,
    token_expires: Option<Instant>,
    target: Target,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Connected, Fault>> + Send>>;

/// The endpoint, kept over jobs and connections.
#[derive(Default)]
pub(super) struct TargetCache {
    found: Option<(Target, Instant)>,
    is_doubtful: bool,
}

/// One job being run.
pub(super) struct Driver<'a> {
    upload: &'a Upload,
    target: &'a mut TargetCache,
    delivery: Delivery,
    connections: Vec<(SessionId, Connection)>,
    connecting: Option<(SessionId, Connecting)>,
    /// Timestamp of each GOP on its way, to tell how far the stream has got.
    gops: VecDeque<(u64, Timestamp)>,
    last_read: Option<Timestamp>,
    /// What is sent is history: it says nothing about how far live footage has got.
    is_history: bool,
}

/// When a run is over.
#[derive(Default)]
pub(super) struct Until {
    /// The first picture shown at or after this is not sent.
    pub(super) time: Option<Timestamp>,
    /// The first picture not sent.
    pub(super) position: Option<Position>,
    /// From then on the next IDR ends the turn, while the service takes footage: in an outage there is no reason to.
    pub(super) turn: Option<Instant>,
    /// The turn is one of live footage: it does not end before that has caught up.
    pub(super) is_live: bool,
    /// At an IDR that is older than the newest picture by more than this, the run ends as [`Outcome::Behind`]: while
    /// there is a connection, for without one nothing could go first.
    pub(super) max_lag: Option<Ticks>,
}

/// Why a run is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Cancelled.
    Stopped,
    /// All that was asked for has been read.
    Ended,
    /// It is another's turn.
    Turn,
    /// Live footage lags too far behind.
    Behind,
}

impl Until {
    pub(super) fn time(end: Timestamp) -> Self {
        Self { time: Some(end), ..Self::default() }
    }

    /// Whether `unit`, found at `at`, is no longer to be sent.
    fn reached(&self, unit: &AccessUnit, at: Position, footage: &Footage, link: &Delivery) -> Option<Outcome> {
        if self.time.is_some_and(|end| unit.pts >= end) || self.position.is_some_and(|end| at >= end) {
            return Some(Outcome::Ended);
        }
        // Most runs have no turns, and most pictures are no IDR: the log is not asked for them.
        if !unit.is_idr || (self.turn.is_none() && self.max_lag.is_none()) {
            return None;
        }
        let lag = footage.latest().unwrap_or(unit.pts).since(unit.pts);
        if self.max_lag.is_some_and(|max| lag > max) && at < footage.live() && link.is_connected() {
            return Some(Outcome::Behind);
        }
        let has_caught_up = !self.is_live || lag <= CAUGHT_UP;
        let is_over = self.turn.is_some_and(|turn| Instant::now() >= turn) && link.is_up() && has_caught_up;
        is_over.then_some(Outcome::Turn)
    }
}

/// What has happened.
enum Happened {
    Footage(Position, Next),
    Connected(SessionId, Result<Box<Connected>, Fault>),
    Io(SessionId, Io),
    Time,
    Stop,
    Ended,
}

impl<'a> Driver<'a> {
    pub(super) fn new(upload: &'a Upload, target: &'a mut TargetCache, start: Position) -> Self {
        let has_retention = target.found.as_ref().is_none_or(|(target, _)| target.has_retention);
        let settings = Settings { start, has_retention, seed: seed(&upload.stream) };
        Self {
            upload,
            target,
            delivery: Delivery::new(settings, Instant::now()),
            connections: Vec::new(),
            connecting: None,
            gops: VecDeque::new(),
            last_read: None,
            is_history: false,
        }
    }

    /// Runs until `until` says so or `cancel` is called, then drains. `commit` is told each move of the cursor.
    pub(super) async fn run(
        mut self,
        until: Until,
        cancel: &CancellationToken,
        mut commit: impl FnMut(Position),
    ) -> Outcome {
        self.is_history = until.position.is_some();
        let mut cursor = self.upload.footage.cursor();
        let mut drain_until = None;
        let mut outcome = Outcome::Stopped;
        // Where reading ended.
        let mut ended_at = None;
        loop {
            self.act(&mut commit).await;
            if self.delivery.is_stopped() || drain_until.is_some_and(|at| Instant::now() >= at) {
                break;
            }
            let now = Instant::now();
            let wanted = self.delivery.wants(now);
            let deadline = [self.delivery.deadline(now), drain_until].into_iter().flatten().min();
            let is_stopping = drain_until.is_some();
            let last_read = self.last_read;
            let Self { delivery, connections, connecting, .. } = &mut self;
            let happened = tokio::select! {
                (id, io) = poll_fn(|cx| poll_connections(cx, connections, delivery)) => Happened::Io(id, io),
                next = async { cursor.read(wanted.unwrap_or_default()).await }, if wanted.is_some() => {
                    Happened::Footage(wanted.unwrap_or_default(), next)
                }
                (id, result) = poll_fn(|cx| poll_connecting(cx, connecting)) => Happened::Connected(id, result.map(Box::new)),
                () = sleep(deadline) => Happened::Time,
                () = cancel.cancelled(), if !is_stopping => Happened::Stop,
                () = over(until.time, last_read), if !is_stopping => Happened::Ended,
            };
            match happened {
                Happened::Footage(at, next) => {
                    if let Some(reached) = self.footage(at, next, &until) {
                        outcome = reached;
                        ended_at = Some(at);
                        drain_until.get_or_insert(Instant::now() + DRAIN);
                    }
                }
                Happened::Connected(id, result) => self.connected(id, result),
                Happened::Io(id, io) => self.io(id, io),
                Happened::Time => self.delivery.tick(Instant::now()),
                Happened::Stop | Happened::Ended => {
                    self.delivery.stop(Instant::now());
                    drain_until = Some(Instant::now() + DRAIN);
                }
            }
        }
        self.act(&mut commit).await;
        if let (Outcome::Ended, Some(end)) = (outcome, until.position)
            && ended_at == Some(self.delivery.committed())
        {
            // Nothing lies between what was sent last and the end.
            commit(end);
        }
        self.upload.status.finish(self.delivery.stats());
        outcome
    }

    /// Takes footage; returns why the run is over, if it is.
    fn footage(&mut self, at: Position, next: Next, until: &Until) -> Option<Outcome> {
        let now = Instant::now();
        match next {
            Next::Unit { unit, sets, next } => {
                let found_at = Position { gop: next.gop, unit: next.unit.saturating_sub(1) };
                let reached = until.reached(&unit, found_at, &self.upload.footage, &self.delivery);
                if reached.is_some() {
                    self.delivery.end(now);
                    return reached;
                }
                self.last_read = Some(unit.pts);
                if unit.is_idr {
                    // Bounded: what is in flight is, and old entries go with each commit.
                    self.gops.push_back((next.gop, unit.pts));
                    if self.gops.len() > 1024 {
                        self.gops.pop_front();
                    }
                }
                if !self.is_history {
                    self.upload.status.sent(unit.pts);
                }
                if unit.is_idr {
                    self.delivery.tag_next(self.upload.tags.of(unit.pts, TAGGED));
                }
                self.delivery.unit(unit, sets, next, now);
            }
            Next::Lagged { resume } => {
                let camera_name = &self.upload.camera;
                tracing::warn!(
                    camera_name,
                    from = at.gop,
                    to = resume.gop,
                    "footage is gone before it could be uploaded"
                );
                self.delivery.lagged(resume, now);
            }
        }
        None
    }

    fn connected(&mut self, id: SessionId, result: Result<Box<Connected>, Fault>) {
        let now = Instant::now();
        self.connecting = None;
        match result {
            Ok(connected) => {
                let Connected { connection, head, token_expires, target } = *connected;
                self.delivery.set_retention(target.has_retention);
                self.target.found = Some((target, now));
                self.target.is_doubtful = false;
                self.connections.push((id, connection));
                self.delivery.connected(id, head, token_expires, now);
            }
            Err(fault) => self.delivery.connect_failed(id, fault, now),
        }
    }

    fn io(&mut self, id: SessionId, io: Io) {
        let now = Instant::now();
        match io {
            Io::Written(count) => self.delivery.written(id, count, now),
            Io::Read(bytes) => self.delivery.received(id, &bytes, now),
            Io::Closed(why) => {
                self.connections.retain(|(other, _)| *other != id);
                self.delivery.closed(id, &why, now);
            }
        }
    }

    /// Does what the delivery asks for.
    async fn act(&mut self, commit: &mut impl FnMut(Position)) {
        while let Some(action) = self.delivery.poll() {
            match action {
                Action::Connect { session, start } => {
                    self.upload.status.connecting();
                    let cached = self.target.found.as_ref();
                    let is_fresh =
                        |(_, found): &&(Target, Instant)| !self.target.is_doubtful && found.elapsed() < TARGET_LIFE;
                    let usable = cached.filter(is_fresh).map(|(target, _)| target.clone());
                    let fallback = cached.map(|(target, _)| target.clone());
                    self.connecting = Some((session, Box::pin(connect(self.upload.clone(), usable, fallback, start))));
                }
                Action::Close(id) => {
                    self.connections.retain(|(other, _)| *other != id);
                    if self.connecting.as_ref().is_some_and(|(other, _)| *other == id) {
                        self.connecting = None;
                    }
                }
                Action::Commit(position) => {
                    let mut until = None;
                    while self
                        .gops
                        .front()
                        .is_some_and(|(gop, _)| *gop < position.gop || (*gop == position.gop && position.unit > 0))
                    {
                        until = self.gops.pop_front().map(|(_, pts)| pts);
                    }
                    if !self.is_history {
                        self.upload.status.committed(position, until);
                    }
                    commit(position);
                }
                Action::RequestIdr => self.upload.force_idr.send_modify(|count| *count += 1),
                Action::Report(report) => self.report(report).await,
            }
        }
        self.upload.status.stats(self.delivery.stats());
    }

    async fn report(&mut self, report: Report) {
        let Upload { camera: camera_name, stream, .. } = self.upload;
        match report {
            Report::Accepted(id) => {
                tracing::info!(camera_name, stream, session = id.0, "uploading");
                self.upload.status.state(UploadState::Streaming);
            }
            Report::Ended(id) => {
                tracing::debug!(camera_name, stream, session = id.0, "session complete");
                self.upload.status.session_ended(self.delivery.is_up());
            }
            Report::Failed { mut fault, retry_in } => {
                if let Some(complaint) =
                    self.upload.clock.complaint().filter(|_| fault.class == FaultClass::Credentials)
                {
                    fault.message = format!("{complaint} ({})", fault.message);
                }
                let failures = self.delivery.stats().failures_in_a_row;
                self.target.is_doubtful |= match fault.class {
                    FaultClass::Network => failures.is_multiple_of(FAILURES_BEFORE_REFRESH),
                    class => class.refresh(),
                };
                if fault.class == FaultClass::Credentials
                    && let Some(control) = self.upload.control.get()
                {
                    control.forget_credentials().await;
                }
                // In a long outage one line a while is enough.
                let retry_ms = retry_in.as_millis() as u64;
                if failures <= 3 || failures.is_multiple_of(20) {
                    tracing::warn!(camera_name, stream, cause = %fault, failures, retry_ms, "upload failed");
                } else {
                    tracing::debug!(camera_name, stream, cause = %fault, failures, retry_ms, "upload failed");
                }
                if !self.delivery.is_up() {
                    let (class, needs_a_person) = (fault.class.name(), fault.class.needs_a_person());
                    let message = match fault.message.contains(stream) {
                        true => fault.message,
                        false => format!("stream/{stream}: {}", fault.message),
                    };
                    self.upload.status.state(UploadState::Failing { class, message, needs_a_person, retry_in });
                }
            }
            Report::Skipped { from, end, error } => {
                let (from, end, name, advice) = (from.gop, end.gop, error.name(), error.advice());
                tracing::error!(
                    camera_name,
                    stream,
                    from,
                    end,
                    error = name,
                    advice,
                    "KVS refuses footage; it stays in the archive"
                );
            }
            Report::LongGop => {
                if self.upload.status.long_gop() {
                    let advice = "set the camera's I-frame interval to 1 to 5 s";
                    tracing::warn!(
                        camera_name,
                        stream,
                        advice,
                        "a GOP is longer than the 10 s KVS allows for a fragment; it is uploaded in pieces"
                    );
                }
            }
        }
    }
}

/// Endpoint, credentials, connection and signature for one PutMedia request.
async fn connect(
    upload: Upload,
    usable: Option<Target>,
    fallback: Option<Target>,
    start: Timestamp,
) -> Result<Connected, Fault> {
    let control = upload.control.get_or_try_init(|| ControlPlane::new(&upload.aws)).await?;
    let codec = upload.footage.status().parameter_sets.map_or(Codec::H264, |sets| sets.codec());
    let target = match usable {
        Some(target) => target,
        None => match control.target(&upload.stream, codec).await {
            Ok(target) => target,
            // The data endpoint may well work while the control plane cannot be reached.
            Err(fault) if matches!(fault.class, FaultClass::Network | FaultClass::Service | FaultClass::Throttled) => {
                fallback.ok_or(fault)?
            }
            Err(fault) => return Err(fault),
        },
    };
    let credentials = timeout(Duration::from_secs(10), control.credentials())
        .await
        .map_err(|_| Fault::new(FaultClass::Credentials, "no AWS credentials within 10 s".to_owned()))??;
    let connection = Connection::open(&target.host, target.port, &upload.network).await?;
    let host = match target.port {
        443 => target.host.clone(),
        port => format!("{}:{port}", target.host),
    };
    let put = PutMedia { host: &host, region: control.region(), stream: &upload.stream, start };
    let now = SystemTime::now();
    let head = put.head(&credentials, now).map_err(|error| Fault::new(FaultClass::Credentials, error.to_string()))?;
    let left = credentials.expiry().map(|expiry| expiry.duration_since(now).unwrap_or_default());
    Ok(Connected { connection, head, token_expires: left.map(|left| Instant::now() + left), target })
}

fn poll_connections(
    cx: &mut Context<'_>,
    connections: &mut [(SessionId, Connection)],
    delivery: &Delivery,
) -> Poll<(SessionId, Io)> {
    for (id, connection) in connections {
        if let Poll::Ready(io) = connection.poll(cx, delivery.out(*id)) {
            return Poll::Ready((*id, io));
        }
    }
    Poll::Pending
}

fn poll_connecting(
    cx: &mut Context<'_>,
    connecting: &mut Option<(SessionId, Connecting)>,
) -> Poll<(SessionId, Result<Connected, Fault>)> {
    let Some((id, future)) = connecting else { return Poll::Pending };
    future.as_mut().poll(cx).map(|result| (*id, result))
}

async fn sleep(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Resolves some time after the job's end, for a camera that does not deliver a picture to end it.
async fn over(end: Option<Timestamp>, last_read: Option<Timestamp>) {
    const SILENCE: Duration = Duration::from_secs(10);
    match end {
        Some(end) => {
            let wall = crate::host::wall_clock();
            let ahead = end.since(wall.max(last_read.unwrap_or(wall))).to_duration();
            tokio::time::sleep(ahead + SILENCE).await;
        }
        None => std::future::pending().await,
    }
}

/// Jitter must differ between agents and between their streams.
fn seed(stream: &str) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(stream)
}

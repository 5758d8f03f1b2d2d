//! One camera as plain RTP to one receiver: the sockets around a [`RtpSender`].
//!
//! The stream begins with the newest IDR in RAM, at once. Sender reports leave from the socket that takes RTCP in, for
//! a receiver learns from them where to send its own. What a receiver cannot take waits in the log; who falls behind
//! what the log holds goes on at the next IDR.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgecam_media::Timestamp;
use edgecam_media::ring::Position;
use edgecam_media::rtp::{Ended, Event, Output, RtpSender, RtpTarget, Settings, Stats};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::footage::{Footage, Next};
use crate::host::wall_clock;
use crate::run::stage::Stage;

/// A datagram that does not leave within this time is given up: it can still be asked for.
const SEND_TIMEOUT: Duration = Duration::from_millis(20);
/// After a socket error, until the socket is read again.
const RECEIVE_PAUSE: Duration = Duration::from_millis(100);
/// Where a camera cannot be asked for an IDR, the cached GOP is sent again at most this often.
const REPLAY_INTERVAL: Duration = Duration::from_secs(2);
/// Bytes of the longest RTCP datagram that is read.
const LONGEST: usize = 2048;
/// To say goodbye.
const GRACE: Duration = Duration::from_secs(1);

/// What a stream shows, and what its receiver may ask of it.
#[derive(Clone)]
pub struct RtpSource {
    /// The camera, for logs.
    pub camera: String,
    /// Its log.
    pub footage: Footage,
    /// Counts requests for an IDR; `None` for a camera that cannot be asked.
    pub force_idr: Option<watch::Sender<u64>>,
    /// Whoever obeys the receiver's wish; `None` where nobody would.
    pub bitrate: Option<BitrateWish>,
}

/// Is told the bit/s that the receiver wants, and `None` when the stream is over.
pub type BitrateWish = Arc<dyn Fn(Option<u32>) + Send + Sync>;

/// A stream. It ends when this is dropped.
pub struct RtpStream {
    local: Addresses,
    demand: watch::Sender<Demand>,
    status: watch::Receiver<StreamStatus>,
    cancel: DropGuard,
    stage: Stage,
}

/// What a stream has done.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct StreamStatus {
    /// Counters.
    pub stats: Stats,
    /// Times it fell behind what the log holds.
    pub lagged: u64,
    /// Why it has ended, once it has.
    pub ended: Option<Ended>,
    /// When.
    pub ended_at: Option<Timestamp>,
}

/// Where a stream sends from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// RTP.
    pub rtp: SocketAddr,
    /// RTCP, in and out; the same as for RTP when they share a port.
    pub rtcp: SocketAddr,
}

/// What has been asked for so far, counted.
#[derive(Clone, Copy, Default)]
struct Demand {
    keepalives: u64,
    extensions: u64,
}

/// All that a run needs, to begin once more after a panic.
#[derive(Clone)]
struct Job {
    source: RtpSource,
    settings: Settings,
    rtp: Arc<UdpSocket>,
    rtcp: Arc<UdpSocket>,
    remote: Addresses,
    demand: watch::Receiver<Demand>,
    status: Arc<watch::Sender<StreamStatus>>,
}

/// One run.
struct Run<'a> {
    job: &'a Job,
    sender: RtpSender,
    position: Position,
    replayed: Option<Instant>,
    lagged: u64,
    datagram: Vec<u8>,
}

/// What has happened.
enum Happened {
    Footage(Next),
    Rtcp(Option<usize>),
    Demand,
    Time,
    Stop,
}

impl RtpStream {
    /// Starts to send. Fails only if there are no sockets to be had.
    pub async fn start(source: RtpSource, target: &RtpTarget, settings: Settings) -> io::Result<Self> {
        let any: IpAddr = match target.address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let rtp = Arc::new(UdpSocket::bind((any, 0)).await?);
        let is_shared = target.port == target.rtcp_port;
        let rtcp = if is_shared { rtp.clone() } else { Arc::new(UdpSocket::bind((any, 0)).await?) };
        let local = Addresses { rtp: rtp.local_addr()?, rtcp: rtcp.local_addr()? };
        let remote =
            Addresses { rtp: (target.address, target.port).into(), rtcp: (target.address, target.rtcp_port).into() };
        let (demand, demands) = watch::channel(Demand::default());
        let (status_sender, status) = watch::channel(StreamStatus::default());
        let name = format!("rtp {}", source.camera);
        let job = Job { source, settings, rtp, rtcp, remote, demand: demands, status: Arc::new(status_sender) };
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let make = move || {
            let (mut job, token) = (job.clone(), token.clone());
            async move { run(&mut job, &token).await }
        };
        let stage = Stage::spawn(name, cancel.clone(), make);
        Ok(Self { local, demand, status, cancel: cancel.drop_guard(), stage })
    }

    /// Where it sends from.
    pub fn local(&self) -> Addresses {
        self.local
    }

    /// The stream is still wanted.
    pub fn keepalive(&self) {
        self.demand.send_modify(|demand| demand.keepalives += 1);
    }

    /// The stream is asked for once more: it lasts as if it had just begun.
    pub fn extend(&self) {
        self.demand.send_modify(|demand| demand.extensions += 1);
    }

    /// What it has done.
    pub fn status(&self) -> StreamStatus {
        *self.status.borrow()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.status().stats
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.status().ended.is_none()
    }

    /// A watch on what it does, for whoever waits for its end.
    pub fn watch(&self) -> watch::Receiver<StreamStatus> {
        self.status.clone()
    }

    /// Ends it with a BYE.
    pub async fn stop(self) -> StreamStatus {
        let Self { status, cancel, stage, .. } = self;
        cancel.disarm().cancel();
        stage.end(GRACE).await;
        *status.borrow()
    }
}

async fn run(job: &mut Job, cancel: &CancellationToken) {
    let mut demands = job.demand.clone();
    let mut seen = *demands.borrow_and_update();
    let job = &*job;
    let mut run = Run {
        job,
        sender: RtpSender::new(job.settings.clone(), Instant::now(), wall_clock()),
        position: job.source.footage.live(),
        replayed: None,
        lagged: 0,
        datagram: Vec::with_capacity(LONGEST),
    };
    // Whoever asked while the run was being set up is heard as well.
    run.demanded(Demand::default(), seen);
    let mut cursor = job.source.footage.cursor();
    let mut buffer = [0; LONGEST];
    let camera_name = &job.source.camera;
    tracing::info!(camera_name, target = %job.remote.rtp, "live view by RTP begins");
    loop {
        let ended = run.act().await;
        let stats = run.sender.stats();
        job.status.send_replace(StreamStatus {
            stats,
            lagged: run.lagged,
            ended,
            ended_at: ended.map(|_| wall_clock()),
        });
        if let Some(ended) = ended {
            let (packets, resent, nacks) = (stats.packets, stats.resent, stats.nacks);
            tracing::info!(camera_name, ?ended, packets, resent, nacks, "live view by RTP has ended");
            return;
        }
        let deadline = run.sender.deadline();
        let happened = tokio::select! {
            next = cursor.read(run.position), if run.sender.wants_picture() => Happened::Footage(next),
            size = receive(job, &mut buffer) => Happened::Rtcp(size),
            changed = demands.changed() => if changed.is_ok() { Happened::Demand } else { Happened::Stop },
            () = until(deadline) => Happened::Time,
            () = cancel.cancelled() => Happened::Stop,
        };
        match happened {
            Happened::Footage(next) => run.footage(next),
            Happened::Rtcp(Some(size)) => run.sender.received(&buffer[..size], Instant::now()),
            Happened::Rtcp(None) => run.sender.count_error(),
            Happened::Demand => {
                let now = *demands.borrow_and_update();
                run.demanded(std::mem::replace(&mut seen, now), now);
            }
            Happened::Time => {}
            Happened::Stop => run.sender.stop(Instant::now(), wall_clock()),
        }
    }
}

impl Drop for Run<'_> {
    /// However it ends, the encoder is free again.
    fn drop(&mut self) {
        if let Some(wish) = &self.job.source.bitrate {
            wish(None);
        }
    }
}

impl Run<'_> {
    fn footage(&mut self, next: Next) {
        match next {
            Next::Unit { unit, sets, next } => {
                self.position = next;
                if unit.is_video() {
                    self.sender.picture(&unit, &sets, Instant::now(), wall_clock());
                }
            }
            Next::Lagged { resume } => {
                self.lagged += 1;
                self.position = resume;
            }
        }
    }

    fn demanded(&mut self, before: Demand, now: Demand) {
        (before.keepalives..now.keepalives).for_each(|_| self.sender.keepalive(Instant::now()));
        if now.extensions > before.extensions {
            self.sender.extend(Instant::now());
        }
    }

    /// Does what the sender asks for; tells why the stream has ended, if it has.
    async fn act(&mut self) -> Option<Ended> {
        let mut why = None;
        while let Some(output) = self.sender.poll(Instant::now(), wall_clock()) {
            match output {
                Output::Rtp(packet) => {
                    self.datagram.clear();
                    packet.write(&mut self.datagram);
                    if send(&self.job.rtp, &self.datagram, self.job.remote.rtp).await.is_err() {
                        self.sender.count_error();
                    }
                }
                Output::Rtcp(datagram) => {
                    if send(&self.job.rtcp, &datagram, self.job.remote.rtcp).await.is_err() {
                        self.sender.count_error();
                    }
                }
                Output::Event(Event::KeyframeWanted) => self.keyframe_wanted(),
                Output::Event(Event::Bitrate(wanted)) => {
                    if let Some(wish) = &self.job.source.bitrate {
                        wish(Some(wanted));
                    }
                }
                Output::Event(Event::Ended(ended)) => why = Some(ended),
            }
        }
        why
    }

    fn keyframe_wanted(&mut self) {
        if let Some(force_idr) = &self.job.source.force_idr {
            force_idr.send_modify(|count| *count = count.wrapping_add(1));
        } else if self.replayed.is_none_or(|at| at.elapsed() >= REPLAY_INTERVAL) {
            self.replayed = Some(Instant::now());
            self.position = self.job.source.footage.live();
            self.sender.replay();
        }
    }
}

async fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
    timeout(SEND_TIMEOUT, socket.send_to(datagram, to)).await?.map(drop)
}

/// Waits for a datagram from the receiver's host. `None` for one from anywhere else, and for an error of the socket.
async fn receive(job: &Job, buffer: &mut [u8]) -> Option<usize> {
    match job.rtcp.recv_from(buffer).await {
        // Its port may be another than the one it asked for: it may be behind a router.
        Ok((size, from)) => (from.ip().to_canonical() == job.remote.rtcp.ip().to_canonical()).then_some(size),
        Err(_) => {
            sleep(RECEIVE_PAUSE).await;
            None
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;

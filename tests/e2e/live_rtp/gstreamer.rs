//! GStreamer's rtpbin as receiver, behind a network that loses packets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edgecam::run::stage::Stage;
use edgecam_media::assembler::{Assembler, Picture};
use edgecam_media::rtp::rtcp::{self, Feedback};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::harness::{PATIENCE, agent};

/// The receiver and the network in front of it.
pub(crate) struct Receiver {
    child: Child,
    output: PathBuf,
    network: (Stage, CancellationToken),
    seen: Arc<Mutex<Seen>>,
    /// Where a stream is to send to.
    pub(crate) rtp: u16,
    pub(crate) rtcp: u16,
}

/// What has passed the network.
#[derive(Default, Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) packets: u64,
    pub(crate) lost: u64,
    pub(crate) plis: u64,
    /// By sequence number: when a packet was asked for last and was not seen since.
    asked: BTreeMap<u16, Instant>,
    /// How long packets that were asked for took to come.
    pub(crate) answers: Vec<Duration>,
}

/// The sockets of the network.
struct Network {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    back: UdpSocket,
    /// The receiver's ports.
    to: [u16; 2],
    loss: f64,
    seen: Arc<Mutex<Seen>>,
}

impl Receiver {
    /// A receiver with a jitter buffer of 400 ms, and a network that loses this share of all RTP packets.
    pub(crate) async fn start(directory: &Path, loss: f64) -> Self {
        let socket = async || UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let (rtp, rtcp, back) = (socket().await, socket().await, socket().await);
        let port = |socket: &UdpSocket| socket.local_addr().expect("bound").port();
        let ports = (port(&rtp), port(&rtcp), port(&back));
        let to = [agent::free_port(), agent::free_port()];
        let output = directory.join("received.h264");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e/rtp_receiver.py");
        let mut command = Command::new("/usr/bin/python3");
        let text = [to[0], to[1], ports.2].map(|port| port.to_string());
        command.arg(script).args(["--rtp", &text[0], "--rtcp", &text[1], "--rtcp-to", &text[2]]);
        command.arg("--output").arg(&output);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("python3 is installed");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("the receiver starts").expect("a line");
        assert_eq!(line.as_deref(), Some("READY"));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let network = Arc::new(Network { rtp, rtcp, back, to, loss, seen: seen.clone() });
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let make = move || {
            let (network, token) = (network.clone(), token.clone());
            async move { token.run_until_cancelled(network.run()).await.unwrap_or(()) }
        };
        let stage = Stage::spawn("network".to_owned(), cancel.clone(), make);
        Self { child, output, network: (stage, cancel), seen, rtp: ports.0, rtcp: ports.1 }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// Ends the receiver; returns the file with what it made of the stream.
    pub(crate) async fn finish(mut self) -> PathBuf {
        drop(self.child.stdin.take());
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("its status");
        assert!(status.success(), "the receiver ended with {status}");
        self.network.1.cancel();
        self.network.0.end(Duration::from_secs(5)).await;
        self.output
    }
}

/// The pictures of an H.264 file.
pub(crate) fn pictures(file: &Path) -> Vec<Picture> {
    let mut assembler = Assembler::default();
    let mut pictures = Vec::new();
    let data = std::fs::read(file).expect("the receiver has written");
    assembler.push_annex_b(&data, (), |picture, ()| pictures.push(picture));
    assembler.finish((), |picture, ()| pictures.push(picture));
    pictures
}

impl Network {
    async fn run(&self) {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut camera = None;
        let (mut rtp, mut rtcp, mut back) = ([0; 2048], [0; 2048], [0; 2048]);
        loop {
            tokio::select! {
                received = self.rtp.recv_from(&mut rtp) => {
                    let Ok((size, _)) = received else { return };
                    let datagram = &rtp[..size];
                    let is_lost = rng.f64() < self.loss;
                    self.note(datagram, is_lost);
                    if !is_lost {
                        self.rtp.send_to(datagram, ("127.0.0.1", self.to[0])).await.ok();
                    }
                }
                received = self.rtcp.recv_from(&mut rtcp) => {
                    let Ok((size, from)) = received else { return };
                    camera = Some(from);
                    self.rtcp.send_to(&rtcp[..size], ("127.0.0.1", self.to[1])).await.ok();
                }
                received = self.back.recv_from(&mut back) => {
                    let Ok((size, _)) = received else { return };
                    self.note_feedback(&back[..size]);
                    if let Some(camera) = camera {
                        self.rtcp.send_to(&back[..size], camera).await.ok();
                    }
                }
            }
        }
    }

    fn note(&self, datagram: &[u8], is_lost: bool) {
        let mut seen = self.seen.lock().expect("not poisoned");
        seen.packets += 1;
        seen.lost += u64::from(is_lost);
        let sequence = u16::from_be_bytes([datagram[2], datagram[3]]);
        if let Some(at) = seen.asked.remove(&sequence) {
            seen.answers.push(at.elapsed());
        }
    }

    fn note_feedback(&self, datagram: &[u8]) {
        let mut seen = self.seen.lock().expect("not poisoned");
        let read = rtcp::parse(datagram, |feedback| match feedback {
            Feedback::Pli { .. } | Feedback::Fir { .. } => seen.plis += 1,
            Feedback::Nack { first, more, .. } => {
                let others = (0..16).filter(|bit| more >> bit & 1 == 1).map(|bit| first.wrapping_add(bit + 1));
                for sequence in std::iter::once(first).chain(others) {
                    seen.asked.entry(sequence).or_insert(Instant::now());
                }
            }
            _ => {}
        });
        assert_eq!(read, Ok(()), "{datagram:02x?}");
    }
}

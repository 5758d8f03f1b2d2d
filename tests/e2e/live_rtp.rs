//! Live view by plain RTP: into GStreamer's rtpbin through a network that loses packets, into Janus' streaming plugin,
//! and to a receiver of our own that asks for things.

mod camera;
pub(crate) mod gstreamer;
mod janus;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgecam::live::rtp::BitrateWish;
use edgecam_media::rtp::Ended;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use self::camera::{Camera, file, large_test_pattern, test_pattern};
use self::gstreamer::Receiver;
use self::janus::Janus;
use crate::harness::agent::note;
use crate::harness::media::{self, Clip};
use crate::harness::{PATIENCE, Scratch, poll};

const SSRC: [u8; 4] = 1_607_797_317_u32.to_be_bytes();

/// Nothing is lost: each picture arrives, and is decoded to what the source shows.
#[tokio::test]
async fn decoded_pictures_equal_the_sources() {
    let scratch = Scratch::new("live-equal");
    let clip = Clip::new(6).file().await;
    let expected = media::decoded(&clip).await;
    let receiver = Receiver::start(scratch.path(), 0.0).await;
    let mut camera = Camera::new(file(&clip));
    let stream = camera.stream(receiver.rtp, receiver.rtcp, None).await;
    camera.start();
    camera.until(expected.len() as u64).await;
    sleep(Duration::from_millis(300)).await;
    let stats = stream.stats();
    let output = receiver.finish().await;
    let found = media::decoded(&output).await;
    let difference = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!((found.len(), difference), (expected.len(), None), "{stats:?}");
    assert!(stats.rtt.is_some_and(|rtt| rtt < Duration::from_millis(200)), "{stats:?}");
    assert_eq!((stats.pictures, stats.error_count), (expected.len() as u64, 0), "{stats:?}");
    assert!(stats.lost <= 0 && stats.loss == 0.0, "{stats:?}");
    stream.stop().await;
    camera.stop().await;
}

/// What Janus takes in, it records: played back, that is what the source shows.
#[tokio::test]
async fn janus_records_what_the_source_shows() {
    let scratch = Scratch::new("live-janus");
    let clip = Clip::new(6).file().await;
    let expected = media::decoded(&clip).await;
    let janus = Janus::start(&scratch).await;
    let mut camera = Camera::new(file(&clip));
    let stream = camera.stream(janus.rtp, janus.rtcp, None).await;
    camera.start();
    camera.until(expected.len() as u64).await;
    sleep(Duration::from_millis(300)).await;
    let found = media::decoded(&janus.finish().await).await;
    let difference = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!((found.len(), difference), (expected.len(), None), "{:?}", stream.stats());
    stream.stop().await;
    camera.stop().await;
}

/// A fiftieth of all packets is lost, resent ones too: what was asked for comes at once, and the picture goes on.
#[tokio::test]
async fn loss_is_made_good() {
    let scratch = Scratch::new("live-loss");
    let clip = Clip { noise: Some(1_500_000), ..Clip::new(12) }.file().await;
    let receiver = Receiver::start(scratch.path(), 0.02).await;
    let mut camera = Camera::new(file(&clip));
    let stream = camera.stream(receiver.rtp, receiver.rtcp, None).await;
    camera.start();
    camera.until(12 * 15).await;
    sleep(Duration::from_millis(500)).await;
    let stats = stream.stats();
    let seen = receiver.seen();
    let output = receiver.finish().await;
    let sent: BTreeSet<_> = camera.pictures().into_iter().collect();
    let whole: BTreeSet<_> = gstreamer::pictures(&output).into_iter().map(|picture| picture.data).collect();
    let arrived = whole.intersection(&sent).count();
    let fps = arrived as f64 / 12.0;
    let slowest = seen.answers.iter().max().copied().unwrap_or_default();
    note(&format!(
        "2 % loss: {fps:.2} of 15 fps; {} of {} packets lost, {} asked for, slowest answer {slowest:?}, {} PLIs",
        seen.lost,
        seen.packets,
        seen.answers.len(),
        seen.plis,
    ));
    assert!(seen.lost > 20 && stats.resent > 20, "too little was lost: {seen:?} {stats:?}");
    assert!(fps >= 14.0, "{fps} fps arrive; {seen:?} {stats:?}");
    assert!(slowest < Duration::from_millis(20), "{slowest:?}");
    stream.stop().await;
    camera.stop().await;
}

/// A receiver of our own.
struct Watcher {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    camera: Option<u16>,
}

impl Watcher {
    async fn new() -> Self {
        let socket = async || UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        Self { rtp: socket().await, rtcp: socket().await, camera: None }
    }

    fn ports(&self) -> (u16, u16) {
        let port = |socket: &UdpSocket| socket.local_addr().expect("bound").port();
        (port(&self.rtp), port(&self.rtcp))
    }

    async fn packet(&self) -> Vec<u8> {
        let mut datagram = vec![0; 2048];
        let received = timeout(PATIENCE, self.rtp.recv_from(&mut datagram)).await.expect("a packet in time");
        datagram.truncate(received.expect("received").0);
        assert_eq!(datagram[8..12], SSRC);
        datagram
    }

    /// What comes in this time, in kbit/s.
    async fn kilobits(&self, span: Duration) -> f64 {
        let began = Instant::now();
        let mut bytes = 0;
        while let Ok(packet) = timeout(span.saturating_sub(began.elapsed()), self.packet()).await {
            bytes += packet.len();
        }
        bytes as f64 / 125.0 / began.elapsed().as_secs_f64()
    }

    /// Says something in the name of nobody in particular.
    async fn say(&mut self, kind: [u8; 2], rest: &[u8]) {
        while self.camera.is_none() {
            let mut datagram = [0; 2048];
            let (_, from) = timeout(PATIENCE, self.rtcp.recv_from(&mut datagram)).await.expect("a report").expect("it");
            self.camera = Some(from.port());
        }
        let words = (1 + rest.len() / 4) as u16;
        let datagram = [&kind, &words.to_be_bytes()[..], &[9, 9, 9, 9], rest].concat();
        self.rtcp.send_to(&datagram, ("127.0.0.1", self.camera.unwrap_or(0))).await.expect("sent");
    }
}

/// Whether a packet begins an IDR: its parameter sets, together or alone.
fn begins_idr(packet: &[u8]) -> bool {
    match packet[12] & 0x1f {
        24 => packet[15] & 0x1f == 7,
        kind => kind == 7,
    }
}

#[tokio::test]
async fn what_is_asked_for_comes_within_20_ms() {
    let clip = Clip { noise: Some(1_500_000), ..Clip::new(12) }.file().await;
    let mut watcher = Watcher::new().await;
    let mut camera = Camera::new(file(&clip));
    let (rtp, rtcp) = watcher.ports();
    let stream = camera.stream(rtp, rtcp, None).await;
    camera.start();
    let mut slowest = Duration::ZERO;
    for round in 0..40 {
        let mut sequence = 0;
        // One from the middle of a picture, one from its end, some a second old.
        for _ in 0..13 + round % 5 {
            let packet = watcher.packet().await;
            sequence = u16::from_be_bytes([packet[2], packet[3]]);
        }
        let wanted = sequence.wrapping_sub(round % 4 * 3).to_be_bytes();
        let asked = Instant::now();
        watcher.say([0x81, 205], &[&SSRC[..], &wanted, &[0, 0]].concat()).await;
        while watcher.packet().await[2..4] != wanted {}
        slowest = slowest.max(asked.elapsed());
    }
    note(&format!("40 packets asked for, the slowest came after {slowest:?}"));
    assert!(slowest < Duration::from_millis(20), "{slowest:?}");
    let stats = stream.stop().await.stats;
    assert_eq!((stats.nacks, stats.resent), (40, 40));
    camera.stop().await;
}

#[tokio::test]
async fn an_idr_is_there_within_200_ms() {
    let mut watcher = Watcher::new().await;
    let mut camera = Camera::new(test_pattern());
    camera.start();
    camera.until(10).await;
    let (rtp, rtcp) = watcher.ports();
    let stream = camera.stream(rtp, rtcp, None).await;
    assert!(begins_idr(&watcher.packet().await), "it begins with an IDR");
    let mut slowest = Duration::ZERO;
    for round in 0..6 {
        let pause = Instant::now() + Duration::from_millis(600 + round * 37);
        while Instant::now() < pause {
            assert!(!begins_idr(&watcher.packet().await), "nobody has asked for one");
        }
        let asked = Instant::now();
        if round % 2 == 0 {
            watcher.say([0x81, 206], &SSRC).await;
        } else {
            watcher.say([0x84, 206], &[&[0, 0, 0, 0], &SSRC[..], &[round as u8, 0, 0, 0]].concat()).await;
        }
        while !begins_idr(&watcher.packet().await) {}
        slowest = slowest.max(asked.elapsed());
    }
    note(&format!("an IDR after {slowest:?} at most"));
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
    let stats = stream.stop().await.stats;
    assert_eq!((stats.plis, stats.firs, stats.error_count), (3, 3, 0));
    camera.stop().await;
}

/// REMB of 800 kbit/s: 3 s later the encoder sends less than 900, and its own rate again when the stream is over.
#[tokio::test]
async fn the_encoder_does_as_it_is_told() {
    let mut watcher = Watcher::new().await;
    let mut camera = Camera::new(large_test_pattern());
    camera.start();
    let (rtp, rtcp) = watcher.ports();
    let encoder = camera.encoder.clone();
    let wish: BitrateWish = Arc::new(move |limit| encoder.send_modify(|encoder| encoder.bitrate_limit = limit));
    let stream = camera.stream(rtp, rtcp, Some(wish)).await;
    watcher.kilobits(Duration::from_secs(1)).await;
    let before = watcher.kilobits(Duration::from_secs(3)).await;
    // 200,000 shifted by 2.
    watcher.say([0x8f, 206], &[&[0, 0, 0, 0], &b"REMB"[..], &[1, 0x0b, 0x0d, 0x40], &SSRC[..]].concat()).await;
    watcher.kilobits(Duration::from_secs(3)).await;
    let after = watcher.kilobits(Duration::from_secs(3)).await;
    note(&format!("REMB 800: from {before:.0} to {after:.0} kbit/s"));
    assert_eq!(camera.encoder.borrow().bitrate_limit, Some(800_000));
    assert!(before > 1_000.0 && after < 900.0, "from {before} to {after} kbit/s");
    assert_eq!(stream.stop().await.stats.rembs, 1);
    assert_eq!(camera.encoder.borrow().bitrate_limit, None);
    camera.stop().await;
}

/// Neither keepalives nor REMB for 30 s: the stream says goodbye.
#[tokio::test]
async fn silence_ends_it() {
    let mut watcher = Watcher::new().await;
    let mut camera = Camera::new(test_pattern());
    camera.start();
    let (rtp, rtcp) = watcher.ports();
    let stream = camera.stream(rtp, rtcp, None).await;
    watcher.packet().await;
    stream.keepalive();
    sleep(Duration::from_secs(2)).await;
    watcher.say([0x8f, 206], &[&[0, 0, 0, 0], &b"REMB"[..], &[0, 0x0b, 0x0d, 0x40]].concat()).await;
    let last_sign = Instant::now();
    let limit = Duration::from_secs(60);
    poll(limit, async || (!stream.is_running()).then_some(())).await.expect("it ends");
    let silent = last_sign.elapsed().as_secs_f64();
    note(&format!("ended {silent:.2} s after the last sign of life"));
    assert!((29.0..31.0).contains(&silent), "after {silent} s");
    // The last datagram of RTCP is a BYE.
    let (mut last, mut datagram) = (Vec::new(), [0; 2048]);
    while let Ok((size, _)) = watcher.rtcp.try_recv_from(&mut datagram) {
        last = datagram[..size].to_vec();
    }
    assert_eq!(last[last.len() - 8..last.len() - 6], [0x81, 203]);
    assert_eq!(stream.status().ended, Some(Ended::Silence));
    camera.stop().await;
}

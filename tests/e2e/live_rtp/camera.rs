//! A camera inside the test: its log, its encoder, and a stream of it.

use std::path::Path;
use std::time::Duration;

use edgecam::capture::supervisor::{self, Capture, StatusCell};
use edgecam::config::source::{FileSource, Source};
use edgecam::encode::Control;
use edgecam::encode::Encoding;
use edgecam::footage::{Footage, Storage};
use edgecam::live::rtp::{BitrateWish, RtpSource, RtpStream};
use edgecam::run::stage::Stage;
use edgecam_media::ring::{Bounds, Position};
use edgecam_media::rtp::{AllowList, Network, RtpTarget, Settings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A running source. Stopped by [`Camera::stop`].
pub(crate) struct Camera {
    pub(crate) footage: Footage,
    pub(crate) force_idr: watch::Sender<u64>,
    pub(crate) encoder: watch::Sender<Control>,
    source: Source,
    running: Option<(Stage, CancellationToken)>,
}

/// A file played once in real time.
pub(crate) fn file(path: &Path) -> Source {
    Source::File(FileSource { path: path.to_owned(), repeat: false, frame_rate: Some(15.0) })
}

/// Our encoder: an IDR every 20 s unless one is asked for.
pub(crate) fn test_pattern() -> Source {
    Source::TestPattern(Encoding { width: 640, height: 360, frame_rate: 15.0, gop: 300, bitrate: 1_000_000 })
}

/// Our encoder with more to do: with as many IDRs the drawing takes more than a megabit a second.
pub(crate) fn large_test_pattern() -> Source {
    Source::TestPattern(Encoding { width: 1920, height: 1080, frame_rate: 30.0, gop: 10, bitrate: 4_000_000 })
}

impl Camera {
    /// A camera that does not run yet.
    pub(crate) fn new(source: Source) -> Self {
        let bounds = Bounds { keep: 64 << 20, most: 64 << 20 };
        let footage = Footage::new(bounds, 0, Duration::ZERO, Storage::None, None);
        Self { footage, force_idr: watch::Sender::new(0), encoder: watch::Sender::default(), source, running: None }
    }

    pub(crate) fn start(&mut self) {
        let capture = Capture {
            schedule: Vec::new(),
            audio: false,
            camera: "cam1".to_owned(),
            source: self.source.clone(),
            footage: self.footage.clone(),
            latest: None,
            force_idr: self.force_idr.subscribe(),
            encoder: self.encoder.subscribe(),
            status: StatusCell::default(),
        };
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let make = move || supervisor::run(capture.clone(), token.clone());
        self.running = Some((Stage::spawn("capture".to_owned(), cancel.clone(), make), cancel));
    }

    /// Streams to a receiver on this machine. `bitrate` is told what REMB asks for.
    pub(crate) async fn stream(&self, rtp: u16, rtcp: u16, bitrate: Option<BitrateWish>) -> RtpStream {
        // As Kurento writes it, escaped once too often.
        let sdp = format!(
            "v=0\\r\\no=- 3901515812 3901515812 IN IP4 127.0.0.1\\r\\ns=Kurento Media Server\\r\\nc=IN IP4 127.0.0.1\\r\\n\
             t=0 0\\r\\nm=audio 5008 RTP/AVPF 96 0\\r\\na=rtpmap:96 opus/48000/2\\r\\na=recvonly\\r\\n\
             m=video {rtp} RTP/AVPF 103\\r\\na=rtpmap:103 H264/90000\\r\\na=rtcp:{rtcp}\\r\\na=rtcp-fb:103 nack\\r\\n\
             a=rtcp-fb:103 nack pli\\r\\na=fmtp:103 packetization-mode=1;profile-level-id=42e01f\\r\\na=recvonly\\r\\n\
             a=x-skl-ssrca:229236353\\r\\na=x-skl-ssrcv:1607797317\\r\\na=x-skl-cname:user1@host-1"
        );
        let allowed = AllowList::new(vec!["127.0.0.1".parse::<Network>().expect("a network")]);
        let target = RtpTarget::parse(&sdp, &allowed).expect("usable");
        let is_encoder = matches!(self.source, Source::TestPattern(_));
        let source = RtpSource {
            camera: "cam1".to_owned(),
            footage: self.footage.clone(),
            force_idr: is_encoder.then(|| self.force_idr.clone()),
            bitrate,
        };
        let mut rng = fastrand::Rng::new();
        RtpStream::start(source, &target, Settings::new(&target, || rng.u32(..))).await.expect("sockets")
    }

    /// Waits for so many pictures in the log.
    pub(crate) async fn until(&self, pictures: u64) {
        let there = crate::harness::poll(crate::harness::PATIENCE, async || {
            (self.footage.status().units >= pictures).then_some(())
        });
        there.await.unwrap_or_else(|| panic!("only {} pictures", self.footage.status().units));
    }

    /// All pictures of the log: their bytes.
    pub(crate) fn pictures(&self) -> Vec<bytes::Bytes> {
        let mut cursor = self.footage.cursor();
        let mut position = Position::default();
        let mut pictures = Vec::new();
        while let Some(edgecam::footage::Next::Unit { unit, next, .. }) = cursor.try_read(position) {
            pictures.push(unit.data);
            position = next;
        }
        pictures
    }

    pub(crate) async fn stop(&mut self) {
        if let Some((stage, cancel)) = self.running.take() {
            cancel.cancel();
            stage.end(Duration::from_secs(5)).await;
        }
    }
}

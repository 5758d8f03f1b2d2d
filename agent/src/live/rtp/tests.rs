use bytes::Bytes;
use edgecam_media::ring::Bounds;
use edgecam_media::rtp::{AllowList, Network};
use edgecam_media::{AccessUnit, ParameterSets, Ticks, TrackId};
use tokio::time::timeout;

use super::*;
use crate::footage::Storage;

/// A log that is filled by hand, with a frame every 40 ms, and a receiver.
struct Rig {
    footage: Footage,
    sets: Arc<ParameterSets>,
    frame: i64,
    began: Timestamp,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    sender: Option<SocketAddr>,
}

impl Rig {
    async fn new() -> Self {
        let bounds = Bounds { keep: 1 << 20, most: 1 << 20 };
        let footage = Footage::new(bounds, 0, Duration::ZERO, Storage::None, None);
        let sps = [
            0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
            0x00, 0x03, 0x01, 0xe0, 0xf1, 0x83, 0x19, 0x60,
        ];
        let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
        let sets = Arc::new(ParameterSets::h264(Bytes::copy_from_slice(&sps), vec![pps]).expect("valid"));
        let socket = async || UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        Self {
            footage,
            sets,
            frame: 0,
            began: wall_clock() - Ticks::from_millis(400),
            rtp: socket().await,
            rtcp: socket().await,
            sender: None,
        }
    }

    fn append(&mut self, is_idr: bool) {
        let mut data = vec![0, 0, 0, 9, if is_idr { 0x65 } else { 0x41 }];
        data.extend_from_slice(&self.frame.to_be_bytes());
        let unit = AccessUnit {
            track: TrackId::VIDEO,
            pts: self.began + Ticks::from_millis(self.frame * 40),
            is_idr,
            data: data.into(),
            parameter_sets: is_idr.then(|| self.sets.clone()),
        };
        self.frame += 1;
        self.footage.append(unit, false);
    }

    fn target(&self, is_shared: bool) -> RtpTarget {
        let port = |socket: &UdpSocket| socket.local_addr().expect("bound").port();
        let rtcp = if is_shared { "a=rtcp-mux".to_owned() } else { format!("a=rtcp:{}", port(&self.rtcp)) };
        let sdp = format!(
            "v=0\nc=IN IP4 127.0.0.1\nm=video {} RTP/AVPF 103\na=rtpmap:103 H264/90000\n{rtcp}\na=x-skl-ssrcv:77",
            port(&self.rtp),
        );
        let allowed = AllowList::new(vec!["127.0.0.1".parse::<Network>().expect("a network")]);
        RtpTarget::parse(&sdp, &allowed).expect("usable")
    }

    async fn start(&self, force_idr: Option<watch::Sender<u64>>, bitrate: Option<BitrateWish>) -> RtpStream {
        let target = self.target(false);
        let source = RtpSource { camera: "test".to_owned(), footage: self.footage.clone(), force_idr, bitrate };
        RtpStream::start(source, &target, Settings::new(&target, || 5)).await.expect("sockets")
    }

    /// The number of the next picture, whether it is an IDR, and its RTP timestamp.
    async fn picture(&self) -> (i64, bool, u32) {
        let mut datagram = [0; 2048];
        let received = timeout(Duration::from_secs(5), self.rtp.recv_from(&mut datagram)).await;
        let (size, _) = received.expect("a packet in time").expect("received");
        let datagram = &datagram[..size];
        assert_eq!(datagram[8..12], [0, 0, 0, 77]);
        let number = i64::from_be_bytes(datagram[size - 8..].try_into().expect("8 bytes"));
        let timestamp = u32::from_be_bytes(datagram[4..8].try_into().expect("4 bytes"));
        (number, datagram[12] & 0x1f == 24, timestamp)
    }

    async fn rtcp(&mut self) -> Vec<u8> {
        let mut datagram = [0; 2048];
        let received = timeout(Duration::from_secs(5), self.rtcp.recv_from(&mut datagram)).await;
        let (size, from) = received.expect("RTCP in time").expect("received");
        self.sender = Some(from);
        datagram[..size].to_vec()
    }

    async fn say(&self, datagram: &[u8]) {
        let to = self.sender.expect("a report has come");
        self.rtcp.send_to(datagram, ("127.0.0.1", to.port())).await.expect("sent");
    }
}

const PLI: [u8; 12] = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 77];

#[tokio::test]
async fn it_begins_with_the_newest_idr_and_goes_on_live() {
    let mut rig = Rig::new().await;
    [true, false, true, false, false].into_iter().for_each(|is_idr| rig.append(is_idr));
    let stream = rig.start(None, None).await;
    for expected in 2..5 {
        assert_eq!(rig.picture().await.0, expected);
    }
    rig.append(false);
    assert_eq!(rig.picture().await.0, 5);
    let report = rig.rtcp().await;
    assert_eq!(report[1], 200, "a sender report at once");
    assert_eq!(rig.sender.map(|from| from.port()), Some(stream.local().rtcp.port()));
    let status = stream.stop().await;
    assert_eq!((status.ended, status.stats.pictures, status.stats.packets), (Some(Ended::Stopped), 4, 4));
    let goodbye = rig.rtcp().await;
    assert_eq!(goodbye[goodbye.len() - 8..goodbye.len() - 6], [0x81, 203], "a BYE");
}

#[tokio::test]
async fn an_encoder_is_asked_and_told_the_bitrate() {
    let mut rig = Rig::new().await;
    rig.append(true);
    let (force_idr, mut idrs) = watch::channel(0);
    let (bitrate, mut bitrates) = watch::channel(None);
    let wish: BitrateWish = Arc::new(move |wanted| {
        bitrate.send_replace(wanted);
    });
    let stream = rig.start(Some(force_idr), Some(wish)).await;
    rig.rtcp().await;
    rig.say(&PLI).await;
    timeout(Duration::from_secs(5), idrs.changed()).await.expect("in time").expect("it runs");
    assert_eq!(*idrs.borrow(), 1);
    rig.say(&[&[0x8f, 206, 0, 4, 0, 0, 0, 9, 0, 0, 0, 0], &b"REMB"[..], &[1, 0x0b, 0x0d, 0x40]].concat()).await;
    rig.say(&[&[0x8f, 206, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0], &b"REMB"[..], &[1, 0x0b, 0x0d, 0x40, 0, 0, 0, 77]].concat())
        .await;
    timeout(Duration::from_secs(5), bitrates.changed()).await.expect("in time").expect("it runs");
    assert_eq!(*bitrates.borrow(), Some(800_000));
    let stats = stream.stop().await.stats;
    assert_eq!((stats.plis, stats.rembs, stats.error_count), (1, 1, 1), "the one that was cut short");
    assert_eq!(*bitrates.borrow(), None, "the encoder is free again");
}

#[tokio::test]
async fn a_camera_that_cannot_be_asked_has_its_gop_sent_again() {
    let mut rig = Rig::new().await;
    [true, false, false].into_iter().for_each(|is_idr| rig.append(is_idr));
    let stream = rig.start(None, None).await;
    let mut last = 0;
    for _ in 0..3 {
        last = rig.picture().await.2;
    }
    rig.rtcp().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    (0..5).for_each(|_| rig.append(false));
    for _ in 0..5 {
        let (_, _, timestamp) = rig.picture().await;
        assert!(timestamp.wrapping_sub(last).cast_signed() >= 0);
        last = timestamp;
    }
    // A storm has one answer.
    for _ in 0..20 {
        rig.say(&PLI).await;
    }
    for expected in 0..8 {
        let (number, is_idr, timestamp) = rig.picture().await;
        assert_eq!((number, is_idr), (expected, expected == 0));
        assert!(timestamp.wrapping_sub(last).cast_signed() > 0, "times go on");
        last = timestamp;
    }
    rig.append(false);
    assert_eq!(rig.picture().await.0, 8, "and then it is live again");
    drop(stream);
}

#[tokio::test]
async fn one_socket_serves_both() {
    let mut rig = Rig::new().await;
    rig.append(true);
    let target = rig.target(true);
    let (force_idr, mut idrs) = watch::channel(0);
    let source = RtpSource {
        camera: "test".to_owned(),
        footage: rig.footage.clone(),
        force_idr: Some(force_idr),
        bitrate: None,
    };
    let stream = RtpStream::start(source, &target, Settings::new(&target, || 5)).await.expect("sockets");
    assert_eq!(stream.local().rtp, stream.local().rtcp);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let mut datagram = [0; 2048];
        let (_, from) = rig.rtp.recv_from(&mut datagram).await.expect("received");
        assert_eq!(from.port(), stream.local().rtp.port());
        kinds.push(datagram[1] & 0x7f);
    }
    assert_eq!(kinds, [200 & 0x7f, 103], "a report, a picture");
    rig.rtp.send_to(&PLI, ("127.0.0.1", stream.local().rtp.port())).await.expect("sent");
    timeout(Duration::from_secs(5), idrs.changed()).await.expect("in time").expect("it runs");
    stream.stop().await;
}

#[tokio::test]
async fn who_is_slow_goes_on_at_the_next_idr() {
    let mut rig = Rig::new().await;
    rig.append(true);
    let stream = rig.start(None, None).await;
    assert_eq!(rig.picture().await.0, 0);
    // The runtime has one thread: the stream cannot read while these come.
    (0..30_000).for_each(|index| rig.append(index % 10_000 == 0));
    (0..100_000).for_each(|_| rig.append(false));
    rig.append(true);
    let last = rig.frame - 1;
    let found = async { while rig.picture().await.0 != last {} };
    timeout(Duration::from_secs(20), found).await.expect("it goes on");
    assert!(stream.is_running());
    assert_eq!(stream.stop().await.lagged, 1);
}

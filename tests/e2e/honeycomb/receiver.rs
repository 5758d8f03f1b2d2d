//! A receiver of RTP as Kurento is one, seen from the camera: what it orders by SDP, and what it asks for by RTCP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::harness::PATIENCE;

/// The same for all cameras and streams, on that platform.
pub(super) const SSRC: [u8; 4] = 1_607_797_317_u32.to_be_bytes();
/// Sender reports, and other kinds of RTCP (RFC 3550 section 12.1, RFC 4585 section 6.1).
pub(super) const SR: u8 = 200;
pub(super) const BYE: u8 = 203;
const SDES: u8 = 202;

pub(super) struct Receiver {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    cname: String,
    camera: Option<SocketAddr>,
}

/// As Kurento writes it. Line ends are real ones, and there is none at the end.
pub(super) fn sdp(address: &str, rtp: u16, rtcp: u16, cname: &str) -> String {
    format!(
        "v=0\r\no=- 3901515812 3901515812 IN IP4 {address}\r\ns=Kurento Media Server\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
         m=audio 5008 RTP/AVPF 96 0\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=rtcp:5009\r\na=recvonly\r\n\
         a=direction:passive\r\na=ssrc:3404307297 cname:user1@host-1\r\n\
         m=video {rtp} RTP/AVPF 103\r\nb=AS:5000\r\na=rtpmap:103 H264/90000\r\na=rtcp:{rtcp}\r\na=rtcp-fb:103 nack\r\n\
         a=rtcp-fb:103 nack pli\r\na=rtcp-fb:103 goog-remb\r\na=rtcp-fb:103 ccm fir\r\n\
         a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\na=recvonly\r\n\
         a=direction:passive\r\na=direction:passive\r\na=ssrc:1139416309 cname:user2@host-1\r\n\
         a=x-skl-ssrca:229236353\r\na=x-skl-ssrcv:1607797317\r\na=x-skl-cname:{cname}"
    )
}

impl Receiver {
    pub(super) async fn new(cname: &str) -> Self {
        let socket = async || UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        Self { rtp: socket().await, rtcp: socket().await, cname: cname.to_owned(), camera: None }
    }

    pub(super) fn sdp(&self) -> String {
        let port = |socket: &UdpSocket| socket.local_addr().expect("bound").port();
        sdp("127.0.0.1", port(&self.rtp), port(&self.rtcp), &self.cname)
    }

    /// The next RTP packet.
    pub(super) async fn packet(&self) -> Vec<u8> {
        let packet = self.packet_within(PATIENCE).await.expect("a packet in time");
        assert_eq!((packet[1] & 0x7f, &packet[8..12]), (103, &SSRC[..]), "payload type and SSRC as ordered");
        packet
    }

    pub(super) async fn packet_within(&self, span: Duration) -> Option<Vec<u8>> {
        let mut datagram = vec![0; 2048];
        let (size, _) = timeout(span, self.rtp.recv_from(&mut datagram)).await.ok()?.expect("received");
        datagram.truncate(size);
        Some(datagram)
    }

    /// The next RTCP datagram: the kinds of its packets. Who sends it is who is asked from now on.
    pub(super) async fn report(&mut self) -> Vec<u8> {
        let mut datagram = [0; 2048];
        let (size, from) = timeout(PATIENCE, self.rtcp.recv_from(&mut datagram)).await.expect("a report").expect("it");
        self.camera = Some(from);
        let mut kinds = Vec::new();
        let mut rest = &datagram[..size];
        while let [_, kind, high, low, ..] = *rest {
            let length = 4 * (1 + usize::from(u16::from_be_bytes([high, low])));
            let (packet, others) = rest.split_at_checked(length).expect("a whole packet");
            assert_eq!(packet[4..8], SSRC, "the SSRC as ordered");
            if kind == SDES {
                let text = packet.get(10..10 + usize::from(packet[9]));
                assert_eq!((packet[8], text), (1, Some(self.cname.as_bytes())), "the CNAME as ordered");
            }
            kinds.push(kind);
            rest = others;
        }
        kinds
    }

    /// Reports until one says goodbye.
    pub(super) async fn goodbye(&mut self) {
        while !self.report().await.contains(&BYE) {}
    }

    /// Asks in the name of a sender that the camera does not know.
    async fn ask(&mut self, kind: [u8; 2], rest: &[u8]) {
        if self.camera.is_none() {
            self.report().await;
        }
        let words = (1 + rest.len() / 4) as u16;
        let datagram = [&kind, &words.to_be_bytes()[..], &[9, 9, 9, 9], rest].concat();
        self.rtcp.send_to(&datagram, self.camera.expect("it has reported")).await.expect("sent");
    }

    /// How long it takes until a packet is there that is missing.
    pub(super) async fn nack(&mut self, sequence: [u8; 2]) -> Duration {
        let asked = Instant::now();
        self.ask([0x81, 205], &[&SSRC[..], &sequence, &[0, 0]].concat()).await;
        while self.packet().await[2..4] != sequence {}
        asked.elapsed()
    }

    /// How long it takes until a picture begins that can be decoded by itself.
    pub(super) async fn pli(&mut self) -> Duration {
        let asked = Instant::now();
        self.ask([0x81, 206], &SSRC).await;
        while !begins_idr(&self.packet().await) {}
        asked.elapsed()
    }

    /// So many times 4 bit/s can be taken.
    pub(super) async fn remb(&mut self, quarter: u32) {
        let [_, high, middle, low] = quarter.to_be_bytes();
        let bits = [1, 2 << 2 | high & 3, middle, low];
        self.ask([0x8f, 206], &[&[0, 0, 0, 0], &b"REMB"[..], &bits, &SSRC].concat()).await;
    }

    /// What comes in this time, in kbit/s.
    pub(super) async fn kilobits(&self, span: Duration) -> f64 {
        let began = Instant::now();
        let mut bytes = 0;
        while let Some(packet) = self.packet_within(span.saturating_sub(began.elapsed())).await {
            bytes += packet.len();
        }
        bytes as f64 / 125.0 / began.elapsed().as_secs_f64()
    }
}

/// Whether a packet begins an IDR: its parameter sets, together or alone (RFC 6184 section 5.2).
pub(super) fn begins_idr(packet: &[u8]) -> bool {
    match packet[12] & 0x1f {
        24 => packet[15] & 0x1f == 7,
        kind => kind == 7,
    }
}

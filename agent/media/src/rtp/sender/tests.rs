use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::rtp::tests::{Depacketizer, picture, sets};
use crate::rtp::{AllowList, RtpTarget};

const SSRC: u32 = 1_607_797_317;
const FRAME: Duration = Duration::from_millis(40);

/// A sender on a clock that is turned by hand; its wall clock begins at `START`.
struct Rig {
    sender: RtpSender,
    began: Instant,
    now: Instant,
    frame: u32,
    sent: Vec<(Instant, Packet)>,
    reports: Vec<(Instant, Vec<u8>)>,
    events: Vec<(Instant, Event)>,
}

fn start() -> Timestamp {
    Timestamp::from_unix_millis(1_795_228_575_000)
}

impl Rig {
    fn new() -> Self {
        let settings = Settings {
            ssrc: SSRC,
            payload_type: 103,
            cname: "camera".to_owned(),
            sequence: 65_530,
            timestamp_offset: 17,
            mtu: DEFAULT_MTU,
            bitrate: (500_000, 5_000_000),
            silence: Duration::from_secs(30),
        };
        // The one place in this crate that needs an instant to begin with.
        #[expect(clippy::disallowed_methods, reason = "an instant cannot be made otherwise; only distances matter")]
        let now = Instant::now();
        let sender = RtpSender::new(settings, now, start());
        Self { sender, began: now, now, frame: 0, sent: vec![], reports: vec![], events: vec![] }
    }

    fn wall(&self) -> Timestamp {
        start() + Ticks::from_duration(self.now - self.began)
    }

    /// Does what is due now.
    fn drain(&mut self) {
        while let Some(output) = self.sender.poll(self.now, self.wall()) {
            match output {
                Output::Rtp(packet) => self.sent.push((self.now, packet)),
                Output::Rtcp(datagram) => self.reports.push((self.now, datagram)),
                Output::Event(event) => self.events.push((self.now, event)),
            }
        }
    }

    /// Lets time pass, from deadline to deadline.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        self.drain();
        while let Some(deadline) = self.sender.deadline().filter(|at| *at <= until) {
            assert!(deadline > self.now, "a deadline that has passed, and nothing was due");
            self.now = deadline;
            self.drain();
        }
        self.now = until;
    }

    /// The next frame of a live source, and the time up to the one after it. An IDR of 60 KB every 25.
    fn frame(&mut self) {
        let is_idr = self.frame.is_multiple_of(25);
        self.frame += 1;
        let unit = picture(is_idr, self.wall(), &[if is_idr { 60_000 } else { 6_000 }]);
        self.sender.picture(&unit, &sets(), self.now, self.wall());
        self.pass(FRAME);
    }

    fn hear(&mut self, datagram: &[u8]) {
        self.sender.received(datagram, self.now);
        self.drain();
    }

    fn nack(&mut self, first: u16, more: u16) {
        let [a, b, c, d] = [first.to_be_bytes(), more.to_be_bytes()].concat()[..] else { return };
        self.hear(&[&[0x81, 205, 0, 3, 0, 0, 0, 1], &SSRC.to_be_bytes()[..], &[a, b, c, d]].concat());
    }

    fn pli(&mut self) {
        self.hear(&[&[0x81, 206, 0, 2, 0, 0, 0, 1], &SSRC.to_be_bytes()[..]].concat());
    }

    fn fir(&mut self, number: u8) {
        let entry = [&SSRC.to_be_bytes()[..], &[number, 0, 0, 0]].concat();
        self.hear(&[&[0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0], &entry[..]].concat());
    }

    fn remb(&mut self, bitrate: u32) {
        let word = (6_u32 << 18 | bitrate >> 6).to_be_bytes();
        self.hear(&[&[0x8f, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0], &b"REMB"[..], &word].concat());
    }

    fn keyframes(&self) -> usize {
        self.events.iter().filter(|(_, event)| *event == Event::KeyframeWanted).count()
    }
}

#[test]
fn pictures_arrive_whole_and_in_order() {
    let mut rig = Rig::new();
    (0..50).for_each(|_| rig.frame());
    let mut depacketizer = Depacketizer::default();
    let mut pictures = 0;
    for (_, packet) in &rig.sent {
        let mut datagram = Vec::new();
        packet.write(&mut datagram);
        pictures += usize::from(depacketizer.push(&datagram).is_some());
    }
    let stats = rig.sender.stats();
    assert_eq!((pictures, stats.pictures, stats.packets), (50, 50, rig.sent.len() as u64));
    assert_eq!(rig.sent[0].1.sequence(), 65_530);
}

#[test]
fn an_idr_does_not_leave_at_once_and_yet_soon() {
    let mut rig = Rig::new();
    (0..3).for_each(|_| rig.frame());
    let idr: Vec<_> = rig.sent.iter().filter(|(_, packet)| packet.timestamp() == rig.sent[0].1.timestamp()).collect();
    assert_eq!(idr.len(), 52);
    let at_once = idr.iter().filter(|(at, _)| *at == rig.began).count();
    assert_eq!(at_once, 17, "the parameter sets, and 16 whole packets");
    let took = idr.last().map(|(at, _)| *at - rig.began).unwrap_or_default();
    assert!((Duration::from_millis(15)..Duration::from_millis(25)).contains(&took), "{took:?}");
    // A picture between IDRs is not held up.
    let begins = rig.began + 2 * FRAME;
    assert_eq!(rig.sent.iter().filter(|(at, _)| *at == begins).count(), 6);
    // However large: within a tenth of a second.
    let mut rig = Rig::new();
    rig.sender.picture(&picture(true, start(), &[2_000_000]), &sets(), rig.now, start());
    assert!(!rig.sender.wants_picture(), "what waits is bounded");
    rig.pass(Duration::from_millis(115));
    assert!(rig.sender.wants_picture());
    assert_eq!(rig.sent.len(), 1 + 2_000_000_usize.div_ceil(1186), "all have left");
}

#[test]
fn reports_begin_with_the_first_picture_and_go_on_without() {
    let mut rig = Rig::new();
    rig.pass(Duration::from_secs(3));
    assert!(rig.reports.is_empty());
    rig.frame();
    rig.pass(Duration::from_secs(5) - FRAME);
    let times: Vec<u64> = rig.reports.iter().map(|(at, _)| (*at - rig.began).as_secs()).collect();
    assert_eq!(times, [3, 4, 5, 6, 7, 8]);
    let word = |datagram: &[u8], at: usize| u32::from_be_bytes(datagram[at..at + 4].try_into().expect("4 bytes"));
    let (_, first) = &rig.reports[0];
    assert_eq!((word(first, 4), word(first, 20), word(first, 24)), (SSRC, 0, 0), "before the first packet");
    assert_eq!(word(first, 16), rig.sent[0].1.timestamp(), "the picture was taken now");
    let (_, last) = &rig.reports[5];
    assert_eq!(word(last, 16).wrapping_sub(word(first, 16)), 5 * 90_000);
    assert_eq!(u64::from(word(last, 20)), rig.sender.stats().packets);
    let payload: usize = rig.sent.iter().map(|(_, packet)| packet.payload_size()).sum();
    assert_eq!(word(last, 24) as usize, payload);
}

#[test]
fn what_is_missing_is_sent_again_once_a_round_trip() {
    let mut rig = Rig::new();
    (0..30).for_each(|_| rig.frame());
    let before = rig.sent.len();
    let missing = rig.sent[40].1.clone();
    rig.nack(missing.sequence(), 0b101);
    assert_eq!(rig.sent.len(), before + 3, "at once");
    assert_eq!(
        rig.sent[before..before + 3].iter().map(|(_, packet)| packet).collect::<Vec<_>>(),
        [&rig.sent[40].1, &rig.sent[41].1, &rig.sent[43].1]
    );
    rig.nack(missing.sequence(), 0);
    assert_eq!(rig.sent.len(), before + 3, "it is on its way");
    rig.pass(Duration::from_millis(51));
    rig.nack(missing.sequence(), 0);
    assert_eq!(rig.sent.len(), before + 4);
    // Never sent, and long gone.
    rig.nack(missing.sequence().wrapping_sub(1000), 0);
    rig.pass(Duration::from_millis(2_100));
    rig.nack(missing.sequence(), 0);
    let stats = rig.sender.stats();
    assert_eq!((rig.sent.len(), stats.resent, stats.nacks, stats.nacks_refused), (before + 4, 4, 7, 2));
}

#[test]
fn a_flood_of_nacks_is_bounded() {
    let mut rig = Rig::new();
    (0..50).for_each(|_| rig.frame());
    let (first, sent) = (rig.sent[0].1.sequence(), rig.sender.stats().bytes);
    let began = rig.now;
    for round in 0..200 {
        (0..40_u16).for_each(|step| rig.nack(first.wrapping_add(step * 17), 0xffff));
        rig.pass(Duration::from_millis(5));
        if round % 8 == 0 {
            rig.frame();
        }
    }
    let bytes = rig.sender.stats().bytes - sent;
    let seconds = (rig.now - began).as_secs_f64();
    assert!((bytes as f64) < seconds * 2.2 * (280_000.0 + 256_000.0), "{bytes} bytes in {seconds} s");
}

#[test]
fn requests_for_an_idr_are_gathered() {
    let mut rig = Rig::new();
    (0..5).for_each(|_| rig.frame());
    rig.pli();
    assert_eq!(rig.keyframes(), 1, "at once");
    // A storm of a hundred in 400 ms.
    (0..100).for_each(|_| {
        rig.pli();
        rig.pass(Duration::from_millis(4));
    });
    assert_eq!(rig.keyframes(), 1);
    rig.pass(Duration::from_millis(101));
    assert_eq!(rig.keyframes(), 2, "nobody has answered yet");
    rig.pli();
    rig.frame = 25;
    rig.frame();
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.keyframes(), 2, "an IDR has answered");
    for (number, expected) in [(7, 3), (7, 3), (8, 4), (8, 4)] {
        rig.fir(number);
        rig.pass(Duration::from_secs(1));
        assert_eq!(rig.keyframes(), expected, "FIR {number}");
    }
    let stats = rig.sender.stats();
    assert_eq!((stats.plis, stats.firs, stats.keyframes_wanted), (102, 2, 4));
}

#[test]
fn remb_is_kept_within_limits() {
    let mut rig = Rig::new();
    rig.frame();
    for bitrate in [800_000, 800_000, 64, 16_000_000] {
        rig.remb(bitrate);
    }
    let wanted: Vec<Event> = rig.events.iter().map(|(_, event)| *event).collect();
    assert_eq!(wanted, [Event::Bitrate(800_000), Event::Bitrate(500_000), Event::Bitrate(5_000_000)]);
    assert_eq!(rig.sender.stats().rembs, 4);
}

#[test]
fn silence_ends_the_stream() {
    let check = |rig: &mut Rig, seconds: f64| {
        rig.pass(Duration::from_secs(200));
        let (at, event) = *rig.events.last().expect("an end");
        assert_eq!(event, Event::Ended(Ended::Silence));
        let ended = (at - rig.began).as_secs_f64();
        assert!((ended - seconds).abs() < 0.01, "ended at {ended} s");
        assert!(!rig.sender.wants_picture() && rig.sender.deadline().is_none());
    };
    let mut never_shown = Rig::new();
    check(&mut never_shown, 30.0);
    assert!(never_shown.reports.is_empty());
    let mut rig = Rig::new();
    rig.frame();
    rig.pass(Duration::from_secs(20) - FRAME);
    rig.sender.keepalive(rig.now);
    rig.pass(Duration::from_secs(29));
    rig.remb(1_000_000);
    rig.pli();
    check(&mut rig, 20.0 + 29.0 + 30.0);
    let (_, last) = rig.reports.last().expect("a report");
    assert_eq!(last[last.len() - 8..last.len() - 4], [0x81, 203, 0, 1], "a BYE at the end");
    let count = rig.reports.len();
    rig.frame();
    rig.nack(65_530, 0xffff);
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.reports.len(), count, "nothing more");
}

#[test]
fn a_stream_that_is_stopped_says_so() {
    let mut rig = Rig::new();
    rig.frame();
    rig.sender.stop(rig.now, rig.wall());
    rig.drain();
    assert_eq!(rig.events, [(rig.now, Event::Ended(Ended::Stopped))]);
    let mut heard = Vec::new();
    rtcp::parse(&rig.reports.last().expect("a report").1, |feedback| heard.push(feedback)).expect("readable");
    assert_eq!(heard, [Feedback::Bye]);
}

#[test]
fn the_round_trip_is_measured_by_our_own_clock() {
    let mut rig = Rig::new();
    rig.frame();
    rig.pass(Duration::from_millis(60));
    let middle = rig.reports[0].1[10..14].to_vec();
    // 100 ms after the report, of which the receiver had it for 62.5 ms: 4096/65536 s.
    let block = [&SSRC.to_be_bytes()[..], &[26, 0, 0, 9], &[0; 4], &[0, 0, 3, 132], &middle, &[0, 0, 16, 0]].concat();
    rig.hear(&[&[0x81, 201, 0, 7, 0, 0, 0, 1], &block[..]].concat());
    let stats = rig.sender.stats();
    assert_eq!((stats.rtt, stats.lost), (Some(Duration::from_micros(37_500)), 9));
    assert_eq!(stats.jitter, Duration::from_millis(10));
    assert!((stats.loss - 0.1).abs() < 0.01);
    // Somebody who has never seen a report, and noise.
    rig.hear(&[&[0x81, 201, 0, 7, 0, 0, 0, 1], &block[..16], &[9; 8]].concat());
    rig.hear(b"GET / HTTP/1.1");
    assert_eq!(rig.sender.stats().rtt, Some(Duration::from_micros(37_500)));
    assert_eq!(rig.sender.stats().error_count, 1);
}

#[test]
fn a_backlog_is_sent_at_once_with_times_that_end_now() {
    let mut rig = Rig::new();
    rig.now += Duration::from_secs(3);
    for frame in 0..75 {
        let pts = start() + Ticks::from_millis(frame * 40);
        let unit = picture(frame == 0, pts, &[1_000]);
        rig.sender.picture(&unit, &sets(), rig.now, rig.wall());
    }
    rig.pass(Duration::from_millis(50));
    let times: Vec<u32> = rig.sent.iter().map(|(_, packet)| packet.timestamp()).collect();
    assert_eq!(times.len(), 75, "the parameter sets go with the IDR");
    let span = times[74].wrapping_sub(times[0]);
    assert!((7_000..8_437).contains(&span), "3 s become 3/32: {span} ticks");
    let report = u32::from_be_bytes(rig.reports[0].1[16..20].try_into().expect("4 bytes"));
    assert!(report.wrapping_sub(times[74]) < 400, "they end where the report says is now");
}

#[test]
fn settings_follow_the_sdp() {
    let sdp =
        "v=0\nc=IN IP4 10.0.0.9\nm=video 6000 RTP/AVP 97\na=rtpmap:97 H264/90000\na=x-skl-ssrcv:77\na=x-skl-cname:me";
    let allowed = AllowList::new(vec!["10.0.0.0/8".parse().expect("a network")]);
    let target = RtpTarget::parse(sdp, &allowed).expect("usable");
    assert_eq!((target.address, target.rtcp_port), (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 6001));
    let settings = Settings::new(&target, || 0x1234_5678);
    assert_eq!((settings.ssrc, settings.cname.as_str(), settings.payload_type), (77, "me", 97));
    assert_eq!((settings.sequence, settings.timestamp_offset), (0x1234, 0x1234_5678));
}

use edgecam_media::TrackId;

use super::*;
use crate::{Disposition, ErrorId};

/// A delivery, a camera of one IDR a second (unless told otherwise), and a service that does what the test says.
struct Rig {
    delivery: Delivery,
    now: Instant,
    sets: Arc<ParameterSets>,
    session: Option<SessionId>,
    /// Cluster timecodes written to the current session, in order, with whether they began with a key frame.
    clusters: Vec<(i64, bool)>,
    commits: Vec<Position>,
    faults: Vec<Fault>,
    skipped: Vec<(Position, Position)>,
    connects: usize,
    idr_requests: usize,
    frame: i64,
    gop: i64,
    tick_millis: i64,
    at: Position,
}

impl Rig {
    fn new() -> Self {
        Self::with(true)
    }

    fn with(has_retention: bool) -> Self {
        let sps = [
            0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
            0x00, 0x03, 0x01, 0xe0, 0xf1, 0x83, 0x19, 0x60,
        ];
        let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
        let sets = ParameterSets::h264(Bytes::copy_from_slice(&sps), vec![pps]).expect("valid");
        let now = Instant::now();
        let settings = Settings { start: Position::start_of(1), has_retention, seed: 7 };
        Self {
            delivery: Delivery::new(settings, now),
            now,
            sets: Arc::new(sets),
            session: None,
            clusters: Vec::new(),
            commits: Vec::new(),
            faults: Vec::new(),
            skipped: Vec::new(),
            connects: 0,
            idr_requests: 0,
            frame: 0,
            gop: 5,
            tick_millis: 200,
            at: Position::start_of(1),
        }
    }

    fn millis(&self) -> i64 {
        1_000_000 + self.frame * self.tick_millis
    }

    /// The camera takes one picture and the delivery reads as it likes; time passes; what is written is looked at.
    fn frame(&mut self) {
        let is_idr = self.frame % self.gop == 0;
        if is_idr && self.frame > 0 {
            self.at = Position::start_of(self.at.gop + 1);
        }
        if let Some(wanted) = self.delivery.wants(self.now)
            && wanted <= self.at
        {
            let next = Position { gop: self.at.gop, unit: self.at.unit + 1 };
            let unit = AccessUnit {
                track: TrackId::VIDEO,
                pts: Timestamp::from_unix_millis(self.millis()),
                is_idr,
                data: Bytes::from(vec![if is_idr { 0x65 } else { 0x41 }; 10]),
                parameter_sets: is_idr.then(|| self.sets.clone()),
            };
            self.delivery.unit(unit, self.sets.clone(), next, self.now);
        }
        self.at.unit += 1;
        self.frame += 1;
        self.run();
        self.now += Duration::from_millis(self.tick_millis as u64);
        self.delivery.tick(self.now);
        self.run();
    }

    fn frames(&mut self, count: usize) {
        (0..count).for_each(|_| self.frame());
    }

    /// Carries out actions and takes what is written.
    fn run(&mut self) {
        loop {
            while let Some(action) = self.delivery.poll() {
                match action {
                    Action::Connect { session, .. } => {
                        self.connects += 1;
                        self.session = Some(session);
                        self.clusters.clear();
                        let head = b"POST /putMedia HTTP/1.1\r\n\r\n".to_vec();
                        self.delivery.connected(session, head, None, self.now);
                    }
                    Action::Close(session) => self.session = self.session.filter(|current| *current != session),
                    Action::Commit(position) => self.commits.push(position),
                    Action::RequestIdr => self.idr_requests += 1,
                    Action::Report(Report::Failed { fault, .. }) => self.faults.push(fault),
                    Action::Report(Report::Skipped { from, end, .. }) => self.skipped.push((from, end)),
                    Action::Report(_) => {}
                }
            }
            let Some(id) = self.session else { return };
            let written: Vec<u8> =
                self.delivery.out(id).into_iter().flatten().flat_map(|bytes| bytes.to_vec()).collect();
            if written.is_empty() {
                return;
            }
            for at in 0..written.len().saturating_sub(28) {
                if written[at..].starts_with(&[0x1f, 0x43, 0xb6, 0x75, 0xff, 0xe7, 0x88]) {
                    let timecode = written[at + 7..at + 15].try_into().map(i64::from_be_bytes).expect("8 bytes");
                    self.clusters.push((timecode, written[at + 27] == 0x80));
                }
            }
            self.delivery.written(id, written.len(), self.now);
        }
    }

    fn accept(&mut self) {
        self.receive("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    }

    fn receive(&mut self, text: &str) {
        if let Some(session) = self.session {
            self.delivery.received(session, text.as_bytes(), self.now);
        }
        self.run();
    }

    fn ack(&mut self, kind: &str, timecode: i64) {
        let text = format!("{{\"EventType\":\"{kind}\",\"FragmentTimecode\":{timecode}}}");
        self.receive(&format!("{:x}\r\n{text}\r\n", text.len()));
    }

    fn error(&mut self, id: u32, timecode: Option<i64>) {
        let shown = timecode.map(|timecode| format!("\"FragmentTimecode\":{timecode},")).unwrap_or_default();
        let text = format!("{{\"EventType\":\"ERROR\",{shown}\"ErrorId\":{id}}}");
        self.receive(&format!("{:x}\r\n{text}\r\n", text.len()));
    }

    /// Accepts, and acknowledges everything that is complete, for `count` frames.
    fn served(&mut self, count: usize) {
        for _ in 0..count {
            self.frame();
            if self.clusters.is_empty() {
                continue;
            }
            if self.session.is_some_and(|id| self.delivery.session(id).is_some_and(|session| session.head().is_none()))
            {
                self.accept();
            }
            let clusters = self.clusters.clone();
            for (timecode, _) in clusters {
                self.ack("BUFFERING", timecode);
                if clusters_after(&self.clusters, timecode) {
                    self.ack("RECEIVED", timecode);
                    self.ack("PERSISTED", timecode);
                }
            }
        }
    }
}

fn clusters_after(clusters: &[(i64, bool)], timecode: i64) -> bool {
    clusters.iter().any(|(other, _)| *other > timecode)
}

#[test]
fn a_fragment_is_a_gop_of_a_second() {
    let mut rig = Rig::new();
    rig.served(26);
    let expected: Vec<(i64, bool)> = (0..6).map(|n| (1_000_000 + n * 1000, true)).collect();
    assert_eq!(rig.clusters, expected);
    assert_eq!(rig.delivery.committed(), Position { gop: 5, unit: 5 });
    assert_eq!((rig.connects, rig.faults.len()), (1, 0));
}

#[test]
fn short_gops_share_a_fragment() {
    let mut rig = Rig::new();
    rig.gop = 2;
    rig.served(30);
    // GOPs of 0.4 s: a fragment takes three of them, 1.2 s.
    assert_eq!(
        rig.clusters.iter().map(|(timecode, _)| timecode % 10_000).take(4).collect::<Vec<_>>(),
        [0, 1200, 2400, 3600]
    );
}

#[test]
fn a_long_gop_is_continued_and_said() {
    let mut rig = Rig::new();
    rig.gop = 120;
    rig.served(125);
    assert_eq!(rig.clusters.iter().map(|(_, key)| *key).collect::<Vec<_>>(), [true, false, false, true]);
    assert!(rig.clusters.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 10_000));
    assert_eq!((rig.idr_requests, rig.delivery.stats().fragments_without_idr), (1, 2));
}

#[test]
fn without_retention_received_releases() {
    let mut rig = Rig::with(false);
    rig.frame();
    rig.accept();
    rig.frames(5);
    rig.ack("RECEIVED", 1_000_000);
    assert_eq!(rig.delivery.committed(), Position { gop: 1, unit: 5 });
}

#[test]
fn a_silent_peer_is_found_each_time() {
    let mut rig = Rig::new();
    for round in 1..=3 {
        rig.served(30);
        let silent_since = rig.now;
        while rig.faults.len() < round {
            rig.frame();
            assert!(rig.now - silent_since < Duration::from_secs(6), "round {round}");
        }
        assert_eq!(rig.faults[round - 1].class, FaultClass::Silent);
        // Found within one GOP and 3.5 s.
        assert!(rig.now - silent_since <= Duration::from_millis(4_700), "{:?}", rig.now - silent_since);
    }
}

#[test]
fn a_cut_resends_from_the_first_gap() {
    let mut rig = Rig::new();
    rig.served(28);
    let committed = rig.delivery.committed();
    let session = rig.session.expect("a session");
    rig.delivery.closed(session, "connection reset", rig.now);
    assert_eq!(rig.delivery.committed(), committed);
    assert_eq!(rig.delivery.wants(rig.now), Some(committed), "read again from behind what is persisted");
}

#[test]
fn every_error_id_has_its_consequence() {
    for id in ErrorId::known().chain([ErrorId(9999)]) {
        let mut rig = Rig::new();
        rig.served(26);
        let (before, (timecode, _)) = (rig.delivery.committed(), rig.clusters[rig.clusters.len() - 1]);
        rig.error(id.0, Some(timecode));
        assert_eq!(rig.faults.last().map(|fault| fault.class), Some(FaultClass::Error(id)));
        let skipped = id.disposition() == Disposition::Skip;
        assert_eq!(rig.skipped.len(), usize::from(skipped), "{id:?}");
        // Nothing is left out but the fragment that was refused, and that to the end of its GOP.
        let expected = if skipped { Position::start_of(7) } else { before };
        assert_eq!(rig.delivery.committed(), expected, "{id:?}");
        assert_eq!(rig.faults[0].class.needs_a_person(), id.disposition() == Disposition::Hold, "{id:?}");
    }
}

#[test]
fn an_error_that_names_no_fragment_skips_only_after_several_tries() {
    let mut rig = Rig::new();
    for round in 1..=POISON_LIMIT {
        while rig.clusters.is_empty() {
            // The camera goes on; the delivery starts from the same place each time.
            rig.at = rig.at.max(rig.delivery.committed());
            rig.frame();
        }
        rig.accept();
        rig.error(4006, None);
        rig.clusters.clear();
        assert_eq!(rig.skipped.len(), usize::from(round == POISON_LIMIT), "round {round}");
    }
}

#[test]
fn refusals_say_why_and_wait() {
    let refuse = |status: &str, error: &str, body: &str| {
        let mut rig = Rig::new();
        rig.frame();
        let length = body.len();
        rig.receive(&format!(
            "HTTP/1.1 {status}\r\nx-amzn-ErrorType: {error}\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        rig.faults.pop().expect("a fault")
    };
    let fault = refuse("403 Forbidden", "AccessDeniedException", "{\"Message\":\"not allowed\"}");
    assert_eq!(fault.class, FaultClass::Credentials);
    for part in ["PutMedia", "403", "AccessDeniedException", "not allowed"] {
        assert!(fault.message.contains(part), "{}", fault.message);
    }
    for (status, error, class) in [
        ("400 Bad Request", "ClientLimitExceededException", FaultClass::Throttled),
        ("400 Bad Request", "InvalidArgumentException", FaultClass::Refused),
        ("404 Not Found", "ResourceNotFoundException", FaultClass::NotFound),
        ("500 Oops", "", FaultClass::Service),
    ] {
        assert_eq!(refuse(status, error, "").class, class, "{status} {error}");
    }
}

#[test]
fn a_token_about_to_expire_opens_a_new_session_at_an_idr() {
    let mut rig = Rig::new();
    rig.served(6);
    rig.delivery.rotate_at = Some(rig.now);
    rig.served(3);
    assert_eq!(rig.connects, 1, "not inside a GOP");
    rig.served(10);
    assert_eq!(rig.connects, 2);
    assert!(rig.clusters.first().is_some_and(|(_, key)| *key));
}

#[test]
fn a_camera_that_pauses_gets_its_last_fragment_stored() {
    let mut rig = Rig::new();
    rig.served(8);
    rig.now += IDLE_LIMIT;
    rig.delivery.tick(rig.now);
    assert!(matches!(rig.delivery.link, Link::Down(_)), "the request is ended");
    assert_eq!(rig.delivery.draining.len(), 1);
}

#[test]
fn stopping_finishes_and_ends() {
    let mut rig = Rig::new();
    rig.served(8);
    rig.delivery.stop(rig.now);
    assert!(!rig.delivery.is_stopped());
    let (last, _) = rig.clusters[rig.clusters.len() - 1];
    rig.ack("RECEIVED", last);
    rig.ack("PERSISTED", last);
    rig.receive("0\r\n\r\n");
    assert!(rig.delivery.is_stopped());
    assert_eq!(rig.delivery.committed(), Position { gop: 2, unit: 3 });
    assert_eq!(rig.delivery.wants(rig.now), None);
}

#[test]
fn the_end_of_a_range_is_reached_with_audio_that_is_not_sent() {
    let mut rig = Rig::new();
    rig.served(8);
    // G.711, or what the parameter sets do not declare: it stays in the archive.
    let last = rig.delivery.wants(rig.now).expect("wanted");
    let end = Position { unit: last.unit + 1, ..last };
    let unit = AccessUnit {
        track: TrackId::AUDIO,
        pts: Timestamp::from_unix_millis(rig.millis()),
        is_idr: false,
        data: Bytes::from_static(&[0xd5; 160]),
        parameter_sets: None,
    };
    rig.delivery.unit(unit, rig.sets.clone(), end, rig.now);
    rig.delivery.end(rig.now);
    rig.run();
    let (timecode, _) = rig.clusters[rig.clusters.len() - 1];
    rig.ack("RECEIVED", timecode);
    rig.ack("PERSISTED", timecode);
    rig.receive("0\r\n\r\n");
    assert!(rig.delivery.is_stopped());
    assert_eq!(rig.delivery.committed(), end);
    assert_eq!(rig.commits.last(), Some(&end));
}

#[test]
fn what_waits_for_its_audio_is_sent_at_the_end() {
    let mut rig = Rig::new();
    let audio = edgecam_media::AudioFormat::aac(Bytes::from_static(&[0x12, 0x10])).expect("valid");
    rig.sets = Arc::new((*rig.sets).clone().with_audio(Some(Arc::new(audio))));
    rig.frame();
    assert_eq!(rig.connects, 0, "its audio may still come");
    rig.delivery.end(rig.now);
    rig.run();
    assert_eq!((rig.connects, rig.clusters.len()), (1, 1));
    assert!(!rig.delivery.is_stopped(), "its acks are to come");
}

#[test]
fn an_end_without_a_connection_waits_for_nothing() {
    let mut rig = Rig::new();
    rig.served(3);
    rig.delivery.end(rig.now);
    rig.run();
    let session = rig.session.expect("a session");
    rig.delivery.closed(session, "connection reset", rig.now);
    rig.run();
    assert!(rig.delivery.is_stopped());
    assert_eq!(rig.delivery.committed(), Position::start_of(1), "it is sent again another time");
}

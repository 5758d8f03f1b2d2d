//! One stream to one receiver, sans-IO: pictures, received RTCP and the time in, datagrams and events out.
//!
//! Invariants: a sender report leaves with the first picture and then every second, whether there is a picture or not;
//! the stream ends [`Settings::silence`] after the last of keepalive and REMB. What waits is bounded: once
//! [`RtpSender::wants_picture`] is false, pictures are to stay where they are, in the log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::backlog::SendTimes;
use super::history::{Found, History};
use super::pacer::{Pacer, Turn};
use super::rtcp::{self, Feedback, NtpTime, ReportBlock, SenderReport};
use super::{DEFAULT_MTU, Packet, Packetizer, Stats};
use crate::{AccessUnit, Codec, ParameterSets, Ticks, Timestamp};

/// Between sender reports. Kurento takes a stream for dead after 5 s without one.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Between two requests for an IDR: a receiver repeats its own until it has one.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes that wait in the pacer when it takes no more pictures. The last one taken may be larger.
const QUEUE: usize = 128 << 10;
/// A resent packet is not resent again before it can have been missed again; the round trip time within these.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
const MOST_PAUSE: Duration = Duration::from_millis(200);
const DEFAULT_PAUSE: Duration = Duration::from_millis(50);
/// Sender reports that a round trip is measured by.
const REPORTS_KEPT: usize = 8;

/// What a stream is sent as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// SSRC, also of packets that are sent again.
    pub ssrc: u32,
    /// RTP payload type.
    pub payload_type: u8,
    /// RTCP's canonical name.
    pub cname: String,
    /// The first sequence number: random (RFC 3550 section 5.1).
    pub sequence: u16,
    /// Added to all timestamps: random too.
    pub timestamp_offset: u32,
    /// Bytes of the largest RTP packet, header included.
    pub mtu: usize,
    /// Limits for what REMB may ask for, in bit/s.
    pub bitrate: (u32, u32),
    /// The stream ends this long after the last of keepalive and REMB.
    pub silence: Duration,
}

/// One stream.
#[derive(Debug)]
pub struct RtpSender {
    settings: Settings,
    packetizer: Packetizer,
    pacer: Pacer,
    history: History,
    out: VecDeque<Output>,
    alive_until: Instant,
    next_report: Option<Instant>,
    /// Sender reports sent: the middle of their time, and when.
    reports: VecDeque<(u32, Instant)>,
    times: SendTimes,
    keyframe: Keyframe,
    /// Asker and number of the newest FIR.
    fir: Option<(u32, u8)>,
    octets: u32,
    stats: Stats,
    ended: bool,
}

/// Requests for an IDR.
#[derive(Debug, Default)]
struct Keyframe {
    /// When one came that has neither been passed on nor been answered by an IDR.
    wanted: Option<Instant>,
    /// When one was passed on.
    asked: Option<Instant>,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this.
    Rtp(Packet),
    /// Send this from the socket that receives RTCP.
    Rtcp(Vec<u8>),
    /// Something the outside must know.
    Event(Event),
}

/// What the receiver's messages, or their absence, come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An IDR is wanted.
    KeyframeWanted,
    /// So many bit/s are wanted, within the limits given.
    Bitrate(u32),
    /// Nothing more will be sent.
    Ended(Ended),
}

/// Why a stream has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Neither keepalive nor REMB.
    Silence,
}

impl Settings {
    /// For the video of an SDP; `random` gives what must not be guessed.
    pub fn new(target: &super::RtpTarget, mut random: impl FnMut() -> u32) -> Self {
        Self {
            ssrc: target.ssrc.unwrap_or_else(&mut random),
            payload_type: target.payload_type,
            cname: target.cname.clone().unwrap_or_else(|| format!("{:08x}{:08x}", random(), random())),
            sequence: (random() >> 16) as u16,
            timestamp_offset: random(),
            mtu: DEFAULT_MTU,
            bitrate: (100_000, 10_000_000),
            silence: Duration::from_secs(30),
        }
    }
}

impl RtpSender {
    /// A stream that starts now.
    pub fn new(settings: Settings, now: Instant, wall: Timestamp) -> Self {
        let Settings { ssrc, payload_type, sequence, mtu, silence, .. } = settings;
        Self {
            packetizer: Packetizer::new(ssrc, payload_type, sequence, mtu),
            pacer: Pacer::new(now),
            history: History::new(now),
            out: VecDeque::new(),
            alive_until: now + silence,
            next_report: None,
            reports: VecDeque::new(),
            times: SendTimes::new(),
            keyframe: Keyframe::default(),
            fir: None,
            octets: 0,
            stats: Stats { started: wall, ..Stats::default() },
            ended: false,
            settings,
        }
    }

    /// Whether there is room for a picture.
    pub fn wants_picture(&self) -> bool {
        !self.ended && self.pacer.bytes() < QUEUE
    }

    /// Takes the next picture; `sets` are what its GOP refers to. The first one must be an IDR.
    pub fn picture(&mut self, unit: &AccessUnit, sets: &ParameterSets, now: Instant, wall: Timestamp) {
        if self.ended {
            return;
        }
        if sets.codec() != Codec::H264 {
            self.stats.error_count += 1;
            return;
        }
        if unit.is_idr {
            self.keyframe.wanted = None;
        }
        self.next_report.get_or_insert(now);
        self.stats.pictures += 1;
        let time = self.times.pass(unit.pts, wall);
        let timestamp = self.rtp_time(time);
        let Self { packetizer, pacer, .. } = self;
        let is_well_formed = packetizer.packetize(unit, sets, timestamp, |packet| pacer.push(packet));
        self.stats.error_count += u64::from(!is_well_formed);
    }

    /// The next pictures have been sent before: from the newest IDR on, for a receiver that asked for one.
    pub fn replay(&mut self) {
        self.times.replay();
    }

    /// Takes a datagram from the RTCP socket.
    pub fn received(&mut self, datagram: &[u8], now: Instant) {
        let read = rtcp::parse(datagram, |feedback| self.feedback(feedback, now));
        match read {
            Ok(()) => self.stats.feedback += 1,
            Err(_) => self.stats.error_count += 1,
        }
    }

    /// The stream is still wanted.
    pub fn keepalive(&mut self, now: Instant) {
        self.stats.keepalive_count += 1;
        self.extend(now);
    }

    /// The stream has been asked for once more: it lasts as if it had just begun.
    pub fn extend(&mut self, now: Instant) {
        self.alive_until = now + self.settings.silence;
    }

    /// A datagram could not be sent.
    pub fn count_error(&mut self) {
        self.stats.error_count += 1;
    }

    /// Ends the stream: a BYE, and nothing more.
    pub fn stop(&mut self, now: Instant, wall: Timestamp) {
        self.end(Ended::Stopped, now, wall);
    }

    /// What is to be done next; to be asked until there is nothing more.
    pub fn poll(&mut self, now: Instant, wall: Timestamp) -> Option<Output> {
        if !self.ended {
            if now >= self.alive_until {
                self.end(Ended::Silence, now, wall);
            } else if self.next_report.is_some_and(|at| now >= at) {
                self.next_report = Some(now + REPORT_INTERVAL);
                return Some(self.report(false, now, wall));
            }
            if self.keyframe_due().is_some_and(|at| now >= at) {
                self.keyframe = Keyframe { wanted: None, asked: Some(now) };
                self.stats.keyframes_wanted += 1;
                self.out.push_back(Output::Event(Event::KeyframeWanted));
            }
        }
        self.out.pop_front().or_else(|| self.next_packet(now).map(Output::Rtp))
    }

    /// When to poll again, whatever else happens.
    pub fn deadline(&self) -> Option<Instant> {
        let times = [Some(self.alive_until), self.next_report, self.keyframe_due(), self.pacer.deadline()];
        times.into_iter().flatten().min().filter(|_| !self.ended)
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn next_packet(&mut self, now: Instant) -> Option<Packet> {
        let packet = match self.pacer.next(now)? {
            Turn::First(packet) => {
                self.history.push(packet.clone(), now);
                packet
            }
            Turn::Again(packet) => {
                self.stats.resent += 1;
                packet
            }
        };
        self.stats.packets += 1;
        self.stats.bytes += packet.size() as u64;
        self.octets = self.octets.wrapping_add(packet.payload_size() as u32);
        Some(packet)
    }

    fn end(&mut self, why: Ended, now: Instant, wall: Timestamp) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.pacer.clear();
        // Who has had no picture knows of no stream that could end.
        if self.next_report.is_some() {
            let goodbye = self.report(true, now, wall);
            self.out.push_back(goodbye);
        }
        self.out.push_back(Output::Event(Event::Ended(why)));
    }

    fn report(&mut self, is_last: bool, now: Instant, wall: Timestamp) -> Output {
        // Pictures are stamped with the wall clock: one instant has the same distance from both.
        let report = SenderReport {
            ssrc: self.settings.ssrc,
            ntp: NtpTime::new(wall),
            rtp: self.rtp_time(wall),
            packets: self.stats.packets as u32,
            octets: self.octets,
        };
        if self.reports.len() == REPORTS_KEPT {
            self.reports.pop_front();
        }
        self.reports.push_back((report.ntp.middle(), now));
        Output::Rtcp(rtcp::compound(&report, &self.settings.cname, is_last))
    }

    fn rtp_time(&self, time: Timestamp) -> u32 {
        self.settings.timestamp_offset.wrapping_add(time.ticks() as u32)
    }

    fn feedback(&mut self, feedback: Feedback, now: Instant) {
        // Some receivers leave the stream out where there is only one.
        let is_ours = |media: u32| media == self.settings.ssrc || media == 0;
        match feedback {
            Feedback::Report(block) if is_ours(block.ssrc) => self.block(block, now),
            Feedback::Nack { media, first, more } if is_ours(media) => {
                self.resend(first, now);
                (0..16)
                    .filter(|bit| more >> bit & 1 == 1)
                    .for_each(|bit| self.resend(first.wrapping_add(bit + 1), now));
            }
            Feedback::Pli { media } if is_ours(media) => {
                self.stats.plis += 1;
                self.keyframe.wanted.get_or_insert(now);
            }
            Feedback::Fir { sender, media, number } if is_ours(media) => {
                if self.fir.replace((sender, number)) != Some((sender, number)) {
                    self.stats.firs += 1;
                    self.keyframe.wanted.get_or_insert(now);
                }
            }
            Feedback::Remb { bitrate } => self.remb(bitrate, now),
            // The others may go on receiving; if there are none, nothing will keep the stream alive.
            Feedback::Bye => {}
            Feedback::Report(_) | Feedback::Nack { .. } | Feedback::Pli { .. } | Feedback::Fir { .. } => {}
        }
    }

    fn block(&mut self, block: ReportBlock, now: Instant) {
        self.stats.loss = f64::from(block.fraction_lost) / 256.0;
        self.stats.lost = block.lost;
        self.stats.jitter = Ticks::new(i64::from(block.jitter)).to_duration();
        // By our own record of when the report left: neither a set clock nor an invented number can disturb it.
        if let Some((_, sent)) = self.reports.iter().rev().find(|(middle, _)| *middle == block.last_report) {
            let delay = Duration::from_secs_f64(f64::from(block.delay) / 65_536.0);
            self.stats.rtt = now.saturating_duration_since(*sent).checked_sub(delay).or(self.stats.rtt);
        }
    }

    fn remb(&mut self, bitrate: u64, now: Instant) {
        self.stats.rembs += 1;
        self.extend(now);
        let (least, most) = self.settings.bitrate;
        let wanted = u32::try_from(bitrate).unwrap_or(u32::MAX).min(most).max(least);
        if self.stats.bitrate.replace(wanted) != Some(wanted) {
            self.out.retain(|output| !matches!(output, Output::Event(Event::Bitrate(_))));
            self.out.push_back(Output::Event(Event::Bitrate(wanted)));
        }
    }

    fn resend(&mut self, sequence: u16, now: Instant) {
        self.stats.nacks += 1;
        let pause = self.stats.rtt.map_or(DEFAULT_PAUSE, |rtt| rtt.clamp(LEAST_PAUSE, MOST_PAUSE));
        match self.history.find(sequence, pause, now) {
            Found::Again(packet) => self.pacer.push_again(packet),
            Found::OnItsWay => {}
            Found::Refused => self.stats.nacks_refused += 1,
        }
    }

    fn keyframe_due(&self) -> Option<Instant> {
        let Keyframe { wanted, asked } = self.keyframe;
        wanted.max(asked.map(|asked| asked + KEYFRAME_INTERVAL)).filter(|_| wanted.is_some())
    }
}

#[cfg(test)]
mod tests;

//! RTCP: what a sender says (SR, SDES, BYE) and what it is told (RR, NACK, PLI, FIR, REMB, BYE).
//!
//! Nothing is filtered by who sends it: a receiver's own SSRC is not known to the sender, and Kurento's changes.
//! Reduced-size packets (RFC 5506) are taken: feedback without a report in front.

use bytes::{Buf, BufMut};

use crate::Timestamp;
use crate::timestamp::TICKS_PER_SECOND;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
/// Transport layer feedback (RFC 4585 section 6.2).
const TRANSPORT: u8 = 205;
/// Payload-specific feedback (RFC 4585 section 6.3).
const PAYLOAD: u8 = 206;

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_TO_UNIX: i64 = 2_208_988_800;

/// A point in time as RTCP has it: seconds since 1900 in 32.32 bits (RFC 3550 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NtpTime(pub u64);

/// What a sender report says (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SenderReport {
    /// The stream.
    pub ssrc: u32,
    /// Now.
    pub ntp: NtpTime,
    /// The same instant as an RTP timestamp.
    pub rtp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Bytes of payload sent.
    pub octets: u32,
}

/// How a stream arrives (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReportBlock {
    /// The stream it is about.
    pub ssrc: u32,
    /// Share of packets lost since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost in all, minus those that came twice.
    pub lost: i32,
    /// Interarrival jitter in 90 kHz ticks.
    pub jitter: u32,
    /// Middle bits of the newest sender report's time; 0 when none has come.
    pub last_report: u32,
    /// From that report's arrival to this one's departure, in 1/65536 s.
    pub delay: u32,
}

/// One thing that a receiver says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feedback {
    /// How a stream arrives.
    Report(ReportBlock),
    /// Packets that are missing (RFC 4585 section 6.2.1).
    Nack {
        /// The stream.
        media: u32,
        /// The first missing packet.
        first: u16,
        /// Bit n set: packet `first + n + 1` is missing too.
        more: u16,
    },
    /// A picture is lost: a new IDR is wanted (RFC 4585 section 6.3.1).
    Pli {
        /// The stream.
        media: u32,
    },
    /// An IDR is wanted (RFC 5104 section 4.3.1).
    Fir {
        /// Who asks: numbers are counted by each asker.
        sender: u32,
        /// The stream.
        media: u32,
        /// The same number once more is the same request.
        number: u8,
    },
    /// The most that may be sent, in bit/s (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// For all streams together.
        bitrate: u64,
    },
    /// Somebody leaves (RFC 3550 section 6.6).
    Bye,
}

/// A packet's fields contradict its length, or it is no RTCP at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the RTCP packet at byte {at} cannot be read")]
pub struct RtcpError {
    /// Where in the datagram.
    pub at: usize,
}

impl NtpTime {
    /// From the wall clock.
    pub fn new(wall: Timestamp) -> Self {
        let seconds = wall.unix_seconds().saturating_add(NTP_TO_UNIX) as u64;
        let fraction = (wall.ticks().rem_euclid(TICKS_PER_SECOND) as u64) << 32;
        Self((seconds << 32) | (fraction / TICKS_PER_SECOND as u64))
    }

    /// The middle 32 bits, by which a report block names a sender report.
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

impl ReportBlock {
    const SIZE: usize = 24;

    fn read(mut bytes: &[u8]) -> Self {
        let ssrc = bytes.get_u32();
        let loss = bytes.get_u32();
        bytes.get_u32();
        Self {
            ssrc,
            fraction_lost: (loss >> 24) as u8,
            // 24 bits, signed.
            lost: (loss << 8).cast_signed() >> 8,
            jitter: bytes.get_u32(),
            last_report: bytes.get_u32(),
            delay: bytes.get_u32(),
        }
    }
}

/// A compound packet: report, CNAME, and BYE when the stream ends.
pub fn compound(report: &SenderReport, cname: &str, is_last: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + cname.len());
    header(&mut out, 0, SENDER_REPORT, 6);
    out.put_u32(report.ssrc);
    out.put_u64(report.ntp.0);
    out.put_u32(report.rtp);
    out.put_u32(report.packets);
    out.put_u32(report.octets);
    let cname = cname.as_bytes();
    let cname = &cname[..cname.len().min(255)];
    // SSRC, type and length, the name, at least one zero, up to a whole word.
    let words = 1 + (2 + cname.len() + 1).div_ceil(4);
    let end = out.len() + 4 + words * 4;
    header(&mut out, 1, SOURCE_DESCRIPTION, words as u16);
    out.put_u32(report.ssrc);
    out.put_slice(&[1, cname.len() as u8]);
    out.put_slice(cname);
    out.resize(end, 0);
    if is_last {
        header(&mut out, 1, GOODBYE, 1);
        out.put_u32(report.ssrc);
    }
    out
}

fn header(out: &mut Vec<u8>, count: u8, kind: u8, words: u16) {
    out.put_slice(&[0x80 | count, kind]);
    out.put_u16(words);
}

/// Reads a datagram, front to back, as far as it makes sense. What is not understood but well-formed is passed over.
pub fn parse(datagram: &[u8], mut said: impl FnMut(Feedback)) -> Result<(), RtcpError> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let error = RtcpError { at: datagram.len() - rest.len() };
        let [first, kind, high, low, after @ ..] = rest else { return Err(error) };
        let words = usize::from(u16::from_be_bytes([*high, *low]));
        let (body, next) = after.split_at_checked(words * 4).ok_or(error)?;
        if first >> 6 != 2 {
            return Err(error);
        }
        let body = if first & 0x20 != 0 { without_padding(body).ok_or(error)? } else { body };
        packet(*kind, first & 0x1f, body, &mut said).ok_or(error)?;
        rest = next;
    }
    Ok(())
}

/// The last byte of padding counts it, itself included (RFC 3550 section 6.4.1).
fn without_padding(body: &[u8]) -> Option<&[u8]> {
    let padding = usize::from(*body.last()?);
    body.get(..body.len().checked_sub(padding)?).filter(|_| padding > 0)
}

/// One packet behind its header; `None` when it is too short for what it says it holds.
fn packet(kind: u8, count: u8, body: &[u8], said: &mut impl FnMut(Feedback)) -> Option<()> {
    match (kind, count) {
        (SENDER_REPORT | RECEIVER_REPORT, _) => {
            let front = if kind == SENDER_REPORT { 24 } else { 4 };
            let blocks = body.get(front..front + usize::from(count) * ReportBlock::SIZE)?;
            blocks.chunks_exact(ReportBlock::SIZE).for_each(|block| said(Feedback::Report(ReportBlock::read(block))));
        }
        (GOODBYE, _) => {
            body.get(..usize::from(count) * 4)?;
            said(Feedback::Bye);
        }
        (TRANSPORT, 1) => {
            let (_, media, entries) = feedback(body)?;
            for entry in entries.chunks_exact(4) {
                let [first, more] = [[entry[0], entry[1]], [entry[2], entry[3]]].map(u16::from_be_bytes);
                said(Feedback::Nack { media, first, more });
            }
        }
        (PAYLOAD, 1) => said(Feedback::Pli { media: feedback(body)?.1 }),
        (PAYLOAD, 4) => {
            let (sender, _, entries) = feedback(body)?;
            for mut entry in entries.chunks_exact(8) {
                let media = entry.get_u32();
                said(Feedback::Fir { sender, media, number: entry[0] });
            }
        }
        // Other application layer feedback has other names, or none.
        (PAYLOAD, 15) => {
            let (_, _, entries) = feedback(body)?;
            if let Some(mut fields) = entries.strip_prefix(b"REMB") {
                if fields.len() < 4 {
                    return None;
                }
                let word = fields.get_u32();
                let (ssrcs, exponent, mantissa) = (word >> 24, word >> 18 & 0x3f, u64::from(word & 0x3_ffff));
                fields.get(..ssrcs as usize * 4)?;
                let fits = mantissa.leading_zeros() >= exponent;
                said(Feedback::Remb { bitrate: if fits { mantissa << exponent } else { u64::MAX } });
            }
        }
        _ => {}
    }
    Some(())
}

/// SSRC of the sender, SSRC of the stream, and the rest (RFC 4585 section 6.1).
fn feedback(mut body: &[u8]) -> Option<(u32, u32, &[u8])> {
    if body.len() < 8 {
        return None;
    }
    Some((body.get_u32(), body.get_u32(), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(datagram: &[u8]) -> (Vec<Feedback>, Result<(), RtcpError>) {
        let mut said = Vec::new();
        let result = parse(datagram, |feedback| said.push(feedback));
        (said, result)
    }

    #[test]
    fn what_receivers_say() {
        let report =
            ReportBlock { ssrc: 9, fraction_lost: 64, lost: -2, jitter: 450, last_report: 0x1234_5678, delay: 65_536 };
        for (name, datagram, expected) in [
            ("RR without blocks", "80c90001 00000001", vec![]),
            (
                "RR, PLI of another sender",
                "81c90007 00000001 00000009 40fffffe 00000007 000001c2 12345678 00010000  81ce0002 00000002 00000009",
                vec![Feedback::Report(report), Feedback::Pli { media: 9 }],
            ),
            (
                "NACK alone, two entries",
                "81cd0004 00000001 00000009 fffe0003 00100000",
                vec![
                    Feedback::Nack { media: 9, first: 0xfffe, more: 3 },
                    Feedback::Nack { media: 9, first: 16, more: 0 },
                ],
            ),
            (
                "FIR",
                "84ce0004 00000001 00000000 00000009 05000000",
                vec![Feedback::Fir { sender: 1, media: 9, number: 5 }],
            ),
            (
                "REMB of 800 kbit/s for one stream",
                "8fce0005 00000001 00000000 52454d42 010b0d40 00000009",
                vec![Feedback::Remb { bitrate: 800_000 }],
            ),
            (
                "REMB beyond 64 bits",
                "8fce0004 00000001 00000000 52454d42 00ffffff",
                vec![Feedback::Remb { bitrate: u64::MAX }],
            ),
            ("another use of format 15", "8fce0004 00000001 00000000 4e414d45 01000000", vec![]),
            ("BYE, padded", "a1cb0002 00000009 00000004", vec![Feedback::Bye]),
            ("an unknown type", "80d20001 00000001", vec![]),
        ] {
            assert_eq!(heard(&bytes(datagram)), (expected, Ok(())), "{name}");
        }
    }

    #[test]
    fn damage_is_found_and_what_came_before_it_counts() {
        for (name, datagram, at, before) in [
            ("a byte", "80", 0, 0),
            ("version 1", "40c90001 00000001", 0, 0),
            ("longer than the datagram", "80c90002 00000001", 0, 0),
            ("a block that is not there", "81c90001 00000001", 0, 0),
            ("a PLI without a stream", "81ce0001 00000001", 0, 0),
            ("REMB cut short", "8fce0003 00000001 00000000 52454d42", 0, 0),
            ("REMB with fewer streams than it says", "8fce0004 00000001 00000000 52454d42 020b0d40", 0, 0),
            ("padding of 0", "a0c90001 00000000", 0, 0),
            ("padding beyond the packet", "a0c90001 000000ff", 0, 0),
            ("a PLI, then noise", "81ce0002 00000001 00000009 ffffffff", 12, 1),
        ] {
            let (said, result) = heard(&bytes(datagram));
            assert_eq!((said.len(), result), (before, Err(RtcpError { at })), "{name}");
        }
    }

    #[test]
    fn a_compound_can_be_read() {
        let report = SenderReport { ssrc: 7, ntp: NtpTime(0x1122_3344_5566_7788), rtp: 1, packets: 2, octets: 3 };
        assert_eq!(report.ntp.middle(), 0x3344_5566);
        for cname in ["", "a", "ab", "abc", "abcd", "user3404307297@host-9c6b9b6"] {
            let datagram = compound(&report, cname, true);
            assert_eq!(datagram.len() % 4, 0);
            assert_eq!(heard(&datagram), (vec![Feedback::Bye], Ok(())), "{cname}");
            let text = &datagram[38..38 + cname.len()];
            assert_eq!(
                (datagram[28..30].to_vec(), datagram[37], text),
                (vec![0x81, 202], cname.len() as u8, cname.as_bytes())
            );
            assert_eq!(datagram[38 + cname.len()], 0, "the list of items ends");
        }
        assert_eq!(heard(&compound(&report, &"x".repeat(300), false)), (vec![], Ok(())));
    }

    #[test]
    fn ntp_begins_in_1900() {
        let wall = Timestamp::from_ticks(1_000_000_000 * TICKS_PER_SECOND + TICKS_PER_SECOND / 4);
        assert_eq!(NtpTime::new(wall).0, (1_000_000_000 + 2_208_988_800) << 32 | 1 << 30);
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }
}

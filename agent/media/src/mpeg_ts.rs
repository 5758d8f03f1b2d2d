//! Takes the video out of an MPEG transport stream (ISO/IEC 13818-1): packets, PAT, PMT, PES.
//!
//! Made for segments of HLS: one program, whose first H.264 or H.265 stream is meant. Deliberately absent: scrambling,
//! several programs, clock references, checksums (the transport below has its own).

use crate::Codec;

/// Bytes of a packet.
const PACKET: usize = 188;
const SYNC: u8 = 0x47;
/// A PES packet of video larger than this is damage: no picture is.
const MAX_PES: usize = 32 << 20;
/// A section has at most so many bytes (section 2.4.4.11).
const MAX_SECTION: usize = 1024 + 3;
/// Presentation times count to this and begin anew.
const WRAP: i64 = 1 << 33;

/// What one PES packet holds: of video, in practice one access unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pes {
    /// When it is shown: 90 kHz ticks, 33 bits.
    pub pts: Option<i64>,
    /// The elementary stream's bytes: Annex B.
    pub data: Vec<u8>,
    /// Something before it is missing.
    pub follows_loss: bool,
}

/// What went wrong so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Damage {
    /// Packets missing, by their counters.
    pub lost: u64,
    /// Bytes that belong to no packet.
    pub garbage: u64,
}

/// An incremental demultiplexer.
#[derive(Debug, Default)]
pub struct Demuxer {
    /// The head of a packet that is not complete.
    rest: Vec<u8>,
    program_map: Option<u16>,
    section: Vec<u8>,
    video: Option<(u16, Codec)>,
    /// Types of the streams of a program without any that is known.
    unknown: Option<u8>,
    counter: Option<u8>,
    open: Option<Pes>,
    follows_loss: bool,
    damage: Damage,
}

impl Demuxer {
    /// Takes the next bytes; `out` gets each PES packet of the video that they complete.
    pub fn push(&mut self, bytes: &[u8], mut out: impl FnMut(Pes)) {
        let joined;
        let mut bytes = match self.rest.is_empty() {
            true => bytes,
            false => {
                joined = [&std::mem::take(&mut self.rest)[..], bytes].concat();
                &joined
            }
        };
        while bytes.len() >= PACKET {
            // A sync byte inside a packet is no sync: the next packet must begin with one too, where it is seen.
            let in_sync = bytes[0] == SYNC && bytes.get(PACKET).is_none_or(|&next| next == SYNC);
            let (packet, after) = bytes.split_at(if in_sync { PACKET } else { 1 });
            match in_sync {
                true => self.packet(packet, &mut out),
                false => {
                    self.damage.garbage += 1;
                    self.follows_loss = true;
                }
            }
            bytes = after;
        }
        self.rest = bytes.to_vec();
    }

    /// The stream, or a segment of it, has ended: gives out what is open.
    pub fn finish(&mut self, mut out: impl FnMut(Pes)) {
        self.open.take().into_iter().for_each(&mut out);
        self.damage.garbage += self.rest.len() as u64;
        self.rest.clear();
        // The next segment counts on its own.
        self.counter = None;
    }

    /// The codec of the video, once it is known.
    pub fn codec(&self) -> Option<Codec> {
        self.video.map(|(_, codec)| codec)
    }

    /// The type of a stream, where the program has none that is known (table 2-34).
    pub fn unknown(&self) -> Option<u8> {
        self.unknown
    }

    /// What went wrong so far.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// Section 2.4.3.2.
    fn packet(&mut self, packet: &[u8], out: &mut impl FnMut(Pes)) {
        let starts = packet[1] & 0x40 != 0;
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        let (adaptation, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        let is_bad = packet[1] & 0x80 != 0 || packet[3] & 0xc0 != 0;
        let skip = if adaptation { 5 + usize::from(packet[4]) } else { 4 };
        let Some(payload) = packet.get(skip..).filter(|_| has_payload && !is_bad) else { return };
        if pid == 0 {
            if let Some(map) = starts.then(|| section(payload)).flatten().and_then(program_map) {
                self.program_map = Some(map);
            }
        } else if Some(pid) == self.program_map {
            self.map(payload, starts);
        } else if self.video.is_some_and(|(video, _)| video == pid) {
            self.video(payload, starts, packet[3] & 0xf, out);
        }
    }

    /// A piece of the PMT, which may need several packets (section 2.4.4.9).
    fn map(&mut self, payload: &[u8], starts: bool) {
        match starts {
            true => self.section = section(payload).unwrap_or_default().to_vec(),
            false if self.section.is_empty() => return,
            false => self.section.extend_from_slice(payload),
        }
        let Some(&[2, high, low]) = self.section.first_chunk::<3>() else { return self.section.clear() };
        let length = 3 + usize::from(u16::from_be_bytes([high & 0xf, low]));
        if length > MAX_SECTION {
            self.section.clear();
        }
        let Some(whole) = self.section.get(..length) else { return };
        match streams(whole) {
            Some(Ok(video)) => {
                if self.video != Some(video) {
                    (self.open, self.counter) = (None, None);
                }
                (self.video, self.unknown) = (Some(video), None);
            }
            Some(Err(kind)) => self.unknown = Some(kind),
            None => {}
        }
        self.section.clear();
    }

    fn video(&mut self, payload: &[u8], starts: bool, counter: u8, out: &mut impl FnMut(Pes)) {
        if let Some(before) = self.counter.replace(counter) {
            if before == counter {
                // A packet may be sent twice (section 2.4.3.3).
                return;
            }
            let missing = counter.wrapping_sub(before).wrapping_sub(1) & 0xf;
            if missing > 0 {
                self.damage.lost += u64::from(missing);
                self.follows_loss = true;
                self.open = None;
            }
        }
        if starts {
            self.open.take().into_iter().for_each(out);
            let follows_loss = std::mem::take(&mut self.follows_loss);
            self.open = pes(payload).map(|(pts, data)| Pes { pts, data: data.to_vec(), follows_loss });
            self.follows_loss |= self.open.is_none();
        } else if let Some(open) = &mut self.open {
            if open.data.len() + payload.len() > MAX_PES {
                self.open = None;
                self.follows_loss = true;
            } else {
                open.data.extend_from_slice(payload);
            }
        }
    }
}

/// Passes over the pointer field (section 2.4.4.2).
fn section(payload: &[u8]) -> Option<&[u8]> {
    let (&pointer, rest) = payload.split_first()?;
    rest.get(usize::from(pointer)..).filter(|rest| !rest.is_empty())
}

/// Where the PAT says that the first program's map is (section 2.4.4.4).
fn program_map(pat: &[u8]) -> Option<u16> {
    let &[0, high, low, ..] = pat else { return None };
    let end = (3 + usize::from(u16::from_be_bytes([high & 0xf, low]))).checked_sub(4)?;
    let programs = pat.get(8..end)?;
    let program = programs.as_chunks::<4>().0.iter().find(|program| program[..2] != [0, 0])?;
    Some(u16::from_be_bytes([program[2] & 0x1f, program[3]]))
}

/// The first stream of a codec that is known, or the type of one that is not.
fn streams(map: &[u8]) -> Option<Result<(u16, Codec), u8>> {
    let end = map.len().checked_sub(4)?;
    let skip = 12 + usize::from(u16::from_be_bytes([map.get(10)? & 0xf, *map.get(11)?]));
    let mut rest = map.get(skip..end)?;
    let mut unknown = None;
    while let Some((&[kind, high, low, length_high, length_low], after)) = rest.split_first_chunk::<5>() {
        let pid = u16::from_be_bytes([high & 0x1f, low]);
        match kind {
            0x1b => return Some(Ok((pid, Codec::H264))),
            0x24 => return Some(Ok((pid, Codec::H265))),
            kind => unknown = unknown.or(Some(kind)),
        }
        let skip = usize::from(u16::from_be_bytes([length_high & 0xf, length_low]));
        rest = after.get(skip..)?;
    }
    unknown.map(Err)
}

/// PTS and the first bytes of a PES packet (section 2.4.3.6).
fn pes(payload: &[u8]) -> Option<(Option<i64>, &[u8])> {
    let &[0, 0, 1, _, _, _, marker, flags, length, ..] = payload else { return None };
    if marker & 0xc0 != 0x80 {
        return None;
    }
    let data = payload.get(9 + usize::from(length)..)?;
    let pts = (flags & 0x80 != 0).then(|| payload.get(9..14)).flatten().map(|bytes| {
        let part = |at: usize, mask: u8| i64::from(bytes[at] & mask);
        part(0, 0x0e) << 29 | part(1, 0xff) << 22 | part(2, 0xfe) << 14 | part(3, 0xff) << 7 | part(4, 0xfe) >> 1
    });
    Some((pts, data))
}

/// Continues times that begin anew after 26.5 hours.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwrapper {
    last: Option<i64>,
}

impl Unwrapper {
    /// The time nearest to the last one.
    pub fn unwrap(&mut self, pts: i64) -> i64 {
        let unwrapped = match self.last {
            Some(last) => {
                let ahead = (pts - last).rem_euclid(WRAP);
                last + if ahead >= WRAP / 2 { ahead - WRAP } else { ahead }
            }
            None => pts,
        };
        self.last = Some(unwrapped);
        unwrapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of `pid` with `payload`, filled up by an adaptation field.
    fn packet(pid: u16, starts: bool, counter: u8, payload: &[u8]) -> Vec<u8> {
        let [high, low] = pid.to_be_bytes();
        let fill = PACKET - 4 - payload.len();
        let mut out = vec![SYNC, high | if starts { 0x40 } else { 0 }, low, counter | 0x10];
        if fill > 0 {
            out[3] |= 0x20;
            out.push(fill as u8 - 1);
            out.extend([0].iter().chain(std::iter::repeat_n(&0xff, fill)).take(fill - 1));
        }
        out.extend(payload);
        out
    }

    fn tables(kinds: &[(u8, u16)]) -> Vec<u8> {
        let pat = [0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0, 1, 2, 3, 4];
        let mut map = vec![0, 2, 0xb0, 13 + 5 * kinds.len() as u8, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0];
        for &(kind, pid) in kinds {
            let [high, low] = pid.to_be_bytes();
            map.extend([kind, 0xe0 | high, low, 0xf0, 0]);
        }
        map.extend([1, 2, 3, 4]);
        [packet(0, true, 0, &pat), packet(0x1000, true, 0, &map)].concat()
    }

    fn pes_start(pts: i64, data: &[u8]) -> Vec<u8> {
        let stamp = [
            0x21 | (pts >> 29) as u8 & 0xe,
            (pts >> 22) as u8,
            1 | (pts >> 14) as u8 & 0xfe,
            (pts >> 7) as u8,
            1 | (pts << 1) as u8 & 0xfe,
        ];
        [&[0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5][..], &stamp, data].concat()
    }

    fn demux(stream: &[u8], piece: usize) -> (Vec<Pes>, Damage) {
        let (mut demuxer, mut found) = (Demuxer::default(), Vec::new());
        stream.chunks(piece).for_each(|piece| demuxer.push(piece, |pes| found.push(pes)));
        demuxer.finish(|pes| found.push(pes));
        (found, demuxer.damage())
    }

    #[test]
    fn pictures_come_out_whole_however_the_bytes_come() {
        let pts = (1 << 32) + 12_345;
        let stream = [
            tables(&[(0x0f, 0x101), (0x1b, 0x100)]),
            packet(0x100, true, 3, &pes_start(pts, &[1; 100])),
            packet(0x101, true, 3, &pes_start(7, &[9; 100])),
            packet(0x100, false, 4, &[2; 184]),
            packet(0x100, false, 4, &[2; 184]),
            packet(0x100, true, 5, &pes_start(pts + 3600, &[3; 20])),
        ]
        .concat();
        for piece in [1, 100, 188, 189, stream.len()] {
            let (found, damage) = demux(&stream, piece);
            assert_eq!(damage, Damage::default());
            let expected = [[&[1; 100][..], &[2; 184]].concat(), vec![3; 20]];
            assert_eq!(found.iter().map(|pes| pes.data.clone()).collect::<Vec<_>>(), expected);
            assert_eq!(found.iter().map(|pes| pes.pts).collect::<Vec<_>>(), [Some(pts), Some(pts + 3600)]);
        }
    }

    #[test]
    fn losses_are_seen() {
        let start = packet(0x100, true, 0, &pes_start(1, &[1; 9]));
        let stream = [
            tables(&[(0x24, 0x100)]),
            start.clone(),
            packet(0x100, false, 3, &[2; 184]),
            vec![0x47, 1, 2],
            packet(0x100, true, 4, &pes_start(2, &[4; 9])),
        ]
        .concat();
        let (found, damage) = demux(&stream, 77);
        assert_eq!((found.len(), found[0].follows_loss, found[0].pts), (1, true, Some(2)));
        assert_eq!((damage.lost, damage.garbage), (2, 3));
        let mut demuxer = Demuxer::default();
        demuxer.push(&tables(&[(2, 0x100)]), |_| ());
        assert_eq!((demuxer.codec(), demuxer.unknown()), (None, Some(2)));
        demuxer.push(&tables(&[(0x24, 0x100)]), |_| ());
        assert_eq!((demuxer.codec(), demuxer.unknown()), (Some(Codec::H265), None));
    }

    #[test]
    fn times_go_on_over_the_wrap() {
        let mut unwrapper = Unwrapper::default();
        let found = [WRAP - 10, 5, 0, 20, WRAP - 1].map(|pts| unwrapper.unwrap(pts) - WRAP);
        assert_eq!(found, [-10, 5, 0, 20, -1]);
    }
}

//! H.264 in RTP packets (RFC 6184): single NAL unit, STAP-A and FU-A, as `packetization-mode=1` has it.
//!
//! Invariants: no packet is larger than the MTU; sequence numbers have no gaps; all packets of a picture have one
//! timestamp and the last one, and no other, the marker bit. A packet refers to the picture's bytes, it does not copy
//! them; only what is aggregated is copied, which for one slice a picture is the parameter sets.

use bytes::{BufMut, Bytes, BytesMut};

use crate::nal::LengthPrefixed;
use crate::{AccessUnit, Codec, ParameterSets};

/// Bytes of an RTP packet, header included, that pass every usual path: what Kurento and browsers use.
pub const DEFAULT_MTU: usize = 1200;

/// Bytes of the RTP header without CSRCs and extension (RFC 3550 section 5.1).
const HEADER: usize = 12;
/// Header and the two bytes of a FU-A.
const HEAD: usize = HEADER + 2;
/// Version 2, no padding, no extension, no CSRC.
const VERSION: u8 = 0x80;
const MARKER: u8 = 0x80;

/// `nal_unit_type` of an aggregation packet (RFC 6184 section 5.7.1).
const STAP_A: u8 = 24;
/// `nal_unit_type` of a fragmentation unit (RFC 6184 section 5.8).
const FU_A: u8 = 28;
/// `forbidden_zero_bit` and `nal_ref_idc` of a NAL unit header.
const FORBIDDEN: u8 = 0x80;
const IMPORTANCE: u8 = 0x60;
const TYPE: u8 = 0x1f;

/// A picture's smallest MTU: below it a fragment would hold next to nothing.
const LEAST_MTU: usize = 64;

/// One RTP packet, in two pieces: header with what goes in front of the payload, and payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    head: [u8; HEAD],
    head_size: u8,
    body: Bytes,
}

/// Cuts pictures into packets.
#[derive(Debug)]
pub struct Packetizer {
    ssrc: u32,
    payload_type: u8,
    sequence: u16,
    /// Bytes of payload.
    most: usize,
}

/// What goes into the next STAP-A, or by itself into a single NAL unit packet.
#[derive(Default)]
struct Group {
    units: Vec<Bytes>,
    /// Bytes of the STAP-A.
    size: usize,
}

impl Packet {
    /// The sequence number.
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.head[2], self.head[3]])
    }

    /// The RTP timestamp.
    pub fn timestamp(&self) -> u32 {
        u32::from_be_bytes([self.head[4], self.head[5], self.head[6], self.head[7]])
    }

    /// Whether it is the last of its picture.
    pub fn is_marked(&self) -> bool {
        self.head[1] & MARKER != 0
    }

    /// Bytes of the datagram.
    pub fn size(&self) -> usize {
        usize::from(self.head_size) + self.body.len()
    }

    /// Bytes without the RTP header: what a sender report counts.
    pub fn payload_size(&self) -> usize {
        self.size() - HEADER
    }

    /// Appends the datagram.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[..usize::from(self.head_size)]);
        out.extend_from_slice(&self.body);
    }
}

impl Packetizer {
    /// Packets of at most `mtu` bytes, numbered from `sequence` on.
    pub fn new(ssrc: u32, payload_type: u8, sequence: u16, mtu: usize) -> Self {
        let most = mtu.clamp(LEAST_MTU, usize::from(u16::MAX)) - HEADER;
        Self { ssrc, payload_type: payload_type & !MARKER, sequence, most }
    }

    /// Cuts a picture up; an IDR begins with `sets`. Returns whether the picture was well-formed: what comes behind a
    /// length that does not add up is left out.
    pub fn packetize(
        &mut self,
        unit: &AccessUnit,
        sets: &ParameterSets,
        timestamp: u32,
        mut out: impl FnMut(Packet),
    ) -> bool {
        let in_band = sets.units().filter(|_| unit.is_idr).cloned().map(Some);
        let slices = LengthPrefixed::new(Codec::H264, &unit.data)
            .map(|slice| slice.ok().map(|slice| unit.data.slice_ref(slice.bytes())));
        let mut is_well_formed = true;
        let mut group = Group::default();
        // One packet is held back: whether it is the last shows only when there is no other.
        let mut held: Option<Packet> = None;
        let mut put = |packet| held.replace(packet).into_iter().for_each(&mut out);
        for nal in in_band.chain(slices) {
            let Some(nal) = nal.filter(|nal| !nal.is_empty()) else {
                is_well_formed = false;
                continue;
            };
            if group.fits(&nal, self.most) {
                group.push(nal);
                continue;
            }
            group.take().into_iter().for_each(|payload| put(self.packet(timestamp, &[], payload)));
            if nal.len() <= self.most {
                group.push(nal);
            } else {
                self.fragment(timestamp, &nal, &mut put);
            }
        }
        group.take().into_iter().for_each(|payload| put(self.packet(timestamp, &[], payload)));
        if let Some(mut last) = held {
            last.head[1] |= MARKER;
            out(last);
        }
        is_well_formed
    }

    /// FU-A: the NAL unit's header is taken apart into each fragment's two bytes.
    fn fragment(&mut self, timestamp: u32, nal: &Bytes, put: &mut impl FnMut(Packet)) {
        let header = nal[0];
        let payload = nal.slice(1..);
        let most = self.most - 2;
        let mut at = 0;
        while at < payload.len() {
            let end = (at + most).min(payload.len());
            let start_bit = if at == 0 { 0x80 } else { 0 };
            let end_bit = if end == payload.len() { 0x40 } else { 0 };
            let front = [header & (FORBIDDEN | IMPORTANCE) | FU_A, start_bit | end_bit | header & TYPE];
            put(self.packet(timestamp, &front, payload.slice(at..end)));
            at = end;
        }
    }

    fn packet(&mut self, timestamp: u32, front: &[u8], body: Bytes) -> Packet {
        let mut head = [0; HEAD];
        let mut rest = &mut head[..];
        rest.put_u8(VERSION);
        rest.put_u8(self.payload_type);
        rest.put_u16(self.sequence);
        rest.put_u32(timestamp);
        rest.put_u32(self.ssrc);
        rest.put_slice(front);
        self.sequence = self.sequence.wrapping_add(1);
        Packet { head, head_size: (HEADER + front.len()) as u8, body }
    }
}

impl Group {
    fn fits(&self, nal: &Bytes, most: usize) -> bool {
        if self.units.is_empty() { nal.len() <= most } else { self.size + 2 + nal.len() <= most }
    }

    fn push(&mut self, nal: Bytes) {
        self.size += 2 + nal.len() + usize::from(self.units.is_empty());
        self.units.push(nal);
    }

    /// The payload that holds them all.
    fn take(&mut self) -> Option<Bytes> {
        let Self { mut units, size } = std::mem::take(self);
        if units.len() <= 1 {
            return units.pop();
        }
        let forbidden = units.iter().fold(0, |bits, nal| bits | nal[0] & FORBIDDEN);
        let importance = units.iter().map(|nal| nal[0] & IMPORTANCE).max().unwrap_or(0);
        let mut out = BytesMut::with_capacity(size);
        out.put_u8(forbidden | importance | STAP_A);
        for nal in &units {
            // It is within the MTU, which is within 16 bits.
            out.put_u16(nal.len() as u16);
            out.put_slice(nal);
        }
        Some(out.freeze())
    }
}

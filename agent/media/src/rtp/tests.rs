use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::parameter_sets::tests::{PPS, SPS_720P};
use crate::{AccessUnit, ParameterSets, Timestamp, TrackId};

/// Puts the NAL units of packets together again, and checks what RFC 6184 demands of them.
#[derive(Default)]
pub(super) struct Depacketizer {
    fragment: Option<Vec<u8>>,
    units: Vec<Vec<u8>>,
    last: Option<(u16, u32, bool)>,
}

impl Depacketizer {
    /// Takes a datagram; returns the NAL units of the picture that it ends.
    pub(super) fn push(&mut self, datagram: &[u8]) -> Option<Vec<Vec<u8>>> {
        assert_eq!(datagram[0], 0x80);
        let is_marked = datagram[1] & 0x80 != 0;
        let sequence = u16::from_be_bytes([datagram[2], datagram[3]]);
        let timestamp = u32::from_be_bytes(datagram[4..8].try_into().expect("4 bytes"));
        if let Some((before, time, was_marked)) = self.last.replace((sequence, timestamp, is_marked)) {
            assert_eq!(sequence, before.wrapping_add(1));
            assert_eq!(timestamp == time, !was_marked, "a timestamp for each picture");
        }
        let payload = &datagram[12..];
        match payload[0] & 0x1f {
            24 => {
                let mut rest = &payload[1..];
                while let Some((size, after)) = rest.split_first_chunk::<2>() {
                    let (unit, after) = after.split_at(usize::from(u16::from_be_bytes(*size)));
                    assert!(payload[0] & 0x60 >= unit[0] & 0x60);
                    self.units.push(unit.to_vec());
                    rest = after;
                }
            }
            28 => {
                let (start, end) = (payload[1] & 0x80 != 0, payload[1] & 0x40 != 0);
                assert!(!(start && end), "one fragment is no fragment");
                if start {
                    assert_eq!(self.fragment, None);
                    self.fragment = Some(vec![payload[0] & 0xe0 | payload[1] & 0x1f]);
                }
                let fragment = self.fragment.as_mut().expect("it has a start");
                fragment.extend_from_slice(&payload[2..]);
                if end {
                    self.units.extend(self.fragment.take());
                }
            }
            1..=23 => self.units.push(payload.to_vec()),
            other => panic!("NAL unit type {other}"),
        }
        assert!(!(is_marked && self.fragment.is_some()));
        is_marked.then(|| std::mem::take(&mut self.units))
    }
}

pub(super) fn sets() -> ParameterSets {
    ParameterSets::h264(Bytes::from_static(SPS_720P), vec![Bytes::from_static(PPS)]).expect("valid")
}

/// A picture with slices of these sizes.
pub(super) fn picture(is_idr: bool, pts: Timestamp, sizes: &[usize]) -> AccessUnit {
    let mut data = Vec::new();
    for (index, size) in sizes.iter().enumerate() {
        data.extend_from_slice(&(*size as u32).to_be_bytes());
        data.push(if is_idr { 0x65 } else { 0x41 });
        data.extend((1..*size).map(|at| (at * 31 + index) as u8));
    }
    let parameter_sets = is_idr.then(|| Arc::new(sets()));
    AccessUnit { track: TrackId::VIDEO, pts, is_idr, data: data.into(), parameter_sets }
}

fn slices(unit: &AccessUnit) -> Vec<Vec<u8>> {
    let units = crate::nal::LengthPrefixed::new(crate::Codec::H264, &unit.data);
    units.map(|unit| unit.expect("well-formed").bytes().to_vec()).collect()
}

#[test]
fn what_is_packed_can_be_unpacked() {
    let check = |mtu: usize, is_idr: bool, sizes: &[usize], kinds: &str| {
        let mut packetizer = Packetizer::new(0xcafe, 103, u16::MAX, mtu);
        let mut depacketizer = Depacketizer::default();
        let unit = picture(is_idr, Timestamp::EPOCH, sizes);
        for timestamp in [5, 3005] {
            let mut expected = if is_idr { vec![SPS_720P.to_vec(), PPS.to_vec()] } else { Vec::new() };
            expected.extend(slices(&unit));
            let (mut found, mut seen) = (Vec::new(), String::new());
            let is_well_formed = packetizer.packetize(&unit, &sets(), timestamp, |packet| {
                let mut datagram = Vec::new();
                packet.write(&mut datagram);
                assert_eq!((datagram.len(), packet.timestamp()), (packet.size(), timestamp));
                assert!(datagram.len() <= mtu, "{} bytes", datagram.len());
                assert_eq!(datagram[8..12], [0, 0, 0xca, 0xfe]);
                assert_eq!(datagram[1] & 0x7f, 103);
                seen.push(match datagram[12] & 0x1f {
                    24 => 'A',
                    28 => 'F',
                    _ => '1',
                });
                found.extend(depacketizer.push(&datagram));
            });
            assert!(is_well_formed);
            assert_eq!(found, [expected], "MTU {mtu}, IDR {is_idr}, {sizes:?}");
            assert_eq!(seen, kinds, "MTU {mtu}, IDR {is_idr}, {sizes:?}");
        }
    };
    check(1200, false, &[100], "1");
    check(1200, false, &[1], "1");
    check(1200, false, &[1188], "1");
    check(1200, false, &[1189], "FF");
    check(1200, false, &[1 + 2 * 1186], "FF");
    check(1200, false, &[2 + 2 * 1186], "FFF");
    check(1200, false, &[100, 200, 5000, 10], "AFFFFF1");
    check(1200, false, &[600, 583], "A");
    check(1200, false, &[600, 584], "11");
    check(1200, true, &[5000], "AFFFFF");
    check(1200, true, &[100], "A");
    check(64, true, &[100, 100], "AFFFF");
    check(1400, true, &[70_000; 3], &format!("A{}", "F".repeat(3 * 51)));
}

#[test]
fn a_damaged_picture_is_said_and_the_rest_of_it_sent() {
    let mut unit = picture(false, Timestamp::EPOCH, &[100, 50]);
    unit.data = unit.data.slice(..unit.data.len() - 1);
    let mut packets = Vec::new();
    let mut packetizer = Packetizer::new(1, 103, 0, DEFAULT_MTU);
    assert!(!packetizer.packetize(&unit, &sets(), 0, |packet| packets.push(packet)));
    assert!(packets.len() == 1 && packets[0].is_marked() && packets[0].payload_size() == 100, "{packets:?}");
    unit.data = Bytes::new();
    assert!(packetizer.packetize(&unit, &sets(), 0, |packet| panic!("{packet:?}")));
}

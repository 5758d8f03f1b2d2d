//! NAL units of H.264 (ITU-T H.264 table 7-1) and H.265 (ITU-T H.265 table 7-1), and the length-prefixed form of
//! ISO/IEC 14496-15 that every access unit is kept in.

use crate::Codec;

/// Bytes of the length field in front of each NAL unit (`lengthSizeMinusOne` is always 3).
pub const LENGTH_SIZE: usize = 4;

/// What a NAL unit is for, as far as the agent must know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NalKind {
    /// A coded slice of a picture that other pictures may need to be decoded first.
    Slice,
    /// A coded slice of an IDR picture (H.265: of any IRAP picture): decoding can start here.
    IdrSlice,
    /// A coded slice of a RASL picture (H.265 only): decoded after an IRAP picture, shown before it, and not to be
    /// decoded where decoding started at that IRAP picture.
    RaslSlice,
    /// Video parameter set (H.265 only).
    Vps,
    /// Sequence parameter set.
    Sps,
    /// Picture parameter set.
    Pps,
    /// Supplemental enhancement information.
    Sei,
    /// Access unit delimiter.
    Delimiter,
    /// Bytes that only pad the stream, or mark the end of a sequence or stream.
    Filler,
    /// Anything else: data partitions, auxiliary pictures, extensions, reserved and unspecified types.
    Other,
}

/// A borrowed NAL unit: header and payload, without start code or length field. Never empty.
#[derive(Clone, Copy)]
pub struct NalUnit<'a> {
    codec: Codec,
    bytes: &'a [u8],
}

impl<'a> NalUnit<'a> {
    /// `None` when `bytes` is shorter than the codec's NAL unit header.
    pub fn new(codec: Codec, bytes: &'a [u8]) -> Option<Self> {
        let header = match codec {
            Codec::H264 => 1,
            Codec::H265 => 2,
        };
        (bytes.len() >= header).then_some(Self { codec, bytes })
    }

    /// Header and payload.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Whether this is a coded slice of a picture.
    pub fn is_slice(self) -> bool {
        matches!(self.kind(), NalKind::Slice | NalKind::IdrSlice | NalKind::RaslSlice)
    }

    /// Whether this is a parameter set.
    pub fn is_parameter_set(self) -> bool {
        matches!(self.kind(), NalKind::Vps | NalKind::Sps | NalKind::Pps)
    }

    /// The class of the unit, from `nal_unit_type`.
    pub fn kind(self) -> NalKind {
        match self.codec {
            Codec::H264 => match self.bytes[0] & 0x1f {
                1 => NalKind::Slice,
                5 => NalKind::IdrSlice,
                6 => NalKind::Sei,
                7 => NalKind::Sps,
                8 => NalKind::Pps,
                9 => NalKind::Delimiter,
                10..=12 => NalKind::Filler,
                _ => NalKind::Other,
            },
            Codec::H265 => match (self.bytes[0] >> 1) & 0x3f {
                16..=21 => NalKind::IdrSlice,
                0..=7 => NalKind::Slice,
                8 | 9 => NalKind::RaslSlice,
                32 => NalKind::Vps,
                33 => NalKind::Sps,
                34 => NalKind::Pps,
                35 => NalKind::Delimiter,
                // A suffix SEI (40) stands among the slices of its picture, and is of no use here either.
                36..=38 | 40 => NalKind::Filler,
                39 => NalKind::Sei,
                _ => NalKind::Other,
            },
        }
    }

    /// Whether this slice is the first of its picture: `first_mb_in_slice` is 0 (H.264 section 7.4.3; a ue(v) of 0 is
    /// the single bit 1) or `first_slice_segment_in_pic_flag` is set (H.265 section 7.4.7.1).
    pub fn starts_picture(self) -> bool {
        let after_header = match self.codec {
            Codec::H264 => 1,
            Codec::H265 => 2,
        };
        self.bytes.get(after_header).is_some_and(|byte| byte & 0x80 != 0)
    }

    /// Whether `forbidden_zero_bit` is 0, as it must be.
    pub fn is_well_formed(self) -> bool {
        self.bytes[0] & 0x80 == 0
    }
}

/// Walks the NAL units of a length-prefixed access unit.
pub struct LengthPrefixed<'a> {
    codec: Codec,
    rest: &'a [u8],
}

/// The lengths of an access unit's NAL units do not add up to its size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a NAL unit's length field says {length} bytes, {available} are left")]
pub struct LengthError {
    /// What the length field says, or 0 where the field itself is cut short.
    pub length: usize,
    /// Bytes left in the access unit.
    pub available: usize,
}

impl<'a> LengthPrefixed<'a> {
    /// Starts at the first length field of `data`.
    pub fn new(codec: Codec, data: &'a [u8]) -> Self {
        Self { codec, rest: data }
    }
}

impl<'a> Iterator for LengthPrefixed<'a> {
    type Item = Result<NalUnit<'a>, LengthError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let Some((prefix, after)) = self.rest.split_first_chunk::<LENGTH_SIZE>() else {
                let available = self.rest.len();
                self.rest = &[];
                return Some(Err(LengthError { length: 0, available }));
            };
            let length = u32::from_be_bytes(*prefix) as usize;
            if length > after.len() {
                self.rest = &[];
                return Some(Err(LengthError { length, available: after.len() }));
            }
            let (unit, rest) = after.split_at(length);
            self.rest = rest;
            if let Some(unit) = NalUnit::new(self.codec, unit) {
                return Some(Ok(unit));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_type_not_the_importance() {
        for (header, kind) in [
            (0x65, NalKind::IdrSlice),
            (0x05, NalKind::IdrSlice),
            (0x41, NalKind::Slice),
            (0x67, NalKind::Sps),
            (0x68, NalKind::Pps),
            (0x06, NalKind::Sei),
            (0x09, NalKind::Delimiter),
            (0x0c, NalKind::Filler),
            (0x0b, NalKind::Filler),
            (0x02, NalKind::Other),
            (0x1e, NalKind::Other),
        ] {
            let unit = NalUnit::new(Codec::H264, std::slice::from_ref(&header)).expect("one byte");
            assert_eq!(unit.kind(), kind, "{header:#x}");
        }
        for (header, kind) in [
            (0x26, NalKind::IdrSlice),
            (0x2a, NalKind::IdrSlice),
            (0x40, NalKind::Vps),
            (0x02, NalKind::Slice),
            (0x10, NalKind::RaslSlice),
            (0x4e, NalKind::Sei),
            (0x50, NalKind::Filler),
        ] {
            let bytes = [header, 1];
            assert_eq!(NalUnit::new(Codec::H265, &bytes).expect("two bytes").kind(), kind);
        }
        assert!(NalUnit::new(Codec::H265, &[0x40]).is_none());
    }

    #[test]
    fn lengths_must_add_up() {
        let check = |data: &[u8]| {
            LengthPrefixed::new(Codec::H264, data).map(|n| n.map(|n| n.bytes().len())).collect::<Vec<_>>()
        };
        assert_eq!(check(&[0, 0, 0, 1, 0x65, 0, 0, 0, 2, 0x41, 9]), vec![Ok(1), Ok(2)]);
        assert_eq!(check(&[0, 0, 0, 0, 0, 0, 0, 1, 0x65]), vec![Ok(1)]);
        assert_eq!(check(&[0, 0, 0, 5, 0x65]), vec![Err(LengthError { length: 5, available: 1 })]);
        assert_eq!(check(&[0, 0]), vec![Err(LengthError { length: 0, available: 2 })]);
    }
}

//! H.264 in Matroska (ISO/IEC 14496-15): the avcC in CodecPrivate, and the length-prefixed NAL units of a frame, which
//! H.265 has as well.

const NAL_UNIT_TYPE_IDR: u8 = 5;
const NAL_UNIT_TYPE_SPS: u8 = 7;
const NAL_UNIT_TYPE_PPS: u8 = 8;

/// What is needed of an `AVCDecoderConfigurationRecord`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DecoderConfiguration {
    /// Bytes of a NAL unit's length prefix: 1, 2 or 4.
    pub(crate) nal_length_size: u8,
    /// H.265.
    pub(crate) is_hevc: bool,
}

impl DecoderConfiguration {
    /// Parses and checks the whole record.
    pub(crate) fn parse(record: &[u8]) -> Result<Self, &'static str> {
        let (&[version, profile, compatibility, level, length_size, sps_count], mut rest) =
            record.split_first_chunk::<6>().ok_or("it is too short")?;
        if version != 1 {
            return Err("configurationVersion is not 1");
        }
        if length_size & 0xFC != 0xFC || sps_count & 0xE0 != 0xE0 {
            return Err("reserved bits are not set");
        }
        if length_size & 3 == 2 {
            return Err("lengthSizeMinusOne is 2");
        }
        for i in 0..sps_count & 0x1F {
            let sps;
            (sps, rest) = parameter_set(rest, NAL_UNIT_TYPE_SPS)?;
            if i == 0 && sps.get(1..4) != Some(&[profile, compatibility, level]) {
                return Err("profile or level differ from the SPS");
            }
        }
        let (&pps_count, mut rest) = rest.split_first().ok_or("it ends before the PPS")?;
        for _ in 0..pps_count {
            (_, rest) = parameter_set(rest, NAL_UNIT_TYPE_PPS)?;
        }
        if sps_count & 0x1F == 0 || pps_count == 0 {
            return Err("an SPS or PPS is missing");
        }
        check_high_profile_fields(profile, rest)?;
        Ok(Self { nal_length_size: (length_size & 3) + 1, is_hevc: false })
    }
}

fn parameter_set(from: &[u8], unit_type: u8) -> Result<(&[u8], &[u8]), &'static str> {
    let (set, rest) = counted(from)?;
    match set.first() {
        None => Err("a parameter set is empty"),
        Some(header) if header & 0x80 != 0 || header & 0x1F != unit_type => {
            Err("a parameter set is of the wrong NAL unit type")
        }
        Some(_) => Ok((set, rest)),
    }
}

/// Bytes with a length of 16 bits in front, and what follows.
pub(crate) fn counted(from: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let (length, content) = from.split_first_chunk::<2>().ok_or("a parameter set is cut off")?;
    content.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or("a parameter set is cut off")
}

/// chroma_format, bit depths and SPS extensions: optional in practice, but nothing else may follow the parameter sets.
fn check_high_profile_fields(profile: u8, rest: &[u8]) -> Result<(), &'static str> {
    if rest.is_empty() {
        return Ok(());
    }
    let reserved = match rest {
        [chroma, luma, depth, extensions] => {
            chroma & 0xFC == 0xFC && luma & 0xF8 == 0xF8 && depth & 0xF8 == 0xF8 && *extensions == 0
        }
        _ => false,
    };
    if reserved && matches!(profile, 100 | 110 | 122 | 144 | 244) {
        Ok(())
    } else {
        Err("something follows the parameter sets")
    }
}

/// Walks over the NAL units of one frame as its bytes come in.
#[derive(Debug)]
pub(crate) struct NalUnits {
    nal_length_size: u8,
    is_hevc: bool,
    prefix_bytes: u8,
    left: u64,
    at_header: bool,
    units: u32,
    idr: bool,
    wrong: Option<&'static str>,
}

impl NalUnits {
    pub(crate) fn new(configuration: DecoderConfiguration) -> Self {
        let DecoderConfiguration { nal_length_size, is_hevc } = configuration;
        Self { nal_length_size, is_hevc, prefix_bytes: 0, left: 0, at_header: false, units: 0, idr: false, wrong: None }
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while let (None, Some((&byte, rest))) = (self.wrong, bytes.split_first()) {
            if self.prefix_bytes < self.nal_length_size {
                self.left = self.left << 8 | u64::from(byte);
                self.prefix_bytes += 1;
                bytes = rest;
                if self.prefix_bytes == self.nal_length_size {
                    self.at_header = true;
                    if self.left == 0 {
                        self.wrong = Some("a NAL unit of length 0");
                    }
                }
                continue;
            }
            if self.at_header {
                self.at_header = false;
                self.units += 1;
                self.idr |= match self.is_hevc {
                    true => (16..=21).contains(&(byte >> 1 & 0x3F)),
                    false => byte & 0x1F == NAL_UNIT_TYPE_IDR,
                };
                if byte & 0x80 != 0 {
                    self.wrong = Some("forbidden_zero_bit is set");
                }
            }
            let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            bytes = bytes.get(length..).unwrap_or_default();
            self.left -= length as u64;
            if self.left == 0 {
                self.prefix_bytes = 0;
            }
        }
    }

    /// At the end of the frame: whether it holds an IDR slice (H.265: one of an IRAP picture).
    pub(crate) fn finish(self) -> Result<bool, &'static str> {
        match self.wrong {
            Some(wrong) => Err(wrong),
            None if self.prefix_bytes != 0 => Err("the lengths of the NAL units do not add up to the block"),
            None if self.units == 0 => Err("no NAL unit"),
            None => Ok(self.idr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mkv::sample;

    #[test]
    fn avcc() {
        let good = sample::avcc();
        assert_eq!(DecoderConfiguration::parse(&good), Ok(DecoderConfiguration { nal_length_size: 4, is_hevc: false }));
        let sps_length = usize::from(*good.get(7).expect("length"));
        let (sps, pps) = (8, 8 + sps_length + 3);
        for (at, value, why) in [
            (0, 0, "configurationVersion is not 1"),
            (4, 0x03, "reserved bits are not set"),
            (4, 0xFE, "lengthSizeMinusOne is 2"),
            (5, 0xE0, "something"),
            (5, 0x01, "reserved bits are not set"),
            (7, 0, "a parameter set is empty"),
            (7, 200, "a parameter set is cut off"),
            (sps, 0x68, "a parameter set is of the wrong NAL unit type"),
            (3, 99, "profile or level differ from the SPS"),
            (pps, 0x67, "a parameter set is of the wrong NAL unit type"),
        ] {
            let mut bad = good.clone();
            *bad.get_mut(at).expect("within") = value;
            let result = DecoderConfiguration::parse(&bad);
            assert!(
                result.is_err() && (why == "something" || result == Err(why)),
                "byte {at} = {value:#x}: {result:?}"
            );
        }
        for length in 0..good.len() {
            assert!(DecoderConfiguration::parse(good.get(..length).expect("within")).is_err(), "cut to {length}");
        }
        let followed_by = |tail: &[u8]| DecoderConfiguration::parse(&[good.as_slice(), tail].concat()).is_ok();
        assert!(!followed_by(&[0]) && !followed_by(&[0xFD, 0xF8, 0xF8, 0]), "baseline has no high profile fields");
    }

    #[test]
    fn nal_units_in_pieces_of_any_size() {
        for (frame, expected) in [
            (&[0, 0, 0, 2, 0x65, 1, 0, 0, 0, 1, 0x41][..], Ok(true)),
            (&[0, 0, 0, 2, 0x41, 1], Ok(false)),
            (&[0, 0, 0, 3, 0x41, 1], Err("the lengths of the NAL units do not add up to the block")),
            (&[0, 0, 0, 1, 0x41, 0, 0], Err("the lengths of the NAL units do not add up to the block")),
            (&[0, 0, 0, 1, 0x41, 0, 0, 0, 1], Err("the lengths of the NAL units do not add up to the block")),
            (&[0, 0, 0, 0], Err("a NAL unit of length 0")),
            (&[0, 0, 0, 1, 0xC1], Err("forbidden_zero_bit is set")),
            (&[], Err("no NAL unit")),
        ] {
            for piece in 1..=frame.len().max(1) {
                let mut units = NalUnits::new(DecoderConfiguration { nal_length_size: 4, is_hevc: false });
                frame.chunks(piece).for_each(|piece| units.feed(piece));
                assert_eq!(units.finish(), expected, "{frame:x?} in pieces of {piece}");
            }
        }
    }
}

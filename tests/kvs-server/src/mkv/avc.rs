//! H.264 in Matroska (RFC 9559 with ISO/IEC 14496-15): the avcC in CodecPrivate, and the length-prefixed NAL units of a frame.

const NAL_UNIT_TYPE_IDR: u8 = 5;
const NAL_UNIT_TYPE_SPS: u8 = 7;
const NAL_UNIT_TYPE_PPS: u8 = 8;

/// What is needed of an `AVCDecoderConfigurationRecord`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DecoderConfiguration {
    /// Bytes of a NAL unit's length prefix: 1, 2 or 4.
    pub(crate) nal_length_size: u8,
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
        let mut parameter_sets = |count: u8, unit_type: u8| -> Result<(), &'static str> {
            if count == 0 {
                return Err("an SPS or PPS is missing");
            }
            for _ in 0..count {
                let (length, content) = rest.split_first_chunk::<2>().ok_or("a parameter set is cut off")?;
                let (set, content) = content.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or("a parameter set is cut off")?;
                let header = *set.first().ok_or("a parameter set is empty")?;
                if header & 0x80 != 0 || header & 0x1F != unit_type {
                    return Err("a parameter set is of the wrong NAL unit type");
                }
                if unit_type == NAL_UNIT_TYPE_SPS && set.get(1..4) != Some(&[profile, compatibility, level]) {
                    return Err("profile or level differ from the SPS");
                }
                rest = content;
            }
            Ok(())
        };
        parameter_sets(sps_count & 0x1F, NAL_UNIT_TYPE_SPS)?;
        let (&pps_count, content) = rest.split_first().ok_or("an SPS or PPS is missing")?;
        rest = content;
        let mut parameter_sets = |count: u8| -> Result<(), &'static str> {
            if count == 0 {
                return Err("an SPS or PPS is missing");
            }
            for _ in 0..count {
                rest = parameter_set(rest, NAL_UNIT_TYPE_PPS)?.1;
            }
            Ok(())
        };
        parameter_sets(pps_count)?;
        check_high_profile_tail(profile, rest)?;
        Ok(Self { nal_length_size: (length_size & 3) + 1 })
    }
}

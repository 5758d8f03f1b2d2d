//! The HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 section 8.3.3.1) and the codec string (its Annex E).

use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};

use super::h265::Sps;
use super::{ParameterSetError, Units, take_units};

const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;

/// The record for one VPS, one SPS and its PPS. All sets are in it: `array_completeness` is set.
pub(super) fn write(vps: &Bytes, sps: &Bytes, parsed: &Sps, pps: &[Bytes]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(1);
    out.put_slice(&parsed.profile_tier_level);
    // min_spatial_segmentation_idc and parallelismType: not known. Reserved bits are ones.
    out.put_slice(&[0xf0, 0, 0xfc]);
    out.put_u8(0xfc | parsed.chroma_format_idc);
    out.put_u8(0xf8 | (parsed.bit_depth_luma_minus8 & 7));
    out.put_u8(0xf8 | (parsed.bit_depth_chroma_minus8 & 7));
    // avgFrameRate and constantFrameRate: not said. Lengths are 4 bytes.
    out.put_u16(0);
    out.put_u8(parsed.max_sub_layers << 3 | u8::from(parsed.is_temporal_id_nested) << 2 | 3);
    out.put_u8(3);
    for (kind, units) in [(VPS, std::slice::from_ref(vps)), (SPS, std::slice::from_ref(sps)), (PPS, pps)] {
        out.put_u8(0x80 | kind);
        // Counts and lengths were checked before.
        out.put_u16(units.len() as u16);
        for unit in units {
            out.put_u16(unit.len() as u16);
            out.put_slice(unit);
        }
    }
    out.freeze()
}

/// The VPS, SPS and PPS of a record; SEI in it is passed over.
pub(super) fn split(record: &[u8]) -> Result<[Units<'_>; 3], ParameterSetError> {
    let error = ParameterSetError::Configuration;
    let (head, mut rest) = record.split_first_chunk::<23>().ok_or(error("it is cut short"))?;
    // Drafts of the standard had version 0; files with it are otherwise the same.
    if head[0] > 1 {
        return Err(error("its version is not 1"));
    }
    if head[21] & 3 != 3 {
        return Err(error("NAL unit lengths are not 4 bytes"));
    }
    let mut found: [Units<'_>; 3] = Default::default();
    for _ in 0..head[22] {
        let (kind, after) = rest.split_first_chunk::<3>().ok_or(error("it is cut short before an array"))?;
        rest = after;
        let units = take_units(&mut rest, u16::from_be_bytes([kind[1], kind[2]]))?;
        if let Some(list) = (kind[0] & 0x3f).checked_sub(VPS).and_then(|index| found.get_mut(usize::from(index))) {
            list.extend(units);
        }
    }
    Ok(found)
}

/// Such as `hvc1.1.6.L93.B0`: profile, compatibility flags in reverse, tier and level, constraint flags without the
/// zeros at their end.
pub(super) fn codec_string(sps: &Sps) -> String {
    let [profile, c0, c1, c2, c3, constraints @ .., level] = &sps.profile_tier_level;
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    let compatibility = u32::from_be_bytes([*c0, *c1, *c2, *c3]).reverse_bits();
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let mut out = format!("hvc1.{space}{}.{compatibility:X}.{tier}{level}", profile & 0x1f);
    let used = constraints.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..used] {
        // Writing to a string cannot fail.
        write!(out, ".{byte:X}").ok();
    }
    out
}

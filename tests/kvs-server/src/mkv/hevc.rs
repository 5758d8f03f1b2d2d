//! H.265 in Matroska: the hvcC in CodecPrivate (ISO/IEC 14496-15 section 8.3.3.1).

use super::avc::{DecoderConfiguration, counted};

const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;

/// Parses and checks a whole `HEVCDecoderConfigurationRecord`.
pub(crate) fn parse(record: &[u8]) -> Result<DecoderConfiguration, &'static str> {
    let (head, mut rest) = record.split_first_chunk::<23>().ok_or("it is too short")?;
    let &[version, general @ .., arrays] = head;
    if version != 1 {
        return Err("configurationVersion is not 1");
    }
    let &[profile @ .., s0, _, parallelism, chroma, luma, depth, _, _, length_size] = &general;
    let reserved = [(s0, 0xF0), (parallelism, 0xFC), (chroma, 0xFC), (luma, 0xF8), (depth, 0xF8)];
    if reserved.iter().any(|(byte, ones)| byte & ones != *ones) {
        return Err("reserved bits are not set");
    }
    if length_size & 3 == 2 {
        return Err("lengthSizeMinusOne is 2");
    }
    let mut counts = [0_u32; 3];
    for _ in 0..arrays {
        let (&[kind, high, low], after) = rest.split_first_chunk::<3>().ok_or("an array is cut off")?;
        if kind & 0x40 != 0 {
            return Err("a reserved bit of an array is set");
        }
        rest = after;
        for index in 0..u16::from_be_bytes([high, low]) {
            let unit;
            (unit, rest) = counted(rest)?;
            check_unit(kind & 0x3F, unit)?;
            if kind & 0x3F == SPS && index == 0 && unescaped(unit).get(3..15) != Some(&profile[..]) {
                return Err("profile, tier or level differ from the SPS");
            }
            let set = usize::from((kind & 0x3F).wrapping_sub(VPS));
            counts.get_mut(set).into_iter().for_each(|count| *count += 1);
        }
    }
    if !rest.is_empty() {
        return Err("something follows the arrays");
    }
    if counts.contains(&0) {
        return Err("a VPS, SPS or PPS is missing");
    }
    Ok(DecoderConfiguration { nal_length_size: (length_size & 3) + 1, is_hevc: true })
}

fn check_unit(kind: u8, unit: &[u8]) -> Result<(), &'static str> {
    match unit {
        [] | [_] => Err("a parameter set is empty"),
        [header, ..] if header & 0x80 != 0 || header >> 1 & 0x3F != kind => {
            Err("a parameter set is of the wrong NAL unit type")
        }
        _ if !matches!(kind, VPS | SPS | PPS | 39 | 40) => Err("an array of a NAL unit type that may not be there"),
        _ => Ok(()),
    }
}

/// Without the emulation prevention bytes of its first 20 bytes (H.265 section 7.3.1.1).
fn unescaped(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut zeros = 0;
    for &byte in unit.iter().take(20) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x265, 320x180, Main.
    const RECORD: &[u8] = &[
        0x01, 0x01, 0x60, 0x00, 0x00, 0x00, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x3C, 0xF0, 0x00, 0xFC, 0xFD, 0xF8,
        0xF8, 0x00, 0x00, 0x0F, 0x03, 0xA0, 0x00, 0x01, 0x00, 0x18, 0x40, 0x01, 0x0C, 0x01, 0xFF, 0xFF, 0x01, 0x60,
        0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3C, 0xBA, 0x02, 0x40, 0xA1, 0x00,
        0x01, 0x00, 0x29, 0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00,
        0x03, 0x00, 0x3C, 0xA0, 0x0A, 0x08, 0x0C, 0x1F, 0x3E, 0x5B, 0xA4, 0xA4, 0xC2, 0xF0, 0x16, 0x80, 0x80, 0x00,
        0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x07, 0x84, 0xA2, 0x00, 0x01, 0x00, 0x06, 0x44, 0x01, 0xC0, 0x73, 0xC1,
        0x89,
    ];

    #[test]
    fn hvcc() {
        let good = RECORD.to_vec();
        assert_eq!(parse(&good), Ok(DecoderConfiguration { nal_length_size: 4, is_hevc: true }));
        for (at, value, why) in [
            (0, 0, "configurationVersion is not 1"),
            (13, 0, "reserved bits are not set"),
            (21, 0x0E, "lengthSizeMinusOne is 2"),
            (12, 1, "profile, tier or level differ from the SPS"),
            (23, 0xA1, "a parameter set is of the wrong NAL unit type"),
            (22, 2, "something follows the arrays"),
        ] {
            let mut bad = good.clone();
            *bad.get_mut(at).expect("within") = value;
            assert_eq!(parse(&bad), Err(why), "byte {at} = {value:#x}");
        }
        for length in 0..good.len() {
            assert!(parse(good.get(..length).expect("within")).is_err(), "cut to {length}");
        }
    }
}

//! SPS and PPS: what a decoder needs before the first picture, and what they tell about the stream.

use bytes::{BufMut, Bytes, BytesMut};
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp::{BitRead, BitReader, ByteReader};

use crate::Codec;

/// The parameter sets that a run of pictures refers to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParameterSets {
    codec: Codec,
    sps: Bytes,
    pps: Vec<Bytes>,
    configuration: Bytes,
    facts: VideoFacts,
}

/// What an SPS says about the pictures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VideoFacts {
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
    /// `profile_idc` (66 Baseline, 77 Main, 100 High).
    pub profile_idc: u8,
    /// The byte of constraint flags between profile and level.
    pub constraint_flags: u8,
    /// `level_idc`: ten times the level.
    pub level_idc: u8,
    /// Frames in so many seconds, when the VUI says so and the rate is fixed: (frames, seconds).
    pub frame_rate: Option<(u32, u32)>,
    /// Whether pictures may be decoded in another order than they are shown in (B-frames).
    pub reordering: bool,
}

/// Why parameter sets could not be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParameterSetError {
    /// The SPS is cut short or holds values outside their ranges.
    #[error("the SPS cannot be read: {0}")]
    Sps(String),
    /// The PPS is cut short.
    #[error("the PPS cannot be read")]
    Pps,
    /// An AVCDecoderConfigurationRecord does not follow ISO/IEC 14496-15 section 5.3.3.
    #[error("the avcC record cannot be read: {0}")]
    Configuration(&'static str),
}

impl ParameterSets {
    /// From an SPS and the PPS that go with it, each a NAL unit without start code.
    pub fn h264(sps: Bytes, pps: Vec<Bytes>) -> Result<Self, ParameterSetError> {
        let parsed = parse_sps(&sps)?;
        let facts = facts(&sps, &parsed)?;
        if pps.is_empty() || pps.len() > 255 || pps.iter().any(|p| p.len() > usize::from(u16::MAX)) {
            return Err(ParameterSetError::Pps);
        }
        let configuration = avc_configuration(&sps, &parsed, &pps);
        Ok(Self { codec: Codec::H264, sps, pps, configuration, facts })
    }

    /// From an AVCDecoderConfigurationRecord (`avcC`), as MP4 and Matroska files carry it.
    pub fn from_avc_configuration(record: &[u8]) -> Result<Self, ParameterSetError> {
        let (sps, pps) = split_avc_configuration(record)?;
        let sps = sps.into_iter().next().ok_or(ParameterSetError::Configuration("no SPS inside"))?;
        Self::h264(Bytes::copy_from_slice(sps), pps.into_iter().map(Bytes::copy_from_slice).collect())
    }

    /// The codec they belong to.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The SPS, a NAL unit without start code.
    pub fn sps(&self) -> &Bytes {
        &self.sps
    }

    /// The PPS, NAL units without start code.
    pub fn pps(&self) -> &[Bytes] {
        &self.pps
    }

    /// The decoder configuration record (`avcC`): Matroska's CodecPrivate and the body of MP4's `avcC` box.
    pub fn configuration(&self) -> &Bytes {
        &self.configuration
    }

    /// Size, profile, level and rate.
    pub fn facts(&self) -> &VideoFacts {
        &self.facts
    }

    /// The codec string of RFC 6381, such as `avc1.42C01F`.
    pub fn codec_string(&self) -> String {
        let VideoFacts { profile_idc, constraint_flags, level_idc, .. } = self.facts;
        format!("avc1.{profile_idc:02X}{constraint_flags:02X}{level_idc:02X}")
    }

    /// All sets in Annex B form, for decoders that want them in band.
    pub fn annex_b(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for unit in std::iter::once(&self.sps).chain(&self.pps) {
            out.extend_from_slice(&[0, 0, 0, 1]);
            out.extend_from_slice(unit);
        }
        out
    }
}

/// Borrowed NAL units.
pub type Units<'a> = Vec<&'a [u8]>;

/// The SPS and PPS inside an AVCDecoderConfigurationRecord.
pub fn split_avc_configuration(record: &[u8]) -> Result<(Units<'_>, Units<'_>), ParameterSetError> {
    let error = ParameterSetError::Configuration;
    let [1, _, _, _, length_size, sps_count, rest @ ..] = record else {
        return Err(error("version is not 1 or the record is cut short"));
    };
    if length_size & 3 != 3 {
        return Err(error("NAL unit lengths are not 4 bytes"));
    }
    let mut rest = rest;
    let sps = take_units(&mut rest, sps_count & 0x1f)?;
    let (&pps_count, mut rest) = rest.split_first().ok_or(error("cut short before the PPS"))?;
    let pps = take_units(&mut rest, pps_count)?;
    Ok((sps, pps))
}

fn take_units<'a>(rest: &mut &'a [u8], count: u8) -> Result<Units<'a>, ParameterSetError> {
    (0..count)
        .map(|_| {
            let short = ParameterSetError::Configuration("cut short inside a parameter set");
            let (length, after) = rest.split_first_chunk::<2>().ok_or(short.clone())?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (unit, after) = after.split_at_checked(length).ok_or(short)?;
            *rest = after;
            Ok(unit)
        })
        .collect()
}

/// `seq_parameter_set_id` of an SPS.
pub fn sps_id(sps: &[u8]) -> Result<u8, ParameterSetError> {
    Ok(parse_sps(sps)?.id().id())
}

/// `pic_parameter_set_id` and `seq_parameter_set_id` of a PPS.
pub fn pps_ids(pps: &[u8]) -> Result<(u8, u8), ParameterSetError> {
    let mut bits = BitReader::new(ByteReader::skipping_h264_header(pps));
    let mut id = |name| bits.read_ue(name).ok().and_then(|id| u8::try_from(id).ok()).ok_or(ParameterSetError::Pps);
    Ok((id("pic_parameter_set_id")?, id("seq_parameter_set_id")?))
}

/// `pic_parameter_set_id` of a coded slice (H.264 section 7.3.3).
pub fn slice_pps_id(slice: &[u8]) -> Option<u8> {
    // first_mb_in_slice, slice_type and the id fit well within this; the rest of the slice is not touched.
    let head = slice.get(..slice.len().min(24))?;
    let mut bits = BitReader::new(ByteReader::skipping_h264_header(head));
    bits.read_ue("first_mb_in_slice").ok()?;
    bits.read_ue("slice_type").ok()?;
    u8::try_from(bits.read_ue("pic_parameter_set_id").ok()?).ok()
}

fn parse_sps(sps: &[u8]) -> Result<SeqParameterSet, ParameterSetError> {
    if sps.len() < 4 || sps.len() > usize::from(u16::MAX) {
        return Err(ParameterSetError::Sps(format!("{} bytes", sps.len())));
    }
    SeqParameterSet::from_bits(BitReader::new(ByteReader::skipping_h264_header(sps)))
        .map_err(|error| ParameterSetError::Sps(format!("{error:?}")))
}

fn facts(sps: &[u8], parsed: &SeqParameterSet) -> Result<VideoFacts, ParameterSetError> {
    let (width, height) = parsed.pixel_dimensions().map_err(|error| ParameterSetError::Sps(format!("{error:?}")))?;
    if width == 0 || height == 0 || width > 16_384 || height > 16_384 {
        return Err(ParameterSetError::Sps(format!("pictures of {width}x{height}")));
    }
    let vui = parsed.vui_parameters.as_ref();
    let frame_rate = vui.and_then(|vui| vui.timing_info.as_ref()).and_then(|timing| {
        // A frame lasts two ticks: they count fields (Annex E.2.1).
        let seconds = timing.num_units_in_tick.checked_mul(2)?;
        let plausible = seconds > 0 && timing.time_scale > 0 && timing.time_scale / seconds <= 240;
        plausible.then_some((timing.time_scale, seconds))
    });
    let profile_idc = sps[1];
    let reordering = match vui.and_then(|vui| vui.bitstream_restrictions.as_ref()) {
        Some(restrictions) => restrictions.max_num_reorder_frames > 0,
        // Baseline has no B slices; with picture order count type 2 output order is decoding order (8.2.1.3).
        None => profile_idc != 66 && !matches!(parsed.pic_order_cnt, h264_reader::nal::sps::PicOrderCntType::TypeTwo),
    };
    Ok(VideoFacts { width, height, profile_idc, constraint_flags: sps[2], level_idc: sps[3], frame_rate, reordering })
}

fn avc_configuration(sps: &[u8], parsed: &SeqParameterSet, pps: &[Bytes]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&[1, sps[1], sps[2], sps[3], 0xff, 0xe1]);
    // Lengths were checked to fit 16 bits before.
    out.put_u16(sps.len() as u16);
    out.put_slice(sps);
    out.put_u8(pps.len() as u8);
    for unit in pps {
        out.put_u16(unit.len() as u16);
        out.put_slice(unit);
    }
    if matches!(sps[1], 100 | 110 | 122 | 144) {
        let chroma = &parsed.chroma_info;
        let format = match chroma.chroma_format {
            h264_reader::nal::sps::ChromaFormat::Monochrome => 0,
            h264_reader::nal::sps::ChromaFormat::YUV422 => 2,
            h264_reader::nal::sps::ChromaFormat::YUV444 => 3,
            _ => 1,
        };
        let luma = 0xf8 | (chroma.bit_depth_luma_minus8 & 7);
        out.put_slice(&[0xfc | format, luma, 0xf8 | (chroma.bit_depth_chroma_minus8 & 7), 0]);
    }
    out.freeze()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// x264, 1280x720 at 15 fps, High, no B-frames.
    pub(crate) const SPS_720P: &[u8] = &[
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
        0x00, 0x03, 0x01, 0xe0, 0xf1, 0x83, 0x19, 0x60,
    ];
    pub(crate) const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

    #[test]
    fn facts_of_a_720p_stream() {
        let sets = ParameterSets::h264(Bytes::from_static(SPS_720P), vec![Bytes::from_static(PPS)]).expect("valid");
        let facts = sets.facts();
        assert_eq!((facts.width, facts.height), (1280, 720));
        assert_eq!((facts.profile_idc, facts.level_idc), (100, 31));
        assert_eq!(sets.codec_string(), "avc1.64001F");
    }

    #[test]
    fn configuration_round_trip() {
        let sets = ParameterSets::h264(Bytes::from_static(SPS_720P), vec![Bytes::from_static(PPS)]).expect("valid");
        assert_eq!(ParameterSets::from_avc_configuration(sets.configuration()), Ok(sets.clone()));
        for cut in 0..sets.configuration().len() - 4 {
            assert!(ParameterSets::from_avc_configuration(&sets.configuration()[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn rubbish_is_refused() {
        for sps in [&[][..], &[0x67], &[0x67, 100, 0, 31], &[0xff; 40]] {
            assert!(
                ParameterSets::h264(Bytes::copy_from_slice(sps), vec![Bytes::from_static(PPS)]).is_err(),
                "{sps:?}"
            );
        }
        assert_eq!(pps_ids(PPS), Ok((0, 0)));
        assert_eq!(pps_ids(&[0x68]), Err(ParameterSetError::Pps));
        assert_eq!(slice_pps_id(&[0x65, 0x88, 0x80]), Some(0));
    }
}

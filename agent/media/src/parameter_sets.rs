//! Parameter sets: what a decoder needs before the first picture, and what they tell about the stream.

mod h265;
mod hvcc;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use h264_reader::nal::sps::{FrameMbsFlags, PicOrderCntType, SeqParameterSet};
use h264_reader::rbsp::{BitRead, BitReader, ByteReader};

use crate::slice::{H264Syntax, H265Syntax, h265_pps_id};
use crate::{AudioFormat, Codec, annex_b};

/// The parameter sets that a run of pictures refers to, and what stands beside it in an audio track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParameterSets {
    codec: Codec,
    vps: Option<Bytes>,
    sps: Bytes,
    pps: Vec<Bytes>,
    configuration: Bytes,
    codec_string: String,
    facts: VideoFacts,
    slices: SliceSyntax,
    audio: Option<Arc<AudioFormat>>,
}

/// How the heads of slices are to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
enum SliceSyntax {
    H264(H264Syntax),
    /// One for each PPS.
    H265(Vec<H265Syntax>),
}

/// What an SPS says about the pictures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VideoFacts {
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
    /// Frames in so many seconds, when the VUI says so and the rate is fixed: (frames, seconds).
    pub frame_rate: Option<(u32, u32)>,
    /// Whether pictures may be decoded in another order than they are shown in (B-frames).
    pub reordering: bool,
    /// Most pictures that may be decoded before a picture and shown after it, 0 to 16.
    pub max_reorder: u8,
    /// What samples mean.
    pub signal: VideoSignal,
}

/// What the samples of pictures mean, as far as the VUI says (H.264 section E.2.1). Where it says nothing: BT.601, limited
/// range, which is what nearly every reader takes such a stream for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct VideoSignal {
    /// Luma is 0 to 255, not 16 to 235.
    pub full_range: bool,
    /// The matrix is that of BT.709, not of BT.601.
    pub bt709: bool,
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
    /// The VPS is cut short, or the SPS refers to another.
    #[error("the VPS is missing or cannot be read")]
    Vps,
    /// A decoder configuration record does not follow ISO/IEC 14496-15 section 5.3.3 or 8.3.3.
    #[error("the decoder configuration (avcC or hvcC) cannot be read: {0}")]
    Configuration(&'static str),
}

impl ParameterSets {
    /// From an SPS and the PPS that go with it, each a NAL unit without start code.
    pub fn h264(sps: Bytes, pps: Vec<Bytes>) -> Result<Self, ParameterSetError> {
        let parsed = parse_sps(&sps)?;
        let facts = facts(&sps, &parsed)?;
        check_pps(&pps)?;
        let configuration = avc_configuration(&sps, &parsed, &pps);
        let codec_string = format!("avc1.{:02X}{:02X}{:02X}", sps[1], sps[2], sps[3]);
        let slices = SliceSyntax::H264(H264Syntax::new(&parsed));
        Ok(Self { codec: Codec::H264, vps: None, sps, pps, configuration, codec_string, facts, slices, audio: None })
    }

    /// From a VPS, an SPS that refers to it and the PPS that go with it, each a NAL unit without start code.
    pub fn h265(vps: Bytes, sps: Bytes, pps: Vec<Bytes>) -> Result<Self, ParameterSetError> {
        let parsed = h265::sps(&sps)?;
        check_pps(&pps)?;
        if h265::vps_id(&vps) != Some(parsed.vps_id) || vps.len() > usize::from(u16::MAX) {
            return Err(ParameterSetError::Vps);
        }
        let configuration = hvcc::write(&vps, &sps, &parsed, &pps);
        let codec_string = hvcc::codec_string(&parsed);
        let slices = pps.iter().filter_map(|pps| h265::pps(pps).ok()).map(|pps| parsed.slice_syntax(pps)).collect();
        let (facts, slices) = (parsed.facts, SliceSyntax::H265(slices));
        Ok(Self {
            codec: Codec::H265,
            vps: Some(vps),
            sps,
            pps,
            configuration,
            codec_string,
            facts,
            slices,
            audio: None,
        })
    }

    /// From the decoder configuration record of a codec, `avcC` or `hvcC`, as MP4 and Matroska files carry it.
    pub fn from_configuration(codec: Codec, record: &[u8]) -> Result<Self, ParameterSetError> {
        match codec {
            Codec::H264 => Self::from_avc_configuration(record),
            Codec::H265 => Self::from_hevc_configuration(record),
        }
    }

    /// From an HEVCDecoderConfigurationRecord (`hvcC`).
    pub fn from_hevc_configuration(record: &[u8]) -> Result<Self, ParameterSetError> {
        let [vps, sps, pps] = hvcc::split(record)?;
        let missing = ParameterSetError::Configuration("a VPS or SPS is missing");
        let (Some(vps), Some(sps)) = (vps.first(), sps.first()) else { return Err(missing) };
        let pps = pps.into_iter().map(Bytes::copy_from_slice).collect();
        Self::h265(Bytes::copy_from_slice(vps), Bytes::copy_from_slice(sps), pps)
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

    /// What the audio track beside them holds, if there is one.
    pub fn audio(&self) -> Option<&Arc<AudioFormat>> {
        self.audio.as_ref()
    }

    /// The same beside this audio track, or none.
    #[must_use]
    pub fn with_audio(mut self, audio: Option<Arc<AudioFormat>>) -> Self {
        self.audio = audio;
        self
    }

    /// All sets in the order a decoder wants them: VPS, SPS, PPS; NAL units without start code.
    pub fn units(&self) -> impl Iterator<Item = &Bytes> {
        self.vps.iter().chain(std::iter::once(&self.sps)).chain(&self.pps)
    }

    /// The SPS, a NAL unit without start code.
    pub fn sps(&self) -> &Bytes {
        &self.sps
    }

    /// The PPS, NAL units without start code.
    pub fn pps(&self) -> &[Bytes] {
        &self.pps
    }

    /// The decoder configuration record: Matroska's CodecPrivate and the body of MP4's `avcC` or `hvcC` box.
    pub fn configuration(&self) -> &Bytes {
        &self.configuration
    }

    /// Size, profile, level and rate.
    pub fn facts(&self) -> &VideoFacts {
        &self.facts
    }

    /// The codec string of RFC 6381, such as `avc1.42C01F` or `hvc1.1.6.L93.B0`.
    pub fn codec_string(&self) -> &str {
        &self.codec_string
    }

    /// How heads of slices are to be read in H.264.
    pub(crate) fn h264_syntax(&self) -> Option<H264Syntax> {
        match &self.slices {
            SliceSyntax::H264(syntax) => Some(*syntax),
            SliceSyntax::H265(_) => None,
        }
    }

    /// How heads of slices that refer to this PPS are to be read in H.265.
    pub(crate) fn h265_syntax(&self, pps_id: u8) -> Option<H265Syntax> {
        match &self.slices {
            SliceSyntax::H264(_) => None,
            SliceSyntax::H265(syntax) => syntax.iter().find(|syntax| syntax.pps_id == pps_id).copied(),
        }
    }

    /// All sets in Annex B form, for decoders that want them in band.
    pub fn annex_b(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for unit in self.units() {
            annex_b::append(unit, &mut out);
        }
        out
    }
}

fn check_pps(pps: &[Bytes]) -> Result<(), ParameterSetError> {
    let is_writable = |pps: &Bytes| pps.len() <= usize::from(u16::MAX);
    let fits = (1..=255).contains(&pps.len()) && pps.iter().all(is_writable);
    if fits { Ok(()) } else { Err(ParameterSetError::Pps) }
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
    let sps = take_units(&mut rest, u16::from(sps_count & 0x1f))?;
    let (&pps_count, mut rest) = rest.split_first().ok_or(error("cut short before the PPS"))?;
    let pps = take_units(&mut rest, pps_count.into())?;
    Ok((sps, pps))
}

fn take_units<'a>(rest: &mut &'a [u8], count: u16) -> Result<Units<'a>, ParameterSetError> {
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

/// `seq_parameter_set_id` of an SPS, and how heads of slices that refer to it are to be read in H.264.
pub(crate) fn h264_sps(sps: &[u8]) -> Result<(u8, H264Syntax), ParameterSetError> {
    let parsed = parse_sps(sps)?;
    Ok((parsed.id().id(), H264Syntax::new(&parsed)))
}

/// The id of an SPS of H.265, and that of the VPS it refers to.
pub(crate) fn h265_sps_ids(sps: &[u8]) -> Result<(u8, u8), ParameterSetError> {
    h265::sps(sps).map(|sps| (sps.id, sps.vps_id))
}

/// The id of a VPS.
pub(crate) fn vps_id(vps: &[u8]) -> Option<u8> {
    h265::vps_id(vps)
}

/// Its own id and that of its SPS, in a PPS.
pub fn pps_ids(codec: Codec, pps: &[u8]) -> Result<(u8, u8), ParameterSetError> {
    if codec == Codec::H265 {
        return h265::pps(pps).map(|pps| (pps.id, pps.sps_id));
    }
    let mut bits = BitReader::new(ByteReader::skipping_h264_header(pps));
    let mut id = |name| bits.read_ue(name).ok().and_then(|id| u8::try_from(id).ok()).ok_or(ParameterSetError::Pps);
    Ok((id("pic_parameter_set_id")?, id("seq_parameter_set_id")?))
}

/// The id of the PPS that a coded slice refers to, the first of its picture (H.264 section 7.3.3, H.265 section
/// 7.3.6.1).
pub fn slice_pps_id(codec: Codec, slice: &[u8]) -> Option<u8> {
    if codec == Codec::H265 {
        return h265_pps_id(slice);
    }
    // first_mb_in_slice, slice_type and the id fit well within this; the rest of the slice is not touched.
    let head = slice.get(..slice.len().min(24))?;
    let mut bits = BitReader::new(ByteReader::skipping_h264_header(head));
    bits.read_ue("first_mb_in_slice").ok()?;
    bits.read_ue("slice_type").ok()?;
    u8::try_from(bits.read_ue("pic_parameter_set_id").ok()?).ok()
}

pub(crate) fn parse_sps(sps: &[u8]) -> Result<SeqParameterSet, ParameterSetError> {
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
    let max_reorder = match vui.and_then(|vui| vui.bitstream_restrictions.as_ref()) {
        Some(restrictions) => restrictions.max_num_reorder_frames.min(16) as u8,
        // Baseline has no B slices; with picture order count type 2 output order is decoding order (8.2.1.3).
        None if profile_idc == 66 || matches!(parsed.pic_order_cnt, PicOrderCntType::TypeTwo) => 0,
        None => max_dpb_frames(sps, parsed),
    };
    let signal =
        vui.and_then(|vui| vui.video_signal_type.as_ref()).map_or_else(VideoSignal::default, |told| VideoSignal {
            full_range: told.video_full_range_flag,
            // Table E-5.
            bt709: told.colour_description.as_ref().is_some_and(|colour| colour.matrix_coefficients == 1),
        });
    Ok(VideoFacts { width, height, frame_rate, reordering: max_reorder > 0, max_reorder, signal })
}

/// MaxDpbFrames (H.264 section A.3.1): what a decoder may have to hold back where the SPS does not say. 1 to 16.
fn max_dpb_frames(sps: &[u8], parsed: &SeqParameterSet) -> u8 {
    // MaxDpbMbs of table A-1.
    let macroblocks = match sps[3] {
        ..=10 => 396,
        11 if sps[2] & 0x10 != 0 => 396,
        11 => 900,
        12..=20 => 2376,
        21 => 4752,
        22..=30 => 8100,
        31 => 18_000,
        32 => 20_480,
        33..=41 => 32_768,
        42 => 34_816,
        43..=50 => 110_400,
        51 | 52 => 184_320,
        _ => 696_320,
    };
    let interlaced = u64::from(!matches!(parsed.frame_mbs_flags, FrameMbsFlags::Frames));
    let width = u64::from(parsed.pic_width_in_mbs_minus1) + 1;
    let height = (u64::from(parsed.pic_height_in_map_units_minus1) + 1) << interlaced;
    (macroblocks / (width * height).max(1)).clamp(1, 16) as u8
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

    /// What x264 writes for `-colorspace` and `-color_range` of ffmpeg: the tenth byte on is the VUI's part about it.
    #[test]
    fn what_samples_mean() {
        let sps = |range: u8, colour: [u8; 3]| {
            let head = [0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xec, 0x05, range];
            let tail = [0x00, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x1e, 0x30, 0x65, 0x40];
            let sps = [&head[..], &colour, &tail].concat();
            let sets = ParameterSets::h264(sps.into(), vec![Bytes::from_static(PPS)]).expect("valid");
            let VideoSignal { full_range, bt709 } = sets.facts().signal;
            (full_range, bt709)
        };
        assert_eq!(sps(0xa8, [0x08, 0x08, 0x0a]), (false, true));
        assert_eq!(sps(0xa8, [0x30, 0x30, 0x32]), (false, false));
        assert_eq!(sps(0xb8, [0x08, 0x08, 0x0a]), (true, true));
        let untold = ParameterSets::h264(Bytes::from_static(SPS_720P), vec![Bytes::from_static(PPS)]).expect("valid");
        assert_eq!(untold.facts().signal, VideoSignal::default());
    }

    #[test]
    fn facts_of_a_720p_stream() {
        let sets = ParameterSets::h264(Bytes::from_static(SPS_720P), vec![Bytes::from_static(PPS)]).expect("valid");
        let facts = sets.facts();
        assert_eq!((facts.width, facts.height), (1280, 720));
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

    /// x265, 320x180 at 15 fps, Main, no B-frames.
    pub(crate) const HVCC: &[u8] = &[
        0x01, 0x01, 0x60, 0x00, 0x00, 0x00, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x3c, 0xf0, 0x00, 0xfc, 0xfd, 0xf8,
        0xf8, 0x00, 0x00, 0x0f, 0x03, 0xa0, 0x00, 0x01, 0x00, 0x18, 0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60,
        0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c, 0xba, 0x02, 0x40, 0xa1, 0x00,
        0x01, 0x00, 0x29, 0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00,
        0x03, 0x00, 0x3c, 0xa0, 0x0a, 0x08, 0x0c, 0x1f, 0x3e, 0x5b, 0xa4, 0xa4, 0xc2, 0xf0, 0x16, 0x80, 0x80, 0x00,
        0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x07, 0x84, 0xa2, 0x00, 0x01, 0x00, 0x06, 0x44, 0x01, 0xc0, 0x73, 0xc1,
        0x89,
    ];

    #[test]
    fn facts_of_an_h265_stream() {
        let sets = ParameterSets::from_hevc_configuration(HVCC).expect("valid");
        let facts = sets.facts();
        assert_eq!((facts.width, facts.height, facts.frame_rate), (320, 180, Some((15, 1))));
        assert!(!facts.reordering);
        assert_eq!(sets.codec_string(), "hvc1.1.6.L60.90");
        let [kinds, expected] = [sets.units().map(|unit| unit[0] >> 1).collect::<Vec<_>>(), vec![32, 33, 34]];
        assert_eq!(kinds, expected);
        assert_eq!(ParameterSets::from_hevc_configuration(sets.configuration()), Ok(sets.clone()));
        for cut in 0..sets.configuration().len() {
            assert!(ParameterSets::from_hevc_configuration(&sets.configuration()[..cut]).is_err(), "cut at {cut}");
        }
        let [vps, sps] = [sets.units().next().expect("a VPS").clone(), sets.sps().clone()];
        assert_eq!(ParameterSets::h265(sps.clone(), sps, sets.pps().to_vec()), Err(ParameterSetError::Vps));
        assert!(ParameterSets::h265(vps.clone(), vps, sets.pps().to_vec()).is_err());
    }

    #[test]
    fn rubbish_is_refused() {
        for sps in [&[][..], &[0x67], &[0x67, 100, 0, 31], &[0xff; 40]] {
            assert!(
                ParameterSets::h264(Bytes::copy_from_slice(sps), vec![Bytes::from_static(PPS)]).is_err(),
                "{sps:?}"
            );
        }
        assert_eq!(pps_ids(Codec::H264, PPS), Ok((0, 0)));
        assert_eq!(pps_ids(Codec::H264, &[0x68]), Err(ParameterSetError::Pps));
        assert_eq!(slice_pps_id(Codec::H264, &[0x65, 0x88, 0x80]), Some(0));
    }
}

//! The head of a picture's first slice, as far as it tells which picture it belongs to and when that is shown:
//! H.264 section 7.3.3, H.265 section 7.3.6.1.

use h264_reader::nal::sps::{FrameMbsFlags, PicOrderCntType, SeqParameterSet};
use h264_reader::rbsp::{BitRead, BitReader, ByteReader};

/// Heads fit well within this; the rest of a slice is not touched.
const HEAD: usize = 32;

/// What an SPS of H.264 says about the head of a slice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct H264Syntax {
    frame_num_bits: u8,
    has_fields: bool,
    has_separate_colour_planes: bool,
    /// Bits of `pic_order_cnt_lsb` where picture order count type 0 is used. Type 2 is decoding order; type 1 is not
    /// followed.
    poc_lsb_bits: Option<u8>,
}

impl H264Syntax {
    pub(crate) fn new(sps: &SeqParameterSet) -> Self {
        Self {
            frame_num_bits: sps.log2_max_frame_num_minus4.saturating_add(4).min(16),
            has_fields: !matches!(sps.frame_mbs_flags, FrameMbsFlags::Frames),
            has_separate_colour_planes: sps.chroma_info.separate_colour_plane_flag,
            poc_lsb_bits: match sps.pic_order_cnt {
                PicOrderCntType::TypeZero { log2_max_pic_order_cnt_lsb_minus4: bits } => {
                    Some(bits.saturating_add(4).min(16))
                }
                _ => None,
            },
        }
    }
}

/// One of the two pictures that an interlaced frame may be coded as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Field {
    Top,
    Bottom,
}

/// The head of a slice of H.264.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct H264Head {
    pub(crate) frame_num: u16,
    /// Which field, if it is one and no frame.
    pub(crate) field: Option<Field>,
    pub(crate) is_reference: bool,
    /// `pic_order_cnt_lsb`, and how many bits it has.
    pub(crate) poc: Option<(u32, u8)>,
}

impl H264Head {
    /// `None` when it is cut short.
    pub(crate) fn parse(slice: &[u8], syntax: H264Syntax) -> Option<Self> {
        let header = *slice.first()?;
        let head = slice.get(..slice.len().min(HEAD))?;
        let mut bits = BitReader::new(ByteReader::skipping_h264_header(head));
        bits.read_ue("first_mb_in_slice").ok()?;
        bits.read_ue("slice_type").ok()?;
        bits.read_ue("pic_parameter_set_id").ok()?;
        if syntax.has_separate_colour_planes {
            bits.skip(2, "colour_plane_id").ok()?;
        }
        let frame_num: u16 = bits.read(syntax.frame_num_bits.into(), "frame_num").ok()?;
        let mut field = None;
        if syntax.has_fields && bits.read_bool("field_pic_flag").ok()? {
            field = Some(if bits.read_bool("bottom_field_flag").ok()? { Field::Bottom } else { Field::Top });
        }
        if header & 0x1f == 5 {
            bits.read_ue("idr_pic_id").ok()?;
        }
        let poc = match syntax.poc_lsb_bits {
            Some(count) => Some((bits.read(count.into(), "pic_order_cnt_lsb").ok()?, count)),
            None => None,
        };
        Some(Self { frame_num, field, is_reference: header & 0x60 != 0, poc })
    }

    /// Whether `next` begins the second field of the frame whose first field this is (section 3.30).
    pub(crate) fn is_completed_by(&self, next: &Self) -> bool {
        let opposite = matches!(
            (self.field, next.field),
            (Some(Field::Top), Some(Field::Bottom)) | (Some(Field::Bottom), Some(Field::Top))
        );
        opposite && self.frame_num == next.frame_num && (self.is_reference || !next.is_reference)
    }
}

/// What SPS and PPS of H.265 say about the head of a slice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct H265Syntax {
    pub(crate) pps_id: u8,
    pub(crate) poc_lsb_bits: u8,
    pub(crate) has_separate_colour_planes: bool,
    pub(crate) has_output_flag: bool,
    pub(crate) extra_slice_header_bits: u8,
}

/// `slice_pic_parameter_set_id` of a picture's first slice of H.265.
pub(crate) fn h265_pps_id(slice: &[u8]) -> Option<u8> {
    h265_start(slice).map(|(id, _)| id)
}

/// `slice_pic_order_cnt_lsb` of a picture's first slice of H.265; 0 for an IDR picture, which has none.
pub(crate) fn h265_poc_lsb(slice: &[u8], syntax: H265Syntax) -> Option<u32> {
    let (_, mut bits) = h265_start(slice)?;
    bits.skip(syntax.extra_slice_header_bits.into(), "slice_reserved_flag").ok()?;
    bits.read_ue("slice_type").ok()?;
    if syntax.has_output_flag {
        bits.skip(1, "pic_output_flag").ok()?;
    }
    if syntax.has_separate_colour_planes {
        bits.skip(2, "colour_plane_id").ok()?;
    }
    match h265_type(slice)? {
        19 | 20 => Some(0),
        _ => bits.read(syntax.poc_lsb_bits.into(), "slice_pic_order_cnt_lsb").ok(),
    }
}

/// `nal_unit_type`.
pub(crate) fn h265_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|byte| (byte >> 1) & 0x3f)
}

fn h265_start(slice: &[u8]) -> Option<(u8, BitReader<ByteReader<&[u8]>>)> {
    const HEADER: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN.saturating_add(1);
    let head = slice.get(..slice.len().min(HEAD))?;
    let mut bits = BitReader::new(ByteReader::skipping_bytes(head, HEADER));
    bits.skip(1, "first_slice_segment_in_pic_flag").ok()?;
    if (16..=23).contains(&h265_type(slice)?) {
        bits.skip(1, "no_output_of_prior_pics_flag").ok()?;
    }
    let id = bits.read_ue("slice_pic_parameter_set_id").ok()?;
    Some((u8::try_from(id).ok()?, bits))
}

//! VPS, SPS and PPS of H.265 (ITU-T H.265 section 7.3.2), as far as the agent must know them.
//!
//! The crates that read them (`hevc_parser`, `scuffle-h265`) bring readers of their own, and logging or errors on the
//! heap with them; `retina` keeps its own to itself. The bit reader is the one that H.264 uses here.

use h264_reader::rbsp::{BitRead, BitReader, ByteReader};

use super::{ParameterSetError, VideoFacts, VideoSignal};
use crate::slice::H265Syntax;

/// Bytes of a NAL unit's header (section 7.3.1.2).
const HEADER: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN.saturating_add(1);

/// What an SPS says that goes into the decoder configuration record and the codec string.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sps {
    pub(super) id: u8,
    pub(super) vps_id: u8,
    /// `general_profile_space` to `general_level_idc`, as they stand in the SPS (section 7.3.3): 12 bytes.
    pub(super) profile_tier_level: [u8; 12],
    pub(super) max_sub_layers: u8,
    pub(super) is_temporal_id_nested: bool,
    pub(super) chroma_format_idc: u8,
    pub(super) bit_depth_luma_minus8: u8,
    pub(super) bit_depth_chroma_minus8: u8,
    pub(super) has_separate_colour_planes: bool,
    /// Bits of `slice_pic_order_cnt_lsb`.
    pub(super) poc_lsb_bits: u8,
    pub(super) facts: VideoFacts,
}

impl Sps {
    /// How heads of slices are to be read that refer to this SPS and `pps`.
    pub(super) fn slice_syntax(&self, pps: Pps) -> H265Syntax {
        H265Syntax {
            pps_id: pps.id,
            poc_lsb_bits: self.poc_lsb_bits,
            has_separate_colour_planes: self.has_separate_colour_planes,
            has_output_flag: pps.has_output_flag,
            extra_slice_header_bits: pps.extra_slice_header_bits,
        }
    }
}

/// What a PPS says that is needed to read a slice's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pps {
    pub(super) id: u8,
    pub(super) sps_id: u8,
    pub(super) has_output_flag: bool,
    pub(super) extra_slice_header_bits: u8,
}

/// Reads bits, and turns what is out of range into an error that names it.
struct Bits<'a>(BitReader<ByteReader<&'a [u8]>>);

impl<'a> Bits<'a> {
    fn new(unit: &'a [u8]) -> Self {
        Self(BitReader::new(ByteReader::skipping_bytes(unit, HEADER)))
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, String> {
        self.0.read_bool(name).map_err(|error| format!("{error:?}"))
    }

    fn bits(&mut self, count: u32, name: &'static str) -> Result<u32, String> {
        self.0.read(count, name).map_err(|error| format!("{error:?}"))
    }

    fn skip(&mut self, count: u32, name: &'static str) -> Result<(), String> {
        self.0.skip(count, name).map_err(|error| format!("{error:?}"))
    }

    /// `ue(v)` that must not exceed `most`.
    fn ue(&mut self, name: &'static str, most: u32) -> Result<u32, String> {
        match self.0.read_ue(name) {
            Ok(value) if value <= most => Ok(value),
            Ok(value) => Err(format!("{name} is {value}, more than {most}")),
            Err(error) => Err(format!("{error:?}")),
        }
    }

    fn se(&mut self, name: &'static str) -> Result<i32, String> {
        self.0.read_se(name).map_err(|error| format!("{error:?}"))
    }
}

/// `vps_video_parameter_set_id`: the first four bits (section 7.3.2.1).
pub(super) fn vps_id(vps: &[u8]) -> Option<u8> {
    let is_vps = vps.first().is_some_and(|byte| byte >> 1 == 32);
    vps.get(2).filter(|_| is_vps).map(|byte| byte >> 4)
}

/// Reads a PPS (section 7.3.2.3) up to the last field that is needed.
pub(super) fn pps(pps: &[u8]) -> Result<Pps, ParameterSetError> {
    let mut bits = Bits::new(pps);
    let mut read = || -> Result<Pps, String> {
        let id = bits.ue("pps_pic_parameter_set_id", 63)? as u8;
        let sps_id = bits.ue("pps_seq_parameter_set_id", 15)? as u8;
        bits.flag("dependent_slice_segments_enabled_flag")?;
        let has_output_flag = bits.flag("output_flag_present_flag")?;
        let extra_slice_header_bits = bits.bits(3, "num_extra_slice_header_bits")? as u8;
        Ok(Pps { id, sps_id, has_output_flag, extra_slice_header_bits })
    };
    read().map_err(|_| ParameterSetError::Pps)
}

/// Reads an SPS (section 7.3.2.2) up to the rate in its VUI.
pub(super) fn sps(unit: &[u8]) -> Result<Sps, ParameterSetError> {
    if unit.len() < 16 || unit.len() > usize::from(u16::MAX) {
        return Err(ParameterSetError::Sps(format!("{} bytes", unit.len())));
    }
    read_sps(&mut Bits::new(unit)).map_err(ParameterSetError::Sps)
}

fn read_sps(bits: &mut Bits<'_>) -> Result<Sps, String> {
    let vps_id = bits.bits(4, "sps_video_parameter_set_id")? as u8;
    let max_sub_layers = bits.bits(3, "sps_max_sub_layers_minus1")? as u8 + 1;
    if max_sub_layers > 7 {
        return Err(format!("{max_sub_layers} sub-layers"));
    }
    let is_temporal_id_nested = bits.flag("sps_temporal_id_nesting_flag")?;
    let profile_tier_level = profile_tier_level(bits, max_sub_layers)?;
    let id = bits.ue("sps_seq_parameter_set_id", 15)? as u8;
    let chroma_format_idc = bits.ue("chroma_format_idc", 3)? as u8;
    let has_separate_colour_planes = chroma_format_idc == 3 && bits.flag("separate_colour_plane_flag")?;
    let coded = (bits.ue("pic_width_in_luma_samples", 16_384)?, bits.ue("pic_height_in_luma_samples", 16_384)?);
    let mut cropped = [0; 4];
    if bits.flag("conformance_window_flag")? {
        for side in &mut cropped {
            *side = bits.ue("conf_win_offset", 16_384)?;
        }
    }
    // Offsets count chroma samples (table 6-1).
    let (sub_width, sub_height) = match chroma_format_idc {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let [left, right, top, bottom] = cropped;
    let width = coded.0.saturating_sub((left + right) * sub_width);
    let height = coded.1.saturating_sub((top + bottom) * sub_height);
    if width == 0 || height == 0 {
        return Err(format!("pictures of {width}x{height}"));
    }
    let bit_depth_luma_minus8 = bits.ue("bit_depth_luma_minus8", 8)? as u8;
    let bit_depth_chroma_minus8 = bits.ue("bit_depth_chroma_minus8", 8)? as u8;
    let poc_lsb_bits = bits.ue("log2_max_pic_order_cnt_lsb_minus4", 12)? as u8 + 4;
    let all_layers = bits.flag("sps_sub_layer_ordering_info_present_flag")?;
    let mut max_reorder = 0;
    for _ in 0..(if all_layers { max_sub_layers } else { 1 }) {
        bits.ue("sps_max_dec_pic_buffering_minus1", 15)?;
        max_reorder = bits.ue("sps_max_num_reorder_pics", 15)? as u8;
        bits.ue("sps_max_latency_increase_plus1", u32::MAX)?;
    }
    for name in [
        "log2_min_luma_coding_block_size_minus3",
        "log2_diff_max_min_luma_coding_block_size",
        "log2_min_luma_transform_block_size_minus2",
        "log2_diff_max_min_luma_transform_block_size",
        "max_transform_hierarchy_depth_inter",
        "max_transform_hierarchy_depth_intra",
    ] {
        bits.ue(name, 16)?;
    }
    // What follows only tells the rate: a stream whose encoder gets it wrong can be taken all the same.
    let frame_rate = frame_rate(bits, poc_lsb_bits).ok().flatten();
    // Nobody here decodes H.265: what its samples mean is not asked.
    let signal = VideoSignal::default();
    let facts = VideoFacts { width, height, frame_rate, reordering: max_reorder > 0, max_reorder, signal };
    Ok(Sps {
        id,
        vps_id,
        profile_tier_level,
        max_sub_layers,
        is_temporal_id_nested,
        chroma_format_idc,
        bit_depth_luma_minus8,
        bit_depth_chroma_minus8,
        has_separate_colour_planes,
        poc_lsb_bits,
        facts,
    })
}

/// Section 7.3.3.
fn profile_tier_level(bits: &mut Bits<'_>, max_sub_layers: u8) -> Result<[u8; 12], String> {
    let mut general = [0; 12];
    for byte in &mut general {
        *byte = bits.bits(8, "profile_tier_level")? as u8;
    }
    let mut present = 0;
    for _ in 1..max_sub_layers {
        let profile = bits.flag("sub_layer_profile_present_flag")?;
        let level = bits.flag("sub_layer_level_present_flag")?;
        present += u32::from(profile) * 88 + u32::from(level) * 8;
    }
    if max_sub_layers > 1 {
        bits.skip(u32::from(9 - max_sub_layers) * 2, "reserved_zero_2bits")?;
    }
    bits.skip(present, "sub_layer")?;
    Ok(general)
}

/// From `scaling_list_enabled_flag` to the VUI's timing: (frames, seconds).
fn frame_rate(bits: &mut Bits<'_>, poc_lsb_bits: u8) -> Result<Option<(u32, u32)>, String> {
    if bits.flag("scaling_list_enabled_flag")? && bits.flag("sps_scaling_list_data_present_flag")? {
        scaling_lists(bits)?;
    }
    bits.skip(2, "amp_enabled_flag, sample_adaptive_offset_enabled_flag")?;
    if bits.flag("pcm_enabled_flag")? {
        bits.skip(8, "pcm_sample_bit_depth")?;
        bits.ue("log2_min_pcm_luma_coding_block_size_minus3", 16)?;
        bits.ue("log2_diff_max_min_pcm_luma_coding_block_size", 16)?;
        bits.skip(1, "pcm_loop_filter_disabled_flag")?;
    }
    let count = bits.ue("num_short_term_ref_pic_sets", 64)?;
    let mut deltas = 0;
    for index in 0..count {
        deltas = short_term_reference_set(bits, index, deltas)?;
    }
    if bits.flag("long_term_ref_pics_present_flag")? {
        for _ in 0..bits.ue("num_long_term_ref_pics_sps", 32)? {
            bits.skip(u32::from(poc_lsb_bits) + 1, "lt_ref_pic_poc_lsb_sps")?;
        }
    }
    bits.skip(2, "sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag")?;
    if !bits.flag("vui_parameters_present_flag")? {
        return Ok(None);
    }
    vui_timing(bits)
}

/// Section E.2.1, up to `vui_time_scale`. A picture lasts one tick; where pictures are fields, a frame lasts two.
fn vui_timing(bits: &mut Bits<'_>) -> Result<Option<(u32, u32)>, String> {
    if bits.flag("aspect_ratio_info_present_flag")? && bits.bits(8, "aspect_ratio_idc")? == 255 {
        bits.skip(32, "sar_width, sar_height")?;
    }
    if bits.flag("overscan_info_present_flag")? {
        bits.skip(1, "overscan_appropriate_flag")?;
    }
    if bits.flag("video_signal_type_present_flag")? {
        bits.skip(4, "video_format, video_full_range_flag")?;
        if bits.flag("colour_description_present_flag")? {
            bits.skip(24, "colour_primaries, transfer_characteristics, matrix_coeffs")?;
        }
    }
    if bits.flag("chroma_loc_info_present_flag")? {
        bits.ue("chroma_sample_loc_type_top_field", 5)?;
        bits.ue("chroma_sample_loc_type_bottom_field", 5)?;
    }
    bits.skip(3, "neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag")?;
    if bits.flag("default_display_window_flag")? {
        for _ in 0..4 {
            bits.ue("def_disp_win_offset", u32::MAX - 1)?;
        }
    }
    if !bits.flag("vui_timing_info_present_flag")? {
        return Ok(None);
    }
    let seconds = bits.bits(32, "vui_num_units_in_tick")?;
    let frames = bits.bits(32, "vui_time_scale")?;
    let plausible = seconds > 0 && frames > 0 && frames / seconds <= 240;
    Ok(plausible.then_some((frames, seconds)))
}

/// Section 7.3.4.
fn scaling_lists(bits: &mut Bits<'_>) -> Result<(), String> {
    for size in 0..4_u32 {
        for _ in (0..6).step_by(if size == 3 { 3 } else { 1 }) {
            if !bits.flag("scaling_list_pred_mode_flag")? {
                bits.ue("scaling_list_pred_matrix_id_delta", 5)?;
                continue;
            }
            if size > 1 {
                bits.se("scaling_list_dc_coef_minus8")?;
            }
            for _ in 0..64.min(1 << (4 + (size << 1))) {
                bits.se("scaling_list_delta_coef")?;
            }
        }
    }
    Ok(())
}

/// Section 7.3.7. `before` is `NumDeltaPocs` of the set before; returns that of this one.
fn short_term_reference_set(bits: &mut Bits<'_>, index: u32, before: u32) -> Result<u32, String> {
    if index > 0 && bits.flag("inter_ref_pic_set_prediction_flag")? {
        bits.skip(1, "delta_rps_sign")?;
        bits.ue("abs_delta_rps_minus1", 1 << 15)?;
        let mut deltas = 0;
        for _ in 0..=before {
            let counts = bits.flag("used_by_curr_pic_flag")? || bits.flag("use_delta_flag")?;
            deltas += u32::from(counts);
        }
        return Ok(deltas);
    }
    let deltas = bits.ue("num_negative_pics", 16)? + bits.ue("num_positive_pics", 16)?;
    for _ in 0..deltas {
        bits.ue("delta_poc_minus1", 1 << 15)?;
        bits.skip(1, "used_by_curr_pic_flag")?;
    }
    Ok(deltas)
}

//! From NAL units in any dress to pictures in one form.
//!
//! Feeds on Annex B bytes ([`Assembler::push_annex_b`]) or on pictures that the transport has already delimited
//! ([`Assembler::push_picture`]). Parameter sets are taken out, remembered by id, and given with each IDR that
//! refers to them. A "key frame" that holds parameter sets and no IDR yields nothing by itself; its sets serve the
//! IDR that follows. Nothing comes out before the first IDR, nor after damage until the next one. In H.265 any IRAP
//! picture is as good as an IDR; RASL pictures behind one that decoding starts at are left out.
//!
//! The two fields of an interlaced frame become one picture, as MP4 and Matroska want it. Where the transport delimits
//! pictures, it decides: RTP has a picture for each field.
//!
//! Deliberately absent: redundant and auxiliary pictures, and the layers of scalable streams.

mod sets;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use self::sets::Sets;
use crate::annex_b::Splitter;
use crate::nal::{LENGTH_SIZE, LengthPrefixed, NalKind, NalUnit};
use crate::parameter_sets::slice_pps_id;
use crate::slice::H264Head;
use crate::{Codec, ParameterSets};

/// A coded picture that has no timestamp yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Whether decoding can start here.
    pub is_idr: bool,
    /// Length-prefixed NAL units.
    pub data: Bytes,
    /// The sets it refers to; on every IDR.
    pub parameter_sets: Option<Arc<ParameterSets>>,
}

/// What did not become a picture, counted since the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Losses {
    /// NAL units that break the syntax.
    pub malformed: u64,
    /// Pictures left out while waiting for an IDR, and RASL pictures behind the IRAP picture that decoding started at.
    pub skipped_to_idr: u64,
    /// IDR pictures whose parameter sets were never seen.
    pub without_parameter_sets: u64,
    /// Bytes between NAL units that belong to none.
    pub garbage_bytes: u64,
}

/// Puts pictures together. `T` is the time of arrival, carried from a picture's first byte to its delivery.
pub struct Assembler<T> {
    codec: Codec,
    splitter: Splitter,
    /// When the unit that the splitter holds began to arrive.
    unit_since: Option<T>,
    sets: Sets,
    open: BytesMut,
    open_since: Option<T>,
    has_slice: bool,
    is_idr: bool,
    is_rasl: bool,
    idr_pps: Option<u8>,
    /// The picture so far is the first field of a frame.
    first_field: Option<H264Head>,
    wait_for_idr: bool,
    /// The last IRAP picture is where decoding starts.
    skip_rasl: bool,
    losses: Losses,
}

/// For H.264.
impl<T: Copy> Default for Assembler<T> {
    fn default() -> Self {
        Self::new(Codec::H264)
    }
}

impl<T: Copy> Assembler<T> {
    /// For streams in `codec`.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            splitter: Splitter::default(),
            unit_since: None,
            sets: Sets::new(codec),
            open: BytesMut::new(),
            open_since: None,
            has_slice: false,
            is_idr: false,
            is_rasl: false,
            idr_pps: None,
            first_field: None,
            wait_for_idr: true,
            skip_rasl: false,
            losses: Losses::default(),
        }
    }

    /// What it is for.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Makes parameter sets known that came out of band: from an SDP, an `avcC` or `hvcC`, or an earlier connection.
    pub fn learn(&mut self, sets: &ParameterSets) {
        if sets.codec() == self.codec {
            for unit in sets.units() {
                self.sets.remember(unit);
            }
        }
    }

    /// Takes bytes of an Annex B stream that arrived at `at`.
    pub fn push_annex_b(&mut self, bytes: &[u8], at: T, mut out: impl FnMut(Picture, T)) {
        let mut splitter = std::mem::take(&mut self.splitter);
        splitter.push(bytes, |unit| {
            let since = self.unit_since.replace(at).unwrap_or(at);
            if let Some(unit) = NalUnit::new(self.codec, unit) {
                self.push_unit(unit, since, &mut out);
            }
        });
        self.losses.garbage_bytes = splitter.skipped();
        // The header of the next unit shows whether the picture is complete: no need to wait for the rest of it.
        match splitter.partial().filter(|head| head.len() >= 3).and_then(|head| NalUnit::new(self.codec, head)) {
            // Of a field more than the header would have to be seen.
            Some(next) if self.first_field.is_none() && self.ends_picture(next) => self.close(at, &mut out),
            _ => {}
        }
        if splitter.partial().is_some() {
            self.unit_since.get_or_insert(at);
        } else {
            self.unit_since = None;
        }
        self.splitter = splitter;
    }

    /// The Annex B stream has ended or its writer has gone: delivers the last picture.
    pub fn finish(&mut self, at: T, mut out: impl FnMut(Picture, T)) {
        let mut splitter = std::mem::take(&mut self.splitter);
        let since = self.unit_since.take().unwrap_or(at);
        splitter.finish(|unit| {
            if let Some(unit) = NalUnit::new(self.codec, unit) {
                self.push_unit(unit, since, &mut out);
            }
        });
        self.splitter = splitter;
        self.close(at, &mut out);
    }

    /// Takes the length-prefixed NAL units of one picture. Where nothing has to be taken out, `data` is passed on
    /// without a copy.
    pub fn push_picture(&mut self, data: Bytes) -> Option<Picture> {
        let mut keep = true;
        let mut slices = 0;
        for unit in LengthPrefixed::new(self.codec, &data) {
            let Ok(unit) = unit else {
                self.losses.malformed += 1;
                self.lost();
                return None;
            };
            if unit.is_slice() {
                slices += 1;
                continue;
            }
            keep = false;
            if unit.is_parameter_set() {
                self.sets.remember(unit.bytes());
            }
        }
        if slices == 0 {
            return None;
        }
        let mut picture = None;
        if keep {
            let first = LengthPrefixed::new(self.codec, &data).next().and_then(Result::ok)?;
            self.begin(first);
            picture = self.deliver(data);
        } else {
            for unit in LengthPrefixed::new(self.codec, &data).flatten() {
                self.append(unit);
            }
            let data = self.open.split().freeze();
            if !data.is_empty() {
                picture = self.deliver(data);
            }
        }
        self.clear();
        picture
    }

    /// Something is missing from the stream: what follows is skipped up to the next IDR.
    pub fn lost(&mut self) {
        self.clear();
        self.wait_for_idr = true;
    }

    /// What did not become a picture so far.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    fn clear(&mut self) {
        self.open.clear();
        self.open_since = None;
        self.has_slice = false;
        self.is_idr = false;
        self.is_rasl = false;
        self.idr_pps = None;
        self.first_field = None;
    }

    /// `slice` is the first of its picture.
    fn begin(&mut self, slice: NalUnit<'_>) {
        self.is_idr = slice.kind() == NalKind::IdrSlice;
        self.is_rasl = slice.kind() == NalKind::RaslSlice;
        self.idr_pps = slice_pps_id(self.codec, slice.bytes());
        self.first_field = self.head(slice).filter(|head| head.field.is_some());
    }

    fn head(&self, slice: NalUnit<'_>) -> Option<H264Head> {
        let syntax = self.sets.h264_syntax(slice_pps_id(self.codec, slice.bytes())?)?;
        H264Head::parse(slice.bytes(), syntax)
    }

    /// Whether the picture before `unit` is complete: a unit has come that can only precede a picture, or the next
    /// picture's first slice (H.264 section 7.4.1.2.3, H.265 section 7.4.2.4.4).
    fn ends_picture(&self, unit: NalUnit<'_>) -> bool {
        match unit.kind() {
            _ if !self.has_slice => false,
            NalKind::Slice | NalKind::IdrSlice | NalKind::RaslSlice if unit.starts_picture() => {
                !matches!(self.first_field, Some(first) if self.head(unit).is_some_and(|next| first.is_completed_by(&next)))
            }
            // What stands between the fields of a frame ends nothing: the slice that follows does, if it is another's.
            NalKind::Vps | NalKind::Sps | NalKind::Pps | NalKind::Delimiter => self.first_field.is_none(),
            // In H.265 it may stand among the slices of its picture (section 7.4.2.4.4).
            NalKind::Sei => self.first_field.is_none() && self.codec == Codec::H264,
            _ => false,
        }
    }

    fn push_unit(&mut self, unit: NalUnit<'_>, at: T, out: &mut impl FnMut(Picture, T)) {
        if !unit.is_well_formed() {
            self.losses.malformed += 1;
            self.lost();
            return;
        }
        if self.ends_picture(unit) {
            self.close(at, out);
        }
        self.open_since.get_or_insert(at);
        let is_slice = unit.is_slice() && unit.kind() != NalKind::IdrSlice;
        if is_slice && !self.has_slice && !unit.starts_picture() {
            self.losses.malformed += 1;
            self.lost();
            return;
        }
        self.append(unit);
    }

    fn append(&mut self, unit: NalUnit<'_>) {
        if unit.is_slice() {
            if !self.has_slice {
                self.begin(unit);
            } else if unit.starts_picture() {
                // The second field.
                self.first_field = None;
            }
            self.has_slice = true;
            self.put(unit.bytes());
        } else if unit.is_parameter_set() && self.sets.remember(unit.bytes()) && !self.wait_for_idr {
            // Sets that change between IDRs stay in band as well: the pictures up to the next IDR need them.
            self.put(unit.bytes());
        }
    }

    fn put(&mut self, unit: &[u8]) {
        self.open.reserve(LENGTH_SIZE + unit.len());
        // The splitter's limit keeps lengths far below 32 bits.
        self.open.put_u32(unit.len() as u32);
        self.open.put_slice(unit);
    }

    fn close(&mut self, at: T, out: &mut impl FnMut(Picture, T)) {
        let since = self.open_since.unwrap_or(at);
        if self.has_slice {
            let data = self.open.split().freeze();
            if let Some(picture) = self.deliver(data) {
                out(picture, since);
            }
        }
        self.clear();
    }

    fn deliver(&mut self, data: Bytes) -> Option<Picture> {
        if !self.is_idr {
            if self.wait_for_idr || (self.is_rasl && self.skip_rasl) {
                self.losses.skipped_to_idr += 1;
                return None;
            }
            return Some(Picture { is_idr: false, data, parameter_sets: None });
        }
        let Some(sets) = self.idr_pps.and_then(|pps| self.sets.active(pps)) else {
            self.losses.without_parameter_sets += 1;
            self.wait_for_idr = true;
            return None;
        };
        self.skip_rasl = self.wait_for_idr;
        self.wait_for_idr = false;
        let data = without_parameter_sets(self.codec, data);
        Some(Picture { is_idr: true, data, parameter_sets: Some(sets) })
    }
}

/// An IDR carries its sets apart: sets that came in band with it and differ from the last ones were kept so far.
fn without_parameter_sets(codec: Codec, data: Bytes) -> Bytes {
    if !LengthPrefixed::new(codec, &data).flatten().any(NalUnit::is_parameter_set) {
        return data;
    }
    let mut out = BytesMut::with_capacity(data.len());
    for unit in LengthPrefixed::new(codec, &data).flatten().filter(|unit| !unit.is_parameter_set()) {
        out.put_u32(unit.bytes().len() as u32);
        out.put_slice(unit.bytes());
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter_sets::tests::{HVCC, PPS, SPS_720P};

    const AUD: &[u8] = &[0x09, 0xf0];
    const SEI: &[u8] = &[0x06, 5, 1, 1, 0x80];
    const IDR: &[u8] = &[0x65, 0x88, 0x80, 1];
    const IDR_SECOND_SLICE: &[u8] = &[0x65, 0x42, 0x80, 2];
    const P: &[u8] = &[0x41, 0x9a, 0x80, 3];
    const FILLER: &[u8] = &[0x0c, 0xff, 0xff, 0x80];

    fn stream(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
    }

    fn assemble(units: &[&[u8]]) -> (Vec<Picture>, Losses) {
        let mut assembler = Assembler::default();
        let mut pictures = Vec::new();
        assembler.push_annex_b(&stream(units), (), |picture, ()| pictures.push(picture));
        assembler.finish((), |picture, ()| pictures.push(picture));
        (pictures, assembler.losses())
    }

    /// Each picture as (IDR, NAL units inside, parameter sets given).
    fn shape(pictures: &[Picture]) -> Vec<(bool, usize, bool)> {
        let units = |p: &Picture| LengthPrefixed::new(Codec::H264, &p.data).flatten().count();
        pictures.iter().map(|p| (p.is_idr, units(p), p.parameter_sets.is_some())).collect()
    }

    #[test]
    fn pictures_come_out_of_any_dress() {
        let check = |units: &[&[u8]], expected: &[(bool, usize, bool)]| {
            assert_eq!(shape(&assemble(units).0), expected, "{units:x?}");
        };
        let idr = (true, 1, true);
        let p = (false, 1, false);
        check(&[SPS_720P, PPS, IDR, P, P], &[idr, p, p]);
        check(&[AUD, SPS_720P, PPS, SEI, IDR, AUD, P, FILLER, AUD, P], &[idr, p, p]);
        check(&[SPS_720P, PPS, IDR, IDR_SECOND_SLICE, P], &[(true, 2, true), p]);
        check(&[SPS_720P, PPS, IDR, P, SPS_720P, PPS, IDR], &[idr, p, idr]);
        check(&[SPS_720P, PPS, IDR, IDR, P], &[idr, idr, p]);
        // A "key frame" of parameter sets alone, then one with the IDR (NUUO Crystal).
        check(&[SPS_720P, PPS, SEI, SPS_720P, PPS, IDR, P], &[idr, p]);
        // Nothing before the first IDR, and no IDR without its sets.
        check(&[P, P, SPS_720P, PPS, IDR], &[idr]);
        check(&[IDR, P, SPS_720P, PPS, IDR], &[idr]);
        check(&[SPS_720P, PPS], &[]);
    }

    #[test]
    fn losses_are_counted_and_skipped_to_the_next_idr() {
        let damaged = &[0xe5, 1, 2][..];
        let (pictures, losses) = assemble(&[SPS_720P, PPS, IDR, P, damaged, P, P, IDR, P]);
        assert_eq!(shape(&pictures), [(true, 1, true), (true, 1, true), (false, 1, false)]);
        assert_eq!((losses.malformed, losses.skipped_to_idr), (1, 2));
        assert_eq!(assemble(&[IDR, IDR]).1.without_parameter_sets, 2);
    }

    #[test]
    fn sets_that_change_between_idrs_stay_in_band() {
        let other_pps = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc1][..];
        let (pictures, _) = assemble(&[SPS_720P, PPS, IDR, other_pps, P, P, IDR]);
        assert_eq!(shape(&pictures), [(true, 1, true), (false, 2, false), (false, 1, false), (true, 1, true)]);
        let sets = pictures[3].parameter_sets.as_ref().expect("an IDR has sets");
        assert_eq!(sets.pps(), [other_pps]);
    }

    #[test]
    fn h265_begins_at_any_irap_picture_and_leaves_out_what_cannot_be_decoded() {
        let sets = ParameterSets::from_hevc_configuration(HVCC).expect("valid");
        // first_slice_segment_in_pic_flag, no_output_of_prior_pics_flag, slice_pic_parameter_set_id 0.
        let [idr, cra] = [&[0x26, 1, 0xaf, 9][..], &[0x2a, 1, 0xaf, 9]];
        let [trail, rasl, radl] = [&[0x02, 1, 0xd0, 9][..], &[0x10, 1, 0xd0, 9], &[0x0c, 1, 0xd0, 9]];
        let second = &[0x02, 1, 0x50, 9][..];
        let [prefix_sei, suffix_sei, aud] = [&[0x4e, 1, 5][..], &[0x50, 1, 5], &[0x46, 1, 0x50]];
        let check = |units: &[&[u8]], expected: &[(bool, usize, bool)]| {
            let mut assembler = Assembler::new(Codec::H265);
            let mut pictures = Vec::new();
            let units = sets.units().map(|unit| &unit[..]).chain(units.iter().copied()).collect::<Vec<_>>();
            assembler.push_annex_b(&stream(&units), (), |picture, ()| pictures.push(picture));
            assembler.finish((), |picture, ()| pictures.push(picture));
            let slices = |p: &Picture| LengthPrefixed::new(Codec::H265, &p.data).flatten().count();
            let found: Vec<_> = pictures.iter().map(|p| (p.is_idr, slices(p), p.parameter_sets.is_some())).collect();
            assert_eq!(found, expected, "{units:x?}");
        };
        let [start, p] = [(true, 1, true), (false, 1, false)];
        check(&[idr, trail, second, suffix_sei, aud, prefix_sei, trail], &[start, (false, 2, false), p]);
        check(&[trail, cra, rasl, radl, trail], &[start, p, p]);
        check(&[idr, trail, cra, rasl, trail], &[start, p, start, p, p]);
        check(&[idr, trail, prefix_sei, second, trail], &[start, (false, 2, false), p]);
    }

    #[test]
    fn the_fields_of_a_frame_are_one_picture() {
        // x264, 64x64, interlaced: frame_mbs_only_flag is 0. Slices: first_mb 0, type, PPS 0, frame_num in 4 bits.
        let sps = &[
            0x67, 0x4d, 0x40, 0x15, 0xf2, 0x08, 0x9b, 0x01, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x21, 0xf1, 0x42, 0xa4,
            0x80,
        ][..];
        let syntax = crate::parameter_sets::h264_sps(sps).expect("valid").1;
        let slice = |header: u8, frame_num: u32, field: &str| {
            let idr = if header & 0x1f == 5 { "1" } else { "" };
            let bits = format!("1{}1{frame_num:04b}{field}{idr}000000000000000000000", "00110");
            let bits: Vec<u8> = bits.bytes().map(|bit| bit - b'0').collect();
            let bytes = bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit));
            std::iter::once(header).chain(bytes).chain([0x80]).collect::<Vec<u8>>()
        };
        let [frame, top, bottom] = ["0", "10", "11"];
        assert!(H264Head::parse(&slice(0x65, 0, top), syntax).is_some_and(|head| head.field.is_some()));
        let check = |slices: &[(u8, u32, &str)], expected: &[usize]| {
            let mut units = vec![sps.to_vec(), PPS.to_vec()];
            slices
                .iter()
                .for_each(|&(header, number, field)| units.extend([AUD.to_vec(), slice(header, number, field)]));
            let units: Vec<&[u8]> = units.iter().map(|unit| &unit[..]).collect();
            let found: Vec<usize> = shape(&assemble(&units).0).iter().map(|picture| picture.1).collect();
            assert_eq!(found, expected, "{slices:?}");
        };
        check(&[(0x65, 0, top), (0x41, 0, bottom), (0x41, 1, top), (0x41, 1, bottom)], &[2, 2]);
        check(&[(0x65, 0, bottom), (0x65, 0, top), (0x41, 1, frame), (0x41, 2, frame)], &[2, 1, 1]);
        // One field is missing, or two of a kind follow each other.
        check(&[(0x65, 0, top), (0x41, 1, top), (0x41, 1, bottom)], &[1, 2]);
        check(&[(0x65, 0, top), (0x41, 1, bottom)], &[1, 1]);
    }

    #[test]
    fn delimited_pictures_pass_without_a_copy() {
        let prefixed = |units: &[&[u8]]| {
            Bytes::from(units.iter().flat_map(|u| [&(u.len() as u32).to_be_bytes(), *u].concat()).collect::<Vec<_>>())
        };
        let mut assembler = Assembler::<()>::default();
        let key = assembler.push_picture(prefixed(&[AUD, SPS_720P, PPS, SEI, IDR])).expect("a picture");
        assert_eq!(shape(&[key]), [(true, 1, true)]);
        let data = prefixed(&[P]);
        let picture = assembler.push_picture(data.clone()).expect("a picture");
        assert_eq!(picture.data.as_ptr(), data.as_ptr());
        assert_eq!(assembler.push_picture(prefixed(&[SPS_720P, PPS])), None);
        assert_eq!(assembler.push_picture(Bytes::from_static(&[0, 0, 0, 9, 1])), None);
        assert_eq!(assembler.push_picture(data), None, "after damage nothing until the next IDR");
        assert!(assembler.push_picture(prefixed(&[IDR])).is_some_and(|p| p.is_idr));
    }

    #[test]
    fn a_picture_has_the_arrival_of_its_first_byte() {
        let mut assembler = Assembler::default();
        let mut arrivals = Vec::new();
        assembler.push_annex_b(&stream(&[SPS_720P, PPS, IDR]), 1, |_, at| arrivals.push(at));
        assert_eq!(arrivals, [], "nothing tells yet that the picture is complete");
        assembler.push_annex_b(&stream(&[P]), 2, |_, at| arrivals.push(at));
        assert_eq!(arrivals, [1], "the header of the next picture does");
        assembler.push_annex_b(&stream(&[P]), 3, |_, at| arrivals.push(at));
        assembler.finish(9, |_, at| arrivals.push(at));
        assert_eq!(arrivals, [1, 2, 3]);
    }
}

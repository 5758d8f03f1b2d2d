//! From NAL units in any dress to pictures in one form.
//!
//! Feeds on Annex B bytes ([`Assembler::push_annex_b`]) or on pictures that the transport has already delimited
//! ([`Assembler::push_picture`]). Parameter sets are taken out, remembered by id, and given with each IDR that
//! refers to them. A "key frame" that holds parameter sets and no IDR yields nothing by itself; its sets serve the
//! IDR that follows. Nothing comes out before the first IDR, nor after damage until the next one.
//!
//! Deliberately absent: merging the two fields of an interlaced frame, and redundant or auxiliary pictures.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::annex_b::Splitter;
use crate::nal::{LENGTH_SIZE, LengthPrefixed, NalKind, NalUnit};
use crate::parameter_sets::{pps_ids, slice_pps_id, sps_id};
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
    /// Pictures left out while waiting for an IDR.
    pub skipped_to_idr: u64,
    /// IDR pictures whose parameter sets were never seen.
    pub without_parameter_sets: u64,
    /// Bytes between NAL units that belong to none.
    pub garbage_bytes: u64,
}

/// Puts pictures together. `T` is the time of arrival, carried from a picture's first byte to its delivery.
pub struct Assembler<T> {
    splitter: Splitter,
    /// When the unit that the splitter holds began to arrive.
    unit_since: Option<T>,
    sets: Sets,
    open: BytesMut,
    open_since: Option<T>,
    has_slice: bool,
    is_idr: bool,
    idr_pps: Option<u8>,
    wait_for_idr: bool,
    losses: Losses,
}

impl<T: Copy> Default for Assembler<T> {
    fn default() -> Self {
        Self {
            splitter: Splitter::default(),
            unit_since: None,
            sets: Sets::default(),
            open: BytesMut::new(),
            open_since: None,
            has_slice: false,
            is_idr: false,
            idr_pps: None,
            wait_for_idr: true,
            losses: Losses::default(),
        }
    }
}

impl<T: Copy> Assembler<T> {
    /// Makes parameter sets known that came out of band: from an SDP, an `avcC` or an earlier connection.
    pub fn learn(&mut self, sets: &ParameterSets) {
        for unit in std::iter::once(sets.sps()).chain(sets.pps()) {
            self.sets.remember(unit);
        }
    }

    /// Takes bytes of an Annex B stream that arrived at `at`.
    pub fn push_annex_b(&mut self, bytes: &[u8], at: T, mut out: impl FnMut(Picture, T)) {
        let mut splitter = std::mem::take(&mut self.splitter);
        splitter.push(bytes, |unit| {
            let since = self.unit_since.replace(at).unwrap_or(at);
            if let Some(unit) = NalUnit::new(Codec::H264, unit) {
                self.push_unit(unit, since, &mut out);
            }
        });
        self.losses.garbage_bytes = splitter.skipped();
        // The header of the next unit shows whether the picture is complete: no need to wait for the rest of it.
        match splitter.partial().filter(|head| head.len() >= 2).and_then(|head| NalUnit::new(Codec::H264, head)) {
            Some(next) if self.has_slice && ends_picture(next) => self.close(at, &mut out),
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
            if let Some(unit) = NalUnit::new(Codec::H264, unit) {
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
        for unit in LengthPrefixed::new(Codec::H264, &data) {
            let Ok(unit) = unit else {
                self.losses.malformed += 1;
                self.lost();
                return None;
            };
            match unit.kind() {
                NalKind::Slice | NalKind::IdrSlice => slices += 1,
                NalKind::Sps | NalKind::Pps => {
                    self.sets.remember(unit.bytes());
                    keep = false;
                }
                _ => keep = false,
            }
        }
        if slices == 0 {
            return None;
        }
        let mut picture = None;
        if keep {
            let first = LengthPrefixed::new(Codec::H264, &data).next().and_then(Result::ok)?;
            self.is_idr = first.kind() == NalKind::IdrSlice;
            self.idr_pps = slice_pps_id(first.bytes());
            picture = self.deliver(data);
        } else {
            for unit in LengthPrefixed::new(Codec::H264, &data).flatten() {
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
        self.idr_pps = None;
    }

    fn push_unit(&mut self, unit: NalUnit<'_>, at: T, out: &mut impl FnMut(Picture, T)) {
        if !unit.is_well_formed() {
            self.losses.malformed += 1;
            self.lost();
            return;
        }
        if self.has_slice && ends_picture(unit) {
            self.close(at, out);
        }
        self.open_since.get_or_insert(at);
        if unit.kind() == NalKind::Slice && !self.has_slice && !unit.starts_picture() {
            self.losses.malformed += 1;
            self.lost();
            return;
        }
        self.append(unit);
    }

    fn append(&mut self, unit: NalUnit<'_>) {
        match unit.kind() {
            NalKind::Slice | NalKind::IdrSlice => {
                if !self.has_slice {
                    self.is_idr = unit.kind() == NalKind::IdrSlice;
                    self.idr_pps = slice_pps_id(unit.bytes());
                }
                self.has_slice = true;
                self.put(unit.bytes());
            }
            // Sets that change between IDRs stay in band as well: the pictures up to the next IDR need them.
            NalKind::Sps | NalKind::Pps if self.sets.remember(unit.bytes()) && !self.wait_for_idr => {
                self.put(unit.bytes());
            }
            _ => {}
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
            if self.wait_for_idr {
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
        self.wait_for_idr = false;
        let data = without_parameter_sets(data);
        Some(Picture { is_idr: true, data, parameter_sets: Some(sets) })
    }
}

/// Whether the picture before `unit` is complete: a unit has come that can only precede a picture, or the next
/// picture's first slice (H.264 section 7.4.1.2.3).
fn ends_picture(unit: NalUnit<'_>) -> bool {
    match unit.kind() {
        NalKind::Slice | NalKind::IdrSlice => unit.starts_picture(),
        NalKind::Sps | NalKind::Pps | NalKind::Sei | NalKind::Delimiter => true,
        _ => false,
    }
}

/// An IDR carries its sets apart: sets that came in band with it and differ from the last ones were kept so far.
fn without_parameter_sets(data: Bytes) -> Bytes {
    let is_set = |unit: NalUnit<'_>| matches!(unit.kind(), NalKind::Sps | NalKind::Pps);
    if !LengthPrefixed::new(Codec::H264, &data).flatten().any(is_set) {
        return data;
    }
    let mut out = BytesMut::with_capacity(data.len());
    for unit in LengthPrefixed::new(Codec::H264, &data).flatten().filter(|unit| !is_set(*unit)) {
        out.put_u32(unit.bytes().len() as u32);
        out.put_slice(unit.bytes());
    }
    out.freeze()
}

/// The parameter sets seen last, by id. A stream may hold several; an IDR's slice says which one it means.
#[derive(Default)]
struct Sets {
    sps: Vec<(u8, Bytes)>,
    pps: Vec<(u8, u8, Bytes)>,
    built: Option<(u8, Arc<ParameterSets>)>,
}

impl Sets {
    /// Returns whether the set is new or differs from the one known under its id. What cannot be read is ignored.
    fn remember(&mut self, unit: &[u8]) -> bool {
        let changed = match NalUnit::new(Codec::H264, unit).map(NalUnit::kind) {
            Some(NalKind::Sps) => {
                if self.sps.iter().any(|(_, known)| known == unit) {
                    return false;
                }
                let Ok(id) = sps_id(unit) else { return false };
                self.sps.retain(|(known, _)| *known != id);
                self.sps.push((id, Bytes::copy_from_slice(unit)));
                true
            }
            Some(NalKind::Pps) => {
                if self.pps.iter().any(|(_, _, known)| known == unit) {
                    return false;
                }
                let Ok((id, sps)) = pps_ids(unit) else { return false };
                self.pps.retain(|(known, _, _)| *known != id);
                self.pps.push((id, sps, Bytes::copy_from_slice(unit)));
                true
            }
            _ => false,
        };
        if changed {
            self.built = None;
        }
        changed
    }

    /// The sets that a slice with this `pic_parameter_set_id` refers to; the same `Arc` as long as they stay the same.
    fn active(&mut self, pps_id: u8) -> Option<Arc<ParameterSets>> {
        if let Some((id, sets)) = &self.built
            && *id == pps_id
        {
            return Some(sets.clone());
        }
        let sps_id = self.pps.iter().find(|(id, _, _)| *id == pps_id)?.1;
        let sps = self.sps.iter().find(|(id, _)| *id == sps_id)?.1.clone();
        let pps = self.pps.iter().filter(|(_, sps, _)| *sps == sps_id).map(|(_, _, unit)| unit.clone()).collect();
        let sets = Arc::new(ParameterSets::h264(sps, pps).ok()?);
        self.built = Some((pps_id, sets.clone()));
        Some(sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter_sets::tests::{PPS, SPS_720P};

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

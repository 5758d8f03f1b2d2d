//! The parameter sets of a stream that have been seen last, by id.

use std::sync::Arc;

use bytes::Bytes;

use crate::nal::{NalKind, NalUnit};
use crate::parameter_sets::{h264_sps, h265_sps_ids, pps_ids, vps_id};
use crate::slice::H264Syntax;
use crate::{Codec, ParameterSets};

/// Longest set: decoder configuration records have 16 bits for its length (ISO/IEC 14496-15 section 5.3.3.1).
const LONGEST: usize = u16::MAX as usize;

/// A stream may hold several of each; an IDR's slice says which one it means.
pub(super) struct Sets {
    codec: Codec,
    vps: Vec<(u8, Bytes)>,
    sps: Vec<Sps>,
    pps: Vec<(u8, u8, Bytes)>,
    built: Option<(u8, Arc<ParameterSets>)>,
}

struct Sps {
    id: u8,
    vps_id: u8,
    h264: Option<H264Syntax>,
    unit: Bytes,
}

impl Sets {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, vps: Vec::new(), sps: Vec::new(), pps: Vec::new(), built: None }
    }

    /// Returns whether the set is new or differs from the one known under its id. What cannot be read is ignored, and so
    /// is what is longer than any set may be: up to 256 are kept.
    pub(super) fn remember(&mut self, unit: &[u8]) -> bool {
        if unit.len() > LONGEST {
            return false;
        }
        let changed = match NalUnit::new(self.codec, unit).map(NalUnit::kind) {
            Some(NalKind::Vps) => self.remember_vps(unit),
            Some(NalKind::Sps) => self.remember_sps(unit),
            Some(NalKind::Pps) => self.remember_pps(unit),
            _ => None,
        };
        if changed.is_some() {
            self.built = None;
        }
        changed.is_some()
    }

    fn remember_vps(&mut self, unit: &[u8]) -> Option<()> {
        if self.vps.iter().any(|(_, known)| known == unit) {
            return None;
        }
        let id = vps_id(unit)?;
        self.vps.retain(|(known, _)| *known != id);
        self.vps.push((id, Bytes::copy_from_slice(unit)));
        Some(())
    }

    fn remember_sps(&mut self, unit: &[u8]) -> Option<()> {
        if self.sps.iter().any(|known| known.unit == unit) {
            return None;
        }
        let (id, vps_id, h264) = match self.codec {
            Codec::H264 => h264_sps(unit).ok().map(|(id, syntax)| (id, 0, Some(syntax)))?,
            Codec::H265 => h265_sps_ids(unit).ok().map(|(id, vps_id)| (id, vps_id, None))?,
        };
        self.sps.retain(|known| known.id != id);
        self.sps.push(Sps { id, vps_id, h264, unit: Bytes::copy_from_slice(unit) });
        Some(())
    }

    fn remember_pps(&mut self, unit: &[u8]) -> Option<()> {
        if self.pps.iter().any(|(_, _, known)| known == unit) {
            return None;
        }
        let (id, sps) = pps_ids(self.codec, unit).ok()?;
        self.pps.retain(|(known, _, _)| *known != id);
        self.pps.push((id, sps, Bytes::copy_from_slice(unit)));
        Some(())
    }

    /// How to read the head of a slice of H.264 with this `pic_parameter_set_id`.
    pub(super) fn h264_syntax(&self, pps_id: u8) -> Option<H264Syntax> {
        self.sps_of(pps_id)?.h264
    }

    fn sps_of(&self, pps_id: u8) -> Option<&Sps> {
        let sps_id = self.pps.iter().find(|(id, _, _)| *id == pps_id)?.1;
        self.sps.iter().find(|sps| sps.id == sps_id)
    }

    /// The sets that a slice with this `pic_parameter_set_id` refers to; the same `Arc` as long as they stay the same.
    pub(super) fn active(&mut self, pps_id: u8) -> Option<Arc<ParameterSets>> {
        if let Some((id, sets)) = &self.built
            && *id == pps_id
        {
            return Some(sets.clone());
        }
        let sps = self.sps_of(pps_id)?;
        let pps = self.pps.iter().filter(|(_, id, _)| *id == sps.id).map(|(_, _, unit)| unit.clone()).collect();
        let sets = match self.codec {
            Codec::H264 => ParameterSets::h264(sps.unit.clone(), pps),
            Codec::H265 => {
                let vps = self.vps.iter().find(|(id, _)| *id == sps.vps_id)?.1.clone();
                ParameterSets::h265(vps, sps.unit.clone(), pps)
            }
        };
        let sets = Arc::new(sets.ok()?);
        self.built = Some((pps_id, sets.clone()));
        Some(sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_a_set_may_be_is_not_kept() {
        let set = |length: usize| {
            let mut unit = vec![0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
            unit.resize(length, 0xff);
            unit
        };
        let mut sets = Sets::new(Codec::H264);
        assert!(!sets.remember(&set(65_536)));
        assert!(sets.remember(&set(65_535)));
        assert!(!sets.remember(&set(65_535)));
    }
}

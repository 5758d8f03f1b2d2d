//! In which order pictures are shown, for streams without timestamps: picture order counts (H.264 section 8.2.1, H.265
//! section 8.3.1) and the bumping that turns them into an output order (H.264 section C.4, H.265 section C.5.2).
//!
//! Deliberately absent: picture order count type 1 of H.264 and `memory_management_control_operation` 5. Pictures of
//! such streams are taken to be shown in the order they are coded in.

use crate::assembler::Picture;
use crate::nal::{LengthPrefixed, NalUnit};
use crate::slice::{H264Head, h265_poc_lsb, h265_pps_id, h265_type};
use crate::{Codec, ParameterSets};

/// Follows the picture order counts of one stream.
#[derive(Debug, Default)]
struct Counts {
    /// Of the last reference picture (H.265: the last one that the counts of others build on).
    msb: i64,
    lsb: i64,
}

impl Counts {
    /// The count of a picture whose lowest `bits` bits are `lsb`.
    fn next(&mut self, lsb: u32, bits: u8, is_first: bool, is_kept: bool) -> i64 {
        let (lsb, span) = (i64::from(lsb), 1_i64 << bits);
        let (before_msb, before_lsb) = if is_first { (0, 0) } else { (self.msb, self.lsb) };
        let msb = if lsb < before_lsb && before_lsb - lsb >= span / 2 {
            before_msb + span
        } else if lsb > before_lsb && lsb - before_lsb > span / 2 {
            before_msb - span
        } else {
            before_msb
        };
        let msb = if is_first { 0 } else { msb };
        if is_kept {
            (self.msb, self.lsb) = (msb, lsb);
        }
        msb + lsb
    }
}

/// A picture and its place among all that are shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The picture.
    pub picture: Picture,
    /// It is shown as the so-manyth, from 0.
    pub shown: u64,
}

/// Finds out when pictures are shown. They come out in the order they went in, at most 16 pictures later.
#[derive(Debug, Default)]
pub struct OutputOrder {
    counts: Counts,
    max_reorder: usize,
    sets: Option<std::sync::Arc<ParameterSets>>,
    /// In decoding order; the place is known of some.
    waiting: std::collections::VecDeque<(Picture, i64, Option<u64>)>,
    next: u64,
}

impl OutputOrder {
    /// Takes the next picture in decoding order; `out` gets those whose place is known.
    pub fn push(&mut self, picture: Picture, out: impl FnMut(Placed)) {
        if let Some(sets) = &picture.parameter_sets {
            self.max_reorder = sets.facts().max_reorder.into();
            self.sets = Some(sets.clone());
        }
        let count = self.count(&picture);
        if picture.is_idr && count.is_none_or(|(_, resets)| resets) {
            self.place_down_to(0);
        }
        match count {
            Some((count, _)) if self.max_reorder > 0 => {
                self.waiting.push_back((picture, count, None));
                self.place_down_to(self.max_reorder);
            }
            _ => {
                self.place_down_to(0);
                self.waiting.push_back((picture, 0, None));
                self.place_down_to(0);
            }
        }
        self.release(out);
    }

    /// The stream has ended: all that wait are placed.
    pub fn finish(&mut self, out: impl FnMut(Placed)) {
        self.place_down_to(0);
        self.release(out);
    }

    /// Places the earliest of those that wait, until only so many are left.
    fn place_down_to(&mut self, most: usize) {
        let mut unplaced = self.waiting.iter().filter(|(_, _, place)| place.is_none()).count();
        while unplaced > most {
            let earliest =
                self.waiting.iter_mut().filter(|(_, _, place)| place.is_none()).min_by_key(|(_, poc, _)| *poc);
            let Some((_, _, place)) = earliest else { return };
            *place = Some(self.next);
            self.next += 1;
            unplaced -= 1;
        }
    }

    fn release(&mut self, mut out: impl FnMut(Placed)) {
        while let Some((picture, _, Some(shown))) = self.waiting.pop_front_if(|(_, _, place)| place.is_some()) {
            out(Placed { picture, shown });
        }
    }

    /// Its picture order count, and whether counting begins anew with it.
    fn count(&mut self, picture: &Picture) -> Option<(i64, bool)> {
        let sets = self.sets.as_ref()?;
        let codec = sets.codec();
        let slice =
            LengthPrefixed::new(codec, &picture.data).flatten().find(|unit| unit.is_slice()).map(NalUnit::bytes)?;
        match codec {
            Codec::H264 => {
                let head = H264Head::parse(slice, sets.h264_syntax()?)?;
                let (lsb, bits) = head.poc?;
                Some((self.counts.next(lsb, bits, picture.is_idr, head.is_reference), picture.is_idr))
            }
            Codec::H265 => {
                let syntax = sets.h265_syntax(h265_pps_id(slice)?)?;
                let lsb = h265_poc_lsb(slice, syntax)?;
                let kind = h265_type(slice)?;
                // IDR and BLA pictures; and a CRA picture that is the first.
                let resets = (16..=20).contains(&kind) || (picture.is_idr && self.waiting.is_empty() && self.next == 0);
                // TemporalId 0, and neither a leading picture nor a sub-layer non-reference picture.
                let is_base = slice.get(1).is_some_and(|byte| byte & 7 == 1);
                let is_kept = is_base && !(6..=9).contains(&kind) && !(kind < 16 && kind % 2 == 0);
                Some((self.counts.next(lsb, syntax.poc_lsb_bits, resets, is_kept), resets))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_wrap_around() {
        let mut counts = Counts::default();
        let mut found = Vec::new();
        for (lsb, first) in [(0, true), (6, false), (4, false), (12, false), (2, false), (8, false), (0, true)] {
            found.push(counts.next(lsb, 4, first, true));
        }
        assert_eq!(found, [0, 6, 4, 12, 18, 24, 0]);
    }

    #[test]
    fn pictures_that_are_not_kept_do_not_count() {
        let mut counts = Counts::default();
        counts.next(0, 4, true, true);
        assert_eq!(counts.next(6, 4, false, false), 6);
        assert_eq!(counts.next(7, 4, false, true), 7);
    }
}

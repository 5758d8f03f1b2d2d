//! Pictures without the weights that weight nothing: H.264 sections 7.3.2.2, 7.3.3 and 7.3.3.2.
//!
//! x264 (OBS, ffmpeg, many gateways) says in its PPS that P slices carry weights for their references, and in nearly every
//! slice that all of them are one. OpenH264 multiplies every sample all the same, which is more than a third of its time.
//! So the table is cut out of the slice, and the flag out of the PPS: the samples that come out are the same.
//! Deliberately absent: B slices, whose weights stay as they are; only decoding here sees what comes out.

use std::ops::Range;

use h264_reader::Context;
use h264_reader::nal::NalHeader;
use h264_reader::nal::pps::PicParameterSet;
use h264_reader::nal::slice::SliceHeader;
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, ByteReader, Numeric, Primitive, decode_nal};

use crate::annex_b;
use crate::nal::LengthPrefixed;
use crate::parameter_sets::parse_sps;
use crate::{Codec, ParameterSets};

/// What a decoder is given in the place of a stream whose P slices carry weights.
pub struct Unweighted {
    context: Context,
    /// The PPS without the flag, in Annex B form.
    sets: Vec<u8>,
}

impl Unweighted {
    /// `None`: no P slice that refers to these carries weights, or they are not understood.
    pub fn new(sets: &ParameterSets) -> Option<Self> {
        if sets.codec() != Codec::H264 {
            return None;
        }
        let mut context = Context::new();
        context.put_seq_param_set(parse_sps(sets.sps()).ok()?);
        let (mut plain, mut has_any) = (Vec::new(), false);
        for pps in sets.pps() {
            let mut bits = Counted::new(pps);
            let parsed = PicParameterSet::from_bits(&context, &mut bits).ok()?;
            has_any |= parsed.weighted_pred_flag;
            context.put_pic_param_set(parsed);
            annex_b::append(&without_flag(pps, bits.flag?)?, &mut plain);
        }
        has_any.then_some(Self { context, sets: plain })
    }

    /// The PPS that [`append`](Self::append)ed pictures refer to, in Annex B form.
    pub fn sets(&self) -> &[u8] {
        &self.sets
    }

    /// Appends the picture in `data` (NAL units behind their lengths) to `out`, in Annex B form and without weights. `false`: it
    /// has weights that count, or is not understood, and `out` is as it was.
    pub fn append(&self, data: &[u8], out: &mut Vec<u8>) -> bool {
        let before = out.len();
        for nal in LengthPrefixed::new(Codec::H264, data) {
            let is_appended = nal.is_ok_and(|nal| self.append_unit(nal.bytes(), out).is_some());
            if !is_appended {
                out.truncate(before);
                return false;
            }
        }
        true
    }

    fn append_unit(&self, nal: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let first = *nal.first()?;
        let kind = first & 0x1f;
        // Data partitions have no table in two of three.
        if matches!(kind, 2..=4) {
            return None;
        }
        // Others have none, or keep theirs; and the library is not to be trusted with headers of SP and SI slices.
        if !(matches!(kind, 1 | 5) && is_p(nal)?) {
            annex_b::append(nal, out);
            return Some(());
        }
        let mut bits = Counted::new(nal);
        let header = NalHeader::new(first).ok()?;
        let (slice, _, pps) = SliceHeader::from_bits(&self.context, &mut &mut bits, header).ok()?;
        let Some(table) = slice.pred_weight_table else {
            annex_b::append(nal, out);
            return Some(());
        };
        let counts =
            table.luma_weights.iter().any(Option::is_some) || table.chroma_weights.iter().any(|w| !w.is_empty());
        if counts {
            return None;
        }
        let body = decode_nal(nal).ok()?;
        let cut = cut(&body, bits.table?, bits.at, pps.entropy_coding_mode_flag)?;
        annex_b::append(&escaped(first, &cut), out);
        Some(())
    }
}

/// Whether a slice is a P slice (table 7-6).
fn is_p(slice: &[u8]) -> Option<bool> {
    let mut bits = BitReader::new(ByteReader::skipping_h264_header(slice));
    bits.read_ue("first_mb_in_slice").ok()?;
    Some(matches!(bits.read_ue("slice_type").ok()?, 0 | 5))
}

/// A PPS whose bit `flag` is not set.
fn without_flag(pps: &[u8], flag: usize) -> Option<Vec<u8>> {
    let mut body = decode_nal(pps).ok()?.into_owned();
    *body.get_mut(flag / 8)? &= !(0x80 >> (flag % 8));
    Some(escaped(*pps.first()?, &body))
}

/// A slice's bits without those of `table`. Its header has `header` bits; what follows is aligned to bytes if it is CABAC.
fn cut(body: &[u8], table: Range<usize>, header: usize, is_cabac: bool) -> Option<Vec<u8>> {
    // The last bit that is set ends it; zeros after that only fill up.
    let last = body.iter().rposition(|byte| *byte != 0)?;
    let end = last * 8 + 8 - body[last].trailing_zeros() as usize;
    let mut out = Bits { bytes: Vec::with_capacity(body.len()), free: 0 };
    out.copy(body, 0..table.start);
    out.copy(body, table.end..header);
    if is_cabac {
        out.fill_with_ones();
        out.bytes.extend_from_slice(body.get(header.div_ceil(8)..=last)?);
    } else {
        out.copy(body, header..end);
    }
    Some(out.bytes)
}

/// Bits that are written.
struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not taken yet.
    free: usize,
}

impl Bits {
    fn copy(&mut self, from: &[u8], range: Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let count = (range.end - at).min(8);
            self.push(byte_at(from, at), count);
            at += count;
        }
    }

    /// The first `count` bits of `bits`, 1 to 8.
    fn push(&mut self, bits: u8, count: usize) {
        let bits = bits & (0xff_u16 << (8 - count)) as u8;
        if self.free == 0 {
            self.bytes.push(0);
            self.free = 8;
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= bits >> (8 - self.free);
        }
        if count > self.free {
            self.bytes.push(bits << self.free);
            self.free += 8;
        }
        self.free -= count;
    }

    /// `cabac_alignment_one_bit` (section 7.3.4).
    fn fill_with_ones(&mut self) {
        if let Some(last) = self.bytes.last_mut() {
            *last |= ((1_u16 << self.free) - 1) as u8;
        }
        self.free = 0;
    }
}

/// The eight bits from bit `at` on, zeros behind the end.
fn byte_at(bytes: &[u8], at: usize) -> u8 {
    let byte = |index| u16::from(bytes.get(index).copied().unwrap_or(0));
    ((byte(at / 8) << 8 | byte(at / 8 + 1)) >> (8 - at % 8)) as u8
}

/// A NAL unit of `header` and `body`: three bytes that would be taken for a start code are told apart (section 7.4.1).
fn escaped(header: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 16);
    out.push(header);
    let mut zeros = 0;
    for &byte in body {
        if zeros == 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        out.push(byte);
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    out
}

/// Reads a header, and notes which bits are which.
struct Counted<'a> {
    inner: BitReader<ByteReader<&'a [u8]>>,
    /// Bits read, from behind the NAL unit's header on.
    at: usize,
    /// Where `weighted_pred_flag` is.
    flag: Option<usize>,
    /// Where `pred_weight_table` is.
    table: Option<Range<usize>>,
}

impl<'a> Counted<'a> {
    fn new(nal: &'a [u8]) -> Self {
        Self { inner: BitReader::new(ByteReader::skipping_h264_header(nal)), at: 0, flag: None, table: None }
    }

    fn note(&mut self, name: &'static str, bits: usize) {
        if name == "weighted_pred_flag" {
            self.flag = Some(self.at);
        }
        let at = self.at;
        self.at += bits;
        if name.starts_with("luma_") || name.starts_with("chroma_") {
            let begun = self.table.get_or_insert(at..at);
            begun.end = self.at;
        }
    }
}

/// Bits of an unsigned Exp-Golomb code (section 9.1).
fn bits_of_ue(value: u32) -> usize {
    2 * (u64::from(value) + 1).ilog2() as usize + 1
}

/// Bits of a signed one (section 9.1.1).
fn bits_of_se(value: i32) -> usize {
    let code = u64::from(value.unsigned_abs()) * 2 - u64::from(value > 0);
    2 * (code + 1).ilog2() as usize + 1
}

impl BitRead for &mut Counted<'_> {
    fn read_ue(&mut self, name: &'static str) -> Result<u32, BitReaderError> {
        let value = self.inner.read_ue(name)?;
        self.note(name, bits_of_ue(value));
        Ok(value)
    }

    fn read_se(&mut self, name: &'static str) -> Result<i32, BitReaderError> {
        let value = self.inner.read_se(name)?;
        self.note(name, bits_of_se(value));
        Ok(value)
    }

    fn read_bool(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        let value = self.inner.read_bool(name)?;
        self.note(name, 1);
        Ok(value)
    }

    fn read<U: Numeric>(&mut self, bit_count: u32, name: &'static str) -> Result<U, BitReaderError> {
        let value = self.inner.read(bit_count, name)?;
        self.note(name, bit_count as usize);
        Ok(value)
    }

    fn read_to<V: Primitive>(&mut self, name: &'static str) -> Result<V, BitReaderError> {
        let value = self.inner.read_to(name)?;
        self.note(name, size_of::<V>() * 8);
        Ok(value)
    }

    fn skip(&mut self, bit_count: u32, name: &'static str) -> Result<(), BitReaderError> {
        self.inner.skip(bit_count, name)?;
        self.note(name, bit_count as usize);
        Ok(())
    }

    fn has_more_rbsp_data(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        self.inner.has_more_rbsp_data(name)
    }

    // What comes after a header is not read.
    fn finish_rbsp(self) -> Result<(), BitReaderError> {
        Ok(())
    }

    fn finish_sei_payload(self) -> Result<(), BitReaderError> {
        Ok(())
    }
}

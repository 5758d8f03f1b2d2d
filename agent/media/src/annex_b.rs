//! Cuts a byte stream as of H.264 Annex B into NAL units, whatever the size of the pieces it comes in; and writes one.
//!
//! Start codes of 3 and 4 bytes, trailing zeros after a unit and leading zeros before the first start code are all
//! legal (Annex B.1) and all seen: some encoders pad a PPS with a zero, which turns the next 4-byte start code
//! into five bytes. Bytes before the first start code belong to no unit and are counted as garbage.

use memchr::memmem::Finder;

/// A NAL unit larger than this is not one: the stream is damaged or is not H.264. 8 MiB holds an intra picture at
/// any level up to 6.2 in practice; fragments of KVS end at 50 MB.
pub const MAX_NAL_SIZE: usize = 8 << 20;

/// Appends a NAL unit, behind a start code of 4 bytes.
pub fn append(unit: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 0, 1]);
    out.extend_from_slice(unit);
}

/// An incremental Annex B splitter.
pub struct Splitter {
    finder: Finder<'static>,
    /// Bytes of the unit being read (after its start code), then what has not been searched yet.
    buffer: Vec<u8>,
    /// `buffer[..searched]` holds no complete start code.
    searched: usize,
    /// Whether a start code has been seen: until then bytes are garbage.
    in_unit: bool,
    skipped: u64,
}

impl Default for Splitter {
    fn default() -> Self {
        Self { finder: Finder::new(&[0, 0, 1]), buffer: Vec::new(), searched: 0, in_unit: false, skipped: 0 }
    }
}

impl Splitter {
    /// Takes the next bytes and calls `unit` with each NAL unit they complete, in order, without start code and
    /// trailing zeros. Empty units are passed over.
    pub fn push(&mut self, bytes: &[u8], mut unit: impl FnMut(&[u8])) {
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(found) = self.finder.find(&self.buffer[self.searched..]) {
            let code = self.searched + found;
            let before = &self.buffer[start..code];
            if self.in_unit {
                emit(before, &mut unit);
            } else {
                self.skipped += trimmed(before).len() as u64;
            }
            self.in_unit = true;
            start = code + 3;
            self.searched = start;
        }
        self.buffer.drain(..start);
        // The last two bytes may be the head of a start code.
        self.searched = self.buffer.len().saturating_sub(2);
        let limit = if self.in_unit { MAX_NAL_SIZE } else { 2 };
        if self.buffer.len() > limit {
            self.skipped += trimmed(&self.buffer[..self.buffer.len() - 2]).len() as u64;
            self.buffer.drain(..self.buffer.len() - 2);
            self.searched = 0;
            self.in_unit = false;
        }
    }

    /// The stream has ended: gives out the last unit and starts afresh.
    pub fn finish(&mut self, mut unit: impl FnMut(&[u8])) {
        if self.in_unit {
            emit(&self.buffer, &mut unit);
        }
        self.reset();
    }

    /// Forgets what has been read, as after a gap in the stream.
    pub fn reset(&mut self) {
        self.buffer.clear();
        self.searched = 0;
        self.in_unit = false;
    }

    /// The head of the unit that is not complete yet.
    pub fn partial(&self) -> Option<&[u8]> {
        self.in_unit.then_some(&self.buffer[..])
    }

    /// Bytes that belonged to no unit, since the beginning.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

fn emit(bytes: &[u8], unit: &mut impl FnMut(&[u8])) {
    let bytes = trimmed(bytes);
    if !bytes.is_empty() {
        unit(bytes);
    }
}

/// Without `trailing_zero_8bits`. A unit never ends in a zero byte itself (H.264 section 7.4.1).
fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, u64) {
        let mut splitter = Splitter::default();
        let mut units = Vec::new();
        for piece in pieces {
            splitter.push(piece, |unit| units.push(unit.to_vec()));
        }
        splitter.finish(|unit| units.push(unit.to_vec()));
        (units, splitter.skipped())
    }

    #[test]
    fn every_dress_of_annex_b() {
        let check = |stream: &[u8], expected: &[&[u8]], garbage: u64| {
            for cut in 0..=stream.len() {
                let (units, skipped) = split(&[&stream[..cut], &stream[cut..]]);
                assert_eq!(units, expected, "cut at {cut} of {stream:?}");
                assert_eq!(skipped, garbage, "cut at {cut} of {stream:?}");
            }
            let single: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(split(&single).0, expected, "byte by byte");
        };
        check(&[0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2], &[&[0x67, 1], &[0x68, 2]], 0);
        check(&[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2], &[&[0x67, 1], &[0x68, 2]], 0);
        check(&[0, 0, 1, 0x68, 2, 0, 0, 0, 0, 0, 1, 0x65, 3, 0, 0], &[&[0x68, 2], &[0x65, 3]], 0);
        check(&[0, 0, 0, 0, 0, 1, 0x65, 0, 0, 3, 1], &[&[0x65, 0, 0, 3, 1]], 0);
        check(&[9, 9, 0, 0, 1, 0x65], &[&[0x65]], 2);
        check(&[0, 0, 1, 0, 0, 1, 0x65], &[&[0x65]], 0);
        check(&[], &[], 0);
    }

    #[test]
    fn a_stream_without_start_codes_is_not_kept() {
        let mut splitter = Splitter::default();
        for _ in 0..100 {
            splitter.push(&[7; 1000], |_| panic!("no unit is in there"));
        }
        assert!(splitter.buffer.len() <= 2);
        assert_eq!(splitter.skipped(), 99_998);
    }

    #[test]
    fn an_endless_unit_is_given_up() {
        let mut splitter = Splitter::default();
        splitter.push(&[0, 0, 1, 0x65], |_| ());
        for _ in 0..=MAX_NAL_SIZE / 4096 {
            splitter.push(&[7; 4096], |_| panic!("the unit never ended"));
        }
        assert!(splitter.buffer.len() <= 4096);
        let mut units = Vec::new();
        splitter.push(&[0, 0, 1, 0x67, 1, 0, 0, 1], |unit| units.push(unit.to_vec()));
        assert_eq!(units, [[0x67, 1]]);
    }
}

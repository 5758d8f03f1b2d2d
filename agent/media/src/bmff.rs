//! Boxes of ISO/IEC 14496-12: writing with sizes filled in afterwards, and a bounded walk over what a file holds.

/// A box's four-character code.
pub type BoxType = [u8; 4];

/// Bytes of a box header with a 32-bit size.
pub const HEADER_SIZE: usize = 8;

/// Builds boxes into one buffer.
#[derive(Default)]
pub struct BoxWriter {
    out: Vec<u8>,
}

impl BoxWriter {
    /// Writes a box; `body` fills it.
    pub fn boxed(&mut self, kind: &BoxType, body: impl FnOnce(&mut Self)) {
        let start = self.out.len();
        self.u32(0);
        self.bytes(kind);
        body(self);
        // Headers are a few hundred bytes; media data is never written through here.
        let size = (self.out.len() - start) as u32;
        self.out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }

    /// Writes a full box: version and flags in front (section 4.2).
    pub fn full(&mut self, kind: &BoxType, version: u8, flags: u32, body: impl FnOnce(&mut Self)) {
        self.boxed(kind, |w| {
            w.u32(u32::from(version) << 24 | flags & 0xff_ffff);
            body(w);
        });
    }

    /// Big-endian.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// Big-endian.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Big-endian.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// As they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Zeros.
    pub fn zeros(&mut self, count: usize) {
        self.out.resize(self.out.len() + count, 0);
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Overwrites four bytes at `at`, for an offset known only now.
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        self.out[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// The buffer.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Header of a box: its type and how long it is, header included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BoxHeader {
    /// The type.
    pub kind: BoxType,
    /// Bytes of the header itself: 8, or 16 with a 64-bit size.
    pub header: u64,
    /// Bytes of the whole box.
    pub size: u64,
}

impl BoxHeader {
    /// Reads a header; `None` when `bytes` is too short or the size is impossible. A size of 0 ("up to the end of the
    /// file") is impossible here: the agent never writes one, so it means an unwritten tail.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let size = u64::from(u32::from_be_bytes(*size));
        let (header, size) = match size {
            1 => (16, u64::from_be_bytes(*rest.first_chunk::<8>()?)),
            size => (8, size),
        };
        (size >= header).then_some(Self { kind: *kind, header, size })
    }
}

/// The boxes inside `bytes`, as (type, body). Stops at the first that does not fit.
pub struct Boxes<'a> {
    rest: &'a [u8],
}

/// Walks the boxes inside `bytes`.
pub fn boxes(bytes: &[u8]) -> Boxes<'_> {
    Boxes { rest: bytes }
}

/// The body of the first box of `kind` inside `bytes`.
pub fn find<'a>(bytes: &'a [u8], kind: &BoxType) -> Option<&'a [u8]> {
    boxes(bytes).find(|(candidate, _)| candidate == kind).map(|(_, body)| body)
}

impl<'a> Iterator for Boxes<'a> {
    type Item = (BoxType, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = BoxHeader::parse(self.rest)?;
        let size = usize::try_from(header.size).ok()?;
        let (whole, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some((header.kind, &whole[header.header as usize..]))
    }
}

/// Reads big-endian fields off the front of a slice.
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next 4 bytes.
    pub fn u32(&mut self) -> Option<u32> {
        let (value, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*value))
    }

    /// The next 8 bytes.
    pub fn u64(&mut self) -> Option<u64> {
        let (value, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some(u64::from_be_bytes(*value))
    }

    /// Version and flags of a full box.
    pub fn version_and_flags(&mut self) -> Option<(u8, u32)> {
        let value = self.u32()?;
        Some(((value >> 24) as u8, value & 0xff_ffff))
    }

    /// Passes over `count` bytes.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.get(count..)?;
        Some(())
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

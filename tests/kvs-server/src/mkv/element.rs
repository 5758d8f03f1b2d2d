//! EBML elements (RFC 8794): ids, sizes, values, and a walk over a master element that is wholly in memory.

use crate::error::Rejection;

macro_rules! ids {
    ($($name:ident $value:literal,)*) => { $(pub(crate) const $name: u32 = $value;)* };
}

ids! {
    EBML 0x1A45_DFA3,
    EBML_READ_VERSION 0x42F7,
    EBML_MAX_ID_LENGTH 0x42F2,
    EBML_MAX_SIZE_LENGTH 0x42F3,
    DOC_TYPE 0x4282,
    DOC_TYPE_READ_VERSION 0x4285,
    VOID 0xEC,
    CRC_32 0xBF,
    SEGMENT 0x1853_8067,
    SEEK_HEAD 0x114D_9B74,
    INFO 0x1549_A966,
    TIMECODE_SCALE 0x2A_D7B1,
    TRACKS 0x1654_AE6B,
    TRACK_ENTRY 0xAE,
    TRACK_NUMBER 0xD7,
    TRACK_UID 0x73C5,
    TRACK_TYPE 0x83,
    CODEC_ID 0x86,
    CODEC_PRIVATE 0x63A2,
    VIDEO 0xE0,
    PIXEL_WIDTH 0xB0,
    PIXEL_HEIGHT 0xBA,
    CLUSTER 0x1F43_B675,
    TIMECODE 0xE7,
    POSITION 0xA7,
    PREV_SIZE 0xAB,
    SIMPLE_BLOCK 0xA3,
    BLOCK_GROUP 0xA0,
    BLOCK 0xA1,
    REFERENCE_BLOCK 0xFB,
    CUES 0x1C53_BB6B,
    CHAPTERS 0x1043_A770,
    ATTACHMENTS 0x1941_A469,
    TAGS 0x1254_C367,
    TAG 0x7373,
    SIMPLE_TAG 0x67C8,
    TAG_NAME 0x45A3,
    TAG_STRING 0x4487,
    TAG_BINARY 0x4485,
}

/// Id and size in front of an element's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ElementHeader {
    pub(crate) id: u32,
    /// `None` is the reserved "unknown size".
    pub(crate) size: Option<u64>,
    pub(crate) length: usize,
}

/// Ids of the children of a Segment: in a Cluster of unknown size they are its end.
pub(crate) fn is_segment_child(id: u32) -> bool {
    matches!(id, SEEK_HEAD | INFO | TRACKS | CLUSTER | CUES | CHAPTERS | ATTACHMENTS | TAGS)
}

/// Reads the header at the start of `bytes`; `None` when there are not enough of them yet.
pub(crate) fn element_header(bytes: &[u8]) -> Result<Option<ElementHeader>, Rejection> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let id_length = first.leading_zeros() as usize + 1;
    if id_length > 4 {
        return Err(Rejection::invalid_mkv(format!("{first:#04x} does not begin an element id")));
    }
    let Some((&size_first, size_rest)) = bytes.get(id_length..).and_then(<[u8]>::split_first) else { return Ok(None) };
    let id = bytes.iter().take(id_length).fold(0, |id, &byte| id << 8 | u32::from(byte));
    let data_bits = 7 * id_length as u32;
    let data = id & ((1 << data_bits) - 1);
    if data == 0 || data == (1 << data_bits) - 1 {
        return Err(Rejection::invalid_mkv(format!("{id:#x} is a reserved element id")));
    }
    let size_length = size_first.leading_zeros() as usize + 1;
    if size_length > 8 {
        return Err(Rejection::invalid_mkv(format!("the size of element {id:#x} is longer than 8 bytes")));
    }
    let Some(size_rest) = size_rest.get(..size_length - 1) else { return Ok(None) };
    let mask = (1_u64 << (7 * size_length)) - 1;
    let size = size_rest.iter().fold(u64::from(size_first), |size, &byte| size << 8 | u64::from(byte)) & mask;
    Ok(Some(ElementHeader { id, size: (size != mask).then_some(size), length: id_length + size_length }))
}

/// The children of a master element; Void and CRC-32 are left out.
#[derive(Debug)]
pub(crate) struct Children<'a> {
    rest: &'a [u8],
}

impl<'a> Children<'a> {
    pub(crate) fn of(content: &'a [u8]) -> Self {
        Self { rest: content }
    }

    fn child(&mut self) -> Result<(u32, &'a [u8]), Rejection> {
        let truncated = || Rejection::invalid_mkv("an element does not fit in its parent");
        let header = element_header(self.rest)?.ok_or_else(truncated)?;
        let size = header
            .size
            .ok_or_else(|| Rejection::invalid_mkv(format!("element {:#x} may not be of unknown size", header.id)))?;
        let content = self.rest.get(header.length..).ok_or_else(truncated)?;
        let (content, rest) =
            usize::try_from(size).ok().and_then(|size| content.split_at_checked(size)).ok_or_else(truncated)?;
        self.rest = rest;
        Ok((header.id, content))
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = Result<(u32, &'a [u8]), Rejection>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.child() {
                Ok((VOID | CRC_32, _)) => {}
                Ok(child) => return Some(Ok(child)),
                Err(rejection) => {
                    self.rest = &[];
                    return Some(Err(rejection));
                }
            }
        }
        None
    }
}

/// Unsigned integer element.
pub(crate) fn unsigned(id: u32, content: &[u8]) -> Result<u64, Rejection> {
    if content.len() > 8 {
        return Err(Rejection::invalid_mkv(format!("integer element {id:#x} is longer than 8 bytes")));
    }
    Ok(content.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// String or UTF-8 element; zero bytes at its end are padding.
pub(crate) fn text(id: u32, content: &[u8]) -> Result<String, Rejection> {
    let end = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    String::from_utf8(content.iter().take(end).copied().collect())
        .map_err(|_| Rejection::invalid_mkv(format!("string element {id:#x} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let header = |id, size, length| Ok(Some(ElementHeader { id, size, length }));
        for (bytes, expected) in [
            (&[0xA3, 0x81][..], header(SIMPLE_BLOCK, Some(1), 2)),
            (&[0xA3, 0xFF], header(SIMPLE_BLOCK, None, 2)),
            (&[0xA3, 0x01, 0, 0, 0, 0, 0, 1, 2], header(SIMPLE_BLOCK, Some(258), 9)),
            (&[0x18, 0x53, 0x80, 0x67, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], header(SEGMENT, None, 12)),
            (&[0x18, 0x53, 0x80, 0x67], Ok(None)),
            (&[0x18, 0x53], Ok(None)),
            (&[], Ok(None)),
        ] {
            assert_eq!(element_header(bytes), expected, "{bytes:x?}");
        }
        for bytes in [&[0x00, 0x81][..], &[0x08, 0x81], &[0xFF, 0x81], &[0x80, 0x81], &[0xA3, 0x00]] {
            assert!(element_header(bytes).is_err(), "{bytes:x?}");
        }
    }
}

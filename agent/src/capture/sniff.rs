//! What a file or byte stream is, told from its first bytes. Names mean nothing: the content decides.
//!
//! Deliberately absent: parsing. One look says which reader to use, or what to tell a person who pointed the agent at
//! something it cannot take.

use edgecam_media::Codec;

use super::CaptureError;

/// A stream that has not shown what it is within this many bytes is nothing the agent knows. The largest thing that may
/// come first in an H.264 stream joined midway is the rest of an intra picture.
pub(super) const LIMIT: usize = 256 << 10;

/// A kind of content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// H.264 in Annex B form.
    H264,
    /// ISO base media: MP4, MOV.
    Mp4,
    /// Matroska or WebM.
    Matroska,
    /// H.265 in Annex B form.
    H265,
    /// One or more JPEG pictures.
    Jpeg,
    /// MPEG transport stream.
    TransportStream,
    /// MPEG program stream, MPEG-1, MPEG-2 or MPEG-4 Visual video.
    OlderMpeg,
    /// A RIFF file: AVI, WAV.
    Riff,
    /// Flash video.
    Flv,
    /// Start codes, but of nothing that is known.
    Unknown,
    /// Not even a start code.
    NoStartCode,
}

impl Content {
    /// The codec of an elementary stream.
    pub(super) fn codec(self) -> Option<Codec> {
        match self {
            Self::H264 => Some(Codec::H264),
            Self::H265 => Some(Codec::H265),
            _ => None,
        }
    }

    /// What a person calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::H264 => "an H.264 byte stream",
            Self::Mp4 => "an MP4 file",
            Self::Matroska => "a Matroska file",
            Self::H265 => "an H.265 byte stream",
            Self::Jpeg => "JPEG pictures (MJPEG)",
            Self::TransportStream => "an MPEG transport stream",
            Self::OlderMpeg => "MPEG-2 or MPEG-4 Visual video, or an MPEG program stream",
            Self::Riff => "an AVI or other RIFF file",
            Self::Flv => "a Flash video file",
            Self::Unknown => "no known video format",
            Self::NoStartCode => "no known format: its first 256 KiB hold no start code of H.264 or H.265",
        }
    }

    /// The error of an elementary stream that is something else. `input` is its name.
    pub(super) fn is_no_elementary_stream(self, input: &str) -> CaptureError {
        let advice = match self {
            Self::Mp4 | Self::Matroska => ": use a source of the type 'file'",
            Self::Jpeg | Self::OlderMpeg => ": set its encoder to H.264, or take its H.264 channel",
            Self::TransportStream | Self::Riff | Self::Flv => ": let its writer send H.264 without a container",
            Self::H264 | Self::H265 | Self::Unknown | Self::NoStartCode => "",
        };
        let name = self.name();
        CaptureError::UnsupportedCodec(format!(
            "{input} gives {name}; it must give H.264 or H.265 in Annex B form{advice}"
        ))
    }
}

/// Tells what begins with `head`; `None` when more bytes are needed. At [`LIMIT`] it always tells.
pub(super) fn sniff(head: &[u8]) -> Option<Content> {
    if let Some(content) = signature(head) {
        return Some(content);
    }
    if head.len() < 12 {
        return None;
    }
    let mut start_code = false;
    for window in head.windows(5) {
        let &[0, 0, 1, first, second] = window else { continue };
        start_code = true;
        match first {
            // Program stream and MPEG-1/2/4 start codes have the bit set that is zero in every NAL unit.
            0xb0..=0xbf | 0xe0..=0xef => return Some(Content::OlderMpeg),
            _ if first & 0x80 != 0 => {}
            // VPS, SPS and PPS of H.265 in the base layer; in H.264 these types are unspecified or data partitions.
            0x40 | 0x42 | 0x44 if second == 1 => return Some(Content::H265),
            // A slice, IDR slice, SPS or delimiter. In H.265 the first byte of a base layer's NAL unit is even.
            _ if matches!(first & 0x1f, 1 | 5 | 7 | 9) => return Some(Content::H264),
            _ => {}
        }
    }
    match start_code {
        _ if head.len() < LIMIT => None,
        true => Some(Content::Unknown),
        false => Some(Content::NoStartCode),
    }
}

fn signature(head: &[u8]) -> Option<Content> {
    let boxes: [&[u8]; 6] = [b"ftyp", b"moov", b"mdat", b"wide", b"styp", b"moof"];
    match head {
        [0xff, 0xd8, 0xff, ..] => Some(Content::Jpeg),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => Some(Content::Matroska),
        [b'R', b'I', b'F', b'F', ..] => Some(Content::Riff),
        [b'F', b'L', b'V', 1, ..] => Some(Content::Flv),
        [_, _, _, _, kind @ ..] if boxes.iter().any(|name| kind.starts_with(name)) => Some(Content::Mp4),
        _ if is_transport_stream(head) => Some(Content::TransportStream),
        _ => None,
    }
}

/// A sync byte at the head of five packets in a row (ISO/IEC 13818-1 section 2.4.3.2), wherever the first one begins.
fn is_transport_stream(head: &[u8]) -> bool {
    const PACKET: usize = 188;
    head.len() >= 5 * PACKET
        && (0..PACKET)
            .any(|phase| head[phase..].iter().step_by(PACKET).take(5).filter(|&&byte| byte == 0x47).count() == 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        let mut transport_stream = vec![0xff; 188 * 8];
        transport_stream.iter_mut().skip(77).step_by(188).for_each(|byte| *byte = 0x47);
        let mut joined_midway = vec![0x5a; 100_000];
        joined_midway.extend([0, 0, 1, 0x41, 0x9a]);
        let padded = |head: &[u8]| [head, &[9; 16]].concat();
        let check = |head: &[u8], expected: Option<Content>| {
            assert_eq!(sniff(head), expected, "{:x?}", &head[..head.len().min(16)]);
        };
        check(&padded(&[0, 0, 0, 1, 0x67, 0x64]), Some(Content::H264));
        check(&padded(&[0, 0, 1, 0x09, 0xf0]), Some(Content::H264));
        check(&padded(&[0, 0, 0, 1, 0x06, 0x05, 0, 0, 1, 0x27, 0x42]), Some(Content::H264));
        check(&joined_midway, Some(Content::H264));
        check(&padded(&[0, 0, 0, 1, 0x40, 0x01, 0x0c]), Some(Content::H265));
        check(&padded(&[0, 0, 0, 1, 0x46, 0x01, 0x50, 0, 0, 1, 0x42, 0x01]), Some(Content::H265));
        check(&[0xff, 0xd8, 0xff, 0xe0], Some(Content::Jpeg));
        check(&[0, 0, 0, 0x20, b'f', b't', b'y', b'p', b'i', b's', b'o', b'm'], Some(Content::Mp4));
        check(&[0x1a, 0x45, 0xdf, 0xa3], Some(Content::Matroska));
        check(&transport_stream, Some(Content::TransportStream));
        check(&padded(&[0, 0, 1, 0xba, 0x44]), Some(Content::OlderMpeg));
        check(&padded(&[0, 0, 1, 0xb3, 0x14]), Some(Content::OlderMpeg));
        check(b"RIFF....AVI ", Some(Content::Riff));
        check(&[], None);
        check(&[0, 0, 0, 1, 0x67], None);
        check(&[0x5a; 1000], None);
        check(&vec![0x5a; LIMIT], Some(Content::NoStartCode));
        check(&[[0, 0, 1, 0x68, 9, 9].repeat(LIMIT / 6 + 1)].concat(), Some(Content::Unknown));
    }
}

//! What video and audio messages hold: the tag bodies of FLV (Video File Format 10.1, annex E.4.2 and E.4.3), and those of
//! Enhanced RTMP v1 for H.265.

use bytes::{Buf, Bytes};

use super::RtmpError;
use crate::{AudioCodec, Codec};

/// A video message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VideoTag {
    /// The decoder configuration record (`avcC` or `hvcC`) of what follows.
    Configuration(Codec, Bytes),
    /// A picture: NAL units with lengths, and by how many milliseconds it is shown later than it is decoded.
    Picture(Codec, Bytes, i32),
    /// Nothing to show: the end of a sequence, metadata, a command to the player.
    Other,
}

/// An audio message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AudioTag {
    /// The AudioSpecificConfig of the AAC that follows.
    AacConfiguration(Bytes),
    /// A frame.
    Frame(AudioCodec, Bytes),
    /// Sound in a codec that is not taken; which one.
    Unknown(u8),
    /// Nothing to hear.
    Empty,
}

impl VideoTag {
    /// Reads a video message.
    pub fn parse(mut payload: Bytes) -> Result<Self, RtmpError> {
        let Ok(first) = payload.try_get_u8() else { return Ok(Self::Other) };
        if first & 0x80 != 0 {
            return enhanced(first, payload);
        }
        // 5 is a command to the player.
        if first >> 4 == 5 {
            return Ok(Self::Other);
        }
        match first & 0x0f {
            7 => {}
            id => return Err(RtmpError::Codec(format!("video in {}", name(id)))),
        }
        let cut = RtmpError::Malformed("a video message that is cut short");
        let packet = payload.try_get_u8().map_err(|_| cut.clone())?;
        let composition = composition(&mut payload).ok_or(cut)?;
        Ok(of_packet(Codec::H264, packet, composition, payload))
    }
}

/// CompositionTime: signed, 24 bits.
fn composition(payload: &mut Bytes) -> Option<i32> {
    let bits = payload.try_get_uint(3).ok()? as u32;
    Some((bits << 8).cast_signed() >> 8)
}

/// AVCPacketType, and PacketType of Enhanced RTMP, which goes on from it.
fn of_packet(codec: Codec, packet: u8, composition: i32, payload: Bytes) -> VideoTag {
    match packet {
        0 => VideoTag::Configuration(codec, payload),
        1 if !payload.is_empty() => VideoTag::Picture(codec, payload, composition),
        _ => VideoTag::Other,
    }
}

/// `first` has the frame type in bits 4 to 6 and the packet type in bits 0 to 3; a FourCC follows.
fn enhanced(first: u8, mut payload: Bytes) -> Result<VideoTag, RtmpError> {
    let cut = RtmpError::Malformed("a video message that is cut short");
    let mut code = [0; 4];
    payload.try_copy_to_slice(&mut code).map_err(|_| cut.clone())?;
    let codec = match &code {
        b"hvc1" => Codec::H265,
        b"avc1" => Codec::H264,
        other => return Err(RtmpError::Codec(format!("video in {}", String::from_utf8_lossy(other)))),
    };
    match first & 0x0f {
        // Coded frames with a composition time.
        1 => {
            let composition = composition(&mut payload).ok_or(cut)?;
            Ok(of_packet(codec, 1, composition, payload))
        }
        // The same where that is 0.
        3 => Ok(of_packet(codec, 1, 0, payload)),
        packet => Ok(of_packet(codec, packet, 0, payload)),
    }
}

/// CodecID (table E.4.3.1).
fn name(id: u8) -> String {
    match id {
        2 => "Sorenson H.263".to_owned(),
        3 | 6 => "Screen Video".to_owned(),
        4 | 5 => "VP6".to_owned(),
        12 => "H.265 in a way of its own (codec 12)".to_owned(),
        other => format!("codec {other}"),
    }
}

impl AudioTag {
    /// Reads an audio message.
    pub fn parse(mut payload: Bytes) -> Self {
        let Ok(first) = payload.try_get_u8() else { return Self::Empty };
        match first >> 4 {
            7 | 8 if payload.is_empty() => Self::Empty,
            7 => Self::Frame(AudioCodec::PcmA, payload),
            8 => Self::Frame(AudioCodec::PcmU, payload),
            10 => match payload.try_get_u8() {
                Ok(0) => Self::AacConfiguration(payload),
                Ok(1) if !payload.is_empty() => Self::Frame(AudioCodec::Aac, payload),
                _ => Self::Empty,
            },
            other => Self::Unknown(other),
        }
    }
}

//! One coded picture or frame of audio, in the one form that all of the agent uses.

use std::sync::Arc;

use bytes::Bytes;

use crate::{ParameterSets, Timestamp};

/// How the pictures of a track are coded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Codec {
    /// ITU-T H.264, ISO/IEC 14496-10 (AVC).
    H264,
    /// ITU-T H.265, ISO/IEC 23008-2 (HEVC).
    H265,
}

impl Codec {
    /// Matroska's CodecID.
    pub const fn matroska_id(self) -> &'static str {
        match self {
            Self::H264 => "V_MPEG4/ISO/AVC",
            Self::H265 => "V_MPEGH/ISO/HEVC",
        }
    }

    /// The name a person knows it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
        }
    }
}

/// Track number, from 1; the same in Matroska and MP4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TrackId(u8);

impl TrackId {
    /// The video track.
    pub const VIDEO: Self = Self(1);
    /// The audio track.
    pub const AUDIO: Self = Self(2);

    /// The track with this number, if there is one.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::VIDEO),
            2 => Some(Self::AUDIO),
            _ => None,
        }
    }

    /// The number as it is written.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// One coded picture, or a frame of audio: what is decoded, kept and sent as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessUnit {
    /// The track it belongs to.
    pub track: TrackId,
    /// Presentation time. In the order of decoding it goes back only where B-frames do, never past an IDR.
    pub pts: Timestamp,
    /// Whether decoding can start here: an IDR picture, in H.265 any IRAP picture. Behind an IRAP picture that was not
    /// the first of a connection there may be RASL pictures, shown before it; who starts decoding here leaves them out.
    pub is_idr: bool,
    /// Of audio, the frame as it was sent, without ADTS. Of video, NAL units, each with a 4-byte length in front; no parameter sets, delimiters, filler or SEI.
    pub data: Bytes,
    /// The sets this picture needs, and what the audio track of its GOP is; on every IDR; `None` on the others.
    pub parameter_sets: Option<Arc<ParameterSets>>,
}

impl AccessUnit {
    /// Whether it is a picture.
    pub fn is_video(&self) -> bool {
        self.track == TrackId::VIDEO
    }
}

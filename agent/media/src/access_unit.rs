//! One coded picture, in the one form that all of the agent uses.

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

    /// The number as it is written.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// One coded picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessUnit {
    /// The track it belongs to.
    pub track: TrackId,
    /// Presentation time. In the order of decoding it goes back only where B-frames do, never past an IDR.
    pub pts: Timestamp,
    /// Whether decoding can start here: an IDR picture, in H.265 any IRAP picture. Behind an IRAP picture that was not
    /// the first of a connection there may be RASL pictures, shown before it; who starts decoding here leaves them out.
    pub is_idr: bool,
    /// NAL units, each with a 4-byte length in front; no parameter sets, delimiters, filler or SEI.
    pub data: Bytes,
    /// The sets this picture needs, on every IDR; `None` on the others.
    pub parameter_sets: Option<Arc<ParameterSets>>,
}

//! Decoding, only for what is going to be looked at (a snapshot, a detection) or comes as JPEG and has to be encoded.
//!
//! OpenH264 again: Baseline to High, progressive, 8 bit. Deliberately absent: H.265, which says so. Synchronous; it runs on blocking threads.

pub mod jpeg;
pub mod mjpeg;

use edgecam_media::nal::LengthPrefixed;
use edgecam_media::unweighted::Unweighted;
use edgecam_media::{AccessUnit, Codec, ParameterSets, annex_b};
use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, DecoderConfig, Flush};

/// The stream cannot be decoded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

/// Decodes one camera's pictures, in order.
pub struct Decoder {
    inner: openh264::decoder::Decoder,
    annex_b: Vec<u8>,
    known: Option<Known>,
}

/// The parameter sets of the last IDR, and how its GOP is decoded.
struct Known {
    sets: ParameterSets,
    /// If its pictures can be had without weights, for which OpenH264 takes long.
    unweighted: Option<Unweighted>,
    /// The decoder has been given the sets that go with those.
    is_plain: bool,
}

impl Decoder {
    /// A decoder that waits for an IDR.
    pub fn new() -> Result<Self, DecodeError> {
        Self::with(Flush::NoFlush)
    }

    /// One that shows each picture at once, where the stream's pictures are in the order they are shown in.
    pub fn at_once() -> Result<Self, DecodeError> {
        Self::with(Flush::Flush)
    }

    fn with(flush: Flush) -> Result<Self, DecodeError> {
        let config = DecoderConfig::new().flush_after_decode(flush);
        let inner = openh264::decoder::Decoder::with_api_config(OpenH264API::from_source(), config).map_err(refused)?;
        Ok(Self { inner, annex_b: Vec::new(), known: None })
    }

    /// Decodes one access unit; `sets` are what its GOP refers to. `None`: it shows with a later one.
    pub fn decode(&mut self, unit: &AccessUnit, sets: &ParameterSets) -> Result<Option<DecodedYUV<'_>>, DecodeError> {
        if sets.codec() != Codec::H264 {
            let codec = sets.codec().name();
            return Err(DecodeError(format!(
                "it is {codec}, and the agent only decodes H.264; set the camera, or its \
                 second stream, to H.264"
            )));
        }
        self.annex_b.clear();
        if unit.is_idr {
            self.learn(sets);
        }
        if !self.append_unweighted(unit) {
            for nal in LengthPrefixed::new(Codec::H264, &unit.data).flatten() {
                annex_b::append(nal.bytes(), &mut self.annex_b);
            }
        }
        self.inner.decode(&self.annex_b).map_err(refused)
    }

    /// The sets of a GOP that begins.
    fn learn(&mut self, sets: &ParameterSets) {
        self.annex_b.extend_from_slice(&sets.annex_b());
        match &mut self.known {
            Some(known) if known.sets == *sets => known.is_plain = false,
            known => {
                let (sets, unweighted) = (sets.clone(), Unweighted::new(sets));
                *known = Some(Known { sets, unweighted, is_plain: false });
            }
        }
    }

    /// Appends the picture without weights, if none of them counts, and the PPS that goes with what is appended.
    fn append_unweighted(&mut self, unit: &AccessUnit) -> bool {
        let Some(Known { sets, unweighted: Some(unweighted), is_plain }) = &mut self.known else { return false };
        let before = self.annex_b.len();
        if !*is_plain {
            self.annex_b.extend_from_slice(unweighted.sets());
        }
        let is_appended = unweighted.append(&unit.data, &mut self.annex_b);
        if !is_appended {
            self.annex_b.truncate(before);
            if *is_plain {
                sets.pps().iter().for_each(|pps| annex_b::append(pps, &mut self.annex_b));
            }
        }
        *is_plain = is_appended;
        is_appended
    }
}

fn refused(error: openh264::Error) -> DecodeError {
    DecodeError(error.to_string())
}

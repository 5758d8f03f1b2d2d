//! What comes before the first Cluster, and Tags: EBML header, Info, Tracks. Each is parsed from its whole content.

use crate::error::{ErrorId, Rejection};
use crate::mkv::avc;
use crate::mkv::element::{self, Children, text, unsigned};
use crate::mkv::hevc;

/// Tracks that one stream may have.
const MAX_TRACKS: usize = 3;
const TRACK_TYPE_VIDEO: u64 = 1;
const TRACK_TYPE_AUDIO: u64 = 2;

/// One TrackEntry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct TrackEntry {
    pub(crate) number: u64,
    pub(crate) uid: u64,
    pub(crate) track_type: u64,
    pub(crate) codec_id: String,
    pub(crate) codec_private: Vec<u8>,
    pub(crate) width: u64,
    pub(crate) height: u64,
}

impl TrackEntry {
    pub(crate) fn is_video(&self) -> bool {
        self.track_type == TRACK_TYPE_VIDEO
    }

    /// The decoder configuration of a codec whose frames are looked into; `None` for others.
    pub(crate) fn configuration(&self) -> Option<Result<avc::DecoderConfiguration, &'static str>> {
        match self.codec_id.as_str() {
            "V_MPEG4/ISO/AVC" => Some(avc::DecoderConfiguration::parse(&self.codec_private)),
            "V_MPEGH/ISO/HEVC" => Some(hevc::parse(&self.codec_private)),
            _ => None,
        }
    }
}

fn at_most(id: u32, content: &[u8], limit: u64) -> Result<(), Rejection> {
    match unsigned(id, content)? {
        value if value <= limit => Ok(()),
        value => Err(Rejection::invalid_mkv(format!("EBML header: element {id:#x} is {value}, more than {limit}"))),
    }
}

/// Checks the content of the EBML header.
pub(crate) fn check_ebml(content: &[u8]) -> Result<(), Rejection> {
    let mut doc_type = None;
    for child in Children::of(content) {
        match child? {
            (id @ element::EBML_READ_VERSION, value) => at_most(id, value, 1)?,
            (id @ element::EBML_MAX_ID_LENGTH, value) => at_most(id, value, 4)?,
            (id @ element::EBML_MAX_SIZE_LENGTH, value) => at_most(id, value, 8)?,
            (id @ element::DOC_TYPE_READ_VERSION, value) => at_most(id, value, 4)?,
            (id @ element::DOC_TYPE, value) => doc_type = Some(text(id, value)?),
            _ => {}
        }
    }
    match doc_type.as_deref() {
        Some("matroska" | "webm") => Ok(()),
        other => Err(Rejection::invalid_mkv(format!("the DocType is {other:?}"))),
    }
}

/// TimecodeScale of an Info element: nanoseconds per tick.
pub(crate) fn timecode_scale(content: &[u8], lenient: bool) -> Result<u64, Rejection> {
    let mut scale = lenient.then_some(1_000_000);
    for child in Children::of(content) {
        if let (id @ element::TIMECODE_SCALE, value) = child? {
            scale = Some(unsigned(id, value)?);
        }
    }
    scale.filter(|&scale| scale > 0).ok_or_else(|| Rejection::invalid_mkv("Info has no TimecodeScale"))
}

/// The entries of a Tracks element.
pub(crate) fn tracks(content: &[u8], lenient: bool) -> Result<Vec<TrackEntry>, Rejection> {
    let mut entries = Vec::new();
    for child in Children::of(content) {
        match child? {
            (element::TRACK_ENTRY, entry) => entries.push(track_entry(entry)?),
            (id, _) => return Err(Rejection::invalid_mkv(format!("element {id:#x} in Tracks"))),
        }
    }
    if lenient {
        return Ok(entries);
    }
    if entries.len() > MAX_TRACKS {
        return Err(Rejection::new(ErrorId::MORE_THAN_ALLOWED_TRACKS, format!("{} tracks", entries.len())));
    }
    if entries.is_empty() {
        return Err(Rejection::invalid_mkv("Tracks has no TrackEntry"));
    }
    for (i, entry) in entries.iter().enumerate() {
        check_entry(entry)?;
        if entries.iter().take(i).any(|other| other.number == entry.number || other.uid == entry.uid) {
            return Err(Rejection::invalid_mkv(format!("number or UID of track {} is used twice", entry.number)));
        }
    }
    Ok(entries)
}

fn track_entry(content: &[u8]) -> Result<TrackEntry, Rejection> {
    let mut entry = TrackEntry::default();
    for child in Children::of(content) {
        match child? {
            (id @ element::TRACK_NUMBER, value) => entry.number = unsigned(id, value)?,
            (id @ element::TRACK_UID, value) => entry.uid = unsigned(id, value)?,
            (id @ element::TRACK_TYPE, value) => entry.track_type = unsigned(id, value)?,
            (id @ element::CODEC_ID, value) => entry.codec_id = text(id, value)?,
            (element::CODEC_PRIVATE, value) => entry.codec_private = value.to_vec(),
            (element::VIDEO, video) => {
                for child in Children::of(video) {
                    match child? {
                        (id @ element::PIXEL_WIDTH, value) => entry.width = unsigned(id, value)?,
                        (id @ element::PIXEL_HEIGHT, value) => entry.height = unsigned(id, value)?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(entry)
}

fn check_entry(entry: &TrackEntry) -> Result<(), Rejection> {
    let number = entry.number;
    let wrong = |what: &str| Err(Rejection::invalid_mkv(format!("track {number}: {what}")));
    if entry.number == 0 || entry.uid == 0 {
        return wrong("TrackNumber or TrackUID is missing or zero");
    }
    if !matches!(entry.track_type, TRACK_TYPE_VIDEO | TRACK_TYPE_AUDIO) {
        return wrong("neither video nor audio");
    }
    if entry.codec_id.is_empty() {
        return wrong("CodecID is missing");
    }
    if entry.is_video() && (entry.width == 0 || entry.height == 0) {
        return wrong("PixelWidth or PixelHeight is missing");
    }
    if let Some(Err(why)) = entry.configuration() {
        let record = if entry.codec_id.ends_with("AVC") { "avcC" } else { "hvcC" };
        return wrong(&format!("CodecPrivate is not an {record}: {why}"));
    }
    if entry.track_type == TRACK_TYPE_AUDIO {
        // Playback takes AAC and G.711 in a WAVEFORMATEX; the sound of A_AAC is described by an AudioSpecificConfig.
        match (entry.codec_id.as_str(), entry.codec_private.as_slice()) {
            ("A_AAC", [] | [_]) => return wrong("CodecPrivate is not an AudioSpecificConfig"),
            ("A_AAC", [first, ..]) if first >> 3 == 0 => return wrong("an audioObjectType of 0"),
            ("A_AAC" | "A_MS/ACM", _) => {}
            _ => return wrong("audio in a codec that is not known"),
        }
    }
    Ok(())
}

/// Name and value of every SimpleTag in a Tags element.
pub(crate) fn tags(content: &[u8]) -> Result<Vec<(String, String)>, Rejection> {
    let mut pairs = Vec::new();
    for tag in Children::of(content) {
        let (element::TAG, tag) = tag? else {
            return Err(Rejection::invalid_mkv("Tags has a child that is not a Tag"));
        };
        for simple_tag in Children::of(tag) {
            let (element::SIMPLE_TAG, simple_tag) = simple_tag? else { continue };
            let (mut name, mut value) = (None, String::new());
            for child in Children::of(simple_tag) {
                match child? {
                    (id @ element::TAG_NAME, content) => name = Some(text(id, content)?),
                    (id @ element::TAG_STRING, content) => value = text(id, content)?,
                    (element::TAG_BINARY, content) => value = String::from_utf8_lossy(content).into_owned(),
                    _ => {}
                }
            }
            let name = name
                .filter(|name| !name.is_empty())
                .ok_or_else(|| Rejection::invalid_mkv("a SimpleTag without TagName"))?;
            pairs.push((name, value));
        }
    }
    Ok(pairs)
}

//! Reads back what [`super::write`] writes, and no more: other people's files go through a demuxer.

use std::sync::Arc;

use crate::bmff::{BoxHeader, Fields, boxes, find};
use crate::{Codec, ParameterSets, Ticks, Timestamp, TrackId};

use super::init::read_audio;
use super::{RandomAccessEntry, from_ntp};

/// A segment, or a part of it, cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScanError {
    /// More bytes are needed: the file was cut here.
    #[error("cut short")]
    Short,
    /// The bytes are not what a segment holds at this place.
    #[error("{0}")]
    Damaged(&'static str),
}

/// The head of a segment.
#[derive(Clone, PartialEq, Debug)]
pub struct Init {
    /// What its pictures refer to.
    pub parameter_sets: ParameterSets,
    /// Bytes of `ftyp` and `moov`: where the first fragment begins.
    pub size: u64,
}

/// Reads `ftyp` and `moov` at the front of `bytes`.
pub fn init(bytes: &[u8]) -> Result<Init, ScanError> {
    let damaged = ScanError::Damaged;
    let ftyp = BoxHeader::parse(bytes).ok_or(ScanError::Short)?;
    if &ftyp.kind != b"ftyp" || ftyp.size > 4096 {
        return Err(damaged("no ftyp at the front"));
    }
    let after = bytes.get(ftyp.size as usize..).ok_or(ScanError::Short)?;
    let moov = BoxHeader::parse(after).ok_or(ScanError::Short)?;
    if &moov.kind != b"moov" || moov.size > 1 << 20 {
        return Err(damaged("no moov after ftyp"));
    }
    let body = after.get(moov.header as usize..moov.size as usize).ok_or(ScanError::Short)?;
    let mut descriptions = boxes(body).filter(|(kind, _)| kind == b"trak").map(|(_, trak)| {
        let path = [b"mdia", b"minf", b"stbl", b"stsd"];
        path.iter().try_fold(trak, |found, kind| find(found, kind)).ok_or(damaged("a track lacks a sample description"))
    });
    let video = descriptions.next().ok_or(damaged("moov lacks a video track"))??;
    let entries = video.get(8..).ok_or(damaged("no sample description"))?;
    let audio = match descriptions.next() {
        Some(description) => {
            Some(read_audio(description?).ok_or(damaged("the description of the audio track cannot be read"))?)
        }
        None => None,
    };
    let (kind, entry) = boxes(entries).next().ok_or(damaged("no sample description"))?;
    let (codec, record) = match &kind {
        b"avc1" => (Codec::H264, b"avcC"),
        b"hvc1" => (Codec::H265, b"hvcC"),
        _ => return Err(damaged("the track is neither avc1 nor hvc1")),
    };
    let record = entry.get(78..).and_then(|entry| find(entry, record));
    let record = record.ok_or(damaged("the sample entry lacks avcC or hvcC"))?;
    let parameter_sets = ParameterSets::from_configuration(codec, record);
    let parameter_sets = parameter_sets.map_err(|_| damaged("avcC or hvcC cannot be read"))?;
    let parameter_sets = parameter_sets.with_audio(audio.map(Arc::new));
    Ok(Init { parameter_sets, size: ftyp.size + moov.size })
}

/// One sample of a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The track.
    pub track: TrackId,
    /// 90 kHz ticks from the segment's start to when it is shown.
    pub time: Ticks,
    /// Bytes.
    pub size: u32,
    /// Whether it is a picture that decoding can start at.
    pub is_sync: bool,
}

/// One movie fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// The wall-clock time of the segment's start, where a GOP begins.
    pub start: Option<Timestamp>,
    /// Its samples of all tracks, in the order they were appended; each track's in decoding order.
    pub samples: Vec<Sample>,
    /// Bytes from the front of the fragment to its `moof`.
    pub moof: u64,
    /// Bytes from the front of the fragment to its first sample.
    pub data: u64,
    /// Bytes of the whole fragment.
    pub size: u64,
    /// When the fragment ends: ticks from the segment's start.
    pub end: Ticks,
}

/// Reads the head of the fragment at the front of `bytes`: `prft`, `moof` and the header of `mdat`. The samples
/// themselves need not be in `bytes`. `Ok(None)` at the index that ends a finished segment.
pub fn fragment(bytes: &[u8]) -> Result<Option<Fragment>, ScanError> {
    let damaged = ScanError::Damaged;
    let mut at = 0_u64;
    let mut start = None;
    let moof = loop {
        let rest = bytes.get(at as usize..).ok_or(ScanError::Short)?;
        let header =
            BoxHeader::parse(rest).ok_or(if rest.len() < 16 { ScanError::Short } else { damaged("not a box") })?;
        match &header.kind {
            b"mfra" => return Ok(None),
            b"prft" if header.size == 32 && start.is_none() => {
                let mut fields = Fields::new(rest.get(8..32).ok_or(ScanError::Short)?);
                fields.skip(8);
                let (ntp, media) = (fields.u64(), fields.u64());
                let media = media.and_then(|media| i64::try_from(media).ok()).ok_or(damaged("prft cannot be read"))?;
                start = ntp.map(|ntp| from_ntp(ntp) - Ticks::new(media));
                at += header.size;
            }
            // A fragment of 10 s at 240 fps has a moof of 40 KB.
            b"moof" if header.size <= 1 << 20 => break header,
            _ => return Err(damaged("neither prft, moof nor mfra")),
        }
    };
    let body_start = (at + moof.header) as usize;
    let body = bytes.get(body_start..(at + moof.size) as usize).ok_or(ScanError::Short)?;
    let (samples, end) = samples(body, moof.size + 8).ok_or(damaged("moof cannot be read"))?;
    let mdat_at = at + moof.size;
    let mdat_bytes = bytes.get(mdat_at as usize..).filter(|rest| rest.len() >= 8).ok_or(ScanError::Short)?;
    let mdat = BoxHeader::parse(mdat_bytes).ok_or(damaged("no mdat after moof"))?;
    let payload: u64 = samples.iter().map(|sample| u64::from(sample.size)).sum();
    if &mdat.kind != b"mdat" || mdat.size != payload + mdat.header {
        return Err(damaged("mdat does not hold what moof says"));
    }
    Ok(Some(Fragment { start, samples, moof: at, data: mdat_at + mdat.header, size: mdat_at + mdat.size, end }))
}

/// The samples of all tracks in the order they lie in `mdat`, whose first byte is `data` bytes from the front of
/// `moof`; and when the last of them ends.
fn samples(moof: &[u8], data: u64) -> Option<(Vec<Sample>, Ticks)> {
    let mut found: Vec<(u64, Sample)> = Vec::new();
    let mut end = 0;
    for (_, traf) in boxes(moof).filter(|(kind, _)| kind == b"traf") {
        let mut tfhd = Fields::new(find(traf, b"tfhd")?);
        tfhd.version_and_flags()?;
        let track = TrackId::from_number(tfhd.u32()?)?;
        let mut tfdt = Fields::new(find(traf, b"tfdt")?);
        let (1, _) = tfdt.version_and_flags()? else { return None };
        let mut decode = i64::try_from(tfdt.u64()?).ok()?;
        for (_, trun) in boxes(traf).filter(|(kind, _)| kind == b"trun") {
            decode = run(trun, track, decode, &mut found)?;
        }
        end = end.max(decode);
    }
    found.sort_by_key(|(offset, _)| *offset);
    let mut next = data;
    for (offset, sample) in &found {
        if *offset != next {
            return None;
        }
        next += u64::from(sample.size);
    }
    let samples: Vec<Sample> = found.into_iter().map(|(_, sample)| sample).collect();
    (!samples.is_empty()).then_some((samples, Ticks::new(end)))
}

/// The samples of one run, each with its place; returns when the next is decoded.
fn run(trun: &[u8], track: TrackId, mut decode: i64, found: &mut Vec<(u64, Sample)>) -> Option<i64> {
    let mut trun = Fields::new(trun);
    let (1, 0xf01) = trun.version_and_flags()? else { return None };
    let count = trun.u32()? as usize;
    let mut at = u64::from(trun.u32()?);
    if trun.rest().len() != count.checked_mul(16)? || count == 0 {
        return None;
    }
    for _ in 0..count {
        let (duration, size, flags, offset) = (trun.u32()?, trun.u32()?, trun.u32()?, trun.u32()?);
        let time = Ticks::new(decode.checked_add(i64::from(offset as i32))?);
        let is_sync = track == TrackId::VIDEO && flags & 0x1_0000 == 0;
        found.push((at, Sample { track, time, size, is_sync }));
        at += u64::from(size);
        decode = decode.checked_add(i64::from(duration))?;
    }
    Some(decode)
}

/// The GOPs listed in an `mfra` box, which `bytes` holds whole.
pub fn random_access(bytes: &[u8]) -> Option<Vec<RandomAccessEntry>> {
    let (kind, body) = boxes(bytes).next()?;
    if &kind != b"mfra" {
        return None;
    }
    let mut tfra = Fields::new(find(body, b"tfra")?);
    let (1, _) = tfra.version_and_flags()? else { return None };
    tfra.skip(8)?;
    let count = tfra.u32()? as usize;
    if tfra.rest().len() != count.checked_mul(19)? {
        return None;
    }
    (0..count)
        .map(|_| {
            let entry = RandomAccessEntry { time: tfra.u64()?, moof: tfra.u64()? };
            tfra.skip(3)?;
            Some(entry)
        })
        .collect()
}

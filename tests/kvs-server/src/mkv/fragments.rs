//! From elements to fragments, with the rules of PutMedia: which media the service refuses, and what a careful
//! producer does not send although the service takes it ([`Notice::Violation`]).
//!
//! A fragment is a Cluster and the Tags in front of it. It is complete at the next Cluster, at the end-of-fragment
//! tag, or at the end of the body. Absent: fragment numbers, wall-clock time, acknowledgements; those are the
//! session's.

use sha2::{Digest, Sha256};

use crate::digest::short_hex;
use crate::error::{ErrorId, Rejection};
use crate::mkv::avc::{DecoderConfiguration, NalUnits};
use crate::mkv::event::Event;
use crate::mkv::fragment::{Fragment, Notice};
use crate::mkv::header::TrackEntry;
use crate::record::BlockRecord;
use crate::rule::Rule;

/// 50 MB.
const MAX_FRAGMENT_SIZE: u64 = 50_000_000;
const MAX_FRAGMENT_DURATION_MS: i64 = 10_000;
/// Far beyond any date, and small enough to be added to and multiplied.
const MAX_TIMECODE: i64 = 1 << 62;
const MAX_TAGS: usize = 10;
const MAX_TAG_NAME: usize = 128;
const MAX_TAG_VALUE: usize = 256;
const END_OF_FRAGMENT: &str = "AWS_KINESISVIDEO_END_OF_FRAGMENT";
/// SimpleBlock flags (RFC 9559 section 10.2).
const FLAG_KEY_FRAME: u8 = 0x80;
const FLAGS_LACING: u8 = 0x06;

#[derive(Debug)]
struct OpenBlock {
    record: BlockRecord,
    hash: Option<Sha256>,
    nal_units: Option<NalUnits>,
    first_video: bool,
}

/// Assembles the fragments of one session.
#[derive(Debug)]
pub(crate) struct Fragments {
    strict: bool,
    record_blocks: bool,
    raw: bool,
    /// Added to timestamps of records: the producer's start in RELATIVE sessions.
    origin_ms: i64,
    scale: u64,
    tracks: Vec<TrackEntry>,
    configurations: Vec<(u64, DecoderConfiguration)>,
    header: Vec<u8>,
    fragment: Option<Fragment>,
    in_cluster: bool,
    block: Option<OpenBlock>,
    pending_tags: Vec<(String, String)>,
    /// Last timestamp, in ticks, of the fragments before the current one.
    last: Option<i64>,
    count: u32,
    pub(crate) notices: Vec<Notice>,
}

impl Fragments {
    pub(crate) fn new(strict: bool, record_blocks: bool, raw: bool, origin_ms: i64) -> Self {
        Self {
            strict,
            record_blocks,
            raw,
            origin_ms,
            scale: 1_000_000,
            tracks: Vec::new(),
            configurations: Vec::new(),
            header: Vec::new(),
            fragment: None,
            in_cluster: false,
            block: None,
            pending_tags: Vec::new(),
            last: None,
            count: 0,
            notices: Vec::new(),
        }
    }

    /// Everything before the first Cluster, when copies are asked for.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header
    }

    /// Index of the fragment that is coming in, and the offset it began at.
    pub(crate) fn current(&self) -> Option<(u32, u64)> {
        self.fragment.as_ref().map(|fragment| (fragment.index, fragment.start))
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The fragment that never became complete; `offset` is where the body ended.
    pub(crate) fn abandon(&mut self, offset: u64) -> Option<Fragment> {
        let mut fragment = self.fragment.take().filter(|fragment| fragment.started)?;
        if self.in_cluster {
            fragment.size = offset - fragment.start;
        }
        Some(fragment)
    }

    fn violation(&mut self, rule: Rule, detail: impl Into<String>) {
        if self.strict {
            self.notices.push(Notice::Violation(rule, detail.into()));
        }
    }

    fn ms(&self, ticks: i64) -> i64 {
        i64::try_from(i128::from(ticks) * i128::from(self.scale) / 1_000_000).unwrap_or(i64::MAX)
    }

    pub(crate) fn on(&mut self, event: Event<'_>) -> Result<(), Rejection> {
        match event {
            Event::TimecodeScale(scale) => self.scale = scale,
            Event::Tracks(tracks) => self.on_tracks(tracks),
            Event::ClusterStart { offset } => {
                self.complete()?;
                self.count += 1;
                self.in_cluster = true;
                self.fragment = Some(Fragment::new(self.count, offset, std::mem::take(&mut self.pending_tags)));
            }
            Event::ClusterEnd { offset } => {
                self.in_cluster = false;
                if let Some(fragment) = &mut self.fragment {
                    fragment.size = offset - fragment.start;
                }
            }
            Event::Timecode(timecode) => self.on_timecode(timecode)?,
            Event::Block { track, timecode, flags, size, end, simple } => {
                self.on_block(track, timecode, flags, size, end, simple)?
            }
            Event::Payload(bytes) => {
                if let Some(block) = &mut self.block {
                    if let Some(hash) = &mut block.hash {
                        hash.update(bytes);
                    }
                    if let Some(nal_units) = &mut block.nal_units {
                        nal_units.feed(bytes);
                    }
                }
            }
            Event::BlockEnd => self.on_block_end(),
            Event::ReferenceBlock => {
                if let Some(last) = self.fragment.as_mut().and_then(|fragment| fragment.blocks.last_mut()) {
                    last.key = false;
                }
            }
            Event::Tags(tags) => self.on_tags(tags)?,
            Event::Unusual(what) => self.violation(Rule::UnusualElement, what),
            Event::Raw(bytes) => match &mut self.fragment {
                Some(fragment) if self.raw && self.in_cluster => fragment.raw.extend_from_slice(bytes),
                None if self.raw && self.count == 0 => self.header.extend_from_slice(bytes),
                _ => {}
            },
        }
        Ok(())
    }

    /// The body has ended in good order.
    pub(crate) fn finish(&mut self) -> Result<(), Rejection> {
        if let Some(fragment) = &mut self.fragment {
            fragment.tags.append(&mut self.pending_tags);
        }
        self.complete()
    }

    fn on_tracks(&mut self, tracks: Vec<TrackEntry>) {
        let configuration = |track: &TrackEntry| Some((track.number, track.configuration()?.ok()?));
        self.configurations = tracks.iter().filter_map(configuration).collect();
        self.tracks.clone_from(&tracks);
        self.notices.push(Notice::Tracks(tracks));
    }

    fn on_timecode(&mut self, timecode: u64) -> Result<(), Rejection> {
        let Some(timecode) = i64::try_from(timecode).ok().filter(|&timecode| timecode < MAX_TIMECODE) else {
            return Err(Rejection::invalid_mkv("the Timecode is out of range"));
        };
        let timecode_ms = self.ms(timecode);
        let Some(fragment) = &mut self.fragment else { return Ok(()) };
        fragment.timecode = timecode;
        fragment.last = timecode;
        fragment.started = true;
        self.notices.push(Notice::Started { index: fragment.index, timecode_ms });
        match self.last {
            Some(last) if self.strict && timecode <= last => Err(Rejection::new(
                ErrorId::FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS,
                format!("fragment timecode {timecode} is not after {last}, the last of the fragments before"),
            )),
            _ => Ok(()),
        }
    }

    fn on_block(
        &mut self,
        track: u64,
        timecode: i16,
        flags: u8,
        size: u64,
        end: u64,
        simple: bool,
    ) -> Result<(), Rejection> {
        let entry = self.tracks.iter().find(|entry| entry.number == track);
        let video = entry.is_some_and(TrackEntry::is_video);
        if entry.is_none() {
            return Err(Rejection::new(
                ErrorId::TRACK_NUMBER_MISMATCH,
                format!("a block of track {track}, which is not declared"),
            ));
        }
        let Some(fragment) = &self.fragment else { return Ok(()) };
        let ticks = fragment.timecode + i64::from(timecode);
        let (duration, from_start) = (self.ms(ticks - fragment.timecode), end - fragment.start);
        if self.strict && from_start > MAX_FRAGMENT_SIZE {
            return Err(Rejection::new(ErrorId::MAX_FRAGMENT_SIZE_REACHED, format!("{from_start} bytes")));
        }
        if self.strict && duration > MAX_FRAGMENT_DURATION_MS {
            return Err(Rejection::new(ErrorId::MAX_FRAGMENT_DURATION_REACHED, format!("{duration} ms")));
        }
        let first_video = video && !fragment.tracks_seen.contains(&track);
        let key = !simple || flags & FLAG_KEY_FRAME != 0;
        if first_video && !key {
            self.violation(
                Rule::FragmentWithoutKeyFrame,
                format!("track {track} begins with a frame that is not a key frame"),
            );
        }
        if size == 0 {
            self.violation(Rule::EmptyFrame, format!("track {track} at {ticks}"));
        }
        if flags & FLAGS_LACING != 0 {
            self.violation(Rule::Lacing, format!("track {track} at {ticks}"));
        }
        let timestamp_ms = self.ms(ticks).saturating_add(self.origin_ms);
        let configuration = self.configurations.iter().find(|(number, _)| *number == track);
        self.block = Some(OpenBlock {
            record: BlockRecord { track, timestamp_ms, key, size, sha256: None },
            hash: self.record_blocks.then(Sha256::new),
            nal_units: configuration.filter(|_| self.strict).map(|(_, configuration)| NalUnits::new(*configuration)),
            first_video,
        });
        if let Some(fragment) = &mut self.fragment {
            fragment.last = fragment.last.max(ticks);
            fragment.block_count += 1;
            fragment.first_ms = Some(fragment.first_ms.map_or(timestamp_ms, |first| first.min(timestamp_ms)));
            fragment.last_ms = Some(fragment.last_ms.map_or(timestamp_ms, |last| last.max(timestamp_ms)));
            if !fragment.tracks_seen.contains(&track) {
                fragment.tracks_seen.push(track);
            }
        }
        Ok(())
    }

    fn on_block_end(&mut self) {
        let Some(OpenBlock { mut record, hash, nal_units, first_video }) = self.block.take() else { return };
        let at = record.timestamp_ms;
        match nal_units.map(NalUnits::finish) {
            Some(Err(why)) => self.violation(Rule::NalLengths, format!("block at {at} ms: {why}")),
            Some(Ok(false)) if first_video && record.key => {
                self.violation(
                    Rule::KeyFrameWithoutIdr,
                    format!("block at {at} ms is flagged as key frame but has no IDR slice"),
                );
            }
            _ => {}
        }
        if let Some(hash) = hash {
            record.sha256 = Some(short_hex(&hash.finalize()));
            if let Some(fragment) = &mut self.fragment {
                fragment.blocks.push(record);
            }
        }
    }

    fn on_tags(&mut self, mut tags: Vec<(String, String)>) -> Result<(), Rejection> {
        let tag_count = tags.len();
        tags.retain(|(name, _)| name != END_OF_FRAGMENT);
        let end_of_fragment = tags.len() < tag_count;
        for (name, value) in &tags {
            if self.strict && (name.len() > MAX_TAG_NAME || value.len() > MAX_TAG_VALUE) {
                let detail = format!("a tag with a name of {} and a value of {} bytes", name.len(), value.len());
                return Err(Rejection::new(ErrorId::FRAGMENT_METADATA_LIMIT_REACHED, detail));
            }
            if name.starts_with("AWS") && !name.starts_with("AWS_KINESISVIDEO_") {
                self.violation(Rule::ReservedTag, name.clone());
            }
        }
        self.pending_tags.append(&mut tags);
        if end_of_fragment {
            match &mut self.fragment {
                Some(fragment) => fragment.tags.append(&mut self.pending_tags),
                None => self.violation(Rule::EndOfFragmentWithoutFragment, "an end-of-fragment tag after no fragment"),
            }
            self.complete()?;
        }
        if self.strict && self.pending_tags.len() > MAX_TAGS {
            return Err(Rejection::new(
                ErrorId::FRAGMENT_METADATA_LIMIT_REACHED,
                format!("{} tags", self.pending_tags.len()),
            ));
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), Rejection> {
        let Some(fragment) = self.fragment.take() else { return Ok(()) };
        let missing = self.tracks.iter().find(|track| !fragment.tracks_seen.contains(&track.number));
        let rejection = match missing {
            Some(track) if self.strict => {
                Some(Rejection::new(ErrorId::FRAMES_MISSING_FOR_TRACK, format!("no frame of track {}", track.number)))
            }
            _ if self.strict && fragment.tags.len() > MAX_TAGS => {
                Some(Rejection::new(ErrorId::FRAGMENT_METADATA_LIMIT_REACHED, format!("{} tags", fragment.tags.len())))
            }
            _ => None,
        };
        if let Some(rejection) = rejection {
            self.fragment = Some(fragment);
            return Err(rejection);
        }
        self.last = self.last.max(Some(fragment.last));
        self.notices.push(Notice::Complete(Box::new(fragment)));
        Ok(())
    }
}

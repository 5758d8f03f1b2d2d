//! Finds the elements of a Matroska stream in input that comes in pieces of any size.
//!
//! Invariants: the events do not depend on how the input is cut; nothing but header elements, Tags and a few bytes of
//! an element header is buffered; what is not Matroska as a producer may send it is a [`Rejection`], after which the
//! parser is not used again. `lenient` takes what other programs write as well: a Segment of known size, elements
//! this file does not name.

use crate::error::Rejection;
use crate::mkv::element::{self, ElementHeader, element_header, is_segment_child, unsigned};
use crate::mkv::event::{Event, Sink};
use crate::mkv::header;

/// Sum of all that may be buffered at once.
const MAX_BUFFERED: u64 = 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Header,
    Collect { id: u32, left: u64 },
    BlockHead { id: u32, left: u64 },
    Payload { left: u64 },
    Skip { left: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    Top,
    Segment,
    /// With the end, when the size is known.
    Cluster(Option<u64>),
    BlockGroup {
        end: u64,
        cluster_end: Option<u64>,
    },
}

/// An incremental parser of one PutMedia body.
#[derive(Debug)]
pub(crate) struct Parser {
    lenient: bool,
    raw: bool,
    offset: u64,
    state: State,
    level: Level,
    segment_end: Option<u64>,
    /// The header of an element, or the content of one that is needed whole.
    buffer: Vec<u8>,
    has_ebml: bool,
    has_info: bool,
    has_tracks: bool,
    has_cluster: bool,
    has_timecode: bool,
}

fn invalid<T>(why: impl Into<String>) -> Result<T, Rejection> {
    Err(Rejection::invalid_mkv(why))
}

impl Parser {
    /// `raw` asks for [`Event::Raw`].
    pub(crate) fn new(lenient: bool, raw: bool) -> Self {
        Self {
            lenient,
            raw,
            offset: 0,
            state: State::Header,
            level: Level::Top,
            segment_end: None,
            buffer: Vec::new(),
            has_ebml: false,
            has_info: false,
            has_tracks: false,
            has_cluster: false,
            has_timecode: false,
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn feed(&mut self, mut data: &[u8], sink: &mut Sink<'_>) -> Result<(), Rejection> {
        while !data.is_empty() {
            let used = match self.state {
                State::Header => self.header(data, sink)?,
                State::Collect { id, left } => self.collect(id, left, data, sink)?,
                State::BlockHead { id, left } => self.block_head(id, left, data, sink)?,
                State::Payload { left } | State::Skip { left } => self.pass(left, data, sink)?,
            };
            data = data.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// The body has ended.
    pub(crate) fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), Rejection> {
        if self.offset == 0 {
            return Ok(());
        }
        if self.state != State::Header || !self.buffer.is_empty() {
            return invalid("the body ends inside an element");
        }
        self.leave_finished(sink)?;
        match self.level {
            Level::Cluster(None) => self.leave_cluster(self.offset, sink),
            Level::Cluster(Some(_)) | Level::BlockGroup { .. } => {
                invalid("the body ends inside a Cluster of known size")
            }
            Level::Segment if self.has_tracks => Ok(()),
            Level::Top | Level::Segment => invalid("the body ends before the header is complete"),
        }
    }

    fn header(&mut self, data: &[u8], sink: &mut Sink<'_>) -> Result<usize, Rejection> {
        if self.buffer.is_empty() {
            self.leave_finished(sink)?;
        }
        for (i, &byte) in data.iter().enumerate() {
            self.buffer.push(byte);
            self.offset += 1;
            if let Some(header) = element_header(&self.buffer)? {
                let mut bytes = std::mem::take(&mut self.buffer);
                self.enter(header, &bytes, sink)?;
                bytes.clear();
                self.buffer = bytes;
                return Ok(i + 1);
            }
        }
        Ok(data.len())
    }

    /// Leaves masters of known size that end here.
    fn leave_finished(&mut self, sink: &mut Sink<'_>) -> Result<(), Rejection> {
        if let Level::BlockGroup { end, cluster_end } = self.level
            && self.offset == end
        {
            self.level = Level::Cluster(cluster_end);
        }
        if self.level == Level::Cluster(Some(self.offset)) {
            self.leave_cluster(self.offset, sink)?;
        }
        Ok(())
    }

    fn leave_cluster(&mut self, offset: u64, sink: &mut Sink<'_>) -> Result<(), Rejection> {
        self.level = Level::Segment;
        if !self.has_timecode {
            return invalid("a Cluster without Timecode");
        }
        sink(Event::ClusterEnd { offset })
    }

    /// An element begins: `bytes` is its header, `self.offset` the first byte of its content.
    fn enter(&mut self, header: ElementHeader, bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), Rejection> {
        let ElementHeader { id, size, .. } = header;
        if self.level == Level::Cluster(None)
            && (is_segment_child(id) || matches!(id, element::EBML | element::SEGMENT))
        {
            self.leave_cluster(self.offset - bytes.len() as u64, sink)?;
        }
        let end = size.map(|size| self.offset.saturating_add(size));
        self.check_fits(id, end)?;
        let left = size.unwrap_or_default();
        self.state = match (self.level, id) {
            (Level::Top, _) if !self.has_ebml => self.enter_top(id, size, end)?,
            (_, element::VOID | element::CRC_32) if size.is_some() => State::Skip { left },
            (Level::Top, _) => self.enter_top(id, size, end)?,
            (Level::Segment, element::CLUSTER) => {
                if !self.has_info || !self.has_tracks {
                    return invalid("a Cluster before Info and Tracks");
                }
                self.has_cluster = true;
                self.has_timecode = false;
                sink(Event::ClusterStart { offset: self.offset - bytes.len() as u64 })?;
                self.level = Level::Cluster(end);
                State::Header
            }
            (_, _) if size.is_none() => return invalid(format!("element {id:#x} may not be of unknown size")),
            (Level::Segment, _) => self.enter_segment_child(id, left, sink)?,
            (Level::Cluster(cluster_end), _) => self.enter_cluster_child(id, left, cluster_end, sink)?,
            (Level::BlockGroup { .. }, element::BLOCK) => State::BlockHead { id, left },
            (Level::BlockGroup { .. }, element::REFERENCE_BLOCK) => {
                sink(Event::ReferenceBlock)?;
                State::Skip { left }
            }
            (Level::BlockGroup { .. }, _) => State::Skip { left },
        };
        if self.raw {
            sink(Event::Raw(bytes))?;
        }
        self.enter_empty(id, sink)
    }

    fn check_fits(&self, id: u32, end: Option<u64>) -> Result<(), Rejection> {
        let parent_end = match self.level {
            Level::Top => None,
            Level::Segment => self.segment_end,
            Level::Cluster(end) => end.or(self.segment_end),
            Level::BlockGroup { end, .. } => Some(end),
        };
        match (parent_end, end) {
            (Some(parent_end), Some(end)) if end > parent_end => {
                invalid(format!("element {id:#x} does not fit in its parent"))
            }
            (Some(_), None) if !self.lenient => {
                invalid(format!("element {id:#x} of unknown size in a parent of known size"))
            }
            _ => Ok(()),
        }
    }

    fn enter_top(&mut self, id: u32, size: Option<u64>, end: Option<u64>) -> Result<State, Rejection> {
        match (id, size, self.has_ebml) {
            (element::EBML, Some(left), false) if left <= MAX_BUFFERED => Ok(State::Collect { id, left }),
            (element::SEGMENT, None, true) => {
                self.level = Level::Segment;
                Ok(State::Header)
            }
            (element::SEGMENT, Some(_), true) if self.lenient => {
                self.segment_end = end;
                self.level = Level::Segment;
                Ok(State::Header)
            }
            (element::SEGMENT, Some(_), true) => invalid("the Segment is of known size"),
            (_, _, false) => invalid(format!("the body begins with element {id:#x}, not with an EBML header")),
            (_, _, true) => invalid(format!("element {id:#x} where the Segment should be")),
        }
    }

    fn enter_segment_child(&mut self, id: u32, left: u64, sink: &mut Sink<'_>) -> Result<State, Rejection> {
        let unusual = match id {
            element::EBML | element::SEGMENT => return invalid("a second header in the body"),
            element::INFO if self.has_info => return invalid("a second Info"),
            element::TRACKS if self.has_tracks => return invalid("a second Tracks"),
            element::INFO | element::TRACKS if self.has_cluster => return invalid("Info or Tracks after a Cluster"),
            element::INFO | element::TRACKS | element::TAGS if left > MAX_BUFFERED => {
                return invalid(format!("element {id:#x} is too large"));
            }
            element::INFO | element::TRACKS | element::TAGS => return Ok(State::Collect { id, left }),
            element::SEEK_HEAD => "SeekHead",
            element::CUES => "Cues",
            element::CHAPTERS => "Chapters",
            element::ATTACHMENTS => "Attachments",
            _ if self.lenient => "unknown element",
            _ => return invalid(format!("element {id:#x} in the Segment")),
        };
        sink(Event::Unusual(unusual))?;
        Ok(State::Skip { left })
    }

    fn enter_cluster_child(
        &mut self,
        id: u32,
        left: u64,
        cluster_end: Option<u64>,
        sink: &mut Sink<'_>,
    ) -> Result<State, Rejection> {
        match id {
            element::TIMECODE if self.has_timecode => invalid("a second Timecode in a Cluster"),
            element::TIMECODE if left > 8 => invalid("the Timecode is longer than 8 bytes"),
            element::TIMECODE => Ok(State::Collect { id, left }),
            element::SIMPLE_BLOCK | element::BLOCK_GROUP if !self.has_timecode => {
                invalid("a block before the Timecode of its Cluster")
            }
            _ if !self.has_timecode && !self.lenient => invalid("the Timecode is not the first in its Cluster"),
            element::SIMPLE_BLOCK => Ok(State::BlockHead { id, left }),
            element::BLOCK_GROUP => {
                sink(Event::Unusual("BlockGroup"))?;
                self.level = Level::BlockGroup { end: self.offset + left, cluster_end };
                Ok(State::Header)
            }
            element::POSITION | element::PREV_SIZE => Ok(State::Skip { left }),
            _ if self.lenient => Ok(State::Skip { left }),
            _ => invalid(format!("element {id:#x} in a Cluster")),
        }
    }

    /// Elements without content end where they begin.
    fn enter_empty(&mut self, id: u32, sink: &mut Sink<'_>) -> Result<(), Rejection> {
        match self.state {
            State::Collect { left: 0, .. } => self.collected(id, &[], sink),
            State::Skip { left: 0 } => {
                self.state = State::Header;
                Ok(())
            }
            State::BlockHead { left, .. } if left < 4 => invalid("a block is too short"),
            _ => Ok(()),
        }
    }

    fn collect(&mut self, id: u32, left: u64, data: &[u8], sink: &mut Sink<'_>) -> Result<usize, Rejection> {
        let used = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        self.buffer.extend_from_slice(data.get(..used).unwrap_or_default());
        self.offset += used as u64;
        self.state = State::Collect { id, left: left - used as u64 };
        if left == used as u64 {
            let content = std::mem::take(&mut self.buffer);
            self.collected(id, &content, sink)?;
            if self.raw {
                sink(Event::Raw(&content))?;
            }
        }
        Ok(used)
    }

    fn collected(&mut self, id: u32, content: &[u8], sink: &mut Sink<'_>) -> Result<(), Rejection> {
        self.state = State::Header;
        match id {
            element::EBML => {
                header::check_ebml(content)?;
                self.has_ebml = true;
                Ok(())
            }
            element::INFO => {
                self.has_info = true;
                sink(Event::TimecodeScale(header::timecode_scale(content, self.lenient)?))
            }
            element::TRACKS => {
                self.has_tracks = true;
                sink(Event::Tracks(header::tracks(content, self.lenient)?))
            }
            element::TAGS => sink(Event::Tags(header::tags(content)?)),
            _ => {
                self.has_timecode = true;
                sink(Event::Timecode(unsigned(id, content)?))
            }
        }
    }

    /// Track number, timecode and flags in front of a block's frame.
    fn block_head(&mut self, id: u32, left: u64, data: &[u8], sink: &mut Sink<'_>) -> Result<usize, Rejection> {
        for (i, &byte) in data.iter().enumerate() {
            self.buffer.push(byte);
            self.offset += 1;
            let Some((&first, rest)) = self.buffer.split_first() else { continue };
            let width = first.leading_zeros() as usize;
            if width > 7 || left < width as u64 + 4 {
                return invalid("a block is too short for its track number");
            }
            let Some((number, &[high, low, flags])) =
                rest.split_at_checked(width).and_then(|(number, rest)| Some((number, rest.first_chunk()?)))
            else {
                continue;
            };
            let track =
                number.iter().fold(u64::from(first) & (0x7F >> width), |track, &byte| track << 8 | u64::from(byte));
            let (timecode, size) = (i16::from_be_bytes([high, low]), left - width as u64 - 4);
            let simple = id == element::SIMPLE_BLOCK;
            sink(Event::Block { track, timecode, flags, size, end: self.offset + size, simple })?;
            if self.raw {
                sink(Event::Raw(&self.buffer))?;
            }
            self.buffer.clear();
            self.state = State::Payload { left: size };
            if size == 0 {
                self.state = State::Header;
                sink(Event::BlockEnd)?;
            }
            return Ok(i + 1);
        }
        Ok(data.len())
    }

    fn pass(&mut self, left: u64, data: &[u8], sink: &mut Sink<'_>) -> Result<usize, Rejection> {
        let used = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        let content = data.get(..used).unwrap_or_default();
        let payload = matches!(self.state, State::Payload { .. });
        self.offset += used as u64;
        if payload {
            sink(Event::Payload(content))?;
        }
        if self.raw {
            sink(Event::Raw(content))?;
        }
        self.state = match (left - used as u64, payload) {
            (0, _) => State::Header,
            (left, true) => State::Payload { left },
            (left, false) => State::Skip { left },
        };
        if payload && self.state == State::Header {
            sink(Event::BlockEnd)?;
        }
        Ok(used)
    }
}

//! Messages, cut into chunks (section 5.3): a reader for any sender, and a writer for the few messages of ours.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::RtmpError;

/// The chunk size both sides begin with (section 5.4.1).
const CHUNK_SIZE: usize = 128;
/// Chunk streams that one sender may use. Encoders use four: control, commands, sound and pictures.
const STREAMS: usize = 16;
/// The longest header: three bytes of basic header, eleven of message header, four of extended timestamp.
const HEADER: usize = 18;
/// Room that is made for a message before its bytes are there, at most.
const BELIEVED: usize = 64 << 10;
/// Timestamps from here on are in the extended field (section 5.3.1.3).
const EXTENDED: u32 = 0xff_ff_ff;

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// What it holds (section 5.4 and chapter 7).
    pub type_id: u8,
    /// The message stream it belongs to.
    pub stream_id: u32,
    /// Milliseconds; wraps at 32 bits.
    pub timestamp: u32,
    /// The payload.
    pub payload: Bytes,
}

/// What is remembered of a chunk stream.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    timestamp: u32,
    /// What the next message that has no timestamp of its own adds.
    delta: u32,
    /// The extended timestamp field, where the last header had one.
    extended: Option<u32>,
    length: usize,
    type_id: u8,
    stream_id: u32,
    /// The message in progress.
    partial: BytesMut,
}

/// Puts messages together from chunks, whatever the size of the pieces they come in.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_size: usize,
    limit: usize,
    streams: Vec<ChunkStream>,
    /// What has arrived and is not looked at yet. Between two pushes: part of a header.
    buffer: BytesMut,
    /// The chunk stream that is being read, and how many bytes of its chunk are to come.
    open: Option<(usize, usize)>,
}

impl ChunkReader {
    /// Messages that are not complete may have so many bytes together.
    pub fn new(limit: usize) -> Self {
        Self { chunk_size: CHUNK_SIZE, limit, streams: Vec::new(), buffer: BytesMut::new(), open: None }
    }

    /// Another limit, from the next message on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes the next bytes. Call [`ChunkReader::next_message`] until it gives nothing before the next ones.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, if all of it has arrived. After an error there is nothing more.
    pub fn next_message(&mut self) -> Result<Option<Message>, RtmpError> {
        loop {
            let (index, left) = match self.open {
                Some(open) => open,
                None => match self.header()? {
                    Some(index) => (index, self.begin_chunk(index)?),
                    None => return Ok(None),
                },
            };
            let count = left.min(self.buffer.len());
            let pending: usize = self.streams.iter().map(|stream| stream.partial.len()).sum();
            if pending + count > self.limit {
                return Err(RtmpError::TooLarge(self.limit));
            }
            let stream = &mut self.streams[index];
            if stream.partial.is_empty() {
                stream.partial.reserve(stream.length.min(BELIEVED));
            }
            stream.partial.extend_from_slice(&self.buffer[..count]);
            self.buffer.advance(count);
            self.open = (count < left).then_some((index, left - count));
            if self.open.is_some() {
                return Ok(None);
            }
            if stream.partial.len() < stream.length {
                continue;
            }
            let message = Message {
                type_id: stream.type_id,
                stream_id: stream.stream_id,
                timestamp: stream.timestamp,
                payload: exact(std::mem::take(&mut stream.partial)),
            };
            match message.type_id {
                SET_CHUNK_SIZE => self.chunk_size = chunk_size(&message.payload)?,
                ABORT => self.abort(&message.payload),
                _ => return Ok(Some(message)),
            }
        }
    }

    /// How many bytes of the chunk that begins are to come.
    fn begin_chunk(&mut self, index: usize) -> Result<usize, RtmpError> {
        let stream = &self.streams[index];
        if stream.length > self.limit {
            return Err(RtmpError::TooLarge(self.limit));
        }
        Ok((stream.length - stream.partial.len()).min(self.chunk_size))
    }

    fn abort(&mut self, payload: &[u8]) {
        let Some(id) = payload.first_chunk::<4>().map(|id| u32::from_be_bytes(*id)) else { return };
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
            stream.partial = BytesMut::new();
        }
    }

    /// Reads a chunk's header (section 5.3.1), if all of it is there, and gives the chunk stream it is for.
    fn header(&mut self) -> Result<Option<usize>, RtmpError> {
        let mut head = &self.buffer[..self.buffer.len().min(HEADER)];
        let before = head.len();
        let Some((format, id)) = basic_header(&mut head) else { return Ok(None) };
        if head.len() < [11, 7, 3, 0][usize::from(format)] {
            return Ok(None);
        }
        let known = self.streams.iter().position(|stream| stream.id == id);
        let index = match (known, format) {
            (Some(index), _) => index,
            (None, 0) if self.streams.len() < STREAMS => self.streams.len(),
            (None, 0) => return Err(RtmpError::Malformed("more chunk streams than an encoder has")),
            (None, _) => return Err(RtmpError::Malformed("a chunk that continues one that never began")),
        };
        let old = self.streams.get(index);
        let is_inside = old.is_some_and(|stream| !stream.partial.is_empty());
        if is_inside && format != 3 {
            return Err(RtmpError::Malformed("a message that begins within another"));
        }
        let field = (format < 3).then(|| get_u24(&mut head));
        let (mut length, mut type_id) = old.map_or((0, 0), |old| (old.length, old.type_id));
        if format < 2 {
            length = get_u24(&mut head) as usize;
            type_id = head.get_u8();
        }
        let stream_id = if format == 0 { head.get_u32_le() } else { old.map_or(0, |old| old.stream_id) };
        let mut extended = None;
        if field.map_or_else(|| old.is_some_and(|old| old.extended.is_some()), |field| field == EXTENDED) {
            if head.len() < 4 {
                return Ok(None);
            }
            let mut ahead = head;
            let value = ahead.get_u32();
            extended = Some(value);
            // Some senders leave it out of chunks that go on.
            if format == 3 && old.and_then(|old| old.extended) != Some(value) {
                extended = old.and_then(|old| old.extended);
            } else {
                head = ahead;
            }
        }
        let read = before - head.len();
        let value = extended.or(field);
        let (old_timestamp, old_delta) = old.map_or((0, 0), |old| (old.timestamp, old.delta));
        let (timestamp, delta) = match (format, value) {
            // By the specification a chunk of format 3 behind this one would add the whole timestamp again. Encoders with
            // librtmp mean the same time by it.
            (0, Some(value)) => (value, 0),
            (1 | 2, Some(value)) => (old_timestamp.wrapping_add(value), value),
            _ if is_inside => (old_timestamp, old_delta),
            _ => (old_timestamp.wrapping_add(old_delta), old_delta),
        };
        self.buffer.advance(read);
        match self.streams.get_mut(index) {
            Some(stream) => {
                (stream.timestamp, stream.delta, stream.extended) = (timestamp, delta, extended);
                (stream.length, stream.type_id, stream.stream_id) = (length, type_id, stream_id);
            }
            None => {
                let partial = BytesMut::new();
                self.streams.push(ChunkStream { id, timestamp, delta, extended, length, type_id, stream_id, partial });
            }
        }
        Ok(Some(index))
    }
}

/// In no more memory than it has bytes, nearly: it may be kept for long.
fn exact(payload: BytesMut) -> Bytes {
    match payload.capacity() > payload.len() + payload.len() / 8 {
        true => Bytes::copy_from_slice(&payload),
        false => payload.freeze(),
    }
}

/// Message type: the sender's chunk size (section 5.4.1).
pub(super) const SET_CHUNK_SIZE: u8 = 1;
/// Message type: a message that is not completed (section 5.4.2).
const ABORT: u8 = 2;

fn chunk_size(payload: &[u8]) -> Result<usize, RtmpError> {
    let size = payload.first_chunk::<4>().map(|size| u32::from_be_bytes(*size));
    size.filter(|size| (1..1 << 31).contains(size))
        .map(|size| size as usize)
        .ok_or(RtmpError::Malformed("a chunk size that is none"))
}

/// Format and chunk stream id (section 5.3.1.1).
fn basic_header(head: &mut &[u8]) -> Option<(u8, u32)> {
    let first = head.first().copied()?;
    let (id, length) = match first & 0x3f {
        0 => (64 + u32::from(*head.get(1)?), 2),
        1 => (64 + u32::from(*head.get(1)?) + 256 * u32::from(*head.get(2)?), 3),
        id => (u32::from(id), 1),
    };
    head.advance(length);
    Some((first >> 6, id))
}

fn get_u24(head: &mut &[u8]) -> u32 {
    head.get_uint(3) as u32
}

/// Appends a message of ours, in chunks of the size that both sides begin with. `channel` is the chunk stream, 2 to 63.
pub(super) fn write(out: &mut BytesMut, channel: u8, message: &Message) {
    out.put_u8(channel);
    // Ours are answers: they have no time.
    out.put_uint(0, 3);
    out.put_uint(message.payload.len() as u64, 3);
    out.put_u8(message.type_id);
    out.put_u32_le(message.stream_id);
    for (index, chunk) in message.payload.chunks(CHUNK_SIZE).enumerate() {
        if index > 0 {
            out.put_u8(0xc0 | channel);
        }
        out.put_slice(chunk);
    }
}

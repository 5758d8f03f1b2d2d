//! The service: takes a request's bytes, answers with acks, and keeps what it has persisted.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What the service has stored: the ids of the pictures, and how often each came.
#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) pictures: HashMap<u64, u32>,
    pub(crate) refused: HashMap<u64, u32>,
}

/// How the service behaves at the moment.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mood {
    pub(crate) is_silent: bool,
    pub(crate) drops_acks: bool,
    /// The next fragment is answered with this error.
    pub(crate) error: Option<u32>,
    /// The timecode is left out of errors.
    pub(crate) hides_timecode: bool,
}

/// One PutMedia request as the service sees it.
pub(crate) struct Request {
    body: Vec<u8>,
    head_done: bool,
    chunk_left: Option<usize>,
    media: Vec<u8>,
    header_done: bool,
    fragment: Option<Fragment>,
    last_timestamp: Option<i64>,
    answers: VecDeque<(Instant, Vec<u8>)>,
    pending: VecDeque<(Instant, Fragment)>,
    persist_delay: Duration,
    answered: bool,
    /// The response is complete, or an error has ended it.
    pub(crate) is_over: bool,
}

struct Fragment {
    timecode: i64,
    latest: i64,
    pictures: Vec<u64>,
}

impl Request {
    pub(crate) fn new(persist_delay: Duration) -> Self {
        Self {
            body: Vec::new(),
            head_done: false,
            chunk_left: None,
            media: Vec::new(),
            header_done: false,
            fragment: None,
            last_timestamp: None,
            answers: VecDeque::new(),
            pending: VecDeque::new(),
            persist_delay,
            answered: false,
            is_over: false,
        }
    }

    /// Takes bytes of the request.
    pub(crate) fn take(&mut self, bytes: &[u8], mood: &mut Mood, stored: &mut Stored, now: Instant) {
        if self.is_over || mood.is_silent {
            return;
        }
        self.body.extend_from_slice(bytes);
        if !self.head_done {
            let Some(end) = self.body.windows(4).position(|window| window == b"\r\n\r\n") else { return };
            self.body.drain(..end + 4);
            self.head_done = true;
        }
        if !self.answered {
            self.answered = true;
            self.answers.push_back((now, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()));
        }
        let ended = self.dechunk();
        self.parse(mood, stored, now);
        if ended && !self.is_over {
            self.close_fragment(mood, now);
            self.is_over = true;
        }
    }

    /// Time has passed: stores what is due. Returns the bytes of the response that are due.
    pub(crate) fn answer(&mut self, mood: &Mood, stored: &mut Stored, now: Instant) -> Vec<u8> {
        while self.pending.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, fragment)) = self.pending.pop_front() else { break };
            for picture in &fragment.pictures {
                *stored.pictures.entry(*picture).or_default() += 1;
            }
            self.ack("PERSISTED", fragment.timecode, mood, now);
        }
        if self.is_over && self.pending.is_empty() && self.answered {
            self.answered = false;
            self.answers.push_back((now, b"0\r\n\r\n".to_vec()));
        }
        let mut bytes = Vec::new();
        while !mood.is_silent && self.answers.front().is_some_and(|(due, _)| *due <= now) {
            bytes.extend(self.answers.pop_front().map(|(_, answer)| answer).unwrap_or_default());
        }
        bytes
    }

    fn dechunk(&mut self) -> bool {
        loop {
            let left = match self.chunk_left {
                Some(left) => left,
                None => {
                    let Some(end) = self.body.windows(2).position(|window| window == b"\r\n") else { return false };
                    let size = std::str::from_utf8(&self.body[..end]).expect("a chunk's size is text");
                    let size = usize::from_str_radix(size, 16).expect("a chunk's size is hexadecimal");
                    self.body.drain(..end + 2);
                    self.chunk_left = Some(size);
                    size
                }
            };
            if self.body.len() < left + 2 {
                return false;
            }
            self.media.extend(self.body.drain(..left));
            assert_eq!(self.body.drain(..2).collect::<Vec<_>>(), b"\r\n", "a chunk ends where its size says");
            self.chunk_left = None;
            if left == 0 {
                return true;
            }
        }
    }

    /// Reads Matroska elements as far as they are complete.
    fn parse(&mut self, mood: &mut Mood, stored: &mut Stored, now: Instant) {
        loop {
            if self.is_over {
                return;
            }
            let Some((id, id_size)) = element_id(&self.media) else { return };
            let Some((size, size_size)) = element_size(&self.media[id_size..]) else { return };
            let head = id_size + size_size;
            match id {
                0x1853_8067 => {
                    assert!(!self.header_done, "one Segment a request");
                    self.media.drain(..head);
                }
                0x1f43_b675 => {
                    assert!(self.header_done, "Tracks come before the first Cluster");
                    if self.media.len() < head + 10 {
                        return;
                    }
                    assert_eq!(self.media[head..head + 2], [0xe7, 0x88], "a Cluster begins with its Timecode");
                    let timecode: [u8; 8] = self.media[head + 2..head + 10].try_into().expect("8 bytes");
                    self.media.drain(..head + 10);
                    self.begin_fragment(i64::from_be_bytes(timecode), mood, now);
                }
                _ => {
                    let size = size.expect("only Segment and Cluster have no size");
                    if self.media.len() < head + size {
                        return;
                    }
                    let element: Vec<u8> = self.media.drain(..head + size).collect();
                    match id {
                        0x1a45_dfa3 => assert!(!self.header_done, "one header a request"),
                        0x1654_ae6b => self.header_done = true,
                        0xa3 => self.block(&element[head..], mood, stored, now),
                        _ => {}
                    }
                }
            }
        }
    }

    fn begin_fragment(&mut self, timecode: i64, mood: &mut Mood, now: Instant) {
        self.close_fragment(mood, now);
        assert!(
            self.last_timestamp.is_none_or(|last| timecode > last),
            "4004: {timecode} after {:?}",
            self.last_timestamp
        );
        self.fragment = Some(Fragment { timecode, latest: timecode, pictures: Vec::new() });
        self.ack("BUFFERING", timecode, mood, now);
    }

    fn block(&mut self, block: &[u8], mood: &mut Mood, stored: &mut Stored, now: Instant) {
        let fragment = self.fragment.as_mut().expect("blocks are in Clusters");
        let relative = i16::from_be_bytes([block[1], block[2]]);
        let timestamp = fragment.timecode + i64::from(relative);
        assert!(timestamp >= fragment.latest, "timestamps rise inside a fragment");
        assert!(timestamp - fragment.timecode < 10_000, "4002: a fragment of more than 10 s");
        fragment.latest = timestamp;
        self.last_timestamp = Some(timestamp);
        let picture = u64::from_be_bytes(block[9..17].try_into().expect("an id"));
        if let Some(last) = fragment.pictures.last() {
            assert!(picture > *last, "pictures come in order");
        }
        fragment.pictures.push(picture);
        if let Some(error) = mood.error.take() {
            let timecode = fragment.timecode;
            let shown = if mood.hides_timecode { String::new() } else { format!("\"FragmentTimecode\":{timecode},") };
            self.chunk(&format!("{{\"EventType\":\"ERROR\",{shown}\"ErrorId\":{error}}}"), now);
            for picture in self.fragment.take().map(|fragment| fragment.pictures).unwrap_or_default() {
                *stored.refused.entry(picture).or_default() += 1;
            }
            self.is_over = true;
        }
    }

    fn close_fragment(&mut self, mood: &Mood, now: Instant) {
        if let Some(fragment) = self.fragment.take() {
            self.ack("RECEIVED", fragment.timecode, mood, now);
            self.pending.push_back((now + self.persist_delay, fragment));
        }
    }

    fn ack(&mut self, kind: &str, timecode: i64, mood: &Mood, now: Instant) {
        if !mood.drops_acks {
            self.chunk(&format!("{{\"EventType\":\"{kind}\",\"FragmentTimecode\":{timecode}}}"), now);
        }
    }

    fn chunk(&mut self, text: &str, now: Instant) {
        self.answers.push_back((now, format!("{:x}\r\n{text}\r\n\r\n", text.len() + 2).into_bytes()));
    }
}

fn element_id(bytes: &[u8]) -> Option<(u32, usize)> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    let id = bytes.get(..length)?.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    Some((id, length))
}

/// `None` inside for a size that is not known.
fn element_size(bytes: &[u8]) -> Option<(Option<usize>, usize)> {
    let first = *bytes.first()?;
    if first == 0xff {
        return Some((None, 1));
    }
    let length = first.leading_zeros() as usize + 1;
    let rest = bytes.get(..length)?;
    let value = rest[1..].iter().fold(u64::from(first) & (0xff >> length), |size, byte| size << 8 | u64::from(*byte));
    Some((Some(value as usize), length))
}

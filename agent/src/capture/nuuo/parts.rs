//! The live stream of a NUUO server: parts with a head and a body, without end. Sans-IO.
//!
//! The dialects differ in what begins a part: a Titan sends `multipart/x-mixed-replace`, whose parts begin with a line
//! `--boundary`; a Crystal sends HTTP requests, one after the other, in the body of its answer. What follows is the
//! same: header lines in any case, an empty line, `Content-Length` bytes, a line end.
//!
//! Invariants: what is kept is at most one part, and of that only what has arrived; a length is believed only up to
//! [`MAX_BODY`]. A line where a part should begin that begins none ends the stream, and is given back: a server whose
//! session has expired says so there.

use bytes::{Buf, Bytes, BytesMut};

/// One picture. The largest that cameras send are key frames of 4K, about 2 MiB.
pub(super) const MAX_BODY: usize = 8 << 20;
/// The head of a part.
const MAX_HEAD: usize = 8 << 10;
/// Header lines of a part.
const MAX_LINES: usize = 64;
/// Empty lines between two parts.
const MAX_EMPTY: usize = 16;
/// Of what is no part, for a person.
const SHOWN: usize = 120;

/// What begins a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// A boundary (RFC 2046 section 5.1.1): a Titan.
    Multipart,
    /// A request line (RFC 9112 section 3): a Crystal.
    Requests,
}

/// One part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What its head says.
    pub head: PartHead,
    /// For video: one access unit in Annex B form.
    pub body: Bytes,
}

/// The head of a part.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartHead {
    /// Media type in lower case, such as `video/h264`; empty if there is none.
    pub content_type: String,
    /// What the server calls a key frame; it need not hold an IDR, and audio may be called so too.
    pub is_key_frame: bool,
    /// When it was captured, as a Windows FILETIME: 100 ns since 1601-01-01 (a Crystal).
    pub time: Option<u64>,
    pub(super) content_length: Option<usize>,
}

/// What ends a stream.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PartError {
    /// The closing boundary.
    #[error("the server ended the stream")]
    End,
    /// What comes where a part should begin: XML, if the session has expired.
    #[error("in the stream stands what is no part of it: `{0}`")]
    NotAPart(String),
    /// A head that cannot be read.
    #[error("a part of the stream has {0}")]
    Malformed(&'static str),
    /// A body larger than it may be.
    #[error("a part of the stream is to have {0} bytes, more than a picture has")]
    TooLarge(u64),
}

/// Cuts a stream into parts, whatever the size of the pieces it comes in.
#[derive(Debug)]
pub struct PartReader {
    framing: Framing,
    buffer: BytesMut,
    /// The head of the part whose body is to come.
    head: Option<PartHead>,
    lines: usize,
    empty: usize,
    /// A head is being read.
    in_head: Option<PartHead>,
    head_bytes: usize,
}

impl PartReader {
    /// A reader at the beginning of a stream.
    pub fn new(framing: Framing) -> Self {
        Self { framing, buffer: BytesMut::new(), head: None, lines: 0, empty: 0, in_head: None, head_bytes: 0 }
    }

    /// Takes the next bytes. Call [`PartReader::next_part`] until it gives nothing before the next ones.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next part, if all of it has arrived. After an error there is nothing more.
    pub fn next_part(&mut self) -> Result<Option<Part>, PartError> {
        loop {
            if let Some(head) = &self.head {
                let length = head.content_length.unwrap_or(0);
                if self.buffer.len() < length {
                    return Ok(None);
                }
                let head = self.head.take().unwrap_or_default();
                // A copy, so that one part's memory does not hold all others' that arrived with it.
                let body = Bytes::copy_from_slice(&self.buffer[..length]);
                self.buffer.advance(length);
                return Ok(Some(Part { head, body }));
            }
            let Some(line) = self.line()? else { return Ok(None) };
            match self.in_head.take() {
                None => self.begin(&line)?,
                Some(head) if line.is_empty() => self.head = Some(checked(head)?),
                Some(head) => {
                    self.lines += 1;
                    if self.lines > MAX_LINES {
                        return Err(PartError::Malformed("more header lines than it may"));
                    }
                    self.in_head = Some(with(head, &line)?);
                }
            }
        }
    }

    /// The stream has ended: whether that was between two parts.
    pub fn is_between_parts(&self) -> bool {
        self.head.is_none() && self.in_head.is_none() && self.buffer.iter().all(u8::is_ascii_whitespace)
    }

    /// The beginning of what has arrived and is no line yet, for a person.
    pub fn rest(&self) -> String {
        shown(&self.buffer)
    }

    /// A line without its end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, PartError> {
        let Some(end) = memchr_newline(&self.buffer) else {
            if self.buffer.len() + self.head_bytes > MAX_HEAD {
                return Err(match self.in_head {
                    Some(_) => PartError::Malformed("a head that is longer than it may be"),
                    None => PartError::NotAPart(shown(&self.buffer)),
                });
            }
            return Ok(None);
        };
        self.head_bytes += end + 1;
        if self.head_bytes > MAX_HEAD {
            return Err(PartError::Malformed("a head that is longer than it may be"));
        }
        let line = self.buffer.split_to(end + 1);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
    }

    /// Takes the line that should begin a part.
    fn begin(&mut self, line: &[u8]) -> Result<(), PartError> {
        if line.is_empty() {
            self.empty += 1;
            if self.empty > MAX_EMPTY {
                return Err(PartError::Malformed("nothing but empty lines before it"));
            }
            return Ok(());
        }
        let begins = match self.framing {
            Framing::Multipart if line.starts_with(b"--") && line.len() > 4 && line.ends_with(b"--") => {
                return Err(PartError::End);
            }
            Framing::Multipart => line.starts_with(b"--"),
            Framing::Requests => is_request_line(line),
        };
        if !begins {
            return Err(PartError::NotAPart(shown(line)));
        }
        (self.lines, self.empty, self.head_bytes) = (0, 0, line.len());
        self.in_head = Some(PartHead::default());
        Ok(())
    }
}

fn memchr_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().take(MAX_HEAD + 2).position(|&byte| byte == b'\n')
}

/// `POST /path HTTP/1.1`; nothing more is known of it.
fn is_request_line(line: &[u8]) -> bool {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).collect();
    words.len() >= 2
        && words[0].iter().all(u8::is_ascii_uppercase)
        && words.last().is_some_and(|version| version.starts_with(b"HTTP/1."))
}

fn with(mut head: PartHead, line: &[u8]) -> Result<PartHead, PartError> {
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return Err(PartError::Malformed("a header line without a colon"));
    };
    let (name, value) = (line[..colon].trim_ascii().to_ascii_lowercase(), &line[colon + 1..]);
    let value = String::from_utf8_lossy(value.trim_ascii()).into_owned();
    match name.as_slice() {
        b"content-type" => {
            let kind = value.split(';').next().unwrap_or_default();
            head.content_type = kind.trim().to_ascii_lowercase();
        }
        b"content-length" => {
            let length: u64 = value.parse().map_err(|_| PartError::Malformed("a length that is no number"))?;
            head.content_length = Some(usize::try_from(length).unwrap_or(usize::MAX));
        }
        b"iskeyframe" => head.is_key_frame = value.eq_ignore_ascii_case("true") || value == "1",
        b"time" => head.time = value.parse().ok(),
        _ => {}
    }
    Ok(head)
}

fn checked(head: PartHead) -> Result<PartHead, PartError> {
    match head.content_length {
        None => Err(PartError::Malformed("no length")),
        Some(length) if length > MAX_BODY => Err(PartError::TooLarge(length as u64)),
        Some(_) => Ok(head),
    }
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN)]);
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests;

//! Frames of eventstream RPC: what the nucleus and a component say to each other, one by one. Pure.
//!
//! Layout and checksums (`application/vnd.amazon.eventstream`) are the crate's; its bounds, and what headers mean, are
//! here.

use aws_smithy_eventstream::frame::{read_message_from, write_message_to};
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::{Buf, Bytes, BytesMut};
use serde_json::{Value, json};

/// Bytes of a frame that are taken: a payload of 128 KiB in Base64, a configuration, and room.
pub const FRAME_MOST: usize = 1 << 20;
/// Prelude (12 bytes) and checksum at the end.
const FRAME_LEAST: usize = 16;
/// Of the protocol.
const VERSION: &str = "0.1.0";
/// Flag: the connection is accepted.
const ACCEPTED: i32 = 1;
/// Flag: no frame follows in this stream.
const LAST: i32 = 2;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A request, an answer or an event.
    Message,
    /// An answer that says no.
    Error,
    /// To be answered with [`Self::Pong`].
    Ping,
    /// The answer to a ping.
    Pong,
    /// The first frame.
    Connect,
    /// The answer to it.
    ConnectAck,
    /// We have broken the protocol.
    ProtocolError,
    /// The other side is broken.
    InternalError,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Message,
        Self::Error,
        Self::Ping,
        Self::Pong,
        Self::Connect,
        Self::ConnectAck,
        Self::ProtocolError,
        Self::InternalError,
    ];

    fn number(self) -> i32 {
        Self::ALL.iter().position(|kind| *kind == self).unwrap_or_default() as i32
    }
}

/// A frame.
#[derive(Clone, PartialEq, Debug)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Stream it belongs to; 0: the connection.
    pub stream: i32,
    /// Connection accepted, for an answer to `Connect`.
    pub is_accepted: bool,
    /// No frame follows in its stream.
    pub is_last: bool,
    /// `service-model-type`: what the payload is.
    pub model: String,
    /// JSON.
    pub payload: Bytes,
    /// `operation`, in a request.
    operation: String,
}

/// What is not a frame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Its length is out of bounds.
    #[error("a frame of {0} bytes; {FRAME_LEAST} to {FRAME_MOST} are taken")]
    Length(usize),
    /// Its layout or a checksum is wrong.
    #[error("a damaged frame: {0}")]
    Damaged(String),
    /// A header that each frame has is missing, or has another type.
    #[error("a frame without a usable `{0}`")]
    Header(&'static str),
}

impl Frame {
    fn new(kind: Kind, stream: i32) -> Self {
        Self {
            kind,
            stream,
            is_accepted: false,
            is_last: false,
            model: String::new(),
            payload: Bytes::new(),
            operation: String::new(),
        }
    }

    /// The first frame.
    pub fn connect(token: &str) -> Self {
        Self { payload: json!({ "authToken": token }).to_string().into(), ..Self::new(Kind::Connect, 0) }
    }

    /// A request that opens `stream`.
    pub fn request(stream: i32, operation: &str, request: &Value) -> Self {
        Self {
            operation: format!("aws.greengrass#{operation}"),
            model: format!("aws.greengrass#{operation}Request"),
            payload: request.to_string().into(),
            ..Self::new(Kind::Message, stream)
        }
    }

    /// Nothing more is wanted of `stream`.
    pub fn end(stream: i32) -> Self {
        Self { is_last: true, ..Self::new(Kind::Message, stream) }
    }

    /// The answer to a ping.
    pub fn pong() -> Self {
        Self::new(Kind::Pong, 0)
    }

    /// Its bytes, at the end of `out`. Only what is longer than the format allows cannot be written.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), FrameError> {
        let flags = if self.is_accepted { ACCEPTED } else { 0 } | if self.is_last { LAST } else { 0 };
        let mut message = Message::new(self.payload.clone())
            .add_header(Header::new(":message-type", HeaderValue::Int32(self.kind.number())))
            .add_header(Header::new(":message-flags", HeaderValue::Int32(flags)))
            .add_header(Header::new(":stream-id", HeaderValue::Int32(self.stream)));
        let mut text = |name: &'static str, value: &str| {
            let value = HeaderValue::String(value.to_owned().into());
            message = std::mem::replace(&mut message, Message::new(Bytes::new())).add_header(Header::new(name, value));
        };
        if self.kind == Kind::Connect {
            text(":version", VERSION);
        }
        if !self.payload.is_empty() {
            text(":content-type", "application/json");
        }
        if !self.operation.is_empty() {
            text("operation", &self.operation);
        }
        if !self.model.is_empty() {
            text("service-model-type", &self.model);
        }
        let before = out.len();
        write_message_to(&message, out).map_err(|error| FrameError::Damaged(error.to_string()))?;
        match out.len() - before {
            length if length > FRAME_MOST => {
                out.truncate(before);
                Err(FrameError::Length(length))
            }
            _ => Ok(()),
        }
    }

    fn read(bytes: Bytes) -> Result<Self, FrameError> {
        let message = read_message_from(bytes).map_err(|error| FrameError::Damaged(error.to_string()))?;
        let find = |name: &'static str| {
            message.headers().iter().find(|header| header.name().as_str() == name).map(Header::value)
        };
        let number = |name: &'static str| match find(name) {
            Some(HeaderValue::Int32(number)) => Ok(*number),
            _ => Err(FrameError::Header(name)),
        };
        let text = |name: &'static str| match find(name) {
            Some(HeaderValue::String(text)) => text.as_str().to_owned(),
            _ => String::new(),
        };
        let kind = usize::try_from(number(":message-type")?).ok().and_then(|number| Kind::ALL.get(number).copied());
        let flags = number(":message-flags")?;
        Ok(Self {
            kind: kind.ok_or(FrameError::Header(":message-type"))?,
            stream: number(":stream-id")?,
            is_accepted: flags & ACCEPTED != 0,
            is_last: flags & LAST != 0,
            model: text("service-model-type"),
            operation: text("operation"),
            payload: message.payload().clone(),
        })
    }
}

/// Cuts what arrives into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: BytesMut,
}

impl Decoder {
    /// What has arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame. After an error there is none: where the next one begins is not known.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(length) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if !(FRAME_LEAST..=FRAME_MOST).contains(&length) {
            return Err(FrameError::Length(length));
        }
        if self.bytes.len() < length {
            return Ok(None);
        }
        let frame = Frame::read(self.bytes.split_to(length).freeze());
        if !self.bytes.has_remaining() {
            // A large frame does not leave a large buffer behind.
            self.bytes = BytesMut::new();
        }
        frame.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(frame: &Frame) -> BytesMut {
        let mut out = BytesMut::new();
        frame.write(&mut out).expect("it fits");
        out
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let frames = [
            Frame::connect("token"),
            Frame::request(1, "GetConfiguration", &json!({ "keyPath": [] })),
            Frame::end(1),
            Frame::pong(),
            Frame { is_accepted: true, ..Frame::new(Kind::ConnectAck, 0) },
        ];
        let all: Vec<u8> = frames.iter().flat_map(|frame| bytes(frame).to_vec()).collect();
        for size in [1, 7, 64, all.len()] {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for piece in all.chunks(size) {
                decoder.feed(piece);
                while let Some(frame) = decoder.next_frame().expect("frames") {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames, "in pieces of {size}");
        }
    }

    /// The connect frame of AWS's own client, by its documentation, byte for byte where it matters.
    #[test]
    fn a_request_is_what_the_nucleus_wants() {
        let out = bytes(&Frame::request(3, "UpdateState", &json!({ "state": "RUNNING" })));
        let shown = String::from_utf8_lossy(&out);
        assert!(shown.contains("operation\u{7}\u{0}\u{1a}aws.greengrass#UpdateState"), "{shown:?}");
        assert!(shown.contains("service-model-type\u{7}\u{0}!aws.greengrass#UpdateStateRequest"), "{shown:?}");
        assert!(out.windows(16).any(|w| w == b":stream-id\x04\0\0\0\x03\x0d".as_slice()), "{shown:?}");
    }

    #[test]
    fn damage_and_size_are_refused() {
        let whole = bytes(&Frame::request(1, "X", &json!({})));
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            let mut decoder = Decoder::default();
            decoder.feed(&damaged);
            assert!(!matches!(decoder.next_frame(), Ok(Some(_))), "byte {at}");
        }
        let mut decoder = Decoder::default();
        decoder.feed(&(FRAME_MOST as u32 + 1).to_be_bytes());
        assert_eq!(decoder.next_frame(), Err(FrameError::Length(FRAME_MOST + 1)));
        let large = Frame::request(1, "X", &json!("x".repeat(FRAME_MOST)));
        let mut out = BytesMut::new();
        assert!(matches!(large.write(&mut out), Err(FrameError::Length(_))) && out.is_empty());
    }
}

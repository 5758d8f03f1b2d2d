//! The server's side of one connection, up to the media (chapters 5 and 7). Sans-IO.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::amf0::{self, Value};
use super::chunk::{self, ChunkReader, Message, SET_CHUNK_SIZE};
use super::{AudioTag, RtmpError, VideoTag};

/// Bytes of C1, C2, S1 and S2 (section 5.2.3).
const HANDSHAKE: usize = 1536;
/// Of a message, before it is known who publishes: commands have some hundred bytes.
const COMMANDS: usize = 16 << 10;
/// Of a message of pictures. The largest that cameras send are key frames of 4K, about 2 MiB.
const PICTURES: usize = 8 << 20;
/// We are told after so many bytes of ours, and tell after so many of the peer's if it does not ask for less.
const WINDOW: u32 = 2_500_000;
/// The message stream that we give a publisher.
const STREAM: u32 = 1;

// Message types (section 5.4, chapter 7).
const ACKNOWLEDGEMENT: u8 = 3;
const USER_CONTROL: u8 = 4;
const WINDOW_SIZE: u8 = 5;
const PEER_BANDWIDTH: u8 = 6;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const COMMAND_AMF3: u8 = 17;
const COMMAND: u8 = 20;

/// What the peer does.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// It wants to publish: say [`Session::accept`] or [`Session::refuse`].
    Publish {
        /// The application it connected to.
        app: String,
        /// The name of its stream: the key.
        key: String,
    },
    /// A video message, and its time in milliseconds, which wraps at 32 bits.
    Video(VideoTag, u32),
    /// An audio message, and its time.
    Audio(AudioTag, u32),
    /// It has finished.
    Ended,
}

/// Why a publisher is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No stream is called so.
    Key,
    /// Another one publishes it.
    Busy,
}

#[derive(PartialEq, Eq, Debug)]
enum State {
    /// C0 and C1 are to come.
    Greeting,
    /// C2 is to come.
    Answer,
    Commands,
    /// Waits for a word from us.
    Asked,
    Publishing,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    greeting: BytesMut,
    reader: ChunkReader,
    app: String,
    output: BytesMut,
    received: u32,
    acknowledged: u32,
    window: u32,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            state: State::Greeting,
            greeting: BytesMut::new(),
            reader: ChunkReader::new(COMMANDS),
            app: String::new(),
            output: BytesMut::new(),
            received: 0,
            acknowledged: 0,
            window: WINDOW,
        }
    }
}

impl Session {
    /// Takes bytes from the peer. Call [`Session::next_event`] until it gives nothing before the next ones.
    pub fn push(&mut self, bytes: &[u8]) {
        self.received = self.received.wrapping_add(bytes.len() as u32);
        if self.received.wrapping_sub(self.acknowledged) >= self.window / 2 && self.state != State::Greeting {
            self.acknowledged = self.received;
            self.control(ACKNOWLEDGEMENT, &self.received.to_be_bytes());
        }
        match self.state {
            State::Greeting | State::Answer => self.greeting.extend_from_slice(bytes),
            _ => self.reader.push(bytes),
        }
    }

    /// What the peer does next, if that is known. After an error there is nothing more.
    pub fn next_event(&mut self) -> Result<Option<Event>, RtmpError> {
        if !self.greets()? {
            return Ok(None);
        }
        while self.state != State::Asked {
            let Some(message) = self.reader.next_message()? else { return Ok(None) };
            if let Some(event) = self.take(message)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// What is to be sent to the peer.
    pub fn take_output(&mut self) -> Bytes {
        self.output.split().freeze()
    }

    /// The one who asked may publish.
    pub fn accept(&mut self) {
        self.state = State::Publishing;
        self.reader.set_limit(PICTURES);
        // Stream Begin (section 7.1.7).
        self.control(USER_CONTROL, &[0, 0, 0, 0, 0, STREAM as u8]);
        self.status("status", "NetStream.Publish.Start", "publishing");
    }

    /// The one who asked may not. Nothing more is read from it.
    pub fn refuse(&mut self, why: Refusal) {
        match why {
            Refusal::Key => self.status("error", "NetStream.Publish.BadName", "no stream has this name"),
            Refusal::Busy => self.status("error", "NetStream.Publish.BadName", "another one publishes this stream"),
        }
    }

    /// The handshake (section 5.2), in its simple form. Whether it is over.
    fn greets(&mut self) -> Result<bool, RtmpError> {
        if self.state == State::Greeting {
            if self.greeting.first().is_some_and(|version| *version != 3) {
                return Err(RtmpError::Malformed("its first byte is not the version, 3"));
            }
            if self.greeting.len() <= HANDSHAKE {
                return Ok(false);
            }
            self.greeting.advance(1);
            let echo = self.greeting.split_to(HANDSHAKE);
            self.output.put_u8(3);
            // A time and a version of zero: a server that does not sign. The rest may be anything.
            self.output.put_bytes(0, HANDSHAKE);
            self.output.put_slice(&echo);
            self.state = State::Answer;
        }
        if self.state == State::Answer {
            if self.greeting.len() < HANDSHAKE {
                return Ok(false);
            }
            self.greeting.advance(HANDSHAKE);
            let rest = std::mem::take(&mut self.greeting);
            self.reader.push(&rest);
            self.state = State::Commands;
        }
        Ok(true)
    }

    fn take(&mut self, message: Message) -> Result<Option<Event>, RtmpError> {
        let Message { type_id, timestamp, payload, .. } = message;
        match type_id {
            WINDOW_SIZE => {
                let size = payload.first_chunk::<4>().map_or(WINDOW, |size| u32::from_be_bytes(*size));
                self.window = size.clamp(64 << 10, WINDOW);
            }
            // Ping: the same comes back (section 7.1.7).
            USER_CONTROL if payload.starts_with(&[0, 6]) && payload.len() == 6 => {
                let mut pong = payload.to_vec();
                pong[1] = 7;
                self.control(USER_CONTROL, &pong);
            }
            VIDEO if self.state == State::Publishing => {
                return Ok(Some(Event::Video(VideoTag::parse(payload)?, timestamp)));
            }
            AUDIO if self.state == State::Publishing => {
                return Ok(Some(Event::Audio(AudioTag::parse(payload), timestamp)));
            }
            COMMAND => return self.command(&payload),
            // The byte in front says that values may be in AMF 3; commands never are.
            COMMAND_AMF3 => return self.command(payload.get(1..).unwrap_or_default()),
            _ => {}
        }
        Ok(None)
    }

    fn command(&mut self, payload: &[u8]) -> Result<Option<Event>, RtmpError> {
        let values = amf0::decode(payload).ok_or(RtmpError::Malformed("a command that cannot be read"))?;
        let name = values.first().and_then(Value::text).unwrap_or_default();
        let transaction = values.get(1).cloned().unwrap_or(Value::Null);
        match name {
            "connect" => {
                let app = values.get(2).and_then(|object| object.member("app")).and_then(Value::text);
                self.app = app.unwrap_or_default().trim_matches('/').to_owned();
                self.welcome(transaction);
            }
            "createStream" => self.result(transaction, [Value::Null, Value::Number(STREAM.into())]),
            "releaseStream" | "FCPublish" => self.result(transaction, [Value::Null, Value::Null]),
            "publish" if self.state == State::Commands => {
                let key = values.get(3).and_then(Value::text).unwrap_or_default().to_owned();
                self.state = State::Asked;
                return Ok(Some(Event::Publish { app: self.app.clone(), key }));
            }
            "deleteStream" | "FCUnpublish" | "closeStream" if self.state == State::Publishing => {
                return Ok(Some(Event::Ended));
            }
            "play" | "play2" | "publish" => return Err(RtmpError::NotHere(name.to_owned())),
            _ => {}
        }
        Ok(None)
    }

    /// Answers `connect` (section 7.2.1.1).
    fn welcome(&mut self, transaction: Value) {
        self.control(WINDOW_SIZE, &WINDOW.to_be_bytes());
        let mut bandwidth = WINDOW.to_be_bytes().to_vec();
        // Dynamic (section 5.4.5).
        bandwidth.push(2);
        self.control(PEER_BANDWIDTH, &bandwidth);
        let text = |text: &str| Value::String(text.to_owned());
        let properties = vec![("fmsVer".to_owned(), text("FMS/3,0,1,123"))];
        let information = vec![
            ("level".to_owned(), text("status")),
            ("code".to_owned(), text("NetConnection.Connect.Success")),
            ("description".to_owned(), text("connected")),
            ("objectEncoding".to_owned(), Value::Number(0.0)),
        ];
        self.result(transaction, [Value::Object(properties), Value::Object(information)]);
    }

    fn result(&mut self, transaction: Value, values: [Value; 2]) {
        let [first, second] = values;
        self.send(3, COMMAND, 0, &[Value::String("_result".to_owned()), transaction, first, second]);
    }

    fn status(&mut self, level: &str, code: &str, description: &str) {
        let member = |name: &str, text: &str| (name.to_owned(), Value::String(text.to_owned()));
        let information =
            Value::Object(vec![member("level", level), member("code", code), member("description", description)]);
        let values = [Value::String("onStatus".to_owned()), Value::Number(0.0), Value::Null, information];
        self.send(5, COMMAND, STREAM, &values);
    }

    fn send(&mut self, channel: u8, type_id: u8, stream_id: u32, values: &[Value]) {
        let mut payload = BytesMut::new();
        amf0::encode(&mut payload, values);
        let message = Message { type_id, stream_id, timestamp: 0, payload: payload.freeze() };
        chunk::write(&mut self.output, channel, &message);
    }

    /// A protocol control message (section 5.4): on chunk stream 2 and message stream 0.
    fn control(&mut self, type_id: u8, payload: &[u8]) {
        debug_assert_ne!(type_id, SET_CHUNK_SIZE, "ours have the size that both sides begin with");
        let message = Message { type_id, stream_id: 0, timestamp: 0, payload: Bytes::copy_from_slice(payload) };
        chunk::write(&mut self.output, 2, &message);
    }
}

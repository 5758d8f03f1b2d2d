//! One connection, from the socket to its end: calls go out, each in a stream of its own, answers and events come back.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::call::{Answer, Call};
use super::frame::{Decoder, Frame, Kind};
use super::{Fault, Place};

/// For each step of connecting, for an answer, and for the nucleus to read what we write.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes that wait to be written; calls wait before they are more.
const UNWRITTEN_MOST: usize = 256 << 10;
/// Calls and subscriptions at the same time.
const STREAMS_MOST: usize = 64;
/// How often it is looked whether somebody no longer wants what they asked for.
const LOOK: Duration = Duration::from_secs(1);
/// Nucleus lite closes the connection over a larger frame (`GG_IPC_MAX_MSG_LEN`), without a word.
const LITE_MOST: usize = 10_000;

/// A connection that the nucleus has accepted.
pub(super) struct Connection {
    socket: UnixStream,
    decoder: Decoder,
    out: BytesMut,
    unwritten_since: Instant,
    streams: BTreeMap<i32, Open>,
    opened: i32,
    /// Events for which there was no room.
    pub(super) dropped: u64,
}

/// A stream that an answer or events are expected in.
struct Open {
    answer: Option<Answer>,
    events: Option<mpsc::Sender<Value>>,
    /// Bytes of the request's frame.
    size: usize,
}

impl Open {
    fn is_wanted(&self) -> bool {
        let waits = self.answer.as_ref().is_some_and(|answer| !answer.is_closed());
        waits || (self.answer.is_none() && self.events.as_ref().is_some_and(|events| !events.is_closed()))
    }

    fn fail(mut self, fault: Fault) {
        if let Some(answer) = self.answer.take() {
            // Whoever asked may have given up.
            drop(answer.send(Err(fault)));
        }
    }
}

/// One call over a connection of its own.
pub(super) async fn ask(place: &Place, operation: &'static str, request: Value) -> Result<Value, Fault> {
    let mut connection = Connection::open(place).await.map_err(Fault::Closed)?;
    let (answer, mut answered) = oneshot::channel();
    connection.begin(Call { operation, request, answer, events: None })?;
    let (_calls, mut waiting) = mpsc::channel(1);
    let cancel = CancellationToken::new();
    tokio::select! {
        answer = &mut answered => answer.unwrap_or(Err(Fault::Silent)),
        why = connection.serve(&mut waiting, &cancel) => {
            connection.end(&why.unwrap_or_default());
            answered.try_recv().unwrap_or(Err(Fault::Silent))
        }
        () = tokio::time::sleep(DEADLINE) => Err(Fault::Silent),
    }
}

impl Connection {
    /// Connects and says who we are. The error is for a person.
    pub(super) async fn open(place: &Place) -> Result<Self, String> {
        let path = place.socket.display();
        let silent = |_| "the nucleus does not answer".to_owned();
        let socket = timeout(DEADLINE, UnixStream::connect(&place.socket)).await.map_err(silent)?;
        let socket = socket.map_err(|error| format!("{path}: {error}"))?;
        let mut connection = Self {
            socket,
            decoder: Decoder::default(),
            out: BytesMut::new(),
            unwritten_since: Instant::now(),
            streams: BTreeMap::new(),
            opened: 0,
            dropped: 0,
        };
        let hello = Frame::connect(place.token.expose());
        hello.write(&mut connection.out).map_err(|error| error.to_string())?;
        timeout(DEADLINE, connection.greet()).await.map_err(silent)?.map(|()| connection)
    }

    async fn greet(&mut self) -> Result<(), String> {
        self.socket.write_all_buf(&mut self.out).await.map_err(|error| error.to_string())?;
        loop {
            let mut space = [0; 4096];
            let count = self.socket.read(&mut space).await.map_err(|error| error.to_string())?;
            let refused = "the nucleus does not know this component (SVCUID): was it started by this nucleus?";
            let bytes = space.get(..count).filter(|bytes| !bytes.is_empty()).ok_or(refused)?;
            self.decoder.feed(bytes);
            match self.decoder.next_frame().map_err(|error| error.to_string())? {
                Some(Frame { kind: Kind::ConnectAck, is_accepted: true, .. }) => return Ok(()),
                Some(Frame { kind: Kind::ConnectAck, .. }) => return Err(refused.to_owned()),
                Some(other) => {
                    return Err(format!("the nucleus did not begin with an answer, but with {:?}", other.kind));
                }
                None => {}
            }
        }
    }

    /// Serves calls until `cancel` (`None`) or the connection's end, with the reason.
    pub(super) async fn serve(
        &mut self,
        calls: &mut mpsc::Receiver<Call>,
        cancel: &CancellationToken,
    ) -> Option<String> {
        let mut look = tokio::time::interval(LOOK);
        let mut space = [0; 4096];
        loop {
            let has_room = self.out.len() < UNWRITTEN_MOST && self.streams.len() < STREAMS_MOST;
            let unread_until = self.unwritten_since + DEADLINE;
            let (mut read, mut write) = self.socket.split();
            tokio::select! {
                () = cancel.cancelled() => return None,
                count = read.read(&mut space) => match count {
                    Ok(0) => return Some("the nucleus closed the connection".to_owned()),
                    Ok(count) => {
                        self.decoder.feed(space.get(..count).unwrap_or_default());
                        if let Err(why) = self.take_frames() {
                            return Some(why);
                        }
                    }
                    Err(error) => return Some(broken(&error)),
                },
                count = write.write(&self.out), if !self.out.is_empty() => match count {
                    Ok(count) => {
                        self.out.advance(count);
                        self.unwritten_since = Instant::now();
                        if self.out.is_empty() {
                            self.out = BytesMut::new();
                        }
                    }
                    Err(error) => return Some(broken(&error)),
                },
                () = tokio::time::sleep_until(unread_until.into()), if !self.out.is_empty() => {
                    return Some("the nucleus does not read what is sent".to_owned());
                }
                Some(call) = calls.recv(), if has_room => {
                    // A fault here is the call's, and told to whoever made it.
                    self.begin(call).ok();
                }
                _ = look.tick() => self.sweep(),
            }
        }
    }

    /// Whoever waits for an answer is told that there will be none; events end.
    pub(super) fn end(&mut self, why: &str) {
        for open in std::mem::take(&mut self.streams).into_values() {
            let fault = match open.size {
                size if size > LITE_MOST => Fault::TooLarge(size),
                _ => Fault::Closed(why.to_owned()),
            };
            open.fail(fault);
        }
    }

    fn begin(&mut self, call: Call) -> Result<(), Fault> {
        let Call { operation, request, answer, events } = call;
        if answer.is_closed() {
            return Ok(());
        }
        let before = self.out.len();
        if before == 0 {
            self.unwritten_since = Instant::now();
        }
        self.opened += 1;
        let written = Frame::request(self.opened, operation, &request).write(&mut self.out);
        let size = self.out.len() - before;
        let open = Open { answer: Some(answer), events, size };
        if written.is_err() {
            let fault = Fault::TooLarge(request.to_string().len());
            open.fail(fault.clone());
            return Err(fault);
        }
        self.streams.insert(self.opened, open);
        Ok(())
    }

    fn take_frames(&mut self) -> Result<(), String> {
        while let Some(frame) = self.decoder.next_frame().map_err(|error| error.to_string())? {
            match frame.kind {
                Kind::Message | Kind::Error => self.take(frame),
                Kind::Ping => self.put(&Frame::pong()),
                Kind::Pong => {}
                Kind::ProtocolError | Kind::InternalError | Kind::Connect | Kind::ConnectAck => {
                    let text: String = String::from_utf8_lossy(&frame.payload).chars().take(200).collect();
                    return Err(format!("the nucleus ended it with {:?}: {text}", frame.kind));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame) {
        // An answer that nobody waits for any more.
        let Some(open) = self.streams.get_mut(&frame.stream) else { return };
        let is_error = frame.kind == Kind::Error;
        let answer = if is_error {
            Err(Fault::new(&frame.model, &frame.payload))
        } else if frame.payload.is_empty() {
            Ok(Value::Null)
        } else {
            let refused = |error| Fault::Refused(format!("an answer that is no JSON: {error}"));
            serde_json::from_slice(&frame.payload).map_err(refused)
        };
        match (open.answer.take(), answer) {
            // Whoever asked may have given up.
            (Some(waiting), answer) => drop(waiting.send(answer)),
            (None, Ok(event)) if !frame.is_last || event != Value::Null => {
                if let Some(Err(mpsc::error::TrySendError::Full(_))) = open.events.as_ref().map(|to| to.try_send(event))
                {
                    self.dropped += 1;
                }
            }
            (None, Ok(_)) => {}
            (None, Err(fault)) => tracing::warn!(%fault, "Greengrass: a subscription ended"),
        }
        if frame.is_last || is_error || open.events.is_none() {
            self.streams.remove(&frame.stream);
        }
    }

    fn put(&mut self, frame: &Frame) {
        if self.out.is_empty() {
            self.unwritten_since = Instant::now();
        }
        if let Err(error) = frame.write(&mut self.out) {
            tracing::warn!(%error, "Greengrass: a frame cannot be written");
        }
    }

    /// Ends the streams that nobody wants any more.
    fn sweep(&mut self) {
        let gone: Vec<i32> =
            self.streams.iter().filter(|(_, open)| !open.is_wanted()).map(|(stream, _)| *stream).collect();
        for stream in gone {
            self.streams.remove(&stream);
            self.put(&Frame::end(stream));
        }
    }
}

fn broken(error: &io::Error) -> String {
    format!("the connection broke: {error}")
}

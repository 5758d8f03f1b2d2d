//! Fragment acknowledgements: a stream of JSON objects in the response body.
//!
//! Objects may be split or joined anywhere. Fields that are not known are passed over; numbers may come as strings.
//! What cannot be read is counted and skipped to the next object: an ack that is lost costs a fragment sent twice at
//! worst, a parser that gives up would cost the connection.

use serde::Deserialize;
use serde_json::Value;

use crate::ErrorId;

/// An object longer than this is not an ack.
const MAX_OBJECT: usize = 4096;

/// What the service says about a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckKind {
    /// Its first byte has arrived.
    Buffering,
    /// All of it has arrived.
    Received,
    /// It is stored: it need not be kept any more.
    Persisted,
    /// Something is wrong with it or with the stream; the connection ends.
    Error(ErrorId),
    /// Nothing has arrived for a while.
    Idle,
}

/// One acknowledgement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FragmentAck {
    /// What is said.
    pub kind: AckKind,
    /// The Cluster timecode of the fragment, in milliseconds as sent. Missing in IDLE and in some errors.
    pub timecode: Option<i64>,
    /// The service's number for the fragment: too long for an integer.
    pub number: Option<String>,
}

/// What [`AckParser::push`] has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AckEvent {
    /// An ack.
    Ack(FragmentAck),
    /// Bytes that are no ack.
    Unreadable,
}

/// Cuts a byte stream into acks.
#[derive(Debug, Default)]
pub struct AckParser {
    object: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    junk: bool,
}

impl AckParser {
    /// Takes the next bytes of the response body.
    pub fn push(&mut self, bytes: &[u8], mut event: impl FnMut(AckEvent)) {
        for &byte in bytes {
            if self.depth == 0 {
                match byte {
                    b'{' => self.depth = 1,
                    b if b.is_ascii_whitespace() || b == b',' => {
                        self.junk = false;
                        continue;
                    }
                    _ => {
                        // Once for a run of junk, not once a byte.
                        if !std::mem::replace(&mut self.junk, true) {
                            event(AckEvent::Unreadable);
                        }
                        continue;
                    }
                }
            } else if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    // A string never holds a line break: this object was cut off.
                    b'\n' | b'\r' => {
                        self.reset();
                        event(AckEvent::Unreadable);
                        continue;
                    }
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' => self.depth += 1,
                    b'}' => self.depth -= 1,
                    _ => {}
                }
            }
            self.object.push(byte);
            if self.depth == 0 {
                event(parse(&self.object).map_or(AckEvent::Unreadable, AckEvent::Ack));
                self.reset();
            } else if self.object.len() > MAX_OBJECT {
                self.reset();
                event(AckEvent::Unreadable);
            }
        }
    }

    fn reset(&mut self) {
        self.object.clear();
        self.depth = 0;
        self.in_string = false;
        self.escaped = false;
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    event_type: Option<String>,
    fragment_timecode: Option<Value>,
    fragment_number: Option<Value>,
    error_id: Option<Value>,
    /// The wrapper that the documents show and the wire does not have.
    acknowledgement: Option<Box<Written>>,
}

fn parse(object: &[u8]) -> Option<FragmentAck> {
    let mut written: Written = serde_json::from_slice(object).ok()?;
    if let Some(inner) = written.acknowledgement.take() {
        written = *inner;
    }
    let kind = match written.event_type.as_deref()? {
        "BUFFERING" => AckKind::Buffering,
        "RECEIVED" => AckKind::Received,
        "PERSISTED" => AckKind::Persisted,
        "IDLE" => AckKind::Idle,
        "ERROR" => {
            let id = written.error_id.as_ref().and_then(integer).and_then(|id| u32::try_from(id).ok());
            AckKind::Error(ErrorId(id.unwrap_or(0)))
        }
        _ => return None,
    };
    let timecode = written.fragment_timecode.as_ref().and_then(integer).filter(|timecode| *timecode >= 0);
    let number = written.fragment_number.map(|number| match number {
        Value::String(text) => text,
        other => other.to_string(),
    });
    Some(FragmentAck { kind, timecode, number })
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(bytes: &[u8], piece: usize) -> Vec<AckEvent> {
        let mut parser = AckParser::default();
        let mut events = Vec::new();
        for piece in bytes.chunks(piece) {
            parser.push(piece, |event| events.push(event));
        }
        events
    }

    fn ack(kind: AckKind, timecode: Option<i64>) -> AckEvent {
        AckEvent::Ack(FragmentAck { kind, timecode, number: None })
    }

    #[test]
    fn acks_in_every_form() {
        let check = |text: &str, expected: &[AckEvent]| {
            for piece in [1, 2, 7, text.len()] {
                assert_eq!(parse_all(text.as_bytes(), piece), expected, "{text} in pieces of {piece}");
            }
        };
        let buffering = ack(AckKind::Buffering, Some(5));
        let error = |id| ack(AckKind::Error(ErrorId(id)), None);
        check(r#"{"EventType":"BUFFERING","FragmentTimecode":5}"#, std::slice::from_ref(&buffering));
        check(
            r#"{"EventType":"BUFFERING","FragmentTimecode":"5","New":{"a":["}"]}}"#,
            std::slice::from_ref(&buffering),
        );
        check(
            "{\"EventType\":\"IDLE\"}\r\n\n{\"EventType\":\"PERSISTED\",\"FragmentTimecode\":-1}",
            &[ack(AckKind::Idle, None), ack(AckKind::Persisted, None)],
        );
        check(
            r#"{"Acknowledgement":{"EventType":"RECEIVED","FragmentTimecode":7}}"#,
            &[ack(AckKind::Received, Some(7))],
        );
        check(r#"{"EventType":"ERROR","ErrorCode":"INVALID_MKV_DATA","ErrorId":4006}"#, &[error(4006)]);
        check(r#"{"EventType":"ERROR","ErrorId":"4004"}"#, &[error(4004)]);
        check(r#"{"EventType":"ERROR"}"#, &[error(0)]);
        let both = format!("garbage {}", r#"{"EventType":"BUFFERING","FragmentTimecode":5}"#);
        check(&both, &[AckEvent::Unreadable, buffering.clone()]);
        check(
            r#"{"EventType":"SOMETHING_NEW"}{"EventType":"IDLE"}"#,
            &[AckEvent::Unreadable, ack(AckKind::Idle, None)],
        );
        check("{\"EventType\":\"BUFF\n{\"EventType\":\"IDLE\"}", &[AckEvent::Unreadable, ack(AckKind::Idle, None)]);
    }

    #[test]
    fn fragment_numbers_stay_text() {
        let long = "91343852333181432392682062607743920387586378456";
        for written in [format!("\"{long}\""), "12".to_owned()] {
            let text = format!(r#"{{"EventType":"IDLE","FragmentNumber":{written}}}"#);
            let AckEvent::Ack(ack) = &parse_all(text.as_bytes(), 3)[0] else { panic!("an ack") };
            assert_eq!(ack.number.as_deref(), Some(written.trim_matches('"')));
        }
    }

    #[test]
    fn an_endless_object_is_given_up() {
        let mut bytes = b"{\"x\":\"".to_vec();
        bytes.resize(MAX_OBJECT * 2, b'a');
        bytes.extend_from_slice(b"\n{\"EventType\":\"IDLE\"}");
        let events = parse_all(&bytes, 100);
        assert_eq!(events.last(), Some(&ack(AckKind::Idle, None)));
    }
}

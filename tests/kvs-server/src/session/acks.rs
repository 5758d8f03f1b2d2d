//! Acknowledgements as bytes: one JSON object and a newline per HTTP chunk, as the service sends them, or spoilt as a
//! fault orders.
//!
//! Invariant: what is queued leaves in order; what is due late holds back what is behind it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::error::ErrorId;
use crate::fault::{AckKind, Malformed};

/// Between the pieces of one acknowledgement, so that each goes into a segment of its own.
const PIECE_GAP: Duration = Duration::from_millis(4);
/// How long acknowledgements wait for others to share their chunk.
const COALESCE: Duration = Duration::from_millis(300);
/// A producer that leaves this much unread loses further acknowledgements.
const MAX_UNREAD: usize = 256 * 1024;

/// One acknowledgement.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    pub(crate) kind: AckKind,
    pub(crate) fragment: Option<(i64, String)>,
    pub(crate) error: Option<ErrorId>,
}

impl Ack {
    pub(crate) fn of(kind: AckKind, timecode_ms: i64, number: &str) -> Self {
        Self { kind, fragment: Some((timecode_ms, number.to_owned())), error: None }
    }

    pub(crate) fn idle() -> Self {
        Self { kind: AckKind::Idle, fragment: None, error: None }
    }

    pub(crate) fn error(id: ErrorId, fragment: Option<(i64, String)>) -> Self {
        Self { kind: AckKind::Error, fragment, error: Some(id) }
    }

    fn event_type(&self) -> &'static str {
        match self.kind {
            AckKind::Buffering => "BUFFERING",
            AckKind::Received => "RECEIVED",
            AckKind::Persisted => "PERSISTED",
            AckKind::Error => "ERROR",
            AckKind::Idle => "IDLE",
        }
    }

    fn json(&self, how: Option<Malformed>) -> String {
        let mut members = vec![format!(r#""EventType":"{}""#, self.event_type())];
        if how == Some(Malformed::UnknownFields) {
            members.insert(0, r#""Version":{"Major":2,"Notes":["}","\"{"]}"#.to_owned());
        }
        if let Some((timecode, number)) = &self.fragment {
            match how {
                Some(Malformed::NoTimecode) => {}
                Some(Malformed::NegativeTimecode) => members.push(r#""FragmentTimecode":-1"#.to_owned()),
                _ => members.push(format!(r#""FragmentTimecode":{timecode}"#)),
            }
            match how {
                Some(Malformed::NumericFragmentNumber) => members.push(format!(r#""FragmentNumber":{number}"#)),
                _ => members.push(format!(r#""FragmentNumber":"{number}""#)),
            }
        }
        if let Some(id) = self.error {
            members.push(format!(r#""ErrorCode":"{}","ErrorId":{}"#, id.name(), id.0));
        }
        if how == Some(Malformed::UnknownFields) {
            members.push(r#""Extra":null,"ShardId":"shard-0000""#.to_owned());
        }
        match how {
            Some(Malformed::Wrapped) => format!(r#"{{"Acknowledgement":{{{}}}}}"#, members.join(",")),
            _ => format!("{{{}}}", members.join(",")),
        }
    }
}

/// How acknowledgements are treated at the moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct AckPolicy {
    pub(crate) mute: bool,
    pub(crate) delay: Duration,
    pub(crate) dropped: Vec<AckKind>,
    pub(crate) malformed: Vec<(Malformed, Option<AckKind>)>,
}

#[derive(Debug)]
struct Piece {
    not_before: Instant,
    /// Leaves only when all before it has left.
    alone: bool,
    bytes: Bytes,
}

/// What is still to be sent.
#[derive(Debug, Default)]
pub(crate) struct AckQueue {
    pub(crate) policy: AckPolicy,
    /// Nothing leaves for now.
    pub(crate) held: bool,
    pieces: VecDeque<Piece>,
    coalescing: Vec<u8>,
    coalescing_until: Option<Instant>,
    queued: usize,
}

fn chunk(content: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat()
}

/// Three parts, none of them empty.
fn thirds(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(bytes.len().div_ceil(3).max(1))
}

impl AckQueue {
    pub(crate) fn new(held: bool) -> Self {
        Self { held, ..Self::default() }
    }

    /// Queues bytes that are no acknowledgement, such as the head of the response.
    pub(crate) fn push_bytes(&mut self, bytes: Vec<u8>, now: Instant) {
        self.push(bytes, false, now);
    }

    fn push(&mut self, bytes: Vec<u8>, alone: bool, not_before: Instant) {
        self.queued += bytes.len();
        self.pieces.push_back(Piece { not_before, alone, bytes: bytes.into() });
    }

    /// Queues an acknowledgement; false when it will not be sent.
    pub(crate) fn push_ack(&mut self, ack: &Ack, now: Instant) -> bool {
        if self.policy.mute || self.policy.dropped.contains(&ack.kind) || self.queued > MAX_UNREAD {
            return false;
        }
        let due = now + self.policy.delay;
        let malformed = self
            .policy
            .malformed
            .iter()
            .find(|(_, kind)| kind.is_none_or(|kind| kind == ack.kind))
            .map(|(how, _)| *how);
        let line = format!("{}\n", ack.json(malformed)).into_bytes();
        match malformed {
            Some(Malformed::SplitChunks) => thirds(&line).enumerate().for_each(|(i, part)| {
                self.push(chunk(part), true, due + PIECE_GAP * u32::try_from(i).unwrap_or_default())
            }),
            Some(Malformed::SplitSegments) => thirds(&chunk(&line)).enumerate().for_each(|(i, part)| {
                self.push(part.to_vec(), true, due + PIECE_GAP * u32::try_from(i).unwrap_or_default())
            }),
            Some(Malformed::Coalesced) => {
                self.coalescing.extend_from_slice(&line);
                self.coalescing_until.get_or_insert(due + COALESCE);
            }
            Some(Malformed::UnknownEvent) => {
                self.push(
                    chunk(b"{\"EventType\":\"COMPACTED\",\"FragmentTimecode\":1,\"FragmentNumber\":\"1\"}\n"),
                    false,
                    due,
                );
                self.push(chunk(&line), false, due);
            }
            Some(Malformed::Garbage) => {
                self.push(chunk(b"}{ 502 \"upstream\n"), false, due);
                self.push(chunk(&line), false, due);
            }
            _ => self.push(chunk(&line), false, due),
        }
        true
    }

    /// Moves what is due into `output`, as far as it may go together.
    pub(crate) fn take_due(&mut self, now: Instant, output: &mut BytesMut) {
        if self.held {
            return;
        }
        if self.coalescing_until.is_some_and(|until| until <= now) {
            self.flush_coalesced(now);
        }
        while let Some(piece) = self.pieces.front() {
            if piece.not_before > now || (piece.alone && !output.is_empty()) {
                break;
            }
            let alone = piece.alone;
            self.queued -= piece.bytes.len();
            output.extend_from_slice(&piece.bytes);
            self.pieces.pop_front();
            if alone {
                break;
            }
        }
    }

    fn flush_coalesced(&mut self, now: Instant) {
        self.coalescing_until = None;
        let lines = std::mem::take(&mut self.coalescing);
        if !lines.is_empty() {
            self.push(chunk(&lines), false, now);
        }
    }

    /// When [`take_due`](Self::take_due) is worth calling again.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.held {
            return None;
        }
        let piece = self.pieces.front().map(|piece| piece.not_before.max(now + PIECE_GAP / 4));
        [piece, self.coalescing_until].into_iter().flatten().min()
    }

    /// Moves everything into `output`, due or not: the session ends.
    pub(crate) fn take_all(&mut self, now: Instant, output: &mut BytesMut) {
        self.flush_coalesced(now);
        for piece in self.pieces.drain(..) {
            output.extend_from_slice(&piece.bytes);
        }
        self.queued = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let (ack, now) = (Ack::of(AckKind::Persisted, 7, "91"), Instant::now());
        let plain = r#"{"EventType":"PERSISTED","FragmentTimecode":7,"FragmentNumber":"91"}"#;
        for (how, expected) in [
            (None, vec![format!("{plain}\n")]),
            (Some(Malformed::NoTimecode), vec!["{\"EventType\":\"PERSISTED\",\"FragmentNumber\":\"91\"}\n".to_owned()]),
            (Some(Malformed::NegativeTimecode), vec![format!("{}\n", plain.replace(":7", ":-1"))]),
            (Some(Malformed::NumericFragmentNumber), vec![format!("{}\n", plain.replace("\"91\"", "91"))]),
            (Some(Malformed::Wrapped), vec![format!("{{\"Acknowledgement\":{plain}}}\n")]),
            (Some(Malformed::Garbage), vec!["}{ 502 \"upstream\n".to_owned(), format!("{plain}\n")]),
        ] {
            let mut queue = AckQueue::default();
            queue.policy.malformed.extend(how.map(|how| (how, Some(AckKind::Persisted))));
            assert!(queue.push_ack(&ack, now));
            let mut output = BytesMut::new();
            queue.take_due(now, &mut output);
            let wire: Vec<u8> = expected.iter().flat_map(|line| chunk(line.as_bytes())).collect();
            assert_eq!(output, wire, "{how:?}");
        }
        let error = Ack::error(ErrorId::INVALID_MKV_DATA, None).json(None);
        assert_eq!(error, r#"{"EventType":"ERROR","ErrorCode":"INVALID_MKV_DATA","ErrorId":4006}"#);
        serde_json::from_str::<serde_json::Value>(&ack.json(Some(Malformed::UnknownFields))).expect("still JSON");
    }

    #[test]
    fn timing() {
        let (ack, now) = (Ack::of(AckKind::Received, 7, "91"), Instant::now());
        let later = |ms| now + Duration::from_millis(ms);
        let taken = |queue: &mut AckQueue, at| {
            let mut output = BytesMut::new();
            queue.take_due(at, &mut output);
            output.len()
        };
        let mut delayed = AckQueue {
            policy: AckPolicy { delay: Duration::from_millis(100), ..AckPolicy::default() },
            ..AckQueue::default()
        };
        delayed.push_ack(&ack, now);
        assert_eq!((taken(&mut delayed, later(99)), delayed.next_due(now)), (0, Some(later(100))));
        assert!(taken(&mut delayed, later(100)) > 0);

        let mut split = AckQueue::default();
        split.policy.malformed.push((Malformed::SplitChunks, None));
        split.push_ack(&ack, now);
        let pieces = (0..4).map(|_| taken(&mut split, later(50))).filter(|&length| length > 0).count();
        assert_eq!(pieces, 3, "one piece at a time, however late");

        let mut coalesced = AckQueue::default();
        coalesced.policy.malformed.push((Malformed::Coalesced, None));
        coalesced.push_ack(&ack, now);
        coalesced.push_ack(&ack, later(200));
        assert_eq!(taken(&mut coalesced, later(299)), 0);
        assert!(taken(&mut coalesced, later(300)) > 130);

        let muted = AckPolicy { mute: true, ..AckPolicy::default() };
        let dropping = AckPolicy { dropped: vec![AckKind::Received], ..AckPolicy::default() };
        for policy in [muted, dropping] {
            assert!(!AckQueue { policy, ..AckQueue::default() }.push_ack(&ack, now));
        }
    }
}

//! What must hold for any bytes the service may send. Run by cargo-fuzz, and with made-up bytes by `cargo test`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use edgecam_kvs::{AckEvent, AckParser, Action, Delivery, ResponseReader, Settings};
use edgecam_media::ring::Position;
use edgecam_media::{AccessUnit, ParameterSets, Timestamp, TrackId};

/// A target: what it is called, and what must not panic.
type Target = (&'static str, fn(&[u8]));

/// All targets, by name.
pub(crate) const TARGETS: &[Target] = &[("acks", acks), ("response", response), ("delivery", delivery)];

fn parse(data: &[u8], piece: usize) -> Vec<AckEvent> {
    let mut parser = AckParser::default();
    let mut events = Vec::new();
    data.chunks(piece.max(1)).for_each(|piece| parser.push(piece, |event| events.push(event)));
    events
}

/// However the acks are cut into pieces, the same come out; an ack behind any rubbish is found after a line break.
pub(crate) fn acks(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    assert_eq!(parse(data, usize::from(piece)), parse(data, data.len()));
}

/// The same for a response; what is not HTTP is an error, never a panic.
pub(crate) fn response(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let read = |piece: usize| {
        let mut reader = ResponseReader::default();
        let mut body = Vec::new();
        for piece in data.chunks(piece.max(1)) {
            let result = reader.push(piece, |event| {
                if let edgecam_kvs::Body::Data(data) = event {
                    body.extend_from_slice(data);
                }
            });
            if result.is_err() {
                return None;
            }
        }
        Some((body, reader.error_message()))
    };
    let (pieces, whole) = (read(usize::from(piece)), read(data.len()));
    assert_eq!(pieces.is_some(), whole.is_some());
    if let (Some(pieces), Some(whole)) = (pieces, whole) {
        assert_eq!(pieces, whole);
    }
}

/// Whatever the service answers, the cursor stays between where it was and what was sent.
pub(crate) fn delivery(data: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "a virtual clock needs an origin")]
    let now = Instant::now();
    let start = Position::start_of(1);
    let mut delivery = Delivery::new(Settings { start, has_retention: true, seed: 1 }, now);
    let sps = [
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
        0x00, 0x03, 0x01, 0xe0, 0xf1, 0x83, 0x19, 0x60,
    ];
    let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
    let Ok(sets) = ParameterSets::h264(Bytes::copy_from_slice(&sps), vec![pps]) else { return };
    let sets = Arc::new(sets);
    let mut sent = start;
    for (index, bytes) in data.chunks(40).take(60).enumerate() {
        if let Some(at) = delivery.wants(now) {
            let unit = AccessUnit {
                track: TrackId::VIDEO,
                pts: Timestamp::from_unix_millis(index as i64 * 1000),
                is_idr: true,
                data: Bytes::from_static(&[0, 0, 0, 1, 0x65]),
                parameter_sets: Some(sets.clone()),
            };
            let next = Position::start_of(at.gop + 1);
            sent = sent.max(next);
            delivery.unit(unit, sets.clone(), next, now);
        }
        while let Some(action) = delivery.poll() {
            match action {
                Action::Connect { session, .. } => {
                    delivery.connected(session, b"POST /putMedia HTTP/1.1\r\n\r\n".to_vec(), None, now);
                    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                    if bytes[0] & 1 == 0 {
                        delivery.received(session, head, now);
                        delivery.received(session, format!("{:x}\r\n", bytes.len()).as_bytes(), now);
                        delivery.received(session, bytes, now);
                        delivery.received(session, b"\r\n", now);
                    } else {
                        delivery.received(session, bytes, now);
                    }
                }
                Action::Commit(position) => assert!(position >= start && position <= sent),
                Action::Close(_) | Action::RequestIdr | Action::Report(_) => {}
            }
        }
        assert!(delivery.committed() <= sent);
    }
}

use bytes::{BufMut, Bytes, BytesMut};

use super::amf0::{self, Value};
use super::*;
use crate::{AudioCodec, Codec};

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// A message of a peer: format, chunk stream, timestamp or delta, type, payload; cut at `size`.
fn chunks(format: u8, id: u8, time: u32, type_id: u8, payload: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u8(format << 6 | id);
    let extended = time >= 0xff_ff_ff;
    if format < 3 {
        out.put_uint(u64::from(time.min(0xff_ff_ff)), 3);
    }
    if format < 2 {
        out.put_uint(payload.len() as u64, 3);
        out.put_u8(type_id);
    }
    if format == 0 {
        out.put_u32_le(1);
    }
    for (index, chunk) in payload.chunks(size).enumerate() {
        if index > 0 {
            out.put_u8(0xc0 | id);
        }
        if extended {
            out.put_u32(time);
        }
        out.put_slice(chunk);
    }
    out
}

/// Time, type and length of each message, whatever the size of the pieces.
fn read(stream: &[u8]) -> Vec<(u32, u8, usize)> {
    let all = |piece: usize| {
        let mut reader = ChunkReader::new(1 << 20);
        let mut found = Vec::new();
        for piece in stream.chunks(piece) {
            reader.push(piece);
            while let Some(message) = reader.next_message().expect("well-formed") {
                found.push((message.timestamp, message.type_id, message.payload.len()));
            }
        }
        found
    };
    let found = all(stream.len());
    for piece in [1, 3, 7, 130] {
        assert_eq!(all(piece), found, "pieces of {piece}");
    }
    found
}

#[test]
fn chunk_streams_interleave() {
    let picture = chunks(0, 6, 1000, 9, &[1; 300], 128);
    let sound = chunks(0, 4, 990, 8, &[2; 20], 128);
    // The sound goes between the first and the second chunk of the picture: 12 bytes of header, 128 of payload.
    let (front, back) = picture.split_at(140);
    let stream = [front, &sound, back, &chunks(1, 4, 23, 8, &[3; 9], 128), &[0xc4], &[4; 9]].concat();
    assert_eq!(read(&stream), [(990, 8, 20), (1000, 9, 300), (1013, 8, 9), (1036, 8, 9)]);
}

#[test]
fn long_timestamps_with_and_without_their_repetition() {
    let long = 0x0100_0000;
    let repeated = chunks(0, 6, long, 9, &[1; 300], 128);
    assert_eq!(read(&repeated), [(long, 9, 300)]);
    // The field in the chunks that go on is left out: at 16 + 128 + 1 and 128 + 4 + 1 further on.
    let mut bare = repeated;
    bare.drain(145..149);
    bare.drain(145 + 128 + 1..145 + 128 + 5);
    assert_eq!(read(&bare), [(long, 9, 300)]);
}

#[test]
fn the_chunk_size_changes_and_a_message_is_given_up() {
    let stream = [
        chunks(0, 2, 0, 1, &300_u32.to_be_bytes(), 128),
        chunks(0, 6, 5, 9, &[1; 300], 300),
        // Given up after its first chunk.
        chunks(0, 6, 6, 9, &[1; 400], 300)[..312].to_vec(),
        chunks(0, 2, 0, 2, &6_u32.to_be_bytes(), 300),
        chunks(0, 6, 7, 9, &[1; 10], 300),
    ]
    .concat();
    assert_eq!(read(&stream), [(5, 9, 300), (7, 9, 10)]);
}

#[test]
fn a_hostile_sender_takes_no_memory() {
    let fails = |stream: &[u8]| {
        let mut reader = ChunkReader::new(1000);
        reader.push(stream);
        reader.next_message().expect_err("refused")
    };
    // A length is not believed before it is looked at, and not beyond the limit.
    assert_eq!(fails(&chunks(0, 6, 0, 9, &[0; 1001], 128)[..12]), RtmpError::TooLarge(1000));
    // Many messages that are never completed.
    let begun: Vec<u8> = (3..20).flat_map(|id| chunks(0, id, 0, 9, &[0; 200], 128)[..140].to_vec()).collect();
    assert_eq!(fails(&begun), RtmpError::TooLarge(1000));
    let empty: Vec<u8> = (3..40).flat_map(|id| chunks(0, id, 0, 3, &[0; 1], 128)).collect();
    let mut reader = ChunkReader::new(1000);
    reader.push(&empty);
    let result = std::iter::repeat_with(|| reader.next_message()).find_map(Result::err);
    assert!(matches!(result, Some(RtmpError::Malformed(_))), "{result:?}");
    assert!(matches!(fails(&[0xc6]), RtmpError::Malformed(_)), "a chunk of a stream that never began");
    assert!(matches!(fails(&chunks(0, 2, 0, 1, &[0; 4], 128)), RtmpError::Malformed(_)), "a chunk size of 0");
}

#[test]
fn values() {
    let values = vec![
        text("connect"),
        Value::Number(1.0),
        Value::Object(vec![("app".to_owned(), text("live")), ("fpad".to_owned(), Value::Boolean(false))]),
        Value::Null,
    ];
    let mut bytes = BytesMut::new();
    amf0::encode(&mut bytes, &values);
    assert_eq!(amf0::decode(&bytes), Some(values));
    // An array with names, a strict array, a date, a long string.
    let other = b"\x08\0\0\0\x01\0\x01a\x01\x01\0\0\x09\x0a\0\0\0\x01\x05\x0b\0\0\0\0\0\0\0\0\0\0\x0c\0\0\0\x01x";
    let expected = [Value::Object(vec![("a".to_owned(), Value::Boolean(true))]), Value::Null, Value::Null, text("x")];
    assert_eq!(amf0::decode(other).as_deref(), Some(&expected[..]));
    let deep = b"\x03\0\x01a".repeat(amf0::DEPTH + 2);
    for bad in [&b"\x02\0\x09x"[..], &deep, b"\x0a\xff\xff\xff\xff", b"\x0d", &b"\x05".repeat(10_000)] {
        assert_eq!(amf0::decode(bad), None, "{bad:x?}");
    }
}

#[test]
fn tags() {
    let video = |bytes: &'static [u8]| VideoTag::parse(Bytes::from_static(bytes));
    let rest = Bytes::from_static(b"xy");
    assert_eq!(video(b"\x17\0\0\0\0xy"), Ok(VideoTag::Configuration(Codec::H264, rest.clone())));
    assert_eq!(video(b"\x27\x01\0\0\x21xy"), Ok(VideoTag::Picture(Codec::H264, rest.clone(), 33)));
    assert_eq!(video(b"\x27\x01\xff\xff\xffxy"), Ok(VideoTag::Picture(Codec::H264, rest.clone(), -1)));
    assert_eq!(video(b"\x17\x02\0\0\0"), Ok(VideoTag::Other));
    assert_eq!(video(b"\x57\0"), Ok(VideoTag::Other));
    assert_eq!(video(b"\x90hvc1xy"), Ok(VideoTag::Configuration(Codec::H265, rest.clone())));
    assert_eq!(video(b"\xa1hvc1\0\0\x09xy"), Ok(VideoTag::Picture(Codec::H265, rest.clone(), 9)));
    assert_eq!(video(b"\xa3hvc1xy"), Ok(VideoTag::Picture(Codec::H265, rest.clone(), 0)));
    for (bytes, says) in [(&b"\x22xy"[..], "H.263"), (b"\x91av01x", "av01"), (b"\x2c\x01\0\0\0x", "codec 12")] {
        assert!(video(bytes).expect_err("refused").to_string().contains(says), "{bytes:x?}");
    }
    assert!(matches!(video(b"\x17\x01\0"), Err(RtmpError::Malformed(_))));
    let audio = |bytes: &'static [u8]| AudioTag::parse(Bytes::from_static(bytes));
    assert_eq!(audio(b"\xaf\0xy"), AudioTag::AacConfiguration(rest.clone()));
    assert_eq!(audio(b"\xaf\x01xy"), AudioTag::Frame(AudioCodec::Aac, rest.clone()));
    assert_eq!(audio(b"\x72xy"), AudioTag::Frame(AudioCodec::PcmA, rest));
    assert_eq!(audio(b"\x2fxy"), AudioTag::Unknown(2));
    assert_eq!(audio(b""), AudioTag::Empty);
}

fn command(values: &[Value]) -> Vec<u8> {
    let mut payload = BytesMut::new();
    amf0::encode(&mut payload, values);
    chunks(0, 3, 0, 20, &payload, 128)
}

/// A publisher up to `publish`, as ffmpeg does it.
fn publisher(app: &str, key: &str) -> Vec<u8> {
    let connect = [text("connect"), Value::Number(1.0), Value::Object(vec![("app".to_owned(), text(app))])];
    let create = [text("createStream"), Value::Number(4.0), Value::Null];
    let publish = [text("publish"), Value::Number(5.0), Value::Null, text(key), text("live")];
    [vec![3], vec![7; 2 * 1536], command(&connect), command(&create), command(&publish)].concat()
}

#[test]
fn a_publisher_is_asked_for_and_then_heard() {
    let stream = publisher("live/", "door");
    for piece in [1, 1000, stream.len()] {
        let mut session = Session::default();
        let mut events = Vec::new();
        for piece in stream.chunks(piece) {
            session.push(piece);
            events.extend(session.next_event().expect("well-formed"));
        }
        assert_eq!(events, [Event::Publish { app: "live".to_owned(), key: "door".to_owned() }]);
        let answer = session.take_output();
        assert_eq!((answer[0], &answer[1537..3073]), (3, &[7; 1536][..]), "the handshake");
        assert!(contains(&answer, b"NetConnection.Connect.Success") && contains(&answer, b"_result"));
        session.push(&chunks(0, 6, 40, 9, b"\x27\x01\0\0\0x", 128));
        assert_eq!(session.next_event(), Ok(None), "before it is accepted nothing is read");
        session.accept();
        assert!(contains(&session.take_output(), b"NetStream.Publish.Start"));
        let picture = VideoTag::Picture(Codec::H264, Bytes::from_static(b"x"), 0);
        assert_eq!(session.next_event(), Ok(Some(Event::Video(picture, 40))));
        session.push(&[chunks(0, 2, 0, 4, &[0, 6, 1, 2, 3, 4], 128), command(&[text("deleteStream")])].concat());
        assert_eq!(session.next_event(), Ok(Some(Event::Ended)));
        assert!(session.take_output().ends_with(&[0, 7, 1, 2, 3, 4]), "a ping is answered");
    }
}

#[test]
fn others_are_refused() {
    let mut session = Session::default();
    session.push(&publisher("live", "x"));
    assert!(matches!(session.next_event(), Ok(Some(Event::Publish { .. }))));
    session.refuse(Refusal::Key);
    assert!(contains(&session.take_output(), b"NetStream.Publish.BadName"));
    let fails = |stream: &[u8]| {
        let mut session = Session::default();
        session.push(stream);
        session.next_event().expect_err("refused")
    };
    assert!(matches!(fails(b"GET / HTTP/1.1"), RtmpError::Malformed(_)));
    let greeting = [vec![3], vec![0; 2 * 1536]].concat();
    let play = command(&[text("play"), Value::Number(1.0), Value::Null, text("x")]);
    assert_eq!(fails(&[greeting.clone(), play].concat()), RtmpError::NotHere("play".to_owned()));
    // Pictures before anyone is known to publish.
    assert!(matches!(fails(&[greeting, chunks(0, 6, 0, 9, &[0; 70_000], 128)].concat()), RtmpError::TooLarge(_)));
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

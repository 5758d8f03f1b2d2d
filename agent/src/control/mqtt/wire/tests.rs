use rumqttc::{Connect, LastWill, Login, PubAck, Subscribe, SubscribeFilter};

use super::*;

fn decode(bytes: &[u8]) -> Result<Vec<Received>, Malformed> {
    let mut decoder = Decoder::default();
    decoder.feed(bytes);
    let mut packets = Vec::new();
    while let Some(packet) = decoder.next()? {
        packets.push(packet);
    }
    Ok(packets)
}

fn encoded(topic: &str, payload: Vec<u8>) -> BytesMut {
    let mut out = BytesMut::new();
    let packet = Publish { retain: true, pkid: 7, ..Publish::new(topic, QoS::AtLeastOnce, payload) };
    packet.write(&mut out).expect("written");
    out
}

/// What rumqttc writes is what the standard says, for each packet we send.
#[test]
fn packets_of_the_standard() {
    let check = |packet: Packet, expected: &[u8]| {
        let mut out = BytesMut::new();
        put(&mut out, &packet);
        assert_eq!(&out[..], expected, "{packet:?}");
    };
    let connect = Connect {
        keep_alive: 60,
        clean_session: false,
        last_will: Some(LastWill::new("w", "off", QoS::AtLeastOnce, true)),
        login: Some(Login { username: "u".to_owned(), password: "p".to_owned() }),
        ..Connect::new("gw")
    };
    let expected = b"\x10\x1c\x00\x04MQTT\x04\xec\x00\x3c\x00\x02gw\x00\x01w\x00\x03off\x00\x01u\x00\x01p";
    check(Packet::Connect(connect), expected);
    let filters = ["a/b", "c/d"].map(|filter| SubscribeFilter::new(filter.to_owned(), QoS::AtLeastOnce));
    let subscribe = Subscribe { pkid: 10, ..Subscribe::new_many(filters) };
    check(Packet::Subscribe(subscribe), b"\x82\x0e\x00\x0a\x00\x03a/b\x01\x00\x03c/d\x01");
    let publish = Publish { dup: true, pkid: 10, ..Publish::new("a/b", QoS::AtLeastOnce, "hi") };
    check(Packet::Publish(publish), b"\x3a\x09\x00\x03a/b\x00\x0ahi");
    check(Packet::PubAck(PubAck::new(258)), b"\x40\x02\x01\x02");
    check(Packet::PingReq, b"\xc0\x00");
    check(Packet::Disconnect, b"\xe0\x00");
}

#[test]
fn what_a_broker_sends() {
    let bytes = b"\x20\x02\x01\x00\x90\x04\x00\x0a\x01\x80\x40\x02\x00\x0a\xd0\x00\x30\x04\x00\x01tx\x20\x02\x00\x07";
    let expected = [
        Received::ConnAck { session_present: true, code: 0 },
        Received::SubAck { id: 10, granted: vec![true, false] },
        Received::PubAck(10),
        Received::PingResp,
        Received::Publish { packet: Publish::new("t", QoS::AtMostOnce, "x"), too_large: None },
        Received::ConnAck { session_present: false, code: 7 },
    ];
    assert_eq!(decode(bytes).as_deref(), Ok(&expected[..]));
    // Byte by byte it is the same.
    let mut decoder = Decoder::default();
    let mut packets = Vec::new();
    for byte in bytes {
        decoder.feed(&[*byte]);
        packets.extend(decoder.next().expect("well-formed"));
    }
    assert_eq!(packets, expected);
}

#[test]
fn what_no_broker_sends() {
    for (bytes, what) in [
        (&b"\x10\x00"[..], "a packet of clients"),
        (b"\x50\x02\x00\x01", "an acknowledgement of QoS 2"),
        (b"\x20\x01\x00", "a short CONNACK"),
        (b"\x20\x00", "an empty CONNACK"),
        (b"\x40\x01\x00", "a short PUBACK"),
        (b"\x90\x02\x00\x01", "a SUBACK for nothing"),
        (b"\x30\xff\xff\xff\xff\x7f", "a length of five bytes"),
        (b"\x34\x05\x00\x01t\x00\x01", "QoS 2"),
        (b"\x36\x05\x00\x01t\x00\x01", "QoS 3"),
        (b"\x32\x05\x00\x01t\x00\x00", "identifier 0"),
        (b"\x32\x04\x00\x01t\x00", "half an identifier"),
        (b"\x30\x03\x00\x05t", "a topic longer than the packet"),
        (b"\x30\x02\x00\x00", "no topic"),
        (b"\x30\x03\x00\x01+", "a wildcard"),
        (b"\x30\x04\x00\x02\xff\xfe", "no UTF-8"),
        (b"\x90\xff\x7f", "a long SUBACK"),
    ] {
        assert!(decode(bytes).is_err(), "{what}");
    }
}

#[test]
fn payloads_that_are_too_large_are_skipped() {
    for (size, is_kept) in
        [(0, true), (PAYLOAD_MOST, true), (PAYLOAD_MOST + 1, false), (PUBLISH_MOST, false), (1 << 20, false)]
    {
        let mut bytes = encoded("some/topic", vec![b'x'; size]);
        bytes.extend_from_slice(b"\xd0\x00");
        for piece in [1, 1 << 10, 1 << 30] {
            let mut decoder = Decoder::default();
            let mut packets = Vec::new();
            let mut most = 0;
            for piece in bytes.chunks(piece) {
                decoder.feed(piece);
                most = most.max(decoder.buffer.len());
                while let Some(packet) = decoder.next().expect("well-formed") {
                    packets.push(packet);
                }
            }
            let [Received::Publish { packet, too_large }, Received::PingResp] = &packets[..] else {
                panic!("{packets:?}")
            };
            assert_eq!((packet.topic.as_str(), packet.pkid, packet.retain), ("some/topic", 7, true));
            let kept = if is_kept { (size, None) } else { (0, Some(size)) };
            assert_eq!((packet.payload.len(), *too_large), kept, "{size} bytes");
            assert!(piece > 1 << 10 || most <= PUBLISH_MOST + 1024, "{most} bytes held");
        }
    }
}

#[test]
fn noise_neither_panics_nor_stops_it() {
    let mut rng = fastrand::Rng::with_seed(311);
    for _ in 0..50_000 {
        let mut bytes = match rng.u8(..4) {
            0 => encoded("a/b", b"payload".to_vec()).to_vec(),
            1 => b"\x20\x02\x01\x00\x90\x03\x00\x0a\x01\x40\x02\x00\x01".to_vec(),
            2 => b"\x32\xff\xff\x7f\x00\x03a/b\x00\x01payload".to_vec(),
            _ => (0..rng.usize(..40)).map(|_| rng.u8(..)).collect(),
        };
        for _ in 0..rng.usize(..3) {
            if !bytes.is_empty() {
                let index = rng.usize(..bytes.len());
                bytes[index] = rng.u8(..);
            }
        }
        decode(&bytes).ok();
    }
}

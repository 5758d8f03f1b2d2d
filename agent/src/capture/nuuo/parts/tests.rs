use super::*;

/// What a stream gives: its parts, and the error that ends it.
type Outcome = (Vec<(String, bool, Option<u64>, String)>, Option<PartError>);

fn read(framing: Framing, pieces: &[&[u8]]) -> Outcome {
    let mut reader = PartReader::new(framing);
    let mut parts = Vec::new();
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.next_part() {
                Ok(Some(Part { head, body })) => {
                    let body = String::from_utf8_lossy(&body).into_owned();
                    parts.push((head.content_type, head.is_key_frame, head.time, body));
                }
                Ok(None) => break,
                Err(error) => return (parts, Some(error)),
            }
        }
    }
    (parts, None)
}

/// The same however the bytes are cut.
fn check(framing: Framing, stream: &str, expected: &[(&str, bool, Option<u64>, &str)], end: Option<PartError>) {
    let bytes = stream.as_bytes();
    let whole = read(framing, &[bytes]);
    let expected: Vec<_> =
        expected.iter().map(|(kind, key, time, body)| ((*kind).to_owned(), *key, *time, (*body).to_owned())).collect();
    assert_eq!(whole, (expected.clone(), end), "{stream}");
    for cut in 0..=bytes.len() {
        assert_eq!(read(framing, &[&bytes[..cut], &bytes[cut..]]).0, expected, "cut at {cut} of {stream}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(framing, &single).0, expected, "byte by byte: {stream}");
}

#[test]
fn parts_of_a_titan() {
    let one = "--myboundary\r\nContent-Type: video/H264\r\nisKeyFrame: true\r\nContent-Length: 5\r\n\r\n\r\n--x";
    check(Framing::Multipart, one, &[("video/h264", true, None, "\r\n--x")], None);
    let two = "\r\n--b\r\nCONTENT-TYPE:audio/x-g711-mulaw; rate=8000\r\nIsKeyFrame:True\r\ncontent-length:1\r\n\r\na\r\n\
               --b\nContent-Type: video/H264\nContent-Length: 2\nisKeyFrame: false\n\nbc\n--b--\r\n";
    check(
        Framing::Multipart,
        two,
        &[("audio/x-g711-mulaw", true, None, "a"), ("video/h264", false, None, "bc")],
        Some(PartError::End),
    );
    check(Framing::Multipart, "--b\r\nContent-Length: 0\r\n\r\n", &[("", false, None, "")], None);
}

#[test]
fn requests_of_a_crystal() {
    let stream = "POST /live HTTP/1.1\r\nContent-Type: video/x-H264\r\nIsKeyFrame: true\r\ntime: 132537600000000000\r\n\
                  Content-Length: 3\r\n\r\nabc\r\nPOST /live HTTP/1.1\r\ncontent-type: video/x-h264\r\nISKEYFRAME: false\r\n\
                  TIME: 132537600000666667\r\nCONTENT-LENGTH: 1\r\n\r\nd\r\n";
    check(
        Framing::Requests,
        stream,
        &[
            ("video/x-h264", true, Some(132_537_600_000_000_000), "abc"),
            ("video/x-h264", false, Some(132_537_600_000_666_667), "d"),
        ],
        None,
    );
}

#[test]
fn what_is_no_part_ends_the_stream_and_is_shown() {
    let fault = "<?xml version=\"1.0\"?><SOAP-ENV:Fault>session</SOAP-ENV:Fault>";
    let part = "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\na\r\n";
    let not_a_part = || Some(PartError::NotAPart(fault.to_owned()));
    check(Framing::Requests, &format!("{fault}\r\n"), &[], not_a_part());
    check(Framing::Requests, &format!("{part}{fault}\r\n"), &[("", false, None, "a")], not_a_part());
    check(Framing::Multipart, &format!("{fault}\n"), &[], not_a_part());
    check(Framing::Requests, "--boundary\r\n", &[], Some(PartError::NotAPart("--boundary".to_owned())));
    // Without a line end it is known when the stream ends.
    let mut reader = PartReader::new(Framing::Requests);
    reader.push(fault.as_bytes());
    assert_eq!(reader.next_part(), Ok(None));
    assert!(!reader.is_between_parts() && reader.rest() == fault);
}

#[test]
fn hostile_heads_and_sizes() {
    let begin = "POST / HTTP/1.1\r\n";
    let check = |stream: &str, expected: PartError| {
        assert_eq!(read(Framing::Requests, &[stream.as_bytes()]), (Vec::new(), Some(expected)), "{stream:.200}");
        // Byte by byte it is found as well, and no more is kept than a head may have.
        let mut reader = PartReader::new(Framing::Requests);
        let mut most = 0;
        for byte in stream.bytes() {
            reader.push(&[byte]);
            most = most.max(reader.buffer.len());
            if reader.next_part().is_err() {
                break;
            }
        }
        assert!(most <= MAX_HEAD + 1, "{most} bytes kept");
    };
    check(&format!("{begin}Content-Length: 4294967296\r\n\r\n"), PartError::TooLarge(1 << 32));
    check(&format!("{begin}Content-Length: 8388609\r\n\r\n"), PartError::TooLarge(8_388_609));
    check(&format!("{begin}Content-Length: -1\r\n\r\n"), PartError::Malformed("a length that is no number"));
    check(&format!("{begin}\r\n"), PartError::Malformed("no length"));
    check(&format!("{begin}nonsense\r\n"), PartError::Malformed("a header line without a colon"));
    check(&format!("{begin}{}", "X: y\r\n".repeat(100)), PartError::Malformed("more header lines than it may"));
    let long = PartError::Malformed("a head that is longer than it may be");
    check(&format!("{begin}X: {}", "y".repeat(20_000)), long.clone());
    check(&format!("{begin}{}", format!("X: {}\r\n", "y".repeat(1000)).repeat(20)), long);
    check(&"\r\n".repeat(100), PartError::Malformed("nothing but empty lines before it"));
    check(&"x".repeat(20_000), PartError::NotAPart("x".repeat(SHOWN)));
}

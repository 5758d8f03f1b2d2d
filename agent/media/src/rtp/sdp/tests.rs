use super::*;
use crate::rtp::AddressError;

/// As Kurento 6.16 answers for a camera that sends.
const KURENTO: &str = "v=0\r\no=- 3901515812 3901515812 IN IP4 86.20.156.73\r\ns=Kurento Media Server\r\n\
c=IN IP4 86.20.156.73\r\nt=0 0\r\nm=audio 5008 RTP/AVPF 96 0\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\n\
a=rtcp:5009\r\na=recvonly\r\na=direction:passive\r\na=ssrc:3404307297 cname:user1@host-1\r\n\
m=video 5006 RTP/AVPF 103\r\nb=AS:5000\r\na=rtpmap:103 H264/90000\r\na=rtcp:5007\r\na=rtcp-fb:103 nack\r\n\
a=rtcp-fb:103 nack pli\r\na=rtcp-fb:103 goog-remb\r\na=rtcp-fb:103 ccm fir\r\n\
a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\na=recvonly\r\n\
a=direction:passive\r\na=direction:passive\r\na=ssrc:1139416309 cname:user3404307297@host-9c6b9b6\r\n\
a=x-skl-ssrca:229236353\r\na=x-skl-ssrcv:1607797317\r\na=x-skl-cname:user2415@host-d1";

fn everywhere() -> AllowList {
    AllowList::new(["0.0.0.0/0", "::/0"].map(|text| text.parse().expect("a network")).to_vec())
}

fn parse(sdp: &str) -> Result<RtpTarget, SdpError> {
    RtpTarget::parse(sdp, &everywhere())
}

#[test]
fn kurento_is_understood_however_its_lines_end() {
    let expected = RtpTarget {
        address: "86.20.156.73".parse().expect("an address"),
        port: 5006,
        rtcp_port: 5007,
        payload_type: 103,
        packetization_mode: 1,
        profile_level_id: Some([0x42, 0xe0, 0x1f]),
        feedback: FeedbackKinds { nack: true, pli: true, fir: true, remb: true },
        bandwidth: Some(5000),
        ssrc: Some(1_607_797_317),
        cname: Some("user2415@host-d1".to_owned()),
        has_audio: true,
    };
    for line_end in ["\r\n", "\n", "\r\n\r\n", "\\r\\n", "\\n", "\\\\r\\\\n", " \r\n"] {
        assert_eq!(parse(&KURENTO.replace("\r\n", line_end)), Ok(expected.clone()), "{line_end:?}");
    }
}

#[test]
fn variants() {
    let check = |from: &str, to: &str| {
        assert!(KURENTO.contains(from), "{from}");
        parse(&KURENTO.replace(from, to)).unwrap_or_else(|error| panic!("{from:?} -> {to:?}: {error}"))
    };
    let without_skl = check("x-skl-", "x-other-");
    assert_eq!(without_skl.ssrc, Some(1_139_416_309));
    assert_eq!(without_skl.cname.as_deref(), Some("user3404307297@host-9c6b9b6"));
    let without_any = parse(&KURENTO.replace("x-skl-", "x-other-").replace("a=ssrc", "a=xssrc")).expect("usable");
    assert_eq!((without_any.ssrc, without_any.cname), (None, None));
    assert_eq!(check("a=rtcp:5007\r\n", "").rtcp_port, 5007);
    assert_eq!(check("a=rtcp:5007\r\n", "a=rtcp:41000 IN IP4 10.9.9.9\r\n").rtcp_port, 41_000);
    assert_eq!(check("a=rtcp:5007\r\n", "a=rtcp:5007\r\na=rtcp-mux\r\n").rtcp_port, 5006);
    assert_eq!(check("H264/90000", "h264/90000").payload_type, 103);
    assert_eq!(check("packetization-mode=1;", "").packetization_mode, 0);
    assert_eq!(check("b=AS:5000\r\n", "b=TIAS:5000000\r\n").bandwidth, None);
    assert_eq!(check("t=0 0\r\n", "t=0 0\r\nb=AS:700\r\n").bandwidth, Some(5000));
    assert!(!check("m=audio 5008", "m=audio 0").has_audio);
    assert!(check("RTP/AVPF 103", "RTP/AVP 103").feedback.remb);
    assert_eq!(
        check("m=video 5006 RTP/AVPF 103\r\n", "m=video 0 RTP/AVPF 99\r\nm=video 5010/2 RTP/AVP 103\r\n").port,
        5010
    );
    assert_eq!(check("a=recvonly", "a=sendrecv").port, 5006);
    let own = check("m=video 5006 RTP/AVPF 103\r\n", "m=video 5006 RTP/AVPF 103\r\nc=IN IP6 fd00::7\r\n");
    assert_eq!(own.address.to_string(), "fd00::7");
    // The one that takes fragments is chosen, wherever it stands.
    let two = "m=video 5006 RTP/AVPF 97 102 103\r\na=rtpmap:97 VP8/90000\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=0\r\n";
    assert_eq!(check("m=video 5006 RTP/AVPF 103\r\n", two).payload_type, 103);
    // What cannot be read of a detail is left out.
    assert_eq!(check("1607797317", "99999999999").ssrc, Some(1_139_416_309));
    assert_eq!(check("42e01f", "4-2e01").profile_level_id, None);
}

#[test]
fn what_is_refused() {
    let check = |from: &str, to: &str, expected: SdpError| {
        assert!(KURENTO.contains(from), "{from}");
        assert_eq!(parse(&KURENTO.replace(from, to)), Err(expected), "{from:?} -> {to:?}");
    };
    let to = |text: &str| text.parse().expect("an address");
    check("m=video 5006", "m=video 0", SdpError::Declined);
    check("m=video 5006", "m=video 80", SdpError::Port(80));
    check("m=video 5006", "m=video 65536", SdpError::Port(65_536));
    check("m=video 5006", "m=video x", SdpError::Line("x".to_owned()));
    check("a=rtcp:5007", "a=rtcp:0", SdpError::Port(0));
    check("a=rtcp:5007", "a=rtcp:99999999999", SdpError::Line("99999999999".to_owned()));
    check("m=video", "m=text", SdpError::NoVideo);
    check("H264/90000", "VP8/90000", SdpError::NoH264);
    check("RTP/AVPF 103", "UDP/TLS/RTP/SAVPF 103", SdpError::Protocol("UDP/TLS/RTP/SAVPF".to_owned()));
    check("a=recvonly", "a=inactive", SdpError::NotReceiving);
    check("c=IN IP4 86.20.156.73\r\n", "", SdpError::NoAddress(String::new()));
    check("c=IN IP4 86.20.156.73", "c=IN IP4 example.org", SdpError::NoAddress("IN IP4 example.org".to_owned()));
    for (address, error) in [
        ("127.0.0.1", AddressError::Loopback(to("127.0.0.1"))),
        ("0.0.0.0", AddressError::Unspecified(to("0.0.0.0"))),
        ("239.1.2.3/127", AddressError::Multicast(to("239.1.2.3"))),
        ("255.255.255.255", AddressError::Multicast(to("255.255.255.255"))),
    ] {
        check("c=IN IP4 86.20.156.73", &format!("c=IN IP4 {address}"), error.into());
    }
    check("s=Kurento", "nonsense\r\ns=Kurento", SdpError::Line("nonsense".to_owned()));
    check("v=0\r\n", "", SdpError::NotSdp);
    check("RTP/AVPF 103", &format!("RTP/AVPF{}", " 103".repeat(1000)), SdpError::TooMany);
    assert_eq!(parse(""), Err(SdpError::NotSdp));
    assert_eq!(parse(&"x".repeat(1 << 20)), Err(SdpError::TooLong(1 << 20)));
    assert_eq!(parse(&format!("v=0\r\n{}", "m=audio 5008 RTP/AVP 0\r\n".repeat(600))), Err(SdpError::TooMany));
    let nowhere = RtpTarget::parse(KURENTO, &AllowList::default());
    assert_eq!(nowhere, Err(AddressError::NotAllowed(to("86.20.156.73")).into()));
    // Whatever it is cut to, there is an answer.
    (0..KURENTO.len()).for_each(|end| drop(parse(KURENTO.get(..end).unwrap_or_default())));
}

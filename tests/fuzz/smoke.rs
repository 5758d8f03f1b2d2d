//! Made-up bytes for fuzz targets: what parsers look for, mixed with noise. The same in every run.

/// Fragments that make bytes interesting to the parsers.
const WORDS: &[&[u8]] = &[
    &[0, 0, 1],
    &[0, 0, 0, 1],
    &[
        0, 0, 0, 1, 0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 0x40, 0x50, 5, 0xbb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 1, 0xe0,
        0xf1, 0x83,
    ],
    &[0, 0, 0, 1, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0],
    &[0, 0, 1, 0x65, 0x88, 0x80],
    &[0, 0, 1, 0x41, 0x9a, 0x80],
    &[0xff, 0xe1],
    b"ftyp",
    b"moov",
    b"moof",
    b"mdat",
    b"trun",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n",
    b"transfer-encoding: chunked\r\n",
    b"\r\n",
    b"0\r\n\r\n",
    b"{\"EventType\":\"PERSISTED\",\"FragmentTimecode\":1000}",
    b"{\"EventType\":\"ERROR\",\"ErrorId\":4006",
    b"}\n",
    b"\"",
    b"m=video 5006 RTP/AVP 96\n",
    b"a=rtpmap:96 H264/90000\n",
    b"a=x-skl-ssrcv:",
    b"a=rtcp:",
    b"c=IN IP4 ",
    &[0x81, 205, 0, 3],
    &[0x8f, 206, 0, 5],
    b"REMB",
    b"\"requestId\":\"a\",",
    b"\"seconds\":30",
    b"2026-11-21T08:00:00Z",
    b"cameras: [{name: a, ",
    b"rtsp: {url: rtsp://u:p@h/1}",
    b"POST /live HTTP/1.1\r\n",
    b"--NUUO\r\n",
    b"Content-Type: video/H264\r\nContent-Length: 7\r\n\r\n",
    b"isKeyFrame: true\r\ntime: 132537600000000000\r\n",
    b"<np:loginResponse><result>true</result><sessionId>",
    b"<deviceTreeList><item><childEntityList>",
    b"<item xsi:type=\"Camera\"><id>",
    b"</item>",
    b"<Profiles token='a'><Configurations><VideoEncoder><Encoding>",
    b"<UTCDateTime><Date><Year>2026</Year>",
    b"<RelatesTo>1</RelatesTo><ProbeMatches><ProbeMatch>",
    b"<![CDATA[",
    b"&amp;&#x41;",
    &[0, 0, 0, 60],
    &[3, 0, 0, 0, 0, 0, 9, 20, 0, 0, 0, 0],
    &[2, 0, 7],
    b"\x02\0\x07publish\0\0\0\0\0\0\0\0\0\x05\x02\0\x01k",
    &[6, 0, 0, 1, 0, 0, 9, 9, 1, 0, 0, 0, 0x17, 1, 0, 0, 0],
];

/// A target's name, and what must not panic.
type Target = (&'static str, fn(&[u8]));

/// Runs each target many times.
pub(crate) fn run(targets: &[Target]) {
    let mut rng = fastrand::Rng::with_seed(20_261_121);
    for (name, target) in targets {
        for round in 0..40_000 {
            let mut data = vec![rng.u8(..)];
            while data.len() < 600 && rng.u8(..) > 12 {
                if rng.bool() {
                    data.extend_from_slice(WORDS[rng.usize(0..WORDS.len())]);
                } else {
                    let length = rng.usize(0..12);
                    data.extend((0..length).map(|_| rng.u8(..)));
                }
            }
            let run = std::panic::catch_unwind(|| target(&data));
            assert!(run.is_ok(), "{name}, round {round}: {data:02x?}");
        }
    }
}

//! What must hold for any bytes. Run by cargo-fuzz, and with made-up bytes by `cargo test`.

use bytes::Bytes;
use edgecam_media::assembler::{Assembler, Picture};
use edgecam_media::mp4::{self, FragmentHead};
use edgecam_media::mpeg_ts::Demuxer;
use edgecam_media::nal::{LengthPrefixed, NalUnit};
use edgecam_media::picture_order::OutputOrder;
use edgecam_media::rtmp::{ChunkReader, Event, Session, amf0};
use edgecam_media::rtp::{AllowList, Packetizer, RtpSender, RtpTarget, Settings, rtcp};
use edgecam_media::unweighted::Unweighted;
use edgecam_media::{AccessUnit, Codec, ParameterSets, Timestamp, TrackId, annex_b::Splitter, annex_b::append, bmff};

/// A target: what it is called, and what must not panic.
type Target = (&'static str, fn(&[u8]));

/// All targets, by name.
pub(crate) const TARGETS: &[Target] = &[
    ("annex_b", annex_b),
    ("assembler", assembler),
    ("length_prefixed", length_prefixed),
    ("parameter_sets", parameter_sets),
    ("unweighted", unweighted),
    ("mp4", mp4),
    ("mpeg_ts", mpeg_ts),
    ("rtmp", rtmp),
    ("sdp", sdp),
    ("rtcp", rtcp),
    ("rtp", rtp),
];

fn split(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, u64) {
    let mut splitter = Splitter::default();
    let mut units = Vec::new();
    stream.chunks(piece.max(1)).for_each(|piece| splitter.push(piece, |unit| units.push(unit.to_vec())));
    splitter.finish(|unit| units.push(unit.to_vec()));
    (units, splitter.skipped())
}

/// However a stream is cut into pieces, the same units come out; put together again, they are the same once more.
pub(crate) fn annex_b(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    let (units, _) = split(stream, usize::from(piece));
    assert_eq!(units, split(stream, stream.len()).0);
    let again: Vec<u8> = units.iter().flat_map(|unit| [&[0, 0, 0, 1], &unit[..]].concat()).collect();
    assert_eq!(split(&again, 7).0, units);
}

/// Pictures hold slices and whole NAL units only, begin with an IDR, and come out the same from Annex B and delimited.
pub(crate) fn assembler(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    for codec in [Codec::H264, Codec::H265] {
        assemble(codec, piece, stream);
    }
}

fn assemble(codec: Codec, piece: u8, stream: &[u8]) {
    let mut assembler = Assembler::new(codec);
    let mut pictures: Vec<Picture> = Vec::new();
    for piece in stream.chunks(usize::from(piece).max(1)) {
        assembler.push_annex_b(piece, (), |picture, ()| pictures.push(picture));
    }
    assembler.finish((), |picture, ()| pictures.push(picture));
    assert!(pictures.first().is_none_or(|picture| picture.is_idr));
    let mut delimited = Assembler::<()>::new(codec);
    let mut order = OutputOrder::default();
    let mut placed = Vec::new();
    for picture in &pictures {
        assert_eq!(picture.is_idr, picture.parameter_sets.is_some());
        assert!(LengthPrefixed::new(codec, &picture.data).all(|unit| unit.is_ok()));
        order.push(picture.clone(), |picture| placed.push(picture));
        if let Some(sets) = &picture.parameter_sets {
            delimited.learn(sets);
        }
    }
    order.finish(|picture| placed.push(picture));
    assert!(placed.iter().map(|placed| &placed.picture).eq(&pictures), "in decoding order");
    let mut shown: Vec<u64> = placed.iter().map(|placed| placed.shown).collect();
    shown.sort_unstable();
    assert!(shown.into_iter().eq(0..pictures.len() as u64), "each has a place of its own");
    // Delimited bytes are untrusted too.
    delimited.push_picture(Bytes::copy_from_slice(stream));
}

/// A walk over lengths never leaves the slice, and accounts for every byte.
pub(crate) fn length_prefixed(data: &[u8]) {
    for codec in [Codec::H264, Codec::H265] {
        let mut total = 0;
        for unit in LengthPrefixed::new(codec, data) {
            match unit {
                Ok(unit) => {
                    unit.kind();
                    unit.starts_picture();
                    total += unit.bytes().len();
                }
                Err(error) => assert!(error.length > error.available || error.available < 4),
            }
        }
        assert!(total <= data.len());
        NalUnit::new(codec, data).map(NalUnit::kind);
    }
}

/// What can be read can be written and read again.
pub(crate) fn parameter_sets(data: &[u8]) {
    for codec in [Codec::H264, Codec::H265] {
        let Ok(sets) = ParameterSets::from_configuration(codec, data) else { continue };
        assert_eq!(ParameterSets::from_configuration(codec, sets.configuration()), Ok(sets.clone()));
        let head = mp4::init_segment(&sets, Timestamp::EPOCH);
        assert_eq!(mp4::init(&head).map(|init| init.parameter_sets), Ok(sets));
    }
    if let Some((&at, rest)) = data.split_first() {
        let (sps, pps) = rest.split_at(usize::from(at).min(rest.len()));
        // Any answer will do, as long as there is one.
        drop(ParameterSets::h264(Bytes::copy_from_slice(sps), vec![Bytes::copy_from_slice(pps)]));
        let [sps, pps] = [sps, pps].map(Bytes::copy_from_slice);
        drop(ParameterSets::h265(pps.clone(), sps.clone(), vec![pps.clone()]));
        for codec in [Codec::H264, Codec::H265] {
            drop(edgecam_media::parameter_sets::pps_ids(codec, &pps));
            edgecam_media::parameter_sets::slice_pps_id(codec, &sps);
        }
    }
}

/// What comes out of weighted pictures is as many NAL units as went in, with no start code in what was written anew; or nothing.
pub(crate) fn unweighted(data: &[u8]) {
    let Some((&at, rest)) = data.split_first() else { return };
    // Main profile, 1280x720, CABAC, as x264 writes them.
    const SPS: &[u8] = &[
        0x67, 0x64, 0, 0x1f, 0xac, 0xb4, 2, 0x80, 0x2d, 0xd3, 0x50, 0x60, 0x60, 0x64, 0, 0, 3, 0, 4, 0, 0, 3, 0, 0x7a,
        0x3c, 0x60, 0xca, 0x80,
    ];
    const PPS: &[u8] = &[0x68, 0xef, 0x3c, 0xb0];
    const P: &[u8] = &[0x41, 0x9a, 0x26, 0x23, 0xdf, 0x95, 0xa2, 6, 0x77, 6, 0x7d, 0xcf, 0xff, 0xf1, 0xf3, 0x3f];
    let (pps, slice) = rest.split_at(usize::from(at).min(rest.len()) / 2);
    let sets =
        |pps: &[u8]| ParameterSets::h264(Bytes::from_static(SPS), vec![Bytes::copy_from_slice(pps)]).expect("sets");
    let known = Unweighted::new(&sets(PPS)).expect("it has the flag");
    let of_chance = (!pps.is_empty()).then(|| Unweighted::new(&sets(pps))).flatten();
    let delimited = |unit: &[u8]| [&(unit.len() as u32).to_be_bytes(), unit].concat();
    let mut changed = P.to_vec();
    changed.iter_mut().zip(slice).skip(1).for_each(|(byte, with)| *byte ^= with);
    for unweighted in [Some(known), of_chance].into_iter().flatten() {
        for picture in [slice.to_vec(), delimited(slice), delimited(&changed), delimited(&[&P[..5], slice].concat())] {
            let mut out = vec![7];
            if !unweighted.append(&picture, &mut out) {
                assert_eq!(out, [7]);
                continue;
            }
            let mut as_it_is = Vec::new();
            let units: Vec<NalUnit<'_>> = LengthPrefixed::new(Codec::H264, &picture).flatten().collect();
            units.iter().for_each(|unit| append(unit.bytes(), &mut as_it_is));
            if units.len() == 1 && out[1..] != as_it_is {
                assert_eq!(split(&out[1..], out.len()).0.len(), 1);
            }
        }
    }
}

/// Boxes never read past their end; fragments that are written can be read.
pub(crate) fn mp4(data: &[u8]) {
    let inner: usize = bmff::boxes(data).map(|(_, body)| bmff::boxes(body).count()).sum();
    assert!(inner <= data.len() / bmff::HEADER_SIZE);
    drop(mp4::init(data));
    mp4::random_access(data);
    if let Ok(Some(fragment)) = mp4::fragment(data) {
        assert!(!fragment.samples.is_empty());
        assert!(fragment.data <= data.len() as u64 && fragment.size >= fragment.data);
    }
    let units: Vec<AccessUnit> = data
        .chunks(5)
        .take(40)
        .enumerate()
        .map(|(index, bytes)| AccessUnit {
            track: TrackId::VIDEO,
            pts: Timestamp::from_ticks(i64::from(bytes[0]) * 3000),
            is_idr: index == 0,
            data: Bytes::copy_from_slice(bytes),
            parameter_sets: None,
        })
        .collect();
    if units.is_empty() {
        return;
    }
    let mut bytes = FragmentHead::new(1, Timestamp::EPOCH, &units, None).bytes;
    units.iter().for_each(|unit| bytes.extend_from_slice(&unit.data));
    let read = mp4::fragment(&bytes).expect("what is written can be read").expect("a fragment");
    assert_eq!(read.size, bytes.len() as u64);
    let times = read.samples.iter().map(|sample| Timestamp::EPOCH + sample.time);
    assert!(times.eq(units.iter().map(|unit| unit.pts)));
}

/// However a transport stream is cut into pieces, the same comes out of it; nothing is invented.
pub(crate) fn mpeg_ts(data: &[u8]) {
    let Some((&piece, rest)) = data.split_first() else { return };
    // Noise alone has no packets: sync bytes and a program are given.
    let mut stream = TABLES.to_vec();
    for payload in rest.chunks(185) {
        let at = stream.len();
        stream.extend([0x47, 0x41, 0, 0x10]);
        stream.extend_from_slice(payload);
        stream.resize(at + 188, 0xff);
    }
    let demux = |piece: usize| {
        let (mut demuxer, mut found) = (Demuxer::default(), Vec::new());
        stream.chunks(piece.max(1)).for_each(|piece| demuxer.push(piece, |pes| found.push(pes)));
        demuxer.finish(|pes| found.push(pes));
        found
    };
    let found = demux(piece.into());
    assert!(found.iter().map(|pes| pes.data.len()).sum::<usize>() <= stream.len());
    assert!(found.iter().all(|pes| pes.pts.is_none_or(|pts| (0..1 << 33).contains(&pts))));
    Demuxer::default().push(data, |_| ());
}

/// However a publisher's bytes are cut into pieces, the same comes out of them; nothing is invented.
pub(crate) fn rtmp(data: &[u8]) {
    let Some((&piece, rest)) = data.split_first() else { return };
    drop(amf0::decode(rest));
    let chunks = |piece: usize| {
        let (mut reader, mut found) = (ChunkReader::new(400), Vec::new());
        for piece in rest.chunks(piece.max(1)) {
            reader.push(piece);
            loop {
                match reader.next_message() {
                    Ok(Some(message)) => found.push(message),
                    Ok(None) => break,
                    Err(_) => return found,
                }
            }
        }
        found
    };
    let found = chunks(piece.into());
    assert!(found.iter().map(|message| message.payload.len()).sum::<usize>() <= rest.len());
    assert!(found.iter().eq(&chunks(rest.len())));
    // Noise alone never gets beyond the handshake: that is given, and whoever asks may publish.
    let mut session = Session::default();
    session.push(&[&[3][..], &[0; 2 * 1536], rest].concat());
    let mut media = 0;
    while let Ok(Some(event)) = session.next_event() {
        match event {
            Event::Publish { .. } => session.accept(),
            _ => media += 1,
        }
    }
    assert!(media <= rest.len());
}

/// A PAT and a PMT that name a stream of H.264 at PID 0x100.
const TABLES: [u8; 376] = {
    let mut out = [0xff; 376];
    let pat = [0x47, 0x40, 0, 0x10, 0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0, 1, 2, 3, 4];
    let map =
        [0x47, 0x50, 0, 0x10, 0, 2, 0xb0, 18, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0, 1, 2, 3, 4];
    let mut at = 0;
    while at < pat.len() {
        out[at] = pat[at];
        at += 1;
    }
    at = 0;
    while at < map.len() {
        out[188 + at] = map[at];
        at += 1;
    }
    out
};

/// Whatever an SDP says, what comes of it is within the bounds, and nothing that is not allowed.
pub(crate) fn sdp(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let allowed = AllowList::new(vec!["10.0.0.0/8".parse().expect("a network")]);
    // Noise alone hardly ever is an SDP: most of one is given.
    let [front, back] = ["v=0\nc=IN IP4 10.1.2.3\n", "m=video 5006 RTP/AVPF 103\na=rtpmap:103 H264/90000\n"];
    for sdp in [text.to_string(), format!("{front}{text}\n{back}"), format!("{front}{back}{text}")] {
        if let Ok(target) = RtpTarget::parse(&sdp, &allowed) {
            assert!(allowed.check(target.address).is_ok() && target.port >= 1024 && target.rtcp_port >= 1024);
            assert!(target.payload_type < 128 && target.cname.is_none_or(|cname| cname.len() <= 255));
        }
    }
}

/// A sender that is told anything does no more than its bounds allow.
pub(crate) fn rtcp(data: &[u8]) {
    let mut said = 0;
    let read = rtcp::parse(data, |_| said += 1);
    assert!(said <= data.len() / 4 && (read.is_err() || data.len().is_multiple_of(4)));
    let sdp = "v=0\nc=IN IP4 10.1.2.3\nm=video 5006 RTP/AVPF 103\na=rtpmap:103 H264/90000\n";
    let allowed = AllowList::new(vec!["10.0.0.0/8".parse().expect("a network")]);
    let target = RtpTarget::parse(sdp, &allowed).expect("usable");
    #[allow(clippy::disallowed_methods, reason = "an instant cannot be made otherwise; only distances matter")]
    let mut now = std::time::Instant::now();
    let mut sender = RtpSender::new(Settings::new(&target, || 0), now, Timestamp::EPOCH);
    for datagram in data.chunks(64) {
        sender.received(datagram, now);
        let mut outputs = 0;
        while sender.poll(now, Timestamp::EPOCH).is_some() {
            outputs += 1;
        }
        assert!(outputs <= 3, "an IDR, a bitrate and a report at most");
        now += std::time::Duration::from_millis(7);
    }
    assert!(sender.deadline().is_none_or(|at| at <= now + std::time::Duration::from_secs(30)));
}

/// Any picture becomes packets within the MTU, numbered without gaps, of which the last has the marker bit.
pub(crate) fn rtp(data: &[u8]) {
    let Some((&mtu, rest)) = data.split_first() else { return };
    let pps = vec![Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0])];
    let sets = ParameterSets::h264(Bytes::from_static(SPS), pps).expect("valid");
    let mtu = 64 + usize::from(mtu);
    let mut packetizer = Packetizer::new(1, 96, 65_000, mtu);
    let data = Bytes::copy_from_slice(rest);
    let track = TrackId::VIDEO;
    let unit = AccessUnit { track, pts: Timestamp::EPOCH, is_idr: mtu.is_multiple_of(2), data, parameter_sets: None };
    let mut packets = Vec::new();
    let is_well_formed = packetizer.packetize(&unit, &sets, 7, |packet| packets.push(packet));
    assert_eq!(is_well_formed, LengthPrefixed::new(Codec::H264, rest).all(|unit| unit.is_ok()));
    for (index, packet) in packets.iter().enumerate() {
        assert!(packet.size() <= mtu && packet.payload_size() > 0);
        assert_eq!(packet.sequence(), 65_000_u16.wrapping_add(index as u16));
        assert_eq!(packet.is_marked(), index + 1 == packets.len());
    }
}

const SPS: &[u8] = &[
    0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 0x40, 0x50, 5, 0xbb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 1, 0xe0, 0xf1, 0x83,
    0x19, 0x60,
];

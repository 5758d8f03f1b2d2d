//! Matroska as Kinesis Video Streams wants it: one Segment and one Cluster a fragment, both of unknown size, with
//! SimpleBlocks, and Tags at level 1 (RFC 9559; the layout is that of Amazon's own producer).
//!
//! Only headers are made here; the coded picture follows a block's header byte for byte.

use crate::{AccessUnit, ParameterSets, Timecode, TrackId};

/// EBML header: version 1, ids up to 4 and sizes up to 8 bytes, DocType "matroska" version 2.
const EBML: [u8; 40] = [
    0x1a, 0x45, 0xdf, 0xa3, 0xa3, 0x42, 0x86, 0x81, 1, 0x42, 0xf7, 0x81, 1, 0x42, 0xf2, 0x81, 4, 0x42, 0xf3, 0x81, 8,
    0x42, 0x82, 0x88, b'm', b'a', b't', b'r', b'o', b's', b'k', b'a', 0x42, 0x87, 0x81, 2, 0x42, 0x85, 0x81, 2,
];
const SEGMENT: [u8; 4] = [0x18, 0x53, 0x80, 0x67];
const INFO: [u8; 4] = [0x15, 0x49, 0xa9, 0x66];
const TRACKS: [u8; 4] = [0x16, 0x54, 0xae, 0x6b];
const CLUSTER: [u8; 4] = [0x1f, 0x43, 0xb6, 0x75];
const TAGS: [u8; 4] = [0x12, 0x54, 0xc3, 0x67];
/// A size that is not known in advance, in one byte (RFC 8794 section 6.2).
const UNKNOWN_SIZE: u8 = 0xff;
/// Timecodes count milliseconds.
const TIMECODE_SCALE: u64 = 1_000_000;
/// Name of the muxer, as `mkvinfo` shows it.
const APP: &str = concat!("edgecam ", env!("CARGO_PKG_VERSION"));

/// Bytes of a SimpleBlock in front of the picture.
pub const BLOCK_HEADER_SIZE: usize = 13;

/// EBML header, Segment, Info and Tracks: what begins each session. `uid` names the Segment. With `has_audio` there is a
/// track for what KVS takes of the audio beside `sets`.
pub fn header(sets: &ParameterSets, has_audio: bool, uid: [u8; 16]) -> Vec<u8> {
    let facts = sets.facts();
    let mut out = EBML.to_vec();
    out.extend_from_slice(&SEGMENT);
    out.push(UNKNOWN_SIZE);
    element(&mut out, &INFO, |out| {
        binary(out, &[0x73, 0xa4], &uid);
        unsigned(out, &[0x2a, 0xd7, 0xb1], TIMECODE_SCALE);
        binary(out, &[0x4d, 0x80], APP.as_bytes());
        binary(out, &[0x57, 0x41], APP.as_bytes());
    });
    element(&mut out, &TRACKS, |out| {
        element(out, &[0xae], |out| {
            unsigned(out, &[0xd7], u64::from(TrackId::VIDEO.get()));
            unsigned(out, &[0x73, 0xc5], u64::from(TrackId::VIDEO.get()));
            unsigned(out, &[0x83], 1);
            unsigned(out, &[0x9c], 0); // no lacing
            binary(out, &[0x53, 0x6e], b"video");
            binary(out, &[0x86], sets.codec().matroska_id().as_bytes());
            binary(out, &[0x63, 0xa2], sets.configuration());
            element(out, &[0xe0], |out| {
                unsigned(out, &[0xb0], u64::from(facts.width));
                unsigned(out, &[0xba], u64::from(facts.height));
            });
        });
        let audio = sets.audio().filter(|_| has_audio);
        if let Some((format, codec_id)) = audio.and_then(|format| Some((format, format.kvs_codec_id()?))) {
            element(out, &[0xae], |out| {
                unsigned(out, &[0xd7], u64::from(TrackId::AUDIO.get()));
                unsigned(out, &[0x73, 0xc5], u64::from(TrackId::AUDIO.get()));
                unsigned(out, &[0x83], 2);
                unsigned(out, &[0x9c], 0);
                binary(out, &[0x53, 0x6e], b"audio");
                binary(out, &[0x86], codec_id.as_bytes());
                binary(out, &[0x63, 0xa2], format.configuration());
                element(out, &[0xe1], |out| {
                    binary(out, &[0xb5], &f64::from(format.sample_rate()).to_be_bytes());
                    unsigned(out, &[0x9f], u64::from(format.channels()));
                });
            });
        }
    });
    out
}

/// Begins a Cluster whose blocks count from `millis`.
pub fn cluster(millis: i64) -> [u8; 15] {
    let mut out = [0; 15];
    out[..4].copy_from_slice(&CLUSTER);
    out[4] = UNKNOWN_SIZE;
    out[5] = 0xe7;
    out[6] = 0x88;
    out[7..].copy_from_slice(&millis.to_be_bytes());
    out
}

/// The header of a SimpleBlock that holds `unit` (RFC 9559 section 10.2).
pub fn block_header(unit: &AccessUnit, timecode: Timecode) -> [u8; BLOCK_HEADER_SIZE] {
    let mut out = [0; BLOCK_HEADER_SIZE];
    out[0] = 0xa3;
    out[1..9].copy_from_slice(&((unit.data.len() as u64 + 4) | 1 << 56).to_be_bytes());
    out[9] = 0x80 | unit.track.get();
    out[10..12].copy_from_slice(&timecode.to_be_bytes());
    out[12] = if unit.is_idr || !unit.is_video() { 0x80 } else { 0 };
    out
}

/// A Tags element with one simple tag; at level 1, so it ends the Cluster before it.
pub fn tag(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    element(&mut out, &TAGS, |out| {
        element(out, &[0x73, 0x73], |out| {
            element(out, &[0x67, 0xc8], |out| {
                binary(out, &[0x45, 0xa3], name.as_bytes());
                binary(out, &[0x44, 0x87], value.as_bytes());
            });
        });
    });
    out
}

fn element(out: &mut Vec<u8>, id: &[u8], body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(id);
    let size_at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    // Headers stay far below the 2^28 that four bytes hold.
    let size = (out.len() - size_at - 4) as u32 | 0x1000_0000;
    out[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
}

fn binary(out: &mut Vec<u8>, id: &[u8], value: &[u8]) {
    element(out, id, |out| out.extend_from_slice(value));
}

fn unsigned(out: &mut Vec<u8>, id: &[u8], value: u64) {
    binary(out, id, &value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use matroska_demuxer::{Frame, MatroskaFile};

    use super::*;
    use crate::Timestamp;
    use crate::parameter_sets::tests::{PPS, SPS_720P};

    #[test]
    fn an_independent_demuxer_reads_it_back() {
        let sets = ParameterSets::h264(Bytes::from_static(SPS_720P), vec![Bytes::from_static(PPS)]).expect("valid");
        let mut file = header(&sets, false, [7; 16]);
        file.extend(tag("event", "person"));
        for cluster_index in 0..2_i64 {
            let base = 1_795_228_575_129 + cluster_index * 1000;
            file.extend(cluster(base));
            for frame in 0..3_i64 {
                let unit = AccessUnit {
                    track: TrackId::VIDEO,
                    pts: Timestamp::from_unix_millis(base + frame * 40),
                    is_idr: frame == 0,
                    data: Bytes::from(vec![frame as u8; 20]),
                    parameter_sets: None,
                };
                let timecode = Timecode::relative(unit.pts.unix_millis(), base).expect("fits");
                file.extend(block_header(&unit, timecode));
                file.extend(&unit.data);
            }
        }
        let mut read = MatroskaFile::open(std::io::Cursor::new(&file)).expect("valid Matroska");
        let track = &read.tracks()[0];
        assert_eq!(track.codec_id(), "V_MPEG4/ISO/AVC");
        assert_eq!(track.codec_private(), Some(&sets.configuration()[..]));
        assert_eq!(
            track.video().map(|video| (video.pixel_width().get(), video.pixel_height().get())),
            Some((1280, 720))
        );
        let mut frames = Vec::new();
        let mut frame = Frame::default();
        while read.next_frame(&mut frame).expect("readable") {
            frames.push((
                frame.timestamp as i64 - 1_795_228_575_129,
                frame.is_keyframe.unwrap_or(false),
                frame.data.len(),
            ));
        }
        let expected = [(0, true), (40, false), (80, false), (1000, true), (1040, false), (1080, false)];
        assert_eq!(frames, expected.map(|(time, key)| (time, key, 20)));
    }
}

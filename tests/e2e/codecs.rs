//! H.265 beyond its sources: what takes it, and what says that it does not. And what H.264 is decoded to here.

use std::time::{Duration, Instant};

use edgecam::decode::Decoder;
use edgecam_media::assembler::Assembler;
use edgecam_media::{AccessUnit, Codec, Timestamp, TrackId};
use openh264::formats::YUVSource;
use serde_json::json;

use crate::harness::footage::{archived, archived_pictures};
use crate::harness::media::{Clip, tool};
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig, Scratch, http, poll};

/// What the service missed is read from the archive and sent, as it was.
#[tokio::test]
async fn h265_is_uploaded_from_disk_after_an_outage() {
    let clip = Clip { h265: true, ..Clip::new(10) }.file().await;
    let mut rig = Rig::new("h265-outage", vec![looping("cam1", &clip)]).await;
    rig.config["cameras"][0]["ring"] = json!("64 KiB");
    rig.start();
    rig.more_persisted("cam1", 3).await;
    rig.kvs.stop().await.expect("stopped");
    let (began, down) = (Instant::now(), Duration::from_secs(12));
    poll(down, async || (began.elapsed() >= down).then_some(())).await.expect("time passes");
    let report = rig.agent().report("cam1").await.expect("a report");
    assert!(report["video"]["codec"].as_str().is_some_and(|codec| codec.starts_with("hvc1.1.6.L")), "{report:#}");
    rig.kvs.restart().expect("restarted");
    rig.caught_up("cam1", PATIENCE).await;
    rig.stop_and_compare(&["cam1"]).await;
    let pictures = archived_pictures(&rig.archive("cam1")).await;
    assert_eq!(pictures.len(), archived(&rig.archive("cam1")).await.len());
}

/// Nothing decodes it: a snapshot is refused by name.
#[tokio::test]
async fn a_snapshot_of_h265_is_refused() {
    let clip = Clip { h265: true, ..Clip::new(10) }.file().await;
    let mut rig = Rig::new("h265-snapshot", vec![looping("cam1", &clip)]).await;
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", 15).await;
    let answer = http::get(rig.port, "/streams/cam1/snapshot.jpg").await.expect("an answer");
    assert!(answer.status >= 400 && answer.body.contains("H.265"), "{} {}", answer.head, answer.body);
}

/// Weights that weight nothing are taken away before pictures are decoded, others are not: each sample is as ffmpeg has it.
#[tokio::test]
async fn weighted_pictures_are_decoded_to_the_same_samples() {
    const SIZE: (usize, usize) = (320, 180);
    let directory = Scratch::new("weighted");
    let (stream, raw) = (directory.path().join("in.h264"), directory.path().join("out.yuv"));
    let (stream_name, raw_name) = (stream.to_string_lossy(), raw.to_string_lossy());
    for parameters in ["weightp=1", "weightp=2:ref=3:slices=2", "weightp=1:cabac=0:ref=2"] {
        // For a second it becomes lighter, which is where x264 weights.
        let input = "testsrc2=size=320x180:rate=15,fade=t=in:st=0:d=1";
        let parameters = format!("{parameters}:keyint=30:bframes=0");
        let make =
            ["-v", "error", "-y", "-f", "lavfi", "-i", input, "-t", "4", "-pix_fmt", "yuv420p", "-c:v", "libx264"];
        tool("ffmpeg", &[&make[..], &["-x264-params", &parameters, "-f", "h264", &stream_name]].concat()).await;
        tool("ffmpeg", &["-v", "error", "-y", "-i", &stream_name, "-f", "rawvideo", &raw_name]).await;
        let expected = std::fs::read(&raw).expect("samples");
        let mut assembler = Assembler::new(Codec::H264);
        let mut pictures = Vec::new();
        assembler.push_annex_b(&std::fs::read(&stream).expect("a stream"), (), |picture, ()| pictures.push(picture));
        assembler.finish((), |picture, ()| pictures.push(picture));
        let mut decoder = Decoder::at_once().expect("a decoder");
        let (mut sets, mut seen) = (None, Vec::new());
        for picture in pictures {
            sets = picture.parameter_sets.clone().or(sets);
            let unit = AccessUnit {
                track: TrackId::VIDEO,
                pts: Timestamp::EPOCH,
                is_idr: picture.is_idr,
                data: picture.data,
                parameter_sets: picture.parameter_sets,
            };
            let shown = decoder.decode(&unit, sets.as_ref().expect("it begins with an IDR")).expect("decoded");
            let shown = shown.expect("at once");
            let planes = [
                (shown.y(), shown.strides().0, 1),
                (shown.u(), shown.strides().1, 2),
                (shown.v(), shown.strides().2, 2),
            ];
            for (plane, stride, of) in planes {
                plane.chunks(stride).take(SIZE.1 / of).for_each(|line| seen.extend_from_slice(&line[..SIZE.0 / of]));
            }
        }
        let picture = SIZE.0 * SIZE.1 * 3 / 2;
        let first = seen.chunks(picture).zip(expected.chunks(picture)).position(|(seen, expected)| seen != expected);
        assert_eq!((first, seen.len()), (None, expected.len()), "{parameters}");
    }
}

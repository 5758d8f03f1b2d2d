//! Streams of many makes go through Annex B, access units, Matroska and MP4, and still show the same pictures.
//!
//! The streams are made by x264 and x265 through ffmpeg, and ffmpeg decodes what goes in and what comes out. Not here:
//! frames coded as two fields, which neither encoder makes (`assembler::tests` has them).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use edgecam_media::assembler::Assembler;
use edgecam_media::mp4::{FragmentHead, init_segment};
use edgecam_media::nal::LengthPrefixed;
use edgecam_media::picture_order::{OutputOrder, Placed};
use edgecam_media::unweighted::Unweighted;
use edgecam_media::{AccessUnit, Codec, ParameterSets, Ticks, Timecode, Timestamp, TrackId, annex_b, mkv};

/// What is given to ffmpeg besides size and length, and to the encoder itself.
struct Stream {
    name: &'static str,
    codec: Codec,
    arguments: &'static [&'static str],
    parameters: &'static str,
}

const fn h264(name: &'static str, arguments: &'static [&'static str], parameters: &'static str) -> Stream {
    Stream { name, codec: Codec::H264, arguments, parameters }
}

const fn h265(name: &'static str, arguments: &'static [&'static str], parameters: &'static str) -> Stream {
    Stream { name, codec: Codec::H265, arguments, parameters }
}

const STREAMS: &[Stream] = &[
    h264("baseline", &["-profile:v", "baseline"], "slices=1"),
    h264("baseline, 4 slices, 5 reference frames", &["-profile:v", "baseline"], "slices=4:ref=5"),
    h264("main, CAVLC", &["-profile:v", "main"], "cabac=0:bframes=0"),
    h264("main, CABAC, 4 slices", &["-profile:v", "main"], "cabac=1:slices=4:bframes=0"),
    h264("main, B-frames, 1 reference frame", &["-profile:v", "main"], "bframes=1:ref=1"),
    h264("high", &["-profile:v", "high"], "bframes=0:ref=3"),
    h264("high, 3 B-frames in a pyramid", &["-profile:v", "high"], "bframes=3:b-pyramid=normal:ref=4"),
    h264("high, 3 B-frames, 4 slices, CAVLC", &["-profile:v", "high"], "bframes=3:slices=4:cabac=0:ref=2"),
    h264("high, 16 B-frames", &["-profile:v", "high"], "bframes=16:b-adapt=0:ref=5"),
    h264("high, interlaced, top field first", &["-flags", "+ildct+ilme"], "tff=1:bframes=0"),
    h264("high, interlaced, bottom field first, B-frames", &["-flags", "+ildct+ilme"], "bff=1:bframes=2:slices=4"),
    h264("high, open GOPs", &["-profile:v", "high"], "open-gop=1:bframes=3:ref=4"),
    h264("high, intra refresh", &["-profile:v", "high"], "intra-refresh=1:bframes=0"),
    h264("high 10", &["-pix_fmt", "yuv420p10le"], "bframes=2"),
    h264("high 4:2:2", &["-pix_fmt", "yuv422p"], "bframes=2"),
    h264("high 4:4:4", &["-pix_fmt", "yuv444p"], "bframes=2"),
    h264("delimiters, HRD, picture timing", &[], "aud=1:nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500:pic-struct=1"),
    h265("main", &[], "bframes=0"),
    h265("main, closed GOPs, B-frames", &[], "open-gop=0:bframes=3"),
    h265("main, open GOPs, B-frames", &[], "open-gop=1:bframes=3"),
    h265("main, RADL", &[], "open-gop=0:radl=2:bframes=3"),
    h265("main, 4 slices, delimiters, hashes in SEI", &[], "slices=4:aud=1:hash=1:bframes=2"),
    h265("main, temporal layers", &[], "temporal-layers=2:bframes=3:b-adapt=0"),
    h265("main, scaling lists, 5 reference frames", &[], "scaling-list=default:ref=5:bframes=2"),
    h265("main 10", &["-pix_fmt", "yuv420p10le"], "bframes=2"),
    h265("range extensions, 4:2:2", &["-pix_fmt", "yuv422p"], "bframes=2"),
];

fn scratch(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("edgecam-conformance-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

fn run(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(arguments).output().expect("ffmpeg is there");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "ffmpeg {}: {stderr}", arguments.join(" "));
    output.stdout
}

/// 48 pictures at 25 a second with a key frame each 15, as an elementary stream.
fn encode(stream: &Stream, size: &str, to: &Path) {
    encode_of(&format!("testsrc2=size={size}:rate=25,noise=alls=6:allf=t"), stream, to);
}

/// The same of other pictures.
fn encode_of(input: &str, stream: &Stream, to: &Path) {
    let (encoder, option, quiet) = match stream.codec {
        Codec::H264 => ("libx264", "-x264-params", ""),
        Codec::H265 => ("libx265", "-x265-params", "log-level=none:"),
    };
    let parameters = format!("{quiet}keyint=15:min-keyint=15:scenecut=0:repeat-headers=1:{}", stream.parameters);
    let mut arguments = vec!["-f", "lavfi", "-i", input, "-frames:v", "48", "-c:v", encoder, "-preset", "veryfast"];
    if !stream.arguments.contains(&"-pix_fmt") {
        arguments.extend(["-pix_fmt", "yuv420p"]);
    }
    arguments.extend(stream.arguments);
    let to = to.to_string_lossy();
    let format = if stream.codec == Codec::H264 { "h264" } else { "hevc" };
    arguments.extend([option, &parameters, "-f", format, &to]);
    run(&arguments);
}

/// The hash of each picture, in the order they are shown.
fn decoded(file: &Path) -> Vec<String> {
    decoded_with_times(file).0
}

/// The hashes, and when the pictures are shown, in the time base of the file.
fn decoded_with_times(file: &Path) -> (Vec<String>, Vec<i64>) {
    let file = file.to_string_lossy();
    let text = run(&[
        "-i",
        &file,
        "-map",
        "0:v",
        "-fps_mode",
        "passthrough",
        "-enc_time_base",
        "-1",
        "-autoscale",
        "0",
        "-f",
        "framemd5",
        "-",
    ]);
    let text = String::from_utf8(text).expect("text");
    let picture = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        (fields[5].to_owned(), fields[2].parse::<i64>().unwrap_or(0))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(picture).unzip()
}

const START: Timestamp = Timestamp::from_unix_millis(1_795_228_575_129);

/// The pictures of an elementary stream that comes in pieces, with the times that its rate and their order give them.
fn access_units(codec: Codec, stream: &[u8]) -> Vec<AccessUnit> {
    let mut assembler = Assembler::new(codec);
    let mut order = OutputOrder::default();
    let mut placed = Vec::new();
    for piece in stream.chunks(1009) {
        assembler.push_annex_b(piece, (), |picture, ()| order.push(picture, |picture| placed.push(picture)));
    }
    assembler.finish((), |picture, ()| order.push(picture, |picture| placed.push(picture)));
    order.finish(|picture| placed.push(picture));
    assert_eq!(assembler.losses(), Default::default(), "nothing is wrong with the stream");
    let unit = |Placed { picture, shown }| AccessUnit {
        track: TrackId::VIDEO,
        pts: START + Ticks::new(shown as i64 * 3600),
        is_idr: picture.is_idr,
        data: picture.data,
        parameter_sets: picture.parameter_sets,
    };
    placed.into_iter().map(unit).collect()
}

type Gop = (Arc<ParameterSets>, Vec<AccessUnit>);

/// GOPs, and those together whose parameter sets are the same: each lot is a file.
fn files(units: &[AccessUnit]) -> Vec<Vec<Gop>> {
    let mut files: Vec<Vec<Gop>> = Vec::new();
    for unit in units {
        if let Some(sets) = &unit.parameter_sets {
            let continues = files.last().and_then(|file| file.last()).is_some_and(|(last, _)| last == sets);
            if !continues {
                files.push(Vec::new());
            }
            files.last_mut().expect("a file").push((sets.clone(), Vec::new()));
        }
        files.last_mut().and_then(|file| file.last_mut()).expect("it begins with an IDR").1.push(unit.clone());
    }
    files
}

fn mp4(gops: &[Gop]) -> Vec<u8> {
    let start = gops[0].1.iter().map(|unit| unit.pts).min().expect("a picture");
    let mut out = init_segment(&gops[0].0, start);
    for (index, (_, units)) in gops.iter().enumerate() {
        let next = gops.get(index + 1).map(|(_, units)| units[0].pts);
        out.extend(FragmentHead::new(index as u32 + 1, start, units, next).bytes);
        units.iter().for_each(|unit| out.extend_from_slice(&unit.data));
    }
    out
}

fn matroska(gops: &[Gop]) -> Vec<u8> {
    let mut out = mkv::header(&gops[0].0, false, [7; 16]);
    for (_, units) in gops {
        let base = units[0].pts.unix_millis();
        out.extend(mkv::cluster(base));
        for unit in units {
            let timecode = Timecode::relative(unit.pts.unix_millis(), base).expect("a GOP is short");
            out.extend(mkv::block_header(unit, timecode));
            out.extend_from_slice(&unit.data);
        }
    }
    out
}

/// Takes the stream in `file` apart and puts it together again in both ways; tells what differs.
fn differences(codec: Codec, file: &Path, directory: &Path, least: usize) -> Vec<String> {
    let expected = decoded(file);
    let units = access_units(codec, &std::fs::read(file).expect("a file"));
    let files = files(&units);
    let mut found = Vec::new();
    if expected.len() < least || units.len() != expected.len() {
        found.push(format!("{} pictures, {} access units", expected.len(), units.len()));
    }
    for (container, write) in [("mp4", mp4 as fn(&[Gop]) -> Vec<u8>), ("mkv", matroska)] {
        let mut pictures = Vec::new();
        for gops in &files {
            let file = directory.join(format!("out.{container}"));
            std::fs::write(&file, write(gops)).expect("written");
            let (hashes, times) = decoded_with_times(&file);
            let distance = if container == "mp4" { 3600 } else { 40 };
            if !times.windows(2).all(|pair| pair[1] - pair[0] == distance) {
                found.push(format!("{container}: uneven times: {times:?}"));
            }
            pictures.extend(hashes);
        }
        let first = pictures.iter().zip(&expected).position(|(picture, expected)| picture != expected);
        if pictures != expected {
            found.push(format!(
                "{container}: {} of {} pictures, the first that differs: {first:?}",
                pictures.len(),
                expected.len()
            ));
        }
    }
    found
}

#[test]
fn streams_of_many_makes_show_the_same_pictures() {
    let directory = scratch("makes");
    let mut found = Vec::new();
    for stream in STREAMS {
        let file = directory.join(if stream.codec == Codec::H264 { "in.h264" } else { "in.hevc" });
        encode(stream, "176x144", &file);
        let differences = differences(stream.codec, &file, &directory, 48);
        found.extend(differences.into_iter().map(|what| format!("{} {}: {what}", stream.codec.name(), stream.name)));
    }
    std::fs::remove_dir_all(&directory).ok();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_size_changes_in_the_middle() {
    let directory = scratch("sizes");
    for codec in [Codec::H264, Codec::H265] {
        let mut whole = Vec::new();
        for size in ["176x144", "320x180", "176x144"] {
            let part = directory.join("part");
            encode(&Stream { name: "", codec, arguments: &[], parameters: "bframes=2" }, size, &part);
            whole.extend(std::fs::read(&part).expect("a file"));
        }
        let file = directory.join(if codec == Codec::H264 { "in.h264" } else { "in.hevc" });
        std::fs::write(&file, &whole).expect("written");
        assert_eq!(files(&access_units(codec, &whole)).len(), 3);
        let found = differences(codec, &file, &directory, 144);
        assert!(found.is_empty(), "{}: {}", codec.name(), found.join("\n"));
    }
    std::fs::remove_dir_all(&directory).ok();
}

/// Pictures that become lighter for a second: x264 weights references there, and only there.
const FADE: &str = "testsrc2=size=176x144:rate=25,fade=t=in:st=0:d=1";

const WEIGHTED: &[Stream] = &[
    h264("main, CABAC", &["-profile:v", "main"], "weightp=1:bframes=0"),
    h264("main, CABAC, references twice", &["-profile:v", "main"], "weightp=2:bframes=0:ref=4:slices=3"),
    h264("main, CAVLC, 4 slices", &["-profile:v", "main"], "weightp=1:cabac=0:slices=4:bframes=0"),
    h264("high, B-frames with weights", &["-profile:v", "high"], "weightp=1:weightb=1:bframes=3:ref=3"),
    h264("high, CAVLC, delimiters", &["-profile:v", "high"], "weightp=1:cabac=0:aud=1:bframes=0"),
];

#[test]
fn without_weights_that_weight_nothing_pictures_are_the_same() {
    let directory = scratch("weights");
    let file = directory.join("in.h264");
    let (mut has_weighted, mut found) = (false, Vec::new());
    for stream in WEIGHTED {
        encode_of(FADE, stream, &file);
        let expected = decoded(&file);
        let units = access_units(Codec::H264, &std::fs::read(&file).expect("a file"));
        let mut out = Vec::new();
        let (mut sets, mut changed) = (None, 0);
        for unit in &units {
            if let Some(new) = &unit.parameter_sets {
                out.extend(new.annex_b());
                let unweighted = Unweighted::new(new);
                sets = Some((new.clone(), unweighted.unwrap_or_else(|| panic!("{}: no weights", stream.name))));
            }
            let (known, unweighted) = sets.as_ref().expect("it begins with an IDR");
            let (mut plain, mut as_it_is) = (Vec::new(), Vec::new());
            for unit in LengthPrefixed::new(Codec::H264, &unit.data).flatten() {
                annex_b::append(unit.bytes(), &mut as_it_is);
            }
            // Before each picture the PPS that it refers to.
            if unweighted.append(&unit.data, &mut plain) {
                changed += usize::from(plain != as_it_is);
                out.extend_from_slice(unweighted.sets());
                out.extend(plain);
            } else {
                has_weighted = true;
                out.extend(known.annex_b());
                out.extend(as_it_is);
            }
        }
        let rewritten = directory.join("out.h264");
        std::fs::write(&rewritten, &out).expect("written");
        if decoded(&rewritten) != expected || changed < 3 {
            found.push(format!("{}: {changed} of {} pictures changed", stream.name, units.len()));
        }
    }
    std::fs::remove_dir_all(&directory).ok();
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(has_weighted, "no picture had weights that count");
}

//! edgecam's way through a model against onnxruntime's, on exports that the test makes itself.
//!
//! Weights are random and PyPI has all that is needed; it is kept in `EDGECAM_VISION_CACHE`, or `~/.cache/edgecam-vision`.
//! Both runtimes get the same tensor: the way from a picture to it has tests of its own, in the crate. The first run takes
//! some minutes to fetch 0.6 GB.
//!
//! `EDGECAM_VISION_MODELS`, a directory, adds its FastestDet and UltraFace files; `EDGECAM_VISION_VIDEO` is then a video to
//! try them on.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use edgecam_vision::{Description, Fit, Input, Model, ModelError, Output, Planes, Task};
use serde_json::{Value, json};

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;
/// Pixels, and parts of 1.
const MOST_PIXELS: f64 = 1.0;
const MOST_CONFIDENCE: f64 = 1e-3;
const IOU: f64 = 0.45;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vision")
}

fn cache() -> PathBuf {
    let given = std::env::var_os("EDGECAM_VISION_CACHE").map(PathBuf::from);
    let home =
        || Path::new(&std::env::var_os("HOME").expect("HOME, or EDGECAM_VISION_CACHE")).join(".cache/edgecam-vision");
    let cache = given.unwrap_or_else(home);
    fs::create_dir_all(&cache).expect("a directory");
    cache
}

fn run(command: &mut Command) -> String {
    let done = command.output().expect("it starts");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}:\n{errors}");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// A picture in I420.
struct Picture {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl Picture {
    /// Blobs, edges and noise: something of every size.
    fn drawn() -> Self {
        let mut rng = fastrand::Rng::with_seed(42);
        let mut data = vec![128; (WIDTH * HEIGHT * 3 / 2) as usize];
        let blobs: Vec<[f32; 6]> = (0..60)
            .map(|_| {
                let radius = 6.0 + 90.0 * rng.f32() * rng.f32();
                let (x, y) = (rng.f32() * WIDTH as f32, rng.f32() * HEIGHT as f32);
                [x, y, radius, rng.f32() * 200.0, rng.f32() * 200.0, rng.f32() * 200.0]
            })
            .collect();
        let (luma, chroma) = ((WIDTH * HEIGHT) as usize, (WIDTH * HEIGHT / 4) as usize);
        for (at, value) in data.iter_mut().enumerate() {
            let (plane, at, step) = match at {
                at if at < luma => (0, at, 1),
                at if at < luma + chroma => (1, at - luma, 2),
                at => (2, at - luma - chroma, 2),
            };
            let width = WIDTH as usize / step;
            let (x, y) = ((at % width * step) as f32, (at / width * step) as f32);
            let inside = |blob: &&[f32; 6]| (blob[0] - x).hypot(blob[1] - y) < blob[2];
            let level = blobs.iter().rev().find(inside).map_or(60.0 + x * 0.15, |blob| blob[3 + plane]);
            *value = (level + rng.f32() * 12.0) as u8 + 20;
        }
        Self { width: WIDTH, height: HEIGHT, data }
    }

    fn of_video(video: &Path) -> Self {
        let size = ["-v", "error", "-select_streams", "v", "-show_entries", "stream=width,height", "-of", "csv=p=0"];
        let size = run(Command::new("ffprobe").args(size).arg(video));
        let (width, height) = size.split_once(',').expect("a size");
        let (width, height) = (width.parse().expect("a number"), height.parse().expect("a number"));
        let out = std::env::temp_dir().join(format!("edgecam-vision-{}.yuv", std::process::id()));
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-y", "-ss", "11", "-i"]).arg(video);
        run(ffmpeg.args(["-frames:v", "1", "-pix_fmt", "yuv420p", "-f", "rawvideo"]).arg(&out));
        let data = fs::read(&out).expect("a picture");
        fs::remove_file(out).ok();
        Self { width, height, data }
    }

    fn planes(&self) -> Planes<'_> {
        let (width, half) = (self.width as usize, self.width as usize / 2);
        let luma = width * self.height as usize;
        let (y, chroma) = self.data.split_at(luma);
        let (u, v) = chroma.split_at(luma / 4);
        Planes::new([y, u, v], (width, half, half), self.width, self.height).expect("a picture")
    }
}

/// A model and how the other side reads it.
struct Case {
    name: String,
    file: PathBuf,
    family: &'static str,
    threshold: f64,
    description: Description,
}

impl Case {
    fn new(directory: &Path, name: &str, family: &'static str, threshold: f64) -> Self {
        let file = directory.join(format!("{name}.onnx"));
        Self { name: name.to_owned(), file, family, threshold, description: Description::default() }
    }
}

fn as_json(output: &Output) -> Value {
    match output {
        Output::Detections(detections) => json!({ "detections": detections.iter().map(|seen| json!({
            "class": seen.class, "confidence": seen.confidence,
            "bbox": [seen.bbox.x1, seen.bbox.y1, seen.bbox.x2, seen.bbox.y2],
        })).collect::<Vec<_>>() }),
        Output::Classes(classes) => json!({ "classes": classes.iter().map(|seen| json!({
            "class": seen.class, "confidence": seen.confidence,
        })).collect::<Vec<_>>() }),
        Output::Text(text) => json!({ "text": text.text, "confidence": text.confidence }),
    }
}

/// Runs all models here and there, and compares.
fn compare(python: &str, cases: &[Case], picture: &Picture, work: &Path) {
    let (mut jobs, mut ours) = (Vec::new(), Vec::new());
    for case in cases {
        let bytes = fs::read(&case.file).unwrap_or_else(|error| panic!("{}: {error}", case.file.display()));
        let model = Model::load(&bytes, &case.description).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let mut runner = model.runner().expect("it runs");
        let planes = picture.planes();
        let tensor: Vec<u8> =
            runner.prepared(&planes, None).expect("a tensor").iter().flat_map(|value| value.to_le_bytes()).collect();
        let path = work.join(format!("{}.tensor", case.name));
        fs::write(&path, tensor).expect("written");
        let output = runner.run(&planes, None, case.threshold as f32).expect("it runs");
        ours.push((as_json(&output), model.is_cut()));
        let Input { width, height, fit, .. } = model.input();
        let fit = match fit {
            Fit::Letterbox => "letterbox",
            Fit::TopLeft => "top_left",
            Fit::Stretch => "stretch",
            Fit::Crop => "crop",
        };
        jobs.push(json!({
            "file": case.file, "tensor": path, "shape": [1, 3, height, width], "family": case.family, "fit": fit,
            "threshold": case.threshold, "iou": IOU, "picture": [picture.width, picture.height], "labels": model.labels(),
        }));
    }
    let (asked, answered) = (work.join("jobs.json"), work.join("results.json"));
    fs::write(&asked, Value::from(jobs).to_string()).expect("written");
    run(Command::new(python).arg(here().join("reference.py")).arg(asked).arg(&answered));
    let theirs: Value = serde_json::from_slice(&fs::read(answered).expect("results")).expect("JSON");
    let mut differences = Vec::new();
    for ((case, (ours, is_cut)), theirs) in cases.iter().zip(&ours).zip(theirs.as_array().expect("a list")) {
        let cut = if *is_cut { ", cut" } else { "" };
        match difference(ours, theirs, case.threshold) {
            Ok((count, pixels, confidence)) => {
                writeln!(
                    io::stderr(),
                    "{}{cut}: {count} the same, at most {pixels:.4} pixels and {confidence:.6} apart",
                    case.name
                )
                .ok();
                if count == 0 {
                    differences.push(format!("{}: nothing was seen, so nothing is compared", case.name));
                }
            }
            Err(what) => differences.push(format!("{}{cut}: {what}", case.name)),
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Untrained networks give many cells the same score, and which of them suppression keeps is chance. So: each box here is
/// one that the other side has before suppression, none shares more than may be with another, and there are as many.
fn as_well_chosen(ours: &[Value], candidates: &[Value], kept: usize) -> Result<(usize, f64, f64), String> {
    type Seen = (u64, f64, [f64; 4]);
    let read = |value: &Value| -> Seen {
        let side = |at: usize| value["bbox"][at].as_f64().unwrap_or_default();
        let confidence = value["confidence"].as_f64().unwrap_or_default();
        (value["class"].as_u64().unwrap_or(u64::MAX), confidence, [side(0), side(1), side(2), side(3)])
    };
    let ours: Vec<Seen> = ours.iter().map(read).collect();
    let candidates: Vec<Seen> = candidates.iter().map(read).collect();
    let apart = |a: &Seen, b: &Seen| a.2.iter().zip(b.2).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let iou = |a: &Seen, b: &Seen| {
        let area = |r: [f64; 4]| (r[2] - r[0]).max(0.0) * (r[3] - r[1]).max(0.0);
        let both = [a.2[0].max(b.2[0]), a.2[1].max(b.2[1]), a.2[2].min(b.2[2]), a.2[3].min(b.2[3])];
        area(both) / (area(a.2) + area(b.2) - area(both)).max(1e-9)
    };
    let (mut pixels, mut confidence) = (0.0_f64, 0.0_f64);
    for seen in &ours {
        let same = |other: &&Seen| other.0 == seen.0 && (other.1 - seen.1).abs() < MOST_CONFIDENCE;
        let nearest = candidates.iter().filter(same).min_by(|a, b| apart(seen, a).total_cmp(&apart(seen, b)));
        match nearest {
            Some(other) if apart(seen, other) < MOST_PIXELS => {
                pixels = pixels.max(apart(seen, other));
                confidence = confidence.max((other.1 - seen.1).abs());
            }
            other => return Err(format!("{seen:?} is seen here alone; the nearest there is {other:?}")),
        }
    }
    // Boxes are cut at the picture's edges after suppression: only whole ones show what it compared.
    let is_whole = |seen: &&Seen| {
        let [x1, y1, x2, y2] = seen.2;
        x1 > 0.5 && y1 > 0.5 && x2 < f64::from(WIDTH) - 0.5 && y2 < f64::from(HEIGHT) - 0.5
    };
    let whole: Vec<Seen> = ours.iter().filter(is_whole).copied().collect();
    for (at, seen) in whole.iter().enumerate() {
        if let Some(other) = whole[..at].iter().find(|other| other.0 == seen.0 && iou(seen, other) > IOU + 0.01) {
            return Err(format!("{seen:?} and {other:?} are one thing"));
        }
    }
    // Which of equals is kept decides what it suppresses: their number is nearly the same, not the same.
    if ours.len().abs_diff(kept) * 10 > kept.max(20) {
        return Err(format!("{} boxes instead of {kept}", ours.len()));
    }
    Ok((ours.len(), pixels, confidence))
}

/// How many things are the same, and how far they are apart at most.
fn difference(ours: &Value, theirs: &Value, threshold: f64) -> Result<(usize, f64, f64), String> {
    if let Some(text) = theirs["text"].as_str() {
        let apart = (ours["confidence"].as_f64().unwrap_or(9.0) - theirs["confidence"].as_f64().unwrap_or(-9.0)).abs();
        let is_same = ours["text"] == text && apart < MOST_CONFIDENCE;
        return if is_same {
            Ok((text.chars().count(), 0.0, apart))
        } else {
            Err(format!("{ours} instead of {theirs}"))
        };
    }
    let key = if theirs["classes"].is_array() { "classes" } else { "detections" };
    let list = |value: &Value| value[key].as_array().cloned().unwrap_or_default();
    if let Some(candidates) = theirs["candidates"].as_array() {
        return as_well_chosen(&list(ours), candidates, list(theirs).len());
    }
    let theirs = list(theirs);
    let mut left = list(ours);
    let (mut count, mut pixels, mut confidence) = (0, 0.0_f64, 0.0_f64);
    let sure = |value: &Value| value["confidence"].as_f64().unwrap_or_default();
    for wanted in &theirs {
        let near = left
            .iter()
            .enumerate()
            .filter(|(_, seen)| seen["class"] == wanted["class"])
            .map(|(at, seen)| (at, edges(seen, wanted), (sure(seen) - sure(wanted)).abs()));
        let best = near.min_by(|a, b| (a.1 + a.2).total_cmp(&(b.1 + b.2)));
        match best {
            Some((at, edges, sure)) if edges <= MOST_PIXELS && sure <= MOST_CONFIDENCE => {
                left.remove(at);
                count += 1;
                (pixels, confidence) = (pixels.max(edges), confidence.max(sure));
            }
            // So near the threshold that either side may leave it out.
            _ if sure(wanted) < threshold + MOST_CONFIDENCE => {}
            best => return Err(format!("onnxruntime sees {wanted}, and the nearest here is {best:?}")),
        }
    }
    left.retain(|seen| sure(seen) >= threshold + MOST_CONFIDENCE);
    if left.is_empty() { Ok((count, pixels, confidence)) } else { Err(format!("only edgecam sees {left:?}")) }
}

/// How far two boxes' edges are apart at most, in pixels.
fn edges(a: &Value, b: &Value) -> f64 {
    let (Some(a), Some(b)) = (a["bbox"].as_array(), b["bbox"].as_array()) else { return 0.0 };
    let edge = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    a.iter().zip(b).map(|(a, b)| (edge(a) - edge(b)).abs()).fold(0.0, f64::max)
}

/// The exports, made once for these scripts; and the interpreter.
fn exports() -> (String, PathBuf) {
    static MADE: OnceLock<(String, PathBuf)> = OnceLock::new();
    MADE.get_or_init(make_exports).clone()
}

fn make_exports() -> (String, PathBuf) {
    let cache = cache();
    let python = run(Command::new("python3").arg(here().join("environment.py")).arg(&cache));
    let script = fs::read(here().join("exports.py")).expect("a script");
    let sum = script
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let name = Path::new(&python)
        .ancestors()
        .nth(2)
        .and_then(Path::file_name)
        .expect("a directory")
        .to_string_lossy()
        .into_owned();
    let exports = cache.join(format!("exports-{sum:016x}-{name}"));
    if !exports.join("ready").exists() {
        fs::remove_dir_all(&exports).ok();
        fs::create_dir_all(&exports).expect("a directory");
        // What the exports' last layers are scaled by: an Ultralytics input of the picture.
        let picture = exports.join("picture.yuv");
        fs::write(&picture, Picture::drawn().data).expect("written");
        let convert = "import cv2, numpy, sys\n\
            yuv = numpy.fromfile(sys.argv[1], numpy.uint8).reshape(-1, 640)\n\
            rgb = cv2.resize(cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB_I420), (320, 240))\n\
            rgb = cv2.copyMakeBorder(rgb, 40, 40, 0, 0, cv2.BORDER_CONSTANT, value=(114, 114, 114))\n\
            numpy.save(sys.argv[2], rgb.transpose(2, 0, 1)[None].astype(numpy.float32) / 255)\n";
        let array = exports.join("picture.npy");
        run(Command::new(&python).args(["-c", convert]).arg(&picture).arg(&array));
        run(Command::new(&python).arg(here().join("exports.py")).arg(array).arg(&exports));
        fs::write(exports.join("ready"), "").expect("written");
    }
    (python, exports)
}

fn work(name: &str) -> PathBuf {
    let work = std::env::temp_dir().join(format!("edgecam-vision-{}-{name}", std::process::id()));
    fs::create_dir_all(&work).expect("a directory");
    work
}

#[test]
fn the_same_is_seen_as_with_onnxruntime() {
    let (python, exports) = exports();
    let case = |name: &str, family, threshold| Case::new(&exports, name, family, threshold);
    let characters: Vec<String> = (0..37).map(|at| char::from(b'A' + at).to_string()).collect();
    let cases = [
        case("yolov8n", "yolo", 0.1),
        case("yolo11n", "yolo", 0.1),
        case("yolov5n", "yolo", 0.1),
        case("yolo26n-raw", "yolo", 0.1),
        case("yolov8n-640x352", "yolo", 0.1),
        case("yolov8n-open", "yolo", 0.1),
        // Heads that choose 300 of the best themselves are compared by hand alone: of untrained ones hundreds are equal.
        case("yolox", "yolox", 0.3),
        case("nanodet-plus", "nanodet_plus", 0.3),
        case("ssd", "ssd", 0.3),
        case("mobilenet_v3_small", "classes", 0.0),
        case("mobilenet_v2", "classes", 0.0),
        Case {
            description: Description { task: Some(Task::Text), labels: Some(characters), ..Description::default() },
            ..case("line", "ctc", 0.0)
        },
    ];
    // Without bars: in those all cells are alike, and which of them is kept is chance.
    let no_bars = |case: Case| {
        let has_bars = matches!(case.family, "yolo" | "end_to_end");
        let fit = if has_bars { Some(Fit::Stretch) } else { None };
        Case { description: Description { fit, ..case.description }, ..case }
    };
    let cases = cases.map(no_bars);
    let work = work("same");
    compare(&python, &cases, &Picture::drawn(), &work);
    // By hand: real weights on a real scene.
    if let Some(models) = std::env::var_os("EDGECAM_VISION_MODELS").map(PathBuf::from) {
        let video = std::env::var_os("EDGECAM_VISION_VIDEO").map(PathBuf::from);
        let picture = video.map_or_else(Picture::drawn, |video| Picture::of_video(&video));
        for (name, family, threshold) in [("FastestDet", "fastest_det", 0.3), ("version-RFB-320", "ssd", 0.05)] {
            compare(&python, &[Case::new(&models, name, family, threshold)], &picture, &work);
        }
    }
    fs::remove_dir_all(work).ok();
}

/// The head must not be found by luck: these are the ones that are read by the crate.
#[test]
fn heads_are_cut_where_they_are_known() {
    let (_, exports) = exports();
    for (name, is_cut) in [
        ("yolov8n", true),
        ("yolo11n", true),
        ("yolov5n", true),
        ("yolov10n", true),
        ("yolo26n", true),
        ("yolo26n-raw", true),
        ("yolov8n-640x352", true),
        // Its sizes are computed in the graph: it runs whole.
        ("yolov8n-open", false),
        ("yolox", false),
        ("nanodet-plus", false),
    ] {
        let bytes = fs::read(exports.join(format!("{name}.onnx"))).expect("an export");
        let model = Model::load(&bytes, &Description::default()).expect("it loads");
        assert_eq!(model.is_cut(), is_cut, "{name}");
    }
}

#[test]
fn the_built_in_model_is_the_same_with_onnxruntime() {
    let (python, _) = exports();
    let work = work("shapes");
    let file = work.join("shapes.onnx");
    fs::write(&file, Model::shapes_file()).expect("written");
    let shapes = Case::new(&work, "shapes", "fastest_det", 0.3);
    // Rings of one colour on grey: circles for it.
    let mut picture = Picture::drawn();
    picture.data.fill(128);
    for (x, y, radius, luma) in [(120, 100, 40, 220_u8), (400, 200, 70, 40), (250, 380, 50, 200)] {
        for row in 0..HEIGHT as i32 {
            for column in 0..WIDTH as i32 {
                if (column - x).pow(2) + (row - y).pow(2) < radius * radius {
                    picture.data[(row * WIDTH as i32 + column) as usize] = luma;
                }
            }
        }
    }
    compare(&python, &[shapes], &picture, &work);
    fs::remove_dir_all(work).ok();
}

#[test]
fn what_cannot_be_run_is_refused_with_what_to_do() {
    let (_, exports) = exports();
    let check = |name: &str, expected: [&str; 2]| {
        let bytes = fs::read(exports.join(format!("{name}.onnx"))).expect("an export");
        let error = Model::load(&bytes, &Description::default()).expect_err("refused");
        let text = error.to_string();
        assert!(matches!(error, ModelError::Unsupported { .. }), "{name}: {text}");
        assert!(expected.iter().all(|part| text.contains(part)), "{name}: {text}");
    };
    check("nms", ["nms=True", "nms=False"]);
    check("int8", ["int8", "float32"]);
    check("torchvision", ["torchvision", "without post-processing"]);
    check("apart", ["another file", "as one file"]);
    let load = |name: &str, description: Description| {
        let bytes = fs::read(exports.join(format!("{name}.onnx"))).expect("an export");
        Model::load(&bytes, &description).expect_err("refused").to_string()
    };
    let description = Description::default;
    for (name, description, expected) in [
        (
            "yolov8n",
            Description { labels: Some(vec!["a".to_owned()]), ..description() },
            "1 names, and the model tells 80",
        ),
        ("yolov8n", Description { task: Some(Task::Classify), ..description() }, "for the task detect"),
        ("mobilenet_v2", Description { task: Some(Task::Detect), ..description() }, "no layout that is known"),
        ("yolov8n", Description { width: Some(640), ..description() }, "width is 640"),
        ("line", description(), "labels"),
    ] {
        let text = load(name, description);
        assert!(text.contains(expected), "{name}: {text}");
    }
}

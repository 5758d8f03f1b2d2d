//! `edgecam detect` and `edgecam bench-model`: what they find, draw and say, and what they say of bad files.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::agent::{self, text};
use crate::harness::media;
use crate::harness::{PATIENCE, Scratch};

/// An orange square of 120 pixels at 200,150, alone.
const SQUARE: &str = "color=0x404850:size=640x480:rate=5,drawbox=x=200:y=150:w=120:h=120:color=orange:t=fill";

async fn edgecam(arguments: &[&str], code: i32) -> (String, String) {
    let output = agent::run(&[], arguments, PATIENCE).await;
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (words(&output.stdout), words(&output.stderr))
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The boxes of class `square` in a line of JSON.
fn squares(line: &str) -> Vec<Vec<f64>> {
    let answer: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let detections = answer["detections"].as_array().expect("a list").iter();
    detections
        .filter(|seen| seen["class"] == "square")
        .map(|seen| seen["bbox"].as_array().expect("four").iter().filter_map(Value::as_f64).collect())
        .collect()
}

#[tokio::test]
async fn what_is_drawn_is_found_in_pictures_and_videos() {
    let scratch = Scratch::new("detect");
    let (picture, video, out) = (scratch.join("a.jpg"), scratch.join("a.mp4"), scratch.join("out.jpg"));
    let (picture, video, out) = (shown(&picture), shown(&video), shown(&out));
    let make = ["-v", "error", "-y", "-f", "lavfi", "-i", SQUARE];
    media::tool("ffmpeg", &[&make[..], &["-frames:v", "1", "-q:v", "2", "-update", "1", &picture]].concat()).await;
    let h264 = ["-t", "3", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "0", &video];
    media::tool("ffmpeg", &[&make[..], &h264].concat()).await;
    for (file, pictures) in [(&picture, 1), (&video, 3)] {
        let (lines, _) = edgecam(&["detect", file, "--json", "--out", &out], 0).await;
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), pictures, "{file}: {lines:?}");
        for line in lines {
            let boxes = squares(line);
            let [bbox] = boxes.as_slice() else { panic!("{file}: {line}") };
            let near = bbox.iter().zip([200.0, 150.0, 320.0, 270.0]).all(|(edge, wanted)| (edge - wanted).abs() < 12.0);
            assert!(near, "{file}: {line}");
        }
        let probed = ["-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0", &out];
        assert_eq!(media::tool("ffprobe", &probed).await.trim(), "mjpeg,640,480");
        fs::remove_file(&out).expect("the picture with boxes");
    }
    let (table, _) = edgecam(&["detect", &picture, "--out", &out], 0).await;
    assert!(table.contains("square") && table.contains("seconds"), "{table}");
}

#[tokio::test]
async fn bad_files_are_named() {
    let scratch = Scratch::new("detect-bad");
    let out = shown(&scratch.join("out.jpg"));
    let text_file = shown(&scratch.write("notes.txt", "no picture"));
    let png = scratch.join("a.png");
    fs::write(&png, [0x89, b'P', b'N', b'G', 0, 0, 0, 0]).expect("written");
    let cut = scratch.join("cut.jpg");
    fs::write(&cut, [0xff, 0xd8, 0xff, 0xe0]).expect("written");
    let model = scratch.join("model.onnx");
    fs::write(&model, edgecam_vision::Model::shapes_file().get(..50_000).expect("long")).expect("written");
    let labels = shown(&scratch.write("labels.yaml", "labels: [a, b]\n"));
    let typing = shown(&scratch.write("typing.yaml", "lables: [a]\n"));
    let (png, cut, model) = (shown(&png), shown(&cut), shown(&model));
    for (arguments, code, expected) in [
        (&["detect", "nowhere.jpg"][..], 1, "nowhere.jpg: No such file"),
        (&["detect", &text_file], 1, "notes.txt"),
        (&["detect", &png], 1, "is a PNG file; convert it"),
        (&["detect", &cut], 1, "cut.jpg"),
        (&["detect", &cut, "--model", &model], 78, "not an ONNX model"),
        (&["detect", &cut, "--model", "nowhere.onnx"], 78, "nowhere.onnx: No such file"),
        (&["detect", &cut, "--description", &labels], 78, "there are 2 names, and the model tells 3"),
        (&["detect", &cut, "--description", &typing], 78, "lables"),
        (&["bench-model", &model], 78, "not an ONNX model"),
    ] {
        let mut arguments = arguments.to_vec();
        if arguments[0] == "detect" {
            arguments.extend(["--out", &out]);
        }
        let (_, errors) = edgecam(&arguments, code).await;
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
}

#[tokio::test]
async fn a_model_is_measured() {
    let (table, _) = edgecam(&["bench-model", "--runs", "3"], 0).await;
    for word in ["the built-in model", "320x192", "load", "of CPU", "memory", "where it goes", "advice"] {
        assert!(table.contains(word), "no `{word}` in {table}");
    }
    let (line, _) = edgecam(&["bench-model", "--runs", "3", "--json"], 0).await;
    let figures: Value = serde_json::from_str(&line).expect("JSON");
    let positive = |key: &str| figures[key].as_f64().is_some_and(|value| value > 0.0);
    assert!(["load_ms", "cpu_ms", "wall_ms", "prepare_ms"].into_iter().all(positive), "{line}");
    assert!(figures["operators"].as_array().is_some_and(|operators| operators.len() > 3), "{line}");
}

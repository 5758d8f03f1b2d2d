//! `edgecam detect`: what a model sees in a picture or a video.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use edgecam_media::parameter_sets::VideoSignal;
use edgecam_media::{AccessUnit, Ticks, Timestamp, TrackId};
use edgecam_vision::{Detection, Model, Output, Runner, Task};
use serde_json::{Value, json};

use super::EXIT_CONFIG;
use super::output::{fail, say};
use super::picture::{Given, copy, draw, encode, planes, read, view};
use crate::capture::file::Pictures;
use crate::decode::Decoder;
use crate::decode::mjpeg::JpegDecoder420;
use crate::encode::frame::{Frame, View};

/// A JPEG of more bytes is no picture of a camera.
const MOST_JPEG: u64 = 64 << 20;
/// What samples of a JPEG file mean (JFIF 1.02).
const JFIF: VideoSignal = VideoSignal { full_range: true, bt709: false };

#[derive(Args)]
pub(super) struct Arguments {
    /// A JPEG picture, or a video: H.264 in MP4, Matroska or Annex B form
    file: PathBuf,
    #[command(flatten)]
    model: Given,
    /// Nothing less sure, 0 to 1
    #[arg(long, default_value_t = 0.5, value_parser = threshold)]
    threshold: f32,
    /// Of a video: seconds between pictures that are looked at
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    every: f64,
    /// Of a video: stop after so many pictures that were looked at
    #[arg(long, default_value_t = 60)]
    most: usize,
    /// Where the picture with boxes goes, as JPEG; of a video, the one with the most to see
    #[arg(long, default_value = "detections.jpg", value_name = "FILE")]
    out: PathBuf,
    /// As JSON, one line for each picture
    #[arg(long)]
    json: bool,
}

fn threshold(text: &str) -> Result<f32, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "a number from 0 to 1".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=86_400.0).contains(value));
    value.ok_or_else(|| "seconds, from 0 (each picture) to 86400".to_owned())
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    let model = match arguments.model.load() {
        Ok(model) => model,
        Err(error) => return fail(EXIT_CONFIG, format_args!("{error}")),
    };
    match detect(arguments, &model) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, format_args!("{error}")),
    }
}

fn detect(arguments: &Arguments, model: &Model) -> Result<(), String> {
    let runner = model.runner().map_err(|error| error.to_string())?;
    let mut looking = Looking { arguments, model, runner, best: None, looked: 0 };
    if is_jpeg(&arguments.file)? {
        let bytes = read(&arguments.file, MOST_JPEG)?;
        let mut decoder = JpegDecoder420::default();
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", arguments.file.display());
        let picture = decoder.decode(&bytes).map_err(|error| at(&error))?;
        looking.look(picture, JFIF, None).map_err(|error| at(&error))?;
    } else {
        video(&mut looking)?;
    }
    let Some((_, frame)) = looking.best else { return Ok(()) };
    let jpeg = encode(&frame)?;
    let out = &arguments.out;
    std::fs::write(out, jpeg.bytes).map_err(|error| format!("{}: {error}", out.display()))?;
    if !arguments.json {
        say(format_args!(
            "\n{} with boxes: {}",
            if looking.looked > 1 { "a picture" } else { "the picture" },
            out.display()
        ));
    }
    Ok(())
}

fn is_jpeg(path: &Path) -> Result<bool, String> {
    use std::io::Read;
    let mut head = [0; 8];
    let mut file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let length = file.read(&mut head).map_err(|error| format!("{}: {error}", path.display()))?;
    let other = match &head[..length] {
        [0x89, b'P', b'N', b'G', ..] => "a PNG",
        [b'G', b'I', b'F', b'8', ..] => "a GIF",
        [b'R', b'I', b'F', b'F', ..] => "a WebP or AVI",
        [0xff, 0xd8, ..] => return Ok(true),
        _ => return Ok(false),
    };
    Err(format!("{} is {other} file; convert it to JPEG (ffmpeg -i IN OUT.jpg)", path.display()))
}

fn video(looking: &mut Looking<'_>) -> Result<(), String> {
    let path = &looking.arguments.file;
    let pictures = Pictures::open(path).map_err(|error| error.to_string())?;
    let mut decoder = Decoder::new().map_err(|error| error.to_string())?;
    let (mut sets, mut due, mut any) = (None, None, false);
    // The decoder shows pictures in their order, some later than it was given them.
    let mut times = BTreeSet::new();
    for picture in pictures {
        let (picture, at) = picture.map_err(|error| error.to_string())?;
        any = true;
        sets = picture.parameter_sets.clone().or(sets);
        let Some(sets) = &sets else { continue };
        let unit = AccessUnit {
            track: TrackId::VIDEO,
            pts: Timestamp::from_unix_millis(at.millis()),
            is_idr: picture.is_idr,
            data: picture.data,
            parameter_sets: picture.parameter_sets,
        };
        times.insert(at);
        let decoded = decoder.decode(&unit, sets).map_err(|error| format!("{}: {error}", path.display()))?;
        let Some(decoded) = decoded else { continue };
        let at = times.pop_first().unwrap_or(at);
        if due.is_some_and(|due| at.to_duration() < due) {
            continue;
        }
        due = Some(at.to_duration() + std::time::Duration::from_secs_f64(looking.arguments.every));
        looking
            .look(view(&decoded), sets.facts().signal, Some(at))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if looking.looked >= looking.arguments.most {
            break;
        }
    }
    if any { Ok(()) } else { Err(format!("{} holds no picture that can be decoded", path.display())) }
}

struct Looking<'a> {
    arguments: &'a Arguments,
    model: &'a Model,
    runner: Runner,
    /// The picture with the most to see, and how much that is.
    best: Option<(f32, Frame)>,
    looked: usize,
}

impl Looking<'_> {
    fn look(&mut self, picture: View<'_>, signal: VideoSignal, at: Option<Ticks>) -> Result<(), String> {
        let planes = planes(picture, signal)?;
        let output = self.runner.run(&planes, None, self.arguments.threshold).map_err(|error| error.to_string())?;
        let seconds = at.map(|at| at.to_duration().as_secs_f64());
        if self.arguments.json {
            say(format_args!("{}", as_json(self.model, &output, seconds)));
        } else {
            self.table(&output, seconds);
        }
        self.looked += 1;
        let Output::Detections(detections) = output else { return Ok(()) };
        let much: f32 = detections.iter().map(|seen| seen.confidence).sum();
        if self.best.as_ref().is_none_or(|(best, _)| much > *best) {
            let mut frame = copy(picture, signal.full_range).ok_or("the picture is too small to be drawn on")?;
            draw(&mut frame, &detections);
            self.best = Some((much, frame));
        }
        Ok(())
    }

    fn table(&mut self, output: &Output, seconds: Option<f64>) {
        if self.looked == 0 && self.model.task() == Task::Detect {
            say(format_args!(
                "{:>8}  {:>3}  {:<20} {:>6}  {:>6} {:>6} {:>6} {:>6}",
                "seconds", "no", "class", "sure", "x1", "y1", "x2", "y2"
            ));
        }
        let at = seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}"));
        match output {
            Output::Detections(detections) => {
                for (index, Detection { class, confidence, bbox }) in detections.iter().enumerate() {
                    say(format_args!(
                        "{at:>8}  {:>3}  {:<20} {confidence:>6.3}  {:>6.0} {:>6.0} {:>6.0} {:>6.0}",
                        index + 1,
                        self.model.label(*class),
                        bbox.x1,
                        bbox.y1,
                        bbox.x2,
                        bbox.y2
                    ));
                }
                if detections.is_empty() {
                    say(format_args!("{at:>8}    -  nothing"));
                }
            }
            Output::Classes(classes) => {
                for seen in classes {
                    say(format_args!("{at:>8}  {:<30} {:.3}", self.model.label(seen.class), seen.confidence));
                }
            }
            Output::Text(text) => say(format_args!("{at:>8}  {:?} {:.3}", text.text, text.confidence)),
        }
    }
}

fn as_json(model: &Model, output: &Output, seconds: Option<f64>) -> Value {
    match output {
        Output::Detections(detections) => {
            let seen = |seen: &Detection| {
                let edgecam_vision::Rect { x1, y1, x2, y2 } = seen.bbox;
                json!({ "class": model.label(seen.class), "confidence": seen.confidence, "bbox": [x1, y1, x2, y2] })
            };
            json!({ "seconds": seconds, "detections": detections.iter().map(seen).collect::<Vec<_>>() })
        }
        Output::Classes(classes) => {
            let class = |seen: &edgecam_vision::Class| json!({ "class": model.label(seen.class), "confidence": seen.confidence });
            json!({ "seconds": seconds, "classes": classes.iter().map(class).collect::<Vec<_>>() })
        }
        Output::Text(text) => json!({ "seconds": seconds, "text": text.text, "confidence": text.confidence }),
    }
}

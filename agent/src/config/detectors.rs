//! What looks at a camera's pictures: as written, and as used.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use edgecam_vision::zone::{ZoneDescription, Zones};
use edgecam_vision::{Description, Task};
use schemars::JsonSchema;
use serde::Deserialize;

use super::check::{Result, seconds, span, wrong};
use super::value::Span;

/// Detectors of one camera.
const MOST: usize = 16;
/// Zones of one detector.
const MOST_ZONES: usize = 32;
/// Pixels of the largest frame there may be.
const MOST_SIDE: u32 = 16_384;

/// One detector: a model, and what is made of its answers.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenDetector {
    /// `person`, `object`, `weapon`, `fire_smoke`, `face`, `classify` or `alpr`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Its name, unique at this camera. Default: its type.
    pub(crate) name: Option<String>,
    /// Whether it is used. Default: true.
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    /// ONNX file; `demo` is a small model that is built in and knows drawn circles, squares and triangles. For `alpr` it
    /// finds the plates.
    pub(crate) model: PathBuf,
    /// What the model's file does not say of itself.
    #[serde(default)]
    pub(crate) params: Description,
    /// With `alpr`: the model that reads what is on a plate.
    pub(crate) recogniser: Option<Recogniser>,
    /// Surer than this, 0 to 1. Default: 0.5.
    pub(crate) confidence_threshold: Option<f32>,
    /// Pictures a second that are looked at, at most; 0.01 to 30. Up to the rate of key frames this costs little, above it
    /// all pictures have to be decoded. Default: the camera's `fps_limit`, or 1.
    pub(crate) fps_limit: Option<f64>,
    /// Names of the classes that count. Default: all; for `person`, person.
    #[serde(default)]
    pub(crate) classes: Vec<String>,
    /// Where to look. Default: everywhere.
    #[serde(default)]
    pub(crate) roi: Vec<ZoneDescription>,
    /// When something seen becomes an event.
    #[serde(default)]
    pub(crate) events: WrittenEvents,
}

/// A model that reads a line of text.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recogniser {
    /// ONNX file.
    pub(crate) model: PathBuf,
    /// What the file does not say of itself, such as its characters (`labels`).
    #[serde(default)]
    pub(crate) params: Description,
    /// What a plate looks like: `A` is a letter, `9` a digit, `?` either, anything else itself. Other readings do not
    /// count. Default: any.
    #[serde(default)]
    pub(crate) patterns: Vec<String>,
}

/// When something seen becomes an event.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenEvents {
    /// Seen on so many pictures, 1 to 100. Default: 2.
    pub(crate) min_frames: Option<u32>,
    /// Seen for so long. Default: 0s.
    pub(crate) dwell: Option<Span>,
    /// The event ends when nothing has been seen for so long, and on two looks at least. 0.2s to 10m. Default: 3s.
    pub(crate) end_after: Option<Span>,
    /// After its end no other of the same class and zone begins for so long. Up to 1 day. Default: 10s.
    pub(crate) cool_down: Option<Span>,
    /// While it lasts it is told again so often, and when the number of things changes. 0s: on each picture looked at.
    /// Up to 1h. Default: 10s.
    pub(crate) update: Option<Span>,
    /// Footage before its start that belongs to its clip. Up to 5m. Default: 5s.
    pub(crate) pre_roll: Option<Span>,
    /// Footage after its end that belongs to its clip. Up to 5m. Default: 5s.
    pub(crate) post_roll: Option<Span>,
    /// Cut a clip out of the archive when it has ended, below `<state_dir>/clips`. Default: false.
    pub(crate) clip: bool,
}

fn yes() -> bool {
    true
}

/// A detector, as used.
#[derive(Clone, PartialEq, Debug)]
pub struct Detector {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// The model.
    pub model: ModelFile,
    /// What its file does not say.
    pub description: Description,
    /// Reads plates.
    pub recogniser: Option<Reader>,
    /// 0 to 1.
    pub threshold: f32,
    /// Pictures a second at most.
    pub fps_limit: f64,
    /// Names of the classes that count; empty: all.
    pub classes: Vec<String>,
    /// Where to look; empty: everywhere.
    pub zones: Vec<ZoneDescription>,
    /// When something seen becomes an event.
    pub events: Events,
}

/// What a detector is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// People; answers whether there is one.
    Person,
    /// Anything the model knows.
    Object,
    /// Weapons.
    Weapon,
    /// Fire and smoke.
    FireSmoke,
    /// Faces.
    Face,
    /// What the whole picture is of.
    Classify,
    /// Number plates and what is on them.
    Alpr,
    /// A type that the program around this library has registered.
    Own(String),
}

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "person" => Self::Person,
            "object" => Self::Object,
            "weapon" => Self::Weapon,
            "fire_smoke" => Self::FireSmoke,
            "face" => Self::Face,
            "classify" => Self::Classify,
            "alpr" => Self::Alpr,
            own if crate::inference::registry::is_known(own) => Self::Own(own.to_owned()),
            _ => return None,
        })
    }

    /// As written.
    pub fn name(&self) -> &str {
        match self {
            Self::Person => "person",
            Self::Object => "object",
            Self::Weapon => "weapon",
            Self::FireSmoke => "fire_smoke",
            Self::Face => "face",
            Self::Classify => "classify",
            Self::Alpr => "alpr",
            Self::Own(name) => name,
        }
    }

    /// What its model must do; `None`: whatever it does.
    pub fn task(&self) -> Option<Task> {
        match self {
            Self::Classify => Some(Task::Classify),
            Self::Own(_) => None,
            _ => Some(Task::Detect),
        }
    }
}

/// Where a model comes from.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ModelFile {
    /// The one that is built in.
    Demo,
    /// An ONNX file.
    File(PathBuf),
}

impl ModelFile {
    /// `demo` or a path.
    pub fn of(path: PathBuf) -> Self {
        if path.as_os_str() == "demo" { Self::Demo } else { Self::File(path) }
    }
}

impl std::fmt::Display for ModelFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Demo => f.write_str("demo"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Reads plates.
#[derive(Clone, PartialEq, Debug)]
pub struct Reader {
    /// The model.
    pub model: ModelFile,
    /// What its file does not say.
    pub description: Description,
    /// What a plate looks like; empty: anything.
    pub patterns: Vec<String>,
}

/// When something seen becomes an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Events {
    /// Pictures it must be seen on.
    pub min_frames: u32,
    /// How long it must be seen.
    pub dwell: Duration,
    /// How long it must not be seen for the event to end.
    pub end_after: Duration,
    /// From an end to the next start.
    pub cool_down: Duration,
    /// From one update to the next.
    pub update: Duration,
    /// Footage before the start.
    pub pre_roll: Duration,
    /// Footage after the end.
    pub post_roll: Duration,
    /// Whether a clip is cut.
    pub clip: bool,
}

/// Checks the detectors of a camera; those that are switched off are left out. `fps_limit` is the camera's.
pub(super) fn check(written: Vec<WrittenDetector>, key: &str, fps_limit: Option<f64>) -> Result<Vec<Detector>> {
    if written.len() > MOST {
        return wrong(&format!("{key}.detectors"), format_args!("more than {MOST}"));
    }
    let mut names = HashSet::new();
    let mut detectors = Vec::new();
    for one in written {
        let is_on = one.enabled;
        let detector = detector(one, key, fps_limit)?;
        if !names.insert(detector.name.clone()) {
            let message = "another detector of this camera has this name; give each a `name`";
            return wrong(&format!("{key}.detectors.{}", detector.name), message);
        }
        if is_on {
            detectors.push(detector);
        }
    }
    Ok(detectors)
}

fn detector(written: WrittenDetector, key: &str, fps_limit: Option<f64>) -> Result<Detector> {
    let Some(kind) = Kind::parse(&written.kind) else {
        let known = "person, object, weapon, fire_smoke, face, classify or alpr";
        return wrong(&format!("{key}.detectors"), format_args!("type `{}` is not {known}", written.kind));
    };
    let name = written.name.unwrap_or_else(|| written.kind.clone());
    let key = format!("{key}.detectors.{name}");
    let threshold = written.confidence_threshold.unwrap_or(0.5);
    if !(0.0..=1.0).contains(&threshold) {
        return wrong(&format!("{key}.confidence_threshold"), "must be 0 to 1");
    }
    let fps_limit = written.fps_limit.or(fps_limit).unwrap_or(1.0);
    if !(0.01..=30.0).contains(&fps_limit) {
        return wrong(&format!("{key}.fps_limit"), "must be 0.01 to 30");
    }
    let recogniser = match (&kind, written.recogniser) {
        (Kind::Alpr, None) => return wrong(&key, "alpr needs a `recogniser`: the model that reads what is on a plate"),
        (Kind::Alpr, Some(reader)) => {
            let Recogniser { model, params: description, patterns } = reader;
            Some(Reader { model: ModelFile::of(model), description, patterns })
        }
        (_, Some(_)) => return wrong(&format!("{key}.recogniser"), "only alpr has one"),
        (_, None) => None,
    };
    let classes = match (&kind, written.classes.is_empty()) {
        (Kind::Person, true) => vec!["person".to_owned()],
        _ => written.classes,
    };
    if kind == Kind::Classify && !written.roi.is_empty() {
        return wrong(&format!("{key}.roi"), "a classifier looks at the whole picture");
    }
    Ok(Detector {
        model: ModelFile::of(written.model),
        description: written.params,
        recogniser,
        threshold,
        fps_limit,
        classes,
        zones: zones(written.roi, &key)?,
        events: events(&written.events, &key)?,
        name,
        kind,
    })
}

/// Pixels can be outside the frame only when that is known; everything else is known now.
fn zones(written: Vec<ZoneDescription>, key: &str) -> Result<Vec<ZoneDescription>> {
    let key = format!("{key}.roi");
    if written.len() > MOST_ZONES {
        return wrong(&key, format_args!("more than {MOST_ZONES} zones"));
    }
    match Zones::new(&written, MOST_SIDE, MOST_SIDE) {
        Ok(_) => Ok(written),
        Err(error) => wrong(&key, error),
    }
}

fn events(written: &WrittenEvents, key: &str) -> Result<Events> {
    let key = format!("{key}.events");
    let min_frames = written.min_frames.unwrap_or(2);
    if !(1..=100).contains(&min_frames) {
        return wrong(&format!("{key}.min_frames"), "must be 1 to 100");
    }
    let up_to = |most: u64| (Duration::ZERO, seconds(most));
    Ok(Events {
        min_frames,
        dwell: span(&key, "dwell", written.dwell, Duration::ZERO, up_to(24 * 3600))?,
        end_after: span(&key, "end_after", written.end_after, seconds(3), (Duration::from_millis(200), seconds(600)))?,
        cool_down: span(&key, "cool_down", written.cool_down, seconds(10), up_to(24 * 3600))?,
        update: span(&key, "update", written.update, seconds(10), up_to(3600))?,
        pre_roll: span(&key, "pre_roll", written.pre_roll, seconds(5), up_to(300))?,
        post_roll: span(&key, "post_roll", written.post_roll, seconds(5), up_to(300))?,
        clip: written.clip,
    })
}

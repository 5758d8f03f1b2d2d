//! What a person may say of a model. Everything that is not said is found out from the file.

use schemars::JsonSchema;
use serde::Deserialize;

/// What the model is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Answers boxes with a class each.
    Detect,
    /// Answers classes of the whole picture.
    Classify,
    /// Reads a line of text.
    Text,
}

impl Task {
    /// As written in a description.
    pub fn name(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Classify => "classify",
            Self::Text => "text",
        }
    }
}

/// How the numbers that a model answers are to be read. `N` boxes, `C` classes, `A` cells of all grids.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `[1, C]`: a classifier.
    Classes,
    /// `[1, 4 + C, A]` or `[1, A, 4 + C]`: centre, size, scores (YOLOv8, YOLO11, YOLOv5u, raw heads of v10 and 26).
    Yolo,
    /// `[1, 3A, 5 + C]`: centre, size, objectness, scores (YOLOv5, YOLOv7).
    YoloAnchors,
    /// `[1, A, 5 + C]`: offsets in the cell, log size, objectness, scores (YOLOX as exported by default).
    Yolox,
    /// `[1, N, 6]`: corners, score, class; no suppression needed (YOLOv10, YOLO26).
    EndToEnd,
    /// `[1, N, C]` with the background first and `[1, N, 4]`, corners in fractions (SSD, UltraFace).
    Ssd,
    /// `[1, 5 + C, H, W]`: objectness, offsets, classes (FastestDet).
    Grid,
    /// Scores and distributed distances of each stride, apart (NanoDet) or together (NanoDet-Plus).
    Nanodet,
    /// `[1, T, C]` or `[1, C, T]`: a class or a blank at each step (PaddleOCR, CRNN, LPRNet).
    Ctc,
}

/// The order of colours that the model was trained with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Colours {
    /// Red first: nearly all.
    Rgb,
    /// Blue first: models that were trained on pictures as OpenCV reads them.
    Bgr,
    /// One channel.
    Grey,
}

/// How a picture is brought to the model's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Keep the aspect, bars around (YOLO).
    Letterbox,
    /// Keep the aspect, bars at the right and the bottom (YOLOX, text).
    TopLeft,
    /// Let the aspect go.
    Stretch,
    /// Keep the aspect and cut off what is too much, evenly (classifiers).
    Crop,
}

/// Which class of a text recogniser stands for "nothing".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Blank {
    /// PaddleOCR, CRNN.
    First,
    /// LPRNet.
    Last,
}

/// What is known of a model beside its file. All of it may be left out; what is said wins over what is found.
///
/// A pixel value `p` of 0 to 255 becomes `(p * scale - mean) / std`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Description {
    /// Refused if the model is for another task.
    pub task: Option<Task>,
    /// How to read its answer.
    pub layout: Option<Layout>,
    /// Pixels, where the model leaves it open.
    pub width: Option<u32>,
    /// Pixels, where the model leaves it open.
    pub height: Option<u32>,
    /// Order of colours.
    pub colours: Option<Colours>,
    /// Usually 1/255 or 1.
    pub scale: Option<f32>,
    /// Of each channel, in the model's order, after `scale`.
    pub mean: Option<[f32; 3]>,
    /// Of each channel, in the model's order.
    pub std: Option<[f32; 3]>,
    /// How a picture is brought to the model's size.
    pub fit: Option<Fit>,
    /// Grey of the bars, 0 to 255.
    pub pad: Option<u8>,
    /// Names of the classes in order; for a text recogniser its characters, without the blank.
    pub labels: Option<Vec<String>>,
    /// Which class of a text recogniser is the blank.
    pub blank: Option<Blank>,
    /// Boxes that share more than this (intersection over union) are one, 0 to 1. Default 0.45.
    pub iou_threshold: Option<f32>,
    /// Boxes of different classes are one, too.
    pub class_agnostic: Option<bool>,
    /// At most so many boxes of a picture. Default 300.
    pub max_detections: Option<usize>,
    /// At most so many classes of a classifier. Default 5.
    pub top_k: Option<usize>,
}

impl Description {
    /// Values that no model can mean.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(iou) = self.iou_threshold
            && !(0.0..=1.0).contains(&iou)
        {
            return Err(format!("iou_threshold is {iou}; it must be 0 to 1"));
        }
        let finite = |values: &[f32; 3]| values.iter().all(|value| value.is_finite());
        if self.std.is_some_and(|std| !finite(&std) || std.contains(&0.0)) {
            return Err("std: each value must be a number and not 0".to_owned());
        }
        if self.mean.is_some_and(|mean| !finite(&mean)) || self.scale.is_some_and(|scale| !scale.is_finite()) {
            return Err("scale and mean must be numbers".to_owned());
        }
        for (name, value) in [("width", self.width), ("height", self.height)] {
            if let Some(value) = value
                && !(1..=crate::input::MOST_INPUT_SIDE).contains(&value)
            {
                return Err(format!("{name} is {value}; it must be 1 to {}", crate::input::MOST_INPUT_SIDE));
            }
        }
        Ok(())
    }
}

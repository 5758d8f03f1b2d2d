//! What a model answers.

use std::time::Duration;

use crate::Rect;

/// A thing that was seen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Detection {
    /// Its number in [`crate::Model::labels`].
    pub class: u32,
    /// 0 to 1.
    pub confidence: f32,
    /// Where, in pixels of the picture (not of a region of it).
    pub bbox: Rect,
}

/// What a picture is of.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Class {
    /// Its number in [`crate::Model::labels`].
    pub class: u32,
    /// 0 to 1.
    pub confidence: f32,
}

/// What is written in a picture.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Text {
    /// Empty if nothing is sure enough.
    pub text: String,
    /// The mean over its characters, 0 to 1.
    pub confidence: f32,
    /// Of each character of `text`, 0 to 1.
    pub characters: Vec<f32>,
}

/// What a model answers, by its task.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// The surest first.
    Detections(Vec<Detection>),
    /// The surest first.
    Classes(Vec<Class>),
    /// One line.
    Text(Text),
}

/// What one kind of the graph's operators costs.
#[derive(Clone, PartialEq, Debug)]
pub struct Operator {
    /// The library's name for it, after its optimisations.
    pub name: String,
    /// How many the graph has.
    pub count: usize,
    /// What all of them take for one picture.
    pub time: Duration,
}

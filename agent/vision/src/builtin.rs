//! The detector that is built in: circles, squares and triangles, so that a demonstration needs no file.
//!
//! It was trained by `train/shapes.py` on pictures that were drawn for it. It is a demonstration, and no detector for
//! anything in the world.

use crate::{Description, Model, ModelError};

const SHAPES: &[u8] = include_bytes!("../models/shapes.onnx");

impl Model {
    /// The detector of drawn shapes: classes `circle`, `square`, `triangle`.
    pub fn shapes() -> Result<Self, ModelError> {
        Self::load(Self::shapes_file(), &Description::default())
    }

    /// Its file.
    pub fn shapes_file() -> &'static [u8] {
        SHAPES
    }
}

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Planes;

    #[test]
    fn activations_are_done_inside_convolutions() {
        let mut runner = Model::shapes().expect("it loads").runner().expect("it runs");
        let grey = [128; 64 * 64];
        let planes = Planes::new([&grey, &grey, &grey], (64, 64, 64), 64, 64).expect("a picture");
        let operators = runner.profile(&planes, &mut || Duration::ZERO).expect("it runs");
        let names: Vec<&str> = operators.iter().map(|operator| operator.name.as_str()).collect();
        if names.contains(&"ConvolutionOfOurs") {
            assert!(!names.iter().any(|name| name.contains("Max")), "{names:?}");
        }
    }
}

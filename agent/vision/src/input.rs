//! What a model is given.

use crate::{Colours, Fit};

/// The largest side of a model's input, in pixels.
pub(crate) const MOST_INPUT_SIDE: u32 = 4096;

/// What a model is given: one picture in float32.
#[derive(Clone, PartialEq, Debug)]
pub struct Input {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Colours lie beside each other, not plane after plane (NHWC; TensorFlow).
    pub is_interleaved: bool,
    /// Order of colours.
    pub colours: Colours,
    /// See [`crate::Description`].
    pub scale: f32,
    /// In the model's order.
    pub mean: [f32; 3],
    /// In the model's order.
    pub std: [f32; 3],
    /// How a picture is brought to this size.
    pub fit: Fit,
    /// Grey of the bars.
    pub pad: u8,
}

impl Input {
    /// 1 or 3.
    pub fn channels(&self) -> usize {
        if self.colours == Colours::Grey { 1 } else { 3 }
    }

    /// Values in one input.
    pub fn len(&self) -> usize {
        self.width as usize * self.height as usize * self.channels()
    }

    /// Never: a model sees something.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

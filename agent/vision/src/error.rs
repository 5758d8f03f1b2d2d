//! What can be wrong with a model, a picture or a run. Each says what to do.

use crate::Region;

/// A picture that no model can be given.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PictureError {
    /// Nothing, or more than any camera sends.
    #[error("a picture of {width}x{height} pixels; each side must be 1 to {} pixels", crate::picture::MOST_SIDE)]
    Size {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// A plane is shorter than its picture.
    #[error("plane {plane} has {bytes} bytes with {stride} a row, too few for {width}x{height} samples")]
    Plane {
        /// Y, U or V.
        plane: &'static str,
        /// What was given.
        bytes: usize,
        /// Bytes from row to row.
        stride: usize,
        /// Samples.
        width: usize,
        /// Samples.
        height: usize,
    },
    /// A crop that is not in the picture.
    #[error(
        "the crop of {}x{} pixels at {},{} is empty or not inside the picture of {width}x{height}",
        region.width, region.height, region.x, region.y
    )]
    Region {
        /// What was asked for.
        region: Region,
        /// Of the picture.
        width: u32,
        /// Of the picture.
        height: u32,
    },
}

/// A model that cannot be used.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ModelError {
    /// There is no tract in this build.
    #[error("this edgecam was built without inference (cargo feature `inference`); install the build that has it")]
    Absent,
    /// No ONNX file, or only a part of one.
    #[error("not an ONNX model: {0}; is the file complete?")]
    NotOnnx(String),
    /// It is ONNX, and cannot be run here; `instead` says what to export.
    #[error("{what} cannot be run here; {instead}")]
    Unsupported {
        /// What stands in the way.
        what: String,
        /// What to export instead.
        instead: String,
    },
    /// What the model answers, or takes, is of no known family.
    #[error("{0}")]
    Unknown(String),
    /// The description and the model disagree.
    #[error("{0}")]
    Description(String),
    /// The inference library refuses the graph.
    #[error("the model cannot be prepared: {0}")]
    Graph(String),
    /// The trial run failed.
    #[error("the model fails on a trial picture: {0}")]
    Trial(RunError),
}

/// One picture could not be looked at; the next one may.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum RunError {
    /// The picture is at fault.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The model answers "not a number": its weights are damaged, or it gets numbers it was not made for.
    #[error(
        "output {output} of the model has values that are not numbers (NaN); check its export, and scale, mean and std \
         of its description"
    )]
    NotANumber {
        /// Its name in the model.
        output: String,
    },
    /// The inference library failed.
    #[error("inference failed: {0}")]
    Failed(String),
}

//! Sees in pictures: runs a user's ONNX model on a decoded picture and answers boxes, classes or text; follows what was
//! seen from picture to picture; knows zones; notices when nothing moves.
//!
//! Synchronous and pure: a model comes as bytes, a picture as planes, a time as an argument. Deliberately absent: files,
//! threads, clocks, training. `README.md` of this crate has the table of model families and how to export each.
//!
//! The order of work: [`Model::load`] once, [`Model::runner`] once a thread, [`Runner::run`] once a picture.

#[cfg(not(feature = "tract"))]
mod absent;
mod builtin;
mod describe;
mod error;
pub mod gate;
mod input;
mod output;
#[cfg_attr(not(feature = "tract"), expect(dead_code, reason = "what reads a picture is left out with tract"))]
mod picture;
pub mod tracker;
pub mod zone;

// What runs a model, and whom only that needs.
#[cfg(feature = "tract")]
mod channelwise;
#[cfg(feature = "tract")]
mod convolution;
#[cfg(feature = "tract")]
mod decode;
#[cfg(feature = "tract")]
mod graph;
#[cfg(feature = "tract")]
mod head;
#[cfg(feature = "tract")]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, unused_variables, clippy::match_single_binding, reason = "the library's kernels are used there")
)]
mod kernel;
#[cfg(feature = "tract")]
mod labels;
#[cfg(feature = "tract")]
mod layout;
#[cfg(feature = "tract")]
mod memory;
#[cfg(feature = "tract")]
mod model;
#[cfg(feature = "tract")]
mod nms;
#[cfg(feature = "tract")]
mod padded;
#[cfg(feature = "tract")]
mod prepare;
#[cfg(feature = "tract")]
mod runner;

#[cfg(not(feature = "tract"))]
pub use absent::{Model, Runner};
pub use describe::{Blank, Colours, Description, Fit, Layout, Task};
pub use error::{ModelError, PictureError, RunError};
pub use input::Input;
#[cfg(feature = "tract")]
pub use model::Model;
pub use output::{Class, Detection, Operator, Output, Text};
pub use picture::{Planes, Rect, Region};
#[cfg(feature = "tract")]
pub use prepare::Prepare;
#[cfg(feature = "tract")]
pub use runner::Runner;

/// Whether this build can run a model at all (cargo feature `tract`).
pub const IS_PRESENT: bool = cfg!(feature = "tract");

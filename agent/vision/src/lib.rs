//! Sees in pictures: runs a user's ONNX model on a decoded picture and answers boxes, classes or text; follows what was
//! seen from picture to picture; knows zones; notices when nothing moves.
//!
//! Synchronous and pure: a model comes as bytes, a picture as planes, a time as an argument. Deliberately absent: files,
//! threads, clocks, training. `README.md` of this crate has the table of model families and how to export each.
//!
//! The order of work: [`Model::load`] once, [`Model::runner`] once a thread, [`Runner::run`] once a picture.

mod builtin;
mod decode;
mod depthwise;
mod describe;
mod error;
pub mod gate;
mod graph;
mod head;
mod labels;
mod layout;
mod model;
mod nms;
mod picture;
mod prepare;
mod runner;
pub mod tracker;
pub mod zone;

pub use describe::{Blank, Colours, Description, Fit, Layout, Task};
pub use error::{ModelError, PictureError, RunError};
pub use model::Model;
pub use picture::{Planes, Rect, Region};
pub use prepare::{Input, Prepare};
pub use runner::{Class, Detection, Operator, Output, Runner, Text};

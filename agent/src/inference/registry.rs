//! Types of detectors that the program around this library brings along.
//!
//! ```no_run
//! use edgecam::inference::registry::{self, Detect, Found};
//! use edgecam_vision::{Planes, Rect};
//!
//! /// Finds nothing darker than it should be.
//! struct Dark;
//!
//! impl Detect for Dark {
//!     fn detect(&mut self, picture: &Planes<'_>, threshold: f32) -> Result<Vec<Found>, String> {
//!         let (width, height) = (picture.width() as f32, picture.height() as f32);
//!         let confidence = 0.9;
//!         let bbox = Some(Rect { x1: 0.0, y1: 0.0, x2: width, y2: height });
//!         let found = Found { class: 0, class_name: "dark".into(), confidence, bbox, text: None };
//!         Ok((confidence >= threshold).then_some(found).into_iter().collect())
//!     }
//! }
//!
//! // Before the config is read: `type: dark` is a type from then on.
//! registry::register("dark", |_detector| Ok(Box::new(Dark)));
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use edgecam_vision::{Planes, Rect};

use crate::config::detectors::Detector;

/// A thing that was found.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// Number of its class.
    pub class: u32,
    /// Name of its class.
    pub class_name: Arc<str>,
    /// 0 to 1.
    pub confidence: f32,
    /// Where, in pixels of the picture; `None`: it is what the whole picture is of.
    pub bbox: Option<Rect>,
    /// What is written on it.
    pub text: Option<Arc<str>>,
}

/// Looks at pictures.
pub trait Detect: Send {
    /// What is on `picture`, as sure as `threshold` (0 to 1) at least. An error is counted and shown; the next picture
    /// is tried all the same.
    fn detect(&mut self, picture: &Planes<'_>, threshold: f32) -> Result<Vec<Found>, String>;
}

/// Makes a detector of a type. Called on a thread that may block.
pub type Make = fn(&Detector) -> Result<Box<dyn Detect>, String>;

static OWN: Mutex<BTreeMap<String, Make>> = Mutex::new(BTreeMap::new());

/// Adds a type, which configs may then name. One of the same name is replaced; built-in types cannot be.
pub fn register(name: &str, make: Make) {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), make);
}

pub(crate) fn is_known(name: &str) -> bool {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
}

pub(super) fn make(name: &str, detector: &Detector) -> Result<Box<dyn Detect>, String> {
    let make = OWN.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
    make.ok_or_else(|| format!("there is no detector of the type {name}"))?(detector)
}

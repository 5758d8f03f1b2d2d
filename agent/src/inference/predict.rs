//! One picture that somebody sends, and what a detector sees on it.

use edgecam_vision::{Output, Planes, Task};
use serde_json::{Value, json};

use super::Inference;
use crate::config::detectors::{Detector, Kind};
use crate::decode::mjpeg::JpegDecoder420;

/// Runs one detector on pictures of no camera.
pub struct Predictor {
    inference: Inference,
    detector: Detector,
}

impl Predictor {
    pub(crate) fn new(inference: Inference, detector: Detector) -> Self {
        Self { inference, detector }
    }

    /// What is on a JPEG, in the form of the Stream Video ML Service: `predictions` with `label` and `score`. Blocks. An
    /// error is for whoever sent the picture.
    pub fn predict(&self, jpeg: &[u8]) -> Result<Value, String> {
        let Detector { model, description, kind, threshold, classes, .. } = &self.detector;
        let mut decoder = JpegDecoder420::default();
        let view = decoder.decode(jpeg).map_err(|error| error.to_string())?;
        let (luma, chroma) = view.strides;
        let size = (view.width as u32, view.height as u32);
        let planes = Planes::new([view.y, view.u, view.v], (luma, chroma, chroma), size.0, size.1);
        let planes = planes.map_err(|error| error.to_string())?.full_range(true);
        let model = self.inference.models().get(model, description, kind.task())?;
        let mut runner = model.runner().map_err(|error| error.to_string())?;
        let output = runner.run(&planes, None, *threshold).map_err(|error| error.to_string())?;
        let counts = |label: &str| classes.is_empty() || classes.iter().any(|class| class.eq_ignore_ascii_case(label));
        let mut predictions = Vec::new();
        let mut say = |class: u32, confidence: f32, bbox: Option<edgecam_vision::Rect>| {
            let label = model.label(class);
            if counts(&label) {
                let mut prediction = json!({ "label": label, "score": confidence });
                if let Some(bbox) = bbox {
                    prediction["bbox"] = json!([bbox.x1, bbox.y1, bbox.x2, bbox.y2]);
                }
                predictions.push(prediction);
            }
        };
        let mut text = None;
        match output {
            Output::Detections(all) => all.iter().for_each(|one| say(one.class, one.confidence, Some(one.bbox))),
            Output::Classes(all) => all.iter().for_each(|one| say(one.class, one.confidence, None)),
            Output::Text(read) => text = Some(json!({ "text": read.text, "score": read.confidence })),
        }
        let mut answer = json!({
            "detector": self.detector.name,
            "model": self.detector.model.to_string(),
            "width": size.0,
            "height": size.1,
            "predictions": predictions,
        });
        if *kind == Kind::Person {
            answer["has_person"] = json!(answer["predictions"].as_array().is_some_and(|all| !all.is_empty()));
        }
        if model.task() == Task::Text {
            answer["text"] = text.unwrap_or_default();
        }
        Ok(answer)
    }
}

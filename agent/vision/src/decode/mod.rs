//! From a model's numbers to boxes, classes or text: one file a family.

mod boxes;
mod classes;
mod ctc;
mod grids;
mod head;

use crate::layout::Read;
use crate::model::Loaded;
use crate::prepare::Placement;
use crate::{Detection, Output, Rect, nms};

/// All that a decoder needs of one run.
pub(crate) struct Reading<'a> {
    pub(crate) model: &'a Loaded,
    /// In the model's order; no value is NaN, and each is as long as its shape says.
    pub(crate) outputs: &'a [&'a [f32]],
    pub(crate) placement: Placement,
    pub(crate) threshold: f32,
}

/// Reads the numbers of one run.
pub(crate) fn output(reading: &Reading<'_>) -> Output {
    let Reading { model, outputs, threshold, .. } = *reading;
    let first = outputs.first().copied().unwrap_or_default();
    let size = (model.input.width as f32, model.input.height as f32);
    let mut found = Found { threshold, detections: Vec::new() };
    let mut is_suppressed = false;
    match &model.read {
        Read::Classes { is_probability, .. } => {
            return Output::Classes(classes::decode(first, *is_probability, threshold, model.top_k));
        }
        Read::Ctc { steps, classes, is_column, is_probability, blank } => {
            let steps = ctc::Steps {
                values: first,
                steps: *steps,
                classes: *classes,
                is_column: *is_column,
                is_probability: *is_probability,
            };
            return Output::Text(ctc::decode(&steps, *blank, &model.labels, threshold));
        }
        Read::Head { scales, bins, classes, is_end_to_end } => {
            let head = head::Heads { scales, bins: *bins, classes: *classes, outputs };
            if *is_end_to_end {
                head.best_pairs(&mut found)
            } else {
                head.best_classes(&mut found)
            }
            is_suppressed = *is_end_to_end;
        }
        Read::Yolo { classes, anchors, is_row } => boxes::yolo(first, *classes, *anchors, *is_row, &mut found),
        Read::YoloAnchors { classes, .. } => boxes::with_objectness(first, *classes, &mut found),
        Read::Yolox { classes, scales, is_decoded: false } => grids::yolox(first, *classes, scales, &mut found),
        Read::Yolox { classes, is_decoded: true, .. } => boxes::with_objectness(first, *classes, &mut found),
        Read::EndToEnd { .. } => {
            boxes::end_to_end(first, &mut found);
            is_suppressed = true;
        }
        Read::Ssd { scores, corners, classes, .. } => {
            boxes::ssd(outputs[*scores], outputs[*corners], *classes, size, &mut found);
        }
        Read::Grid { classes, columns, rows } => {
            grids::fastest_det(first, *classes, (*columns, *rows), size, &mut found)
        }
        Read::Nanodet { parts, bins, classes, centre } => {
            grids::nanodet(outputs, parts, (*bins, *classes, *centre), &mut found);
        }
    }
    let mut detections = found.detections;
    if is_suppressed {
        nms::sort(&mut detections);
        detections.truncate(model.most);
    } else {
        nms::suppress(&mut detections, model.iou, model.is_agnostic, model.most);
    }
    for detection in &mut detections {
        detection.bbox = reading.placement.to_picture(detection.bbox);
    }
    // What lies in the bars is not in the picture.
    detections.retain(|detection| detection.bbox.width() > 0.0 && detection.bbox.height() > 0.0);
    Output::Detections(detections)
}

/// What a decoder has found, in pixels of the input.
pub(crate) struct Found {
    threshold: f32,
    detections: Vec<Detection>,
}

impl Found {
    fn push(&mut self, class: usize, confidence: f32, bbox: Rect) {
        let is_box = [bbox.x1, bbox.y1, bbox.x2, bbox.y2].iter().all(|edge| edge.is_finite());
        if confidence >= self.threshold && is_box {
            self.detections.push(Detection { class: class as u32, confidence: confidence.min(1.0), bbox });
        }
    }
}

/// The largest value and where it is; the first of equals.
fn largest(values: impl Iterator<Item = f32>) -> (usize, f32) {
    values.enumerate().fold((0, f32::NEG_INFINITY), |best, (at, value)| if value > best.1 { (at, value) } else { best })
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

/// Where `sigmoid` is `probability`.
fn logit(probability: f32) -> f32 {
    (probability / (1.0 - probability)).ln()
}

/// The mean of bins 0, 1, 2 … after a softmax over them (distribution focal loss).
fn expected_bin(bins: impl Iterator<Item = f32> + Clone) -> f32 {
    let most = bins.clone().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (bin, value) in bins.enumerate() {
        let share = exp_of_negative(value - most);
        sum += share;
        weighted += share * bin as f32;
    }
    weighted / sum
}

/// e to the power of a value that is at most 0, to 5e-6 of it, without a call: those for 64 bins of each box of a full picture and
/// for all classes of a classifier were 7 and 4 % of a run.
#[inline]
fn exp_of_negative(value: f32) -> f32 {
    // 1.5 * 2^23: what is added to it is rounded, and is the lowest bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let power = (value * std::f32::consts::LOG2_E).max(-126.0);
    let shifted = power + ROUND;
    let part = (power - (shifted - ROUND)) * std::f32::consts::LN_2;
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let small = series.into_iter().fold(0.0, |sum, factor| sum * part + factor);
    small * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()))
}

/// The largest class of each anchor, for values that lie class after class. One pass over each class's row, which is
/// vectorised; an anchor at a time would jump through memory.
fn largest_of_rows(values: &[f32], anchors: usize) -> (Vec<f32>, Vec<u32>) {
    let mut best = vec![f32::NEG_INFINITY; anchors];
    let mut classes = vec![0; anchors];
    for (class, row) in values.chunks_exact(anchors).enumerate() {
        for ((best, at), value) in best.iter_mut().zip(&mut classes).zip(row) {
            let is_larger = *value > *best;
            *best = if is_larger { *value } else { *best };
            *at = if is_larger { class as u32 } else { *at };
        }
    }
    (best, classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_near() {
        for at in 0..10_000 {
            let value = at as f32 * -0.0081;
            let (near, exact) = (exp_of_negative(value), value.exp());
            assert!((near - exact).abs() <= exact * 5e-6, "{value}: {near} instead of {exact}");
        }
        assert!(exp_of_negative(f32::NEG_INFINITY) < 1e-37);
    }
}

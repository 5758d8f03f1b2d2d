//! Models that answer finished boxes.

use super::{Found, largest, largest_of_rows};
use crate::Rect;

/// Centre, size and a score of each class.
pub(super) fn yolo(values: &[f32], classes: usize, anchors: usize, is_row: bool, found: &mut Found) {
    if is_row {
        for row in values.chunks_exact(4 + classes) {
            let (class, score) = largest(row[4..].iter().copied());
            found.push(class, score, Rect::centred(row[0], row[1], row[2], row[3]));
        }
        return;
    }
    let (boxes, scores) = values.split_at(4 * anchors);
    let (best, classes) = largest_of_rows(scores, anchors);
    for (anchor, (score, class)) in best.into_iter().zip(classes).enumerate() {
        if score >= found.threshold {
            let at = |row: usize| boxes[row * anchors + anchor];
            found.push(class as usize, score, Rect::centred(at(0), at(1), at(2), at(3)));
        }
    }
}

/// Centre, size, whether there is anything, and then a score of each class.
pub(super) fn with_objectness(values: &[f32], classes: usize, found: &mut Found) {
    for row in values.chunks_exact(5 + classes).filter(|row| row[4] >= found.threshold).collect::<Vec<_>>() {
        let (class, score) = largest(row[5..].iter().copied());
        found.push(class, row[4] * score, Rect::centred(row[0], row[1], row[2], row[3]));
    }
}

/// Corners, score, number of the class.
pub(super) fn end_to_end(values: &[f32], found: &mut Found) {
    for [x1, y1, x2, y2, score, class] in values.as_chunks::<6>().0 {
        let bbox = Rect { x1: *x1, y1: *y1, x2: *x2, y2: *y2 };
        found.push(class.round().max(0.0) as usize, *score, bbox);
    }
}

/// Scores with the background first, corners in fractions of the picture.
pub(super) fn ssd(scores: &[f32], corners: &[f32], classes: usize, (width, height): (f32, f32), found: &mut Found) {
    for (scores, [x1, y1, x2, y2]) in scores.chunks_exact(classes + 1).zip(corners.as_chunks::<4>().0) {
        let (class, score) = largest(scores[1..].iter().copied());
        found.push(class, score, Rect { x1: x1 * width, y1: y1 * height, x2: x2 * width, y2: y2 * height });
    }
}

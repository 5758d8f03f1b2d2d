//! The rest of an Ultralytics head whose graph was cut at its convolutions (`crate::head`).
//!
//! A box is four distances from the middle of its cell (left, top, right, bottom), in cells; with DFL each is the mean
//! of a distribution over bins. Classes are logits.

use super::{Found, expected_bin, largest_of_rows, logit, sigmoid};
use crate::Rect;
use crate::layout::Scale;

/// At most so many cells of an end-to-end head, as in its export.
const MOST_CELLS: usize = 300;

pub(super) struct Heads<'a> {
    pub(super) scales: &'a [Scale],
    pub(super) bins: usize,
    pub(super) classes: usize,
    /// Boxes and classes of each scale in turn, value after value: `[4 * bins, cells]` and `[classes, cells]`.
    pub(super) outputs: &'a [&'a [f32]],
}

impl Heads<'_> {
    /// The surest class of each cell: a head that needs suppression.
    pub(super) fn best_classes(&self, found: &mut Found) {
        let least = logit(found.threshold);
        for (scale, pair) in self.scales.iter().zip(self.outputs.as_chunks::<2>().0) {
            let (best, classes) = largest_of_rows(pair[1], scale.cells());
            for (cell, (value, class)) in
                best.iter().zip(classes).enumerate().filter(|(_, (value, _))| **value >= least)
            {
                found.push(class as usize, sigmoid(*value), self.bbox(scale, pair[0], cell));
            }
        }
    }

    /// Of the surest cells, all classes: one thing may be two, as in the export's own choice.
    pub(super) fn best_pairs(&self, found: &mut Found) {
        let least = logit(found.threshold);
        let mut cells = Vec::new();
        for (number, (scale, pair)) in self.scales.iter().zip(self.outputs.as_chunks::<2>().0).enumerate() {
            let (best, _) = largest_of_rows(pair[1], scale.cells());
            let sure = best.iter().enumerate().filter(|(_, value)| **value >= least);
            cells.extend(sure.map(|(cell, value)| (*value, number, cell)));
        }
        cells.sort_by(|a, b| b.0.total_cmp(&a.0));
        cells.truncate(MOST_CELLS);
        for (_, number, cell) in cells {
            let (scale, logits) = (&self.scales[number], self.outputs[2 * number + 1]);
            let bbox = self.bbox(scale, self.outputs[2 * number], cell);
            for class in 0..self.classes {
                let value = logits[class * scale.cells() + cell];
                if value >= least {
                    found.push(class, sigmoid(value), bbox);
                }
            }
        }
    }

    fn bbox(&self, scale: &Scale, values: &[f32], cell: usize) -> Rect {
        let distance = |side: usize| {
            let bin = |bin: usize| values[(side * self.bins + bin) * scale.cells() + cell];
            if self.bins == 1 { bin(0) } else { expected_bin((0..self.bins).map(bin)) }
        };
        let (x, y) = ((cell % scale.columns) as f32 + 0.5, (cell / scale.columns) as f32 + 0.5);
        let (across, down) = scale.stride;
        Rect {
            x1: (x - distance(0)) * across,
            y1: (y - distance(1)) * down,
            x2: (x + distance(2)) * across,
            y2: (y + distance(3)) * down,
        }
    }
}

//! Models that answer what each cell of a grid sees, and leave the arithmetic to who reads them.

use super::{Found, expected_bin, largest, largest_of_rows, sigmoid};
use crate::Rect;
use crate::layout::{Part, Scale};

/// YOLOX: the centre's offset in its cell, the size's logarithm, both in strides; objectness; scores.
pub(super) fn yolox(values: &[f32], classes: usize, scales: &[Scale], found: &mut Found) {
    let mut rows = values.chunks_exact(5 + classes);
    for scale in scales {
        for (cell, row) in rows.by_ref().take(scale.cells()).enumerate() {
            if row[4] < found.threshold {
                continue;
            }
            let (class, score) = largest(row[5..].iter().copied());
            let (x, y) = ((cell % scale.columns) as f32, (cell / scale.columns) as f32);
            let (across, down) = scale.stride;
            let bbox =
                Rect::centred((row[0] + x) * across, (row[1] + y) * down, row[2].exp() * across, row[3].exp() * down);
            found.push(class, row[4] * score, bbox);
        }
    }
}

/// FastestDet: score = objectness^0.6 * class^0.4; centre = cell + tanh; size = sigmoid of the whole picture.
pub(super) fn fastest_det(
    values: &[f32],
    classes: usize,
    (columns, rows): (usize, usize),
    (width, height): (f32, f32),
    found: &mut Found,
) {
    let cells = columns * rows;
    let at = |value: usize, cell: usize| values[value * cells + cell];
    let (best, class) = largest_of_rows(&values[5 * cells..(5 + classes) * cells], cells);
    for cell in 0..cells {
        let score = at(0, cell).max(0.0).powf(0.6) * best[cell].max(0.0).powf(0.4);
        if score < found.threshold {
            continue;
        }
        let (column, row) = ((cell % columns) as f32, (cell / columns) as f32);
        let x = (column + at(1, cell).tanh()) / columns as f32;
        let y = (row + at(2, cell).tanh()) / rows as f32;
        let (w, h) = (sigmoid(at(3, cell)), sigmoid(at(4, cell)));
        found.push(class[cell] as usize, score, Rect::centred(x * width, y * height, w * width, h * height));
    }
}

/// NanoDet: scores, and distances to the four sides as distributions over bins, in strides.
pub(super) fn nanodet(
    outputs: &[&[f32]],
    parts: &[Part],
    (bins, classes, centre): (usize, usize, f32),
    found: &mut Found,
) {
    for part in parts {
        let row = |(output, begin, step): (usize, usize, usize), cell: usize| &outputs[output][begin + cell * step..];
        let Part { scale, .. } = part;
        for cell in 0..scale.cells() {
            let (class, score) = largest(row(part.scores, cell)[..classes].iter().copied());
            if score < found.threshold {
                continue;
            }
            let distances = row(part.distances, cell);
            let distance = |side: usize| expected_bin(distances[side * bins..][..bins].iter().copied());
            let (x, y) = ((cell % scale.columns) as f32 + centre, (cell / scale.columns) as f32 + centre);
            let (across, down) = scale.stride;
            let bbox = Rect {
                x1: (x - distance(0)) * across,
                y1: (y - distance(1)) * down,
                x2: (x + distance(2)) * across,
                y2: (y + distance(3)) * down,
            };
            found.push(class, score, bbox);
        }
    }
}

//! Non-maximum suppression: of boxes that mean the same thing, the surest stays.

use crate::Detection;

/// At most so many candidates are compared, the surest; it bounds the time a bad picture can cost.
const MOST_CANDIDATES: usize = 3000;

/// Sorts by confidence and drops each box that shares more than `iou` with a surer one, of its class unless `agnostic`;
/// keeps at most `most`.
pub(crate) fn suppress(detections: &mut Vec<Detection>, iou: f32, agnostic: bool, most: usize) {
    sort(detections);
    detections.truncate(MOST_CANDIDATES);
    let mut kept: Vec<Detection> = Vec::new();
    for candidate in detections.iter() {
        if kept.len() >= most {
            break;
        }
        let same = |other: &Detection| agnostic || other.class == candidate.class;
        if !kept.iter().any(|other| same(other) && other.bbox.iou(&candidate.bbox) > iou) {
            kept.push(*candidate);
        }
    }
    *detections = kept;
}

/// The surest first.
pub(crate) fn sort(detections: &mut [Detection]) {
    detections.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rect;

    fn detection(class: u32, confidence: f32, x1: f32) -> Detection {
        Detection { class, confidence, bbox: Rect { x1, y1: 0.0, x2: x1 + 10.0, y2: 10.0 } }
    }

    #[test]
    fn the_surest_of_a_class_stays() {
        let all = [detection(0, 0.5, 0.0), detection(0, 0.9, 1.0), detection(1, 0.6, 1.0), detection(0, 0.4, 20.0)];
        for (agnostic, most, expected) in [
            (false, 300, &[(0, 0.9), (1, 0.6), (0, 0.4)][..]),
            (true, 300, &[(0, 0.9), (0, 0.4)]),
            (false, 1, &[(0, 0.9)]),
        ] {
            let mut detections = all.to_vec();
            suppress(&mut detections, 0.45, agnostic, most);
            let seen: Vec<_> = detections.iter().map(|seen| (seen.class, seen.confidence)).collect();
            assert_eq!(seen, expected, "agnostic {agnostic}");
        }
    }
}

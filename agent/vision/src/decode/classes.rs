//! Classifiers.

use super::exp_of_negative;
use crate::Class;

/// The surest classes, at most `most` of them.
pub(super) fn decode(values: &[f32], is_probability: bool, threshold: f32, most: usize) -> Vec<Class> {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shares: Vec<f32> = if is_probability {
        values.to_vec()
    } else {
        values.iter().map(|value| exp_of_negative(value - largest)).collect()
    };
    let sum: f32 = if is_probability { 1.0 } else { shares.iter().sum() };
    let mut classes: Vec<_> = shares
        .iter()
        .enumerate()
        .map(|(class, share)| Class { class: class as u32, confidence: share / sum })
        .filter(|class| class.confidence >= threshold)
        .collect();
    classes.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    classes.truncate(most);
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_classes() {
        let logits = [1.0, 3.0, 2.0, -50.0];
        let classes = decode(&logits, false, 0.1, 5);
        assert_eq!(classes.iter().map(|class| class.class).collect::<Vec<_>>(), [1, 2]);
        assert!((classes[0].confidence - 0.665_24).abs() < 1e-4, "{classes:?}");
        let classes = decode(&[0.2, 0.5, 0.3], true, 0.0, 2);
        assert_eq!(classes, [Class { class: 1, confidence: 0.5 }, Class { class: 2, confidence: 0.3 }]);
        assert_eq!(decode(&[], false, 0.0, 2), []);
    }
}

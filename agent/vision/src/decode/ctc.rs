//! Text recognisers: connectionist temporal classification (CTC), read greedily.
//!
//! At each step the surest class; the same one twice in a row is one character, and the blank is none.

use crate::Text;

/// What a recogniser answers.
pub(super) struct Steps<'a> {
    pub(super) values: &'a [f32],
    pub(super) steps: usize,
    pub(super) classes: usize,
    /// A class's values lie beside each other, not a step's.
    pub(super) is_column: bool,
    pub(super) is_probability: bool,
}

impl Steps<'_> {
    fn value(&self, step: usize, class: usize) -> f32 {
        if self.is_column { self.values[class * self.steps + step] } else { self.values[step * self.classes + class] }
    }

    fn best(&self, step: usize) -> (usize, f32) {
        let values = (0..self.classes).map(|class| self.value(step, class));
        let (class, value) = super::largest(values.clone());
        if self.is_probability {
            return (class, value);
        }
        (class, 1.0 / values.map(|other| (other - value).exp()).sum::<f32>())
    }
}

/// `labels` are the classes without the blank. A line whose mean confidence is below `threshold` is empty.
pub(super) fn decode(steps: &Steps<'_>, blank: usize, labels: &[String], threshold: f32) -> Text {
    let (mut text, mut characters, mut before) = (String::new(), Vec::new(), blank);
    for step in 0..steps.steps {
        let (class, confidence) = steps.best(step);
        if class != blank && class != before {
            let label = if class > blank { class - 1 } else { class };
            text.push_str(labels.get(label).map_or("", String::as_str));
            characters.push(confidence);
        }
        before = class;
    }
    let confidence = if characters.is_empty() { 0.0 } else { characters.iter().sum::<f32>() / characters.len() as f32 };
    if confidence < threshold { Text::default() } else { Text { text, confidence, characters } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_classes_are_one_character_unless_a_blank_is_between() {
        let labels = ["a", "b"].map(str::to_owned);
        let read = |classes: &[usize], blank: usize, is_column: bool, is_probability: bool| {
            let (steps, height) = (classes.len(), if is_probability { 0.9 } else { 10.0 });
            let mut values = vec![0.0; steps * 3];
            for (step, class) in classes.iter().enumerate() {
                values[if is_column { class * steps + step } else { step * 3 + class }] = height;
            }
            let steps = Steps { values: &values, steps, classes: 3, is_column, is_probability };
            decode(&steps, blank, &labels, 0.5)
        };
        for is_column in [false, true] {
            for is_probability in [false, true] {
                let check = |classes: &[usize], blank, expected: &str| {
                    let text = read(classes, blank, is_column, is_probability);
                    assert_eq!(text.text, expected, "{classes:?}");
                    assert_eq!(text.characters.len(), expected.len());
                    assert!(expected.is_empty() || text.confidence > 0.89, "{}", text.confidence);
                };
                check(&[0, 1, 1, 0, 1, 2, 2, 0], 0, "aab");
                check(&[0, 0, 2, 0, 1, 2], 2, "aab");
                check(&[0, 0], 0, "");
                check(&[], 0, "");
            }
        }
    }
}

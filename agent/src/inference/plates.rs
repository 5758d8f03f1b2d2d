//! What is on a number plate: readings of several pictures vote, and only those that look like a plate count. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Plates that are followed at once, and readings of each that count.
const MOST: usize = 64;
const READINGS: usize = 32;

/// Whether `text` looks like `pattern`: `A` is a letter, `9` a digit, `?` either, anything else itself.
pub fn fits(text: &str, pattern: &str) -> bool {
    let is_like = |(c, p): (char, char)| match p {
        'A' => c.is_alphabetic(),
        '9' => c.is_ascii_digit(),
        '?' => c.is_alphanumeric(),
        other => c == other,
    };
    text.chars().count() == pattern.chars().count() && text.chars().zip(pattern.chars()).all(is_like)
}

/// A reading as plates are compared: capitals and digits, nothing between them.
pub fn normal(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect()
}

/// The readings of each plate, by its track.
#[derive(Debug, Default)]
pub(super) struct Votes {
    plates: BTreeMap<u64, Plate>,
    turn: u64,
}

#[derive(Debug, Default)]
struct Plate {
    /// Sum of confidences of each reading.
    readings: BTreeMap<Arc<str>, f32>,
    count: usize,
    last: u64,
}

impl Votes {
    /// A new picture.
    pub(super) fn next(&mut self) {
        self.turn += 1;
        if self.plates.len() > MOST {
            let turn = self.turn;
            self.plates.retain(|_, plate| turn - plate.last < 100);
        }
    }

    /// A plate was read; returns what it says by all of its readings.
    pub(super) fn read(&mut self, track: u64, text: &str, confidence: f32) -> Option<Arc<str>> {
        if self.plates.len() >= 2 * MOST && !self.plates.contains_key(&track) {
            return None;
        }
        let plate = self.plates.entry(track).or_default();
        plate.last = self.turn;
        if !text.is_empty() && plate.count < READINGS {
            plate.count += 1;
            *plate.readings.entry(Arc::from(text)).or_default() += confidence;
        }
        self.says(track)
    }

    /// What a plate says by its readings so far.
    pub(super) fn says(&self, track: u64) -> Option<Arc<str>> {
        let readings = &self.plates.get(&track)?.readings;
        readings.iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(text, _)| text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (text, pattern, expected) in [
            ("AB123CD", "AA999AA", true),
            ("AB12CD", "AA999AA", false),
            ("A1", "??", true),
            ("皖K66666", "AA99999", true),
            ("B-X1", "A-A9", true),
            ("BX11", "A-A9", false),
        ] {
            assert_eq!(fits(text, pattern), expected, "{text} {pattern}");
        }
        assert_eq!(normal(" ab-12 c·d "), "AB12CD");
    }

    #[test]
    fn the_surest_reading_wins() {
        let mut votes = Votes::default();
        let mut read = |text: &str, confidence: f32| {
            votes.next();
            votes.read(1, text, confidence).map(|text| text.to_string())
        };
        assert_eq!(read("", 0.0), None);
        assert_eq!(read("AB12", 0.6).as_deref(), Some("AB12"));
        assert_eq!(read("A812", 0.9).as_deref(), Some("A812"));
        assert_eq!(read("AB12", 0.6).as_deref(), Some("AB12"));
        assert_eq!(votes.says(2), None);
    }

    #[test]
    fn plates_are_bounded() {
        let mut votes = Votes::default();
        for track in 0..10_000 {
            votes.next();
            votes.read(track, "X", 0.5);
        }
        assert!(votes.plates.len() <= 2 * MOST, "{}", votes.plates.len());
    }
}

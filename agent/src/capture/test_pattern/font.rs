//! Digits, colon and point, five pixels wide and seven high.

/// Width of a glyph in its own pixels.
pub(crate) const WIDTH: usize = 5;
/// Height of a glyph in its own pixels.
pub(crate) const HEIGHT: usize = 7;

/// The rows of a glyph from top to bottom; the lowest five bits are its pixels, the highest of them at the left.
/// Characters the font does not have are blank.
pub(crate) fn glyph(character: u8) -> [u8; HEIGHT] {
    match character {
        b'0' => [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
        b'1' => [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        b'2' => [0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111],
        b'3' => [0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110],
        b'4' => [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
        b'5' => [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
        b'6' => [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
        b'7' => [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
        b'8' => [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
        b'9' => [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
        b':' => [0b00000, 0b01100, 0b01100, 0b00000, 0b01100, 0b01100, 0b00000],
        b'.' => [0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b01100, 0b01100],
        _ => [0; HEIGHT],
    }
}

/// The time of day in UTC, `HH:MM:SS.mmm`.
pub(super) fn clock(unix_millis: i64) -> [u8; 12] {
    let of_day = unix_millis.rem_euclid(86_400_000);
    let (hour, minute, second, milli) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
    // A single decimal digit fits a byte.
    let digit = |value: i64, unit: i64| b'0' + (value / unit % 10) as u8;
    [
        digit(hour, 10),
        digit(hour, 1),
        b':',
        digit(minute, 10),
        digit(minute, 1),
        b':',
        digit(second, 10),
        digit(second, 1),
        b'.',
        digit(milli, 100),
        digit(milli, 10),
        digit(milli, 1),
    ]
}

/// A frame number with leading zeros; it starts again at 00000000 after 100 million frames.
pub(super) fn number(mut value: u64) -> [u8; 8] {
    let mut digits = [b'0'; 8];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_clock_and_number() {
        for (millis, text) in [
            (0, "00:00:00.000"),
            (1_795_228_575_129, "02:36:15.129"),
            (-1, "23:59:59.999"),
            (86_399_999, "23:59:59.999"),
        ] {
            assert_eq!(clock(millis), text.as_bytes());
        }
        for (value, text) in [(0, "00000000"), (12_345, "00012345"), (100_000_007, "00000007")] {
            assert_eq!(number(value), text.as_bytes());
        }
    }

    #[test]
    fn glyphs_differ_and_fit() {
        let known = b"0123456789:.";
        for (index, &a) in known.iter().enumerate() {
            assert!(glyph(a).iter().all(|&row| row < 1 << WIDTH), "{}", char::from(a));
            assert!(known[index + 1..].iter().all(|&b| glyph(a) != glyph(b)), "{}", char::from(a));
        }
        assert_eq!(glyph(b'x'), [0; HEIGHT]);
    }
}

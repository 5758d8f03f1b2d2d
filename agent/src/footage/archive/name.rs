//! Names of segment files: when they begin, and the number of their first GOP.

use std::path::Path;

use edgecam_media::Timestamp;

/// `20261121T051500123Z-0000001234.mp4`: sorts by time in any file listing, and by GOP for the agent.
pub(crate) fn file_name(start: Timestamp, first_gop: u64) -> String {
    let time: String = start.to_string().chars().filter(|c| !matches!(c, '-' | ':' | '.')).collect();
    format!("{time}-{first_gop:010}.mp4")
}

/// The start (to the millisecond) and the first GOP in a segment's name; `None` for any other file.
pub(crate) fn parse(path: &Path) -> Option<(Timestamp, u64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".mp4")?;
    let (time, gop) = name.split_once("Z-")?;
    if gop.len() < 10 || !gop.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((parse_time(time)?, gop.parse().ok()?))
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once('T')?;
    if date.len() != 8 || time.len() != 9 || !date.bytes().chain(time.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let date: i64 = date.parse().ok()?;
    let time: i64 = time.parse().ok()?;
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || time / 10_000_000 > 23 {
        return None;
    }
    let seconds = time / 10_000_000 * 3600 + time / 100_000 % 100 * 60 + time / 1000 % 100;
    Some(Timestamp::from_unix_millis((days_from_civil(year, month, day) * 86_400 + seconds) * 1000 + time % 1000))
}

/// Days since the epoch of a date in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for millis in [0, 951_827_696_007, 1_795_228_575_129, 4_102_444_800_000, 1_709_251_199_999] {
            let start = Timestamp::from_unix_millis(millis);
            let name = file_name(start, 77);
            assert_eq!(parse(Path::new(&name)), Some((start, 77)), "{name}");
        }
        assert_eq!(file_name(Timestamp::from_unix_millis(1_795_228_575_129), 1), "20261121T023615129Z-0000000001.mp4");
        for other in ["x.mp4", "20261121T023615129Z-1.mp4", "20261321T023615129Z-0000000001.mp4", "cursor", "é.mp4"] {
            assert_eq!(parse(Path::new(other)), None, "{other}");
        }
    }
}

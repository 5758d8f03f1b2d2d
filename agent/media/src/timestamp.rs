//! Points and spans of media time. Three scales are in use (90 kHz, milliseconds, a Matroska block's 16 bits);
//! each is a type of its own, and nothing converts without saying so.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Ticks a second of [`Timestamp`] and [`Ticks`]: RTP's clock rate for video (RFC 6184 section 5.1).
pub const TICKS_PER_SECOND: i64 = 90_000;

const TICKS_PER_MILLI: i64 = 90;

/// A point in time: 90 kHz ticks since the Unix epoch, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// A span of media time in 90 kHz ticks; may be negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticks(i64);

/// Matroska SimpleBlock timecode: signed, relative to its Cluster, in milliseconds (RFC 9559 section 10.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timecode(i16);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From 90 kHz ticks since the epoch.
    pub const fn from_ticks(ticks: i64) -> Self {
        Self(ticks)
    }

    /// 90 kHz ticks since the epoch.
    pub const fn ticks(self) -> i64 {
        self.0
    }

    /// From milliseconds since the epoch.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(TICKS_PER_MILLI))
    }

    /// Milliseconds since the epoch, rounded to the nearest, so that 33.3 ms frames stay evenly spaced.
    pub const fn unix_millis(self) -> i64 {
        self.0.saturating_add(TICKS_PER_MILLI / 2).div_euclid(TICKS_PER_MILLI)
    }

    /// Seconds since the epoch, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND)
    }

    /// From the time since the epoch, as the system clock gives it.
    pub fn from_unix(since_epoch: Duration) -> Self {
        Self::EPOCH + Ticks::from_duration(since_epoch)
    }

    /// Time since the epoch; zero before it.
    pub fn since_epoch(self) -> Duration {
        Ticks(self.0).to_duration()
    }

    /// The span from `earlier` to `self`; negative when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Ticks {
        Ticks(self.0.saturating_sub(earlier.0))
    }
}

impl Ticks {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From 90 kHz ticks.
    pub const fn new(ticks: i64) -> Self {
        Self(ticks)
    }

    /// From whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(TICKS_PER_SECOND))
    }

    /// From milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(TICKS_PER_MILLI))
    }

    /// From a duration, rounded down to the tick.
    pub fn from_duration(duration: Duration) -> Self {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / TICKS_PER_SECOND);
        let fraction = i64::from(duration.subsec_nanos()) * 9 / 100_000;
        Self(seconds.saturating_mul(TICKS_PER_SECOND).saturating_add(fraction))
    }

    /// From `value` ticks of a clock with `rate` ticks a second. A rate of 0 gives zero.
    pub fn from_scale(value: i64, rate: u32) -> Self {
        if rate == 0 {
            return Self::ZERO;
        }
        let scaled = i128::from(value) * i128::from(TICKS_PER_SECOND) / i128::from(rate);
        Self(i64::try_from(scaled).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX }))
    }

    /// 90 kHz ticks.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Milliseconds, rounded towards zero.
    pub const fn millis(self) -> i64 {
        self.0 / TICKS_PER_MILLI
    }

    /// Seconds as a fraction, for people and metrics.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / TICKS_PER_SECOND as f64
    }

    /// As a duration; zero when negative.
    pub fn to_duration(self) -> Duration {
        let ticks = u64::try_from(self.0).unwrap_or(0);
        let rate = TICKS_PER_SECOND as u64;
        let nanos = (ticks % rate) * 100_000 / 9;
        Duration::new(ticks / rate, u32::try_from(nanos).unwrap_or(0))
    }
}

impl Timecode {
    /// The offset of `millis` from its cluster's `cluster_millis`; `None` when it does not fit 16 bits (32.767 s).
    pub fn relative(millis: i64, cluster_millis: i64) -> Option<Self> {
        i16::try_from(millis.checked_sub(cluster_millis)?).ok().map(Self)
    }

    /// Big-endian, as a block holds it.
    pub const fn to_be_bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

impl Add<Ticks> for Timestamp {
    type Output = Self;
    fn add(self, span: Ticks) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Ticks> for Timestamp {
    type Output = Self;
    fn sub(self, span: Ticks) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl Add for Ticks {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Ticks {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.unix_millis())
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.seconds())
    }
}

/// Prints RFC 3339 in UTC with milliseconds, the form used in status, logs and file listings.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.unix_millis();
        let (year, month, day) = civil_date(millis.div_euclid(86_400_000));
        let of_day = millis.rem_euclid(86_400_000);
        let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
        let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

/// Days since the epoch → year, month, day in the proleptic Gregorian calendar (era arithmetic in 400-year cycles).
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_keep_their_value() {
        for millis in [0, 1, 999, 1_795_228_575_129, -1] {
            assert_eq!(Timestamp::from_unix_millis(millis).unix_millis(), millis);
        }
        assert_eq!(Ticks::from_duration(Duration::from_micros(33_333)).get(), 2_999);
        assert_eq!(Ticks::new(2_999).to_duration().as_micros(), 33_322);
        assert_eq!(Ticks::from_scale(1, 25), Ticks::new(3_600));
        assert_eq!(Ticks::from_scale(5, 0), Ticks::ZERO);
        assert_eq!(Ticks::new(-5).to_duration(), Duration::ZERO);
    }

    #[test]
    fn block_timecodes_are_sixteen_bits() {
        assert_eq!(Timecode::relative(1_040, 1_000).map(Timecode::to_be_bytes), Some([0, 40]));
        assert_eq!(Timecode::relative(990, 1_000).map(Timecode::to_be_bytes), Some([0xff, 0xf6]));
        assert_eq!(Timecode::relative(40_000, 1_000), None);
        assert_eq!(Timecode::relative(i64::MIN, 1), None);
    }

    #[test]
    fn prints_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_007, "2000-02-29T12:34:56.007Z"),
            (1_795_228_575_129, "2026-11-21T02:36:15.129Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::from_unix_millis(millis).to_string(), text);
        }
    }
}

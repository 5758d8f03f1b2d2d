//! Repeating spans of time: cron expression and duration, in UTC.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use edgecam_media::{Ticks, Timestamp};
use jiff::tz::TimeZone;

/// Who has written a cron expression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Five fields, or six with seconds in front. Sunday is 0 or 7.
    Cron,
    /// Quartz, which EdgeConfig uses: six fields with seconds in front, or seven with the year behind. Sunday is 1.
    Quartz,
}

/// A repeating span of time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    cron: String,
    dialect: Dialect,
    duration: Duration,
}

impl Schedule {
    /// A span that starts when `cron` says, in UTC. An error says what is wrong with it.
    pub fn new(cron: String, dialect: Dialect, duration: Duration) -> Result<Self, String> {
        parse(&cron, dialect)?;
        Ok(Self { cron, dialect, duration })
    }

    /// The span that `now` is in, or else the next one.
    pub fn period(&self, now: Timestamp) -> Option<Period> {
        period(&parse(&self.cron, self.dialect).ok()?, self.duration, now)
    }
}

fn parse(text: &str, dialect: Dialect) -> Result<Cron, String> {
    // Quartz has it for "no matter", and who has learned that writes it everywhere.
    let mut text = text.replace('?', "*");
    let parser = match dialect {
        Dialect::Cron => CronParser::builder().seconds(Seconds::Optional).build(),
        Dialect::Quartz => {
            text = with_ends(&text);
            CronParser::builder().seconds(Seconds::Required).year(Year::Optional).alternative_weekdays(true).build()
        }
    };
    parser.parse(&text).map_err(|error| error.to_string())
}

/// Quartz lets `5/15` stand for `5-59/15`, up to the end of what the field counts.
fn with_ends(text: &str) -> String {
    const ENDS: [&str; 7] = ["59", "59", "23", "31", "12", "7", "2099"];
    let part = |part: &str, end: &str| match part.split_once('/') {
        Some(("", step)) => format!("*/{step}"),
        Some((from, step)) if from.chars().all(|c| c.is_ascii_digit()) => format!("{from}-{end}/{step}"),
        _ => part.to_owned(),
    };
    let field = |(field, end): (&str, &str)| field.split(',').map(|one| part(one, end)).collect::<Vec<_>>().join(",");
    // One field too many is for the parser to refuse.
    let ends = ENDS.into_iter().chain(std::iter::repeat("59"));
    text.split_whitespace().zip(ends).map(field).collect::<Vec<_>>().join(" ")
}

/// A span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Period {
    /// When it starts.
    pub start: Timestamp,
    /// When it ends.
    pub end: Timestamp,
}

fn period(cron: &Cron, duration: Duration, now: Timestamp) -> Option<Period> {
    let at = |time: Timestamp| {
        let instant = jiff::Timestamp::from_millisecond(time.unix_millis()).ok()?;
        Some(instant.to_zoned(TimeZone::UTC))
    };
    let next = |from: Timestamp| {
        let found = cron.find_next_occurrence(&at(from)?, true).ok()?;
        Some(Timestamp::from_unix_millis(found.timestamp().as_millisecond()))
    };
    let length = Ticks::from_duration(duration);
    // The first second after one that would make the period end by now.
    let start = next(Timestamp::from_unix_millis(((now - length).unix_seconds() + 1) * 1000))?;
    Some(Period { start, end: start + length })
}

/// The same for several schedules: the period `now` is in that ends last, else the next to start.
pub fn earliest(schedules: &[Schedule], now: Timestamp) -> Option<Period> {
    let periods = schedules.iter().filter_map(|schedule| schedule.period(now));
    periods.min_by_key(|period| (period.start > now, period.start, std::cmp::Reverse(period.end)))
}

/// For callers that only have text.
impl FromStr for Period {
    type Err = String;

    /// `<start>/<end>`, both in milliseconds since the epoch or RFC 3339.
    fn from_str(text: &str) -> Result<Self, String> {
        let (start, end) = text.split_once('/').ok_or("a range is written START/END")?;
        let time = |text: &str| {
            let millis = text.parse::<i64>().ok();
            let parsed = || text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
            millis.or_else(parsed).map(Timestamp::from_unix_millis).ok_or(format!("`{text}` is no time"))
        };
        let period = Self { start: time(start)?, end: time(end)? };
        (period.start < period.end).then_some(period).ok_or_else(|| "the range ends before it starts".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        let parsed: jiff::Timestamp = text.parse().expect("a time");
        Timestamp::from_unix_millis(parsed.as_millisecond())
    }

    #[test]
    fn periods() {
        let check_in = |dialect, cron: &str, minutes: u64, now: &str, start: &str| {
            let schedule = Schedule::new(cron.to_owned(), dialect, Duration::from_secs(minutes * 60)).expect("valid");
            let period = schedule.period(time(now)).expect("a period");
            assert_eq!(period.start, time(start), "{now}");
            assert_eq!(period.end.since(period.start), Ticks::from_seconds(minutes as i64 * 60));
        };
        let check = |cron, minutes, now, start| check_in(Dialect::Cron, cron, minutes, now, start);
        check("0 8 * * *", 60, "2026-11-21T07:59:00Z", "2026-11-21T08:00:00Z");
        check("0 8 * * *", 60, "2026-11-21T08:00:00Z", "2026-11-21T08:00:00Z");
        check("0 8 * * *", 60, "2026-11-21T08:59:59Z", "2026-11-21T08:00:00Z");
        check("0 8 * * *", 60, "2026-11-21T09:00:00Z", "2026-11-22T08:00:00Z");
        check("0 0 8 ? * MON-FRI", 60, "2026-11-21T09:00:00Z", "2026-11-23T08:00:00Z");
        check("0 23 * * *", 120, "2026-11-22T00:30:00Z", "2026-11-21T23:00:00Z");
        // 2026-11-21 is a Saturday: 6 in cron, 7 in Quartz.
        check("0 8 * * 6", 60, "2026-11-20T08:00:00Z", "2026-11-21T08:00:00Z");
        let quartz = |cron, now, start| check_in(Dialect::Quartz, cron, 10, now, start);
        quartz("0 0 8 ? * 7", "2026-11-20T08:00:00Z", "2026-11-21T08:00:00Z");
        quartz("0 0/15 9-17 ? * 2-6", "2026-11-21T08:00:00Z", "2026-11-23T09:00:00Z");
        quartz("0 0 0 1 1 ? 2030", "2026-11-21T08:00:00Z", "2030-01-01T00:00:00Z");
        quartz("30 0 12 L * ?", "2026-11-21T08:00:00Z", "2026-11-30T12:00:30Z");
        for (dialect, bad) in
            [(Dialect::Cron, "nonsense"), (Dialect::Quartz, "0 8 * * *"), (Dialect::Quartz, "0 0 8 ? * 8")]
        {
            assert!(Schedule::new(bad.to_owned(), dialect, Duration::from_secs(60)).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        let range: Period = "1795228575000/2026-11-21T03:00:00Z".parse().expect("a range");
        assert_eq!(range.start.unix_millis(), 1_795_228_575_000);
        assert_eq!(range.end, time("2026-11-21T03:00:00Z"));
        for bad in ["x", "1/", "5/1", "1/b"] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
        }
    }
}

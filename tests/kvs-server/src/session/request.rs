//! Decides whether a PutMedia call becomes a session.
//!
//! What is wrong with the call is an HTTP error; what is wrong with the media to come (4007, 4008) is accepted with
//! 200 and refused in the acknowledgement stream, as the service does.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::clock::{now_ms, unix_ms};
use crate::config::{Dump, StreamSpec};
use crate::error::{ErrorId, Rejection, ServiceError};
use crate::http::head::{Framing, Head};
use crate::record::{Call, SessionRecord, StreamStatus};
use crate::rule::Rule;
use crate::state::Shared;
use crate::stream::Stream;

/// A producer's start may lie this far in the future: time zones are a common mistake.
const MAX_FUTURE_MS: i64 = 60 * 60 * 1000;

/// An accepted call.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) stream: String,
    pub(crate) session: u64,
    /// Enforce the rules of the service.
    pub(crate) strict: bool,
    pub(crate) framing: Framing,
    pub(crate) expects_continue: bool,
    /// The client does not read before it has sent everything. It would close with unread data, and that reset takes
    /// from the server what it has not read yet.
    pub(crate) answer_last: bool,
    /// Nothing is ever PERSISTED.
    pub(crate) no_retention: bool,
    /// The producer's start in a RELATIVE session, otherwise 0.
    pub(crate) origin_ms: i64,
    pub(crate) dump: Dump,
    pub(crate) request_id: String,
    /// Refused in the acknowledgement stream.
    pub(crate) rejection: Option<Rejection>,
}

/// The stream a PutMedia request names: the header, or in lenient mode the path.
pub(crate) fn stream_name(head: &Head, lenient: bool) -> Option<String> {
    if let Some(name) = head.field("x-amzn-stream-name") {
        return Some(name.to_owned());
    }
    if let Some(arn) = head.field("x-amzn-stream-arn") {
        return arn.split('/').nth(1).map(str::to_owned);
    }
    let last = head.path.rsplit('/').next().filter(|name| !name.is_empty());
    lenient.then(|| last.unwrap_or("lenient").to_owned())
}

/// Whether a request is to be taken without the rules of the service.
pub(crate) fn is_lenient(head: &Head, shared: &Shared) -> bool {
    shared.config.lenient && head.field("authorization").is_none()
}

pub(crate) fn admit(shared: &Shared, head: &Head) -> Result<Admission, ServiceError> {
    let strict = !is_lenient(head, shared);
    let access_key = if strict { Some(shared.authenticate(head, b"")?) } else { None };
    let framing = head.framing().map_err(ServiceError::invalid_argument)?;
    if strict && framing != Framing::Chunked {
        return Err(ServiceError::invalid_argument("Transfer-Encoding must be chunked."));
    }
    let relative = match head.field("x-amzn-fragment-timecode-type") {
        Some("ABSOLUTE") => false,
        Some("RELATIVE") => true,
        None if !strict => false,
        _ => return Err(ServiceError::invalid_argument("x-amzn-fragment-timecode-type must be ABSOLUTE or RELATIVE.")),
    };
    let producer_start = head.field("x-amzn-producer-start-timestamp");
    let producer_start_ms = producer_start.and_then(parse_timestamp_ms);
    let now = Instant::now();

    let mut guard = shared.lock();
    let state = &mut *guard;
    if !strict {
        let name = stream_name(head, true).unwrap_or_default();
        state.create_stream(&StreamSpec { name, retention_hours: 24 }, &shared.config, None);
    }
    let (session, request_id) = (state.next_session(), state.next_request_id());
    let name = stream_name(head, !strict);
    let (by_name, by_arn) = match head.field("x-amzn-stream-arn") {
        Some(arn) if strict => (head.field("x-amzn-stream-name"), Some(arn)),
        _ => (name.as_deref(), None),
    };
    let stream = state.find(by_name, by_arn)?;
    if strict && !stream.admit(Call::PutMedia, now) {
        return Err(ServiceError::modelled(400, "ClientLimitExceededException", "Rate exceeded"));
    }
    let rejection = if strict { refuse_media(stream, relative, producer_start, producer_start_ms, now) } else { None };
    if strict {
        note_missing(stream, head, session);
    }
    let record = SessionRecord {
        id: session,
        opened_at: now_ms(),
        closed_at: None,
        end: None,
        access_key,
        relative,
        producer_start_ms,
        tracks: Vec::new(),
        bytes: 0,
        first_persisted_at: None,
        disturbed: false,
    };
    stream.open_session(record, now);
    Ok(Admission {
        stream: stream.record.name.clone(),
        session,
        strict,
        framing,
        expects_continue: head.expects_continue(),
        answer_last: !strict && head.field("x-amzn-fragment-acknowledgment-required").is_none(),
        no_retention: stream.record.retention_hours == 0,
        origin_ms: producer_start_ms.filter(|_| relative).unwrap_or_default(),
        dump: stream.dump.clone(),
        request_id,
        rejection,
    })
}

fn refuse_media(
    stream: &mut Stream,
    relative: bool,
    start: Option<&str>,
    start_ms: Option<i64>,
    now: Instant,
) -> Option<Rejection> {
    let status = stream.status(now);
    if !matches!(status, StreamStatus::Active | StreamStatus::Updating) {
        return Some(Rejection::new(ErrorId::STREAM_NOT_ACTIVE, format!("the stream is {status:?}")));
    }
    let newest = i64::try_from(unix_ms(SystemTime::now())).unwrap_or(i64::MAX).saturating_add(MAX_FUTURE_MS);
    let invalid = match (start, start_ms) {
        (None, _) => relative,
        (Some(_), None) => true,
        (Some(_), Some(ms)) => ms > newest,
    };
    invalid.then(|| {
        Rejection::new(ErrorId::INVALID_PRODUCER_TIMESTAMP, format!("x-amzn-producer-start-timestamp is {start:?}"))
    })
}

fn note_missing(stream: &mut Stream, head: &Head, session: u64) {
    for (name, expected) in
        [("x-amzn-producer-start-timestamp", None), ("x-amzn-fragment-acknowledgment-required", Some("1"))]
    {
        let value = head.field(name);
        if value.is_none() || expected.is_some() && value != expected {
            stream.violation(Some(session), Rule::MissingHeader, format!("{name} is {value:?}"));
        }
    }
}

/// Seconds since the Unix epoch with a decimal fraction, as milliseconds.
fn parse_timestamp_ms(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) {
        return None;
    }
    let fraction_ms = fraction.bytes().chain(*b"000").take(3).fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
    seconds.parse::<i64>().ok()?.checked_mul(1000)?.checked_add(fraction_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        for (text, ms) in [
            ("1795228575.129", Some(1_795_228_575_129)),
            ("1795228575.5", Some(1_795_228_575_500)),
            ("1795228575.0051", Some(1_795_228_575_005)),
            ("1795228575", Some(1_795_228_575_000)),
            ("", None),
            (".5", None),
            ("1.", None),
            ("-1.0", None),
            ("2026-11-21T00:00:00Z", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_timestamp_ms(text), ms, "{text}");
        }
    }
}

//! AWS IoT Core's limits, kept here, so that what breaks them is never sent: the service closes the connection over it.
//!
//! Pure. From "AWS IoT Core message broker and protocol limits and quotas" and "Reserved topics".

use std::time::{Duration, Instant};

use super::wire::PAYLOAD_MOST;

/// Filters in one SUBSCRIBE.
pub const FILTERS_MOST: usize = 8;
/// Filters of one connection.
pub const SUBSCRIPTIONS_MOST: usize = 50;
const TOPIC_MOST: usize = 256;
const SLASHES_MOST: usize = 7;
const CLIENT_ID_MOST: usize = 128;
/// Reserved topics a device publishes to. Others with a `$` belong to the service.
const PUBLISHED: [&str; 4] =
    ["$aws/things/", "$aws/rules/", "$aws/certificates/create", "$aws/provisioning-templates/"];
/// A second's messages are 100 at most, and 512 KiB: what a burst and the message on top of it add stays below.
const RATE: f64 = 80.0;
const BURST: f64 = 20.0;
const BYTE_RATE: f64 = 256.0 * 1024.0;
const BYTE_BURST: f64 = 64.0 * 1024.0;

/// Whether a message may be published to `topic`. The error is for a person.
pub fn topic(topic: &str) -> Result<(), String> {
    if let Some(c) = topic.chars().find(|c| matches!(c, '+' | '#')) {
        return Err(format!("`{c}` is a wildcard: a topic has none"));
    }
    if topic.starts_with('$') && !PUBLISHED.iter().any(|reserved| topic.starts_with(reserved)) {
        return Err("topics that begin with `$` belong to the broker".to_owned());
    }
    // Basic ingest: "the first three slashes of $aws/rules/rule-name/ are not counted".
    levels(topic, if topic.starts_with("$aws/rules/") { SLASHES_MOST + 3 } else { SLASHES_MOST })
}

/// Whether `filter` may be subscribed to. The error is for a person.
pub fn filter(filter: &str) -> Result<(), String> {
    if filter.starts_with('$') && !filter.starts_with("$aws/") {
        return Err("topics that begin with `$` belong to the broker".to_owned());
    }
    let count = filter.split('/').count();
    for (index, level) in filter.split('/').enumerate() {
        if level.contains('#') && (level != "#" || index + 1 < count) {
            return Err("`#` stands alone, as the last level".to_owned());
        }
        if level.contains('+') && level != "+" {
            return Err("`+` stands for a whole level".to_owned());
        }
    }
    levels(filter, SLASHES_MOST)
}

fn levels(topic: &str, slashes_most: usize) -> Result<(), String> {
    let slashes = topic.matches('/').count();
    if topic.is_empty() {
        return Err("a topic is not empty".to_owned());
    }
    if topic.len() > TOPIC_MOST {
        return Err(format!("{} bytes; a topic has at most {TOPIC_MOST}", topic.len()));
    }
    if slashes > slashes_most {
        return Err(format!("{slashes} slashes; a topic has at most {slashes_most}"));
    }
    if topic.chars().any(char::is_control) {
        return Err("it holds a control character".to_owned());
    }
    Ok(())
}

/// Whether a payload of this many bytes may be published. The error is for a person.
pub fn payload(bytes: usize) -> Result<(), String> {
    if bytes > PAYLOAD_MOST {
        return Err(format!("{bytes} bytes; a message has at most {PAYLOAD_MOST}"));
    }
    Ok(())
}

/// Whether this may be a client id. The error is for a person.
pub fn client_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.len() > CLIENT_ID_MOST {
        return Err(format!("{} bytes; a client id has 1 to {CLIENT_ID_MOST}", id.len()));
    }
    if id.starts_with('$') || id.chars().any(char::is_control) {
        return Err("a client id does not begin with `$` and holds no control character".to_owned());
    }
    Ok(())
}

/// Messages and bytes a second.
#[derive(Debug)]
pub(super) struct Pace {
    messages: f64,
    bytes: f64,
    filled: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { messages: BURST, bytes: BYTE_BURST, filled: now }
    }

    /// Whether a message may be sent now; otherwise, when to ask again.
    pub(super) fn ready(&mut self, now: Instant) -> Result<(), Instant> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.messages = (self.messages + passed * RATE).min(BURST);
        self.bytes = (self.bytes + passed * BYTE_RATE).min(BYTE_BURST);
        self.filled = now;
        // A message may be larger than what is left: the debt is paid before the next.
        if self.messages >= 1.0 && self.bytes > 0.0 {
            return Ok(());
        }
        let wait = ((1.0 - self.messages) / RATE).max(-self.bytes / BYTE_RATE).max(0.001);
        Err(now + Duration::from_secs_f64(wait))
    }

    /// A message has been sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.messages -= 1.0;
        self.bytes -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_filters() {
        let deep = "a/b/c/d/e/f/g/h";
        for (text, is_topic, is_filter) in [
            ("edgecam/gw/door/status", true, true),
            (deep, true, true),
            ("a/b/c/d/e/f/g/h/i", false, false),
            (&"x".repeat(256), true, true),
            (&"x".repeat(257), false, false),
            ("", false, false),
            ("a/+/b", false, true),
            ("a/#", false, true),
            ("#", false, true),
            ("a/#/b", false, false),
            ("a/b+", false, false),
            ("a\0b", false, false),
            ("$SYS/broker", false, false),
            ("$aws/things/gw/shadow/name/edgecam/update/accepted", true, true),
            ("$aws/rules/r/1/2/3/4/5/6/7", true, false),
            ("$aws/events/presence/connected/x", false, true),
            ("$share/group/a", false, false),
        ] {
            assert_eq!(topic(text).is_ok(), is_topic, "topic {text:?}");
            assert_eq!(filter(text).is_ok(), is_filter, "filter {text:?}");
        }
    }

    #[test]
    fn sizes_and_client_ids() {
        assert!(payload(128 << 10).is_ok() && payload((128 << 10) + 1).is_err());
        for (id, is_legal) in [("gw", true), ("", false), (&"x".repeat(128), true), (&"x".repeat(129), false)] {
            assert_eq!(client_id(id).is_ok(), is_legal, "{id}");
        }
    }

    #[test]
    fn never_more_than_a_hundred_a_second() {
        for bytes in [100, 20_000] {
            let start = Instant::now();
            let (mut pace, mut now) = (Pace::new(start), start);
            let mut sent: Vec<Instant> = Vec::new();
            while now < start + Duration::from_secs(5) {
                match pace.ready(now) {
                    Ok(()) => {
                        pace.sent(bytes);
                        sent.push(now);
                    }
                    Err(at) => now = at,
                }
            }
            for (index, at) in sent.iter().enumerate() {
                let within = sent[index..].iter().take_while(|other| **other < *at + Duration::from_secs(1)).count();
                assert!(within <= 100, "{within} in a second");
                assert!(within * bytes <= 512 << 10, "{} bytes in a second", within * bytes);
            }
            assert!(sent.len() > 60, "{} in 5 s", sent.len());
        }
    }
}

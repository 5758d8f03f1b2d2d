//! Streams that the agent fetches, as written → as used.

use super::access::Access;
use super::check::{Result, seconds, span};
use super::source::{Hls, Source};
use super::written;

pub(super) fn hls(written: written::Hls, key: &str) -> Result<Source> {
    let written::Hls { url, username, password_file, password_env, ca_file, insecure, stall_timeout } = written;
    let access = Access { url: &url, username, password_file, password_env };
    let (url, credentials) = access.check(key, &["http", "https"])?;
    let stall_timeout = span(key, "stall_timeout", stall_timeout, seconds(20), (seconds(2), seconds(3600)))?;
    Ok(Source::Hls(Hls { url, credentials, ca_file, insecure, stall_timeout }))
}

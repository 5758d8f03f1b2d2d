//! Streams that the agent fetches, as written → as used.

use super::access::Access;
use super::check::{Result, seconds, span, wrong};
use super::identity::is_stream_name;
use super::source::{Hls, Kvs, Rtsp, Source};
use super::{Aws, Camera, written};

pub(super) fn hls(written: written::Hls, key: &str) -> Result<Source> {
    let written::Hls { url, username, password_file, password_env, ca_file, insecure, stall_timeout } = written;
    let access = Access { url: &url, username, password_file, password_env };
    let (url, credentials) = access.check(key, &["http", "https"])?;
    let stall_timeout = span(key, "stall_timeout", stall_timeout, seconds(20), (seconds(2), seconds(3600)))?;
    Ok(Source::Hls(Hls { url, credentials, ca_file, insecure, stall_timeout }))
}

pub(super) fn kvs(written: written::Kvs, key: &str) -> Result<Source> {
    let written::Kvs { url, region, session, stall_timeout } = written;
    // Names of streams may hold capitals, which a URL's host may not.
    let stream = url.strip_prefix("kvs://").unwrap_or_default().trim_end_matches('/');
    if !is_stream_name(stream) {
        let message = "must be kvs:// and the name of a stream: 1 to 256 letters, digits, `_`, `-` or `.`";
        return wrong(&format!("{key}.url"), message);
    }
    Ok(Source::Kvs(Kvs {
        stream: stream.to_owned(),
        // What the config says beside it is filled in by `in_region`.
        aws: Aws { region, ..Aws::default() },
        session: span(key, "session", session, seconds(3600), (seconds(300), seconds(43_200)))?,
        stall_timeout: span(key, "stall_timeout", stall_timeout, seconds(20), (seconds(2), seconds(3600)))?,
    }))
}

/// Streams that are played are in the region of `aws`, unless they say another. Secrets are there too.
pub(super) fn in_region(cameras: &mut [Camera], aws: &Aws) {
    for camera in cameras {
        for source in [Some(&mut camera.source), camera.sub_stream.as_mut()].into_iter().flatten() {
            if let Source::Rtsp(Rtsp { secret: Some(secret), .. }) = source {
                let region = secret.region().map(str::to_owned).or_else(|| aws.region.clone());
                secret.aws = Aws { region, create_streams: None, ..aws.clone() };
            }
        }
        if let Source::Kvs(kvs) = &mut camera.source {
            let region = kvs.aws.region.take().or_else(|| aws.region.clone());
            kvs.aws = Aws { region, create_streams: None, ..aws.clone() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn streams_that_are_played() {
        let source = |keys: &str| {
            let text = format!("aws: {{region: eu-west-1}}\ncameras: [{{name: a, kvs: {{{keys}}}}}]");
            let config = parse(&text).map_err(|error| error.to_string())?;
            match config.cameras.into_iter().next().map(|camera| camera.source) {
                Some(Source::Kvs(kvs)) => Ok((kvs.stream, kvs.aws.region.unwrap_or_default(), kvs.session.as_secs())),
                other => Err(format!("{other:?}")),
            }
        };
        let found = |stream: &str, region: &str, session| Ok((stream.to_owned(), region.to_owned(), session));
        assert_eq!(source("url: 'kvs://Door-1.b_c'"), found("Door-1.b_c", "eu-west-1", 3600));
        assert_eq!(source("url: 'kvs://x', region: us-east-1, session: 5m"), found("x", "us-east-1", 300));
        for (keys, says) in [
            ("url: 'kvs://a/b'", "a.kvs.url"),
            ("url: 'https://x'", "kvs://"),
            ("url: 'kvs://'", "kvs://"),
            ("url: 'kvs://x', session: 1m", "a.kvs.session: must be 5m to 12h"),
        ] {
            let error = source(keys).expect_err(keys);
            assert!(error.contains(says), "{error}");
        }
    }
}

//! Finds out what stands between the agent and the service: DNS, TLS, clock.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use edgecam_kvs::{Body, Fault, FaultClass, ResponseReader};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Io};
use super::{ControlPlane, Network};
use crate::config::Aws;

/// While the clock is right, and until it is.
const CLOCK_EVERY: Duration = Duration::from_secs(3600);
const CLOCK_RETRY: Duration = Duration::from_secs(60);

/// The service refuses requests whose time is off by more than this.
pub const MAX_CLOCK_SKEW_SECONDS: i64 = 300;

/// How far the clock is off, as last measured: seconds ahead. Shared by all cameras.
#[derive(Clone, Debug, Default)]
pub struct ClockSkew(Arc<Mutex<Option<i64>>>);

impl ClockSkew {
    /// The last measurement.
    pub fn get(&self) -> Option<i64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to tell a person, when it is off by more than the service takes.
    pub fn complaint(&self) -> Option<String> {
        let skew = self.get().filter(|skew| skew.abs() > MAX_CLOCK_SKEW_SECONDS)?;
        let way = if skew > 0 { "ahead" } else { "behind" };
        let seconds = skew.abs();
        Some(format!(
            "this machine's clock is {seconds} s {way}: AWS refuses requests that are 5 minutes off; set the clock"
        ))
    }
}

/// Measures the clock at the start and every hour, and says when it is off: before the service refuses signatures.
pub async fn watch_clock(
    control: Arc<OnceCell<ControlPlane>>,
    network: Arc<Network>,
    aws: Aws,
    skew: ClockSkew,
    cancel: CancellationToken,
) {
    loop {
        let measured = match control.get_or_try_init(|| ControlPlane::new(&aws)).await {
            Ok(control) => {
                let (host, port) = control.endpoint();
                clock_skew(&host, port, &network).await.ok()
            }
            Err(_) => None,
        };
        // The uploads report what is wrong with network and region; here only the clock counts.
        if let Some(seconds) = measured {
            *skew.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seconds);
        }
        if let Some(complaint) = skew.complaint() {
            tracing::error!(skew_seconds = skew.get(), "{complaint}");
        }
        let again = if measured.is_some() && skew.complaint().is_none() { CLOCK_EVERY } else { CLOCK_RETRY };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(again) => {}
        }
    }
}

/// How far this machine's clock is ahead of the one at `host`, in seconds. The way there shows whether name, route and
/// certificate are in order.
pub async fn clock_skew(host: &str, port: u16, network: &Network) -> Result<i64, Fault> {
    let mut connection = Connection::open(host, port, network).await?;
    let request = format!("GET /ping HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let mut out = std::collections::VecDeque::from([bytes::Bytes::from(request)]);
    let mut reader = ResponseReader::default();
    let strange = |message: String| Fault::new(FaultClass::Protocol, message);
    let answer = async {
        loop {
            match poll_fn(|cx| connection.poll(cx, Some(&out))).await {
                Io::Written(count) => {
                    if let Some(front) = out.front_mut() {
                        bytes::Buf::advance(front, count.min(front.len()));
                    }
                    out.retain(|bytes| !bytes.is_empty());
                }
                Io::Read(bytes) => {
                    let mut date = None;
                    let read = reader.push(&bytes, |body| {
                        if let Body::Head(head) = body {
                            date = Some(head.date.clone());
                        }
                    });
                    read.map_err(|error| strange(format!("{host}: {error}")))?;
                    if let Some(date) = date {
                        return date.ok_or_else(|| strange(format!("{host} does not tell the time")));
                    }
                }
                Io::Closed(why) => return Err(strange(format!("{host}: {why}"))),
            }
        }
    };
    let date = tokio::time::timeout(Duration::from_secs(5), answer)
        .await
        .map_err(|_| strange(format!("{host} does not answer")))??;
    let theirs = parse_date(&date).ok_or_else(|| strange(format!("{host} says it is `{date}`")))?;
    let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    Ok(ours - theirs)
}

/// Seconds since the epoch of an HTTP date (RFC 9110 section 5.6.7), in its preferred form.
fn parse_date(text: &str) -> Option<i64> {
    let parsed = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", text).ok()?;
    Some(parsed.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates() {
        assert_eq!(parse_date("Sat, 21 Nov 2026 02:36:15 GMT"), Some(1_795_228_575));
        assert_eq!(parse_date("yesterday"), None);
    }
}

//! Calls of Kinesis Video Streams' control plane: JSON, signed. Five of them are not worth an SDK.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use bytes::Bytes;
use edgecam_kvs::{Fault, FaultClass, JSON, JsonCall};
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use crate::config::identity::environment;
use crate::http::OneShot;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For all of a call.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where calls go, and how.
pub(super) struct Calls {
    http: OneShot,
    base: Url,
    region: String,
}

/// A call that brought nothing.
pub(super) struct Failed {
    pub(super) fault: Fault,
    /// The service's name of the error; empty when it has not answered.
    pub(super) code: String,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, code: String::new() }
    }
}

impl Calls {
    /// Calls in a region, or at the endpoint that AWS's variables name.
    pub(super) fn new(region: &str, tls: Arc<ClientConfig>) -> Result<Self, Fault> {
        let custom = environment("AWS_ENDPOINT_URL_KINESIS_VIDEO").or_else(|| environment("AWS_ENDPOINT_URL"));
        let base = custom.unwrap_or_else(|| {
            let fips = environment("AWS_USE_FIPS_ENDPOINT").is_some_and(|value| value.eq_ignore_ascii_case("true"));
            let (fips, suffix) = (if fips { "-fips" } else { "" }, if region.starts_with("cn-") { ".cn" } else { "" });
            format!("https://kinesisvideo{fips}.{region}.amazonaws.com{suffix}")
        });
        let wrong = |error| Fault::new(FaultClass::Refused, format!("the endpoint `{base}` is no URL: {error}"));
        let url = Url::parse(&base).map_err(wrong)?;
        let http = OneShot::new(tls).with_timeouts(CONNECT_TIMEOUT, TIMEOUT);
        Ok(Self { http, base: url, region: region.to_owned() })
    }

    /// Host and port.
    pub(super) fn endpoint(&self) -> (String, u16) {
        let host = self.base.host_str().unwrap_or_default().to_owned();
        (host, self.base.port_or_known_default().unwrap_or(443))
    }

    /// Makes a call; `about` says for a person what it is about.
    pub(super) async fn call(
        &self,
        operation: &str,
        about: &str,
        body: &Value,
        credentials: &Credentials,
    ) -> Result<Value, Failed> {
        let body = body.to_string();
        let unsent = |text: String| Failed::from(Fault::new(FaultClass::Refused, format!("{operation}: {text}")));
        let request = self.request(operation, &body, credentials).map_err(unsent)?;
        let unreachable = |text: String| {
            Fault::new(FaultClass::Network, format!("kinesisvideo:{operation} could not be reached: {text}"))
        };
        let late = |_| unreachable(format!("no answer within {} s", TIMEOUT.as_secs()));
        let answer = timeout(TIMEOUT, self.http.ask(&self.base, request)).await.map_err(late)?;
        let (head, body) = answer.map_err(|error| unreachable(error.to_string()))?.into_parts();
        if head.status.is_success() {
            return Ok(serde_json::from_slice(&body).unwrap_or_default());
        }
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |keys: &[&str]| keys.iter().find_map(|key| value[*key].as_str()).unwrap_or_default();
        // `name:url` in the header, `namespace#name` in the body.
        let named = head.headers.get("x-amzn-errortype").and_then(|name| name.to_str().ok());
        let code = named.unwrap_or_else(|| text(&["__type", "code"]));
        let code = code.split(':').next().unwrap_or_default();
        let code = code.rsplit('#').next().unwrap_or_default().to_owned();
        let status = head.status.as_u16();
        let class = match (status, code.as_str()) {
            (_, "ClientLimitExceededException" | "ThrottlingException") | (429, _) => FaultClass::Throttled,
            (401 | 403, _) | (_, "NotAuthorizedException") => FaultClass::Credentials,
            (404, _) => FaultClass::NotFound,
            (500.., _) => FaultClass::Service,
            _ => FaultClass::Refused,
        };
        let message = text(&["message", "Message"]);
        let text = format!("kinesisvideo:{operation} on {about} was refused with HTTP {status} {code}: {message}");
        Err(Failed { fault: Fault::new(class, text), code })
    }

    fn request(
        &self,
        operation: &str,
        body: &str,
        credentials: &Credentials,
    ) -> Result<hyper::Request<Full<Bytes>>, String> {
        // A call's path is its name, beginning with a small letter.
        let (first, rest) = operation.split_at_checked(1).unwrap_or_default();
        let path = format!("{}/{}{rest}", self.base.path().trim_end_matches('/'), first.to_ascii_lowercase());
        let host = self.base.host_str().unwrap_or_default();
        let host = self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let call = JsonCall { host: &host, region: &self.region, path: &path, body: body.as_bytes() };
        let signed = call.headers(credentials, SystemTime::now()).map_err(|error| error.to_string())?;
        let mut request = hyper::Request::post(&path).header(HOST, &host).header(CONTENT_TYPE, JSON);
        request = request.header(USER_AGENT, concat!("edgecam/", env!("CARGO_PKG_VERSION")));
        for (name, value) in signed {
            request = request.header(name, value);
        }
        request.body(Full::from(body.to_owned())).map_err(|error| error.to_string())
    }
}

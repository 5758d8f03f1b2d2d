//! Requests to AWS, signed by SigV4: four small calls are not worth four SDKs.

use std::time::SystemTime;

use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use edgecam_kvs::FaultClass;
use serde_json::Value;
use url::Url;

use super::Aws;
use super::batch::Failure;
use crate::config::identity::environment;
use crate::http::{Client, Method, Request, Settings, StatusCode, header::HeaderName};
use crate::upload::ControlPlane;

/// Answers are a few KB.
const ANSWER: usize = 4 << 20;

/// One of AWS's services.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Service {
    Kinesis,
    S3,
    DynamoDb,
    SecretsManager,
}

impl Service {
    /// In the signature and in host names.
    fn name(self) -> &'static str {
        match self {
            Self::Kinesis => "kinesis",
            Self::S3 => "s3",
            Self::DynamoDb => "dynamodb",
            Self::SecretsManager => "secretsmanager",
        }
    }

    /// The standard variable that names another endpoint.
    fn variable(self) -> &'static str {
        match self {
            Self::Kinesis => "AWS_ENDPOINT_URL_KINESIS",
            Self::S3 => "AWS_ENDPOINT_URL_S3",
            Self::DynamoDb => "AWS_ENDPOINT_URL_DYNAMODB",
            Self::SecretsManager => "AWS_ENDPOINT_URL_SECRETS_MANAGER",
        }
    }

    fn custom(self) -> Option<String> {
        environment(self.variable()).or_else(|| environment("AWS_ENDPOINT_URL"))
    }

    /// Where it is; for S3 that of a bucket.
    fn url(self, region: &str, bucket: Option<&str>) -> String {
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let name = self.name();
        match (self.custom(), bucket) {
            (Some(custom), Some(bucket)) => format!("{}/{bucket}", custom.trim_end_matches('/')),
            (Some(custom), None) => custom,
            // A dot in the name would not fit the certificate of the service.
            (None, Some(bucket)) if bucket.contains('.') => {
                format!("https://s3.{region}.amazonaws.com{suffix}/{bucket}")
            }
            (None, Some(bucket)) => format!("https://{bucket}.s3.{region}.amazonaws.com{suffix}"),
            (None, None) => format!("https://{name}.{region}.amazonaws.com{suffix}"),
        }
    }
}

/// One call.
pub(crate) struct Call<'a> {
    pub(crate) service: Service,
    pub(crate) method: Method,
    /// Bucket and key, for S3.
    pub(crate) object: Option<(&'a str, &'a str)>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// What the service answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// A connection to one service.
#[derive(Default)]
pub(crate) struct Connection {
    client: Option<(url::Origin, Client)>,
}

impl Connection {
    /// Signs a call, sends it and reads the answer. Any status is one.
    pub(crate) async fn call(&mut self, aws: &Aws, call: &Call<'_>) -> Result<Answer, Failure> {
        let failed = |fault: edgecam_kvs::Fault| Failure {
            needs_a_person: fault.class.needs_a_person(),
            is_credentials: fault.class == FaultClass::Credentials,
            ..Failure::passing(fault.message)
        };
        let control = aws.control.get_or_try_init(|| ControlPlane::new(&aws.config)).await.map_err(failed)?;
        let credentials = control.credentials().await.map_err(failed)?;
        let region = control.region();
        let wrong = |what: String| Failure::lasting(format!("the request cannot be made: {what}"));
        let base = call.service.url(region, call.object.map(|(bucket, _)| bucket));
        let mut url = Url::parse(&base).map_err(|error| wrong(format!("{base}: {error}")))?;
        if let Some((_, key)) = call.object
            && let Ok(mut path) = url.path_segments_mut()
        {
            path.pop_if_empty().extend(key.split('/'));
        }
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let mut settings = SigningSettings::default();
        if call.service == Service::S3 {
            // S3 takes the key as it is, and wants to know the body's hash.
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.percent_encoding_mode = aws_sigv4::http_request::PercentEncodingMode::Single;
        }
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(call.service.name())
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let headers = call.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers = headers.chain([("host", host.as_str())]);
        let body = SignableBody::Bytes(&call.body);
        let signable = SignableRequest::new(call.method.as_str(), url.as_str(), headers, body)
            .map_err(|error| wrong(error.to_string()))?;
        let (instructions, _) = sign(signable, &params.into()).map_err(|error| wrong(error.to_string()))?.into_parts();
        let mut request = Request::new(call.method.clone(), url.clone(), call.body.clone());
        let own = call.headers.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in own.chain(instructions.headers()) {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| wrong(error.to_string()))?;
            request = request.header(name, value);
        }
        if self.client.as_ref().is_none_or(|(origin, _)| *origin != url.origin()) {
            self.client = Some((url.origin(), Client::new(&url, Settings::default())));
        }
        let Some((_, client)) = &mut self.client else { return Err(wrong(base)) };
        let network = |error: crate::http::HttpError| Failure::passing(error.to_string());
        let answer = client.send(&request).await.map_err(network)?;
        let status = answer.status();
        Ok(Answer { status, body: answer.bytes(ANSWER).await.map_err(network)? })
    }
}

impl Answer {
    /// What a refusal says, for a service that speaks JSON: its type and its text.
    pub(crate) fn json_error(&self) -> (String, String) {
        let value: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |keys: [&str; 2]| keys.iter().find_map(|key| value[key].as_str()).unwrap_or_default().to_owned();
        let kind = text(["__type", "code"]);
        let kind = kind.rsplit('#').next().unwrap_or_default().to_owned();
        (kind, text(["message", "Message"]))
    }

    /// A failure by the kind of error that the service names.
    pub(crate) fn failure(&self, what: &str, kind: &str, message: &str) -> Failure {
        let status = self.status.as_u16();
        let text = format!("{what}: {status} {kind} {message}");
        let text = text.trim().to_owned();
        match kind {
            "ExpiredTokenException"
            | "ExpiredToken"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "MissingAuthenticationTokenException" => Failure { is_credentials: true, ..Failure::lasting(text) },
            "ResourceNotFoundException" | "NoSuchBucket" => {
                Failure::lasting(format!("{text}: create it, or mend its name in the config"))
            }
            "AccessDenied" | "AccessDeniedException" | "KMSAccessDeniedException" => {
                Failure::lasting(format!("{text}: allow it in the policy of the device's role"))
            }
            _ if status == 403 || status == 401 => Failure { is_credentials: true, ..Failure::lasting(text) },
            _ => Failure::passing(text),
        }
    }
}

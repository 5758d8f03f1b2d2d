//! The head of a PutMedia request, signed with SigV4.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use edgecam_media::Timestamp;

/// What a PutMedia request says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PutMedia<'a> {
    /// Host of the data endpoint, with its port unless that is 443.
    pub host: &'a str,
    /// Region of the endpoint.
    pub region: &'a str,
    /// Stream name.
    pub stream: &'a str,
    /// When the first fragment was produced.
    pub start: Timestamp,
}

/// The request could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("a request could not be signed: {0}")]
pub struct SignError(String);

impl PutMedia<'_> {
    /// The request head up to and with the empty line, signed at `time`. The payload hash is that of the empty string:
    /// chunks are not signed.
    pub fn head(&self, credentials: &Credentials, time: SystemTime) -> Result<Vec<u8>, SignError> {
        let millis = self.start.unix_millis().max(0);
        let start = format!("{}.{:03}", millis / 1000, millis % 1000);
        let headers = [
            ("host", self.host),
            ("user-agent", concat!("edgecam/", env!("CARGO_PKG_VERSION"))),
            ("x-amzn-fragment-acknowledgment-required", "1"),
            ("x-amzn-fragment-timecode-type", "ABSOLUTE"),
            ("x-amzn-producer-start-timestamp", &start),
            ("x-amzn-stream-name", self.stream),
        ];
        let error = |text: String| SignError(text);
        if headers.iter().any(|(_, value)| value.bytes().any(|byte| !(0x20..0x7f).contains(&byte))) {
            return Err(error("a header value is not printable ASCII".to_owned()));
        }
        let url = format!("https://{}/putMedia", self.host);
        let signed = signature(&url, self.region, &headers, &[], credentials, time)?;
        let signed = signed.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut head = String::from("POST /putMedia HTTP/1.1\r\n");
        for (name, value) in headers.into_iter().chain(signed) {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        head.push_str("transfer-encoding: chunked\r\n\r\n");
        Ok(head.into_bytes())
    }
}

/// Signs a POST; the headers to add.
pub(crate) fn signature(
    url: &str,
    region: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    credentials: &Credentials,
    time: SystemTime,
) -> Result<Vec<(String, String)>, SignError> {
    let error = |text: String| SignError(text);
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    // The user agent is signed too, as Amazon's producer does.
    settings.excluded_headers = None;
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("kinesisvideo")
        .time(time)
        .settings(settings)
        .build()
        .map_err(|e| error(e.to_string()))?;
    let request = SignableRequest::new("POST", url, headers.iter().copied(), SignableBody::Bytes(body))
        .map_err(|e| error(e.to_string()))?;
    let (instructions, _) = sign(request, &params.into()).map_err(|e| error(e.to_string()))?.into_parts();
    Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_head_is_complete_and_signed() {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("token".to_owned()), None, "test");
        let put = PutMedia {
            host: "s-1.kinesisvideo.eu-west-1.amazonaws.com",
            region: "eu-west-1",
            stream: "door",
            start: Timestamp::from_unix_millis(1_795_228_575_005),
        };
        let time = UNIX_EPOCH + Duration::from_secs(1_795_228_575);
        let head = String::from_utf8(put.head(&credentials, time).expect("signed")).expect("text");
        let lower = head.to_lowercase();
        for part in [
            "post /putmedia http/1.1\r\n",
            "\r\nhost: s-1.kinesisvideo.eu-west-1.amazonaws.com\r\n",
            "\r\nx-amz-date: 20261121t023615z\r\n",
            "\r\nx-amz-security-token: token\r\n",
            "\r\nx-amzn-producer-start-timestamp: 1795228575.005\r\n",
            "credential=akidexample/20261121/eu-west-1/kinesisvideo/aws4_request",
            "\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(lower.contains(part), "{part} in {head}");
        }
        assert!(!head.contains("secret"));
        let split = PutMedia { stream: "a\r\nb", ..put };
        assert!(split.head(&credentials, time).is_err(), "a header cannot be smuggled in");
    }
}

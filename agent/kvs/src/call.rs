//! The headers of a call with a JSON body at a data endpoint, signed with SigV4.

use std::time::SystemTime;

use aws_credential_types::Credentials;

use crate::request::{SignError, signature};

/// A call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonCall<'a> {
    /// Host of the data endpoint, with its port unless that is 443.
    pub host: &'a str,
    /// Region of the endpoint.
    pub region: &'a str,
    /// Path of the call, such as `/getHLSStreamingSessionURL`.
    pub path: &'a str,
    /// Its body.
    pub body: &'a [u8],
}

/// The media type of its body.
pub const JSON: &str = "application/json";

impl JsonCall<'_> {
    /// The headers to send besides Host and Content-Type, which are signed too: names and values.
    pub fn headers(&self, credentials: &Credentials, time: SystemTime) -> Result<Vec<(String, String)>, SignError> {
        let url = format!("https://{}{}", self.host, self.path);
        let headers = [("content-type", JSON), ("host", self.host)];
        signature(&url, self.region, &headers, self.body, credentials, time)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn what_is_signed_is_named() {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("token".to_owned()), None, "test");
        let call =
            JsonCall { host: "b-1.kinesisvideo.eu-west-1.amazonaws.com", region: "eu-west-1", path: "/x", body: b"{}" };
        let time = UNIX_EPOCH + Duration::from_secs(1_795_228_575);
        let headers = call.headers(&credentials, time).expect("signed");
        let value = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let authorization = value("authorization").expect("a signature");
        assert!(
            authorization.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token"),
            "{headers:?}"
        );
        assert!(authorization.contains("Credential=AKIDEXAMPLE/20261121/eu-west-1/kinesisvideo/aws4_request"));
        assert_eq!((value("x-amz-date"), value("x-amz-security-token")), (Some("20261121T023615Z"), Some("token")));
        let other = JsonCall { body: b"{ }", ..call }.headers(&credentials, time).expect("signed");
        assert_ne!(other, headers, "the body is signed");
    }
}

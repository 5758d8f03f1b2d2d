//! AWS Signature Version 4, the verifying side, written from the specification and not from the code that signs.
//!
//! Invariant: a request passes only when every field that must be signed is, and the signature is the one computed
//! here from what arrived. Absent: presigned URLs, chunk signatures, SigV4a.

use std::fmt::Write as _;
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::clock::{format_amz_date, parse_amz_date, unix_ms};
use crate::config::Credentials;
use crate::digest::hex;
use crate::error::ServiceError;
use crate::http::head::Head;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "kinesisvideo";
/// Seconds that a signature may be old, or from the future.
const MAX_SKEW: i64 = 300;

/// The parts of an `Authorization` field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Authorization<'a> {
    pub(crate) access_key: &'a str,
    pub(crate) date: &'a str,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
    pub(crate) signed_headers: Vec<&'a str>,
    pub(crate) signature: &'a str,
}

impl<'a> Authorization<'a> {
    pub(crate) fn parse(value: &'a str) -> Option<Self> {
        let (algorithm, parameters) = value.split_once(' ')?;
        if algorithm != ALGORITHM {
            return None;
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for parameter in parameters.split(',') {
            let slot = match parameter.trim().split_once('=')? {
                ("Credential", value) => credential.replace(value),
                ("SignedHeaders", value) => signed_headers.replace(value),
                ("Signature", value) => signature.replace(value),
                _ => return None,
            };
            if slot.is_some() {
                return None;
            }
        }
        let mut scope = credential?.split('/');
        let (access_key, date, region, service) = (scope.next()?, scope.next()?, scope.next()?, scope.next()?);
        if scope.next() != Some("aws4_request") || scope.next().is_some() {
            return None;
        }
        let signed_headers: Vec<_> = signed_headers?.split(';').collect();
        let in_order = signed_headers.iter().zip(signed_headers.iter().skip(1)).all(|(a, b)| a < b);
        let signature = signature.filter(|signature| signature.len() == 64)?;
        in_order.then_some(Self { access_key, date, region, service, signed_headers, signature })
    }
}

/// Hexadecimal SHA-256 of a payload; the hash that is signed with PutMedia is that of the empty one.
pub(crate) fn payload_hash(payload: &[u8]) -> String {
    hex(&Sha256::digest(payload))
}

/// The canonical request. `None` when a signed field is not there.
pub(crate) fn canonical_request(head: &Head, signed_headers: &[&str], payload_hash: &str) -> Option<String> {
    let mut text = format!("{}\n{}\n{}\n", head.method, encode(&head.path, true), canonical_query(&head.query));
    for &name in signed_headers {
        let values: Vec<_> = head
            .all(name)
            .map(|value| value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
            .collect();
        if values.is_empty() {
            return None;
        }
        writeln!(text, "{name}:{}", values.join(",")).ok()?;
    }
    write!(text, "\n{}\n{payload_hash}", signed_headers.join(";")).ok()?;
    Some(text)
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(&decode(name), false), encode(&decode(value), false)))
        .collect();
    pairs.sort();
    pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(text: &str, keep_slash: bool) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            b'/' if keep_slash => encoded.push('/'),
            _ => encoded.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]),
        }
        encoded
    })
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let pair = tail.first_chunk::<2>().and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.filter(|_| byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hmac(key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(data);
    Some(mac.finalize().into_bytes().to_vec())
}

/// The signature of a canonical request, in hexadecimal.
pub(crate) fn signature(
    secret_key: &str,
    authorization: &Authorization<'_>,
    amz_date: &str,
    canonical_request: &str,
) -> Option<String> {
    let Authorization { date, region, service, .. } = authorization;
    let hash = payload_hash(canonical_request.as_bytes());
    let string_to_sign = format!("{ALGORITHM}\n{amz_date}\n{date}/{region}/{service}/aws4_request\n{hash}");
    let mut key = format!("AWS4{secret_key}").into_bytes();
    for part in [date, region, service, "aws4_request", string_to_sign.as_str()] {
        key = hmac(&key, part.as_bytes())?;
    }
    Some(hex(&key))
}

/// Verifies a request and returns whose it is.
pub(crate) fn verify<'c>(
    head: &Head,
    payload: &[u8],
    credentials: &'c [Credentials],
    region: Option<&str>,
    now: SystemTime,
) -> Result<&'c Credentials, ServiceError> {
    let refuse = |error_type, message: &str| ServiceError::front_end(403, error_type, message);
    let invalid = |message: String| ServiceError::front_end(403, "InvalidSignatureException", message);
    let incomplete = |what: &str| refuse("IncompleteSignatureException", what);

    let header = head
        .field("authorization")
        .ok_or_else(|| refuse("MissingAuthenticationTokenException", "Missing Authentication Token"))?;
    let authorization =
        Authorization::parse(header).ok_or_else(|| incomplete("The Authorization header is not well formed."))?;
    let amz_date = head
        .field("x-amz-date")
        .ok_or_else(|| incomplete("Authorization header requires existence of 'X-Amz-Date' header."))?;
    let at = parse_amz_date(amz_date).ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format'."))?;

    let credential = credentials.iter().find(|credential| credential.access_key == authorization.access_key);
    let token = head.field("x-amz-security-token");
    let credential = credential.filter(|credential| credential.session_token.as_deref() == token).ok_or_else(|| {
        refuse("UnrecognizedClientException", "The security token included in the request is invalid.")
    })?;
    if credential.expires.is_some_and(|expires| expires <= now) {
        return Err(refuse("ExpiredTokenException", "The security token included in the request is expired"));
    }

    if authorization.service != SERVICE {
        return Err(invalid(format!("Credential should be scoped to correct service: '{SERVICE}'.")));
    }
    if region.is_some_and(|region| region != authorization.region) {
        return Err(invalid("Credential should be scoped to a valid region.".to_owned()));
    }
    if !amz_date.starts_with(authorization.date) || authorization.date.len() != 8 {
        return Err(invalid(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date: {amz_date}"
        )));
    }
    let now = i64::try_from(unix_ms(now) / 1000).unwrap_or(i64::MAX);
    let (oldest, newest) = (format_amz_date(now - MAX_SKEW), format_amz_date(now + MAX_SKEW));
    if at < now - MAX_SKEW {
        return Err(invalid(format!(
            "Signature expired: {amz_date} is now earlier than {oldest} ({} - 5 min.)",
            format_amz_date(now)
        )));
    }
    if at > now + MAX_SKEW {
        return Err(invalid(format!(
            "Signature not yet current: {amz_date} is still later than {newest} ({} + 5 min.)",
            format_amz_date(now)
        )));
    }

    let signed = &authorization.signed_headers;
    let must_be_signed = |name: &str| name == "host" || name == "x-amz-date" || name.starts_with("x-amzn-");
    if let Some((name, _)) =
        head.fields.iter().find(|(name, _)| must_be_signed(name) && !signed.contains(&name.as_str()))
    {
        return Err(invalid(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")));
    }
    let expected = canonical_request(head, signed, &payload_hash(payload))
        .and_then(|request| signature(&credential.secret_key, &authorization, amz_date, &request));
    if expected.as_deref() != Some(authorization.signature) {
        return Err(invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing \
             method. Consult the service documentation for details."
                .to_owned(),
        ));
    }
    Ok(credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const DATE: &str = "20150830T123600Z";

    /// From the AWS SigV4 test suite (all on 2015-08-30 in us-east-1), and the example of the AWS documentation (IAM
    /// ListUsers).
    #[test]
    fn published_vectors() {
        let check = |request_line: &str,
                     fields: &[(&str, &str)],
                     service: &str,
                     signed: &str,
                     payload: &str,
                     expected: &str| {
            let mut text = format!("{request_line} HTTP/1.1");
            for (name, value) in fields {
                write!(text, "\r\n{name}:{value}").expect("a string");
            }
            let head = Head::parse(text.as_bytes()).expect("well formed");
            let value = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request, SignedHeaders={signed}, Signature={expected}"
            );
            let authorization = Authorization::parse(&value).expect("well formed");
            let request = canonical_request(&head, &authorization.signed_headers, &payload_hash(payload.as_bytes()))
                .expect("all fields");
            let computed = signature(SECRET, &authorization, DATE, &request);
            assert_eq!(computed.as_deref(), Some(expected), "{request_line}\n{request}");
        };
        let (host, date) = (("Host", "example.amazonaws.com"), ("X-Amz-Date", DATE));
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        check(
            "GET /",
            &[host, date],
            "service",
            "host;x-amz-date",
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        );
        check(
            "POST /",
            &[host, date],
            "service",
            "host;x-amz-date",
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        );
        check(
            "GET /?Param2=value2&Param1=value1",
            &[host, date],
            "service",
            "host;x-amz-date",
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        );
        check(
            "POST /",
            &[form, host, date],
            "service",
            "content-type;host;x-amz-date",
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        );
        check(
            "GET /?Action=ListUsers&Version=2010-05-08",
            &[
                ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("Host", "iam.amazonaws.com"),
                date,
            ],
            "iam",
            "content-type;host;x-amz-date",
            "",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        );
    }

    #[test]
    fn authorization_must_be_well_formed() {
        let scope = "AKIDEXAMPLE/20150830/us-east-1/kinesisvideo/aws4_request";
        let signature = "0".repeat(64);
        for (text, good) in [
            (
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature={signature}"),
                true,
            ),
            (format!("AWS4-HMAC-SHA256 Credential={scope},SignedHeaders=host,Signature={signature}"), true),
            (format!("AWS4-HMAC-SHA1 Credential={scope}, SignedHeaders=host, Signature={signature}"), false),
            (format!("AWS4-HMAC-SHA256 Credential={scope}/x, SignedHeaders=host, Signature={signature}"), false),
            (
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=x-amz-date;host, Signature={signature}"),
                false,
            ),
            (format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=abc"), false),
            (
                format!(
                    "AWS4-HMAC-SHA256 Credential={scope}, Credential={scope}, SignedHeaders=host, Signature={signature}"
                ),
                false,
            ),
            (format!("AWS4-HMAC-SHA256 SignedHeaders=host, Signature={signature}"), false),
            ("Basic abc".to_owned(), false),
        ] {
            assert_eq!(Authorization::parse(&text).is_some(), good, "{text}");
        }
    }
}

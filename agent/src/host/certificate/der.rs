//! The one field of an X.509 certificate (RFC 5280 §4.1) that TLS does not tell us: its end. Pure.

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// [0] EXPLICIT: the version, which is left out of version 1.
const VERSION: u8 = 0xa0;

/// End of the certificate's validity, in seconds since 1970.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (SEQUENCE, validity, _) = element(fields)? else { return None };
    let (_, _, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    seconds(tag, std::str::from_utf8(time).ok()?)
}

/// Tag, content, and what comes behind (X.690 §8.1).
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// YYMMDDHHMMSSZ up to 2049, YYYYMMDDHHMMSSZ from then on (RFC 5280 §4.1.2.5).
fn seconds(tag: u8, text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year_digits = match (tag, digits.len()) {
        (UTC_TIME, 12) => 2,
        (GENERALIZED_TIME, 14) => 4,
        _ => return None,
    };
    let (year, rest) = digits.split_at_checked(year_digits)?;
    let year: i16 = year.parse().ok()?;
    let year = match tag {
        UTC_TIME if year >= 50 => 1900 + year,
        UTC_TIME => 2000 + year,
        _ => year,
    };
    let field = |index: usize| rest.get(index * 2..index * 2 + 2)?.parse::<i8>().ok();
    let at = jiff::civil::DateTime::new(year, field(0)?, field(1)?, field(2)?, field(3)?, field(4)?, 0).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["gw".to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(year, 2, 3);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signed").der().to_vec()
    }

    #[test]
    fn ends_of_certificates() {
        for (year, end) in [(2027, 1_801_612_800), (2049, 2_495_923_200), (2150, 5_683_132_800)] {
            assert_eq!(not_after(&made(year)), Some(end), "{year}");
        }
    }

    #[test]
    fn noise_does_not_panic() {
        let whole = made(2030);
        let mut rng = fastrand::Rng::with_seed(5280);
        for _ in 0..20_000 {
            let mut bytes = whole.get(..rng.usize(..whole.len())).unwrap_or_default().to_vec();
            for _ in 0..rng.usize(..4) {
                let index = rng.usize(..bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(index) {
                    *byte = rng.u8(..);
                }
            }
            not_after(&bytes);
        }
    }
}

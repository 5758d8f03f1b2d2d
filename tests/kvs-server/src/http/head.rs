//! The head of a request: request line and field lines, parsed once and strictly.

use std::str;

/// Longest head that is accepted.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 100;

/// Request line and fields. Field names are lower case, values are trimmed, order is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// How the body of a request is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    Chunked,
    Length(u64),
}

impl Head {
    /// Parses a head without its final empty line.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = str::from_utf8(bytes).map_err(|_| "the head is not UTF-8")?;
        let mut lines = text.split("\r\n");
        let mut request_line = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (request_line.next(), request_line.next(), request_line.next(), request_line.next())
        else {
            return Err("the request line is not three words");
        };
        if version != "HTTP/1.1" {
            return Err("not HTTP/1.1");
        }
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err("the method is not a token");
        }
        if !target.starts_with('/') || target.bytes().any(|b| b.is_ascii_control()) {
            return Err("the target is not in origin form");
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut fields = Vec::new();
        for line in lines {
            if fields.len() == MAX_FIELDS {
                return Err("too many fields");
            }
            let (name, value) = line.split_once(':').ok_or("a field line without colon")?;
            if name.is_empty() || !name.bytes().all(is_token_byte) {
                return Err("a field name is not a token");
            }
            if value.bytes().any(|b| b != b'\t' && b.is_ascii_control()) {
                return Err("a control character in a field value");
            }
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        let head = Self { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), fields };
        if head.all("host").count() != 1 {
            return Err("not exactly one Host");
        }
        Ok(head)
    }

    /// The only field of that name; `None` when it is missing or repeated.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }

    /// All fields of that (lower case) name.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn framing(&self) -> Result<Framing, &'static str> {
        let (codings, lengths) = (self.all("transfer-encoding").count(), self.all("content-length").count());
        match (codings, lengths) {
            (0, 0) => Ok(Framing::Length(0)),
            (1, 0) if self.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) => {
                Ok(Framing::Chunked)
            }
            (0, 1) => self
                .field("content-length")
                .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .map(Framing::Length)
                .ok_or("Content-Length is not a number"),
            _ => Err("the length of the body is ambiguous"),
        }
    }

    pub(crate) fn expects_continue(&self) -> bool {
        self.field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }

    pub(crate) fn wants_close(&self) -> bool {
        self.all("connection")
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case("close"))
    }

    /// A parameter of the query, as written.
    pub(crate) fn query_parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let check = |text: &str| {
            Head::parse(text.replace('\n', "\r\n").as_bytes()).and_then(|head| head.framing().map(|_| head))
        };
        let head = check("POST /putMedia?a=1&b=2 HTTP/1.1\nHost: localhost:1\nX-A:  b c \nContent-Length: 3")
            .expect("well formed");
        assert_eq!(
            (head.path.as_str(), head.query_parameter("b"), head.field("x-a")),
            ("/putMedia", Some("2"), Some("b c"))
        );
        for (text, why) in [
            ("GET / HTTP/1.0\nHost: a", "not HTTP/1.1"),
            ("GET  / HTTP/1.1\nHost: a", "the request line is not three words"),
            ("get / HTTP/1.1\nHost: a", "the method is not a token"),
            ("GET http://a/ HTTP/1.1\nHost: a", "the target is not in origin form"),
            ("GET / HTTP/1.1", "not exactly one Host"),
            ("GET / HTTP/1.1\nHost: a\nHost: a", "not exactly one Host"),
            ("GET / HTTP/1.1\nHost : a", "a field name is not a token"),
            ("GET / HTTP/1.1\nHost: a\n folded", "a field line without colon"),
            ("GET / HTTP/1.1\nHost: a\nContent-Length: +1", "Content-Length is not a number"),
            (
                "GET / HTTP/1.1\nHost: a\nContent-Length: 1\nTransfer-Encoding: chunked",
                "the length of the body is ambiguous",
            ),
            ("GET / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked", "the length of the body is ambiguous"),
        ] {
            assert_eq!(check(text), Err(why), "{text}");
        }
    }
}

//! The response to PutMedia: a head, then chunks while the request is still being sent (RFC 9112 section 7.1).

/// A response head larger than this is refused.
const MAX_HEAD: usize = 16 << 10;
/// Of the body of a refusal this much is kept for the message.
const MAX_ERROR_BODY: usize = 4 << 10;

/// Status and the headers that matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// HTTP status.
    pub status: u16,
    /// `x-amzn-ErrorType`, without what may follow a colon.
    pub error_type: Option<String>,
    /// `x-amzn-RequestId`, for AWS support.
    pub request_id: Option<String>,
    /// `Date`, the service's clock.
    pub date: Option<String>,
}

/// The response breaks HTTP.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the response is not HTTP/1.1: {0}")]
pub struct ResponseError(&'static str);

/// What has been read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// The head is complete.
    Head(&'a Head),
    /// Bytes of the body.
    Data(&'a [u8]),
    /// The body is complete.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Head,
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    Sized(u64),
    UntilClose,
    Done,
}

/// Reads one response, whatever pieces it comes in.
#[derive(Debug)]
pub struct ResponseReader {
    state: State,
    head: Head,
    line: Vec<u8>,
    error_body: Vec<u8>,
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self { state: State::Head, head: Head::default(), line: Vec::new(), error_body: Vec::new() }
    }
}

impl ResponseReader {
    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8], mut event: impl FnMut(Body<'_>)) -> Result<(), ResponseError> {
        while !bytes.is_empty() {
            match self.state {
                State::Head => {
                    let before = self.line.len();
                    self.line.extend_from_slice(bytes);
                    let Some(used) = self.parse_head()? else {
                        if self.line.len() > MAX_HEAD {
                            return Err(ResponseError("the head is too long"));
                        }
                        return Ok(());
                    };
                    self.line.clear();
                    bytes = &bytes[used - before..];
                    // 100 Continue is followed by the real head.
                    if self.head.status != 100 {
                        event(Body::Head(&self.head));
                        if self.state == State::Done {
                            event(Body::End);
                        }
                    }
                }
                State::ChunkSize | State::ChunkEnd | State::Trailer => {
                    let end = bytes.iter().position(|&byte| byte == b'\n');
                    self.line.extend_from_slice(&bytes[..end.map_or(bytes.len(), |end| end + 1)]);
                    if self.line.len() > 1024 {
                        return Err(ResponseError("a chunk's size line is too long"));
                    }
                    let Some(end) = end else { return Ok(()) };
                    bytes = &bytes[end + 1..];
                    self.end_of_line()?;
                    if self.state == State::Done {
                        event(Body::End);
                    }
                }
                State::Chunk(left) | State::Sized(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (data, rest) = bytes.split_at(take);
                    bytes = rest;
                    self.data(data, &mut event);
                    let left = left - take as u64;
                    self.state = match self.state {
                        State::Chunk(_) if left == 0 => State::ChunkEnd,
                        State::Chunk(_) => State::Chunk(left),
                        _ if left == 0 => State::Done,
                        _ => State::Sized(left),
                    };
                    if self.state == State::Done {
                        event(Body::End);
                    }
                }
                State::UntilClose => {
                    self.data(bytes, &mut event);
                    return Ok(());
                }
                State::Done => return Err(ResponseError("bytes after the end of the body")),
            }
        }
        Ok(())
    }

    /// The head, once it is complete.
    pub fn head(&self) -> Option<&Head> {
        (self.state != State::Head).then_some(&self.head)
    }

    /// What the service says in the body of a refusal: the `message` of its JSON, or the text itself.
    pub fn error_message(&self) -> String {
        let json: Option<serde_json::Value> = serde_json::from_slice(&self.error_body).ok();
        let message = json.as_ref().and_then(|json| json.get("message").or_else(|| json.get("Message")));
        match message.and_then(serde_json::Value::as_str) {
            Some(message) => message.to_owned(),
            None => String::from_utf8_lossy(&self.error_body).trim().chars().take(300).collect(),
        }
    }

    fn data(&mut self, data: &[u8], event: &mut impl FnMut(Body<'_>)) {
        if self.head.status == 200 {
            event(Body::Data(data));
        } else {
            let room = MAX_ERROR_BODY - self.error_body.len().min(MAX_ERROR_BODY);
            self.error_body.extend_from_slice(&data[..data.len().min(room)]);
        }
    }

    fn parse_head(&mut self) -> Result<Option<usize>, ResponseError> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let used = match response.parse(&self.line) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(ResponseError("the head cannot be parsed")),
        };
        let header = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
        };
        let status = response.code.unwrap_or(0);
        let chunked = header("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"));
        let length = header("content-length").map(str::parse::<u64>);
        self.state = match (status, chunked, length) {
            (100, ..) => State::Head,
            (_, true, _) => State::ChunkSize,
            (_, false, Some(Ok(0))) => State::Done,
            (_, false, Some(Ok(length))) => State::Sized(length),
            (_, false, Some(Err(_))) => return Err(ResponseError("Content-Length is not a number")),
            (_, false, None) => State::UntilClose,
        };
        let error_type = header("x-amzn-errortype").and_then(|value| value.split(':').next()).map(str::to_owned);
        let request_id = header("x-amzn-requestid").map(str::to_owned);
        let date = header("date").map(str::to_owned);
        self.head = Head { status, error_type, request_id, date };
        Ok(Some(used))
    }

    fn end_of_line(&mut self) -> Result<(), ResponseError> {
        let line = self.line.trim_ascii();
        self.state = match self.state {
            State::ChunkSize => {
                let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
                let text =
                    std::str::from_utf8(digits).map_err(|_| ResponseError("a chunk's size is not hexadecimal"))?;
                match u64::from_str_radix(text, 16) {
                    Ok(0) => State::Trailer,
                    Ok(size) => State::Chunk(size),
                    Err(_) => return Err(ResponseError("a chunk's size is not hexadecimal")),
                }
            }
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::Trailer if line.is_empty() => State::Done,
            State::Trailer => State::Trailer,
            _ => return Err(ResponseError("a chunk does not end where its size says")),
        };
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, piece: usize) -> Result<(u16, String, bool, ResponseReader), ResponseError> {
        let mut reader = ResponseReader::default();
        let (mut status, mut body, mut ended) = (0, Vec::new(), false);
        for piece in text.as_bytes().chunks(piece) {
            reader.push(piece, |event| match event {
                Body::Head(head) => status = head.status,
                Body::Data(data) => body.extend_from_slice(data),
                Body::End => ended = true,
            })?;
        }
        Ok((status, String::from_utf8(body).expect("text"), ended, reader))
    }

    #[test]
    fn responses_in_any_pieces() {
        let check = |text: &str, expected: (u16, &str, bool)| {
            for piece in 1..=text.len() {
                let (status, body, ended, _) = read(text, piece).expect("valid");
                assert_eq!((status, body.as_str(), ended), expected, "in pieces of {piece}: {text}");
            }
        };
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&format!("{chunked}3\r\nabc\r\nA;x=1\r\n0123456789\r\n"), (200, "abc0123456789", false));
        check(&format!("{chunked}1\r\na\r\n0\r\nX: y\r\n\r\n"), (200, "a", true));
        check(&format!("HTTP/1.1 100 Continue\r\n\r\n{chunked}1\r\na\r\n"), (200, "a", false));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", (200, "ab", true));
        check("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", (500, "", true));
    }

    #[test]
    fn refusals_tell_why() {
        let body = r#"{"message":"The security token included in the request is expired"}"#;
        let head =
            "HTTP/1.1 403 Forbidden\r\nx-amzn-ErrorType: NotAuthorizedException:http://x\r\nx-amzn-RequestId: r1";
        let text = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (_, data, ended, reader) = read(&text, 5).expect("valid");
        assert!(data.is_empty() && ended);
        assert_eq!(reader.error_message(), "The security token included in the request is expired");
        let head = reader.head().expect("complete");
        assert_eq!(head.error_type.as_deref(), Some("NotAuthorizedException"));
        assert_eq!(head.request_id.as_deref(), Some("r1"));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for text in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        ] {
            assert!(read(text, 3).is_err(), "{text}");
        }
    }
}

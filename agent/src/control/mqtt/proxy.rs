//! Through an HTTP proxy: CONNECT (RFC 9110 §9.3.6), with basic authentication (RFC 7617) where it is asked for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::settings::Proxy;

/// Longest answer that is read.
const ANSWER_MOST: usize = 8 << 10;
/// Lines of it.
const HEADERS_MOST: usize = 64;

/// Asks the proxy at the other end of `stream` for a connection. The error is for a person.
pub(super) async fn connect<S>(stream: &mut S, proxy: &Proxy, host: &str, port: u16) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // RFC 3986 §3.2.2: an IPv6 address stands in brackets.
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let login = proxy.login.as_ref().map(|login| {
        let credentials = STANDARD.encode(format!("{}:{}", login.username, login.password.expose()));
        format!("Proxy-Authorization: Basic {credentials}\r\n")
    });
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{}\r\n", login.unwrap_or_default());
    let broken = |error: std::io::Error| format!("the proxy broke the connection off: {error}");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    loop {
        // Nothing may be read that is not the proxy's: what follows belongs to TLS. It comes only once we have begun.
        let mut some = [0; 1024];
        let count = stream.read(&mut some).await.map_err(broken)?;
        if count == 0 {
            return Err("the proxy closed the connection without an answer".to_owned());
        }
        answer.extend_from_slice(some.get(..count).unwrap_or_default());
        if let Some(status) = status(&answer)? {
            return match status {
                200..300 => Ok(()),
                407 => Err("the proxy wants another user name and password (HTTP 407)".to_owned()),
                403 => Err(format!("the proxy does not allow connections to {authority} (HTTP 403)")),
                status => Err(format!("the proxy did not connect to {authority}: HTTP {status}")),
            };
        }
        if answer.len() > ANSWER_MOST {
            return Err("the proxy's answer has no end".to_owned());
        }
    }
}

/// The answer's status, once all of its head is there.
fn status(answer: &[u8]) -> Result<Option<u16>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MOST];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(answer) {
        Ok(httparse::Status::Complete(_)) => Ok(response.code),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(format!("what answers is not an HTTP proxy: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;
    use crate::control::mqtt::Login;

    async fn check(answer: &str, expected: Result<(), &str>) -> String {
        let login = Login { username: "u".to_owned(), password: Secret::new("p:w") };
        let proxy = Proxy { host: "proxy".to_owned(), port: 3128, login: Some(login) };
        let (mut ours, mut theirs) = tokio::io::duplex(32 << 10);
        theirs.write_all(answer.as_bytes()).await.expect("room");
        theirs.shutdown().await.expect("closed");
        match (connect(&mut ours, &proxy, "2001:db8::1", 8883).await, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (result, _) => panic!("{answer}: {result:?}"),
        }
        drop(ours);
        let mut request = String::new();
        theirs.read_to_string(&mut request).await.expect("text");
        request
    }

    #[tokio::test]
    async fn asks_and_understands_the_answer() {
        let request = check("HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n", Ok(())).await;
        let expected = "CONNECT [2001:db8::1]:8883 HTTP/1.1\r\nHost: [2001:db8::1]:8883\r\n\
                        Proxy-Authorization: Basic dTpwOnc=\r\n\r\n";
        assert_eq!(request, expected);
        check("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Err("user name and password")).await;
        check("HTTP/1.1 403 Forbidden\r\n\r\n", Err("does not allow")).await;
        check("HTTP/1.1 502 Bad Gateway\r\n\r\n", Err("HTTP 502")).await;
        check("SSH-2.0-OpenSSH_9.2\r\n", Err("not an HTTP proxy")).await;
        check("HTTP/1.1 200 OK\r\n", Err("without an answer")).await;
        check(&format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(10_000)), Err("no end")).await;
    }
}

//! Against servers of a few lines, that answer what a table says.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::secret::Secret;
use crate::config::source::Credentials;
use crate::http::AuthTime;

/// Reads one request with its body and returns it.
async fn hear(tcp: &mut TcpStream) -> Option<String> {
    let mut heard = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&heard).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        if tcp.read_buf(&mut heard).await.ok()? == 0 {
            return None;
        }
    }
}

/// Serves `answers`, each to one request, on as few connections as the client needs; returns what was asked and the
/// number of connections.
async fn serve(listener: TcpListener, answers: Vec<&'static str>) -> (Vec<String>, usize) {
    let mut answers = answers.into_iter().peekable();
    let (mut asked, mut connections) = (Vec::new(), 0);
    while answers.peek().is_some() {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        connections += 1;
        while let Some(request) = hear(&mut tcp).await {
            asked.push(request);
            let Some(answer) = answers.next() else { break };
            let (answer, closes) = answer.strip_suffix("<close>").map_or((answer, false), |answer| (answer, true));
            tcp.write_all(answer.as_bytes()).await.expect("sent");
            if closes {
                break;
            }
            if answers.peek().is_none() {
                // The client closes when it has enough.
                let _hold = timeout(Duration::from_millis(1_200), tcp.read_u8()).await;
                break;
            }
        }
    }
    (asked, connections)
}

async fn listen() -> (TcpListener, Url) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    (listener, Url::parse(&format!("http://user:in-url@127.0.0.1:{port}/a/b?q=1")).expect("a URL"))
}

/// Long enough for a busy machine; the tests of silence wait for it.
fn settings(credentials: bool) -> Settings {
    let credentials =
        credentials.then(|| Credentials { username: "admin".to_owned(), password: Secret::new("s3cret") });
    let timeout = Duration::from_millis(800);
    Settings { credentials, answer_timeout: timeout, idle_timeout: timeout, ..Settings::default() }
}

/// One GET, and what came of it: status and body, or the error.
async fn get(
    settings: Settings,
    redirects: u8,
    answers: Vec<&'static str>,
) -> (Result<(u16, String), HttpError>, Vec<String>, usize) {
    let (listener, url) = listen().await;
    let mut client = Client::new(&url, settings);
    let request = Request::get(url).following(redirects);
    let ask = async {
        let answer = client.send(&request).await?;
        let status = answer.status().as_u16();
        let body = answer.bytes(20).await?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let result = tokio::join!(ask, serve(listener, answers));
    (result.0, result.1.0, result.1.1)
}

#[tokio::test]
async fn bodies_and_their_limits() {
    let check = async |answer: &'static str, expected: Result<(u16, &str), HttpFault>| {
        let (found, asked, _) = get(settings(false), 0, vec![answer]).await;
        assert_eq!(
            found.as_ref().map(|(status, body)| (*status, body.as_str())).map_err(|error| error.fault),
            expected,
            "{answer}"
        );
        assert!(asked[0].starts_with("GET /a/b?q=1 HTTP/1.1\r\n"), "{asked:?}");
        assert!(!asked[0].contains("in-url") && !asked[0].contains("Authorization"), "{asked:?}");
    };
    check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Ok((200, "abc"))).await;
    check("HTTP/1.0 200 OK\r\n\r\nabc<close>", Ok((200, "abc"))).await;
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", Ok((200, "abc")))
        .await;
    check("HTTP/1.1 500 Broken\r\ncontent-length: 1\r\n\r\nx", Ok((500, "x"))).await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\nabc", Err(HttpFault::TooLarge)).await;
    check("HTTP/1.1 200 OK\r\n\r\nabcdefghijklmnopqrstuvwxyz", Err(HttpFault::TooLarge)).await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc<close>", Err(HttpFault::Unreachable)).await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Err(HttpFault::Unreachable)).await;
    check("HTTP/1.1 200 OK\r\nX: ", Err(HttpFault::Unreachable)).await;
    check("SSH-2.0-OpenSSH_9.2\r\n", Err(HttpFault::Malformed)).await;
    check("<close>", Err(HttpFault::Unreachable)).await;
    check("HTTP/1.1 302 Found\r\nLocation: /c\r\nContent-Length: 0\r\n\r\n", Ok((302, ""))).await;
}

#[tokio::test]
async fn heads_without_end() {
    let line: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20)).into_boxed_str());
    let lines: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\n{}", "X: x\r\n".repeat(1000)).into_boxed_str());
    for answer in [line, lines] {
        let (listener, url) = listen().await;
        let mut client = Client::new(&url, settings(false));
        let server = async {
            let (mut tcp, _) = listener.accept().await.expect("a connection");
            hear(&mut tcp).await;
            // It may be closed in the middle.
            tcp.write_all(answer.as_bytes()).await.ok();
        };
        let request = Request::get(url);
        let (answer, ()) = tokio::join!(client.send(&request), server);
        assert_eq!(answer.map(|_| ()).map_err(|error| error.fault), Err(HttpFault::TooLarge));
    }
}

#[tokio::test]
async fn one_connection_is_kept() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let closing = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx<close>";
    for (answers, expected) in [(vec![ok, ok, ok], 1), (vec![ok, closing, ok], 2)] {
        let (listener, url) = listen().await;
        let mut client = Client::new(&url, settings(false));
        let ask = async {
            for _ in 0..3 {
                let request = Request::post(url.clone(), "text/plain", "hello");
                let answer = client.send(&request).await.expect("an answer");
                assert_eq!(answer.bytes(9).await.expect("a body"), "x");
                // The other side has time to close.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop(client);
        };
        let ((), (asked, connections)) = tokio::join!(ask, serve(listener, answers));
        assert_eq!((asked.len(), connections), (3, expected));
        assert!(asked.iter().all(|request| request.ends_with("\r\n\r\nhello")), "{asked:?}");
    }
}

#[tokio::test]
async fn authentication() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let basic = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno";
    let digest = "HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"n\", qop=\"auth\"\r\nContent-Length: 0\r\n\r\n";
    let check = async |settings: Settings, answers: Vec<&'static str>, expected: Result<&str, HttpFault>| {
        let (found, asked, _) = get(settings, 0, answers).await;
        let last = asked.last().expect("a request");
        match expected {
            Ok(scheme) => {
                assert!(found.is_ok(), "{found:?}");
                assert!(last.contains(&format!("\r\nAuthorization: {scheme}")), "{last}");
            }
            Err(fault) => assert_eq!(found.as_ref().map_err(|error| error.fault), Err(fault), "{asked:?}"),
        }
        if let Err(error) = found {
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        asked.len()
    };
    let at_once = || Settings { auth: AuthTime::BasicAtOnce, ..settings(true) };
    // base64 of admin:s3cret
    assert_eq!(check(settings(true), vec![basic, ok], Ok("Basic YWRtaW46czNjcmV0")).await, 2);
    assert_eq!(check(settings(true), vec![digest, ok], Ok("Digest username=\"admin\"")).await, 2);
    assert_eq!(check(at_once(), vec![ok], Ok("Basic YWRtaW46czNjcmV0")).await, 1);
    assert_eq!(check(at_once(), vec![digest, ok], Ok("Digest username=\"admin\"")).await, 2);
    assert_eq!(check(at_once(), vec![basic], Err(HttpFault::Unauthorized)).await, 1);
    assert_eq!(check(settings(true), vec![digest, digest], Err(HttpFault::Unauthorized)).await, 2);
    assert_eq!(check(settings(false), vec![basic], Err(HttpFault::Unauthorized)).await, 1);
}

#[tokio::test]
async fn redirects_are_bounded_and_tell_no_secrets() {
    let there = "HTTP/1.1 302 Found\r\nLocation: ../c?d=e\r\nContent-Length: 0\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let (found, asked, _) = get(settings(false), 2, vec![there, ok]).await;
    assert_eq!(found, Ok((200, "x".to_owned())));
    assert!(asked[1].starts_with("GET /c?d=e HTTP/1.1\r\n"), "{asked:?}");
    let (found, asked, _) = get(settings(false), 2, vec![there, there, there]).await;
    assert_eq!((found.map_err(|error| error.fault), asked.len()), (Err(HttpFault::Malformed), 3));

    // Another origin is not told who one is.
    let (elsewhere, other) = listen().await;
    let (listener, url) = listen().await;
    let redirect: &'static str =
        Box::leak(format!("HTTP/1.1 301 Moved\r\nLocation: {other}\r\nContent-Length: 0\r\n\r\n").into_boxed_str());
    let mut client = Client::new(&url, Settings { auth: AuthTime::BasicAtOnce, ..settings(true) });
    let request = Request::get(url).following(1);
    let ask = async { client.send(&request).await.map(|answer| answer.status().as_u16()) };
    let (status, (first, _), (second, _)) =
        tokio::join!(ask, serve(listener, vec![redirect]), serve(elsewhere, vec![ok]));
    assert_eq!(status, Ok(200));
    assert!(first[0].contains("Authorization: Basic") && !second[0].contains("Authorization"), "{second:?}");
}

#[tokio::test]
async fn streams_are_read_piece_by_piece() {
    let (listener, url) = listen().await;
    let mut client = Client::new(&url, settings(false));
    let (go_on, mut may_go_on) = tokio::sync::mpsc::channel(1);
    let server = async {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        hear(&mut tcp).await;
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\n\r\n").await.expect("sent");
        for piece in [b"one", b"two"] {
            may_go_on.recv().await.expect("the client reads");
            tcp.write_all(piece).await.expect("sent");
        }
        tcp.read_u8().await.expect_err("the client closes")
    };
    let ask = async {
        let request = Request::get(url);
        let mut answer = client.send(&request).await.expect("an answer");
        assert_eq!(answer.header(header::CONTENT_TYPE), Some("multipart/x-mixed-replace"));
        for piece in [&b"one"[..], b"two"] {
            go_on.send(()).await.expect("the server listens");
            assert_eq!(answer.chunk().await.expect("a piece").as_deref(), Some(piece));
        }
        let began = Instant::now();
        let error = answer.chunk().await.expect_err("nothing more comes");
        assert!(
            began.elapsed() >= Duration::from_millis(800) && error.to_string().contains("go on sending"),
            "{error}"
        );
        drop(client);
    };
    tokio::join!(ask, server);
}

#[tokio::test]
async fn what_is_not_there() {
    let (listener, url) = listen().await;
    drop(listener);
    let mut client = Client::new(&url, settings(false));
    let error = client.send(&Request::get(url)).await.map(|_| ()).expect_err("nobody listens");
    assert!(error.to_string().contains("refuses connections"), "{error}");
    let url = Url::parse("http://nowhere.invalid/").expect("a URL");
    let error =
        Client::new(&url, settings(false)).send(&Request::get(url)).await.map(|_| ()).expect_err("no such name");
    assert!(error.to_string().contains("cannot be resolved"), "{error}");
}

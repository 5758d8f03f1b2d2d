//! Faults on command: each does what it says, as often as it says, and then the service is there again.

mod support;

use std::time::{Duration, Instant};

use kvs_server::{
    AckKind, At, Call, Config, Credentials, Cut, ErrorId, Fault, FaultKind, KvsServer, Malformed, SessionEnd,
};
use serde_json::json;
use support::mkv::Sample;
use support::{Client, Request, STREAM, config, start};
use tokio::io::AsyncReadExt;

const PATIENCE: Duration = Duration::from_secs(10);

fn body(fragments: u64) -> Vec<u8> {
    Sample::default().gops(0, fragments, 3).build()
}

/// A whole session of `fragments` fragments without any fault.
async fn healthy(server: &KvsServer, fragments: u64) -> Vec<String> {
    let mut client = Request::put_media(STREAM).session(server).await;
    client.send(&body(fragments)).await.expect("sent");
    client.end().await;
    client.acks().await
}

async fn ended(server: &KvsServer) -> SessionEnd {
    let is_over =
        |record: &kvs_server::StreamRecord| record.sessions.last().is_some_and(|session| session.end.is_some());
    server.wait_until(STREAM, PATIENCE, is_over).await.expect("over");
    server.stream(STREAM).sessions.pop().and_then(|session| session.end).expect("an end")
}

#[tokio::test]
async fn refused_connections() {
    let server = start(config()).await;
    let mut open = Request::put_media(STREAM).session(&server).await;
    server.fault(Fault::always(FaultKind::Refuse { for_ms: None }));
    assert!(Client::connect(server.port()).await.is_err());
    open.send(&body(1)).await.expect("sent");
    assert_eq!(open.ack().await.expect("an ack").as_deref(), Some("BUFFERING 0"), "those that are open stay");
    server.clear_faults();
    Client::connect(server.port()).await.expect("open again");
    server.fault(Fault::once(FaultKind::Refuse { for_ms: Some(100) }));
    assert!(Client::connect(server.port()).await.is_err());
    tokio::time::sleep(Duration::from_millis(150)).await;
    Client::connect(server.port()).await.expect("open again");
}

#[tokio::test]
async fn cuts() {
    let header = Sample::default().build().len() as u64;
    for (at, fragments) in [
        (At::Request, 0),
        (At::Bytes(0), 0),
        (At::Bytes(header), 0),
        (At::Fragment { index: 2, bytes: 100 }, 2),
        (At::Fragment { index: 2, bytes: 1_000_000 }, 3),
    ] {
        for how in [Cut::Reset, Cut::Fin] {
            let server = start(config()).await;
            let fault = server.fault(Fault::once(FaultKind::Cut { at, how }));
            let mut client = Request::put_media(STREAM).send(&server).await;
            client.send(&body(3)).await.ok();
            let mut rest = vec![];
            let read = client.tcp.read_to_end(&mut rest).await;
            match how {
                Cut::Reset => {
                    assert_eq!(read.expect_err("reset").kind(), std::io::ErrorKind::ConnectionReset, "{at:?}")
                }
                Cut::Fin => {
                    assert!(read.is_ok() && !rest.ends_with(b"0\r\n\r\n"), "{at:?}: without the end of the response")
                }
            }
            assert_eq!((ended(&server).await, server.suffered(fault)), (SessionEnd::Cut, 1), "{at:?}");
            assert_eq!(server.stream(STREAM).fragments.len(), fragments, "{at:?}");
            assert_eq!(healthy(&server, 2).await.len(), 6, "once is once");
        }
    }
}

#[tokio::test]
async fn a_running_session_is_cut_at_once() {
    let server = start(config()).await;
    let mut client = Request::put_media(STREAM).session(&server).await;
    client.send(&body(1)).await.expect("sent");
    client.ack().await.expect("an ack");
    server.fault(Fault::once(FaultKind::Cut { at: At::Bytes(0), how: Cut::Reset }).on("another"));
    server.fault(Fault::once(FaultKind::Cut { at: At::Bytes(0), how: Cut::Reset }).on(STREAM));
    assert!(client.ack().await.is_err());
    assert_eq!(ended(&server).await, SessionEnd::Cut);
}

#[tokio::test]
async fn stalls_and_late_answers() {
    for at in [At::Request, At::Bytes(10), At::Fragment { index: 1, bytes: 1 }] {
        let server = start(config()).await;
        server.fault(Fault::once(FaultKind::Stall { at, for_ms: 300 }));
        let began = Instant::now();
        assert_eq!(healthy(&server, 2).await.len(), 6, "{at:?}");
        assert!(began.elapsed() >= Duration::from_millis(300), "{at:?}");
        assert!(server.stream(STREAM).sessions.iter().all(|session| session.disturbed));
    }
}

#[tokio::test]
async fn silence() {
    for at in [At::Request, At::Fragment { index: 2, bytes: 1 }] {
        for read in [true, false] {
            let server = start(config()).await;
            server.fault(Fault::once(FaultKind::Silent { at, read }));
            let mut client = Request::put_media(STREAM).send(&server).await;
            client.send(&body(2)).await.expect("sent");
            let mut buffer = vec![0; 4096];
            let mut answer = 0;
            while let Ok(length) = tokio::time::timeout(Duration::from_millis(200), client.tcp.read(&mut buffer)).await
            {
                answer += length.expect("it stays open");
            }
            assert_eq!(answer == 0, at == At::Request, "{at:?} read {read}");
            assert_eq!(server.stream(STREAM).persisted, 0);
            server.clear_faults();
            assert!(client.tcp.read(&mut buffer).await.is_err(), "reset when cleared");
            assert_eq!(healthy(&server, 1).await.len(), 3);
        }
    }
}

#[tokio::test]
async fn missing_and_late_acknowledgements() {
    for (kind, acks) in [
        (FaultKind::NoAcks, vec![]),
        (FaultKind::DropAcks { kind: AckKind::Persisted }, vec!["BUFFERING 0", "RECEIVED 0"]),
        (FaultKind::DropAcks { kind: AckKind::Buffering }, vec!["RECEIVED 0", "PERSISTED 0"]),
        (FaultKind::DelayAcks { ms: 300 }, vec!["BUFFERING 0", "RECEIVED 0", "PERSISTED 0"]),
    ] {
        let server = start(config()).await;
        server.fault(Fault::once(kind.clone()));
        assert_eq!(healthy(&server, 1).await, acks, "{kind:?}");
        let record = server.stream(STREAM);
        assert_eq!(record.persisted, 1, "{kind:?}: it is stored all the same");
        let acknowledged = record.fragments.iter().filter(|fragment| fragment.acknowledged).count();
        assert_eq!(acknowledged, acks.iter().filter(|ack| ack.starts_with("PERSISTED")).count(), "{kind:?}");
        assert_eq!(healthy(&server, 1).await.len(), 3, "{kind:?}: once is once");
    }
    let server = start(config()).await;
    server.fault(Fault::once(FaultKind::DelayAcks { ms: 300 }));
    let mut client = Request::put_media(STREAM).session(&server).await;
    let began = Instant::now();
    client.send(&body(1)).await.expect("sent");
    client.ack().await.expect("an ack");
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_slow_link_pushes_back() {
    let server = start(config()).await;
    server.fault(Fault::once(FaultKind::Throttle { bits_per_second: 800_000 }));
    let mut client = Request::put_media(STREAM).session(&server).await;
    let frame = [&[0, 0, 0xC3, 0x4C, 0x65][..], &[1; 49_995]].concat();
    let sample = (0..6).fold(Sample::default(), |sample, i| sample.cluster(i * 1000).frame(1, 0, 0x80, &frame));
    let began = Instant::now();
    client.send(&sample.build()).await.expect("sent");
    client.end().await;
    assert_eq!(client.acks().await.len(), 18);
    let seconds = began.elapsed().as_secs_f64();
    assert!((2.5..6.0).contains(&seconds), "300 kB at 100 kB/s took {seconds} s");
    assert_eq!(server.stream(STREAM).violations, [], "the pace is not the producer's");
}

#[tokio::test]
async fn http_errors() {
    let server = start(config()).await;
    let describe = || Request::control("/describeStream", &json!({ "StreamName": STREAM }));
    let http = |call, status| FaultKind::Http { call, status, error: None, message: None };
    server.fault(Fault::times(2, http(Call::PutMedia, 500)).on(STREAM));
    server.fault(Fault::once(http(Call::DescribeStream, 403)));
    for status in [500, 500] {
        assert_eq!(Request::put_media(STREAM).answer(&server).await.0, status);
    }
    assert_eq!(healthy(&server, 1).await.len(), 3);
    assert_eq!(describe().answer(&server).await.1, "AccessDeniedException");
    assert_eq!(describe().answer(&server).await.0, 200);
    let custom = FaultKind::Http {
        call: Call::DescribeStream,
        status: 400,
        error: Some("Odd".into()),
        message: Some("why".into()),
    };
    server.fault(Fault::once(custom));
    assert_eq!(describe().answer(&server).await, (400, "Odd".to_owned(), json!({ "Message": "why" })));
    for close in [true, false] {
        server.fault(Fault::once(FaultKind::Unanswered { call: Call::DescribeStream, close }));
        let mut client = describe().send(&server).await;
        let read = tokio::time::timeout(Duration::from_millis(200), client.tcp.read(&mut [0; 16])).await;
        assert_eq!(read.is_ok(), close);
    }
}

#[tokio::test]
async fn error_acknowledgements() {
    for id in [4004, 4006, 5000, 4500, 4999] {
        let server = start(config()).await;
        server.fault(Fault::once(FaultKind::ErrorAck { id: ErrorId(id), fragment: 2 }));
        let mut client = Request::put_media(STREAM).session(&server).await;
        client.send(&body(3)).await.ok();
        let acks = client.acks().await;
        let error = format!("ERROR 1000 {id}");
        assert_eq!(acks, ["BUFFERING 0", "RECEIVED 0", "BUFFERING 1000", "PERSISTED 0", error.as_str()]);
        assert_eq!(ended(&server).await, SessionEnd::Error(ErrorId(id)));
        let errors: Vec<_> = server.stream(STREAM).fragments.into_iter().map(|fragment| fragment.error).collect();
        assert_eq!(errors, [None, Some(ErrorId(id))]);
        assert_eq!(healthy(&server, 3).await.len(), 9);
    }
}

#[tokio::test]
async fn malformed_acknowledgements() {
    let lines = |how| async move {
        let server = start(Config { persist_delay: Duration::ZERO, ..config() }).await;
        server.fault(Fault::once(FaultKind::MalformedAcks { how, kind: Some(AckKind::Persisted) }));
        let mut client = Request::put_media(STREAM).session(&server).await;
        client.send(&body(1)).await.expect("sent");
        client.end().await;
        let mut chunks = vec![];
        while let Some(chunk) = client.chunk().await.expect("a chunk") {
            chunks.push(chunk);
        }
        chunks.split_off(2)
    };
    let persisted = r#"{"EventType":"PERSISTED","FragmentTimecode":0,"#;
    for (how, chunks, beginning) in [
        (Malformed::SplitChunks, 3, "{\"EventType\":"),
        (Malformed::SplitSegments, 1, persisted),
        (Malformed::Coalesced, 1, persisted),
        (Malformed::NoTimecode, 1, r#"{"EventType":"PERSISTED","FragmentNumber":"9"#),
        (Malformed::NegativeTimecode, 1, r#"{"EventType":"PERSISTED","FragmentTimecode":-1,"#),
        (Malformed::UnknownEvent, 2, r#"{"EventType":"COMPACTED""#),
        (Malformed::UnknownFields, 1, r#"{"Version":"#),
        (Malformed::NumericFragmentNumber, 1, r#"{"EventType":"PERSISTED","FragmentTimecode":0,"FragmentNumber":9"#),
        (Malformed::Garbage, 2, "}{ 502"),
        (Malformed::Wrapped, 1, r#"{"Acknowledgement":{"EventType":"#),
    ] {
        let got = lines(how).await;
        assert_eq!(got.len(), chunks, "{how:?}: {got:?}");
        assert!(got.concat().starts_with(beginning) && got.concat().ends_with('\n'), "{how:?}: {got:?}");
    }
}

#[tokio::test]
async fn tokens_expire() {
    let credentials = Credentials::new("ASIA", "secret").with_token("token", None);
    let server = start(Config { credentials: vec![credentials.clone()], ..config() }).await;
    let request = || Request::put_media(STREAM).credentials(credentials.clone()).field("x-amz-security-token", "token");
    let mut running = request().session(&server).await;
    server.fault(Fault::once(FaultKind::ExpireToken));
    assert_eq!(request().answer(&server).await.1, "ExpiredTokenException");
    running.send(&body(1)).await.expect("sent");
    running.end().await;
    assert_eq!(running.acks().await.len(), 3, "a running session is not touched");
    server.set_credentials(credentials.clone());
    request().session(&server).await;
}

//! Sessions without faults: acknowledgements, records, the service's refusals, overlap, and what lenient mode takes.

mod support;

use std::time::Duration;

use kvs_server::{Config, Dump, ErrorId, Rule, SessionEnd, StreamSpec, StreamStatus, payload_hash};
use support::mkv::{IDR, Sample};
use support::{Client, Request, STREAM, config, start};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn acknowledgements_in_order() {
    let server = start(Config { dump: Dump::Memory, ..config() }).await;
    let mut client = Request::put_media(STREAM).session(&server).await;
    let sample = Sample::default().tag("lens", "wide").gops(1000, 1, 2);
    let (first, second) = (sample.clone().build(), Sample::default().gops(2000, 1, 2).end_of_fragment().body);
    client.send(&first).await.expect("sent");
    assert_eq!(client.ack().await.expect("an ack").as_deref(), Some("BUFFERING 1000"), "before the fragment is whole");
    client.send(&second).await.expect("sent");
    let mut acks = vec![];
    for _ in 0..5 {
        acks.push(client.ack().await.expect("an ack").expect("not the end"));
    }
    assert_eq!(acks, ["RECEIVED 1000", "BUFFERING 2000", "RECEIVED 2000", "PERSISTED 1000", "PERSISTED 2000"]);
    client.send(&Sample::default().gops(3000, 1, 2).body).await.expect("sent");
    client.end().await;
    assert_eq!(client.acks().await, ["BUFFERING 3000", "RECEIVED 3000", "PERSISTED 3000"]);

    let record = server.stream(STREAM);
    assert_eq!((record.persisted, record.received, record.errors.len()), (3, 3, 0));
    assert_eq!(record.violations, []);
    let session = record.sessions.first().expect("a session");
    assert_eq!((session.end.clone(), session.relative, session.tracks.len()), (Some(SessionEnd::EndOfBody), false, 1));
    assert!(
        session.first_persisted_at >= Some(session.opened_at) && session.access_key.as_deref() == Some("AKIDEXAMPLE")
    );
    let fragment = record.fragments.first().expect("a fragment");
    assert_eq!(fragment.tags, [("lens".to_owned(), "wide".to_owned())]);
    assert!(fragment.acknowledged && fragment.number.len() == 47);
    let blocks: Vec<_> = fragment.blocks.iter().map(|block| (block.timestamp_ms, block.key)).collect();
    assert_eq!(blocks, [(1000, true), (1450, false), (1900, false)]);
    assert_eq!(fragment.blocks.first().and_then(|block| block.sha256.clone()), Some(payload_hash(IDR)));
    let whole = sample.gops(2000, 1, 2).gops(3000, 1, 2).build();
    let dumps: Vec<_> = server.dumped(STREAM).into_iter().map(|dump| dump.mkv).collect();
    assert_eq!(dumps, [whole]);
}

#[tokio::test]
async fn refusals_in_the_acknowledgement_stream() {
    let good = || Sample::default().gops(1000, 1, 1);
    for (what, request, body, acks) in [
        (
            "timecode",
            Request::put_media(STREAM),
            good().gops(1000, 1, 1).build(),
            vec!["BUFFERING 1000", "RECEIVED 1000", "BUFFERING 1000", "PERSISTED 1000", "ERROR 1000 4004"],
        ),
        ("garbage", Request::put_media(STREAM), b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec!["ERROR 4006"]),
        (
            "second header",
            Request::put_media(STREAM),
            [good().build(), good().build()].concat(),
            vec!["BUFFERING 1000", "ERROR 1000 4006"],
        ),
        (
            "producer start",
            Request::put_media(STREAM).field("x-amzn-producer-start-timestamp", "today"),
            vec![],
            vec!["ERROR 4007"],
        ),
        (
            "start in 2100",
            Request::put_media(STREAM).field("x-amzn-producer-start-timestamp", "4102444800.0"),
            vec![],
            vec!["ERROR 4007"],
        ),
        ("deleted", Request::put_media("gone"), vec![], vec!["ERROR 4008"]),
    ] {
        let server = start(config()).await;
        server.create_stream("gone", 24);
        server.set_stream_status("gone", StreamStatus::Deleting);
        let mut client = request.session(&server).await;
        client.send(&body).await.ok();
        assert_eq!(client.acks().await, acks, "{what}");
        let stream = if what == "deleted" { "gone" } else { STREAM };
        let record = server.stream(stream);
        let id = acks
            .last()
            .and_then(|ack| ack.rsplit(' ').next())
            .and_then(|id| id.parse().ok())
            .map(ErrorId)
            .expect("an id");
        assert_eq!(record.errors.first().map(|error| error.id), Some(id), "{what}");
        assert_eq!(
            record.sessions.first().and_then(|session| session.end.clone()),
            Some(SessionEnd::Error(id)),
            "{what}"
        );
    }
}

#[tokio::test]
async fn no_retention_means_no_persisted() {
    let server =
        start(Config { streams: vec![StreamSpec { name: STREAM.to_owned(), retention_hours: 0 }], ..config() }).await;
    let mut client = Request::put_media(STREAM).session(&server).await;
    client.send(&Sample::default().gops(0, 2, 1).build()).await.expect("sent");
    client.end().await;
    assert_eq!(client.acks().await, ["BUFFERING 0", "RECEIVED 0", "BUFFERING 1000", "RECEIVED 1000"]);
}

#[tokio::test]
async fn relative_sessions_are_acknowledged_as_sent_and_recorded_as_absolute() {
    let server = start(config()).await;
    let request = Request::put_media(STREAM).field("x-amzn-fragment-timecode-type", "RELATIVE");
    let mut client = request.field("x-amzn-producer-start-timestamp", "1000.500").session(&server).await;
    client.send(&Sample::default().gops(20, 1, 1).build()).await.expect("sent");
    client.end().await;
    assert_eq!(client.acks().await, ["BUFFERING 20", "RECEIVED 20", "PERSISTED 20"]);
    let fragment = server.stream(STREAM).fragments.remove(0);
    assert_eq!((fragment.timecode, fragment.first_ms), (20, Some(1_000_520)));
}

#[tokio::test]
async fn time_limits() {
    let ms = Duration::from_millis;
    let quick = Config { idle_timeout: ms(500), idle_ack_every: ms(200), ..config() };
    let short = Config { max_connection: Some(ms(300)), ..config() };
    for (config, acks, end) in [
        (quick, vec!["BUFFERING 0", "IDLE", "IDLE"], SessionEnd::Idle),
        (short, vec!["BUFFERING 0", "ERROR 0 4003"], SessionEnd::Error(ErrorId::MAX_CONNECTION_DURATION_REACHED)),
    ] {
        let server = start(config).await;
        let mut client = Request::put_media(STREAM).session(&server).await;
        client.send(&Sample::default().gops(0, 1, 1).build()).await.expect("sent");
        assert_eq!(client.acks().await, acks);
        assert_eq!(server.stream(STREAM).sessions.first().and_then(|session| session.end.clone()), Some(end));
    }
}

#[tokio::test]
async fn the_newest_session_wins() {
    let server = start(Config { overlap_grace: Duration::from_millis(300), ..config() }).await;
    let rules = || server.stream(STREAM).violations.into_iter().map(|violation| violation.rule).collect::<Vec<_>>();
    let ends = || server.stream(STREAM).sessions.into_iter().map(|session| session.end).collect::<Vec<_>>();
    let session = || async { Request::put_media(STREAM).session(&server).await };

    let (mut draining, part) = (session().await, Sample::default().gops(0, 1, 1).build());
    let (begin, rest) = part.split_at(part.len() - 5);
    draining.send(begin).await.expect("sent");
    let mut newer = session().await;
    newer.send(&Sample::default().gops(1000, 1, 1).build()).await.expect("sent");
    server.wait_until(STREAM, PATIENCE, |record| record.fragments.len() == 2).await.expect("both");
    draining.send(rest).await.expect("sent");
    draining.end().await;
    assert_eq!(draining.acks().await, ["BUFFERING 0", "RECEIVED 0", "PERSISTED 0"]);
    assert_eq!((rules(), ends()), (vec![], vec![Some(SessionEnd::EndOfBody), None]), "the older one only drained");

    let mut newest = session().await;
    newest.send(&Sample::default().gops(2000, 1, 1).build()).await.expect("sent");
    server.wait_until(STREAM, PATIENCE, |record| record.fragments.len() == 3).await.expect("all three");
    newer.send(&Sample::default().gops(2000, 1, 1).body).await.expect("sent");
    assert_eq!(newer.acks().await, ["BUFFERING 1000", "RECEIVED 1000", "BUFFERING 2000", "PERSISTED 1000"]);
    assert_eq!(rules(), [Rule::ConcurrentSession, Rule::ConcurrentSession], "it went on, and it stayed");
    assert_eq!(ends(), [Some(SessionEnd::EndOfBody), Some(SessionEnd::Replaced), None]);
}

#[tokio::test]
async fn pace_and_missing_headers() {
    let server = start(config()).await;
    let mut client =
        Request::put_media(STREAM).without("x-amzn-fragment-acknowledgment-required").session(&server).await;
    client.send(&Sample::default().gops(0, 9, 1).build()).await.expect("sent");
    client.end().await;
    assert_eq!(client.acks().await.len(), 27);
    let rules: Vec<_> = server.stream(STREAM).violations.into_iter().map(|violation| violation.rule).collect();
    assert_eq!(rules, [Rule::MissingHeader, Rule::FragmentRate, Rule::FragmentRate, Rule::FragmentRate]);
}

#[tokio::test]
async fn unfinished_sessions_lose_what_was_not_persisted() {
    let server = start(Config { persist_delay: Duration::from_millis(200), ..config() }).await;
    let mut client = Request::put_media(STREAM).session(&server).await;
    client.send(&Sample::default().gops(0, 2, 3).build()).await.expect("sent");
    server.wait_until(STREAM, PATIENCE, |record| record.received == 1).await.expect("the first");
    drop(client);
    server
        .wait_until(STREAM, PATIENCE, |record| record.sessions.iter().all(|session| session.end.is_some()))
        .await
        .expect("closed");
    let record = server.stream(STREAM);
    assert_eq!((record.persisted, record.fragments.len()), (0, 2));
    let partial = record.fragments.last().expect("the second");
    assert_eq!((partial.received_at, partial.block_count), (None, 4), "what came of it is recorded");
}

#[tokio::test]
async fn bad_framing_ends_the_session() {
    let server = start(config()).await;
    let mut client = Request::put_media(STREAM).session(&server).await;
    client.write(b"xyz\r\n").await.expect("sent");
    assert_eq!(client.acks().await, Vec::<String>::new());
    let record = server.stream(STREAM);
    assert_eq!(record.violations.first().map(|violation| violation.rule), Some(Rule::HttpFraming));
    assert!(matches!(record.sessions.first().and_then(|session| session.end.clone()), Some(SessionEnd::BadFraming(_))));
}

#[tokio::test]
async fn down_and_up_again() {
    let server = start(config()).await;
    let mut client = Request::put_media(STREAM).session(&server).await;
    client.send(&Sample::default().gops(0, 1, 1).build()).await.expect("sent");
    client.ack().await.expect("an ack");
    for _ in 0..2 {
        server.stop().await.expect("down");
        assert!(client.ack().await.is_err());
        server.clear_faults();
        assert!(Client::connect(server.port()).await.is_err());
        server.restart().expect("up");
        client = Request::put_media(STREAM).session(&server).await;
    }
    client.send(&Sample::default().gops(0, 1, 1).build()).await.expect("sent");
    client.end().await;
    server.wait_persisted(STREAM, 1, PATIENCE).await.expect("persisted");
    let error = server.wait_persisted(STREAM, 2, Duration::from_millis(20)).await.expect_err("there is no second");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    let ends: Vec<_> = server.stream(STREAM).sessions.into_iter().map(|session| session.end).take(2).collect();
    assert_eq!(ends, [Some(SessionEnd::Stopped), Some(SessionEnd::Stopped)]);
}

#[tokio::test]
async fn lenient() {
    let server = start(Config { lenient: true, ..config() }).await;
    let body = Sample { timecode_scale: None, codec_private: vec![], ..Sample::default() }
        .gops(9000, 2, 1)
        .gops(0, 7, 1)
        .build();
    for (head, stream) in [
        ("POST /some/where HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "where"),
        (
            "POST /putMedia HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nx-amzn-stream-name: named\r\n\r\n",
            "named",
        ),
    ] {
        let mut client = Client::connect(server.port()).await.expect("a connection");
        client.write(head.as_bytes()).await.expect("sent");
        client.send(&body).await.expect("sent");
        client.end().await;
        assert_eq!((client.head().await.0, client.acks().await.len()), (200, 27));
        let record = server.stream(stream);
        assert_eq!((record.persisted, record.violations.len()), (9, 0), "{stream}");
    }
    assert_eq!(Request::put_media("nobody").answer(&server).await.0, 404, "who signs is held to the rules");
}

//! Requests before any media: control plane, signatures, limits, TLS, admin.

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kvs_server::{Call, Config, Credentials, Outcome, Playback, Rule, StreamStatus};
use serde_json::{Value, json};
use support::{Client, Request, STREAM, config, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

#[tokio::test]
async fn calls() {
    let server = start(config()).await;
    let arn = server.stream(STREAM).arn;
    let endpoint = json!({ "DataEndpoint": server.endpoint() });
    let too_many: serde_json::Map<String, Value> = (0..51).map(|i| (format!("k{i}"), json!("v"))).collect();
    for (path, body, status, error) in [
        ("/describeStream", json!({ "StreamName": STREAM }), 200, ""),
        ("/describeStream", json!({ "StreamARN": arn }), 200, ""),
        ("/describeStream", json!({ "StreamName": "nobody" }), 404, "ResourceNotFoundException"),
        ("/describeStream", json!({}), 400, "InvalidArgumentException"),
        ("/describeStream", json!([]), 400, "SerializationException"),
        ("/createStream", json!({ "StreamName": STREAM }), 400, "ResourceInUseException"),
        ("/createStream", json!({ "StreamName": "a b" }), 400, "InvalidArgumentException"),
        (
            "/createStream",
            json!({ "StreamName": "new", "DataRetentionInHours": 2, "MediaType": "video/h264" }),
            200,
            "",
        ),
        ("/tagStream", json!({ "StreamARN": arn, "Tags": { "a": "b" } }), 200, ""),
        ("/tagStream", json!({ "StreamARN": arn, "Tags": too_many }), 400, "TagsPerResourceExceededLimitException"),
        ("/getDataEndpoint", json!({ "StreamName": STREAM, "APIName": "PUT_MEDIA" }), 200, ""),
        ("/getDataEndpoint", json!({ "StreamName": STREAM, "APIName": "PUT" }), 400, "InvalidArgumentException"),
        ("/deleteStream", json!({ "StreamARN": arn }), 404, "UnknownOperationException"),
    ] {
        let (got, error_type, answer) = Request::control(path, &body).answer(&server).await;
        assert_eq!((got, error_type.as_str()), (status, error), "{path} {body}: {answer}");
        if path == "/getDataEndpoint" && status == 200 {
            assert_eq!(answer, endpoint);
        }
    }
    let (_, _, described) = Request::control("/describeStream", &json!({ "StreamName": "new" })).answer(&server).await;
    let info = &described["StreamInfo"];
    assert_eq!(
        (&info["Status"], &info["DataRetentionInHours"], &info["StreamName"]),
        (&json!("ACTIVE"), &json!(2), &json!("new"))
    );
    let record = server.stream(STREAM);
    assert_eq!(record.tags.get("a").map(String::as_str), Some("b"));
    assert!(
        record.attempts.iter().any(|attempt| attempt.call == Call::TagStream && attempt.outcome == Outcome::Answered)
    );
    assert_eq!(
        server.stray_attempts().len(),
        4,
        "for nobody, 'a b', and twice for nothing; unknown paths are no calls"
    );
}

#[tokio::test]
async fn one_connection_serves_many_calls() {
    let server = start(config()).await;
    let request = Request::control("/describeStream", &json!({ "StreamName": STREAM }));
    let mut client = request.send(&server).await;
    for _ in 0..3 {
        assert_eq!(client.answer().await.0, 200);
        let again = [request.head(&format!("localhost:{}", server.port())).as_bytes(), &request.body].concat();
        client.write(&again).await.expect("written");
    }
    assert_eq!((client.answer().await.0, server.connections()), (200, 1));
}

#[tokio::test]
async fn signatures() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let now = SystemTime::now();
    let temporary = Credentials::new("ASIATEMPORARY", "secret").with_token("token", Some(now + minutes(10)));
    let expired = Credentials::new("ASIAEXPIRED", "secret").with_token("token", Some(now - minutes(1)));
    let server =
        start(Config { credentials: vec![Credentials::example(), temporary.clone(), expired.clone()], ..config() })
            .await;
    let good = || Request::put_media("nobody");
    let signed_token =
        |credentials: &Credentials| good().credentials(credentials.clone()).field("x-amz-security-token", "token");
    let control = || Request::control("/describeStream", &json!({ "StreamName": "nobody" }));
    let passes = "ResourceNotFoundException";
    for (what, request, error) in [
        ("good", good(), passes),
        ("good, control plane", control(), passes),
        ("signed token", signed_token(&temporary), passes),
        ("unsigned token", good().credentials(temporary.clone()).unsigned("x-amz-security-token", "token"), passes),
        ("five minutes less a bit", Request { at: now - minutes(5) + Duration::from_secs(5), ..good() }, passes),
        ("unsigned content type", good().unsigned("content-type", "application/json"), passes),
        ("expired token", signed_token(&expired), "ExpiredTokenException"),
        ("no token", good().credentials(temporary.clone()), "UnrecognizedClientException"),
        ("wrong token", signed_token(&temporary).field("x-amz-security-token", "other"), "UnrecognizedClientException"),
        ("token with a long-term key", good().field("x-amz-security-token", "token"), "UnrecognizedClientException"),
        ("unknown key", good().credentials(Credentials::new("AKIDNOBODY", "secret")), "UnrecognizedClientException"),
        ("wrong secret", good().credentials(Credentials::new("AKIDEXAMPLE", "secret")), "InvalidSignatureException"),
        ("old", Request { at: now - minutes(6), ..good() }, "InvalidSignatureException"),
        ("from the future", Request { at: now + minutes(6), ..good() }, "InvalidSignatureException"),
        ("other service", Request { service: "kinesis".to_owned(), ..good() }, "InvalidSignatureException"),
        (
            "unsigned header",
            good().without("x-amzn-stream-name").unsigned("x-amzn-stream-name", "nobody"),
            "InvalidSignatureException",
        ),
        ("signed body", Request { body: b"x".to_vec(), ..good() }, "InvalidSignatureException"),
    ] {
        let (status, error_type, body) = request.answer(&server).await;
        assert_eq!((error_type.as_str(), status), (error, if error == passes { 404 } else { 403 }), "{what}: {body}");
    }

    let host = format!("localhost:{}", server.port());
    let head = good().head(&host);
    for (what, altered, error) in [
        ("stream", head.replace("x-amzn-stream-name: nobody", "x-amzn-stream-name: cam1"), "InvalidSignatureException"),
        ("host", head.replace(&format!("host: {host}"), "host: elsewhere"), "InvalidSignatureException"),
        ("agent", head.replace("test/1.0", "test/1.1"), "InvalidSignatureException"),
        ("spaces", head.replace("(two  spaces)", "(two spaces)"), passes),
        ("scope", head.replace("eu-west-1", "eu-west-2"), "InvalidSignatureException"),
        ("signed header gone", head.replace("user-agent: test", "user-spy: test"), "InvalidSignatureException"),
        ("no date", head.replace("x-amz-date", "x-amz-day"), "IncompleteSignatureException"),
        ("no signature", head.replace("Authorization", "Authority"), "MissingAuthenticationTokenException"),
        ("half a signature", head.replace("Signature=", "Sign="), "IncompleteSignatureException"),
    ] {
        let mut client = Client::connect(server.port()).await.expect("a connection");
        client.write(altered.as_bytes()).await.expect("written");
        assert_eq!(client.answer().await.1, error, "{what}");
    }
    let mut altered = control();
    let head = altered.head(&host);
    altered.body = altered.body.iter().map(|byte| if *byte == b'n' { b'm' } else { *byte }).collect();
    let mut client = Client::connect(server.port()).await.expect("a connection");
    client.write(&[head.as_bytes(), &altered.body].concat()).await.expect("written");
    assert_eq!(client.answer().await.1, "InvalidSignatureException", "altered body");

    server.set_credentials(Credentials::new("AKIDEXAMPLE", "rotated"));
    assert_eq!(good().answer(&server).await.1, "InvalidSignatureException");
    server.add_credentials(temporary.clone());
    assert_eq!(signed_token(&temporary).answer(&server).await.1, passes);
}

#[tokio::test]
async fn put_media_requests() {
    let server = start(config()).await;
    let good = || Request::put_media(STREAM);
    for (what, request, status, error) in [
        ("no stream", good().without("x-amzn-stream-name"), 400, "InvalidArgumentException"),
        ("name and ARN", good().field("x-amzn-stream-arn", "arn:x:stream/cam1/1"), 400, "InvalidArgumentException"),
        (
            "unknown ARN",
            good().without("x-amzn-stream-name").field("x-amzn-stream-arn", "arn:x:stream/cam1/1"),
            404,
            "ResourceNotFoundException",
        ),
        ("no timecode type", good().without("x-amzn-fragment-timecode-type"), 400, "InvalidArgumentException"),
        (
            "odd timecode type",
            good().field("x-amzn-fragment-timecode-type", "absolute"),
            400,
            "InvalidArgumentException",
        ),
        (
            "not chunked",
            good().without("transfer-encoding").field("content-length", "0"),
            400,
            "InvalidArgumentException",
        ),
        ("GET", Request { method: "GET".to_owned(), ..good() }, 405, "MethodNotAllowed"),
    ] {
        let (got, error_type, body) = request.answer(&server).await;
        assert_eq!((got, error_type.as_str()), (status, error), "{what}: {body}");
    }
    assert!(server.stream(STREAM).sessions.is_empty());
}

#[tokio::test]
async fn five_put_media_per_second() {
    let server = start(config()).await;
    let mut sessions = vec![];
    for _ in 0..5 {
        sessions.push(Request::put_media(STREAM).session(&server).await);
    }
    let (status, error, _) = Request::put_media(STREAM).answer(&server).await;
    assert_eq!((status, error.as_str()), (400, "ClientLimitExceededException"));
    let record = server.stream(STREAM);
    assert_eq!(record.put_media_attempts().count(), 6);
    assert!(record.violations.iter().any(|violation| violation.rule == Rule::PutMediaRate));
}

#[tokio::test]
async fn a_new_stream_becomes_active() {
    let server = start(Config { create_delay: Duration::from_millis(100), ..config() }).await;
    let request = |path| Request::control(path, &json!({ "StreamName": "new" }));
    assert_eq!(request("/createStream").answer(&server).await.0, 200);
    let mut statuses = vec![];
    for _ in 0..2 {
        let (.., described) = request("/describeStream").answer(&server).await;
        statuses.push(described["StreamInfo"]["Status"].clone());
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    assert_eq!(statuses, ["CREATING", "ACTIVE"]);
    assert!(
        server.set_stream_status("new", StreamStatus::Deleting)
            && !server.set_stream_status("old", StreamStatus::Active)
    );
}

#[tokio::test]
async fn tls_and_admin() {
    let server = start(Config { tls: true, ..config() }).await;
    let ca = CertificateDer::from_pem_file(server.ca_pem_path()).expect("ca.pem");
    let mut roots = RootCertStore::empty();
    roots.add(ca).expect("a trust anchor");
    for version in [&TLS12, &TLS13] {
        for name in ["localhost", "127.0.0.1"] {
            let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            let tcp = TcpStream::connect(("127.0.0.1", server.port())).await.expect("a connection");
            let name = ServerName::try_from(name).expect("a name");
            let mut tls = TlsConnector::from(Arc::new(client)).connect(name, tcp).await.expect("trusted");
            let mut request = Request::control("/describeStream", &json!({ "StreamName": STREAM }));
            request.fields.push(("connection".to_owned(), "close".to_owned()));
            let bytes = [request.head("localhost").as_bytes(), &request.body].concat();
            tls.write_all(&bytes).await.expect("written");
            let mut answer = String::new();
            tls.read_to_string(&mut answer).await.expect("an orderly end");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
    }

    let port = server.port();
    let plain = |method: &'static str, path: &'static str, body: &'static str| async move {
        let mut client = Client::connect(port).await.expect("a connection");
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        client.write(head.as_bytes()).await.expect("written");
        let (status, _, answer) = client.answer().await;
        (status, answer)
    };
    let (status, state) = plain("GET", "/__admin/state", "").await;
    assert_eq!((status, &state["streams"][0]["name"]), (200, &json!(STREAM)));
    assert_eq!(plain("GET", "/__admin/state?stream=cam1", "").await.1["attempts"][0]["call"], "describe_stream");
    assert_eq!(plain("POST", "/__admin/fault", r#"{"kind":"no_acks"}"#).await, (200, json!({ "id": 1 })));
    assert_eq!(plain("POST", "/__admin/fault", r#"{"kind":"no_hacks"}"#).await.0, 400);
    assert_eq!(plain("POST", "/__admin/clear", "").await.0, 200);
    assert_eq!(plain("POST", "/__admin/stream", r#"{"name":"cam2"}"#).await, (200, json!({ "created": true })));
    assert_eq!(plain("GET", "/__admin/totals", "").await.1[1]["name"], "cam2");
    assert_eq!(plain("POST", "/__admin/credentials", r#"{"access_key":"A","secret_key":"B"}"#).await.0, 200);
    assert_eq!(plain("POST", "/describeStream", "{}").await.0, 400, "the service itself is only there with TLS");
}

#[tokio::test]
async fn playback_by_hls() {
    let server = start(config()).await;
    let call = |body: Value| Request::control("/getHLSStreamingSessionURL", &body);
    let wanted = json!({ "StreamName": STREAM, "PlaybackMode": "LIVE", "DisplayFragmentTimestamp": "ALWAYS" });
    let (status, error, _) = call(wanted.clone()).answer(&server).await;
    assert_eq!((status, error.as_str()), (404, "ResourceNotFoundException"), "nothing is in the stream");
    let fragment = |byte: u8| (vec![byte; 10], Duration::from_millis(100));
    let playback = Playback { init: vec![7], fragments: (0..50).map(fragment).collect() };
    server.play(STREAM, playback);
    tokio::time::sleep(Duration::from_millis(450)).await;
    for (member, value) in [
        ("ContainerFormat", json!("MKV")),
        ("Expires", json!(299)),
        ("MaxMediaPlaylistFragmentResults", json!(0)),
        ("HLSFragmentSelector", json!({ "TimestampRange": {} })),
    ] {
        let mut body = wanted.clone();
        body[member] = value;
        let (status, error, answer) = call(body).answer(&server).await;
        assert_eq!((status, error.as_str()), (400, "InvalidArgumentException"), "{member}: {answer}");
    }
    // Five calls a second are allowed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (status, error, _) = call(json!({ "StreamName": STREAM, "Mode": "LIVE" })).answer(&server).await;
    assert_eq!((status, error.as_str()), (400, "SerializationException"), "a member that is none");
    let (status, _, answer) = call(wanted).answer(&server).await;
    assert_eq!(status, 200, "{answer}");
    let url = answer["HLSStreamingSessionURL"].as_str().expect("a URL").to_owned();
    let token = url.split_once("SessionToken=").expect("a token").1.to_owned();
    let page = async |target: String| {
        let mut client = Client::connect(server.port()).await.expect("it listens");
        let host = format!("localhost:{}", server.port());
        client.write(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.expect("written");
        client.page().await
    };
    let get = async |page_name: &str, more: &str| page(format!("/hls/v1/{page_name}?SessionToken={token}{more}")).await;
    let (status, master) = get("getHLSMasterPlaylist.m3u8", "").await;
    assert!(status == 200 && master.contains("getHLSMediaPlaylist.m3u8?SessionToken="), "{master}");
    let (status, media) = get("getHLSMediaPlaylist.m3u8", "&TrackNumber=1").await;
    let has_times = media.matches("#EXT-X-PROGRAM-DATE-TIME:").count();
    assert!(status == 200 && media.contains("#EXT-X-MEDIA-SEQUENCE:0") && has_times == 5, "{media}");
    let line = media.lines().find(|line| line.starts_with("getMP4MediaFragment")).expect("a fragment").to_owned();
    assert_eq!(page(format!("/hls/v1/{line}")).await.0, 200);
    assert_eq!(get("getHLSMediaPlaylist.m3u8", "").await.0, 400, "no track");
    assert_eq!(get("getMP4MediaFragment.mp4", "&TrackNumber=1&FragmentNumber=7").await.0, 404);
    assert_eq!(page("/hls/v1/getHLSMasterPlaylist.m3u8?SessionToken=x".to_owned()).await.0, 403);
    server.expire_hls_sessions();
    assert_eq!(get("getHLSMasterPlaylist.m3u8", "").await.0, 403, "an expired token");
    let (sessions, fetched) = server.hls_record();
    assert_eq!((sessions, fetched.len()), (1, 1));
}

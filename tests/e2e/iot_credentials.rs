//! Credentials for the device's certificate, from a local provider that is as strict as AWS IoT's: its answers are those
//! of the developer guide and of awslabs' aws-iot-core-credential-provider-session-helper (docs/dev_notes.md).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use edgecam::host::certificate::Identity;
use edgecam::host::iot_credentials::{IotCredentials, IotCredentialsError, Settings};
use kvs_server::{Credentials, KvsServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use crate::harness::media::Clip;
use crate::harness::pki::{Authority, Issued};
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig, Scratch};

/// How a provider answers.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    /// Status and message instead of credentials.
    Says(u16, &'static str),
    /// Credentials that have ended.
    Stale,
    Nonsense,
    Silent,
}

/// The provider: one thing, one role alias.
struct Provider {
    port: u16,
    mood: Arc<Mutex<Mood>>,
    issued: Arc<Mutex<Vec<Credentials>>>,
    _serving: JoinSet<()>,
}

impl Provider {
    async fn start(authority: &Authority, scratch: &Scratch, life: Duration, kvs: Option<Arc<KvsServer>>) -> Self {
        let acceptor = acceptor(authority, &authority.issue(scratch, "provider", &["localhost"], 2040));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let mood = Arc::new(Mutex::new(Mood::Good));
        let issued = Arc::new(Mutex::new(Vec::new()));
        let mut serving = JoinSet::new();
        let (now, all) = (mood.clone(), issued.clone());
        serving.spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.expect("a connection");
                // A client that is not trusted has no answer.
                let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                let mood = *now.lock().expect("no panic");
                if mood == Mood::Silent {
                    tokio::time::sleep(Duration::from_secs(20)).await;
                    continue;
                }
                let (status, body) = answer(&head, mood, life, &all, kvs.as_deref());
                let kind = if status == 200 { "" } else { "x-amzn-ErrorType: AccessDeniedException\r\n" };
                let answer = format!(
                    "HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\n{kind}content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.ok();
                stream.shutdown().await.ok();
            }
        });
        Self { port, mood, issued, _serving: serving }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().expect("no panic") = mood;
    }

    fn issued(&self) -> usize {
        self.issued.lock().expect("no panic").len()
    }
}

fn acceptor(authority: &Authority, server: &Issued) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM")).expect("a CA");
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let chain = vec![CertificateDer::from_pem_file(&server.certificate).expect("PEM")];
    let key = PrivateKeyDer::from_pem_file(&server.key).expect("PEM");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.expect("a verifier"))
        .with_single_cert(chain, key);
    TlsAcceptor::from(Arc::new(config.expect("a certificate")))
}

/// The order of what is looked at is the service's: thing, policy, role alias, role.
fn answer(
    head: &[u8],
    mood: Mood,
    life: Duration,
    issued: &Mutex<Vec<Credentials>>,
    kvs: Option<&KvsServer>,
) -> (u16, String) {
    let head = std::str::from_utf8(head).expect("text");
    let mut lines = head.split("\r\n");
    let request: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let headers: BTreeMap<String, &str> = lines
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_once(": ").expect("name and value"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    assert_eq!((request[0], request[2]), ("GET", "HTTP/1.1"), "{head}");
    assert!(headers.contains_key("host"), "RFC 9112 section 3.2: {head}");
    let alias = request[1].strip_prefix("/role-aliases/").and_then(|rest| rest.strip_suffix("/credentials"));
    let refuse = |status, message: &str| (status, serde_json::json!({ "message": message }).to_string());
    if headers.get("x-amzn-iot-thingname") != Some(&"e2e") {
        return refuse(403, "Invalid thing name passed");
    }
    if let Mood::Says(status, message) = mood {
        return refuse(status, message);
    }
    if alias != Some("camera-role") {
        return refuse(404, "Role alias does not exist");
    }
    if mood == Mood::Nonsense {
        return (200, "<html>a captive portal</html>".to_owned());
    }
    let expires = if mood == Mood::Stale { SystemTime::UNIX_EPOCH } else { SystemTime::now() + life };
    let mut issued = issued.lock().expect("no panic");
    let number = issued.len();
    let credentials = Credentials::new(format!("ASIA{number:04}"), format!("secret {number}"));
    let credentials = credentials.with_token(format!("token {number}"), Some(expires));
    let body = serde_json::json!({ "credentials": {
        "accessKeyId": credentials.access_key,
        "secretAccessKey": credentials.secret_key,
        "sessionToken": credentials.session_token,
        "expiration": jiff::Timestamp::try_from(expires).expect("a time").strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }});
    if let Some(kvs) = kvs {
        kvs.add_credentials(credentials.clone());
    }
    issued.push(credentials);
    (200, body.to_string())
}

/// What a device has, to be changed for what is to go wrong.
fn settings(authority: &Authority, scratch: &Scratch, port: u16) -> Settings {
    let device = authority.issue(scratch, "device", &[], 2040);
    Settings {
        host: "localhost".to_owned(),
        port,
        role_alias: "camera-role".to_owned(),
        thing: "e2e".to_owned(),
        identity: Identity { certificate: device.certificate, private_key: device.key },
        ca_file: Some(scratch.write("ca.pem", &authority.pem)),
    }
}

#[tokio::test]
async fn every_answer_has_its_words() {
    let scratch = Scratch::new("iot-credentials");
    let authority = Authority::new("test CA");
    let provider = Provider::start(&authority, &scratch, Duration::from_secs(900), None).await;
    let good = settings(&authority, &scratch, provider.port);
    let credentials = IotCredentials::new(good.clone()).fetch().await.expect("credentials");
    assert_eq!((credentials.access_key_id(), credentials.session_token()), ("ASIA0000", Some("token 0")));
    assert!(credentials.expiry().is_some_and(|expiry| expiry > SystemTime::now() + Duration::from_secs(800)));

    let check = async |settings: &Settings, is_refusal: bool, part: &str| {
        let began = Instant::now();
        let error: IotCredentialsError = IotCredentials::new(settings.clone()).fetch().await.expect_err(part);
        assert!(error.message.contains(part) && error.is_refusal == is_refusal, "{error:?}");
        assert!(!error.message.contains("secret"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(6), "{part}: {:?}", began.elapsed());
    };
    let other_thing = Settings { thing: "other".to_owned(), ..good.clone() };
    check(&other_thing, true, "the thing `other` is not attached to this certificate").await;
    let other_alias = Settings { role_alias: "no-role".to_owned(), ..good.clone() };
    check(&other_alias, true, "there is no role alias `no-role`").await;
    for (mood, is_refusal, part) in [
        (
            Mood::Says(403, "Access Denied"),
            true,
            "does not allow iot:AssumeRoleWithCertificate on the role alias `camera-role`",
        ),
        (Mood::Says(403, "Certificate is invalid on this endpoint"), true, "not registered and active at localhost"),
        (
            Mood::Says(400, "Unable to assume the role, or the role to assume does not exist"),
            true,
            "does not trust credentials.iot.amazonaws.com",
        ),
        (
            Mood::Says(400, "The requested CredentialDurationSeconds exceeds the MaxSessionDuration set for the role"),
            true,
            "longer sessions than its role allows",
        ),
        (Mood::Says(429, "Rate exceeded"), false, "fewer requests"),
        (Mood::Says(503, "Service Unavailable"), false, "HTTP 503: Service Unavailable"),
        (Mood::Says(418, "I'm a teapot"), true, "HTTP 418: I'm a teapot"),
        (Mood::Stale, true, "ended at 1970-01-01T00:00:00Z: set the clock"),
        (Mood::Nonsense, false, "not what it is documented to be"),
        (Mood::Silent, false, "did not answer in 5 s"),
    ] {
        provider.is(mood);
        check(&good, is_refusal, part).await;
    }
}

#[tokio::test]
async fn certificates() {
    let scratch = Scratch::new("iot-certificates");
    let (authority, other) = (Authority::new("test CA"), Authority::new("other CA"));
    let provider = Provider::start(&authority, &scratch, Duration::from_secs(900), None).await;
    let good = settings(&authority, &scratch, provider.port);
    let check = async |settings: Settings, part: &str| {
        let error = IotCredentials::new(settings).fetch().await.expect_err(part);
        assert!(error.is_refusal && error.message.contains(part), "{error:?}");
    };
    let stranger = other.issue(&scratch, "stranger", &[], 2040);
    let identity = Identity { certificate: stranger.certificate, private_key: stranger.key };
    check(Settings { identity, ..good.clone() }, "our certificate was issued by a CA it does not trust").await;
    let other_ca = Some(scratch.write("other.pem", &other.pem));
    check(
        Settings { ca_file: other_ca, ..good.clone() },
        "was not issued by a CA that is trusted here: see aws.iot.ca_file",
    )
    .await;
    let old = authority.issue(&scratch, "old", &[], 2021);
    let identity = Identity { certificate: old.certificate, private_key: old.key };
    check(Settings { identity, ..good.clone() }, "our certificate has expired, by its clock").await;
    crate::harness::pki::set_mode(&good.identity.private_key, 0o640);
    check(good, "chmod 600").await;
}

/// The agent uploads with them, renews them before they end, and lives through an outage of the provider as long as
/// they last. What the environment holds beside them is not used.
#[tokio::test]
async fn uploads() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::with("iot-uploads", vec![looping("cam1", &clip)], |settings| settings.credentials.clear()).await;
    let authority = Authority::new("test CA");
    let life = Duration::from_secs(80);
    let provider = Provider::start(&authority, &rig.scratch, life, Some(Arc::clone(&rig.kvs))).await;
    let device = settings(&authority, &rig.scratch, provider.port);
    rig.config["aws"] = serde_json::json!({ "iot": {
        "credentials_endpoint": format!("localhost:{}", provider.port),
        "role_alias": device.role_alias,
        "certificate": device.identity.certificate,
        "private_key": device.identity.private_key,
        "ca_file": device.ca_file,
    }});
    rig.environment.push(("AWS_ACCESS_KEY_ID".to_owned(), "AKIASTALE".to_owned()));
    rig.environment.push(("AWS_SECRET_ACCESS_KEY".to_owned(), "stale".to_owned()));
    rig.start();
    rig.more_persisted("cam1", 3).await;
    let before = provider.issued();
    // Away for a moment: what the agent has lasts.
    provider.is(Mood::Says(503, "Service Unavailable"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    rig.more_persisted("cam1", 1).await;
    provider.is(Mood::Good);
    let renewed = |record: &kvs_server::StreamRecord| record.sessions.len() >= 3;
    rig.kvs.wait_until("cam1", PATIENCE * 2, renewed).await.expect("sessions follow each other");
    assert!(provider.issued() > before, "renewed");
    rig.caught_up("cam1", PATIENCE).await;
    let record = rig.kvs.stream("cam1");
    let keys: Vec<&str> = record.sessions.iter().filter_map(|session| session.access_key.as_deref()).collect();
    assert!(keys.iter().all(|key| key.starts_with("ASIA")), "{keys:?}");
    let log = rig.agent().log();
    assert!(!log.contains("secret 0") && !log.contains("token 0"), "a secret is in the log");
    rig.stop_and_compare(&["cam1"]).await;
}

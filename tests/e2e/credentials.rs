//! Credentials that expire, and connections that may only last so long.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kvs_server::{At, Credentials, Cut, Fault, FaultKind, KvsServer, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::media::Clip;
use crate::harness::rig::looping;
use crate::harness::{PATIENCE, Rig};

/// The agent opens a new session a minute before the token expires: with this life, every 15 s.
const TOKEN_LIFE: Duration = Duration::from_secs(75);

/// What a component shows to the token exchange service.
const TOKEN: &str = "of-the-component";

/// What hands out credentials inside a container, as ECS and Greengrass do: new ones with each request.
struct Issuer {
    port: u16,
    issued: Arc<Mutex<Vec<Credentials>>>,
    _serving: JoinSet<()>,
}

impl Issuer {
    async fn start(kvs: Arc<KvsServer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let issued = Arc::new(Mutex::new(Vec::new()));
        let mut serving = JoinSet::new();
        let all = Arc::clone(&issued);
        serving.spawn(async move {
            loop {
                let Ok((mut tcp, _)) = listener.accept().await else { continue };
                let mut request = vec![0; 4096];
                let length = tcp.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
                // Greengrass' token exchange service answers nobody else.
                let is_ours = request.contains(&format!("\r\nauthorization: {TOKEN}\r\n"));
                if !request.starts_with("get /credentials ") || !is_ours {
                    continue;
                }
                let expires = SystemTime::now() + TOKEN_LIFE;
                let number = all.lock().expect("no panic").len();
                let credentials = Credentials::new(format!("ASIA{number:04}"), format!("secret {number}"));
                let credentials = credentials.with_token(format!("token {number}"), Some(expires));
                let body = serde_json::json!({
                    "AccessKeyId": credentials.access_key,
                    "SecretAccessKey": credentials.secret_key,
                    "Token": credentials.session_token,
                    "Expiration": jiff::Timestamp::try_from(expires).expect("a time").to_string(),
                });
                kvs.add_credentials(credentials.clone());
                all.lock().expect("no panic").push(credentials);
                let (body, kind) = (body.to_string(), "content-type: application/json");
                let head =
                    format!("HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                // A client that has gone asks again.
                tcp.write_all(format!("{head}{body}").as_bytes()).await.ok();
            }
        });
        Self { port, issued, _serving: serving }
    }

    fn issued(&self) -> Vec<Credentials> {
        self.issued.lock().expect("no panic").clone()
    }
}

/// Tokens that live for a minute and a quarter: a new session is there before each expires, nothing is refused, and
/// the sessions before end in order.
#[tokio::test]
async fn rotation() {
    let clip = Clip::new(10).file().await;
    let (mut rig, issuer) = rig("rotation", &clip).await;
    rig.start();
    let many = |record: &kvs_server::StreamRecord| record.sessions.len() >= 3;
    rig.kvs.wait_until("cam1", Duration::from_secs(90), many).await.expect("sessions follow each other");
    rig.more_persisted("cam1", 3).await;
    rig.caught_up("cam1", PATIENCE).await;
    let (pictures, twice) = rig.stop_and_compare(&["cam1"]).await[0];
    assert_eq!(twice, 0, "of {pictures} pictures");
    let record = rig.kvs.stream("cam1");
    let refused: Vec<_> =
        record.attempts.iter().filter(|attempt| matches!(attempt.outcome, Outcome::Refused { .. })).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let issued = issuer.issued();
    for session in &record.sessions {
        let key = session.access_key.as_deref().expect("signed");
        let expires = issued.iter().find(|one| one.access_key == key).and_then(|one| one.expires).expect("issued");
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).expect("now").as_millis() as u64;
        assert!(session.closed_at.is_some_and(|closed| closed < expires), "open when its token expired: {session:?}");
    }
    crate::harness::footage::assert_ends_in_order(&record);
    let mut keys: Vec<_> = record.sessions.iter().map(|session| &session.access_key).collect();
    keys.dedup();
    assert!(keys.len() >= 3, "each session has a token of its own: {keys:?}");
}

/// A token that the service refuses before its time is fetched anew.
#[tokio::test]
async fn expiry_before_its_time() {
    let clip = Clip::new(10).file().await;
    let (mut rig, issuer) = rig("expired", &clip).await;
    rig.start();
    rig.more_persisted("cam1", 2).await;
    rig.kvs.fault(Fault::once(FaultKind::ExpireToken));
    let before = issuer.issued().len();
    rig.kvs.fault(Fault::once(FaultKind::Cut { at: At::Bytes(0), how: Cut::Reset }));
    let again = |record: &kvs_server::StreamRecord| record.sessions.len() >= 2;
    rig.kvs.wait_until("cam1", PATIENCE, again).await.expect("a session with a new token");
    assert!(issuer.issued().len() > before, "the same token again");
    rig.caught_up("cam1", PATIENCE).await;
    rig.stop_and_compare(&["cam1"]).await;
}

/// The service ends each connection after a while: that is no failure, and costs nothing.
#[tokio::test]
async fn longest_connection() {
    let clip = Clip::new(10).file().await;
    let cameras = vec![looping("cam1", &clip)];
    let change = |settings: &mut kvs_server::Config| settings.max_connection = Some(Duration::from_secs(6));
    let mut rig = Rig::with("connection", cameras, change).await;
    rig.start();
    let many = |record: &kvs_server::StreamRecord| record.sessions.len() >= 4;
    rig.kvs.wait_until("cam1", PATIENCE, many).await.expect("sessions follow each other");
    rig.caught_up("cam1", PATIENCE).await;
    let (pictures, twice) = rig.stop_and_compare(&["cam1"]).await[0];
    let record = rig.kvs.stream("cam1");
    let ends = record.errors.iter().filter(|error| error.id.0 == 4003).count() as u32;
    assert!(ends >= 3 && twice <= ends * 2 * 15, "{ends} ends; {twice} of {pictures} pictures stored twice");
}

/// The credentials come from a container's endpoint alone.
async fn rig(test: &str, clip: &std::path::Path) -> (Rig, Issuer) {
    let mut rig = Rig::with(test, vec![looping("cam1", clip)], |settings| settings.credentials.clear()).await;
    let issuer = Issuer::start(Arc::clone(&rig.kvs)).await;
    let uri = format!("http://127.0.0.1:{}/credentials", issuer.port);
    rig.environment.push(("AWS_CONTAINER_CREDENTIALS_FULL_URI".to_owned(), uri));
    rig.environment.push(("AWS_CONTAINER_AUTHORIZATION_TOKEN".to_owned(), TOKEN.to_owned()));
    (rig, issuer)
}

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
                if !request[..length].starts_with(b"GET /credentials ") {
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
                let head = format!("HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
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

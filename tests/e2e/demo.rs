//! `edgecam demo`: the main job on what is built in.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::agent::{self, Agent, free_port};
use crate::harness::footage::{archived_pictures, segments};
use crate::harness::{PATIENCE, Scratch};

#[tokio::test]
async fn it_records_what_plays() {
    let scratch = Scratch::new("demo");
    let (port, directory) = (free_port(), scratch.join("footage"));
    let (listen, shown) = (format!("127.0.0.1:{port}"), directory.display().to_string());
    let mut agent = Agent::demo(&["--directory", &shown, "--listen", &listen], port, &scratch.join("agent.log"));
    let has_recorded = |report: &Value| report["state"] == "streaming" && report["gops"].as_u64() > Some(2);
    agent.until("demo", "recorded", PATIENCE, has_recorded).await;
    agent.signal(Signal::INT);
    assert!(agent.exit(Duration::from_secs(20)).await.success(), "{}", agent.log_tail());
    let archive = directory.join("demo");
    assert!(!segments(&archive).is_empty(), "{}", agent.log_tail());
    let pictures = archived_pictures(&archive).await.len();
    assert!(pictures > 15, "{pictures} pictures");
    let verified = agent::run(&[], &["archive", "verify", &archive.to_string_lossy()], PATIENCE).await;
    assert!(verified.status.success(), "{}", agent::text(&verified));
}

//! The agent as a Greengrass component, against a stand-in for the nucleus that AWS's own client takes for one.

mod nucleus;
mod shapes;
mod wire;

mod config;
mod core;
mod files;
mod local;
mod refusals;
mod secrets;

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use self::nucleus::{Instead, Nucleus};
use crate::harness::agent::{Agent, pretty};
use crate::harness::{PATIENCE, Rig, http, poll, python};

/// A nucleus, and the agent as its component.
struct Core {
    rig: Rig,
    nucleus: Nucleus,
}

impl Core {
    /// The agent's config is the component's configuration.
    async fn new(test: &str, cameras: Vec<Value>) -> Self {
        let rig = Rig::new(test, cameras).await;
        std::fs::create_dir_all(rig.scratch.join("work")).expect("a directory");
        let nucleus = Nucleus::start(rig.scratch.path(), rig.config.clone());
        Self { rig, nucleus }
    }

    fn start(&mut self) {
        let environment = [self.rig.environment.clone(), self.nucleus.environment()].concat();
        let (directory, log) = (self.rig.scratch.join("work"), self.rig.scratch.join("agent.log"));
        self.rig.agent = Some(Agent::start_component(&directory, self.rig.port, &log, &environment));
    }

    /// What the agent tells about the nucleus.
    async fn status(&self) -> Option<Value> {
        let answer = http::get(self.rig.port, "/health").await.ok()?;
        Some(answer.json()["greengrass"].clone())
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let found = poll(PATIENCE, async || {
            last = self.status().await.or(last.take());
            last.clone().filter(|status| wanted(status))
        });
        let found = found.await;
        found.unwrap_or_else(|| panic!("not {what}: {}\n{}", pretty(last.as_ref()), self.rig.agent().log_tail()))
    }
}

/// A camera with an encoder of ours and no upload.
fn drawn(name: &str) -> Value {
    json!({
        "name": name,
        "test_pattern": { "width": 320, "height": 180, "frame_rate": 10, "bitrate": 100_000 },
        "archive": { "segment": "10s", "at_risk": "1s", "min_free": "1 MiB" },
    })
}

/// The stand-in is an honest counterpart: AWS's own client works against it, operation by operation.
#[tokio::test]
async fn awsiotsdk_takes_the_stand_in_for_a_nucleus() {
    let programs = python::environment("awsiotsdk", &["awsiotsdk==1.31.0"]).await;
    let scratch = crate::harness::Scratch::new("gg-honest");
    let nucleus = Nucleus::start(scratch.path(), json!({ "cameras": [], "http": { "enabled": { "enabled": false } } }));
    {
        let mut state = nucleus.state();
        state.instead.insert("SubscribeToTopic", Instead::Denied);
        state.instead.insert("ListComponents", Instead::Unsupported);
        state.secrets.insert("camera".to_owned(), json!({ "MediaURI": "rtsp://u:p@h/1" }));
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/greengrass/honest.py");
    let mut command = tokio::process::Command::new(programs.join("python"));
    command.arg(script).envs(nucleus.environment()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("python runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let ready = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("a line");
    assert_eq!(ready.as_deref(), Some("READY"), "see the client's error above");
    let nothing = json!({});
    let asked = async { tokio::join!(nucleus.validate("d-1", &nothing), nucleus.pre_update("d-2")) };
    let (report, deferral) = tokio::time::timeout(PATIENCE, asked).await.expect("in time");
    assert_eq!((&report["status"], &report["message"]), (&json!("REJECTED"), &json!("no")));
    assert_eq!(deferral["recheckAfterMs"], 5000);
    let last = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("a line");
    let done: Vec<String> = serde_json::from_str(&last.expect("the client's list")).expect("JSON");
    assert_eq!(done.len(), 12, "{done:?}");
    assert!(child.wait().await.expect("it ends").success());
    let published = nucleus.calls("PublishToTopic");
    assert_eq!(published[0]["publishMessage"]["jsonMessage"]["message"], json!({ "a": 1 }));
    nucleus.assert_well_behaved();
}

//! A test's own world: service, agent, config.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kvs_server::{Config, Credentials, Dump, FaultId, KvsServer, StreamSpec};
use serde_json::{Value, json};

use super::agent::{self, Agent};
use super::footage::{self, assert_stored, assert_well_behaved};
use super::{PATIENCE, Scratch, poll};

/// Service, agent and the directory they work in.
pub(crate) struct Rig {
    // Dropped in this order: the agent first, its directory last.
    pub(crate) agent: Option<Agent>,
    pub(crate) kvs: Arc<KvsServer>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) config: Value,
    pub(crate) port: u16,
    pub(crate) scratch: Scratch,
}

/// A camera with an archive, uploaded continuously to the stream of its name.
pub(crate) fn camera(name: &str, kind: &str, source: Value) -> Value {
    json!({
        "name": name,
        kind: source,
        "archive": { "segment": "10s", "at_risk": "1s", "min_free": "1 MiB" },
        "upload": { "stream": name },
    })
}

/// A camera that plays a clip again and again.
pub(crate) fn looping(name: &str, clip: &std::path::Path) -> Value {
    camera(name, "file", json!({ "path": clip }))
}

/// The environment of an agent that calls `kvs` with `credentials`.
pub(crate) fn environment(kvs: &KvsServer, credentials: Option<&Credentials>) -> Vec<(String, String)> {
    let mut variables = vec![
        ("AWS_ENDPOINT_URL_KINESIS_VIDEO".to_owned(), kvs.endpoint().to_owned()),
        ("AWS_CA_BUNDLE".to_owned(), kvs.ca_pem_path().display().to_string()),
        ("AWS_REGION".to_owned(), "eu-central-1".to_owned()),
        ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()),
    ];
    if let Some(credentials) = credentials {
        variables.push(("AWS_ACCESS_KEY_ID".to_owned(), credentials.access_key.clone()));
        variables.push(("AWS_SECRET_ACCESS_KEY".to_owned(), credentials.secret_key.clone()));
        variables.extend(credentials.session_token.clone().map(|token| ("AWS_SESSION_TOKEN".to_owned(), token)));
    }
    variables
}

impl Rig {
    /// The service with one stream for each camera; the agent is not started yet.
    pub(crate) async fn new(test: &str, cameras: Vec<Value>) -> Self {
        Self::with(test, cameras, |_| ()).await
    }

    /// The same with a service that differs.
    pub(crate) async fn with(test: &str, cameras: Vec<Value>, change: impl FnOnce(&mut Config)) -> Self {
        let scratch = Scratch::new(test);
        let mut settings = Config::new(scratch.join("kvs"));
        settings.region = Some("eu-central-1".to_owned());
        settings.dump = Dump::Memory;
        settings.credentials = vec![Credentials::example().with_token("a session token", None)];
        let name = |camera: &Value| camera["upload"]["stream"].as_str().map(str::to_owned);
        settings.streams =
            cameras.iter().filter_map(name).map(|name| StreamSpec { name, retention_hours: 24 }).collect();
        change(&mut settings);
        let credentials = settings.credentials.first().cloned();
        let kvs = Arc::new(KvsServer::start(settings).await.expect("the service starts"));
        let port = agent::free_port();
        let config = json!({
            "thing": "e2e",
            "state_dir": scratch.join("state"),
            "http": { "listen": format!("127.0.0.1:{port}") },
            "log": { "level": "debug" },
            "cameras": cameras,
        });
        let environment = environment(&kvs, credentials.as_ref());
        Self { agent: None, kvs, environment, config, port, scratch }
    }

    /// Writes the config and returns its path.
    pub(crate) fn write_config(&self) -> PathBuf {
        self.scratch.write("edgecam.yaml", serde_json::to_string_pretty(&self.config).expect("JSON"))
    }

    pub(crate) fn start(&mut self) {
        let config = self.write_config();
        let log = self.scratch.join("agent.log");
        self.agent = Some(Agent::start(&config, self.port, &log, &self.environment));
    }

    pub(crate) fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("the agent was started")
    }

    pub(crate) fn archive(&self, camera: &str) -> PathBuf {
        let cameras = self.config["cameras"].as_array().into_iter().flatten();
        let mut directories =
            cameras.filter(|other| other["name"] == camera).map(|other| &other["archive"]["directory"]);
        let given = directories.next().and_then(Value::as_str).map(PathBuf::from);
        given.unwrap_or_else(|| self.scratch.join("state").join(camera))
    }

    /// SIGTERM, with all that has to happen then.
    pub(crate) async fn stop(&mut self) -> Duration {
        let agent = self.agent.as_mut().expect("the agent was started");
        assert!(agent.is_running(), "the agent has ended by itself");
        agent.stop().await
    }

    /// Waits until so many more fragments of a stream are persisted.
    pub(crate) async fn more_persisted(&self, stream: &str, count: u64) {
        let wanted = self.kvs.stream(stream).persisted + count;
        if let Err(error) = self.kvs.wait_persisted(stream, wanted, PATIENCE).await {
            panic!("{stream}: {wanted} fragments are not persisted: {error}");
        }
    }

    /// The same for several streams at once, and until all have caught up; returns the reports of their cameras.
    pub(crate) async fn all_recovered(&self, cameras: &[&str], count: u64, timeout: Duration) -> Vec<Value> {
        let wanted: Vec<u64> = cameras.iter().map(|camera| self.kvs.stream(camera).persisted + count).collect();
        let mut reports = Vec::new();
        for (camera, wanted) in cameras.iter().zip(wanted) {
            if let Err(error) = self.kvs.wait_persisted(camera, wanted, timeout).await {
                panic!("{camera}: {wanted} fragments are not persisted: {error}");
            }
            reports.push(self.caught_up(camera, timeout).await);
        }
        reports
    }

    /// Waits until a fault has struck so many times.
    pub(crate) async fn suffered(&self, fault: FaultId, times: u32, what: &str) {
        let struck = poll(PATIENCE, async || (self.kvs.suffered(fault) >= times).then_some(()));
        let suffered = self.kvs.suffered(fault);
        assert!(struck.await.is_some(), "{what}: struck {suffered} times, not {times}");
    }

    /// Waits until the upload of a camera has caught up with its source: what is live has been sent.
    pub(crate) async fn caught_up(&self, camera: &str, timeout: Duration) -> Value {
        let mut in_a_row = 0;
        let mut last = None;
        let found = poll(timeout, async || {
            let report = self.agent().report(camera).await?;
            let latest: jiff::Timestamp = report["latest"].as_str()?.parse().ok()?;
            let begun = self.kvs.stream(camera).fragments.last().map(|fragment| fragment.timecode);
            // Fragments last a second: the newest has begun.
            let is_near = begun.is_some_and(|begun| latest.as_millisecond() - begun < 1_300);
            in_a_row = if is_near && report["upload"]["state"] == "streaming" { in_a_row + 1 } else { 0 };
            last = Some(report);
            last.clone().filter(|_| in_a_row >= 3)
        });
        let found = found.await;
        found.unwrap_or_else(|| panic!("{camera}: not caught up within {timeout:?}: {}", agent::pretty(last.as_ref())))
    }

    /// Stops the agent, and then everything in the archive is in the stream. Returns the number of pictures and how
    /// many came twice.
    pub(crate) async fn stop_and_compare(&mut self, cameras: &[&str]) -> Vec<(usize, u32)> {
        self.stop().await;
        let mut results = Vec::new();
        for camera in cameras {
            let record = self.kvs.stream(camera);
            assert_well_behaved(&record);
            let archived = footage::archived(&self.archive(camera)).await;
            results.push(assert_stored(&archived, &record));
        }
        results
    }
}

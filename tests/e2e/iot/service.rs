//! The stand-in for AWS IoT's jobs and shadows. It refuses what the service refuses, and notes what it was told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::harness::broker::{Broker, Listener};

const PREFIX: &str = "$aws/things/e2e/";
const PATIENCE: Duration = Duration::from_secs(60);

struct Job {
    id: String,
    document: Value,
    status: String,
    version: u64,
    details: Value,
    progress: u32,
}

/// The service, as far as one thing sees it.
pub(crate) struct Service {
    heard: Listener,
    jobs: Vec<Job>,
    desired: Value,
    reported: Value,
    version: u64,
    conflict: bool,
    answers: VecDeque<(String, Value)>,
}

impl Service {
    pub(crate) async fn new(broker: &Broker) -> Self {
        let heard = broker.listen_as("service", &format!("{PREFIX}#")).await;
        let empty = || json!({});
        let (desired, reported) = (empty(), empty());
        Self { heard, jobs: Vec::new(), desired, reported, version: 0, conflict: false, answers: VecDeque::new() }
    }

    pub(crate) fn add_job(&mut self, id: &str, document: Value) {
        let (id, status) = (id.to_owned(), "QUEUED".to_owned());
        self.jobs.push(Job { id, document, status, version: 1, details: json!({}), progress: 0 });
    }

    /// Jobs that have ended: id, status, details.
    pub(crate) fn job_ends(&self) -> Vec<(String, String, Value)> {
        let ended = self.jobs.iter().filter(|job| !matches!(job.status.as_str(), "QUEUED" | "IN_PROGRESS"));
        ended.map(|job| (job.id.clone(), job.status.clone(), job.details.clone())).collect()
    }

    pub(crate) fn progress(&self, id: &str) -> u32 {
        self.jobs.iter().filter(|job| job.id == id).map(|job| job.progress).sum()
    }

    /// As if the last word about a job had been lost.
    pub(crate) fn forget_end(&mut self, id: &str) {
        for job in self.jobs.iter_mut().filter(|job| job.id == id) {
            job.status = "IN_PROGRESS".to_owned();
        }
    }

    /// The next update meets a version that somebody else has raised.
    pub(crate) fn conflict_once(&mut self) {
        self.conflict = true;
    }

    pub(crate) async fn notify(&mut self, broker: &Broker) {
        let execution = self.next().map(|job| json!({ "jobId": job.id, "status": job.status }));
        let message = json!({ "timestamp": 1, "execution": execution.unwrap_or(json!({})) });
        broker.say(&format!("{PREFIX}jobs/notify-next"), &message.to_string(), &[]).await;
    }

    pub(crate) fn reported(&self) -> &Value {
        &self.reported
    }

    /// Somebody writes into `desired`.
    pub(crate) async fn desire(&mut self, broker: &Broker, change: Value) {
        merge(&mut self.desired, &change);
        self.version += 1;
        if let Some(delta) = difference(&self.desired, &self.reported) {
            let message = json!({ "version": self.version, "timestamp": 1, "state": delta });
            broker.say(&self.shadow("update/delta"), &message.to_string(), &[]).await;
        }
    }

    pub(crate) async fn replay_old_delta(&mut self, broker: &Broker, state: Value) {
        let message = json!({ "version": 1, "timestamp": 1, "state": state });
        broker.say(&self.shadow("update/delta"), &message.to_string(), &[]).await;
    }

    /// Serves until it is as wanted, or patience ends.
    pub(crate) async fn until(&mut self, broker: &Broker, what: &str, wanted: impl Fn(&Self) -> bool) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            while let Some((topic, answer)) = self.answers.pop_front() {
                broker.say(&topic, &answer.to_string(), &[]).await;
            }
            if wanted(self) {
                return true;
            }
            let Some((_, topic, payload)) = self.heard.next_within(Duration::from_secs(2)).await else { continue };
            let rest = topic.strip_prefix(PREFIX).unwrap_or_else(|| panic!("{what}: {topic}"));
            let message: Value = serde_json::from_str(&payload).unwrap_or_else(|error| panic!("{topic}: {error}"));
            let levels: Vec<String> = rest.split('/').map(str::to_owned).collect();
            let levels: Vec<&str> = levels.iter().map(String::as_str).collect();
            match levels[..] {
                ["jobs", "start-next"] => self.start_next(&message),
                ["jobs", id, "update"] => self.update_job(id, &message),
                ["shadow", "name", "edgecam", "get"] => self.get(),
                ["shadow", "name", "edgecam", "update"] => self.report(&message, payload.len()),
                // Its own answers.
                _ => {}
            }
        }
        false
    }

    fn next(&self) -> Option<&Job> {
        let running = self.jobs.iter().find(|job| job.status == "IN_PROGRESS");
        running.or_else(|| self.jobs.iter().find(|job| job.status == "QUEUED"))
    }

    fn start_next(&mut self, message: &Value) {
        known(message, &["statusDetails", "stepTimeoutInMinutes", "clientToken"]);
        let id = self.next().map(|job| job.id.clone());
        let job = self.jobs.iter_mut().find(|job| Some(&job.id) == id.as_ref());
        let mut answer = json!({ "timestamp": 1, "clientToken": message["clientToken"] });
        if let Some(job) = job {
            if job.status == "QUEUED" {
                job.version += 1;
            }
            job.status = "IN_PROGRESS".to_owned();
            answer["execution"] = json!({
                "jobId": job.id, "thingName": "e2e", "status": job.status, "versionNumber": job.version,
                "executionNumber": 1, "queuedAt": 1, "lastUpdatedAt": 1, "startedAt": 1, "jobDocument": job.document,
            });
        }
        self.answers.push_back((format!("{PREFIX}jobs/start-next/accepted"), answer));
    }

    fn update_job(&mut self, id: &str, message: &Value) {
        known(
            message,
            &["status", "statusDetails", "expectedVersion", "executionNumber", "clientToken", "stepTimeoutInMinutes"],
        );
        let details = message["statusDetails"].as_object().cloned().unwrap_or_default();
        for (key, value) in &details {
            let is_fine =
                key.len() <= 128 && value.as_str().is_some_and(|value| !value.is_empty() && value.len() <= 1024);
            assert!(is_fine, "statusDetails.{key}: {value}");
        }
        let status = message["status"].as_str().expect("a status");
        assert!(matches!(status, "IN_PROGRESS" | "SUCCEEDED" | "FAILED" | "REJECTED"), "{status}");
        let conflict = std::mem::take(&mut self.conflict);
        let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) else { panic!("there is no job {id}") };
        if conflict {
            job.version += 1;
        }
        let token = message["clientToken"].clone();
        let state = json!({ "status": job.status, "versionNumber": job.version });
        let refusal = match () {
            () if job.status != "IN_PROGRESS" => Some("InvalidStateTransition"),
            () if message["expectedVersion"].as_u64().is_some_and(|version| version != job.version) => {
                Some("VersionMismatch")
            }
            () => None,
        };
        if let Some(code) = refusal {
            let answer =
                json!({ "code": code, "message": "no", "clientToken": token, "timestamp": 1, "executionState": state });
            self.answers.push_back((format!("{PREFIX}jobs/{id}/update/rejected"), answer));
            return;
        }
        job.version += 1;
        job.status = status.to_owned();
        job.details = Value::Object(details);
        job.progress += 1;
        self.answers
            .push_back((format!("{PREFIX}jobs/{id}/update/accepted"), json!({ "timestamp": 1, "clientToken": token })));
    }

    fn get(&mut self) {
        if self.version == 0 {
            self.answers
                .push_back((self.shadow("get/rejected"), json!({ "code": 404, "message": "No shadow exists" })));
            return;
        }
        let mut state = json!({ "desired": self.desired, "reported": self.reported });
        if let Some(delta) = difference(&self.desired, &self.reported) {
            state["delta"] = delta;
        }
        let answer = json!({ "state": state, "version": self.version, "timestamp": 1 });
        self.answers.push_back((self.shadow("get/accepted"), answer));
    }

    fn report(&mut self, message: &Value, bytes: usize) {
        known(message, &["state", "clientToken", "version"]);
        known(&message["state"], &["reported", "desired"]);
        assert!(bytes <= 8 << 10, "{bytes} bytes are more than a shadow takes");
        let token = message["clientToken"].as_str().unwrap_or_default();
        assert!(!token.is_empty() && token.len() <= 64, "clientToken: {token}");
        if std::mem::take(&mut self.conflict) {
            let answer = json!({ "code": 409, "message": "Version conflict", "clientToken": token });
            self.answers.push_back((self.shadow("update/rejected"), answer));
            return;
        }
        merge(&mut self.reported, &message["state"]["reported"]);
        self.version += 1;
        let answer =
            json!({ "state": message["state"], "version": self.version, "clientToken": token, "timestamp": 1 });
        self.answers.push_back((self.shadow("update/accepted"), answer));
        if let Some(delta) = difference(&self.desired, &self.reported) {
            let message = json!({ "version": self.version, "timestamp": 1, "state": delta });
            self.answers.push_back((self.shadow("update/delta"), message));
        }
    }

    fn shadow(&self, rest: &str) -> String {
        format!("{PREFIX}shadow/name/edgecam/{rest}")
    }
}

fn known(message: &Value, keys: &[&str]) {
    for key in message.as_object().unwrap_or_else(|| panic!("{message} is not an object")).keys() {
        assert!(keys.contains(&key.as_str()), "`{key}` is not in the API: {message}");
    }
}

/// As a shadow is written: objects are merged, null deletes.
fn merge(into: &mut Value, change: &Value) {
    let Some(change) = change.as_object() else {
        *into = change.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, value) in change {
        let Some(into) = into.as_object_mut() else { return };
        if value.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// What is desired and not reported so.
fn difference(desired: &Value, reported: &Value) -> Option<Value> {
    let Some(desired) = desired.as_object() else { return (desired != reported).then(|| desired.clone()) };
    let of = |key: &String| reported.get(key).cloned().unwrap_or(Value::Null);
    let delta: Map<String, Value> =
        desired.iter().filter_map(|(key, value)| Some((key.clone(), difference(value, &of(key))?))).collect();
    (!delta.is_empty()).then_some(Value::Object(delta))
}

//! AWS IoT jobs ("Jobs device MQTT API"): one at a time, a small closed set, never a shell. Pure.
//!
//! A job's id is the request id of its command. So a job that is delivered again has no second effect, and one that a
//! restart cut short is answered by the journal: nothing stays in progress for ever.

use serde_json::{Map, Value, json};

use super::Act;
use crate::control::command::{Command, Name, Request};
use crate::control::reply::{Outcome, Reply};

/// What a job may ask for.
const ALLOWED: [Name; 4] = [Name::Restart, Name::Snapshot, Name::Config, Name::Upload];
/// After this without a final word from us the service gives the job up.
const STEP_TIMEOUT_MINUTES: u64 = 60;
/// Longest value in `statusDetails`.
const DETAIL_MOST: usize = 1024;

pub(super) struct Jobs {
    thing: String,
    current: Option<Running>,
}

struct Running {
    id: String,
    /// `versionNumber`, which each accepted update raises; `None` after a restart.
    version: Option<u64>,
    /// The update that has not been accepted yet.
    update: Option<Value>,
    is_over: bool,
}

impl Jobs {
    pub(super) fn new(thing: &str) -> Self {
        Self { thing: thing.to_owned(), current: None }
    }

    pub(super) fn filters(&self) -> Vec<String> {
        ["notify-next", "start-next/accepted", "start-next/rejected", "+/update/accepted", "+/update/rejected"]
            .map(|rest| self.topic(rest))
            .to_vec()
    }

    pub(super) fn connected(&mut self) -> Vec<Act> {
        vec![self.start_next()]
    }

    pub(super) fn take(&mut self, topic: &str, payload: &[u8]) -> Option<Vec<Act>> {
        let rest = topic.strip_prefix(&self.topic(""))?.to_owned();
        let message: Value = serde_json::from_slice(payload).unwrap_or_default();
        let levels: Vec<&str> = rest.split('/').collect();
        Some(match levels[..] {
            ["notify-next"] if message["execution"]["jobId"].is_string() => vec![self.start_next()],
            ["start-next", "accepted"] => self.begin(&message["execution"]),
            ["start-next", "rejected"] => {
                tracing::warn!(reason = %message["message"], "AWS IoT refuses to hand out a job");
                Vec::new()
            }
            [id, "update", "accepted"] => self.accepted(id),
            [id, "update", "rejected"] => self.rejected(id, &message),
            _ => Vec::new(),
        })
    }

    pub(super) fn answered(&mut self, reply: &Reply) -> Vec<Act> {
        if self.current.as_ref().is_none_or(|job| job.id != reply.request_id) {
            // Begun by an earlier run.
            let id = reply.request_id.clone();
            self.current = Some(Running { id, version: None, update: None, is_over: false });
        }
        let status = match reply.status {
            Outcome::Accepted => "IN_PROGRESS",
            Outcome::Done => "SUCCEEDED",
            Outcome::Rejected => "REJECTED",
            Outcome::Busy | Outcome::Failed => "FAILED",
        };
        self.update(status, details(reply), reply.is_final())
    }

    fn begin(&mut self, execution: &Value) -> Vec<Act> {
        let Some(id) = execution["jobId"].as_str() else { return Vec::new() };
        let version = execution["versionNumber"].as_u64();
        if let Some(running) = self.current.as_mut().filter(|running| running.id == id && !running.is_over) {
            // Delivered again: it is being done.
            running.version = version;
            return Vec::new();
        }
        self.current = Some(Running { id: id.to_owned(), version, update: None, is_over: false });
        match request(id, &execution["jobDocument"]) {
            Ok(request) => vec![Act::Submit(request)],
            Err(reason) => self.update("REJECTED", json!({ "reason": clip(&reason) }), true),
        }
    }

    fn update(&mut self, status: &str, details: Value, is_over: bool) -> Vec<Act> {
        let Some(job) = &mut self.current else { return Vec::new() };
        let mut update = json!({ "status": status, "statusDetails": details, "clientToken": job.id });
        if let Some(version) = job.version {
            update["expectedVersion"] = json!(version);
        }
        job.update = Some(update.clone());
        job.is_over = is_over;
        let rest = format!("{}/update", job.id);
        vec![Act::Publish(self.topic(&rest), update)]
    }

    fn accepted(&mut self, id: &str) -> Vec<Act> {
        let Some(job) = self.current.as_mut().filter(|job| job.id == id) else { return Vec::new() };
        job.version = job.version.map(|version| version + 1);
        job.update = None;
        if !job.is_over {
            return Vec::new();
        }
        self.current = None;
        vec![self.start_next()]
    }

    fn rejected(&mut self, id: &str, message: &Value) -> Vec<Act> {
        let topic = self.topic(&format!("{id}/update"));
        let Some(job) = self.current.as_mut().filter(|job| job.id == id) else { return Vec::new() };
        let newer = message["executionState"]["versionNumber"].as_u64();
        if message["code"] == "VersionMismatch"
            && let (Some(newer), Some(mut update)) = (newer, job.update.take())
        {
            job.version = Some(newer);
            update["expectedVersion"] = json!(newer);
            return vec![Act::Publish(topic, update)];
        }
        // It was cancelled, or has ended by its time-out: nothing we say changes that.
        tracing::warn!(job = id, code = %message["code"], reason = %message["message"], "AWS IoT does not take what became of a job");
        if job.is_over {
            self.current = None;
        }
        Vec::new()
    }

    fn start_next(&self) -> Act {
        let topic = self.topic("start-next");
        Act::Publish(topic, json!({ "stepTimeoutInMinutes": STEP_TIMEOUT_MINUTES, "clientToken": "start-next" }))
    }

    fn topic(&self, rest: &str) -> String {
        format!("$aws/things/{}/jobs/{rest}", self.thing)
    }
}

/// A job document: `{"operation": "upload", "camera": "door", "start": …, "end": …}`.
fn request(id: &str, document: &Value) -> Result<Request, String> {
    let Some(document) = document.as_object() else { return Err("the job document is not an object".to_owned()) };
    let mut arguments: Map<String, Value> = document.clone();
    arguments.remove("version");
    let operation = arguments.remove("operation");
    let Some(operation) = operation.as_ref().and_then(Value::as_str) else {
        return Err("the job document names no `operation`".to_owned());
    };
    let camera = match arguments.remove("camera") {
        Some(Value::String(camera)) => Some(camera),
        Some(_) => return Err("`camera` must be a name".to_owned()),
        None => None,
    };
    if !ALLOWED.iter().any(|name| name.text() == operation) {
        let names = ALLOWED.map(Name::text).join(", ");
        return Err(format!(
            "a job cannot ask for `{}`; it can ask for {names}",
            crate::control::command::printable(operation)
        ));
    }
    arguments.insert("requestId".to_owned(), json!(id));
    let payload = Value::Object(arguments).to_string();
    let request = Request::parse(operation, camera.as_deref(), payload.as_bytes()).map_err(|error| error.reason)?;
    match request.command {
        Command::ConfigGet => Err("the job document has no `config`".to_owned()),
        _ => Ok(request),
    }
}

/// `statusDetails`: a flat map of short texts.
fn details(reply: &Reply) -> Value {
    let mut details = Map::new();
    if let Some(reason) = &reply.reason {
        details.insert("reason".to_owned(), json!(clip(reason)));
    }
    for (key, value) in reply.result.as_ref().and_then(Value::as_object).into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // A picture does not fit; it has been published as a reply.
        if text.len() <= DETAIL_MOST && details.len() < 20 {
            details.insert(key.clone(), json!(text));
        }
    }
    Value::Object(details)
}

fn clip(text: &str) -> String {
    text.chars().take(DETAIL_MOST / 4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(jobs: &mut Jobs, execution: &Value) -> Vec<Act> {
        let payload = json!({ "execution": execution, "timestamp": 1 }).to_string();
        jobs.take("$aws/things/gw/jobs/start-next/accepted", payload.as_bytes()).expect("its topic")
    }

    fn published(acts: &[Act]) -> Vec<(&str, &Value)> {
        let publish = |act: &Act| matches!(act, Act::Publish(..));
        assert!(acts.iter().all(publish), "{acts:?}");
        acts.iter()
            .filter_map(|act| if let Act::Publish(topic, value) = act { Some((topic.as_str(), value)) } else { None })
            .collect()
    }

    #[test]
    fn a_job_from_begin_to_end() {
        let mut jobs = Jobs::new("gw");
        let document = json!({ "version": "1.0", "operation": "upload", "camera": "door", "start": 1, "end": 2 });
        let execution = json!({ "jobId": "j-1", "versionNumber": 3, "jobDocument": document });
        let acts = start(&mut jobs, &execution);
        let [Act::Submit(request)] = &acts[..] else { panic!("{acts:?}") };
        assert_eq!(
            (request.id.as_str(), request.camera.as_deref(), request.command.name()),
            ("j-1", Some("door"), Name::Upload)
        );
        assert_eq!(start(&mut jobs, &execution), [], "delivered again while it runs");
        let progress = jobs.answered(&Reply::to(request, Outcome::Accepted).with(json!({ "progress": 0.5 })));
        let (topic, update) = published(&progress)[0];
        assert_eq!(topic, "$aws/things/gw/jobs/j-1/update");
        assert_eq!(
            (&update["status"], &update["expectedVersion"], &update["statusDetails"]["progress"]),
            (&json!("IN_PROGRESS"), &json!(3), &json!("0.5"))
        );
        assert_eq!(jobs.take("$aws/things/gw/jobs/j-1/update/accepted", b"{}"), Some(vec![]));
        let end = jobs.answered(&Reply::to(request, Outcome::Done));
        assert_eq!(
            (&published(&end)[0].1["status"], &published(&end)[0].1["expectedVersion"]),
            (&json!("SUCCEEDED"), &json!(4))
        );
        // Somebody else has touched it.
        let conflict = json!({ "code": "VersionMismatch", "executionState": { "versionNumber": 9 } }).to_string();
        let again = jobs.take("$aws/things/gw/jobs/j-1/update/rejected", conflict.as_bytes()).expect("its topic");
        assert_eq!(published(&again)[0].1["expectedVersion"], 9);
        let next = jobs.take("$aws/things/gw/jobs/j-1/update/accepted", b"{}").expect("its topic");
        assert_eq!(published(&next)[0].0, "$aws/things/gw/jobs/start-next");
    }

    #[test]
    fn what_is_no_job_is_rejected() {
        for (document, says) in [
            (json!("rm -rf /"), "not an object"),
            (json!({}), "no `operation`"),
            (json!({ "operation": "shell", "command": "id" }), "cannot ask for `shell`"),
            (json!({ "operation": "live", "camera": "door" }), "cannot ask for `live`"),
            (json!({ "operation": "config" }), "no `config`"),
            (json!({ "operation": "upload", "camera": "door", "start": 5, "end": 1 }), "ends before"),
            (json!({ "operation": "snapshot", "camera": 1 }), "must be a name"),
        ] {
            let mut jobs = Jobs::new("gw");
            let acts = start(&mut jobs, &json!({ "jobId": "j", "versionNumber": 1, "jobDocument": document }));
            let update = published(&acts)[0].1;
            assert_eq!(update["status"], "REJECTED", "{document}");
            assert!(update["statusDetails"]["reason"].as_str().is_some_and(|reason| reason.contains(says)), "{update}");
        }
    }

    #[test]
    fn a_job_of_an_earlier_run_is_ended() {
        let mut jobs = Jobs::new("gw");
        let mut reply = Reply::unread(Some("j-0".to_owned()), None, Outcome::Done, String::new());
        reply.reason = None;
        let acts = jobs.answered(&reply);
        assert_eq!(published(&acts)[0].0, "$aws/things/gw/jobs/j-0/update");
        assert_eq!(published(&acts)[0].1["expectedVersion"], Value::Null);
    }
}

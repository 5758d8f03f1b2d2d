//! A stand-in for the nucleus of Greengrass: its IPC server on a Unix socket, strict where the nucleus is.
//!
//! AWS's own client (`awsiotsdk`) works against it: see `honest`. What breaks the protocol ends the connection and is
//! kept as a violation; what breaks an operation's shape is answered with an error and kept too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::shapes;
use super::wire::{ACCEPTED, CONNECT, CONNECT_ACK, ERROR, Frame, LAST, MESSAGE, PING, PONG, PROTOCOL_ERROR};
use crate::harness::{PATIENCE, poll};

pub(super) const TOKEN: &str = "0123456789ABCDEF";
pub(super) const COMPONENT: &str = "com.example.EdgeCam";
/// Nucleus lite takes no larger frame.
const LITE_MOST: usize = 10_000;

/// What an operation does instead of working.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Instead {
    /// The component's access control does not name it.
    Denied,
    /// As the classic nucleus says that it does not have it.
    Unsupported,
    /// As nucleus lite says so: an error without a reason.
    Wordless,
    /// As nucleus lite answers a publish while it is offline.
    Offline,
    /// It answers after this time.
    Slow(Duration),
    /// It never answers.
    Silent,
    /// The connection is closed.
    Close,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) configuration: Value,
    pub(super) instead: BTreeMap<&'static str, Instead>,
    pub(super) is_lite: bool,
    pub(super) secrets: BTreeMap<String, Value>,
    /// Operation and request of each call.
    pub(super) calls: Vec<(String, Value)>,
    pub(super) violations: Vec<String>,
    pub(super) connections: usize,
    subscribed: Vec<Subscribed>,
    /// Deployments that wait for a word of the component, and what it said.
    reports: BTreeMap<String, Option<Value>>,
    deferrals: BTreeMap<String, Vec<Value>>,
}

/// A stream that events go to.
struct Subscribed {
    connection: usize,
    stream: i32,
    operation: String,
    request: Value,
    out: mpsc::Sender<Vec<u8>>,
}

pub(super) struct Nucleus {
    pub(super) socket: PathBuf,
    state: Arc<Mutex<State>>,
    serving: JoinSet<()>,
}

impl Nucleus {
    pub(super) fn start(directory: &Path, configuration: Value) -> Self {
        let state = State { configuration, ..State::default() };
        let mut nucleus =
            Self { socket: directory.join("ipc.socket"), state: Arc::new(Mutex::new(state)), serving: JoinSet::new() };
        nucleus.start_again();
        nucleus
    }

    /// It listens again after [`Self::stop`].
    pub(super) fn start_again(&mut self) {
        std::fs::remove_file(&self.socket).ok();
        let listener = UnixListener::bind(&self.socket).expect("a socket");
        let state = self.state.clone();
        self.serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                connections.spawn(serve(socket, state.clone()));
            }
        });
    }

    /// Ends it with all connections.
    pub(super) async fn stop(&mut self) {
        self.serving.shutdown().await;
        std::fs::remove_file(&self.socket).ok();
        self.state().subscribed.clear();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    pub(super) fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("AWS_IOT_THING_NAME".to_owned(), "e2e".to_owned()),
            ("SVCUID".to_owned(), TOKEN.to_owned()),
            ("AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT".to_owned(), self.socket.display().to_string()),
        ]
    }

    /// A deployment changes the configuration: everyone who follows it is told, key by key.
    pub(super) fn configure(&self, configuration: Value) {
        let mut state = self.state();
        state.configuration = configuration;
        tell_configuration(&state);
    }

    /// Asks whether a configuration can be used, as a deployment does first; the report.
    pub(super) async fn validate(&self, deployment: &str, configuration: &Value) -> Value {
        self.state().reports.insert(deployment.to_owned(), None);
        let event = json!({ "validateConfigurationUpdateEvent": {
            "configuration": configuration, "deploymentId": deployment,
        } });
        self.tell("SubscribeToValidateConfigurationUpdates", "ValidateConfigurationUpdateEvents", &event);
        let report = poll(PATIENCE, async || self.state().reports.get(deployment).cloned().flatten()).await;
        report.expect("a report")
    }

    /// Asks whether a deployment may go on; the answer.
    pub(super) async fn pre_update(&self, deployment: &str) -> Value {
        let before = self.state().deferrals.entry(deployment.to_owned()).or_default().len();
        let event = json!({ "preUpdateEvent": { "deploymentId": deployment, "isGgcRestarting": false } });
        self.tell("SubscribeToComponentUpdates", "ComponentUpdatePolicyEvents", &event);
        let answer =
            poll(PATIENCE, async || self.state().deferrals.get(deployment).and_then(|all| all.get(before)).cloned());
        answer.await.expect("an answer")
    }

    /// A message from AWS IoT.
    pub(super) fn say(&self, topic: &str, payload: &[u8]) {
        tell_topic(&self.state(), topic, payload);
    }

    fn tell(&self, operation: &str, model: &str, event: &Value) {
        let state = self.state();
        for to in state.subscribed.iter().filter(|to| to.operation == operation) {
            send(to, model, event);
        }
    }

    /// Waits until an operation is subscribed to so many times.
    pub(super) async fn subscribed(&self, operation: &str, count: usize) {
        let found = poll(PATIENCE, async || {
            let state = self.state();
            let found = state.subscribed.iter().filter(|one| one.operation == operation).count();
            (found >= count).then_some(())
        });
        assert!(found.await.is_some(), "{operation} is not subscribed to {count} times: {:?}", self.state().calls);
    }

    /// The requests of an operation.
    pub(super) fn calls(&self, operation: &str) -> Vec<Value> {
        let state = self.state();
        state.calls.iter().filter(|(name, _)| name == operation).map(|(_, request)| request.clone()).collect()
    }

    /// Waits for a call that is as wanted.
    pub(super) async fn called(&self, operation: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = poll(PATIENCE, async || self.calls(operation).into_iter().rev().find(|request| wanted(request)));
        let found = found.await;
        found.unwrap_or_else(|| panic!("no {operation} as wanted: {:#?}", self.calls(operation)))
    }

    /// Messages to AWS IoT, as topic and payload.
    pub(super) fn published(&self) -> Vec<(String, Value)> {
        let message = |request: &Value| {
            let payload = STANDARD.decode(request["payload"].as_str().unwrap_or_default()).expect("Base64");
            let text = String::from_utf8_lossy(&payload).into_owned();
            let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            (request["topicName"].as_str().unwrap_or_default().to_owned(), value)
        };
        self.calls("PublishToIoTCore").iter().map(message).collect()
    }

    /// Waits for a message to AWS IoT that is as wanted.
    pub(super) async fn heard(&self, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let is = |(found, payload): &(String, Value)| found == topic && wanted(payload);
        let found = poll(PATIENCE, async || self.published().into_iter().find(is)).await;
        found.map(|(_, payload)| payload).unwrap_or_else(|| {
            let topics: Vec<String> = self.published().into_iter().map(|(topic, _)| topic).collect();
            panic!("nothing as wanted on {topic}: {topics:#?}")
        })
    }

    pub(super) fn assert_well_behaved(&self) {
        let state = self.state();
        assert!(state.violations.is_empty(), "{:#?}", state.violations);
    }
}

fn send(to: &Subscribed, model: &str, event: &Value) {
    // Whoever does not read fast enough is cut off, as by the nucleus: here it fails the test by what is missing.
    to.out.try_send(Frame::answer(to.stream, model, event).write()).ok();
}

fn tell_configuration(state: &State) {
    let keys: Vec<String> =
        state.configuration.as_object().map(|keys| keys.keys().cloned().collect()).unwrap_or_default();
    for to in state.subscribed.iter().filter(|to| to.operation == "SubscribeToConfigurationUpdate") {
        for key in &keys {
            let event = json!({ "configurationUpdateEvent": { "componentName": COMPONENT, "keyPath": [key] } });
            send(to, "ConfigurationUpdateEvents", &event);
        }
    }
}

fn tell_topic(state: &State, topic: &str, payload: &[u8]) {
    let event = json!({ "message": { "topicName": topic, "payload": STANDARD.encode(payload) } });
    for to in state.subscribed.iter().filter(|to| to.operation == "SubscribeToIoTCore") {
        if shapes::matches(to.request["topicName"].as_str().unwrap_or_default(), topic) {
            send(to, "IoTCoreMessage", &event);
        }
    }
}

async fn serve(socket: UnixStream, state: Arc<Mutex<State>>) {
    let number = {
        let mut state = state.lock().expect("no panic");
        state.connections += 1;
        state.connections
    };
    let (mut read, mut write) = socket.into_split();
    let (out, mut frames) = mpsc::channel::<Vec<u8>>(4096);
    let writing = async {
        while let Some(frame) = frames.recv().await {
            if write.write_all(&frame).await.is_err() {
                break;
            }
        }
    };
    let reading = async {
        let mut bytes = Vec::new();
        let mut session = Session { number, state: state.clone(), out, is_open: false, last: 0, later: JoinSet::new() };
        loop {
            match Frame::read(&bytes) {
                Ok(Some((frame, length))) => {
                    bytes.drain(..length);
                    if let Err(violation) = session.take(&frame, length) {
                        if let Some(text) = violation {
                            state.lock().expect("no panic").violations.push(text);
                        }
                        // What was written so far is read by the other side.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        return;
                    }
                }
                Ok(None) => {
                    let mut space = [0; 4096];
                    match read.read(&mut space).await {
                        Ok(count) if count > 0 => bytes.extend_from_slice(&space[..count]),
                        _ => return,
                    }
                }
                Err(error) => return state.lock().expect("no panic").violations.push(error),
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
    state.lock().expect("no panic").subscribed.retain(|one| one.connection != number);
}

/// One connection.
struct Session {
    number: usize,
    state: Arc<Mutex<State>>,
    out: mpsc::Sender<Vec<u8>>,
    is_open: bool,
    last: i32,
    later: JoinSet<()>,
}

/// The end of a connection, over a violation or as ordered.
type End = Option<String>;

impl Session {
    fn put(&self, frame: &Frame) {
        self.out.try_send(frame.write()).ok();
    }

    fn broken(&self, why: String) -> Result<(), End> {
        let payload = json!({ "message": why }).to_string().into_bytes();
        self.put(&Frame { kind: PROTOCOL_ERROR, payload, ..Frame::default() });
        Err(Some(why))
    }

    fn take(&mut self, frame: &Frame, length: usize) -> Result<(), End> {
        if self.state.lock().expect("no panic").is_lite && length > LITE_MOST {
            // As lite does: not a word. A component is not told of the limit, so that this is no violation.
            return Err(None);
        }
        if !self.is_open {
            return self.connect(frame);
        }
        match frame.kind {
            PING => {
                self.put(&Frame { kind: PONG, ..Frame::default() });
                Ok(())
            }
            PONG => Ok(()),
            MESSAGE if frame.stream <= 0 => self.broken(format!("a message in stream {}", frame.stream)),
            MESSAGE if frame.flags & LAST != 0 => {
                let mut state = self.state.lock().expect("no panic");
                state.subscribed.retain(|one| (one.connection, one.stream) != (self.number, frame.stream));
                Ok(())
            }
            MESSAGE => self.request(frame),
            other => self.broken(format!("a message of type {other}")),
        }
    }

    fn connect(&mut self, frame: &Frame) -> Result<(), End> {
        if (frame.kind, frame.flags, frame.stream) != (CONNECT, 0, 0) || frame.text(":version") != Some("0.1.0") {
            return self.broken(format!("the connection begins with {frame:?}"));
        }
        let hello: Value = serde_json::from_slice(&frame.payload).unwrap_or_default();
        self.is_open = hello["authToken"] == TOKEN;
        let flags = if self.is_open { ACCEPTED } else { 0 };
        self.put(&Frame { kind: CONNECT_ACK, flags, ..Frame::default() });
        if self.is_open { Ok(()) } else { Err(None) }
    }

    fn request(&mut self, frame: &Frame) -> Result<(), End> {
        let stream = frame.stream;
        if stream <= self.last {
            return self.broken(format!("stream {stream} after {}", self.last));
        }
        self.last = stream;
        let operation = frame.text("operation").and_then(|text| text.strip_prefix("aws.greengrass#"));
        let Some(operation) = operation.map(str::to_owned) else {
            return self.broken(format!("a request without an operation: {frame:?}"));
        };
        if frame.text("service-model-type") != Some(&format!("aws.greengrass#{operation}Request"))
            || frame.text(":content-type") != Some("application/json")
        {
            return self.broken(format!("{operation}: {:?}", frame.texts));
        }
        let Ok(request @ Value::Object(_)) = serde_json::from_slice::<Value>(&frame.payload) else {
            return self.broken(format!("{operation}: the payload is no JSON object"));
        };
        let mut state = self.state.lock().expect("no panic");
        state.calls.push((operation.clone(), request.clone()));
        let instead = state.instead.get(operation.as_str()).copied();
        let answer = match instead {
            Some(Instead::Close) => return Err(None),
            Some(Instead::Silent) => return Ok(()),
            Some(Instead::Denied) => {
                Err(("UnauthorizedError", json!({ "message": format!("Principal {COMPONENT} is not authorized") })))
            }
            Some(Instead::Unsupported) => {
                let text = format!("Operation aws.greengrass#{operation} is not supported by Greengrass");
                Err(("ServiceError", json!({ "message": text })))
            }
            Some(Instead::Wordless) => Err(("ServiceError", json!({ "_message": "", "_errorCode": "ServiceError" }))),
            Some(Instead::Offline) => {
                let text = "Failed to publish the message.";
                Err(("ServiceError", json!({ "_message": text, "_errorCode": "ServiceError" })))
            }
            Some(Instead::Slow(_)) | None => state.operate(&operation, &request),
        };
        if let Ok((_, _, true)) = &answer {
            let (number, out) = (self.number, self.out.clone());
            let subscribed =
                Subscribed { connection: number, stream, operation: operation.clone(), request: request.clone(), out };
            state.subscribed.push(subscribed);
        }
        let answer = match answer {
            Ok((model, payload, is_subscription)) => {
                let flags = if is_subscription { 0 } else { LAST };
                Frame { flags, ..Frame::answer(stream, &model, &payload) }
            }
            Err((model, payload)) => Frame { kind: ERROR, flags: LAST, ..Frame::answer(stream, model, &payload) },
        };
        if let Some(Instead::Slow(time)) = instead {
            let (out, answer) = (self.out.clone(), answer.write());
            self.later.spawn(async move {
                tokio::time::sleep(time).await;
                out.try_send(answer).ok();
            });
            return Ok(());
        }
        // Before any event.
        self.put(&answer);
        state.after(&operation, &request);
        Ok(())
    }
}

type Answer = Result<(String, Value, bool), (&'static str, Value)>;

impl State {
    /// Answers: model, payload, and whether events follow.
    fn operate(&mut self, operation: &str, request: &Value) -> Answer {
        if let Err(violation) = shapes::check(operation, request) {
            let text = format!("{operation}: {violation}: {request}");
            self.violations.push(text.clone());
            return Err(("InvalidArgumentsError", json!({ "message": text })));
        }
        let text = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
        let payload = match operation {
            "GetConfiguration" => {
                let path: Vec<&str> =
                    request["keyPath"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let found = path.iter().try_fold(&self.configuration, |value, key| value.get(key));
                let Some(found) = found else {
                    return Err(("ResourceNotFoundError", json!({ "message": "Key not found" })));
                };
                let value = match (found, path.last()) {
                    (Value::Object(_), _) | (_, None) => found.clone(),
                    (leaf, Some(key)) => json!({ *key: leaf }),
                };
                json!({ "componentName": COMPONENT, "value": value })
            }
            "GetSecretValue" => {
                let id = text("secretId");
                let Some(secret) = self.secrets.get(&id) else {
                    return Err(("ResourceNotFoundError", json!({ "message": format!("{id} is not configured") })));
                };
                json!({ "secretId": id, "versionId": "v1", "versionStage": ["AWSCURRENT"],
                        "secretValue": { "secretString": secret.to_string() } })
            }
            "DeferComponentUpdate" => {
                let Some(answers) = self.deferrals.get_mut(&text("deploymentId")) else {
                    return Err(("ResourceNotFoundError", json!({ "message": "no such deployment" })));
                };
                answers.push(request.clone());
                json!({})
            }
            "SendConfigurationValidityReport" => {
                let report = &request["configurationValidityReport"];
                let id = report["deploymentId"].as_str().unwrap_or_default();
                let Some(place) = self.reports.get_mut(id) else {
                    return Err(("InvalidArgumentsError", json!({ "message": "no such deployment" })));
                };
                *place = Some(report.clone());
                json!({})
            }
            _ => json!({}),
        };
        Ok((format!("{operation}Response"), payload, operation.starts_with("SubscribeTo")))
    }

    /// What others notice of it.
    fn after(&mut self, operation: &str, request: &Value) {
        match operation {
            "UpdateConfiguration" => {
                if let (Some(old), Some(new)) =
                    (self.configuration.as_object_mut(), request["valueToMerge"].as_object())
                {
                    old.extend(new.clone());
                }
                tell_configuration(self);
            }
            "PublishToIoTCore" => {
                let payload = STANDARD.decode(request["payload"].as_str().unwrap_or_default()).unwrap_or_default();
                tell_topic(self, request["topicName"].as_str().unwrap_or_default(), &payload);
            }
            _ => {}
        }
    }
}

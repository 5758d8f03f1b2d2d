//! From a command to its effect and its answers. One stage does all commands; none of them is in capture's way.
//!
//! Order of things: known? allowed? not too many? then written down, then done, then answered.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::command::{Command, Name, Request};
use super::commanded::Commanded;
use super::greengrass::{self, Component};
use super::journal::Journal;
use super::mqtt::{Client, MqttStatus};
use super::reply::{Ending, Outcome, Reply};
use super::{clip, config, live, snapshot, switch, view};
use crate::config::Commands;
use crate::telemetry::report;
use crate::topology::{Agent, CameraHandle};
use crate::web;

/// Commands that wait.
const QUEUE: usize = 8;
/// Commands that are being done at the same time.
const AT_ONCE: usize = 8;
/// Commands a second of one transport, and how many may come at once.
const SPACING: Duration = Duration::from_millis(100);
const BURST: u32 = 20;

/// Where answers go.
pub type Answer = Box<dyn FnMut(Reply) + Send>;

struct Order {
    transport: &'static str,
    request: Request,
    answer: Answer,
}

/// Takes commands. Clones share it.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

struct Shared {
    orders: mpsc::Sender<Order>,
    waiting: Mutex<Option<mpsc::Receiver<Order>>>,
    journal: Mutex<Journal>,
    commands: Mutex<Commands>,
    pace: Mutex<BTreeMap<&'static str, Instant>>,
    counts: Mutex<Counts>,
    due: Mutex<Vec<(String, Reply)>>,
    mqtt: Mutex<Option<Client>>,
    component: OnceLock<Component>,
    context: Context,
}

/// Counters since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Counts {
    /// Commands that were begun.
    pub taken: u64,
    /// Commands that were known already.
    pub repeated: u64,
    /// Commands that are none, are not allowed or make no sense.
    pub rejected: u64,
    /// Commands that came when too many were there.
    pub busy: u64,
    /// Commands that could not be done.
    pub failed: u64,
    /// What other languages ask for and this agent does not have.
    pub unsupported: u64,
}

/// What commands act on.
pub(super) struct Context {
    pub(super) agent: web::Shared,
    pub(super) commanded: tokio::sync::Mutex<Commanded>,
    /// The config file; without one no config can be set.
    pub(super) file: Option<PathBuf>,
    pub(super) state_dir: PathBuf,
    pub(super) restart: Notify,
}

impl Control {
    /// Takes commands from now on; [`run`] does them.
    pub fn new(
        agent: web::Shared,
        commanded: Commanded,
        file: Option<PathBuf>,
        config: &crate::config::Config,
    ) -> Self {
        let (orders, waiting) = mpsc::channel(QUEUE);
        let (journal, due) = Journal::open(Some(config.state_dir.join("commands.json")));
        let commanded = tokio::sync::Mutex::new(commanded);
        let state_dir = config.state_dir.clone();
        Self(Arc::new(Shared {
            orders,
            waiting: Mutex::new(Some(waiting)),
            journal: Mutex::new(journal),
            commands: Mutex::new(config.commands.clone()),
            pace: Mutex::default(),
            counts: Mutex::default(),
            due: Mutex::new(due),
            mqtt: Mutex::default(),
            component: OnceLock::new(),
            context: Context { agent, commanded, file, state_dir, restart: Notify::new() },
        }))
    }

    /// Another config is in force.
    pub async fn reconfigured(&self, commands: Commands, commanded: Commanded) {
        *lock(&self.0.commands) = commands;
        *self.0.context.commanded.lock().await = commanded;
    }

    /// Takes a command; each answer is handed to `answer`, the last one is final. Never waits.
    pub fn submit(&self, transport: &'static str, request: Request, mut answer: Answer) {
        let is_fleeting = request.command.is_fleeting();
        let known = if is_fleeting { None } else { lock(&self.0.journal).known(transport, &request.id) };
        if let Some(known) = known {
            lock(&self.0.counts).repeated += 1;
            answer(known);
            return;
        }
        if let Some(name) = self.forbidden(transport, &request.command) {
            let reason = format!("`{}` is not allowed over {transport}: see `commands` in the config", name.text());
            lock(&self.0.counts).rejected += 1;
            answer(Reply::to(&request, Outcome::Rejected).because(reason));
            return;
        }
        let busy = |request: &Request| {
            lock(&self.0.counts).busy += 1;
            Reply::to(request, Outcome::Busy).because("too many commands at once: ask again in a second")
        };
        if !is_fleeting && !self.is_in_pace(transport) {
            answer(busy(&request));
            return;
        }
        match self.0.orders.try_reserve() {
            Ok(place) => {
                lock(&self.0.counts).taken += 1;
                if !is_fleeting {
                    lock(&self.0.journal).begin(transport, &request);
                }
                place.send(Order { transport, request, answer });
            }
            Err(_) => answer(busy(&request)),
        }
    }

    /// Counts what a transport had to refuse by itself.
    pub fn count_rejected(&self) {
        lock(&self.0.counts).rejected += 1;
    }

    /// The same for commands it had no room for.
    pub fn count_busy(&self) {
        lock(&self.0.counts).busy += 1;
    }

    /// The same for what this agent does not have.
    pub fn count_unsupported(&self) {
        lock(&self.0.counts).unsupported += 1;
    }

    /// What `command` needs and `transport` is not allowed.
    pub fn forbidden(&self, transport: &str, command: &Command) -> Option<Name> {
        let commands = lock(&self.0.commands);
        command.needs().into_iter().find(|name| !commands.allows(transport, *name))
    }

    /// The MQTT connection that there is now, for the status.
    pub(super) fn set_mqtt(&self, client: Option<Client>) {
        *lock(&self.0.mqtt) = client;
    }

    /// What the MQTT connection is doing; `None` when there is none in the config.
    pub fn mqtt(&self) -> Option<MqttStatus> {
        lock(&self.0.mqtt).as_ref().map(Client::status)
    }

    /// The Greengrass component that the agent is, for the status. Once at most.
    pub fn set_component(&self, component: Component) {
        // A second one would be the same.
        self.0.component.set(component).ok();
    }

    /// How the Greengrass component does; `None` when it is none.
    pub fn greengrass(&self) -> Option<greengrass::Status> {
        self.0.component.get().map(Component::status)
    }

    /// Counters since the start.
    pub fn counts(&self) -> Counts {
        *lock(&self.0.counts)
    }

    /// Answers that an earlier run owes over `transport`; each is returned once.
    pub fn due(&self, transport: &str) -> Vec<Reply> {
        lock(&self.0.due).extract_if(.., |(to, _)| to == transport).map(|(_, reply)| reply).collect()
    }

    /// Waits until a command asks for a restart.
    pub async fn restart(&self) {
        self.0.context.restart.notified().await;
    }

    /// What commands have changed. Locked before the agent.
    pub(super) fn commanded(&self) -> &tokio::sync::Mutex<Commanded> {
        &self.0.context.commanded
    }

    /// The agent, for transports that also report.
    pub fn agent(&self) -> &web::Shared {
        &self.0.context.agent
    }

    fn is_in_pace(&self, transport: &'static str) -> bool {
        let now = Instant::now();
        let mut pace = lock(&self.0.pace);
        let earliest = now.checked_sub(SPACING * BURST).unwrap_or(now);
        let next = pace.entry(transport).or_insert(earliest);
        let at = (*next).max(earliest);
        if at > now {
            return false;
        }
        *next = at + SPACING;
        true
    }
}

/// Does what is asked until `cancel` is called.
pub async fn run(control: Control, cancel: CancellationToken) {
    // After a panic the queue is handed on.
    let Some(waiting) = lock(&control.0.waiting).take() else { return };
    let mut orders = Returned { control: &control, waiting: Some(waiting) };
    let mut jobs: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = FuturesUnordered::new();
    loop {
        let Some(waiting) = &mut orders.waiting else { return };
        tokio::select! {
            () = cancel.cancelled() => return,
            order = waiting.recv(), if jobs.len() < AT_ONCE => {
                let Some(order) = order else { return };
                jobs.push(Box::pin(execute(&control, order)));
            }
            Some(()) = jobs.next(), if !jobs.is_empty() => {}
        }
    }
}

/// Gives the queue back when the stage ends.
struct Returned<'a> {
    control: &'a Control,
    waiting: Option<mpsc::Receiver<Order>>,
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        *lock(&self.control.0.waiting) = self.waiting.take();
    }
}

async fn execute(control: &Control, order: Order) {
    let Order { transport, request, mut answer } = order;
    let shared = &control.0;
    let mut progress = |result| {
        let reply = Reply::to(&request, Outcome::Accepted).with(result);
        lock(&shared.journal).answered(transport, &reply);
        answer(reply);
    };
    let ending = perform(&shared.context, &request, &mut progress).await;
    let reply = match ending {
        // It is answered after the restart.
        Ok(_) if request.command == Command::Restart => return,
        Ok(None) => Reply::to(&request, Outcome::Done),
        Ok(Some(result)) => Reply::to(&request, Outcome::Done).with(result),
        Err((outcome, reason)) => {
            let mut counts = lock(&shared.counts);
            match outcome {
                Outcome::Rejected => counts.rejected += 1,
                Outcome::Busy => counts.busy += 1,
                _ => counts.failed += 1,
            }
            Reply::to(&request, outcome).because(reason)
        }
    };
    if request.command.is_fleeting() {
        answer(reply);
        return;
    }
    let (command, status) = (request.command.name().text(), reply.status);
    tracing::info!(
        camera_name = request.camera,
        transport,
        command,
        request_id = request.id,
        ?status,
        reason = reply.reason,
        "command"
    );
    lock(&shared.journal).answered(transport, &reply);
    answer(reply);
}

async fn perform(context: &Context, request: &Request, progress: &mut (dyn FnMut(serde_json::Value) + Send)) -> Ending {
    let Some(name) = &request.camera else {
        return match &request.command {
            Command::ConfigGet => config::get(context).await,
            Command::ConfigSet(text) => config::set(context, text).await,
            Command::Restart => {
                context.restart.notify_one();
                Ok(None)
            }
            Command::Status => {
                let agent = context.agent.read().await;
                let report = agent.as_ref().map(|agent| report::agent(agent, crate::host::wall_clock()));
                Ok(report.and_then(|report| serde_json::to_value(report).ok()))
            }
            other => super::reply::rejected(format!("`{}` needs a camera", other.name().text())),
        };
    };
    // A camera that is switched off can be told these too.
    match &request.command {
        Command::Camera(on) => return switch::camera(context, name, *on).await,
        Command::Mode(mode) => return switch::mode(context, name, *mode).await,
        Command::View(view) => return view::act(&context.agent, name, view).await,
        _ => {}
    }
    let camera = camera(context, name).await?;
    match &request.command {
        Command::Live(duration) => live::begin(&camera, *duration),
        Command::Stop => live::end(&camera),
        Command::Upload(period) => live::upload(&camera, *period, progress).await,
        Command::Record(on) => switch::record(context, &camera, *on).await,
        Command::Encoder(control) => switch::encoder(context, &camera, *control).await,
        Command::Keyframe => switch::keyframe(&camera),
        Command::Snapshot { max_width } => snapshot::take(&camera, *max_width).await,
        Command::Clip(period) => clip::cut(&camera, *period, &context.state_dir).await,
        Command::Status => Ok(serde_json::to_value(report::stream(&camera)).ok()),
        other => super::reply::rejected(format!("`{}` is about the agent", other.name().text())),
    }
}

async fn camera(context: &Context, name: &str) -> Result<CameraHandle, (Outcome, String)> {
    let agent = context.agent.read().await;
    let Some(agent) = agent.as_ref() else { return super::reply::failed("the agent is stopping") };
    camera_of(agent, name)
}

/// A camera that is not switched off.
pub(super) fn camera_of(agent: &Agent, name: &str) -> Result<CameraHandle, (Outcome, String)> {
    if let Some(found) = agent.cameras().into_iter().find(|camera| camera.config.name == name) {
        return Ok(found);
    }
    let shown = super::command::printable(name);
    match agent.config().cameras.iter().any(|camera| camera.name == name) {
        true => super::reply::rejected(format!("the camera `{shown}` is switched off")),
        false => super::reply::rejected(format!("there is no camera `{shown}`")),
    }
}

impl Commands {
    fn allows(&self, transport: &str, name: Name) -> bool {
        let allowed = match transport {
            // What a platform of hive cameras says comes over MQTT too.
            "mqtt" | "honeycomb" => &self.mqtt,
            "http" => &self.http,
            // Jobs and shadows come over MQTT.
            _ => &self.iot,
        };
        allowed.contains(&name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The agent as a Greengrass component: its configuration comes from the nucleus, and the nucleus is told how it does.
//!
//! The component's configuration is kept in a file, and from there on it is a config file like any other: what is in
//! force outlives a nucleus that does not answer, and commands, checks and SIGHUP know only the file.
//!
//! What a nucleus does not support, or does not allow, is off: said once, shown in the status, tried again now and then.

mod config;
mod deploy;
mod status;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edgecam_kvs::Backoff;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use config::{Begun, begin, give_up};
pub use status::{Feature, Status};

use super::dispatch::Control;
use crate::host::greengrass::{Fault, Ipc, Subscription};

/// What is off is tried again after this time: a deployment may have changed it. A new connection is another try.
const TRY_AGAIN: Duration = Duration::from_secs(10 * 60);
/// Between attempts that failed for a passing reason.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The component. Clones share it.
#[derive(Clone)]
pub struct Component(Arc<Shared>);

struct Shared {
    ipc: Ipc,
    /// Where the component's configuration is kept; `None` when the config comes from elsewhere.
    file: Option<PathBuf>,
    /// The configuration may have changed.
    dirty: Notify,
    /// There is a new config in the file.
    changed: Notify,
    status: Mutex<Status>,
}

impl Component {
    /// A component at the end of `ipc`, whose configuration is kept in `file`. `refused` is why the nucleus's
    /// configuration could not be used so far.
    pub fn new(ipc: Ipc, file: Option<PathBuf>, refused: Option<String>) -> Self {
        let status = Status { config_refused: refused, ..Status::default() };
        let (dirty, changed) = (Notify::new(), Notify::new());
        Self(Arc::new(Shared { ipc, file, dirty, changed, status: Mutex::new(status) }))
    }

    /// Waits until there is a new config in the file.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// How it does.
    pub fn status(&self) -> Status {
        Status { ipc: self.0.ipc.status(), ..self.lock().clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A feature is on, or off; said when that is news.
    fn is_now(&self, name: &'static str, feature: Feature) {
        let before = self.lock().features.insert(name, feature.clone());
        match feature {
            Feature::Off(reason) if before.as_ref() != Some(&Feature::Off(reason.clone())) => {
                tracing::warn!(feature = name, "Greengrass: {name} is off: {reason}");
            }
            _ => {}
        }
    }

    fn subscribe(&self, name: &'static str, operation: &'static str, request: Value) -> Kept<'_> {
        self.lock().features.entry(name).or_insert(Feature::Waiting);
        let backoff = Backoff::new(RETRY.0, RETRY.1);
        Kept { component: self, name, operation, request, events: None, backoff, rng: fastrand::Rng::new() }
    }

    /// Tells the nucleus, on each connection, that the component runs.
    async fn tell_state(&self) {
        let mut link = self.0.ipc.link();
        loop {
            if link.wait_for(|is_up| *is_up).await.is_err() {
                return;
            }
            match self.0.ipc.call("UpdateState", json!({ "state": "RUNNING" })).await {
                Ok(_) => self.is_now("state", Feature::On),
                Err(Fault::Closed(_) | Fault::Silent) => {}
                Err(fault) => self.is_now("state", Feature::Off(fault.to_string())),
            }
            if link.wait_for(|is_up| !is_up).await.is_err() {
                return;
            }
        }
    }
}

/// A subscription that is made again when it ends.
struct Kept<'a> {
    component: &'a Component,
    name: &'static str,
    operation: &'static str,
    request: Value,
    events: Option<Subscription>,
    backoff: Backoff,
    rng: fastrand::Rng,
}

/// What comes of it.
enum News {
    /// It has begun, perhaps again: what happened before is not known.
    Begun,
    /// An event.
    Event(Value),
}

impl Kept<'_> {
    /// The next event, however long that takes.
    async fn next(&mut self) -> News {
        let ipc = &self.component.0.ipc;
        loop {
            if let Some(events) = &mut self.events {
                match events.next().await {
                    Some(event) => return News::Event(event),
                    None => {
                        self.events = None;
                        let wait = self.backoff.failed(&mut self.rng);
                        self.wait(wait).await;
                    }
                }
            }
            let wait = match ipc.subscribe(self.operation, self.request.clone()).await {
                Ok(events) => {
                    self.events = Some(events);
                    self.backoff.succeeded();
                    self.component.is_now(self.name, Feature::On);
                    return News::Begun;
                }
                Err(Fault::Closed(_) | Fault::Silent) => self.backoff.failed(&mut self.rng),
                Err(fault) => {
                    self.component.is_now(self.name, Feature::Off(fault.to_string()));
                    TRY_AGAIN
                }
            };
            self.wait(wait).await;
        }
    }

    /// For some time, or until there is another connection: that is another try.
    async fn wait(&self, time: Duration) {
        let mut link = self.component.0.ipc.link();
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            Ok(_) = link.wait_for(|is_up| !is_up) => {}
        }
    }
}

/// Speaks with the nucleus until `cancel` is called.
pub async fn run(component: Component, control: Control, cancel: CancellationToken) {
    let speak = async {
        tokio::join!(
            component.tell_state(),
            component.follow_config(),
            component.refresh_config(),
            component.judge_configs(),
            component.delay_deployments(&control),
        )
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        _ = speak => {}
    }
}

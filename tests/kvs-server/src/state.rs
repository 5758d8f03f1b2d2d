//! What connections share: streams, credentials, faults. One lock, held only for plain memory work and never across
//! an await.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::now_ms;
use crate::config::{Config, Credentials, StreamSpec};
use crate::error::ServiceError;
use crate::fault_table::FaultTable;
use crate::hls::Hls;
use crate::http::head::Head;
use crate::listener::Listener;
use crate::record::{Attempt, Call, Outcome, StreamStatus, push_bounded};
use crate::sigv4;
use crate::stream::Stream;

/// The state, and how others learn that it changed.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// `http` or `https`, host and port.
    pub(crate) endpoint: String,
    pub(crate) listener: Listener,
    state: Mutex<State>,
    /// Orders: faults set or cleared, sessions replaced. Sessions look again.
    orders: watch::Sender<()>,
    /// Records: waiting tests look again.
    progress: watch::Sender<()>,
}

/// Everything that changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) streams: BTreeMap<String, Stream>,
    pub(crate) credentials: Vec<Credentials>,
    pub(crate) faults: FaultTable,
    pub(crate) hls: Hls,
    /// Calls that named no stream, or one that does not exist.
    pub(crate) stray_attempts: Vec<Attempt>,
    /// TCP connections accepted so far.
    pub(crate) connections: u64,
    sessions: u64,
    fragments: u64,
    requests: u64,
    forgotten: u64,
}

impl Shared {
    pub(crate) fn new(config: Config, listener: Listener) -> Self {
        let scheme = if config.tls { "https" } else { "http" };
        let endpoint = format!("{scheme}://localhost:{}", listener.port());
        let state = State {
            streams: BTreeMap::new(),
            credentials: config.credentials.clone(),
            faults: FaultTable::default(),
            hls: Hls::default(),
            stray_attempts: Vec::new(),
            connections: 0,
            sessions: 0,
            fragments: 0,
            requests: 0,
            forgotten: 0,
        };
        let shared = Self {
            config,
            endpoint,
            listener,
            state: Mutex::new(state),
            orders: watch::Sender::new(()),
            progress: watch::Sender::new(()),
        };
        for spec in shared.config.streams.clone() {
            shared.create_stream(&spec);
        }
        shared
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that panics runs under the lock; were it poisoned, the records would still be readable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn create_stream(&self, spec: &StreamSpec) -> bool {
        self.lock().create_stream(spec, &self.config, None)
    }

    /// Tells sessions to look for orders.
    pub(crate) fn order(&self) {
        self.orders.send_replace(());
    }

    pub(crate) fn orders(&self) -> watch::Receiver<()> {
        self.orders.subscribe()
    }

    /// Tells those who wait that a record changed.
    pub(crate) fn progressed(&self) {
        self.progress.send_replace(());
    }

    pub(crate) fn progress(&self) -> watch::Receiver<()> {
        self.progress.subscribe()
    }

    /// Checks the signature of a request.
    pub(crate) fn authenticate(&self, head: &Head, payload: &[u8]) -> Result<String, ServiceError> {
        let state = self.lock();
        let region = self.config.region.as_deref();
        sigv4::verify(head, payload, &state.credentials, region, SystemTime::now())
            .map(|credentials| credentials.access_key.clone())
    }

    /// Writes down what became of a call.
    pub(crate) fn attempt(&self, call: Call, stream: Option<&str>, outcome: Outcome) {
        let attempt = Attempt { at: now_ms(), call, outcome };
        let mut guard = self.lock();
        let state = &mut *guard;
        match stream.and_then(|name| state.streams.get_mut(name)) {
            Some(stream) => stream.push_attempt(attempt),
            None => push_bounded(&mut state.stray_attempts, attempt, &mut state.forgotten),
        }
        drop(guard);
        self.progressed();
    }
}

impl State {
    /// False when there is one of that name.
    pub(crate) fn create_stream(&mut self, spec: &StreamSpec, config: &Config, active_at: Option<Instant>) -> bool {
        if self.streams.contains_key(&spec.name) {
            return false;
        }
        let region = config.region.as_deref().unwrap_or("us-east-1");
        self.streams.insert(spec.name.clone(), Stream::new(spec, region, config.dump.clone(), active_at));
        true
    }

    /// The stream that a request names, by name or by ARN.
    pub(crate) fn find(&mut self, name: Option<&str>, arn: Option<&str>) -> Result<&mut Stream, ServiceError> {
        let name = match (name, arn) {
            (Some(name), None) => name,
            (None, Some(arn)) => arn.split('/').nth(1).unwrap_or_default(),
            _ => return Err(ServiceError::invalid_argument("Specify either StreamName or StreamARN.")),
        };
        self.streams
            .get_mut(name)
            .filter(|stream| arn.is_none_or(|arn| arn == stream.record.arn))
            .ok_or_else(|| ServiceError::not_found(name))
    }

    pub(crate) fn next_session(&mut self) -> u64 {
        self.sessions += 1;
        self.sessions
    }

    /// 47 digits, increasing. The service promises neither, but both are what it does.
    pub(crate) fn next_fragment_number(&mut self) -> String {
        self.fragments += 1;
        format!("9134385233318143{:013}{:018}", now_ms() % 10_000_000_000_000, self.fragments)
    }

    pub(crate) fn next_request_id(&mut self) -> String {
        self.requests += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.requests)
    }

    pub(crate) fn set_status(&mut self, name: &str, status: StreamStatus) -> bool {
        self.streams.get_mut(name).is_some_and(|stream| {
            stream.record.status = status;
            true
        })
    }
}

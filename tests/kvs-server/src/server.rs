//! The handle that tests hold.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::config::{Config, Credentials, Dump, StreamSpec};
use crate::fault::{Fault, FaultId, FaultKind};
use crate::hls::Playback;
use crate::listener::{self, Listener};
use crate::record::{Attempt, StreamRecord, StreamStatus, Totals};
use crate::state::Shared;
use crate::stream::SessionDump;
use crate::tls;

/// A running stand-in for Kinesis Video Streams. Dropping it ends it.
#[derive(Debug)]
pub struct KvsServer {
    shared: Arc<Shared>,
    ca_pem: PathBuf,
    kills: mpsc::Sender<oneshot::Sender<()>>,
    _listener: JoinSet<()>,
}

/// Sets a fault; those of the whole server are carried out here, the others by who they concern.
pub(crate) fn set_fault(shared: &Shared, fault: Fault) -> FaultId {
    match &fault.kind {
        FaultKind::Refuse { for_ms } => {
            // Keeping the port can fail only when the machine is out of sockets, and then connections are refused as
            // well.
            shared.listener.refuse(for_ms.map(Duration::from_millis)).ok();
        }
        FaultKind::ExpireToken => {
            let mut state = shared.lock();
            for credentials in state.credentials.iter_mut().filter(|credentials| credentials.session_token.is_some()) {
                credentials.expires = Some(SystemTime::now());
            }
        }
        _ => {}
    }
    let id = shared.lock().faults.add(fault);
    shared.order();
    id
}

/// Ends all faults.
pub(crate) fn clear_faults(shared: &Shared) {
    shared.lock().faults.clear();
    shared.listener.relent().ok();
    shared.order();
}

impl KvsServer {
    /// Binds 127.0.0.1 and begins to serve, on the runtime this is called from.
    ///
    /// # Errors
    /// When the port is taken, or the directory for `ca.pem` cannot be written.
    #[allow(clippy::unused_async, reason = "it needs a runtime, and says so by its type")]
    pub async fn start(config: Config) -> io::Result<Self> {
        let ca_pem = config.dir.join("ca.pem");
        let acceptor = if config.tls { Some(tls::acceptor(&config.dir)?) } else { None };
        let listener = Listener::bind(config.port)?;
        let shared = Arc::new(Shared::new(config, listener));
        let (kills, receiver) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(listener::run(Arc::clone(&shared), acceptor, receiver));
        Ok(Self { shared, ca_pem, kills, _listener: tasks })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.listener.port()
    }

    /// `https://localhost:<port>`, or `http:` when plain: control plane and, unless configured otherwise, data
    /// endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// The certificate that clients must trust, for `AWS_CA_BUNDLE`. Not written in plain mode.
    #[must_use]
    pub fn ca_pem_path(&self) -> &Path {
        &self.ca_pem
    }

    /// Creates a stream; false when there is one of that name.
    pub fn create_stream(&self, name: &str, retention_hours: u32) -> bool {
        self.shared.create_stream(&StreamSpec { name: name.to_owned(), retention_hours })
    }

    /// Removes a stream and its record; its sessions go on unrecorded. False when there is none.
    pub fn delete_stream(&self, name: &str) -> bool {
        self.shared.lock().streams.remove(name).is_some()
    }

    /// Changes the status of a stream, which sessions look at when they begin. False when there is no such stream.
    pub fn set_stream_status(&self, name: &str, status: StreamStatus) -> bool {
        self.shared.lock().set_status(name, status)
    }

    /// What becomes of the media of sessions that begin from now on.
    pub fn set_dump(&self, name: &str, dump: Dump) {
        if let Some(stream) = self.shared.lock().streams.get_mut(name) {
            stream.dump = dump;
        }
    }

    /// The persisted media kept in memory: one playable file per session.
    #[must_use]
    pub fn dumped(&self, name: &str) -> Vec<SessionDump> {
        self.shared.lock().streams.get(name).map(|stream| stream.dumps.clone()).unwrap_or_default()
    }

    /// Sets a fault.
    pub fn fault(&self, fault: Fault) -> FaultId {
        set_fault(&self.shared, fault)
    }

    /// Ends all faults: the listener is open again, silent connections are reset, everything else goes on as usual.
    pub fn clear_faults(&self) {
        clear_faults(&self.shared);
    }

    /// How many sessions or calls have suffered a fault so far; 0 after it was cleared.
    #[must_use]
    pub fn suffered(&self, fault: FaultId) -> u32 {
        self.shared.lock().faults.suffered(fault)
    }

    /// Plays footage as the live footage of a stream, from now on, to whoever opens a session by HLS.
    pub fn play(&self, stream: &str, playback: Playback) {
        self.shared.lock().hls.play(stream, playback);
    }

    /// Ends all sessions by HLS: their tokens are refused from now on.
    pub fn expire_hls_sessions(&self) {
        self.shared.lock().hls.expire();
    }

    /// Sessions by HLS so far, and the fragments that were fetched, by number.
    #[must_use]
    pub fn hls_record(&self) -> (u64, Vec<usize>) {
        let state = self.shared.lock();
        (state.hls.count, state.hls.fetched.clone())
    }

    /// The record of a stream as it is now; an empty one, with the name, when there is no such stream.
    #[must_use]
    pub fn stream(&self, name: &str) -> StreamRecord {
        let record = self.shared.lock().streams.get(name).map(|stream| stream.record.clone());
        record.unwrap_or_else(|| {
            StreamRecord::new(
                &StreamSpec { name: name.to_owned(), retention_hours: 0 },
                StreamStatus::Deleting,
                "us-east-1",
                0,
            )
        })
    }

    /// Calls that named no stream, or one that did not exist.
    #[must_use]
    pub fn stray_attempts(&self) -> Vec<Attempt> {
        self.shared.lock().stray_attempts.clone()
    }

    /// TCP connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// The figures of every stream.
    #[must_use]
    pub fn totals(&self) -> Vec<Totals> {
        self.shared.lock().streams.values().map(|stream| stream.record.totals()).collect()
    }

    /// Waits until so many fragments of a stream are persisted.
    ///
    /// # Errors
    /// `TimedOut`, with how many there are.
    pub async fn wait_persisted(&self, name: &str, count: u64, timeout: Duration) -> io::Result<()> {
        self.wait_until(name, timeout, |record| record.persisted >= count).await
    }

    /// Waits until the record of a stream is as wanted. `wanted` is asked under the server's lock: it must be quick.
    ///
    /// # Errors
    /// `TimedOut`, with the figures of the stream.
    pub async fn wait_until(
        &self,
        name: &str,
        timeout: Duration,
        mut wanted: impl FnMut(&StreamRecord) -> bool,
    ) -> io::Result<()> {
        let deadline = Instant::now() + timeout;
        let mut progress = self.shared.progress();
        loop {
            progress.borrow_and_update();
            if self.shared.lock().streams.get(name).is_some_and(|stream| wanted(&stream.record)) {
                return Ok(());
            }
            if timeout_at(deadline, progress.changed()).await.is_err() {
                let totals = self.stream(name).totals();
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("not within {timeout:?}: {totals:?}")));
            }
        }
    }

    /// Replaces who may call.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.shared.lock().credentials = vec![credentials];
    }

    /// Lets someone else call as well: while credentials are rotated, both are good.
    pub fn add_credentials(&self, credentials: Credentials) {
        self.shared.lock().credentials.push(credentials);
    }

    /// Goes down like a killed process: connections end, new ones are refused. Records, streams and certificate stay.
    ///
    /// # Errors
    /// When the port could not be kept.
    pub async fn stop(&self) -> io::Result<()> {
        self.shared.listener.stop()?;
        let (done, killed) = oneshot::channel();
        self.kills.send(done).await.map_err(io::Error::other)?;
        killed.await.map_err(io::Error::other)?;
        for stream in self.shared.lock().streams.values_mut() {
            stream.close_all();
        }
        Ok(())
    }

    /// Comes up again on the same port.
    ///
    /// # Errors
    /// When the port could not be kept.
    pub fn restart(&self) -> io::Result<()> {
        self.shared.listener.start()
    }
}

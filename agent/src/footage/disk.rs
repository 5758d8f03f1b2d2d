//! The disk thread: the only one that writes archives.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::recorder::Recorder;
use crate::host::wall_clock;

/// Without anything to do the thread still looks around this often.
const IDLE: Duration = Duration::from_secs(10);

enum Command {
    Add(Box<Recorder>),
    Remove(String, oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

#[derive(Default)]
struct Mailbox {
    commands: VecDeque<Command>,
    is_woken: bool,
}

struct Shared {
    mailbox: Mutex<Mailbox>,
    woken: Condvar,
}

/// A handle of the disk thread.
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// There is something to write.
    pub fn wake(&self) {
        self.0.mailbox.lock().unwrap_or_else(PoisonError::into_inner).is_woken = true;
        self.0.woken.notify_one();
    }

    /// Records one more camera.
    pub fn add(&self, recorder: Recorder) {
        self.send(Command::Add(Box::new(recorder)));
    }

    fn send(&self, command: Command) {
        self.0.mailbox.lock().unwrap_or_else(PoisonError::into_inner).commands.push_back(command);
        self.wake();
    }
}

/// Owns the thread.
pub struct Disk {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared { mailbox: Mutex::default(), woken: Condvar::new() });
        let waker = Waker(shared.clone());
        let thread = crate::run::thread::spawn("disk", move || run(&shared))?;
        Ok(Self { waker, thread: Some(thread) })
    }

    /// For the logs whose archives it writes.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Finishes the camera's archive and lets go of it. Waits at most `deadline`.
    pub async fn remove(&self, camera: &str, deadline: Duration) {
        let (done, finished) = oneshot::channel();
        self.waker.send(Command::Remove(camera.to_owned(), done));
        if tokio::time::timeout(deadline, finished).await.is_err() {
            tracing::warn!(camera_name = camera, "the disk does not answer; the last segment may lack its index");
        }
    }

    /// Writes and finishes everything, within `deadline`: a disk that hangs must not hang the agent.
    pub async fn stop(mut self, deadline: Duration) {
        let (done, finished) = oneshot::channel();
        self.waker.send(Command::Stop(done));
        match tokio::time::timeout(deadline, finished).await {
            Ok(_) => {
                if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
                    tracing::error!("the disk thread has panicked");
                }
            }
            Err(_) => tracing::warn!("the disk does not answer; the last segments may lack their index"),
        }
    }
}

fn run(shared: &Shared) {
    let mut recorders: Vec<Recorder> = Vec::new();
    let mut deadline = Instant::now() + IDLE;
    loop {
        let commands = wait(shared, deadline);
        for command in commands {
            match command {
                Command::Add(recorder) => recorders.push(*recorder),
                Command::Remove(camera, done) => {
                    let matches = |recorder: &Recorder| recorder.camera() == camera;
                    recorders
                        .extract_if(.., |recorder| matches(recorder))
                        .for_each(|mut recorder| finish(&mut recorder));
                    // Whoever asked may have stopped waiting.
                    done.send(()).ok();
                }
                Command::Stop(done) => {
                    recorders.iter_mut().for_each(finish);
                    done.send(()).ok();
                    return;
                }
            }
        }
        let now = Instant::now();
        let wall = wall_clock();
        deadline = recorders
            .iter_mut()
            .filter_map(|recorder| {
                let directory = recorder.directory().to_owned();
                recorder.pump(now, wall, || free_bytes(&directory), false)
            })
            .chain(std::iter::once(now + IDLE))
            .min()
            .unwrap_or(now + IDLE);
    }
}

fn finish(recorder: &mut Recorder) {
    recorder.finish(Instant::now(), wall_clock());
}

fn wait(shared: &Shared, deadline: Instant) -> VecDeque<Command> {
    let mut mailbox = shared.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
    while !mailbox.is_woken {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        mailbox = shared.woken.wait_timeout(mailbox, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    mailbox.is_woken = false;
    std::mem::take(&mut mailbox.commands)
}

/// Bytes an unprivileged process may still write on the file system of `directory`.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

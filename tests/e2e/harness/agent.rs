//! The agent as a child process.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{PATIENCE, http, poll};

/// Lines of the log that a failure shows.
const TAIL: usize = 60;

/// A running agent. Killed when dropped.
pub(crate) struct Agent {
    child: Child,
    log: PathBuf,
    port: u16,
}

/// The program with an environment that holds only what is given here. `EDGECAM_PROGRAM` names another build of it, such as
/// `qemu-aarch64 /path/to/edgecam`.
pub(crate) fn program(environment: &[(String, String)]) -> Command {
    program_under(&[], environment)
}

/// The same, started by another program that becomes it, or runs it under the same process id.
pub(crate) fn program_under(starter: &[&str], environment: &[(String, String)]) -> Command {
    let built = std::env::var_os("EDGECAM_PROGRAM").map(|words| words.to_string_lossy().into_owned());
    let built = built.unwrap_or_else(|| env!("CARGO_BIN_EXE_edgecam").to_owned());
    let mut words = starter.iter().copied().chain(built.split_whitespace());
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    command.env_clear().env("HOME", "/nonexistent").env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null());
    command
}

/// Runs a subcommand to its end, off the runtime.
pub(crate) async fn run(environment: &[(String, String)], arguments: &[impl AsRef<OsStr>], limit: Duration) -> Output {
    let mut command = tokio::process::Command::from(program(environment));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let shown: Vec<_> = arguments.iter().map(|argument| argument.as_ref().to_string_lossy().into_owned()).collect();
    let output = tokio::time::timeout(limit, command.output()).await;
    output.unwrap_or_else(|_| panic!("`edgecam {}` took longer than {limit:?}", shown.join(" "))).expect("it runs")
}

/// Standard output and standard error of a command as one text.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A line for whoever runs the tests.
pub(crate) fn note(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}

/// A port nobody listens on, outside the range that the kernel hands out by itself.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 40) as u16 * 250;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 250;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Agent {
    /// Starts `edgecam run`; its log goes on at the end of `log`.
    pub(crate) fn start(config: &Path, port: u16, log: &Path, environment: &[(String, String)]) -> Self {
        Self::start_under(&[], config, port, log, environment)
    }

    /// The same under another program: see [`program_under`].
    pub(crate) fn start_under(
        starter: &[&str],
        config: &Path,
        port: u16,
        log: &Path,
        environment: &[(String, String)],
    ) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("a log file");
        let mut command = program_under(starter, environment);
        command.args([OsStr::new("run"), OsStr::new("--config"), config.as_os_str()]);
        command.stdout(out.try_clone().expect("a descriptor")).stderr(out);
        let child = command.spawn().expect("the agent starts");
        Self { child, log: log.to_owned(), port }
    }

    /// Starts `edgecam run --greengrass` in the component's work directory.
    pub(crate) fn start_component(directory: &Path, port: u16, log: &Path, environment: &[(String, String)]) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("a log file");
        let mut command = program(environment);
        command.args(["run", "--greengrass"]).current_dir(directory);
        command.stdout(out.try_clone().expect("a descriptor")).stderr(out);
        let child = command.spawn().expect("the agent starts");
        Self { child, log: log.to_owned(), port }
    }

    /// Starts a shell with `script`, as the nucleus does.
    pub(crate) fn start_script(
        script: &str,
        directory: &Path,
        port: u16,
        log: &Path,
        environment: &[(String, String)],
    ) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("a log file");
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(directory).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(out.try_clone().expect("a descriptor")).stderr(out);
        let child = command.spawn().expect("the agent starts");
        Self { child, log: log.to_owned(), port }
    }

    /// Starts `edgecam demo`.
    pub(crate) fn demo(arguments: &[&str], port: u16, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("a log file");
        let mut command = program(&[]);
        command.arg("demo").args(arguments).stdout(out.try_clone().expect("a descriptor")).stderr(out);
        Self { child: command.spawn().expect("the agent starts"), log: log.to_owned(), port }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    /// How many lines of the log hold `text`.
    pub(crate) fn log_count(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The report of one camera, if the agent answers.
    pub(crate) async fn report(&self, camera: &str) -> Option<Value> {
        let answer = http::get(self.port, &format!("/streams/{camera}")).await.ok()?;
        (answer.status == 200).then(|| answer.json()["stream"].clone())
    }

    /// Waits until the report of a camera is as wanted, and returns it.
    pub(crate) async fn until(
        &self,
        camera: &str,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = None;
        let found = poll(timeout, async || {
            last = self.report(camera).await.or(last.take());
            last.clone().filter(|report| wanted(report))
        });
        match found.await {
            Some(report) => report,
            None => panic!("{camera}: not {what} within {timeout:?}: {}", pretty(last.as_ref())),
        }
    }

    /// Waits until a camera is in a state.
    pub(crate) async fn until_state(&self, camera: &str, state: &str) -> Value {
        self.until(camera, state, PATIENCE, |report| report["state"] == state).await
    }

    /// Waits until a camera has delivered so many more pictures.
    pub(crate) async fn more_frames(&self, camera: &str, count: u64) -> Value {
        let report = self.until(camera, "there", PATIENCE, |_| true).await;
        let wanted = report["frames"].as_u64().unwrap_or_default() + count;
        let what = format!("at {wanted} frames");
        self.until(camera, &what, PATIENCE, |report| report["frames"].as_u64() >= Some(wanted)).await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the agent takes a signal");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_none()
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn exit(&mut self, limit: Duration) -> ExitStatus {
        let status = poll(limit, async || self.child.try_wait().expect("its status")).await;
        status.unwrap_or_else(|| panic!("the agent did not end within {limit:?}"))
    }

    /// SIGTERM; returns how long it took. It must end in order.
    pub(crate) async fn stop(&mut self) -> Duration {
        let began = Instant::now();
        self.signal(Signal::TERM);
        let status = self.exit(Duration::from_secs(20)).await;
        assert!(status.success(), "the agent ended with {status}");
        began.elapsed()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("its status");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            note(&format!("--- end of the agent's log ({})\n{}\n---", self.log.display(), self.log_tail()));
        }
    }
}

/// JSON for a person.
pub(crate) fn pretty(value: Option<&Value>) -> String {
    value.map_or("the agent does not answer".to_owned(), |value| format!("{value:#}"))
}

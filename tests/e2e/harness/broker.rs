//! Debian's mosquitto as the broker, with TLS and required client certificates, and a second client that is not ours.
//!
//! Its log tells what each client sent: every message of every test is held against AWS IoT's limits.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::agent::free_port;
use super::pki::{Authority, Issued};
use super::{PATIENCE, Scratch, poll};

/// A broker that can be stopped and started again; it remembers sessions and messages over a stop.
pub(crate) struct Broker {
    pub(crate) scratch: Scratch,
    pub(crate) authority: Authority,
    pub(crate) ca: PathBuf,
    pub(crate) port: u16,
    process: Option<Child>,
}

/// What is different from the usual broker.
#[derive(Default)]
pub(crate) struct Peculiar {
    /// The server's certificate is for these hosts.
    pub(crate) hosts: Option<&'static [&'static str]>,
    /// The server's certificate ended with this year.
    pub(crate) last_year: Option<i32>,
    /// Clients need this password, for the user `gw`.
    pub(crate) password: Option<&'static str>,
}

impl Broker {
    pub(crate) async fn start(test: &str) -> Self {
        Self::peculiar(test, Peculiar::default()).await
    }

    pub(crate) async fn peculiar(test: &str, peculiar: Peculiar) -> Self {
        let scratch = Scratch::new(test);
        let authority = Authority::new("test broker CA");
        let ca = scratch.write("ca.pem", &authority.pem);
        let hosts = peculiar.hosts.unwrap_or(&["localhost", "127.0.0.1"]);
        let server = authority.issue(&scratch, "server", hosts, peculiar.last_year.unwrap_or(2040));
        let port = free_port();
        let here = scratch.path().display();
        let (certificate, key) = (server.certificate.display(), server.key.display());
        let mut config = format!(
            "user root\nlistener {port} 127.0.0.1\ncafile {}\ncertfile {certificate}\nkeyfile {key}\n\
             require_certificate true\npersistence true\npersistence_location {here}/\n\
             log_dest file {here}/broker.log\nlog_type all\nconnection_messages true\n\
             max_queued_messages 100000\nmessage_size_limit 0\n",
            ca.display()
        );
        match peculiar.password {
            Some(password) => {
                let file = scratch.join("passwords");
                let made =
                    Command::new("mosquitto_passwd").args(["-c", "-b"]).arg(&file).args(["gw", password]).output();
                assert!(made.is_ok_and(|made| made.status.success()), "mosquitto_passwd works");
                config += &format!("allow_anonymous false\npassword_file {}\n", file.display());
            }
            None => config += "use_identity_as_username true\n",
        }
        scratch.write("mosquitto.conf", config);
        let mut broker = Self { scratch, authority, ca, port, process: None };
        broker.start_again().await;
        broker
    }

    /// A client's certificate.
    pub(crate) fn client(&self, name: &str) -> Issued {
        self.authority.issue(&self.scratch, name, &[], 2040)
    }

    pub(crate) async fn start_again(&mut self) {
        let quiet = || File::options().create(true).append(true).open(self.scratch.join("broker.out")).expect("a file");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(self.scratch.join("mosquitto.conf")).stdout(quiet()).stderr(quiet());
        self.process = Some(command.spawn().expect("mosquitto is installed: tests/run --setup"));
        let up = poll(PATIENCE, async || TcpStream::connect(("127.0.0.1", self.port)).ok()).await;
        assert!(up.is_some(), "mosquitto did not start: {}", self.log());
    }

    /// Ends it as an administrator does: what it has acknowledged it will still deliver.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            kill_process(Pid::from_child(&process), signal).ok();
            process.wait().expect("it ends");
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("broker.log")).unwrap_or_default()
    }

    /// A client that hears everything published from now on, as long as it exists.
    pub(crate) async fn listen(&self, filter: &str) -> Listener {
        self.listen_as("listener", filter).await
    }

    /// The same for a client of another name.
    pub(crate) async fn listen_as(&self, name: &str, filter: &str) -> Listener {
        let identity = self.client(name);
        let mut command = self.mosquitto("mosquitto_sub", &identity);
        command.args(["-i", name, "-c", "-q", "1", "-t", filter, "-F", "%r %t %p"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let (send, heard) = mpsc::sync_channel(100_000);
        let program = Arc::new(Mutex::new(Program::default()));
        let running = program.clone();
        let reader = edgecam::run::thread::spawn("listener", move || {
            // It gives up when a broker goes in the middle of a handshake; its session waits for it.
            while let Some(out) = start(&mut command, &running) {
                // Payloads may be anything.
                for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                    if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        return;
                    }
                }
                std::thread::park_timeout(BLINK);
            }
        });
        reader.expect("a thread");
        let subscribed =
            poll(PATIENCE, async || self.log().contains(&format!("Sending SUBACK to {name}")).then_some(())).await;
        assert!(subscribed.is_some(), "the listener did not subscribe: {}", self.log());
        Listener { program, heard }
    }

    /// Publishes as a client that is not ours.
    pub(crate) async fn say(&self, topic: &str, payload: &str, more: &[&str]) {
        let identity = self.client("speaker");
        let mut command = self.mosquitto("mosquitto_pub", &identity);
        command.args(["-q", "1", "-t", topic, "-m", payload]).args(more);
        let done = tokio::process::Command::from(command).output().await.expect("mosquitto_pub is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn mosquitto(&self, program: &str, identity: &Issued) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "localhost", "-p", &self.port.to_string()]);
        command.arg("--cafile").arg(&self.ca).arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key);
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end(Signal::TERM);
        if !std::thread::panicking() {
            check_limits(&self.log());
        }
    }
}

/// What a second client hears.
pub(crate) struct Listener {
    program: Arc<Mutex<Program>>,
    heard: Receiver<String>,
}

impl Listener {
    /// The next message: whether it was retained, topic, payload.
    pub(crate) async fn next(&self) -> Option<(bool, String, String)> {
        self.next_within(PATIENCE).await
    }

    /// The same, if there is one in time.
    pub(crate) async fn next_within(&self, limit: Duration) -> Option<(bool, String, String)> {
        let line = poll(limit, async || self.heard.try_recv().ok()).await?;
        let mut fields = line.splitn(3, ' ');
        let retained = fields.next()? == "1";
        Some((retained, fields.next()?.to_owned(), fields.next().unwrap_or_default().to_owned()))
    }

    /// Messages until there is one with this payload.
    pub(crate) async fn until(&self, payload: &str) -> Vec<(bool, String, String)> {
        let mut all = Vec::new();
        loop {
            let Some(message) = self.next().await else { panic!("no `{payload}` in {all:?}") };
            let is_last = message.2 == payload;
            all.push(message);
            if is_last {
                return all;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut program = self.program.lock().expect("no panic");
        program.is_over = true;
        program.end();
    }
}

/// What listens for a [`Listener`].
#[derive(Default)]
struct Program {
    child: Option<Child>,
    is_over: bool,
}

impl Program {
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Starts a listener's program in the place of one that has ended, unless the listener is gone; returns what it says.
fn start(command: &mut Command, running: &Mutex<Program>) -> Option<ChildStdout> {
    let mut program = running.lock().expect("no panic");
    program.end();
    if program.is_over {
        return None;
    }
    program.child.insert(command.spawn().expect("mosquitto_sub is installed")).stdout.take()
}

/// AWS IoT Core's limits, from its documentation, on what the broker says that clients sent. Written without a look at
/// the agent's own.
pub(crate) fn check_limits(log: &str) {
    let mut a_second: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in log.lines() {
        let Some((time, rest)) = line.split_once(": Received PUBLISH from ") else { continue };
        let Some((client, rest)) = rest.split_once(" (") else { continue };
        if matches!(client, "listener" | "service" | "speaker") || client.starts_with("auto-") {
            continue;
        }
        let topic = rest.split('\'').nth(1).unwrap_or_default();
        let bytes = rest.rsplit_once("... (").and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
        assert!(!topic.is_empty() && topic.len() <= 256, "topic of {} bytes: {line}", topic.len());
        assert!(topic.matches('/').count() <= 7, "too deep: {line}");
        assert!(!topic.starts_with('$') || topic.starts_with("$aws/"), "reserved: {line}");
        assert!(bytes.is_some_and(|bytes| bytes <= 128 << 10), "too large: {line}");
        assert!(rest.contains("q1") || rest.contains("q0"), "no such QoS in AWS IoT: {line}");
        *a_second.entry((client.to_owned(), time.to_owned())).or_default() += 1;
    }
    for ((client, second), count) in a_second {
        assert!(count <= 100, "{client} published {count} messages in second {second}");
    }
}

/// Where a client keeps what it has to say.
pub(crate) fn outbox_of(scratch: &Scratch, client: &str) -> PathBuf {
    Path::new(scratch.path()).join(format!("outbox-{client}"))
}

/// Short waits of tests that cut connections.
pub(crate) const BLINK: Duration = Duration::from_millis(300);

//! What someone does who reads the documents: every command that can be run here is, as it is written there.
//!
//! `tests/documents/table.rs` says which; `tests/tidy` that it names all of them. A test is a [`Desk`] with those commands that
//! the table gives it, in a directory of its own with the counterparts that the command speaks to. What is not as in the
//! document (ports, directories of the system, hosts) is said with [`Desk::instead`]; programs that are not here, or must not
//! run here, have a [`Desk::stand_in`].

mod afar;
mod component;
mod first;
mod machine;
mod made;
mod moving;
#[path = "../documents/mod.rs"]
mod told;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use kvs_server::{Config, Credentials, Dump, KvsServer, StreamSpec};

use self::told::table::{Check, TABLE, Where};
use crate::harness::agent::{Agent, text};
use crate::harness::rig::environment;
use crate::harness::{PATIENCE, Scratch};

/// A directory to run commands in, and the commands that are to be run.
struct Desk {
    scratch: Scratch,
    environment: Vec<(String, String)>,
    left: Vec<&'static str>,
    /// As written, as run here, and whether it was used.
    instead: Vec<(String, String, bool)>,
}

impl Desk {
    fn new(test: &'static str) -> Self {
        let scratch = Scratch::new(&format!("documents-{test}"));
        std::fs::create_dir_all(scratch.join("bin")).expect("a directory");
        symlink(env!("CARGO_BIN_EXE_edgecam"), scratch.join("bin/edgecam")).expect("a link");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = format!("{}:{}", scratch.join("bin").display(), path.to_string_lossy());
        let variable = |name: &str, value: String| (name.to_owned(), value);
        let environment = vec![
            variable("PATH", path),
            variable("HOME", scratch.path().display().to_string()),
            variable("STATE_DIRECTORY", scratch.join("state").display().to_string()),
        ];
        let is_ours = |place: &Where| match place {
            Where::Run(tests) => tests.contains(&test),
            Where::Cannot(_, Check::StandIn(name)) => *name == test,
            Where::Elsewhere(..) | Where::Cannot(..) => false,
        };
        let left = TABLE.iter().filter(|(_, place)| is_ours(place)).map(|(text, _)| *text).collect();
        Self { scratch, environment, left, instead: Vec::new() }
    }

    /// What documents say is `here` in this test.
    fn instead(&mut self, written: &str, here: impl ToString) {
        self.instead.push((written.to_owned(), here.to_string(), false));
    }

    /// A program that is found before the machine's.
    fn stand_in(&self, name: &str, script: &str) {
        let path = self.scratch.write(&format!("bin/{name}"), format!("#!/bin/sh\nset -eu\n{script}\n"));
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("executable");
    }

    /// Text of a document, as it has to be here.
    fn here(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (written, here, is_used) in &mut self.instead {
            *is_used |= text.contains(written.as_str());
            text = text.replace(written.as_str(), here);
        }
        text
    }

    /// Takes a command off the list of what is left; returns it as it has to be here.
    fn take(&mut self, command: &'static str) -> String {
        let Some(place) = self.left.iter().position(|left| *left == command) else {
            panic!("tests/documents/table.rs does not give `{command}` to this test, or it was run before");
        };
        self.left.remove(place);
        self.here(command)
    }

    /// Runs a command of a document, which must succeed; returns what it says.
    async fn run(&mut self, command: &'static str) -> String {
        let command = self.take(command);
        self.shell(&command).await
    }

    /// Runs all forms of a synopsis, without its options and with them; returns what each says.
    async fn forms(&mut self, synopsis: &'static str, values: &[(&str, &str)]) -> Vec<String> {
        let mut all = self.form(synopsis, false, values).await;
        self.left.push(synopsis);
        all.extend(self.form(synopsis, true, values).await);
        all
    }

    async fn form(&mut self, synopsis: &'static str, with_options: bool, values: &[(&str, &str)]) -> Vec<String> {
        self.take(synopsis);
        let mut said = Vec::new();
        for form in told::forms(synopsis, with_options, values) {
            let form = self.here(&form);
            said.push(self.shell(&form).await);
        }
        said
    }

    async fn shell(&self, command: &str) -> String {
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", command]).current_dir(self.scratch.path()).env_clear();
        shell.envs(self.environment.iter().map(|(name, value)| (name, value)));
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, shell.output()).await;
        let output = output.unwrap_or_else(|_| panic!("`{command}` took too long")).expect("a shell");
        assert!(output.status.success(), "`{command}` ended with {}: {}", output.status, text(&output));
        // curl's progress is not a part of the answer's line.
        let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if out.is_empty() || errors.is_empty() { text(&output) } else { format!("{}\n{errors}", out.trim_end()) }
    }

    /// Starts a command that goes on.
    fn start(&mut self, command: &'static str, port: u16) -> Agent {
        let command = self.take(command);
        let log = self.scratch.join("agent.log");
        Agent::start_script(&format!("exec {command}"), self.scratch.path(), port, &log, &self.environment)
    }

    /// Writes the block that begins with these lines into a file.
    fn config(&mut self, document: &str, begins: &str, more: &str) {
        let blocks = told::blocks(document, "yaml");
        let block = blocks.iter().find(|block| block.text.contains(begins));
        let block = block.unwrap_or_else(|| panic!("{document} has no example with `{begins}`"));
        let text = self.here(&format!("{}{more}", block.text));
        self.scratch.write("edgecam.yaml", text);
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.left.is_empty(), "not run: {:#?}", self.left);
            let unused: Vec<&str> =
                self.instead.iter().filter(|(.., is_used)| !is_used).map(|(written, ..)| written.as_str()).collect();
            assert!(unused.is_empty(), "not in what was run: {unused:#?}");
        }
    }
}

/// The service in the region of the documents, and what an agent needs to find it.
async fn service(desk: &mut Desk, streams: &[&str], change: impl FnOnce(&mut Config)) -> KvsServer {
    let mut settings = Config::new(desk.scratch.join("kvs"));
    settings.region = Some("eu-west-1".to_owned());
    settings.dump = Dump::Memory;
    settings.credentials = vec![Credentials::example()];
    settings.streams =
        streams.iter().map(|name| StreamSpec { name: (*name).to_owned(), retention_hours: 24 }).collect();
    change(&mut settings);
    let kvs = KvsServer::start(settings).await.expect("the service starts");
    desk.environment.extend(environment(&kvs, Some(&Credentials::example())));
    desk.environment.push(("AWS_REGION".to_owned(), "eu-west-1".to_owned()));
    kvs
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

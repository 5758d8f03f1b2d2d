//! `edgecam service`: the agent as a service of systemd, put in place and managed.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::EXIT_CONFIG;
use super::output::{fail, say};
use crate::host::service::{self, Request, ServiceError, Unit};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Put program, units, user and directories in place; start at boot, and now if there is a config
    Install(Install),
    /// Start it
    Start(Which),
    /// Stop it
    Stop(Which),
    /// Stop it and start it again
    Restart(Which),
    /// Say how it is
    Status(Which),
    /// Show its log
    Log {
        #[command(flatten)]
        which: Which,
        /// Go on as new lines come
        #[arg(long, short)]
        follow: bool,
        /// Lines of before to show
        #[arg(long, short = 'n', default_value_t = 100)]
        lines: u32,
    },
}

#[derive(Args)]
struct Which {
    /// Which of several agents on this machine: NAME's config is /etc/edgecam/NAME.yaml [default: the only one]
    name: Option<String>,
}

#[derive(Args)]
struct Install {
    #[command(flatten)]
    which: Which,
    /// A config to be put into /etc/edgecam, where there is none yet
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// For a DeepLens: its config, unless there is one; the stream is named by the device's serial number
    #[arg(long, conflicts_with = "config")]
    deeplens: bool,
    /// Whom it runs as [default: edgecam, a user of its own]
    #[arg(long, value_parser = user)]
    user: Option<String>,
    /// Do not start it now
    #[arg(long)]
    no_start: bool,
    /// Another system than the one that runs, such as an image of a disk
    #[arg(long, default_value = "/", hide_default_value = true, value_name = "DIR")]
    root: PathBuf,
}

/// A name that can stand in a unit file.
fn user(text: &str) -> Result<String, String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    match text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && text.chars().all(is_legal) {
        true => Ok(text.to_owned()),
        false => Err("is no user's name".to_owned()),
    }
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    let done = match arguments.action {
        Action::Install(arguments) => install(arguments).await,
        Action::Start(which) => manage("start", which.unit().and_then(Unit::configured)).await,
        Action::Stop(which) => manage("stop", which.unit()).await,
        Action::Restart(which) => manage("restart", which.unit().and_then(Unit::configured)).await,
        Action::Status(which) => show(which, "systemctl", &["status", "--no-pager", "--lines=20"]).await,
        Action::Log { which, follow, lines } => {
            let lines = format!("--lines={lines}");
            let mut words = vec!["--no-pager", &lines];
            words.extend(follow.then_some("--follow"));
            words.push("--unit");
            show(which, "journalctl", &words).await
        }
    };
    match done {
        Ok(code) => code,
        Err(error @ (ServiceError::Config(_) | ServiceError::NoConfig(_))) => {
            fail(EXIT_CONFIG, format_args!("{error}"))
        }
        Err(error) => fail(1, format_args!("{error}")),
    }
}

impl Which {
    fn unit(self) -> Result<Unit, ServiceError> {
        Unit::new(self.name)
    }
}

async fn install(arguments: Install) -> Result<ExitCode, ServiceError> {
    let root = std::path::absolute(&arguments.root)
        .map_err(|error| ServiceError::File { path: arguments.root.clone(), error })?;
    let request = Request {
        unit: arguments.which.unit()?,
        config: arguments.config,
        deeplens: arguments.deeplens,
        user: arguments.user,
        start: !arguments.no_start,
        root,
    };
    service::install(&request, &mut |line| say(format_args!("{line}"))).await?;
    Ok(ExitCode::SUCCESS)
}

async fn manage(verb: &'static str, unit: Result<Unit, ServiceError>) -> Result<ExitCode, ServiceError> {
    let unit = unit?.to_string();
    service::ask("systemctl", &[OsStr::new(verb), OsStr::new(&unit)]).await.map_err(|error| match error {
        ServiceError::Failed { .. } if !rustix::process::geteuid().is_root() => ServiceError::NotRoot,
        other => other,
    })?;
    say(format_args!("{unit}: {verb} done"));
    Ok(ExitCode::SUCCESS)
}

/// The tool speaks for itself, and its exit code is ours.
async fn show(which: Which, tool: &'static str, words: &[&str]) -> Result<ExitCode, ServiceError> {
    let unit = which.unit()?.to_string();
    let arguments: Vec<&OsStr> = words.iter().copied().chain([unit.as_str()]).map(OsStr::new).collect();
    let status = service::attend(tool, &arguments).await?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

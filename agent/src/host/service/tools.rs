//! systemctl, journalctl and the tools that make users and directories, each run with a list of arguments.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::ServiceError;

/// The longest a start takes by the unit is 90 s (TimeoutStartSec's default), with a stop before it.
const MOST: Duration = Duration::from_secs(150);
/// Bytes of a tool's complaint that are shown.
const SAID: usize = 600;

/// Runs a tool to its end, which must be a good one.
pub async fn ask(tool: &'static str, arguments: &[&OsStr]) -> Result<(), ServiceError> {
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let shown = || {
        let words = arguments.iter().map(|word| word.to_string_lossy());
        std::iter::once(tool.into()).chain(words).collect::<Vec<_>>().join(" ")
    };
    let ended = tokio::time::timeout(MOST, command.output()).await;
    let output =
        ended.map_err(|_| ServiceError::Slow(shown(), MOST.as_secs()))?.map_err(|error| missing(tool, error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(SAID).collect();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    Err(ServiceError::Failed { command: shown(), status: output.status, said })
}

/// Runs a tool that speaks to the person at the terminal itself, for as long as that person likes.
pub async fn attend(tool: &'static str, arguments: &[&OsStr]) -> Result<ExitStatus, ServiceError> {
    Command::new(tool).args(arguments).status().await.map_err(|error| missing(tool, error))
}

fn missing(tool: &'static str, error: io::Error) -> ServiceError {
    match error.kind() {
        io::ErrorKind::NotFound => ServiceError::NoTool(tool),
        _ => ServiceError::File { path: tool.into(), error },
    }
}

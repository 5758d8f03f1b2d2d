//! The agent as a service of systemd: its units, where their files are, and the tools that manage them.
//!
//! Units are those of `systemd/`, built in, so that one binary is all a machine needs. Nothing here runs a shell.

mod install;
mod tools;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use install::{Request, install};
pub use tools::{ask, attend};

use crate::config::ConfigError;

/// Where configs are.
const CONFIGS: &str = "etc/edgecam";

/// The agent of a machine, or one of several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit(Option<String>);

/// Why a service could not be put in place or asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// An instance's name is part of file names and of the unit's name.
    #[error("`{0}` is no name of an agent: letters, digits, `_`, `.` and `-` are, with a letter or digit first")]
    Instance(String),
    /// `edgecam@edgecam` would share its config with `edgecam`.
    #[error("`edgecam` is the agent without a name: leave the name out")]
    Default,
    /// Files below `/etc` belong to root.
    #[error("this has to be done as root: sudo edgecam service …")]
    NotRoot,
    /// Nothing to install into.
    #[error(
        "systemd does not run here: start `edgecam run --config FILE` by what starts services on this machine, \
         or name a system to be booted later with --root"
    )]
    NoSystemd,
    /// A tool that is not there.
    #[error("`{0}` is not there: does this machine run systemd?")]
    NoTool(&'static str),
    /// A tool that does not come back.
    #[error("`{0}` has not ended after {1} s")]
    Slow(String, u64),
    /// A tool that says no.
    #[error("`{command}` failed ({status}){said}")]
    Failed {
        /// With its arguments.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said, after a colon.
        said: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A config that the agent would refuse.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Nobody's config is replaced unasked.
    #[error("{} is there and differs: remove it, or edit it and leave the option out", .0.display())]
    HasConfig(PathBuf),
    /// systemd says success when it starts nothing for want of a config.
    #[error("{} is not there: without a config there is nothing to run. Write it, or: edgecam service install --config FILE", .0.display())]
    NoConfig(PathBuf),
}

impl Unit {
    /// The agent of this machine, or the one called `instance`.
    pub fn new(instance: Option<String>) -> Result<Self, ServiceError> {
        if let Some(name) = &instance {
            let is_legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(is_legal) || name.len() > 64
            {
                return Err(ServiceError::Instance(name.clone()));
            }
            if name == "edgecam" {
                return Err(ServiceError::Default);
            }
        }
        Ok(Self(instance))
    }

    /// Where its config belongs in the system below `root`.
    pub fn config(&self, root: &Path) -> PathBuf {
        root.join(CONFIGS).join(format!("{}.yaml", self.0.as_deref().unwrap_or("edgecam")))
    }

    /// Refuses a unit that systemd would pass over.
    pub fn configured(self) -> Result<Self, ServiceError> {
        let config = self.config(Path::new("/"));
        match std::fs::metadata(&config) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ServiceError::NoConfig(config)),
            // Others are for systemd to judge: /etc/edgecam is not everybody's to look into.
            _ => Ok(self),
        }
    }

    /// Its state directory, by the unit's StateDirectory.
    fn state(&self) -> PathBuf {
        let suffix = self.0.as_ref().map(|name| format!("-{name}")).unwrap_or_default();
        PathBuf::from(format!("/var/lib/edgecam{suffix}"))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("edgecam.service"),
            Some(name) => write!(f, "edgecam@{name}.service"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_by_name() {
        for (name, unit, config, state) in [
            (None, "edgecam.service", "/etc/edgecam/edgecam.yaml", "/var/lib/edgecam"),
            (Some("yard-2"), "edgecam@yard-2.service", "/etc/edgecam/yard-2.yaml", "/var/lib/edgecam-yard-2"),
        ] {
            let made = Unit::new(name.map(str::to_owned)).expect("a name");
            assert_eq!(made.to_string(), unit);
            assert_eq!(made.config(Path::new("/")), Path::new(config));
            assert_eq!(made.state(), Path::new(state));
        }
        for bad in ["", "../x", "a b", "-n", ".", "a/b", "a@b", "edgecam"] {
            assert!(Unit::new(Some(bad.to_owned())).is_err(), "{bad:?}");
        }
    }
}

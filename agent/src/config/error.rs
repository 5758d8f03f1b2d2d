//! What is wrong with a config, where, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A config that cannot be used.
#[derive(Debug)]
pub struct ConfigError {
    file: Option<PathBuf>,
    line: Option<u64>,
    message: String,
}

impl ConfigError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { file: None, line: None, message: message.into() }
    }

    pub(crate) fn read(path: &Path, error: &io::Error) -> Self {
        Self { file: Some(path.to_owned()), line: None, message: format!("the file cannot be read: {error}") }
    }

    pub(crate) fn syntax(error: &serde_saphyr::Error) -> Self {
        let line = error.location().map(|location| location.line());
        let message = match error.without_snippet() {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected),
            other => other.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        Self { file: None, line, message }
    }

    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_owned());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

fn unknown_key(key: &str, known: &[&str]) -> String {
    let likeness = |candidate: &str| strsim::jaro_winkler(key, candidate);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some(nearest) if likeness(nearest) > 0.7 => {
            format!("unknown key `{key}`; did you mean `{nearest}`? Known here: {}", known.join(", "))
        }
        _ => format!("unknown key `{key}`; known here: {}", known.join(", ")),
    }
}

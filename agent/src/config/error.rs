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
        let text = error.without_snippet().to_string();
        let message = unknown_key(&text).unwrap_or_else(|| text.lines().next().unwrap_or_default().to_owned());
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

/// serde's words for a key it does not know, turned into advice: the key, and the nearest that exists.
fn unknown_key(text: &str) -> Option<String> {
    let start = text.find("unknown field")?;
    let mut quoted = text.get(start..)?.split('`').skip(1).step_by(2);
    let key = quoted.next()?;
    let known: Vec<&str> = quoted.collect();
    let nearest = known.iter().max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
    Some(match nearest {
        Some(nearest) if strsim::jaro_winkler(key, nearest) > 0.7 => {
            format!("unknown key `{key}`; did you mean `{nearest}`? Known here: {}", known.join(", "))
        }
        _ => format!("unknown key `{key}`; known here: {}", known.join(", ")),
    })
}

//! What commands have changed, kept over restarts: switches of cameras, and a config that replaces the file's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal::replace;
use crate::config::{self, Config, ConfigError};
use crate::encode::Control;
use crate::host::state::{self, StateError};

/// Version of the file.
const VERSION: u32 = 1;

/// What commands have changed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Commanded {
    version: u32,
    /// By name.
    #[serde(default)]
    cameras: BTreeMap<String, Switched>,
    /// A config that a command has set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<SetConfig>,
    #[serde(skip)]
    path: PathBuf,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Switched {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recording: Option<bool>,
    #[serde(default)]
    encoder: Control,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct SetConfig {
    /// The file it replaces: when a person edits that, it counts again.
    instead_of: String,
    text: String,
    /// It has not shown yet that cameras run with it.
    is_on_trial: bool,
}

/// One thing that is switched.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Switch {
    /// The camera.
    Enabled(bool),
    /// Its archive.
    Recording(bool),
    /// Its encoder.
    Encoder(Control),
}

impl Commanded {
    /// Reads what earlier runs have kept in `state_dir`. A file that cannot be read is said and passed over.
    pub fn load(state_dir: &Path) -> Self {
        let path = state_dir.join("commanded.json");
        let empty = Self { version: VERSION, path: path.clone(), ..Self::default() };
        match std::fs::read(&path) {
            Ok(text) => match serde_json::from_slice::<Self>(&text) {
                Ok(found) if found.version == VERSION => Self { path, ..found },
                Ok(found) => {
                    tracing::error!(path = %path.display(), version = found.version, "written by a newer agent: what commands have changed is not applied");
                    empty
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "what commands have changed cannot be read and is not applied");
                    empty
                }
            },
            Err(_) => empty,
        }
    }

    /// Applies the switches to `config`.
    pub fn switch(&self, config: &mut Config) {
        for camera in &mut config.cameras {
            let Some(switched) = self.cameras.get(&camera.name) else { continue };
            let switches = &mut camera.switches;
            switches.enabled = switched.enabled.unwrap_or(switches.enabled);
            switches.recording = switched.recording.unwrap_or(switches.recording);
            // A config that has changed meanwhile may not go with it.
            if camera.source.accepts(switched.encoder).is_ok() {
                switches.encoder = switched.encoder;
            }
        }
    }

    /// Remembers a switch. Written before it is acted on.
    pub fn set(&mut self, camera: &str, switch: Switch) -> std::io::Result<()> {
        let switched = self.cameras.entry(camera.to_owned()).or_default();
        match switch {
            Switch::Enabled(on) => switched.enabled = Some(on),
            Switch::Recording(on) => switched.recording = Some(on),
            Switch::Encoder(control) => switched.encoder = control.over(switched.encoder),
        }
        self.save()
    }

    /// A config is tried: a crash from here on brings the old one back.
    pub fn try_config(&mut self, instead_of: String, text: String) -> std::io::Result<()> {
        self.config = Some(SetConfig { instead_of, text, is_on_trial: true });
        self.save()
    }

    /// The config that was tried stays.
    pub fn keep_config(&mut self) -> std::io::Result<()> {
        if let Some(config) = &mut self.config {
            config.is_on_trial = false;
        }
        self.save()
    }

    /// Back to what was before.
    pub fn restore(&mut self, before: Self) -> std::io::Result<()> {
        *self = before;
        self.save()
    }

    /// The text of the config in force, if a command has set it.
    pub fn config_text(&self) -> Option<&str> {
        self.config.as_ref().map(|config| config.text.as_str())
    }

    fn save(&self) -> std::io::Result<()> {
        replace(&self.path, &serde_json::to_vec(self).map_err(std::io::Error::other)?)
    }
}

/// Refuses the state of a newer agent before anything in it is read, or worse, replaced.
pub fn own(config: &Config) -> Result<(), ConfigError> {
    match state::adopt(&config.state_dir) {
        Err(error @ StateError::Newer { .. }) => Err(ConfigError::new(error.to_string())),
        // A disk that is full, read-only or gone is said by what wants to write there.
        Err(StateError::File { .. }) | Ok(()) => Ok(()),
    }
}

/// The config in force: the file's, or the one that a command has set instead; and what commands have switched.
pub fn effective(file: &Path) -> Result<(Config, Commanded), ConfigError> {
    let mut config = config::load(file)?;
    own(&config)?;
    let mut commanded = Commanded::load(&config.state_dir);
    if let Some(set) = &commanded.config {
        let is_still_that = std::fs::read_to_string(file).is_ok_and(|text| text == set.instead_of);
        let refused = match (set.is_on_trial, is_still_that) {
            (true, _) => Some("the agent ended while it was being tried".to_owned()),
            (_, false) => Some("the config file has been changed since".to_owned()),
            (false, true) => match config::parse(&set.text) {
                Ok(parsed) => {
                    tracing::info!("a command has set the config that is in force; edit the file to return to it");
                    config = parsed;
                    None
                }
                Err(error) => Some(error.to_string()),
            },
        };
        if let Some(reason) = refused {
            tracing::warn!(reason, "the config that a command has set is dropped; the file counts");
            commanded.config = None;
            if let Err(error) = commanded.save() {
                tracing::error!(%error, "what commands have changed cannot be written");
            }
        }
    }
    config.recall_nvrs();
    commanded.switch(&mut config);
    Ok((config, commanded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_on_trial_does_not_outlive_a_crash() {
        let directory = std::env::temp_dir().join(format!("edgecam-commanded-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let file = directory.join("edgecam.yaml");
        let text = |rate: u32| {
            format!(
                "state_dir: {}\ncameras: [{{name: a, test_pattern: {{frame_rate: {rate}}}}}]\n",
                directory.display()
            )
        };
        std::fs::write(&file, text(10)).expect("written");
        let rate = || match effective(&file).expect("a config").0.cameras[0].source {
            config::source::Source::TestPattern(pattern) => pattern.frame_rate,
            _ => panic!("a test pattern"),
        };
        let mut commanded = effective(&file).expect("a config").1;
        commanded.try_config(text(10), text(20)).expect("written");
        assert_eq!(rate(), 10.0, "a crash in the trial");
        commanded.try_config(text(10), text(20)).expect("written");
        commanded.keep_config().expect("written");
        assert_eq!(rate(), 20.0);
        let control = Control { framerate: Some(5.0), ..Control::default() };
        commanded.set("a", Switch::Encoder(control)).expect("written");
        commanded.set("a", Switch::Enabled(false)).expect("written");
        let switches = effective(&file).expect("a config").0.cameras[0].switches;
        assert_eq!((switches.enabled, switches.recording, switches.encoder), (false, true, control));
        std::fs::write(&file, text(15)).expect("written");
        assert_eq!(rate(), 15.0, "a person has edited the file");
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}

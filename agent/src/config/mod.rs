//! The config: as written → as used. After [`load`] nothing in it is wrong, missing or without a unit.

mod access;
mod check;
pub mod detectors;
pub(crate) mod edge_config;
mod error;
mod honeycomb;
pub mod identity;
mod iot;
mod local;
mod mqtt;
mod nvr;
pub mod nvrs;
pub mod publishers;
mod rtmp;
pub mod schedule;
pub mod secret;
pub mod source;
mod streams;
mod value;
mod written;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use access::{camera_url, percent_decode};
pub use detectors::Detector;
pub use error::ConfigError;
pub use honeycomb::{Honeycomb, LiveLimits};
pub(crate) use local::DEEPLENS_TOOL;
pub use mqtt::Mqtt;
pub use nvrs::Nvr;
pub use publishers::Publishers;

use crate::control::command::Name;
use crate::encode;
use crate::footage::archive::Rotation;
use crate::footage::archive::retention::Retention;
use crate::host::iot_credentials;
use crate::live::honeycomb::CameraId;
use schedule::Schedule;
use secret::Secret;
use source::Source;

/// The agent's config, as used.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Name of the device.
    pub thing: String,
    /// Directory for footage and state.
    pub state_dir: PathBuf,
    /// AWS.
    pub aws: Aws,
    /// The local server; `None` when it is off.
    pub http: Option<Http>,
    /// The MQTT broker; `None` when there is none.
    pub mqtt: Option<Mqtt>,
    /// Live view for a platform of hive cameras; `None` when there is none.
    pub honeycomb: Option<Honeycomb>,
    /// What commands may do.
    pub commands: Commands,
    /// Level of the log.
    pub log_level: tracing::Level,
    /// The cameras, those of recorders too.
    pub cameras: Vec<Camera>,
    /// Recorders that list their channels.
    pub nvrs: Vec<Nvr>,
    /// What looking at pictures may cost.
    pub inference: Inference,
}

/// What looking at pictures may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inference {
    /// Threads; `None`: one for each core but one.
    pub threads: Option<usize>,
    /// Of the time of each.
    pub cpu_percent: u8,
}

/// Where and how to reach AWS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Aws {
    /// Region, if the config names one.
    pub region: Option<String>,
    /// Retention in hours of streams to create; `None` when none may be created.
    pub create_streams: Option<u32>,
    /// Whether to ask EC2's instance metadata service.
    pub use_instance_metadata: bool,
    /// AWS IoT's credentials provider; it comes before all other sources.
    pub iot: Option<iot_credentials::Settings>,
}

/// The local server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What requests must present.
    pub token: Option<Secret>,
    /// Metrics of inference under kvs-infer's names, too.
    pub kvs_infer: bool,
}

/// What commands may do, by where they come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commands {
    /// Over MQTT.
    pub mqtt: BTreeSet<Name>,
    /// Over HTTP.
    pub http: BTreeSet<Name>,
    /// By AWS IoT jobs and shadows.
    pub iot: BTreeSet<Name>,
}

/// One camera.
#[derive(Clone, PartialEq, Debug)]
pub struct Camera {
    /// Its name.
    pub name: String,
    /// The recorder whose channel it is, where it came from one.
    pub nvr: Option<String>,
    /// Where its pictures come from.
    pub source: Source,
    /// When it runs; always, if there is none.
    pub schedule: Vec<Schedule>,
    /// Whether its sound is recorded.
    pub audio: bool,
    /// Bytes of footage in RAM in any case.
    pub ring: usize,
    /// Bytes of footage in RAM at most.
    pub ring_most: usize,
    /// Footage on disk.
    pub archive: Option<Archive>,
    /// Upload.
    pub upload: Option<Upload>,
    /// What looks at its pictures.
    pub detectors: Vec<Detector>,
    /// Where its events go.
    pub publishers: Publishers,
    /// A second, smaller stream that detectors and live view use instead.
    pub sub_stream: Option<Source>,
    /// What can be switched while it runs.
    pub switches: Switches,
}

/// What can be switched while a camera runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Switches {
    /// Whether the camera is used at all.
    pub enabled: bool,
    /// Whether its archive takes new footage.
    pub recording: bool,
    /// What is asked of its encoder.
    pub encoder: encode::Control,
}

impl Default for Switches {
    fn default() -> Self {
        Self { enabled: true, recording: true, encoder: encode::Control::default() }
    }
}

/// Footage on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archive {
    /// Where.
    pub directory: PathBuf,
    /// How long pictures may wait to be written and synced.
    pub at_risk: Duration,
    /// When a segment is full.
    pub rotation: Rotation,
    /// How much is kept.
    pub retention: Retention,
}

/// Upload to Kinesis Video Streams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    /// Name of the stream.
    pub stream: String,
    /// When to upload.
    pub mode: UploadMode,
    /// What goes first.
    pub order: UploadOrder,
}

/// What a continuous upload sends first after an outage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UploadOrder {
    /// The oldest.
    #[default]
    InOrder,
    /// What is live; history after it, in turns.
    LiveFirst {
        /// Live footage that lags by more than this is put off.
        max_lag: Duration,
    },
}

/// When to upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UploadMode {
    /// Always.
    Continuous,
    /// Only while someone asks: by a lease, or for a range of time.
    OnDemand,
    /// The footage of set spans, and on demand.
    Schedule(Vec<Schedule>),
    /// All that has not been uploaded, in set spans, and on demand.
    Window(Vec<Schedule>),
}

/// Reads and checks a config file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::read(path, &error))?;
    parse(&text).map_err(|error| error.in_file(path))
}

/// The same as the service whose config it is reads it: without STATE_DIRECTORY, which systemd sets, too.
pub fn load_as_service(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::read(path, &error))?;
    parse_as_service(&text, path)
}

/// The same of a text that is to stand in the file at `path`.
pub fn parse_as_service(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let config = read(text).and_then(|mut written| {
        written.state_dir = written.state_dir.or_else(|| service_state(path));
        check::config(written)
    });
    config.map_err(|error| error.in_file(path))
}

/// The state directory of the service whose config is at `path`.
fn service_state(path: &Path) -> Option<PathBuf> {
    if let Some(given) = identity::environment("STATE_DIRECTORY") {
        return Some(PathBuf::from(given));
    }
    let path = std::path::absolute(path).ok()?;
    let name = path.strip_prefix("/etc/edgecam").ok()?.to_str()?.strip_suffix(".yaml")?;
    match name {
        "edgecam" => Some(PathBuf::from("/var/lib/edgecam")),
        _ if name.contains('/') => None,
        _ => Some(PathBuf::from(format!("/var/lib/edgecam-{name}"))),
    }
}

fn read(text: &str) -> Result<written::Config, ConfigError> {
    match text.trim() {
        "" => Ok(written::Config::default()),
        _ => serde_saphyr::from_str(text).map_err(|error| ConfigError::syntax(&error)),
    }
}

/// Checks a config given as text.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    check::config(read(text)?)
}

/// A config with one test pattern camera and no upload, for `edgecam demo`.
pub fn demo(state_dir: PathBuf) -> Result<Config, ConfigError> {
    let mut text = "cameras:\n  - name: demo\n    test_pattern: {width: 1280, height: 720, bitrate: 1500000}\n    archive: {max_size: 1 GiB}\n".to_owned();
    if edgecam_vision::IS_PRESENT {
        text += "    detectors: [{type: object, model: demo, fps_limit: 5}]\n";
    }
    Ok(Config { state_dir: state_dir.clone(), ..parse(&text)? }.moved(&state_dir))
}

/// An `mxuvc` source with nothing set but how to reach its encoder, for `edgecam encoder`.
pub(crate) fn mxuvc(channel: u8, tool: PathBuf, prefix: Vec<String>) -> Result<source::Mxuvc, ConfigError> {
    let (channel, tool) = (Some(channel), Some(tool));
    let written = written::Mxuvc { channel, tool, command_prefix: prefix, ..written::Mxuvc::default() };
    match local::mxuvc(written, "mxuvc")? {
        Source::Mxuvc(source) => Ok(source),
        other => Err(ConfigError::new(format!("mxuvc: a source of the kind {}", other.kind()))),
    }
}

/// The JSON schema of the config file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(written::Config).to_value()
}

impl Config {
    /// What the world outside calls a camera in live view: the platform's id, if it has one, else our name.
    pub fn live_id<'a>(&'a self, camera: &'a str) -> &'a str {
        let id = self.honeycomb.as_ref().and_then(|honeycomb| honeycomb.cameras.get(camera));
        id.map_or(camera, CameraId::as_str)
    }

    /// Our name of a camera that is called by its name or by the platform's id; whether it exists is not looked at.
    pub fn name_of<'a>(&'a self, camera: &'a str) -> &'a str {
        let id = || camera.parse().ok();
        let found = self.honeycomb.as_ref().and_then(|honeycomb| honeycomb.camera(&id()?));
        found.unwrap_or(camera)
    }

    /// The same with all archives below `state_dir`.
    fn moved(mut self, state_dir: &Path) -> Self {
        for camera in &mut self.cameras {
            if let Some(archive) = &mut camera.archive {
                archive.directory = state_dir.join(&camera.name);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests;

//! What the component tells about itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::host::greengrass::IpcStatus;

/// Something that is asked of the nucleus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Feature {
    /// No answer yet.
    Waiting,
    /// The nucleus does it.
    On,
    /// It does not, and why.
    Off(String),
}

/// How the component does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// The connection.
    pub ipc: IpcStatus,
    /// What is asked of the nucleus.
    pub features: BTreeMap<&'static str, Feature>,
    /// Why the component's configuration is not in force.
    pub config_refused: Option<String>,
    /// Configurations taken since the start.
    pub configs: u64,
    /// Deployments that were asked to wait.
    pub deferred: u64,
}

impl Status {
    /// For the API.
    pub fn to_json(&self) -> Value {
        let feature = |feature: &Feature| match feature {
            Feature::Waiting => json!("waiting"),
            Feature::On => json!("on"),
            Feature::Off(reason) => json!(format!("off: {reason}")),
        };
        let features: serde_json::Map<String, Value> =
            self.features.iter().map(|(name, state)| ((*name).to_owned(), feature(state))).collect();
        json!({
            "state": if self.ipc.is_up { "connected" } else { "disconnected" },
            "since": self.ipc.since.to_string(),
            "error": self.ipc.error.as_ref().filter(|_| !self.ipc.is_up),
            "connections": self.ipc.connections,
            "failures": self.ipc.failures,
            "dropped": self.ipc.dropped,
            "features": features,
            "config_refused": self.config_refused,
            "configs": self.configs,
            "deferred": self.deferred,
        })
    }
}

//! Reads and replaces the config. A new one is checked as a whole, applied without touching cameras it does not change,
//! and taken back when a camera that streamed before no longer does.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::dispatch::Context;
use super::reply::{Ending, failed, rejected};
use crate::config::secret::redact_text;
use crate::config::{self, Config};
use crate::topology::Agent;

/// For cameras to stream again under a new config.
const TRIAL: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(250);

/// The config in force, without secrets.
pub(super) async fn get(context: &Context) -> Ending {
    let Some(file) = &context.file else { return rejected("this agent runs without a config file") };
    let commanded = context.commanded.lock().await;
    let text = match commanded.config_text() {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(file).or_else(|error| failed(format!("{}: {error}", file.display())))?,
    };
    let source = if commanded.config_text().is_some() { "command" } else { "file" };
    Ok(Some(json!({ "config": redact_text(&text), "source": source })))
}

/// Replaces the config.
pub(super) async fn set(context: &Context, text: &str) -> Ending {
    let Some(file) = &context.file else { return rejected("this agent runs without a config file") };
    let instead_of = std::fs::read_to_string(file).or_else(|error| failed(format!("{}: {error}", file.display())))?;
    let mut new = config::parse(text).or_else(|error| rejected(error.to_string()))?;
    let mut commanded = context.commanded.lock().await;
    new.recall_nvrs();
    commanded.switch(&mut new);
    let (old, streamed) = {
        let agent = context.agent.read().await;
        let Some(agent) = agent.as_ref() else { return failed("the agent is stopping") };
        (agent.config().clone(), states(agent))
    };
    if let Some(key) = fixed(&old, &new) {
        return rejected(format!("`{key}` cannot be changed by a command: that could cut off who gives them"));
    }
    let before = commanded.clone();
    let written = commanded.try_config(instead_of, text.to_owned());
    written.or_else(|error| failed(format!("it cannot be written down: {error}")))?;
    apply(context, new.clone()).await;
    let wanted: Vec<&String> = streamed
        .iter()
        .filter(|(name, state)| **state == "streaming" && is_enabled(&new, name))
        .map(|(name, _)| name)
        .collect();
    let worse = trial(context, &wanted).await;
    if let Some(worse) = worse {
        apply(context, old).await;
        if let Err(error) = commanded.restore(before) {
            tracing::error!(%error, "what commands have changed cannot be written");
        }
        return failed(format!("{worse}; the config before is in force again"));
    }
    commanded.keep_config().or_else(|error| failed(format!("it is in force, and lost at the next start: {error}")))?;
    Ok(Some(json!({ "cameras": new.cameras.len() })))
}

/// Waits until all cameras of `wanted` stream; says which one does not, and why.
async fn trial(context: &Context, wanted: &[&String]) -> Option<String> {
    let until = tokio::time::Instant::now() + TRIAL;
    loop {
        let missing = {
            let agent = context.agent.read().await;
            let handles = agent.as_ref().map(Agent::cameras).unwrap_or_default();
            handles.into_iter().filter(|camera| wanted.contains(&&camera.config.name)).find_map(|camera| {
                let status = camera.capture.get();
                let error = status.error.map(|error| format!(": {error}")).unwrap_or_default();
                (status.state.name() != "streaming").then(|| {
                    format!("`{}` streamed before and is {} now{error}", camera.config.name, status.state.name())
                })
            })
        };
        match missing {
            None => return None,
            Some(missing) if tokio::time::Instant::now() >= until => return Some(missing),
            Some(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

async fn apply(context: &Context, config: Config) {
    if let Some(agent) = context.agent.write().await.as_mut() {
        agent.apply(config).await;
    }
}

fn states(agent: &Agent) -> BTreeMap<String, &'static str> {
    agent.cameras().into_iter().map(|camera| (camera.config.name, camera.capture.get().state.name())).collect()
}

fn is_enabled(config: &Config, name: &str) -> bool {
    config.cameras.iter().any(|camera| camera.name == name && camera.switches.enabled)
}

/// What a command must not change, if it differs.
fn fixed(old: &Config, new: &Config) -> Option<&'static str> {
    match () {
        () if old.thing != new.thing => Some("thing"),
        () if old.state_dir != new.state_dir => Some("state_dir"),
        () if old.http != new.http => Some("http"),
        () if old.mqtt != new.mqtt => Some("mqtt"),
        () if old.honeycomb != new.honeycomb => Some("honeycomb"),
        () if old.commands != new.commands => Some("commands"),
        () => None,
    }
}

//! Deployments wait while something is being finished that people have asked for: a clip, a range of the past.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Component, News};
use crate::control::dispatch::Control;

/// When the nucleus is to ask again.
const AGAIN: Duration = Duration::from_secs(10);
/// A deployment is not held up for longer than this.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Deployments that are remembered.
const REMEMBERED: usize = 16;

impl Component {
    pub(super) async fn delay_deployments(&self, control: &Control) {
        let mut first_asked: BTreeMap<String, Instant> = BTreeMap::new();
        let mut updates = self.subscribe("deployment delays", "SubscribeToComponentUpdates", json!({}));
        loop {
            let News::Event(event) = updates.next().await else { continue };
            let id_of = |event: &Value| event.get("deploymentId").and_then(Value::as_str).map(str::to_owned);
            if let Some(over) = event.get("postUpdateEvent").and_then(id_of) {
                first_asked.remove(&over);
            }
            let Some(update) = event.get("preUpdateEvent") else { continue };
            let id = id_of(update).unwrap_or_default();
            if first_asked.len() >= REMEMBERED {
                first_asked.retain(|_, since| since.elapsed() < LONGEST);
            }
            let since = *first_asked.entry(id.clone()).or_insert_with(Instant::now);
            let unfinished = match since.elapsed() < LONGEST {
                true => unfinished(control).await,
                false => None,
            };
            self.answer(&id, unfinished).await;
        }
    }

    async fn answer(&self, id: &str, unfinished: Option<String>) {
        let wait = if unfinished.is_some() { AGAIN.as_millis() } else { 0 };
        if let Some(what) = &unfinished {
            tracing::info!(deployment = id, "Greengrass: the deployment is asked to wait: {what}");
            self.lock().deferred += 1;
        }
        let request = json!({ "deploymentId": id, "recheckAfterMs": wait as u64, "message": unfinished });
        if let Err(fault) = self.0.ipc.call("DeferComponentUpdate", request).await {
            tracing::warn!(%fault, "Greengrass: the nucleus could not be told whether a deployment may go on");
        }
    }
}

/// What is being finished, for a person.
async fn unfinished(control: &Control) -> Option<String> {
    let agent = control.agent().read().await;
    let cameras = agent.as_ref()?.cameras();
    cameras.iter().find_map(|camera| {
        let name = &camera.config.name;
        let has_range = camera.upload.as_ref().is_some_and(|upload| upload.demand.borrow().range.is_some());
        match (camera.cutting.is_going_on(), has_range) {
            (true, _) => Some(format!("a clip of `{name}` is being cut")),
            (_, true) => Some(format!("a range of `{name}` is being uploaded")),
            _ => None,
        }
    })
}

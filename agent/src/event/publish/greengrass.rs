//! Other components of Greengrass on this machine: each event is a JSON message on a local topic.

use serde_json::{Value, json};

use super::batch::{Failure, Sent};
use crate::event::message::Envelope;
use crate::host::greengrass::{Fault, ask};

/// Publishes one event; `{camera}` in `topic` is the event's.
pub(super) async fn send(topic: &str, envelope: &Envelope) -> Result<Sent, Failure> {
    let event: Value = serde_json::from_slice(&envelope.json).unwrap_or_default();
    let camera = event.get("camera_id").and_then(Value::as_str).unwrap_or_default();
    let topic = topic.replace("{camera}", camera);
    let request = json!({ "topic": topic, "publishMessage": { "jsonMessage": { "message": event } } });
    match ask("PublishToTopic", request).await {
        Ok(_) => Ok(Sent::all(1)),
        Err(fault @ Fault::TooLarge(_)) => Err(Failure::poison(fault.to_string())),
        Err(fault @ (Fault::Unauthorized(_) | Fault::Unsupported(_) | Fault::NotFound(_))) => {
            Err(Failure::lasting(fault.to_string()))
        }
        Err(fault) => Err(Failure::passing(fault.to_string())),
    }
}

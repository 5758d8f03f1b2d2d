//! Answers to commands.

use edgecam_media::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command::{Name, Request};
use crate::host::wall_clock;

/// How far a command has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is being done; another answer follows.
    Accepted,
    /// It has been done.
    Done,
    /// It is not one, or not allowed, or makes no sense now: nothing was done.
    Rejected,
    /// Too much is asked at once: nothing was done, and the same may be asked again.
    Busy,
    /// It could not be done.
    Failed,
}

/// An answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The request's id; empty when it had none.
    pub request_id: String,
    /// The command, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Name>,
    /// The camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<String>,
    /// How far it has come.
    pub status: Outcome,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// When this was written.
    pub timestamp: String,
}

impl Reply {
    /// An answer to `request`.
    pub fn to(request: &Request, status: Outcome) -> Self {
        Self {
            request_id: request.id.clone(),
            command: Some(request.command.name()),
            camera: request.camera.clone(),
            status,
            reason: None,
            result: None,
            timestamp: now(),
        }
    }

    /// An answer to what could not be read.
    pub fn unread(id: Option<String>, camera: Option<&str>, status: Outcome, reason: String) -> Self {
        Self {
            request_id: id.unwrap_or_default(),
            command: None,
            camera: camera.map(str::to_owned),
            status,
            reason: Some(reason),
            result: None,
            timestamp: now(),
        }
    }

    /// With a reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// With a result.
    #[must_use]
    pub fn with(self, result: Value) -> Self {
        Self { result: Some(result), ..self }
    }

    /// Whether no other answer follows.
    pub fn is_final(&self) -> bool {
        self.status != Outcome::Accepted
    }
}

/// How a command that was begun ends: done, with what came of it; or rejected or failed, with the reason.
pub type Ending = Result<Option<Value>, (Outcome, String)>;

/// It makes no sense now.
pub fn rejected<T>(reason: impl Into<String>) -> Result<T, (Outcome, String)> {
    Err((Outcome::Rejected, reason.into()))
}

/// It could not be done.
pub fn failed<T>(reason: impl Into<String>) -> Result<T, (Outcome, String)> {
    Err((Outcome::Failed, reason.into()))
}

fn now() -> String {
    let now: Timestamp = wall_clock();
    now.to_string()
}

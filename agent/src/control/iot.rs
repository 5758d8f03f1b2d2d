//! AWS IoT's own language over the MQTT connection: jobs and a named device shadow. Both end in the same commands as all
//! else, as the transport `iot`.

mod jobs;
mod shadow;

use serde_json::Value;

use self::jobs::Jobs;
use self::shadow::Shadow;
use super::command::Request;
use super::reply::Reply;
use crate::config::Mqtt;
use crate::telemetry::report::AgentReport;

/// What the transport is called in `commands`.
pub(super) const TRANSPORT: &str = "iot";

/// What is to be done after something has happened.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Act {
    /// Publish a JSON document.
    Publish(String, Value),
    /// Do a command; its answers come back.
    Submit(Request),
}

/// Jobs and shadow of one thing, as far as the config wants them.
pub(super) struct Iot {
    jobs: Option<Jobs>,
    shadow: Option<Shadow>,
}

impl Iot {
    pub(super) fn new(settings: &Mqtt, thing: &str) -> Self {
        Self {
            jobs: settings.jobs.then(|| Jobs::new(thing)),
            shadow: settings.shadow.as_ref().map(|name| Shadow::new(thing, name)),
        }
    }

    /// What to subscribe to.
    pub(super) fn filters(&self) -> Vec<String> {
        let jobs = self.jobs.as_ref().map(Jobs::filters).unwrap_or_default();
        let shadow = self.shadow.as_ref().map(Shadow::filters).unwrap_or_default();
        [jobs, shadow].concat()
    }

    /// There is a connection again: what was missed is asked for.
    pub(super) fn connected(&mut self) -> Vec<Act> {
        let jobs = self.jobs.as_mut().map(Jobs::connected);
        let shadow = self.shadow.as_mut().map(Shadow::connected);
        jobs.into_iter().chain(shadow).flatten().collect()
    }

    /// Takes a message of AWS IoT; `None`: it is not about these.
    pub(super) fn take(&mut self, topic: &str, payload: &[u8]) -> Option<Vec<Act>> {
        let jobs = self.jobs.as_mut().and_then(|jobs| jobs.take(topic, payload));
        jobs.or_else(|| self.shadow.as_mut()?.take(topic, payload))
    }

    /// A command that came from here has been answered.
    pub(super) fn answered(&mut self, reply: &Reply) -> Vec<Act> {
        let by_shadow = self.shadow.as_mut().is_some_and(|shadow| shadow.answered(reply));
        let jobs = self.jobs.as_mut().filter(|_| !by_shadow);
        jobs.map(|jobs| jobs.answered(reply)).unwrap_or_default()
    }

    /// How things are; looked at about once a second.
    pub(super) fn report(&mut self, report: &AgentReport) -> Vec<Act> {
        self.shadow.as_mut().map(|shadow| shadow.report(report)).unwrap_or_default()
    }
}

//! What a check has found, for people and for programs.

use serde::Serialize;

use super::output::say;

#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Serialize)]
struct Finding {
    verdict: Verdict,
    what: String,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn add(
        &mut self,
        verdict: Verdict,
        what: impl Into<String>,
        found: impl Into<String>,
        advice: Option<&str>,
    ) {
        let advice = advice.map(str::to_owned);
        self.0.push(Finding { verdict, what: what.into(), found: found.into(), advice });
    }

    pub(super) fn ok(&mut self, what: impl Into<String>, found: impl Into<String>) {
        self.add(Verdict::Ok, what, found, None);
    }

    pub(super) fn fail(&mut self, what: impl Into<String>, found: impl Into<String>, advice: &str) {
        self.add(Verdict::Fail, what, found, Some(advice));
    }

    pub(super) fn has_failed(&self) -> bool {
        self.0.iter().any(|finding| finding.verdict == Verdict::Fail)
    }

    /// Whether nothing is worth a word.
    pub(super) fn is_well(&self) -> bool {
        self.0.iter().all(|finding| finding.verdict == Verdict::Ok)
    }

    pub(super) fn print(&self, json: bool) {
        if json {
            let report = serde_json::json!({ "ok": !self.has_failed(), "findings": self.0 });
            say(format_args!("{report}"));
            return;
        }
        for finding in &self.0 {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok  ",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            say(format_args!("{verdict}  {}: {}", finding.what, finding.found));
            if let Some(advice) = &finding.advice {
                say(format_args!("      -> {advice}"));
            }
        }
    }
}

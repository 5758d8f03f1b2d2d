//! `edgecam check --after-upgrade`: whether the agent that runs is this one, and does its work: for the health check of
//! whatever has just replaced the program, so that it can go back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use serde_json::Value;
use url::Url;

use super::findings::{Findings, Verdict};
use crate::config::{self, Config};
use crate::host::state::{self, Held};
use crate::http::{Client, Request, Settings, header};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of an answer; a report of a camera has 2 kB.
const MOST: usize = 8 << 20;

/// What is found once all is well, or `wait` is over: cameras take their time after a start.
pub(super) async fn check(config: &Config, wait: Duration, every_camera: bool) -> Findings {
    let until = Instant::now() + wait;
    loop {
        let mut findings = Findings::default();
        state(&mut findings, config);
        match &config.http {
            Some(http) => agent(&mut findings, http, every_camera).await,
            None => findings.fail("agent", "its local server is off, so it cannot be asked", "set http.listen"),
        }
        if findings.is_well() || Instant::now() >= until {
            return findings;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The state directory and each archive's own.
fn state(findings: &mut Findings, config: &Config) {
    let archives = config.cameras.iter().filter_map(|camera| camera.archive.as_ref());
    let mut directories: Vec<_> = archives.map(|archive| &archive.directory).collect();
    directories.retain(|directory| !directory.starts_with(&config.state_dir));
    directories.insert(0, &config.state_dir);
    directories.dedup();
    for directory in directories {
        let what = format!("state in {}", directory.display());
        match state::look(directory) {
            Ok(Held::Nothing) => findings.ok(what, "nothing yet"),
            Ok(Held::Unmarked) => findings.add(
                Verdict::Warn,
                what,
                "not marked with a version: no agent of this version has used it",
                Some("is it the directory the agent uses, and can the agent write there?"),
            ),
            Ok(Held::Version(version)) => findings.ok(what, format!("version {version}")),
            Err(error) => findings.fail(what, error.to_string(), "the agent does not use what it cannot read"),
        }
    }
}

async fn agent(findings: &mut Findings, http: &config::Http, every_camera: bool) {
    let health = match ask(http, "/health").await {
        Ok(health) => health,
        Err(error) => {
            let advice = "is it running? edgecam service status; edgecam service log";
            return findings.fail("agent", format!("no answer at {}: {error}", http.listen), advice);
        }
    };
    let (runs, this) = (health["version"].as_str().unwrap_or("unknown"), env!("CARGO_PKG_VERSION"));
    if runs != this {
        let advice = "the old one still runs: edgecam service restart";
        return findings.fail("agent", format!("version {runs} runs, this is {this}"), advice);
    }
    let seconds = health["uptime_seconds"].as_u64().unwrap_or_default();
    findings.ok("agent", format!("version {this}, up for {seconds} s"));
    match ask(http, "/streams").await {
        Ok(streams) => cameras(findings, streams["streams"].as_array().map_or(&[], Vec::as_slice), every_camera),
        Err(error) => findings.fail("cameras", error, "the agent does not say how they are"),
    }
}

/// One dead camera is no reason to go back to another agent; that none streams is.
fn cameras(findings: &mut Findings, streams: &[Value], every_camera: bool) {
    let is_well = |stream: &Value| matches!(stream["state"].as_str(), Some("streaming" | "ended" | "disabled"));
    let well = streams.iter().filter(|stream| is_well(stream)).count();
    for stream in streams.iter().filter(|stream| !is_well(stream)) {
        let name = stream["camera_id"].as_str().unwrap_or("a camera");
        let error = stream["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
        let found = format!("{}{error}", stream["state"].as_str().unwrap_or("unknown"));
        let verdict = if every_camera { Verdict::Fail } else { Verdict::Warn };
        findings.add(verdict, name, found, Some("did it stream before? `edgecam check` asks it by itself"));
    }
    match (well, streams.len()) {
        (0, 1..) => findings.fail("cameras", format!("none of {} streams", streams.len()), "see each of them above"),
        (_, all) => findings.ok("cameras", format!("{well} of {all} stream")),
    }
}

async fn ask(http: &config::Http, path: &str) -> Result<Value, String> {
    let mut address = http.listen;
    // What listens on all addresses is asked at this machine's own.
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let url: Url = format!("http://{address}{path}").parse().map_err(|error| format!("{address}: {error}"))?;
    let mut client =
        Client::new(&url, Settings { answer_timeout: ANSWER, connect_timeout: ANSWER, ..Settings::default() });
    let mut request = Request::get(url);
    if let Some(token) = &http.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let body = async { client.send(&request).await?.bytes(MOST).await };
    let body = body.await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body).map_err(|_| "what answers there is no agent".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cameras_must_do() {
        let camera = |name: &str, state: &str| json!({ "camera_id": name, "state": state, "error": null });
        for (states, every_camera, has_failed, is_well) in [
            (&[][..], false, false, true),
            (&["streaming", "ended", "disabled"], true, false, true),
            (&["streaming", "connecting"], false, false, false),
            (&["streaming", "connecting"], true, true, false),
            (&["connecting", "failing"], false, true, false),
        ] {
            let streams: Vec<Value> = states.iter().map(|state| camera("a", state)).collect();
            let mut findings = Findings::default();
            cameras(&mut findings, &streams, every_camera);
            assert_eq!((findings.has_failed(), findings.is_well()), (has_failed, is_well), "{states:?}");
        }
    }
}

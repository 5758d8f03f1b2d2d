//! `edgecam check`: the doctor. Each line says ok, warn or fail, and what to do.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use edgecam_kvs::FaultClass;
use edgecam_media::{AccessUnit, ParameterSets, Ticks};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::findings::{Findings, Verdict};
use super::output::bytes;
use super::{EXIT_CONFIG, after_upgrade};
use crate::capture::{self, Sink};
use crate::config::{self, Archive, Camera, Config, Nvr};
use crate::encode::Control;
use crate::footage::disk::free_bytes;
use crate::host::state;
use crate::telemetry::report;
use crate::upload::{ControlPlane, Network, doctor};

/// A camera is watched for this long.
const WATCH: Duration = Duration::from_secs(8);
/// For an NVR to list its channels.
const LIST: Duration = Duration::from_secs(30);
/// GOPs longer than this make live view slow to start and recovery coarse.
const LONG_GOP_SECONDS: f64 = 5.0;

#[derive(Args)]
pub(super) struct Arguments {
    /// The config file
    #[arg(long, short)]
    config: PathBuf,
    /// Check what needs no network only: config, disk, permissions
    #[arg(long)]
    offline: bool,
    /// Check the config alone
    #[arg(long, conflicts_with = "offline")]
    config_only: bool,
    /// If nothing is wrong, have the agent with this process id read its config again
    #[arg(long, value_name = "PID", requires = "config_only", value_parser = clap::value_parser!(i32).range(1..))]
    reload: Option<i32>,
    /// Ask the agent that runs instead: is it this version, do its cameras stream, can it go on with what is on disk?
    #[arg(long, conflicts_with_all = ["offline", "config_only"])]
    after_upgrade: bool,
    /// For it to come up
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = humantime::parse_duration, requires = "after_upgrade")]
    wait: Duration,
    /// Fail if any camera does not stream; without it at least one has to
    #[arg(long, requires = "after_upgrade")]
    every_camera: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    let mut findings = Findings::default();
    let config = match config::load_as_service(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            findings.fail("config", error.to_string(), "mend the file; `edgecam schema` lists every key");
            findings.print(arguments.json);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if arguments.after_upgrade {
        findings = after_upgrade::check(&config, arguments.wait, arguments.every_camera).await;
    } else {
        findings.ok("config", format!("{} cameras", config.cameras.len()));
        if !arguments.config_only {
            here(&mut findings, &config);
        }
        if !arguments.config_only && !arguments.offline {
            afar(&mut findings, &config).await;
        }
        if let Some(pid) = arguments.reload.and_then(Pid::from_raw)
            && let Err(error) = kill_process(pid, Signal::HUP)
        {
            findings.fail("reload", error.to_string(), "does the agent run, and for the same user?");
        }
    }
    findings.print(arguments.json);
    if findings.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What needs no network.
fn here(findings: &mut Findings, config: &Config) {
    if let Err(error) = state::look(&config.state_dir) {
        let advice = "an agent of this version does not start with it";
        findings.fail("state", error.to_string(), advice);
    }
    for camera in &config.cameras {
        if let Some(archive) = &camera.archive {
            disk(findings, &camera.name, archive);
        }
    }
}

async fn afar(findings: &mut Findings, config: &Config) {
    for camera in &config.cameras {
        self::camera(findings, camera).await;
    }
    for nvr in &config.nvrs {
        self::nvr(findings, nvr).await;
    }
    if config.cameras.iter().any(|camera| camera.upload.is_some()) {
        aws(findings, config).await;
    }
}

fn disk(findings: &mut Findings, camera: &str, archive: &Archive) {
    let what = format!("{camera}: disk");
    // What is not there yet is the agent's to make: it might be another user's than who looks here.
    let there = |directory: &&Path| !matches!(directory.try_exists(), Ok(false)) && **directory != *"";
    let directory = archive.directory.ancestors().find(there).unwrap_or(Path::new("."));
    let probe = directory.join(".edgecam-check");
    let writable = std::fs::write(&probe, b"x");
    if let Err(error) = writable.and_then(|()| std::fs::remove_file(&probe)) {
        let advice = "give the agent's user write permission (a service of systemd: ReadWritePaths= too, which \
                      `edgecam service install` sets), or set archive.directory";
        return findings.fail(what, format!("{} cannot be written: {error}", directory.display()), advice);
    }
    match free_bytes(directory) {
        Ok(free) if free <= archive.retention.min_free => {
            let found = format!("{} free, {} are to stay free", bytes(free), bytes(archive.retention.min_free));
            findings.add(
                Verdict::Warn,
                what,
                found,
                Some("old footage will be deleted at once, or nothing recorded: see archive.on_full"),
            );
        }
        Ok(free) => findings.ok(what, format!("{}, {} free", archive.directory.display(), bytes(free))),
        Err(error) => findings.fail(what, format!("{}: {error}", directory.display()), "check the mount"),
    }
}

/// What came from a camera while it was watched.
#[derive(Default)]
struct Seen {
    units: Vec<(bool, usize, edgecam_media::Timestamp)>,
    sets: Option<Arc<ParameterSets>>,
}

impl Seen {
    fn take(&mut self, unit: &AccessUnit) {
        if self.units.len() < 10_000 && unit.is_video() {
            self.units.push((unit.is_idr, unit.data.len(), unit.pts));
        }
        self.sets = unit.parameter_sets.clone().or(self.sets.take());
    }
}

async fn camera(findings: &mut Findings, camera: &Camera) {
    let what = format!("{}: {}", camera.name, report::source(&camera.source));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (collector, cancel) = (seen.clone(), CancellationToken::new());
    let (_keep, idr_requests) = watch::channel(0);
    let mut sink = Sink::new(None, idr_requests, watch::channel(Control::default()).1, move |delivered| {
        collector.lock().unwrap_or_else(PoisonError::into_inner).take(&delivered.unit);
    });
    let attempt = capture::attempt(&camera.source, &mut sink, &cancel);
    let result = tokio::time::timeout(WATCH, attempt).await;
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    let Some(sets) = &seen.sets else {
        let (found, advice) = match result {
            Ok(Err(error)) => (error.to_string(), "see the message; try the address in a player such as ffplay"),
            Ok(Ok(())) | Err(_) => {
                (format!("no picture in {} s", WATCH.as_secs()), "is the camera on, and its stream H.264?")
            }
        };
        return findings.fail(what, found, advice);
    };
    let facts = sets.facts();
    let span = match (seen.units.first(), seen.units.last()) {
        (Some((_, _, first)), Some((_, _, last))) => last.since(*first),
        _ => Ticks::ZERO,
    };
    let total: usize = seen.units.iter().map(|(_, size, _)| size).sum();
    let seconds = span.seconds().max(0.001);
    let idrs: Vec<_> = seen.units.iter().filter(|(is_idr, ..)| *is_idr).map(|(.., pts)| *pts).collect();
    let gop = idrs.windows(2).map(|pair| pair[1].since(pair[0]).seconds()).fold(0.0, f64::max);
    let rate = (seen.units.len() - 1) as f64 / seconds;
    let mbit = total as f64 * 8.0 / seconds / 1e6;
    let found = format!(
        "{} {}x{}, {rate:.1} fps, {mbit:.2} Mbit/s, GOP {}",
        sets.codec_string(),
        facts.width,
        facts.height,
        if idrs.len() > 1 { format!("{gop:.1} s") } else { format!("over {seconds:.0} s") },
    );
    if idrs.len() < 2 || gop > LONG_GOP_SECONDS {
        let advice = "set the camera's I-frame interval to 1 to 2 s: KVS takes at most 10 s";
        findings.add(Verdict::Warn, what, found, Some(advice));
    } else {
        findings.ok(what, found);
    }
}

async fn nvr(findings: &mut Findings, nvr: &Nvr) {
    let what = format!("{}: {}", nvr.name, report::source(nvr.source()));
    match tokio::time::timeout(LIST, capture::nvr::count(nvr)).await {
        Ok(Ok(0)) => {
            let advice = "give this user the right to see cameras, in the NVR";
            findings.add(Verdict::Warn, what, "it lists no channel", Some(advice));
        }
        Ok(Ok(count)) => findings.ok(what, format!("{count} channels")),
        Ok(Err(error)) => findings.fail(what, error.to_string(), "see the message; `edgecam nvr list` asks it again"),
        Err(_) => findings.fail(what, format!("no list in {} s", LIST.as_secs()), "is it overloaded?"),
    }
}

async fn aws(findings: &mut Findings, config: &Config) {
    let control = match ControlPlane::new(&config.aws).await {
        Ok(control) => control,
        Err(fault) => {
            return findings.fail("AWS", fault.to_string(), "set aws.region, or AWS_REGION in the environment");
        }
    };
    findings.ok("AWS region", control.region());
    if let Err(fault) = control.credentials().await {
        let advice = "on Greengrass the token exchange role must be set up; elsewhere see the AWS credential chain";
        return findings.fail("credentials", fault.to_string(), advice);
    }
    findings.ok("credentials", "found");
    let mut hosts = std::collections::BTreeSet::new();
    for upload in config.cameras.iter().filter_map(|camera| camera.upload.as_ref()) {
        let what = format!("stream {}", upload.stream);
        match control.target(&upload.stream, edgecam_media::Codec::H264).await {
            Ok(target) => {
                let retention = if target.has_retention { "" } else { ", keeps nothing (retention 0)" };
                findings.ok(what, format!("active{retention}, media to {}", target.host));
                hosts.insert((target.host, target.port));
            }
            Err(fault) => {
                let advice = match fault.class {
                    FaultClass::Credentials => {
                        "allow the role the action named above; if it is the signature, check the clock"
                    }
                    FaultClass::NotFound => "create the stream, or set aws.create_streams: true",
                    _ => "check the network: outbound TCP 443 must be open",
                };
                findings.fail(what, fault.to_string(), advice);
            }
        }
    }
    if hosts.is_empty() {
        hosts.insert((format!("kinesisvideo.{}.amazonaws.com", control.region()), 443));
    }
    let network = Network::default();
    for (host, port) in hosts {
        let what = format!("network to {host}");
        match doctor::clock_skew(&host, port, &network).await {
            Ok(skew) if skew.abs() > doctor::MAX_CLOCK_SKEW_SECONDS => {
                let found = format!(
                    "reached; this machine's clock is {} s {}",
                    skew.abs(),
                    if skew > 0 { "ahead" } else { "behind" }
                );
                findings.fail(what, found, "set the clock (timedatectl): AWS refuses requests that are 5 minutes off");
            }
            Ok(skew) => findings.ok(what, format!("DNS, TCP and TLS in order; the clock is {} s off", skew.abs())),
            Err(fault) if fault.class == FaultClass::Protocol => {
                let advice = "reached, but the clock could not be compared: make sure that it is right";
                findings.add(Verdict::Warn, what, fault.to_string(), Some(advice));
            }
            Err(fault) => findings.fail(
                what,
                fault.to_string(),
                "check DNS, firewall (outbound TCP 443), proxy and CA certificates",
            ),
        }
    }
}

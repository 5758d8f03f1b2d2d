//! `edgecam import`: cameras of another system, as entries of a config file.

use std::collections::BTreeSet;
use std::process::ExitCode;

use aws_sdk_kinesisvideo::types::{self, ListEdgeAgentConfigurationsEdgeConfig};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::EXIT_CONFIG;
use super::output::{fail, say};
use crate::config::{self, edge_config};
use crate::telemetry;
use crate::upload::ControlPlane;

/// Characters of a camera's name.
const NAME: usize = 64;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    from: From,
}

#[derive(Subcommand)]
enum From {
    /// The streams that AWS's KVS Edge Agent serves on a device (ListEdgeAgentConfigurations)
    EdgeAgent {
        /// The device: arn:aws:iot:REGION:ACCOUNT:thing/NAME
        hub_device_arn: String,
        /// Its region. Default: the one in the ARN
        #[arg(long)]
        region: Option<String>,
    },
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    telemetry::log::init(tracing::Level::WARN);
    let From::EdgeAgent { hub_device_arn, region } = arguments.from;
    let thing = match edge_config::thing(&hub_device_arn) {
        Ok(thing) => thing.to_owned(),
        Err(error) => return fail(EXIT_CONFIG, format_args!("{error}")),
    };
    let region = region.or_else(|| hub_device_arn.split(':').nth(3).map(str::to_owned)).filter(|name| !name.is_empty());
    let aws = config::Aws { region: region.clone(), ..config::Aws::default() };
    let found = match ControlPlane::new(&aws).await {
        Ok(control) => control.edge_configurations(&hub_device_arn).await,
        Err(fault) => Err(fault),
    };
    let found = match found {
        Ok(found) => found,
        Err(fault) => return fail(1, format_args!("{}", fault.message)),
    };
    if found.is_empty() {
        return fail(1, format_args!("no stream has a configuration for {hub_device_arn}"));
    }
    let mut names = BTreeSet::new();
    let cameras: Vec<Value> = found.iter().filter_map(|one| camera(one, &mut names)).collect();
    say(format_args!("# JSON is YAML: save it as the config file, and try it with `edgecam check`."));
    let config = json!({ "thing": thing, "aws": { "region": region }, "cameras": cameras });
    say(format_args!("{config:#}"));
    ExitCode::SUCCESS
}

/// One entry, as the API's JSON has it: what is wrong with it is said by the check of the config, not here.
fn camera(entry: &ListEdgeAgentConfigurationsEdgeConfig, names: &mut BTreeSet<String>) -> Option<Value> {
    let (stream, edge) = (entry.stream_name()?, entry.edge_config()?);
    let base: String = stream.trim_start_matches('.').chars().take(NAME - 4).collect();
    let base = if base.is_empty() { "camera".to_owned() } else { base };
    let mut name = base.clone();
    let mut number = 2;
    while !names.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    let mut written = json!({ "HubDeviceArn": edge.hub_device_arn() });
    if let Some(recorder) = edge.recorder_config() {
        let mut config = json!({});
        if let Some(source) = recorder.media_source_config() {
            config["MediaSourceConfig"] = json!({
                "MediaUriSecretArn": source.media_uri_secret_arn(),
                "MediaUriType": source.media_uri_type().as_str(),
            });
        }
        if let Some(times) = recorder.schedule_config() {
            config["ScheduleConfig"] = schedule(times);
        }
        written["RecorderConfig"] = config;
    }
    if let Some(times) = edge.uploader_config().and_then(|uploader| uploader.schedule_config()) {
        written["UploaderConfig"] = json!({ "ScheduleConfig": schedule(times) });
    }
    if let Some(deletion) = edge.deletion_config() {
        let mut config = json!({});
        if let Some(hours) = deletion.edge_retention_in_hours() {
            config["EdgeRetentionInHours"] = json!(hours);
        }
        if let Some(size) = deletion.local_size_config() {
            let mut local = json!({});
            if let Some(megabytes) = size.max_local_media_size_in_mb() {
                local["MaxLocalMediaSizeInMB"] = json!(megabytes);
            }
            if let Some(strategy) = size.strategy_on_full_size() {
                local["StrategyOnFullSize"] = json!(strategy.as_str());
            }
            config["LocalSizeConfig"] = local;
        }
        if let Some(delete) = deletion.delete_after_upload() {
            config["DeleteAfterUpload"] = json!(delete);
        }
        written["DeletionConfig"] = config;
    }
    Some(json!({ "name": name, "edge_config": written, "upload": { "stream": stream } }))
}

fn schedule(times: &types::ScheduleConfig) -> Value {
    json!({ "ScheduleExpression": times.schedule_expression(), "DurationInSeconds": times.duration_in_seconds() })
}

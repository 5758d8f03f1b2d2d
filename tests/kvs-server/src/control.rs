//! The control plane: DescribeStream, CreateStream, TagStream, GetDataEndpoint, as restJson1; and, of the data endpoints,
//! GetHLSStreamingSessionURL, which has the same form.
//!
//! Absent: everything else of the service; deleting and updating streams is done through
//! [`KvsServer`](crate::KvsServer).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::StreamSpec;
use crate::error::ServiceError;
use crate::hls;
use crate::record::Call;
use crate::state::{Shared, State};
use crate::stream::Stream;

const MAX_NAME: usize = 256;
const MAX_TAGS: usize = 50;
const MAX_TAG_KEY: usize = 128;
const MAX_TAG_VALUE: usize = 256;
const MAX_RETENTION_HOURS: u32 = 87_600;

/// How a request names a stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Target {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateStream {
    stream_name: String,
    device_name: Option<String>,
    media_type: Option<String>,
    data_retention_in_hours: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagStream {
    #[serde(flatten)]
    target: Target,
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetDataEndpoint {
    #[serde(flatten)]
    target: Target,
    #[serde(rename = "APIName")]
    api_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListEdgeAgentConfigurations {
    hub_device_arn: String,
    max_results: Option<usize>,
    next_token: Option<String>,
}

/// The call of a path.
pub(crate) fn call_of(path: &str) -> Option<Call> {
    match path {
        "/describeStream" => Some(Call::DescribeStream),
        "/createStream" => Some(Call::CreateStream),
        "/tagStream" => Some(Call::TagStream),
        "/getDataEndpoint" => Some(Call::GetDataEndpoint),
        "/getHLSStreamingSessionURL" => Some(Call::GetHlsStreamingSessionUrl),
        "/listEdgeAgentConfigurations" => Some(Call::ListEdgeAgentConfigurations),
        "/putMedia" => Some(Call::PutMedia),
        _ => None,
    }
}

/// The stream that a body names, to file the attempt under and to find faults for; wrong bodies name none.
pub(crate) fn named_stream(body: &[u8]) -> Option<String> {
    let target: Target = serde_json::from_slice(body).ok()?;
    target.stream_name.or_else(|| target.stream_arn?.split('/').nth(1).map(str::to_owned))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ServiceError> {
    serde_json::from_slice(body)
        .map_err(|error| ServiceError::front_end(400, "SerializationException", error.to_string()))
}

/// Answers an authenticated call.
pub(crate) fn answer(shared: &Shared, call: Call, body: &[u8]) -> Result<Value, ServiceError> {
    let now = Instant::now();
    let mut state = shared.lock();
    match call {
        Call::DescribeStream => {
            let stream = find(&mut state, &parse(body)?, call, now)?;
            Ok(json!({ "StreamInfo": describe(stream, now) }))
        }
        Call::CreateStream => create_stream(shared, &mut state, parse(body)?, now),
        Call::TagStream => tag_stream(&mut state, parse(body)?, now),
        Call::GetDataEndpoint => {
            let request: GetDataEndpoint = parse(body)?;
            find(&mut state, &request.target, call, now)?;
            if !is_api_name(&request.api_name) {
                return Err(ServiceError::invalid_argument(format!("APIName {} is not known.", request.api_name)));
            }
            let endpoint = shared.config.data_endpoint.as_ref().unwrap_or(&shared.endpoint);
            Ok(json!({ "DataEndpoint": endpoint }))
        }
        Call::GetHlsStreamingSessionUrl => {
            let request: hls::Request = parse(body)?;
            let (stream_name, stream_arn) = request.target();
            let target =
                Target { stream_name: stream_name.map(str::to_owned), stream_arn: stream_arn.map(str::to_owned) };
            let record = &find(&mut state, &target, call, now)?.record;
            let (name, retention_hours) = (record.name.clone(), record.retention_hours);
            state.hls.open(&request, &name, retention_hours, &shared.endpoint, now)
        }
        Call::ListEdgeAgentConfigurations => list_edge_agent_configurations(shared, &parse(body)?),
        Call::PutMedia => Err(ServiceError::invalid_argument("not a control-plane call")),
    }
}

fn list_edge_agent_configurations(
    shared: &Shared,
    request: &ListEdgeAgentConfigurations,
) -> Result<Value, ServiceError> {
    let ListEdgeAgentConfigurations { hub_device_arn, max_results, next_token } = request;
    // The pattern of the service's model.
    let is_arn = matches!(hub_device_arn.split(':').collect::<Vec<_>>()[..],
        ["arn", partition, "iot", region, account, resource]
            if !partition.is_empty() && !region.is_empty() && account.len() == 12 && resource.starts_with("thing/"));
    if !is_arn {
        return Err(ServiceError::invalid_argument(format!(
            "HubDeviceArn '{hub_device_arn}' is not an ARN of a thing."
        )));
    }
    let count = max_results.unwrap_or(5);
    if !(1..=10).contains(&count) {
        return Err(ServiceError::invalid_argument("MaxResults must be 1 to 10."));
    }
    let first = match next_token.as_deref().map(str::parse::<usize>) {
        None => 0,
        Some(Ok(first)) => first,
        Some(Err(_)) => return Err(ServiceError::invalid_argument("NextToken is not one of ours.")),
    };
    let of_hub = shared.config.edge_configurations.iter();
    let of_hub = of_hub.filter(|entry| entry["EdgeConfig"]["HubDeviceArn"] == **hub_device_arn);
    let page: Vec<&Value> = of_hub.clone().skip(first).take(count).collect();
    let next = first + page.len();
    let token = (next < of_hub.count()).then(|| next.to_string());
    Ok(json!({ "EdgeConfigs": page, "NextToken": token }))
}

fn is_api_name(name: &str) -> bool {
    matches!(
        name,
        "PUT_MEDIA"
            | "GET_MEDIA"
            | "LIST_FRAGMENTS"
            | "GET_MEDIA_FOR_FRAGMENT_LIST"
            | "GET_HLS_STREAMING_SESSION_URL"
            | "GET_DASH_STREAMING_SESSION_URL"
            | "GET_CLIP"
            | "GET_IMAGES"
    )
}

/// The stream, if it exists and is not called too often.
fn find<'s>(state: &'s mut State, target: &Target, call: Call, now: Instant) -> Result<&'s mut Stream, ServiceError> {
    let stream = state.find(target.stream_name.as_deref(), target.stream_arn.as_deref())?;
    if !stream.admit(call, now) {
        return Err(ServiceError::modelled(400, "ClientLimitExceededException", "Rate exceeded"));
    }
    Ok(stream)
}

fn describe(stream: &mut Stream, now: Instant) -> Value {
    let status = stream.status(now);
    let record = &stream.record;
    json!({
        "CreationTime": record.created_at as f64 / 1000.0,
        "DataRetentionInHours": record.retention_hours,
        "DeviceName": record.device_name,
        "KmsKeyId": "arn:aws:kms:us-east-1:123456789012:alias/aws/kinesisvideo",
        "MediaType": record.media_type,
        "Status": status,
        "StreamARN": record.arn,
        "StreamName": record.name,
        "Version": "1",
    })
}

fn create_stream(
    shared: &Shared,
    state: &mut State,
    request: CreateStream,
    now: Instant,
) -> Result<Value, ServiceError> {
    let CreateStream { stream_name: name, device_name, media_type, data_retention_in_hours } = request;
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_name_byte) {
        return Err(ServiceError::invalid_argument(format!("StreamName '{name}' must match [a-zA-Z0-9_.-]{{1,256}}.")));
    }
    let retention_hours = data_retention_in_hours.unwrap_or_default();
    if retention_hours > MAX_RETENTION_HOURS {
        return Err(ServiceError::invalid_argument("DataRetentionInHours is too large."));
    }
    let delay = shared.config.create_delay;
    let active_at = (!delay.is_zero()).then(|| now + delay);
    if !state.create_stream(&StreamSpec { name: name.clone(), retention_hours }, &shared.config, active_at) {
        return Err(ServiceError::modelled(
            400,
            "ResourceInUseException",
            format!("The stream {name} already exists."),
        ));
    }
    let stream = state.find(Some(&name), None)?;
    stream.record.device_name = device_name;
    stream.record.media_type = media_type;
    Ok(json!({ "StreamARN": stream.record.arn }))
}

fn tag_stream(state: &mut State, request: TagStream, now: Instant) -> Result<Value, ServiceError> {
    let stream = find(state, &request.target, Call::TagStream, now)?;
    let bad =
        |(key, value): &(&String, &String)| key.is_empty() || key.len() > MAX_TAG_KEY || value.len() > MAX_TAG_VALUE;
    if request.tags.is_empty() || request.tags.iter().any(|tag| bad(&tag)) {
        return Err(ServiceError::invalid_argument(
            "Tags must be 1 to 50 with keys up to 128 and values up to 256 characters.",
        ));
    }
    let mut tags = stream.record.tags.clone();
    tags.extend(request.tags);
    if tags.len() > MAX_TAGS {
        return Err(ServiceError::modelled(
            400,
            "TagsPerResourceExceededLimitException",
            "A stream has at most 50 tags.",
        ));
    }
    stream.record.tags = tags;
    Ok(json!({}))
}

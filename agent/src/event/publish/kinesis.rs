//! Kinesis Data Streams: PutRecords, up to 500 records and 5 MB a call; only failed records are sent again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::Aws;
use super::aws::{Call, Connection, Service};
use super::batch::{Failure, Fate, Sent};
use crate::event::message::Envelope;
use crate::http::Method;

/// Records of one call at most ("PutRecords", Kinesis API reference).
pub(super) const MOST: usize = 500;
/// Bytes of one call at most, of 10 MiB that the service takes.
pub(super) const MOST_BYTES: usize = 4 << 20;
/// Of a record: more is refused whoever asks again.
const RECORD: usize = 1 << 20;

pub(super) async fn send(
    connection: &mut Connection,
    aws: &Aws,
    stream: &str,
    batch: &[Envelope],
) -> Result<Sent, Failure> {
    let is_too_large = |envelope: &Envelope| envelope.json.len() > RECORD;
    let records: Vec<Value> = batch
        .iter()
        .filter(|envelope| !is_too_large(envelope))
        .map(|envelope| json!({ "Data": STANDARD.encode(&envelope.json), "PartitionKey": partition_key(envelope) }))
        .collect();
    let body = json!({ "StreamName": stream, "Records": records }).to_string();
    let call = Call {
        service: Service::Kinesis,
        method: Method::POST,
        object: None,
        headers: vec![
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target", "Kinesis_20131202.PutRecords".to_owned()),
        ],
        body: Bytes::from(body),
    };
    let mut fates = Vec::new();
    let mut complaint = None;
    let mut results = Vec::new();
    if !records.is_empty() {
        let answer = connection.call(aws, &call).await?;
        if !answer.status.is_success() {
            let (kind, message) = answer.json_error();
            return Err(answer.failure(&format!("the Kinesis stream {stream}"), &kind, &message));
        }
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        results = value["Records"].as_array().cloned().unwrap_or_default();
        if results.len() != records.len() {
            return Err(Failure::passing(format!("the Kinesis stream {stream} answered what cannot be read")));
        }
    }
    let mut results = results.into_iter();
    for envelope in batch {
        if is_too_large(envelope) {
            complaint = Some(format!("an event of {} bytes: Kinesis takes 1 MiB", envelope.json.len()));
            fates.push(Fate::Refused);
            continue;
        }
        let result = results.next().unwrap_or_default();
        match result["ErrorCode"].as_str() {
            None => fates.push(Fate::Arrived),
            Some(code) => {
                let message = result["ErrorMessage"].as_str().unwrap_or_default();
                complaint = Some(format!("the Kinesis stream {stream}: {code} {message}"));
                fates.push(Fate::Again);
            }
        }
    }
    Ok(Sent { fates, complaint })
}

/// The camera: what one saw stays in order.
fn partition_key(envelope: &Envelope) -> String {
    let value: Value = serde_json::from_slice(&envelope.json).unwrap_or_default();
    value["camera_id"].as_str().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned()
}

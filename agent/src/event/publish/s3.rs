//! S3: the picture, crops of it and the JSON of an event, below `<prefix>/<camera>/YYYY/MM/DD/<id>`. The same key twice
//! is one object. The JSON goes last: who finds it finds the pictures.

use bytes::Bytes;
use serde_json::Value;

use super::Aws;
use super::aws::{Call, Connection, Service};
use super::batch::{Failure, Sent};
use crate::event::message::Envelope;
use crate::event::naming;
use crate::http::Method;

/// A bucket and how objects lie in it.
pub(super) struct Bucket<'a> {
    pub(super) name: &'a str,
    pub(super) prefix: &'a str,
    pub(super) kms_key: Option<&'a str>,
}

pub(super) async fn send(
    connection: &mut Connection,
    aws: &Aws,
    bucket: &Bucket<'_>,
    envelope: &Envelope,
) -> Result<Sent, Failure> {
    let value: Value = serde_json::from_slice(&envelope.json).unwrap_or_default();
    let Some(stem) = naming::stem(&value) else { return Err(Failure::poison("an event without an id")) };
    let stem = match bucket.prefix {
        "" => stem,
        prefix => format!("{prefix}/{stem}"),
    };
    let files = naming::files(&stem, envelope);
    for (key, kind, body) in files {
        put(connection, aws, bucket, &key, kind, (body, &value)).await?;
    }
    Ok(Sent::all(1))
}

async fn put(
    connection: &mut Connection,
    aws: &Aws,
    bucket: &Bucket<'_>,
    key: &str,
    content_type: &str,
    (body, about): (Bytes, &Value),
) -> Result<(), Failure> {
    let mut headers = vec![("content-type", content_type.to_owned())];
    match bucket.kms_key {
        None => headers.push(("x-amz-server-side-encryption", "AES256".to_owned())),
        Some(kms_key) => {
            headers.push(("x-amz-server-side-encryption", "aws:kms".to_owned()));
            headers.push(("x-amz-server-side-encryption-aws-kms-key-id", kms_key.to_owned()));
        }
    }
    for (header, field) in [
        ("x-amz-meta-camera-id", "camera_id"),
        ("x-amz-meta-event-id", "event_id"),
        ("x-amz-meta-timestamp", "timestamp"),
        ("x-amz-meta-class-name", "class_name"),
    ] {
        let text = match &about[field] {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // Metadata is ASCII ("Working with object metadata").
        let text: String = text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
        headers.push((header, text.trim().to_owned()));
    }
    let object = Some((bucket.name, key));
    let call = Call { service: Service::S3, method: Method::PUT, object, headers, body };
    let answer = connection.call(aws, &call).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let tag = |name: &str| {
        let from = text.split_once(&format!("<{name}>"))?.1;
        Some(from.split_once("</")?.0.to_owned())
    };
    let (kind, message) = (tag("Code").unwrap_or_default(), tag("Message").unwrap_or_default());
    Err(answer.failure(&format!("the bucket {}", bucket.name), &kind, &message))
}

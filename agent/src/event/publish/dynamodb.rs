//! DynamoDB: one PutItem for each event; the same item twice is one.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Aws;
use super::aws::{Call, Connection, Service};
use super::batch::{Failure, Sent};
use crate::event::message::Envelope;
use crate::http::Method;

pub(super) async fn send(
    connection: &mut Connection,
    aws: &Aws,
    table: &str,
    envelope: &Envelope,
) -> Result<Sent, Failure> {
    let value: Value = serde_json::from_slice(&envelope.json).unwrap_or_default();
    let Value::Object(fields) = value else { return Err(Failure::poison("an event that is not JSON")) };
    let item: Map<String, Value> = fields.into_iter().map(|(name, value)| (name, attribute(value))).collect();
    let call = Call {
        service: Service::DynamoDb,
        method: Method::POST,
        object: None,
        headers: vec![
            ("content-type", "application/x-amz-json-1.0".to_owned()),
            ("x-amz-target", "DynamoDB_20120810.PutItem".to_owned()),
        ],
        body: Bytes::from(json!({ "TableName": table, "Item": item }).to_string()),
    };
    let answer = connection.call(aws, &call).await?;
    if answer.status.is_success() {
        return Ok(Sent::all(1));
    }
    let (kind, message) = answer.json_error();
    let what = format!("the table {table}");
    Err(match kind.as_str() {
        // The table's keys are others, or the item is larger than 400 KB.
        "ValidationException" if message.contains("size") => Failure::poison(format!("{what}: {message}")),
        "ValidationException" => Failure::lasting(format!(
            "{what}: {message}; it needs the partition key camera_id (string) and the sort key timestamp (number)"
        )),
        _ => answer.failure(&what, &kind, &message),
    })
}

/// JSON as DynamoDB has it ("AttributeValue", DynamoDB API reference).
fn attribute(value: Value) -> Value {
    match value {
        Value::Null => json!({ "NULL": true }),
        Value::Bool(value) => json!({ "BOOL": value }),
        Value::Number(value) => json!({ "N": value.to_string() }),
        Value::String(value) => json!({ "S": value }),
        Value::Array(values) => json!({ "L": values.into_iter().map(attribute).collect::<Vec<_>>() }),
        Value::Object(fields) => {
            let fields: Map<String, Value> = fields.into_iter().map(|(name, value)| (name, attribute(value))).collect();
            json!({ "M": fields })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_types() {
        let found = attribute(json!({ "a": 1.5, "b": [true, null, "x"] }));
        assert_eq!(
            found,
            json!({ "M": { "a": { "N": "1.5" }, "b": { "L": [{ "BOOL": true }, { "NULL": true }, { "S": "x" }] } } })
        );
    }
}

//! Where events and pictures go: as written, and as used.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::check::{Result, secret_file, wrong};
use super::secret::Secret;
use super::value::Size;
use crate::control::mqtt::limits;

/// Where events go. Each waits on disk, in order, until it has arrived.
#[derive(Deserialize, JsonSchema, Debug, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenPublishers {
    /// To `<topic_prefix>/<camera>/event` at the broker in `mqtt`. Default: true where there is a broker.
    pub(crate) mqtt: Option<bool>,
    /// Name of a stream of Kinesis Data Streams; the partition key is the camera's name.
    pub(crate) kinesis_stream_name: Option<String>,
    /// Bucket for a snapshot, crops and the JSON of each event.
    pub(crate) s3_bucket: Option<String>,
    /// Before the camera's name in the bucket's keys. Default: `events`.
    pub(crate) s3_prefix: Option<String>,
    /// KMS key for the objects. Default: S3's own key (`AES256`).
    pub(crate) s3_kms_key: Option<String>,
    /// Table of DynamoDB with the partition key `camera_id` (string) and the sort key `timestamp` (number).
    pub(crate) dynamodb_table: Option<String>,
    /// An HTTP server that takes events by POST.
    pub(crate) webhook: Option<Webhook>,
    /// Topic of Greengrass' local messages, for other components on this machine, such as `edgecam/{camera}/event`.
    pub(crate) greengrass_topic: Option<String>,
    /// Directory for events and their pictures.
    pub(crate) directory: Option<PathBuf>,
    /// Most bytes in it; the oldest days go first. Default: 1 GiB.
    pub(crate) directory_max_size: Option<Size>,
    /// Pictures to train with.
    pub(crate) dataset: Option<WrittenDataset>,
}

/// An HTTP server that takes events.
#[derive(Deserialize, JsonSchema, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    /// `https://`, or `http://` on this machine.
    pub(crate) url: String,
    /// File with a secret: each request then has the header `X-Edgecam-Signature: sha256=<HMAC of the body>`.
    pub(crate) secret_file: Option<PathBuf>,
    /// CA certificates (PEM) to trust. Default: the system's.
    pub(crate) ca_file: Option<PathBuf>,
}

/// Pictures to train with, as `<camera>/YYYY/MM/DD/<timestamp>_<uuid>.jpg` and `.json`.
#[derive(Deserialize, JsonSchema, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenDataset {
    /// Where; below it by camera. Default: `<state_dir>/dataset`.
    pub(crate) directory: Option<PathBuf>,
    /// One of so many pictures that are looked at. Default: none.
    pub(crate) every: Option<u32>,
    /// Each picture with a detection that is this unsure, such as `[0.3, 0.6]`. Default: none.
    pub(crate) unsure: Option<[f32; 2]>,
    /// Most bytes; the oldest days go first. Default: 1 GiB.
    pub(crate) max_size: Option<Size>,
    /// Bucket that gets them too.
    pub(crate) s3_bucket: Option<String>,
    /// Before the camera's name in the bucket's keys. Default: `dataset`.
    pub(crate) s3_prefix: Option<String>,
}

/// Where the events of a camera go.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Publishers {
    /// To the broker.
    pub mqtt: bool,
    /// Everywhere else.
    pub destinations: Vec<Destination>,
    /// Pictures to train with.
    pub dataset: Option<Dataset>,
}

/// Where events go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// A stream of Kinesis Data Streams.
    Kinesis {
        /// Its name.
        stream: String,
    },
    /// A bucket.
    S3 {
        /// Its name.
        bucket: String,
        /// Before the camera's name.
        prefix: String,
        /// For server-side encryption; `None`: S3's own.
        kms_key: Option<String>,
    },
    /// A table of DynamoDB.
    DynamoDb {
        /// Its name.
        table: String,
    },
    /// An HTTP server.
    Webhook {
        /// Where.
        url: Url,
        /// Signs what is sent.
        secret: Option<Secret>,
        /// Certificates to trust.
        ca_file: Option<PathBuf>,
    },
    /// Other components of Greengrass on this machine.
    Greengrass {
        /// Topic; `{camera}` is filled in.
        topic: String,
    },
    /// A directory.
    Directory {
        /// Where.
        path: PathBuf,
        /// Most bytes; the oldest days go first.
        max_bytes: u64,
    },
}

/// Pictures to train with.
#[derive(Clone, PartialEq, Debug)]
pub struct Dataset {
    /// One of so many.
    pub every: Option<u32>,
    /// Each that is this unsure.
    pub unsure: Option<(f32, f32)>,
    /// Where they go.
    pub destinations: Vec<Destination>,
}

impl Destination {
    /// In the log, in metrics and in file names.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kinesis { .. } => "kinesis",
            Self::S3 { .. } => "s3",
            Self::DynamoDb { .. } => "dynamodb",
            Self::Webhook { .. } => "webhook",
            Self::Greengrass { .. } => "greengrass",
            Self::Directory { .. } => "directory",
        }
    }

    /// For a person, without secrets.
    pub fn shown(&self) -> String {
        match self {
            Self::Kinesis { stream } => format!("the Kinesis stream {stream}"),
            Self::S3 { bucket, .. } => format!("the bucket {bucket}"),
            Self::DynamoDb { table } => format!("the table {table}"),
            Self::Webhook { url, .. } => format!("the webhook at {}", url.host_str().unwrap_or_default()),
            Self::Greengrass { topic } => format!("Greengrass' local topic {topic}"),
            Self::Directory { path, .. } => path.display().to_string(),
        }
    }
}

/// Checks the publishers of a camera; what it does not say, `general` does.
pub(super) fn check(
    written: Option<WrittenPublishers>,
    general: &WrittenPublishers,
    key: &str,
    has_broker: bool,
    state_dir: &std::path::Path,
) -> Result<Publishers> {
    let key = format!("{key}.publishers");
    let own = written.unwrap_or_default();
    let mqtt = own.mqtt.or(general.mqtt);
    if mqtt == Some(true) && !has_broker {
        return wrong(&format!("{key}.mqtt"), "there is no broker: see `mqtt`");
    }
    let mut destinations = Vec::new();
    let named = |name: Option<&String>, part: &str| match name {
        Some(name) if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) => {
            wrong(&format!("{key}.{part}"), format_args!("`{name}` is not a name"))
        }
        name => Ok(name.cloned()),
    };
    if let Some(stream) =
        named(own.kinesis_stream_name.as_ref().or(general.kinesis_stream_name.as_ref()), "kinesis_stream_name")?
    {
        destinations.push(Destination::Kinesis { stream });
    }
    if let Some(bucket) = named(own.s3_bucket.as_ref().or(general.s3_bucket.as_ref()), "s3_bucket")? {
        let prefix = own.s3_prefix.as_ref().or(general.s3_prefix.as_ref());
        let prefix = prefix.map_or("events", |prefix| prefix.trim_matches('/')).to_owned();
        let kms_key = own.s3_kms_key.clone().or_else(|| general.s3_kms_key.clone());
        destinations.push(Destination::S3 { bucket, prefix, kms_key });
    }
    if let Some(table) = named(own.dynamodb_table.as_ref().or(general.dynamodb_table.as_ref()), "dynamodb_table")? {
        destinations.push(Destination::DynamoDb { table });
    }
    if let Some(hook) = own.webhook.as_ref().or(general.webhook.as_ref()) {
        destinations.push(webhook(hook, &format!("{key}.webhook"))?);
    }
    if let Some(topic) = own.greengrass_topic.as_ref().or(general.greengrass_topic.as_ref()) {
        let example = topic.replace("{camera}", "camera");
        limits::topic(&example)
            .and_then(|()| if example.contains(['{', '}']) { Err("known is {camera}".to_owned()) } else { Ok(()) })
            .or_else(|error| wrong(&format!("{key}.greengrass_topic"), format_args!("`{topic}`: {error}")))?;
        destinations.push(Destination::Greengrass { topic: topic.clone() });
    }
    let max_size = own.directory_max_size.or(general.directory_max_size);
    let max_bytes = max_size.map_or(1 << 30, |size| size.0);
    let directory = own.directory.or_else(|| general.directory.clone());
    destinations.extend(directory.map(|path| Destination::Directory { path, max_bytes }));
    let dataset = own.dataset.or_else(|| general.dataset.clone());
    let dataset = dataset.map(|written| dataset_of(written, &key, state_dir)).transpose()?;
    Ok(Publishers { mqtt: mqtt.unwrap_or(has_broker), destinations, dataset })
}

fn webhook(written: &Webhook, key: &str) -> Result<Destination> {
    // The text itself may hold a token: it is not repeated in the message.
    let Ok(url) = Url::parse(&written.url) else { return wrong(&format!("{key}.url"), "is not a URL") };
    let is_local = url.host().is_some_and(|host| match host {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    });
    match url.scheme() {
        "https" => {}
        "http" if is_local => {}
        "http" => return wrong(&format!("{key}.url"), "events may show people: only https leaves this machine"),
        _ => return wrong(&format!("{key}.url"), "must begin with https://"),
    }
    let secret = written.secret_file.as_deref();
    let secret = secret.map(|path| secret_file(&format!("{key}.secret_file"), path)).transpose()?;
    Ok(Destination::Webhook { url, secret, ca_file: written.ca_file.clone() })
}

fn dataset_of(written: WrittenDataset, key: &str, state_dir: &std::path::Path) -> Result<Dataset> {
    let key = format!("{key}.dataset");
    if written.every.is_none() && written.unsure.is_none() {
        return wrong(&key, "which pictures? Give `every`, `unsure` or both");
    }
    if written.every == Some(0) {
        return wrong(&format!("{key}.every"), "must be at least 1");
    }
    if let Some([low, high]) = written.unsure
        && !(0.0 <= low && low < high && high <= 1.0)
    {
        return wrong(&format!("{key}.unsure"), "must be two numbers from 0 to 1, the lower first");
    }
    let path = written.directory.unwrap_or_else(|| state_dir.join("dataset"));
    let max_bytes = written.max_size.map_or(1 << 30, |size| size.0);
    let prefix = written.s3_prefix.map_or_else(|| "dataset".to_owned(), |prefix| prefix.trim_matches('/').to_owned());
    let bucket = written.s3_bucket.map(|bucket| Destination::S3 { bucket, prefix, kms_key: None });
    Ok(Dataset {
        every: written.every,
        unsure: written.unsure.map(|[low, high]| (low, high)),
        destinations: [Destination::Directory { path, max_bytes }].into_iter().chain(bucket).collect(),
    })
}

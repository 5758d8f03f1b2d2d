//! EdgeConfig, as the KVS Edge Agent has it: what a stream's camera is, when it is recorded and uploaded, and what is
//! deleted. Field for field the JSON of `StartEdgeConfigurationUpdate` (Amazon Kinesis Video Streams, API_EdgeConfig), so
//! that it can be pasted here, or come from `edgecam import`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::{Result, seconds, wrong};
use super::schedule::{Dialect, Schedule};
use super::value::{Size, Span};
use super::written;

const HOUR: u64 = 3600;
/// `EdgeRetentionInHours` where it is not given.
const RETENTION_HOURS: u64 = 720;

/// AWS's EdgeConfig. Times of schedules are UTC.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct EdgeConfig {
    /// The IoT thing that the configuration is for: `arn:aws:iot:REGION:ACCOUNT:thing/NAME`.
    pub(crate) hub_device_arn: String,
    /// Where the camera is and when it is recorded.
    pub(crate) recorder_config: RecorderConfig,
    /// When footage is uploaded. Default: as it comes; the KVS Edge Agent uploads every hour.
    pub(crate) uploader_config: Option<UploaderConfig>,
    /// What is deleted. Default: footage of more than 720 hours.
    pub(crate) deletion_config: Option<DeletionConfig>,
}

/// Where the camera is and when it is recorded.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct RecorderConfig {
    /// The camera.
    pub(crate) media_source_config: MediaSourceConfig,
    /// When it is recorded. Default: always.
    pub(crate) schedule_config: Option<ScheduleConfig>,
}

/// The camera.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct MediaSourceConfig {
    /// A secret of AWS Secrets Manager whose JSON has `MediaURI`.
    pub(crate) media_uri_secret_arn: String,
    /// `RTSP_URI`.
    pub(crate) media_uri_type: String,
}

/// When footage is uploaded.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct UploaderConfig {
    /// All that has not been uploaded goes in these spans.
    pub(crate) schedule_config: ScheduleConfig,
}

/// A repeating span.
#[derive(Deserialize, JsonSchema, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ScheduleConfig {
    /// Its start: a Quartz cron expression such as `0 0 9-17 ? * 2-6`, in UTC; Sunday is 1.
    pub(crate) schedule_expression: String,
    /// 60 to 3600.
    pub(crate) duration_in_seconds: u64,
}

/// What is deleted.
#[derive(Deserialize, JsonSchema, Clone, Debug, Default)]
#[serde(deny_unknown_fields, default, rename_all = "PascalCase")]
pub(crate) struct DeletionConfig {
    /// 1 to 720. Default: 720.
    pub(crate) edge_retention_in_hours: Option<u64>,
    /// How much is kept.
    pub(crate) local_size_config: Option<LocalSizeConfig>,
    /// Whether footage is deleted once it is persisted in the stream. Default: false.
    pub(crate) delete_after_upload: Option<bool>,
}

/// How much is kept.
#[derive(Deserialize, JsonSchema, Clone, Debug, Default)]
#[serde(deny_unknown_fields, default, rename_all = "PascalCase")]
pub(crate) struct LocalSizeConfig {
    /// 64 to 2000000. Default: what the disk holds.
    #[serde(rename = "MaxLocalMediaSizeInMB")]
    pub(crate) max_local_media_size_in_mb: Option<u64>,
    /// `DELETE_OLDEST_MEDIA` or `DENY_NEW_MEDIA`. Default: DELETE_OLDEST_MEDIA.
    pub(crate) strategy_on_full_size: Option<String>,
}

/// The rest of a camera as its EdgeConfig says it; and the spans in which it uploads and runs, which have a cron of their
/// own.
pub(super) struct Spans {
    pub(super) recording: Vec<Schedule>,
    pub(super) uploading: Vec<Schedule>,
}

/// Takes an EdgeConfig as the settings that it stands for. What the camera has besides must be about something else.
pub(super) fn apply(edge: EdgeConfig, camera: &mut written::Camera, key: &str) -> Result<Spans> {
    let key = format!("{key}.edge_config");
    thing(&edge.hub_device_arn).or_else(|error| wrong(&format!("{key}.HubDeviceArn"), error))?;
    let MediaSourceConfig { media_uri_secret_arn, media_uri_type } = edge.recorder_config.media_source_config;
    let source = format!("{key}.RecorderConfig.MediaSourceConfig");
    if media_uri_type != "RTSP_URI" {
        let instead = "only RTSP_URI is; give a file with `file: {path: …}` instead of edge_config";
        return wrong(
            &format!("{source}.MediaUriType"),
            format_args!("`{media_uri_type}` is not known here: {instead}"),
        );
    }
    if camera.rtsp.is_some() {
        return wrong(&key, "names the camera's source, and so does `rtsp`: give one");
    }
    camera.rtsp = Some(written::Rtsp { secret: Some(media_uri_secret_arn), ..written::Rtsp::default() });
    deletion(edge.deletion_config.unwrap_or_default(), &mut camera.archive, &format!("{key}.DeletionConfig"))?;
    let recording = edge.recorder_config.schedule_config;
    let recording = recording.map(|one| schedule(one, &format!("{key}.RecorderConfig.ScheduleConfig"))).transpose()?;
    if recording.is_some() && !camera.schedule.is_empty() {
        return wrong(&key, "says when the camera runs, and so does `schedule`: give one");
    }
    let uploading = edge.uploader_config.map(|one| one.schedule_config);
    let uploading = uploading.map(|one| schedule(one, &format!("{key}.UploaderConfig.ScheduleConfig"))).transpose()?;
    let upload = camera.upload.get_or_insert_default();
    if upload.mode.is_some() || !upload.schedule.is_empty() {
        return wrong(&key, "says when to upload, and so does `upload`: leave `mode` and `schedule` out");
    }
    Ok(Spans { recording: recording.into_iter().collect(), uploading: uploading.into_iter().collect() })
}

/// The thing's name in its ARN.
pub(crate) fn thing(arn: &str) -> std::result::Result<&str, String> {
    let name = match arn.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, "iot", _, _, resource] => resource.strip_prefix("thing/"),
        _ => None,
    };
    let named = name.filter(|name| !name.is_empty());
    named.ok_or_else(|| format!("`{arn}` is no ARN of a thing: arn:aws:iot:REGION:ACCOUNT:thing/NAME"))
}

fn deletion(written: DeletionConfig, archive: &mut written::Archive, key: &str) -> Result<()> {
    let hours = written.edge_retention_in_hours.unwrap_or(RETENTION_HOURS);
    if !(1..=RETENTION_HOURS).contains(&hours) {
        return wrong(&format!("{key}.EdgeRetentionInHours"), format_args!("{hours} is not 1 to {RETENTION_HOURS}"));
    }
    if archive.max_age.is_some()
        || archive.max_size.is_some()
        || archive.on_full.is_some()
        || archive.delete_after_upload
    {
        let what = "says what is deleted: leave max_age, max_size, on_full and delete_after_upload of `archive` out";
        return wrong(key, what);
    }
    archive.max_age = Some(Span(seconds(hours * HOUR)));
    let LocalSizeConfig { max_local_media_size_in_mb, strategy_on_full_size } =
        written.local_size_config.unwrap_or_default();
    if let Some(megabytes) = max_local_media_size_in_mb {
        if !(64..=2_000_000).contains(&megabytes) {
            let what = format_args!("{megabytes} is not 64 to 2000000");
            return wrong(&format!("{key}.LocalSizeConfig.MaxLocalMediaSizeInMB"), what);
        }
        archive.max_size = Some(Size(megabytes * 1_000_000));
    }
    archive.on_full = match strategy_on_full_size.as_deref() {
        None | Some("DELETE_OLDEST_MEDIA") => None,
        Some("DENY_NEW_MEDIA") => Some("deny_new_media".to_owned()),
        Some(other) => {
            let what = format_args!("`{other}` is not DELETE_OLDEST_MEDIA or DENY_NEW_MEDIA");
            return wrong(&format!("{key}.LocalSizeConfig.StrategyOnFullSize"), what);
        }
    };
    archive.delete_after_upload = written.delete_after_upload.unwrap_or(false);
    Ok(())
}

fn schedule(written: ScheduleConfig, key: &str) -> Result<Schedule> {
    let ScheduleConfig { schedule_expression: cron, duration_in_seconds: duration } = written;
    if !(60..=HOUR).contains(&duration) {
        return wrong(&format!("{key}.DurationInSeconds"), format_args!("{duration} is not 60 to 3600"));
    }
    let said = format!("`{cron}`");
    let schedule = Schedule::new(cron, Dialect::Quartz, seconds(duration));
    let forms = "six fields with seconds in front, such as `0 0 9-17 ? * 2-6`";
    schedule
        .or_else(|error| wrong(&format!("{key}.ScheduleExpression"), format_args!("{said}: {error} (Quartz: {forms})")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use edgecam_media::Timestamp;
    use serde_json::{Value, json};

    use crate::config::source::{Rtsp, Source};
    use crate::config::{Camera, UploadMode, parse};
    use crate::footage::archive::retention::StrategyOnFull;

    /// The example of AWS's documentation (API_StartEdgeConfigurationUpdate), with every field.
    fn example() -> Value {
        json!({
            "HubDeviceArn": "arn:aws:iot:eu-west-1:123456789012:thing/gate",
            "RecorderConfig": {
                "MediaSourceConfig": {
                    "MediaUriSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:door-AbCdEf",
                    "MediaUriType": "RTSP_URI"
                },
                "ScheduleConfig": { "ScheduleExpression": "0 0 9-17 ? * 2-6", "DurationInSeconds": 3600 }
            },
            "UploaderConfig": { "ScheduleConfig": { "ScheduleExpression": "0 0 2 * * ?", "DurationInSeconds": 1800 } },
            "DeletionConfig": {
                "EdgeRetentionInHours": 48,
                "LocalSizeConfig": { "MaxLocalMediaSizeInMB": 2000, "StrategyOnFullSize": "DENY_NEW_MEDIA" },
                "DeleteAfterUpload": true
            }
        })
    }

    fn camera(edge: &Value, more: &Value) -> Result<Camera, String> {
        let mut camera = json!({ "name": "door", "edge_config": edge });
        for (key, value) in more.as_object().expect("an object") {
            camera[key] = value.clone();
        }
        let config = parse(&json!({ "cameras": [camera] }).to_string()).map_err(|error| error.to_string())?;
        config.cameras.into_iter().next().ok_or_else(|| "no camera".to_owned())
    }

    #[test]
    fn every_field_counts() {
        let camera = camera(&example(), &json!({ "upload": { "stream": "door" } })).expect("valid");
        let Source::Rtsp(Rtsp { secret: Some(secret), .. }) = &camera.source else { panic!("{:?}", camera.source) };
        assert!(secret.id.ends_with(":secret:door-AbCdEf"));
        let at = |text: &str| {
            let time: jiff::Timestamp = text.parse().expect("a time");
            Timestamp::from_unix_millis(time.as_millisecond())
        };
        // A Saturday: it records from Monday on.
        let recording = camera.schedule[0].period(at("2026-11-21T12:00:00Z")).expect("a period");
        assert_eq!((recording.start, recording.end), (at("2026-11-23T09:00:00Z"), at("2026-11-23T10:00:00Z")));
        let upload = camera.upload.expect("an upload");
        let UploadMode::Window(windows) = &upload.mode else { panic!("{:?}", upload.mode) };
        let window = windows[0].period(at("2026-11-21T12:00:00Z")).expect("a period");
        assert_eq!((window.start, window.end), (at("2026-11-22T02:00:00Z"), at("2026-11-22T02:30:00Z")));
        let retention = camera.archive.expect("an archive").retention;
        assert_eq!(retention.max_age, Some(Duration::from_secs(48 * 3600)));
        assert_eq!((retention.max_bytes, retention.delete_after_upload), (Some(2_000_000_000), true));
        assert_eq!(retention.on_full, StrategyOnFull::DenyNewMedia);
    }

    #[test]
    fn what_is_left_out_has_the_defaults_of_the_edge_agent() {
        let mut edge = example();
        for key in ["UploaderConfig", "DeletionConfig"] {
            edge.as_object_mut().expect("an object").remove(key);
        }
        edge["RecorderConfig"].as_object_mut().expect("an object").remove("ScheduleConfig");
        let camera = camera(&edge, &json!({})).expect("valid");
        assert!(camera.schedule.is_empty());
        assert_eq!(camera.upload.expect("an upload").mode, UploadMode::Continuous);
        assert_eq!(camera.archive.expect("an archive").retention.max_age, Some(Duration::from_secs(720 * 3600)));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let wrong = |path: &[&str], value: Value, word: &str| {
            let mut edge = example();
            let mut at = &mut edge;
            for key in path {
                at = &mut at[*key];
            }
            *at = value;
            let error = camera(&edge, &json!({})).expect_err(word);
            assert!(error.contains(path.last().expect("a key")) && error.contains(word), "{path:?}: {error}");
        };
        wrong(&["HubDeviceArn"], json!("arn:aws:iot:eu-west-1:1:policy/gate"), "no ARN of a thing");
        wrong(&["RecorderConfig", "MediaSourceConfig", "MediaUriType"], json!("FILE_URI"), "file:");
        wrong(&["RecorderConfig", "ScheduleConfig", "ScheduleExpression"], json!("0 8 * * *"), "Quartz");
        wrong(&["UploaderConfig", "ScheduleConfig", "DurationInSeconds"], json!(30), "60 to 3600");
        wrong(&["DeletionConfig", "EdgeRetentionInHours"], json!(0), "1 to 720");
        wrong(&["DeletionConfig", "LocalSizeConfig", "MaxLocalMediaSizeInMB"], json!(63), "64 to 2000000");
        wrong(&["DeletionConfig", "LocalSizeConfig", "StrategyOnFullSize"], json!("DROP"), "DENY_NEW_MEDIA");
        for (more, word) in [
            (json!({ "rtsp": { "url": "rtsp://h/" } }), "`rtsp`"),
            (json!({ "archive": { "max_age": "1day" } }), "max_age"),
            (json!({ "upload": { "mode": "on_demand" } }), "`upload`"),
            (json!({ "schedule": [{ "cron": "0 8 * * *", "duration": "1h" }] }), "`schedule`"),
        ] {
            let error = camera(&example(), &more).expect_err(word);
            assert!(error.contains(word), "{error}");
        }
    }
}

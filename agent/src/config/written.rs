//! The config file as a person writes it. The doc comments are the reference: `edgecam schema` prints them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::edge_config::EdgeConfig;
use super::value::{Size, Span};
use super::{detectors, honeycomb, iot, mqtt, nvr, nvrs, publishers};
use crate::control::command::Name;

/// The agent's config file (YAML; JSON is YAML too).
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Name of this device, for `{thing}` in stream names. Default: AWS_IOT_THING_NAME, else the host name.
    pub(crate) thing: Option<String>,
    /// Directory for footage and state. Default: what systemd gives (STATE_DIRECTORY), else `edgecam-data`.
    pub(crate) state_dir: Option<PathBuf>,
    /// Where and how to reach AWS.
    pub(crate) aws: Aws,
    /// The local status page, API and metrics.
    pub(crate) http: Http,
    /// The MQTT broker that sends commands and gets reports. Default: none.
    pub(crate) mqtt: Option<mqtt::Written>,
    /// Live view for a platform of hive cameras. Default: none.
    pub(crate) honeycomb: Option<honeycomb::Written>,
    /// What commands may do, by where they come from.
    pub(crate) commands: Commands,
    /// The log.
    pub(crate) log: Log,
    /// The cameras, each with a name of its own.
    pub(crate) cameras: Vec<Camera>,
    /// Recorders whose channels become cameras, each with a name of its own.
    pub(crate) nvrs: Vec<nvrs::WrittenNvr>,
    /// What looking at pictures may cost.
    pub(crate) inference: Inference,
    /// Where events of all cameras go that do not say it themselves.
    pub(crate) publishers: publishers::WrittenPublishers,
}

/// What looking at pictures may cost.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Inference {
    /// Threads that decode and look. Default: one for each core but one.
    pub(crate) threads: Option<usize>,
    /// Most of their time that they may use, in percent, 1 to 100. Default: 100.
    pub(crate) cpu_percent: Option<u8>,
}

/// Where and how to reach AWS. Credentials come from AWS IoT's credentials provider, if it is configured, or else from
/// the standard chain (environment, profile, web identity, ECS and Greengrass container credentials), never from this
/// file.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Aws {
    /// Region of the streams. Default: AWS_REGION, else the profile's.
    pub(crate) region: Option<String>,
    /// Create streams that do not exist. Default: false.
    pub(crate) create_streams: bool,
    /// Retention of streams that are created. Default: 24h. 0s keeps nothing: only for live view.
    pub(crate) create_retention: Option<Span>,
    /// Ask the EC2 instance metadata service for credentials too. Default: false: off EC2 it only costs time.
    pub(crate) use_instance_metadata: bool,
    /// AWS IoT's credentials provider. Default: none.
    pub(crate) iot: Option<iot::Written>,
}

/// The local status page, API and metrics.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// Whether to listen at all. Default: true.
    pub(crate) enabled: Option<bool>,
    /// Address and port. Default: 127.0.0.1:8080. Anything but a loopback address needs `token_file`.
    pub(crate) listen: Option<String>,
    /// File that holds a token; requests must then send `Authorization: Bearer <token>`.
    pub(crate) token_file: Option<PathBuf>,
    /// Give metrics of inference under kvs-infer's names (`kvs_infer_…`) too. Default: false.
    pub(crate) kvs_infer_metrics: bool,
}

/// What commands may do, by where they come from. Each is a list of live, stop, upload, record, snapshot, clip, encoder,
/// keyframe, camera, config, restart and status; an empty list allows nothing. Default: all but config.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Commands {
    /// Over MQTT.
    pub(crate) mqtt: Option<Vec<Name>>,
    /// Over HTTP.
    pub(crate) http: Option<Vec<Name>>,
    /// By AWS IoT jobs and device shadows.
    pub(crate) iot: Option<Vec<Name>>,
}

/// The log.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// error, warn, info, debug or trace. Default: info.
    pub(crate) level: Option<String>,
}

/// One camera. Exactly one of the source kinds must be given.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Camera {
    /// Its name: letters, digits, `_`, `-` and `.`; unique on this device.
    pub(crate) name: String,
    /// Whether it is used. Default: true.
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    /// When it runs; outside of these spans it is not connected, and nothing of it is recorded. Default: always.
    #[serde(default)]
    pub(crate) schedule: Vec<Schedule>,
    /// Source, times and retention as the KVS Edge Agent has them: AWS's EdgeConfig, field for field.
    pub(crate) edge_config: Option<EdgeConfig>,
    /// Source: an RTSP server, such as an IP camera or an NVR.
    pub(crate) rtsp: Option<Rtsp>,
    /// Source: a camera of a NUUO recorder.
    pub(crate) nuuo: Option<nvr::WrittenNuuo>,
    /// Source: an ONVIF device.
    pub(crate) onvif: Option<nvr::WrittenOnvif>,
    /// Source: raw H.264 or H.265 from a FIFO, a file or standard input.
    pub(crate) elementary_stream: Option<ElementaryStream>,
    /// Source: an MP4, Matroska or raw H.264 or H.265 file, played in real time.
    pub(crate) file: Option<FileSource>,
    /// Source: a stream by HLS, live or recorded.
    pub(crate) hls: Option<Hls>,
    /// Source: a stream of Kinesis Video Streams, as it comes in there.
    pub(crate) kvs: Option<Kvs>,
    /// Source: an encoder that pushes to this machine by RTMP.
    pub(crate) rtmp: Option<Rtmp>,
    /// Source: a drawn scene, encoded on the device.
    pub(crate) test_pattern: Option<TestPattern>,
    /// Source: a camera at this machine (USB, CSI, HDMI), by Video4Linux 2. `edgecam devices` lists them.
    pub(crate) v4l2: Option<V4l2>,
    /// Source: a DeepLens camera, whose encoder is set with `mxuvc`.
    pub(crate) mxuvc: Option<Mxuvc>,
    /// Record the camera's sound too: AAC and G.711 from RTSP go into the archive, AAC to KVS as well. Default: false.
    /// Recording what people say is forbidden or needs consent in many places where recording pictures is not: ask first.
    #[serde(default)]
    pub(crate) audio: bool,
    /// Newest footage kept in RAM. Default: 512 KiB with an archive, 16 MiB without.
    pub(crate) ring: Option<Size>,
    /// Most RAM used while the disk does not keep up. Default: 8 MiB more than `ring`.
    pub(crate) ring_most: Option<Size>,
    /// Footage on disk.
    #[serde(default)]
    pub(crate) archive: Archive,
    /// Upload to Kinesis Video Streams. Default: none.
    pub(crate) upload: Option<Upload>,
    /// What looks at its pictures. Default: nothing.
    #[serde(default)]
    pub(crate) detectors: Vec<detectors::WrittenDetector>,
    /// Pictures a second that detectors look at which do not say it themselves. Default: 1.
    pub(crate) fps_limit: Option<f64>,
    /// Where its events go, as far as that is different from the agent's `publishers`.
    pub(crate) publishers: Option<publishers::WrittenPublishers>,
    /// Source of a second, smaller stream of the same camera: detectors look at it, and live view shows it.
    pub(crate) sub_stream: Option<Rtsp>,
}

fn yes() -> bool {
    true
}

/// An RTSP source.
#[derive(Deserialize, JsonSchema, Debug, Clone, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rtsp {
    /// `rtsp://` or `rtsps://`. User and password may be in it, percent-encoded; better in the keys below.
    #[serde(default)]
    pub(crate) url: String,
    /// Instead of `url` and the keys for user and password: a secret of AWS Secrets Manager, by name or ARN, with `{thing}`
    /// and `{camera}` filled in. It holds JSON with the URL as `MediaURI`, as for the KVS Edge Agent, or as `RTSPStreamURL`.
    /// It is read from Greengrass' secret manager where there is one, else from AWS (`secretsmanager:GetSecretValue`): at the
    /// start, each hour, and when the camera cannot be had by what it held. It is kept in RAM alone.
    pub(crate) secret: Option<String>,
    /// User name.
    pub(crate) username: Option<String>,
    /// File that holds the password.
    pub(crate) password_file: Option<PathBuf>,
    /// Environment variable that holds the password.
    pub(crate) password_env: Option<String>,
    /// `tcp` or `udp`; the other one is tried when the camera refuses. Default: tcp.
    pub(crate) transport: Option<String>,
    /// CA certificates (PEM) to trust for rtsps. Default: the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Accept any certificate. Default: false.
    #[serde(default)]
    pub(crate) insecure: bool,
    /// Deadline for each step of connecting. Default: 10s.
    pub(crate) setup_timeout: Option<Span>,
    /// A camera without a picture for this long is frozen, and connected anew. Default: 10s.
    pub(crate) frame_timeout: Option<Span>,
}

/// Raw H.264 or H.265 (Annex B).
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct ElementaryStream {
    /// A FIFO, a file, or `-` for standard input.
    pub(crate) path: String,
    /// Frames a second, if the stream does not say.
    pub(crate) frame_rate: Option<f64>,
    /// Start again at the end of a file. Default: false.
    #[serde(default, rename = "loop")]
    pub(crate) repeat: bool,
    /// A writer without a picture for this long is reported as stalled. Default: 10s.
    pub(crate) frame_timeout: Option<Span>,
}

/// A file played in real time.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSource {
    /// MP4, Matroska, or H.264 or H.265 in Annex B form.
    pub(crate) path: PathBuf,
    /// Start again at the end. Default: true.
    #[serde(default = "yes", rename = "loop")]
    pub(crate) repeat: bool,
    /// Frames a second, for raw video that does not say.
    pub(crate) frame_rate: Option<f64>,
}

/// A stream by HLS: `.m3u8` with segments in MPEG transport streams or fragmented MP4. Of several qualities the best is
/// taken.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hls {
    /// `http://` or `https://`. User and password may be in it, percent-encoded; better in the keys below.
    pub(crate) url: String,
    /// User name.
    pub(crate) username: Option<String>,
    /// File that holds the password.
    pub(crate) password_file: Option<PathBuf>,
    /// Environment variable that holds the password.
    pub(crate) password_env: Option<String>,
    /// CA certificates (PEM) to trust for https. Default: the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Accept any certificate. Default: false.
    #[serde(default)]
    pub(crate) insecure: bool,
    /// A live stream without a new segment for this long is stalled; three segments at least. Default: 20s.
    pub(crate) stall_timeout: Option<Span>,
}

/// A stream of Kinesis Video Streams, played back live by HLS: so that a gateway can record, watch or hand on what another
/// device uploads. The stream must keep footage. The role needs `kinesisvideo:GetDataEndpoint` and
/// `kinesisvideo:GetHLSStreamingSessionURL`. What is sent is at least one fragment late.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kvs {
    /// `kvs://STREAM`, the stream's name.
    pub(crate) url: String,
    /// Its region. Default: `aws.region`.
    pub(crate) region: Option<String>,
    /// For how long a playback session is asked for, 5m to 12h; a new one takes over before it ends. Default: 1h.
    pub(crate) session: Option<Span>,
    /// A stream without a new fragment for this long is stalled; three fragments at least. Default: 20s.
    pub(crate) stall_timeout: Option<Span>,
}

/// An encoder that pushes H.264 (or H.265 by Enhanced RTMP) to this machine. RTMP is not encrypted: who can listen in on the
/// network learns the key.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rtmp {
    /// `rtmp://ADDRESS:PORT/APP/KEY` or, with `key_file` or `key_env`, `rtmp://ADDRESS:PORT/APP`: an address of this machine
    /// (0.0.0.0 for all of them), the port (default 1935), the application, and the key. Several cameras may share address
    /// and port, each with a key of its own. The encoder is given the same URL with this machine's name.
    pub(crate) url: String,
    /// File that holds the key.
    pub(crate) key_file: Option<PathBuf>,
    /// Environment variable that holds the key.
    pub(crate) key_env: Option<String>,
    /// An encoder without a picture for this long is cut off. Default: 10s.
    pub(crate) frame_timeout: Option<Span>,
}

/// A drawn scene.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TestPattern {
    /// Pixels, even. Default: 640.
    pub(crate) width: Option<u32>,
    /// Pixels, even. Default: 360.
    pub(crate) height: Option<u32>,
    /// Frames a second, 1 to 60. Default: 15.
    pub(crate) frame_rate: Option<f64>,
    /// Frames from one IDR to the next. Default: one a second.
    pub(crate) gop: Option<u32>,
    /// Bits a second. Default: 500000.
    pub(crate) bitrate: Option<u32>,
}

/// A camera at this machine.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct V4l2 {
    /// `auto` (the first camera), a path such as `/dev/v4l/by-id/usb-…-video-index0`, a number (`0` for /dev/video0), or a
    /// part of the camera's name. With more than one camera say which: numbers change. Default: auto.
    pub(crate) device: Option<String>,
    /// `auto`, `h264`, `mjpeg`, `yuyv`, `nv12` or `yu12`. Default: auto, which takes what costs least among what gives the
    /// size and the rate: H.264 of the camera, then raw pictures, then MJPEG.
    pub(crate) format: Option<String>,
    /// Pixels, even. The camera's nearest size is taken. Default: 1280.
    pub(crate) width: Option<u32>,
    /// Pixels, even. Default: 720.
    pub(crate) height: Option<u32>,
    /// Frames a second, 1 to 60. Default: 15.
    pub(crate) frame_rate: Option<f64>,
    /// Frames from one IDR to the next. Default: one a second.
    pub(crate) gop: Option<u32>,
    /// Bits a second. Default: 1500000.
    pub(crate) bitrate: Option<u32>,
    /// Controls of the camera, such as `brightness: 120`; `edgecam devices` lists them.
    pub(crate) controls: BTreeMap<String, i64>,
    /// A camera without a picture for this long is frozen, and opened anew. Default: 10s.
    pub(crate) frame_timeout: Option<Span>,
}

/// A DeepLens camera.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mxuvc {
    /// The encoder's channel. Default: 1.
    pub(crate) channel: Option<u8>,
    /// Pixels, even. Default: 1280.
    pub(crate) width: Option<u32>,
    /// Pixels, even. Default: 720.
    pub(crate) height: Option<u32>,
    /// Frames a second, 1 to 30, whole. Default: 15.
    pub(crate) frame_rate: Option<f64>,
    /// Frames from one IDR to the next. Default: one a second.
    pub(crate) gop: Option<u32>,
    /// Bits a second, 100000 to 20000000. Default: 2000000.
    pub(crate) bitrate: Option<u32>,
    /// Most bytes of one picture. Default: no limit is set.
    pub(crate) frame_size: Option<u32>,
    /// The vendor's tool. Default: /opt/awscam/camera/installed/bin/mxuvc.
    pub(crate) tool: Option<PathBuf>,
    /// What the tool is run with, such as `[sudo, -n]`. No shell is involved. Default: nothing.
    pub(crate) command_prefix: Vec<String>,
    /// The FIFO of the stream. Default: /opt/awscam/out/ch1_out.h264 (with the channel's number).
    pub(crate) stream: Option<PathBuf>,
    /// Set the encoder back to 1920x1080, 24 fps, GOP 24, 2000000 bit/s, as a DeepLens comes, when the camera is stopped.
    /// Default: false.
    pub(crate) restore_at_exit: bool,
    /// A writer without a picture for this long is reported as stalled. Default: 10s.
    pub(crate) frame_timeout: Option<Span>,
}

/// Footage on disk: fragmented MP4 that any player plays.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Archive {
    /// Whether there is one. Default: true.
    pub(crate) enabled: Option<bool>,
    /// Where. Default: `<state_dir>/<camera>`.
    pub(crate) directory: Option<PathBuf>,
    /// Footage that a power cut may cost: how long pictures may wait to be written and synced. Smaller means more
    /// writes and flushes. 100ms to 1m. Default: 2s.
    pub(crate) at_risk: Option<Span>,
    /// Time in one segment file. 1s to 1h. Default: 1m.
    pub(crate) segment: Option<Span>,
    /// Bytes in one segment file. Default: 256 MiB.
    pub(crate) segment_size: Option<Size>,
    /// Footage older than this is deleted, uploaded or not. Default: none.
    pub(crate) max_age: Option<Span>,
    /// Most bytes for this camera. Default: none.
    pub(crate) max_size: Option<Size>,
    /// Bytes left free on the file system. Default: 1 GiB.
    pub(crate) min_free: Option<Size>,
    /// `delete_oldest_media` or `deny_new_media`. What has not been uploaded goes last. Default: delete_oldest_media.
    pub(crate) on_full: Option<String>,
    /// Delete footage once it is persisted in the stream. Default: false.
    pub(crate) delete_after_upload: bool,
}

/// Upload to Kinesis Video Streams.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Upload {
    /// Stream name; `{thing}`, `{serial}`, `{camera}` and `{user}` are filled in. Default: `{thing}-{camera}`.
    pub(crate) stream: Option<String>,
    /// `continuous`, `on_demand` (by a lease or a time range), `schedule` (the footage of set spans), `window` (all that has
    /// not been uploaded, but only in set spans) or `off`. Default: continuous; with a schedule, schedule.
    pub(crate) mode: Option<String>,
    /// The spans of the modes `schedule` and `window`.
    pub(crate) schedule: Vec<Schedule>,
    /// What goes first after an outage, in the mode `continuous`: `in_order` (the oldest) or `live_first` (live footage
    /// at once, what was missed after it). KVS takes one connection a stream, so history and live take turns: while
    /// history is caught up on, live is up to 15 s late. Default: in_order.
    pub(crate) order: Option<String>,
    /// With `live_first`: live footage that lags by more than this is put off. Default: 30s.
    pub(crate) max_lag: Option<Span>,
}

/// A repeating span of time, in UTC.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    /// Cron expression for its start, with or without seconds, such as `0 8 * * MON-FRI`.
    pub(crate) cron: String,
    /// How long it lasts: 1m to 24h.
    pub(crate) duration: Span,
}

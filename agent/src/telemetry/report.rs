//! The status of the agent as data: what the API, the status page, metrics and the command line show.

use edgecam_kvs::Stats;
use edgecam_media::Timestamp;
use serde::Serialize;

use super::looks::{LooksReport, PublisherReport};
use crate::capture::Particulars;
use crate::capture::nvr::NvrCell;
use crate::config;
use crate::config::secret::redact_url;
use crate::config::source::Source;
use crate::control::dispatch::Counts;
use crate::control::mqtt::{MqttState, MqttStatus};
use crate::encode::Control;
use crate::footage::{LogStatus, RecorderState};
use crate::topology::{Agent, CameraHandle};
use crate::upload::UploadState;

/// The whole agent.
#[derive(Serialize, Clone, Debug)]
pub struct AgentReport {
    /// `healthy` when every camera streams and nothing fails, else `degraded`.
    pub status: &'static str,
    /// Now.
    pub timestamp: String,
    /// Version of the agent.
    pub version: &'static str,
    /// Name of the device.
    pub thing: String,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Stages that panicked and were restarted.
    pub panics: u64,
    /// Seconds by which the clock is ahead of the service's, once that is known.
    pub clock_skew_seconds: Option<i64>,
    /// Cameras that stream.
    pub active_streams: usize,
    /// All cameras.
    pub streams: Vec<StreamReport>,
    /// Recorders that list their channels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nvrs: Vec<NvrReport>,
    /// Where events go, besides the broker.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publishers: Vec<PublisherReport>,
    /// The MQTT connection, where there is one to tell of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<MqttReport>,
    /// The Greengrass component, where the agent is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub greengrass: Option<serde_json::Value>,
    /// Commands since the start, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands: Option<Counts>,
}

/// The MQTT connection.
#[derive(Serialize, Clone, Debug)]
pub struct MqttReport {
    /// `connected`, or what is in the way.
    pub state: &'static str,
    /// Since when.
    pub since: String,
    /// What went wrong last.
    pub error: Option<String>,
    /// When this device's certificate ends.
    pub certificate_expires: Option<String>,
    /// Connections that the broker accepted.
    pub connections: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Messages the broker has acknowledged.
    pub published: u64,
    /// Messages that break a limit and were not sent.
    pub refused: u64,
    /// Messages that have arrived.
    pub received: u64,
    /// Messages that have arrived and found no room.
    pub received_and_dropped: u64,
    /// Messages that wait for the broker.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Messages that were dropped because too many waited.
    pub dropped: u64,
}

/// What the connection tells about itself.
pub fn mqtt(status: MqttStatus) -> MqttReport {
    let error = match &status.state {
        MqttState::Waiting { message, .. } => Some(message.clone()),
        _ => status.outbox.error.or(status.last_error),
    };
    MqttReport {
        state: status.state.name(),
        since: status.since.to_string(),
        error,
        certificate_expires: status.certificate_expires.map(|time| time.to_string()),
        connections: status.connections,
        failures: status.failures,
        published: status.published,
        refused: status.refused,
        received: status.received,
        received_and_dropped: status.received_and_dropped,
        waiting: status.outbox.entries,
        waiting_bytes: status.outbox.bytes,
        dropped: status.outbox.dropped,
    }
}

/// A recorder.
#[derive(Serialize, Clone, Debug)]
pub struct NvrReport {
    /// Its name.
    pub name: String,
    /// `listed`, `failing`, or `connecting` when it has not answered yet.
    pub state: &'static str,
    /// Why it did not list its channels.
    pub error: Option<String>,
    /// When it listed them last, in this run.
    pub listed: Option<String>,
    /// Channels it has.
    pub channels: usize,
    /// Cameras they have become.
    pub cameras: usize,
    /// Times it was asked.
    pub attempts: u64,
}

fn nvrs(agent: &Agent) -> Vec<NvrReport> {
    let config = agent.config();
    let report = |(name, cell): (String, NvrCell)| {
        let status = cell.status();
        let of = |camera: &&config::Camera| camera.nvr.as_ref() == Some(&name);
        NvrReport {
            state: match (&status.error, status.listed) {
                (Some(_), _) => "failing",
                (None, Some(_)) => "listed",
                (None, None) => "connecting",
            },
            error: status.error,
            listed: status.listed.map(|time| time.to_string()),
            channels: config.nvrs.iter().find(|nvr| nvr.name == name).map_or(0, |nvr| nvr.listing.count()),
            cameras: config.cameras.iter().filter(of).count(),
            attempts: status.attempts,
            name,
        }
    };
    agent.nvrs().into_iter().map(report).collect()
}

/// One camera.
#[derive(Serialize, Clone, Debug)]
pub struct StreamReport {
    /// Its name.
    pub camera_id: String,
    /// What its source is doing.
    pub state: &'static str,
    /// For how long.
    pub state_seconds: u64,
    /// Why it does not stream.
    pub error: Option<String>,
    /// The source, without secrets.
    pub source: String,
    /// The device behind it, and what it gives, where there is something to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceReport>,
    /// Attempts to open the source.
    pub attempts: u64,
    /// What is coming in.
    pub video: Option<VideoReport>,
    /// The sound beside it, where it is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioReport>,
    /// Pictures since the start.
    pub frames: u64,
    /// Bytes since the start.
    pub bytes: u64,
    /// GOPs since the start.
    pub gops: u64,
    /// What did not make it into the log.
    pub lost: LostReport,
    /// Bytes in RAM.
    pub ring_bytes: u64,
    /// The newest picture.
    pub latest: Option<String>,
    /// Footage on disk.
    pub archive: Option<ArchiveReport>,
    /// Upload.
    pub upload: Option<UploadReport>,
    /// What has been asked of its encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<serde_json::Value>,
    /// What looks at its pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference: Option<LooksReport>,
}

/// A device, what was asked of it and what it gives.
#[derive(Serialize, Clone, Debug)]
pub struct DeviceReport {
    /// Its name.
    pub name: Option<String>,
    /// What was asked.
    pub asked: Option<String>,
    /// What its driver gave.
    pub given: Option<String>,
    /// What could not be set, or is different from what was asked.
    pub notes: Vec<String>,
}

/// What an SPS says.
#[derive(Serialize, Clone, Debug)]
pub struct VideoReport {
    /// Codec string of RFC 6381.
    pub codec: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames a second, if the stream says.
    pub frame_rate: Option<f64>,
}

/// The sound of a camera.
#[derive(Serialize, Clone, Debug)]
pub struct AudioReport {
    /// How it is coded.
    pub codec: &'static str,
    /// Samples a second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u16,
    /// Frames since the start.
    pub frames: u64,
    /// Frames that were dropped: no picture came to go with them.
    pub dropped: u64,
    /// Whether it is uploaded.
    pub is_uploaded: bool,
    /// Why it is not, though the pictures are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

fn audio(camera: &CameraHandle, log: &LogStatus) -> Option<AudioReport> {
    let format = log.parameter_sets.as_ref()?.audio()?;
    let (is_taken, has_upload) = (format.kvs_codec_id().is_some(), camera.config.upload.is_some());
    let note = "KVS takes AAC only: this sound is in the archive alone; set the camera's audio to AAC";
    Some(AudioReport {
        codec: format.codec().name(),
        sample_rate: format.sample_rate(),
        channels: format.channels(),
        frames: log.audio_units,
        dropped: camera.capture.get().lost.audio,
        is_uploaded: is_taken && has_upload,
        note: (has_upload && !is_taken).then_some(note),
    })
}

/// What did not make it into the log.
#[derive(Serialize, Clone, Copy, Debug, Default)]
pub struct LostReport {
    /// RTP packets.
    pub packets: u64,
    /// Frames dropped because they were late or stale.
    pub late: u64,
    /// Audio packets, where audio is not taken.
    pub audio: u64,
    /// NAL units that break the syntax.
    pub malformed: u64,
    /// Pictures left out while waiting for an IDR.
    pub skipped_to_idr: u64,
    /// Bytes that belong to no NAL unit.
    pub garbage_bytes: u64,
    /// Pictures that left RAM before the archive had them.
    pub not_archived: u64,
}

/// Footage on disk.
#[derive(Serialize, Clone, Debug)]
pub struct ArchiveReport {
    /// `SUCCESS`, `USER_ERROR` or `SYSTEM_ERROR`, as the KVS Edge Agent reports a recorder.
    pub recorder_status: &'static str,
    /// Why.
    pub details: Option<String>,
    /// Bytes of all segments.
    pub bytes: u64,
    /// How many there are.
    pub segments: usize,
    /// The oldest picture.
    pub earliest: Option<String>,
    /// Whether new footage is taken.
    pub is_recording: bool,
    /// Of what the archive may take.
    pub space_used_percent: Option<f64>,
}

/// Upload.
#[derive(Serialize, Clone, Debug)]
pub struct UploadReport {
    /// The stream.
    pub stream: String,
    /// What it is doing.
    pub state: &'static str,
    /// `SUCCESS`, `USER_ERROR` or `SYSTEM_ERROR`, as the KVS Edge Agent reports an uploader.
    pub uploader_status: &'static str,
    /// Why.
    pub details: Option<String>,
    /// The newest picture that KVS has stored.
    pub persisted_until: Option<String>,
    /// Seconds from that to the newest picture.
    pub lag_seconds: Option<f64>,
    /// Stretches of older footage that were put off, live footage going first.
    pub history_gaps: usize,
    /// Counters.
    #[serde(flatten)]
    pub stats: Stats,
}

/// The report of a running agent.
pub fn agent(agent: &Agent, now: Timestamp) -> AgentReport {
    let mut streams: Vec<StreamReport> = agent.cameras().iter().map(stream).collect();
    streams.extend(agent.config().cameras.iter().filter(|camera| !camera.switches.enabled).map(disabled));
    let is_well = |stream: &StreamReport| {
        let archive = stream.archive.as_ref().is_none_or(|archive| archive.recorder_status == "SUCCESS");
        let upload = stream.upload.as_ref().is_none_or(|upload| upload.uploader_status == "SUCCESS");
        let fails = |looks: &LooksReport| looks.error.is_some() || looks.detectors.iter().any(|d| d.state == "failing");
        let looks = !stream.inference.as_ref().is_some_and(fails);
        matches!(stream.state, "streaming" | "ended" | "disabled") && archive && upload && looks
    };
    let nvrs = nvrs(agent);
    let are_listed = nvrs.iter().all(|nvr| nvr.error.is_none());
    let publishers: Vec<PublisherReport> = agent.publishers().iter().map(super::looks::publisher).collect();
    let do_arrive = publishers.iter().all(|publisher| publisher.error.is_none());
    AgentReport {
        status: if are_listed && do_arrive && streams.iter().all(is_well) { "healthy" } else { "degraded" },
        timestamp: now.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        thing: agent.config().thing.clone(),
        uptime_seconds: agent.started.elapsed().as_secs(),
        panics: agent.panics(),
        clock_skew_seconds: agent.clock_skew(),
        active_streams: streams.iter().filter(|stream| stream.state == "streaming").count(),
        streams,
        nvrs,
        publishers,
        mqtt: None,
        greengrass: None,
        commands: None,
    }
}

/// The report of a camera that is not used.
pub fn disabled(camera: &config::Camera) -> StreamReport {
    StreamReport {
        camera_id: camera.name.clone(),
        state: "disabled",
        state_seconds: 0,
        error: None,
        source: source(&camera.source),
        device: None,
        attempts: 0,
        video: None,
        audio: None,
        frames: 0,
        bytes: 0,
        gops: 0,
        lost: LostReport::default(),
        ring_bytes: 0,
        latest: None,
        archive: None,
        upload: None,
        encoder: None,
        inference: None,
    }
}

/// The report of one camera.
pub fn stream(camera: &CameraHandle) -> StreamReport {
    let log = camera.footage.status();
    let capture = camera.capture.get();
    let video = log.parameter_sets.as_ref().map(|sets| {
        let facts = sets.facts();
        let rate = |(frames, seconds): (u32, u32)| f64::from(frames) / f64::from(seconds);
        let frame_rate = facts.frame_rate.map(rate);
        VideoReport { codec: sets.codec_string().to_owned(), width: facts.width, height: facts.height, frame_rate }
    });
    let archive = log.archive.as_ref().map(|archive| {
        let (recorder_status, details) = match &archive.recorder {
            RecorderState::Recording | RecorderState::Off => ("SUCCESS", None),
            RecorderState::Paused => ("SUCCESS", Some("recording is switched off".to_owned())),
            RecorderState::Full => ("USER_ERROR", Some("the archive is full and nothing may be deleted".to_owned())),
            RecorderState::Failed(error) => ("SYSTEM_ERROR", Some(error.clone())),
        };
        let earliest = archive.earliest.map(|time| time.to_string());
        let most = camera.config.archive.as_ref().and_then(|archive| archive.retention.max_bytes);
        ArchiveReport {
            recorder_status,
            details,
            bytes: archive.bytes,
            segments: archive.segments,
            earliest,
            is_recording: camera.config.switches.recording,
            space_used_percent: most.map(|most| (archive.bytes as f64 / most.max(1) as f64 * 1000.0).round() / 10.0),
        }
    });
    StreamReport {
        camera_id: camera.config.name.clone(),
        state: capture.state.name(),
        state_seconds: capture.since.elapsed().as_secs(),
        error: capture.error,
        source: source(&camera.config.source),
        device: device(capture.particulars),
        attempts: capture.attempts,
        video,
        audio: audio(camera, &log),
        frames: log.units,
        bytes: log.bytes,
        gops: log.gops,
        lost: LostReport {
            packets: capture.lost.packets,
            late: capture.lost.late + capture.lost.stale,
            audio: capture.lost.audio,
            malformed: capture.lost.stream.malformed,
            skipped_to_idr: capture.lost.stream.skipped_to_idr + log.refused,
            garbage_bytes: capture.lost.stream.garbage_bytes,
            not_archived: log.lost_units,
        },
        ring_bytes: log.ring_bytes,
        latest: log.latest.map(|time| time.to_string()),
        archive,
        upload: upload(camera, log.latest),
        encoder: Some(camera.config.switches.encoder)
            .filter(|control| *control != Control::default())
            .and_then(|control| serde_json::to_value(control).ok()),
        inference: super::looks::looks(camera),
    }
}

fn device(told: Particulars) -> Option<DeviceReport> {
    let Particulars { device: name, asked, given, notes, .. } = told;
    let is_known = name.is_some() || asked.is_some() || given.is_some() || !notes.is_empty();
    is_known.then_some(DeviceReport { name, asked, given, notes })
}

fn upload(camera: &CameraHandle, latest: Option<Timestamp>) -> Option<UploadReport> {
    let upload = camera.upload.as_ref()?;
    let status = upload.status.get();
    let (uploader_status, details) = match &status.state {
        UploadState::Failing { needs_a_person: true, message, .. } => ("USER_ERROR", Some(message)),
        UploadState::Failing { message, .. } => ("SYSTEM_ERROR", Some(message)),
        UploadState::Idle | UploadState::Connecting | UploadState::Streaming => ("SUCCESS", None),
    };
    let long_gop = || status.has_long_gop.then(|| "a GOP is longer than the 10 s a KVS fragment may last".to_owned());
    let details = details.cloned().or(status.cursor_error).or_else(long_gop);
    let lag = latest.zip(status.persisted_until).map(|(latest, until)| latest.since(until).seconds().max(0.0));
    Some(UploadReport {
        stream: upload.stream.clone(),
        state: status.state.name(),
        uploader_status,
        details,
        persisted_until: status.persisted_until.map(|time| time.to_string()),
        lag_seconds: lag,
        history_gaps: status.gaps,
        stats: status.stats,
    })
}

/// A source in words, without secrets.
pub fn source(source: &Source) -> String {
    use crate::config::source::{Input, V4l2Device};
    match source {
        Source::Rtsp(rtsp) => match &rtsp.secret {
            Some(secret) => format!("rtsp, URL in the secret {}", secret.id),
            None => redact_url(&rtsp.url),
        },
        Source::Nuuo(nuuo) => nuuo.to_string(),
        Source::Onvif(onvif) => onvif.to_string(),
        Source::ElementaryStream(stream) => match &stream.input {
            Input::Path(path) => path.display().to_string(),
            Input::Stdin => "standard input".to_owned(),
        },
        Source::File(file) => file.path.display().to_string(),
        Source::Hls(hls) => redact_url(&hls.url),
        Source::Kvs(kvs) => format!("kvs://{}", kvs.stream),
        Source::Rtmp(rtmp) => format!("rtmp://{}/{}/…", rtmp.listen, rtmp.app),
        Source::TestPattern(pattern) => format!("test pattern {}x{}", pattern.width, pattern.height),
        Source::V4l2(v4l2) => match &v4l2.device {
            V4l2Device::Auto => "the first camera of this machine".to_owned(),
            V4l2Device::Path(path) => path.display().to_string(),
            V4l2Device::Index(index) => format!("/dev/video{index}"),
            V4l2Device::Name(name) => format!("camera `{name}`"),
        },
        Source::Mxuvc(mxuvc) => format!("mxuvc channel {}, {}", mxuvc.channel, mxuvc.stream.display()),
    }
}

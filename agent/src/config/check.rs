//! As written → as used: ranges, defaults, references. Every message names the key.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::access::Access;
use super::edge_config::{self, Spans};
use super::error::ConfigError;
use super::nvrs::Checked;
use super::publishers::WrittenPublishers;
use super::schedule::{Dialect, Schedule};
use super::secret::Secret;
use super::source::{ElementaryStream, FileSource, Input, LastUrl, Rtsp, RtspTransport, Source, UrlSecret};
use super::value::Span;
use super::{
    Archive, Aws, Camera, Commands, Config, Http, Inference, Switches, Upload, UploadMode, UploadOrder, detectors,
    identity, local, publishers, streams, written,
};
use crate::control::command::Name;
use crate::encode::Encoding;
use crate::footage::archive::Rotation;
use crate::footage::archive::retention::{Retention, StrategyOnFull};
use crate::host::certificate::Identity;

pub(super) type Result<T> = std::result::Result<T, ConfigError>;

const MIB: u64 = 1 << 20;

pub(super) fn wrong<T>(key: &str, message: impl std::fmt::Display) -> Result<T> {
    Err(ConfigError::new(format!("{key}: {message}")))
}

/// What a camera takes from the rest of the config.
pub(super) struct General<'a> {
    pub(super) thing: &'a str,
    pub(super) state_dir: &'a Path,
    pub(super) publishers: &'a WrittenPublishers,
    pub(super) has_broker: bool,
}

pub(super) fn config(written: written::Config) -> Result<Config> {
    let state_dir = written.state_dir.or_else(|| identity::environment("STATE_DIRECTORY").map(PathBuf::from));
    let state_dir = state_dir.unwrap_or_else(|| PathBuf::from("edgecam-data"));
    let thing = written.thing.unwrap_or_else(identity::thing);
    let general = General {
        thing: &thing,
        state_dir: &state_dir,
        publishers: &written.publishers,
        has_broker: written.mqtt.is_some(),
    };
    let mut names = HashSet::new();
    let mut cameras = Vec::new();
    for camera in written.cameras {
        let name = camera.name.clone();
        if !names.insert(name.clone()) {
            return wrong("cameras", format_args!("two cameras are named `{name}`"));
        }
        cameras.push(self::camera(camera, &general)?);
    }
    let mut nvrs = Vec::new();
    let mut nvr_names = HashSet::new();
    for nvr in written.nvrs {
        if !nvr_names.insert(nvr.name.clone()) {
            return wrong("nvrs", format_args!("two NVRs are named `{}`", nvr.name));
        }
        match super::nvrs::nvr(nvr, &general)? {
            Checked::Nvr(nvr) => nvrs.push(*nvr),
            Checked::Cameras(more) => cameras.extend(more),
        }
    }
    if let Some(camera) =
        cameras.iter().filter(|camera| camera.nvr.is_some()).find(|camera| names.contains(&camera.name))
    {
        return wrong("cameras", format_args!("two cameras are named `{}`", camera.name));
    }
    unique_streams(&cameras)?;
    local::one_auto(&cameras)?;
    super::rtmp::unique_keys(&cameras)?;
    let has_mqtt = written.mqtt.is_some();
    let honeycomb =
        written.honeycomb.map(|written| super::honeycomb::check(written, has_mqtt, &cameras)).transpose()?;
    let mqtt = written.mqtt.map(|mqtt| super::mqtt::check(mqtt, &thing, &state_dir)).transpose()?;
    let tls = mqtt.as_ref().and_then(|mqtt| mqtt.connection.tls.as_ref());
    let aws = aws(written.aws, &thing, tls.and_then(|tls| tls.identity.as_ref()))?;
    streams::in_region(&mut cameras, &aws);
    Ok(Config {
        aws,
        mqtt,
        thing,
        state_dir,
        http: http(written.http)?,
        commands: commands(written.commands),
        honeycomb,
        log_level: level(written.log.level.as_deref())?,
        cameras,
        nvrs,
        inference: inference(&written.inference)?,
    })
}

fn inference(written: &written::Inference) -> Result<Inference> {
    if written.threads.is_some_and(|threads| !(1..=64).contains(&threads)) {
        return wrong("inference.threads", "must be 1 to 64");
    }
    let cpu_percent = written.cpu_percent.unwrap_or(100);
    if !(1..=100).contains(&cpu_percent) {
        return wrong("inference.cpu_percent", "must be 1 to 100");
    }
    Ok(Inference { threads: written.threads, cpu_percent })
}

/// The service takes one connection a stream: two cameras on one would throw each other out for ever.
fn unique_streams(cameras: &[Camera]) -> Result<()> {
    let mut seen = HashSet::new();
    for camera in cameras {
        if let Some(upload) = &camera.upload
            && !seen.insert(&upload.stream)
        {
            let message = format!("another camera uploads to `{}` too; put {{camera}} into the name", upload.stream);
            return wrong(&format!("cameras.{}.upload.stream", camera.name), message);
        }
    }
    Ok(())
}

/// Whoever may replace the config may point cameras and uploads anywhere: that has to be allowed by name.
fn commands(written: written::Commands) -> Commands {
    let safe = || Name::ALL.into_iter().filter(|name| *name != Name::Config).collect();
    let allowed = |names: Option<Vec<Name>>| names.map_or_else(safe, |names| names.into_iter().collect());
    Commands { mqtt: allowed(written.mqtt), http: allowed(written.http), iot: allowed(written.iot) }
}

fn level(text: Option<&str>) -> Result<tracing::Level> {
    let Some(text) = text else { return Ok(tracing::Level::INFO) };
    text.parse().or_else(|_| wrong("log.level", format_args!("`{text}` is not error, warn, info, debug or trace")))
}

fn aws(written: written::Aws, thing: &str, of_mqtt: Option<&Identity>) -> Result<Aws> {
    let retention = written.create_retention.map_or(Duration::from_secs(24 * 3600), |span| span.0);
    let hours = retention.as_secs().div_ceil(3600);
    if hours > 87_600 {
        return wrong("aws.create_retention", "a stream keeps footage for at most 10 years");
    }
    let create_streams = written.create_streams.then_some(hours as u32);
    let iot = written.iot.map(|iot| super::iot::check(iot, thing, of_mqtt)).transpose()?;
    Ok(Aws { region: written.region, create_streams, use_instance_metadata: written.use_instance_metadata, iot })
}

fn http(written: written::Http) -> Result<Option<Http>> {
    if !written.enabled.unwrap_or(true) {
        return Ok(None);
    }
    let text = written.listen.as_deref().unwrap_or("127.0.0.1:8080");
    let Ok(listen) = text.parse::<SocketAddr>() else {
        return wrong("http.listen", format_args!("`{text}` is not an address and port such as 127.0.0.1:8080"));
    };
    let token = written.token_file.as_deref().map(|path| secret_file("http.token_file", path)).transpose()?;
    if !listen.ip().is_loopback() && token.is_none() {
        return wrong("http.listen", format_args!("{listen} is open to the network: set http.token_file as well"));
    }
    Ok(Some(Http { listen, token, kvs_infer: written.kvs_infer_metrics }))
}

pub(super) fn secret_file(key: &str, path: &Path) -> Result<Secret> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => wrong(key, format_args!("{} is empty", path.display())),
        Ok(text) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']))),
        Err(error) => wrong(key, format_args!("{} cannot be read: {error}", path.display())),
    }
}

pub(super) fn camera(mut written: written::Camera, general: &General<'_>) -> Result<Camera> {
    let name = std::mem::take(&mut written.name);
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(is_legal) {
        let message = "is not a camera name: 1 to 64 letters, digits, `_`, `-` or `.`, not beginning with a dot";
        return wrong("cameras", format_args!("`{name}` {message}"));
    }
    let key = format!("cameras.{name}");
    let spans = written.edge_config.take().map(|edge| edge_config::apply(edge, &mut written, &key)).transpose()?;
    let mut sources = Vec::new();
    sources.extend(named(written.rtsp, general.thing, &name).map(|s| rtsp(s, &format!("{key}.rtsp"))).transpose()?);
    sources.extend(written.nuuo.map(|s| super::nvr::nuuo(s, &format!("{key}.nuuo"))).transpose()?);
    sources.extend(written.onvif.map(|s| super::nvr::onvif(s, &format!("{key}.onvif"))).transpose()?);
    sources.extend(
        written.elementary_stream.map(|s| elementary_stream(s, &format!("{key}.elementary_stream"))).transpose()?,
    );
    sources.extend(written.file.map(|s| file(s, &format!("{key}.file"))).transpose()?);
    sources.extend(written.hls.map(|s| streams::hls(s, &format!("{key}.hls"))).transpose()?);
    sources.extend(written.kvs.map(|s| streams::kvs(s, &format!("{key}.kvs"))).transpose()?);
    sources.extend(written.rtmp.map(|s| super::rtmp::rtmp(s, &format!("{key}.rtmp"))).transpose()?);
    sources.extend(written.test_pattern.map(|s| test_pattern(&s, &format!("{key}.test_pattern"))).transpose()?);
    sources.extend(written.v4l2.map(|s| local::v4l2(s, &format!("{key}.v4l2"))).transpose()?);
    sources.extend(written.mxuvc.map(|s| local::mxuvc(s, &format!("{key}.mxuvc"))).transpose()?);
    let Some(source) = sources.pop() else {
        return wrong(
            &key,
            "no source: give one of rtsp, nuuo, onvif, elementary_stream, file, hls, kvs, rtmp, test_pattern, v4l2, mxuvc",
        );
    };
    if let Some(other) = sources.pop() {
        return wrong(&key, format_args!("two sources, {} and {}: a camera has one", other.kind(), source.kind()));
    }
    let archive = archive(written.archive, &format!("{key}.archive"), &general.state_dir.join(&name))?;
    let ring = written.ring.map_or(if archive.is_some() { MIB / 2 } else { 16 * MIB }, |size| size.0);
    let ring_most = written.ring_most.map_or(if archive.is_some() { ring + 8 * MIB } else { ring }, |size| size.0);
    if !(64 << 10..=4 << 30).contains(&ring) {
        return wrong(&format!("{key}.ring"), "must be 64 KiB to 4 GiB");
    }
    if ring_most < ring {
        return wrong(&format!("{key}.ring_most"), "must not be less than `ring`");
    }
    let mut upload =
        written.upload.map(|u| upload(u, &format!("{key}.upload"), general.thing, &name)).transpose()?.flatten();
    let mut schedule = schedule(written.schedule, &key)?;
    if let Some(Spans { recording, uploading }) = spans {
        schedule.extend(recording);
        if let Some(upload) = upload.as_mut().filter(|_| !uploading.is_empty()) {
            upload.mode = UploadMode::Window(uploading);
        }
    }
    if let Some(Archive { retention: Retention { delete_after_upload: true, .. }, .. }) = &archive
        && upload.is_none()
    {
        return wrong(&format!("{key}.archive.delete_after_upload"), "nothing is uploaded from this camera");
    }
    if let (Source::Kvs(kvs), Some(upload)) = (&source, &upload)
        && kvs.stream == upload.stream
    {
        return wrong(&format!("{key}.upload.stream"), "is the stream that is played: it would feed itself");
    }
    let (ring, ring_most) = (ring as usize, ring_most as usize);
    let switches = Switches { enabled: written.enabled, ..Switches::default() };
    let sub_stream =
        named(written.sub_stream, general.thing, &name).map(|s| rtsp(s, &format!("{key}.sub_stream"))).transpose()?;
    let General { state_dir, has_broker, .. } = *general;
    Ok(Camera {
        detectors: detectors::check(written.detectors, &key, written.fps_limit)?,
        publishers: publishers::check(written.publishers, general.publishers, &key, has_broker, state_dir)?,
        name,
        nvr: None,
        source,
        schedule,
        audio: written.audio,
        ring,
        ring_most,
        archive,
        upload,
        sub_stream,
        switches,
    })
}

pub(super) fn span(
    key: &str,
    name: &str,
    given: Option<Span>,
    default: Duration,
    range: (Duration, Duration),
) -> Result<Duration> {
    let span = given.map_or(default, |span| span.0);
    if span < range.0 || span > range.1 {
        let (least, most) = (humantime::format_duration(range.0), humantime::format_duration(range.1));
        return wrong(&format!("{key}.{name}"), format_args!("must be {least} to {most}"));
    }
    Ok(span)
}

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// In place of the URL that a secret holds.
const SECRET_URL: &str = "rtsp://secret/";
/// Longest name of a secret (Secrets Manager); an ARN is longer.
const SECRET_MOST: usize = 2048;

/// The secret that holds the URL, if there is one; its name then takes the place of the URL.
fn secret(written: &mut written::Rtsp, key: &str) -> Result<Option<UrlSecret>> {
    let Some(id) = written.secret.take() else { return Ok(None) };
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-:".contains(c);
    if id.is_empty() || id.len() > SECRET_MOST || !id.chars().all(is_legal) {
        let message = format!("`{id}` is not the name or ARN of a secret; `{{thing}}` and `{{camera}}` are filled in");
        return wrong(&format!("{key}.secret"), message);
    }
    let has_access = written.username.is_some() || written.password_file.is_some() || written.password_env.is_some();
    if !written.url.is_empty() || has_access {
        return wrong(&format!("{key}.secret"), "holds URL, user and password: leave out url and the keys for them");
    }
    SECRET_URL.clone_into(&mut written.url);
    // How to reach AWS is filled in by `in_region`.
    Ok(Some(UrlSecret { id, aws: Aws::default(), last: LastUrl::default() }))
}

/// Fills in what the name of a secret may hold.
fn named(written: Option<written::Rtsp>, thing: &str, camera: &str) -> Option<written::Rtsp> {
    let fill = |id: String| id.replace("{thing}", thing).replace("{camera}", camera);
    written.map(|rtsp| written::Rtsp { secret: rtsp.secret.map(fill), ..rtsp })
}

pub(super) fn rtsp(mut written: written::Rtsp, key: &str) -> Result<Source> {
    let secret = secret(&mut written, key)?;
    let access = Access {
        url: &written.url,
        username: written.username,
        password_file: written.password_file,
        password_env: written.password_env,
    };
    let (url, credentials) = access.check(key, &["rtsp", "rtsps"])?;
    let transport = match written.transport.as_deref() {
        None | Some("tcp") => RtspTransport::Tcp,
        Some("udp") => RtspTransport::Udp,
        Some(other) => return wrong(&format!("{key}.transport"), format_args!("`{other}` is not tcp or udp")),
    };
    let range = (seconds(1), seconds(300));
    Ok(Source::Rtsp(Rtsp {
        url,
        secret,
        credentials,
        transport,
        ca_file: written.ca_file,
        insecure: written.insecure,
        setup_timeout: span(key, "setup_timeout", written.setup_timeout, seconds(10), range)?,
        frame_timeout: span(key, "frame_timeout", written.frame_timeout, seconds(10), range)?,
    }))
}

fn frame_rate(key: &str, rate: Option<f64>) -> Result<Option<f64>> {
    match rate {
        Some(rate) if !(0.1..=240.0).contains(&rate) => wrong(&format!("{key}.frame_rate"), "must be 0.1 to 240"),
        rate => Ok(rate),
    }
}

fn elementary_stream(written: written::ElementaryStream, key: &str) -> Result<Source> {
    let input = if written.path == "-" { Input::Stdin } else { Input::Path(written.path.into()) };
    Ok(Source::ElementaryStream(ElementaryStream {
        input,
        frame_rate: frame_rate(key, written.frame_rate)?,
        repeat: written.repeat,
        frame_timeout: span(key, "frame_timeout", written.frame_timeout, seconds(10), (seconds(1), seconds(3600)))?,
    }))
}

fn file(written: written::FileSource, key: &str) -> Result<Source> {
    let frame_rate = frame_rate(key, written.frame_rate)?;
    Ok(Source::File(FileSource { path: written.path, repeat: written.repeat, frame_rate }))
}

fn test_pattern(written: &written::TestPattern, key: &str) -> Result<Source> {
    let usual = Encoding { width: 640, height: 360, frame_rate: 15.0, gop: 15, bitrate: 500_000 };
    let size = (written.width, written.height);
    let pattern = local::encoding(size, written.frame_rate, written.gop, written.bitrate, usual);
    pattern.check().or_else(|error| wrong(key, error))?;
    Ok(Source::TestPattern(pattern))
}

fn archive(written: written::Archive, key: &str, default: &Path) -> Result<Option<Archive>> {
    if !written.enabled.unwrap_or(true) {
        return Ok(None);
    }
    let on_full = match written.on_full.as_deref() {
        None | Some("delete_oldest_media") => StrategyOnFull::DeleteOldestMedia,
        Some("deny_new_media") => StrategyOnFull::DenyNewMedia,
        Some(other) => {
            let message = format!("`{other}` is not delete_oldest_media or deny_new_media");
            return wrong(&format!("{key}.on_full"), message);
        }
    };
    let segment_size = written.segment_size.map_or(256 * MIB, |size| size.0);
    if segment_size < MIB {
        return wrong(&format!("{key}.segment_size"), "must be at least 1 MiB");
    }
    let (least, most) = (Duration::from_millis(100), seconds(60));
    Ok(Some(Archive {
        directory: written.directory.unwrap_or_else(|| default.to_owned()),
        at_risk: span(key, "at_risk", written.at_risk, seconds(2), (least, most))?,
        rotation: Rotation {
            duration: span(key, "segment", written.segment, seconds(60), (seconds(1), seconds(3600)))?,
            bytes: segment_size,
        },
        retention: Retention {
            max_age: written.max_age.map(|span| span.0),
            max_bytes: written.max_size.map(|size| size.0),
            min_free: written.min_free.map_or(1 << 30, |size| size.0),
            on_full,
            delete_after_upload: written.delete_after_upload,
        },
    }))
}

fn upload(written: written::Upload, key: &str, thing: &str, camera: &str) -> Result<Option<Upload>> {
    let template = written.stream.as_deref().unwrap_or("{thing}-{camera}");
    let stream =
        identity::stream_name(template, thing, camera).or_else(|error| wrong(&format!("{key}.stream"), error))?;
    let mode = match (written.mode.as_deref(), written.schedule.is_empty()) {
        (Some("off"), _) => return Ok(None),
        (None | Some("continuous"), true) => UploadMode::Continuous,
        (Some("on_demand"), true) => UploadMode::OnDemand,
        (None | Some("schedule"), false) => UploadMode::Schedule(schedule(written.schedule, key)?),
        (Some("window"), false) => UploadMode::Window(schedule(written.schedule, key)?),
        (Some(mode @ ("schedule" | "window")), true) => {
            return wrong(&format!("{key}.schedule"), format_args!("the mode `{mode}` needs one"));
        }
        (Some("continuous" | "on_demand"), false) => {
            return wrong(&format!("{key}.mode"), "a schedule needs the mode `schedule` or `window`");
        }
        (Some(other), _) => {
            return wrong(
                &format!("{key}.mode"),
                format_args!("`{other}` is not continuous, on_demand, schedule, window or off"),
            );
        }
    };
    let max_lag = span(key, "max_lag", written.max_lag, seconds(30), (seconds(5), seconds(3600)))?;
    let order = match written.order.as_deref() {
        None | Some("in_order") if written.max_lag.is_some() => {
            return wrong(&format!("{key}.max_lag"), "only the order `live_first` has one");
        }
        None | Some("in_order") => UploadOrder::InOrder,
        Some("live_first") if mode == UploadMode::Continuous => UploadOrder::LiveFirst { max_lag },
        Some("live_first") => return wrong(&format!("{key}.order"), "live_first needs the mode `continuous`"),
        Some(other) => return wrong(&format!("{key}.order"), format_args!("`{other}` is not in_order or live_first")),
    };
    Ok(Some(Upload { stream, mode, order }))
}

fn schedule(written: Vec<written::Schedule>, key: &str) -> Result<Vec<Schedule>> {
    let check = |entry: written::Schedule| {
        let range = (seconds(60), seconds(24 * 3600));
        let duration = span(&format!("{key}.schedule"), "duration", Some(entry.duration), seconds(60), range)?;
        let said = format!("`{}`", entry.cron);
        Schedule::new(entry.cron, Dialect::Cron, duration)
            .or_else(|error| wrong(&format!("{key}.schedule.cron"), format_args!("{said}: {error}")))
    };
    written.into_iter().map(check).collect()
}

//! What inference does and where events go, as data: for the API, the status page and metrics.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::report::{AgentReport, StreamReport};
use crate::capture::supervisor::StatusCell as CaptureCell;
use crate::event::publish::Publisher;
use crate::inference::status::{BUCKETS, CameraStatus, DetectorStatus};
use crate::topology::CameraHandle;

/// Inference at one camera.
#[derive(Serialize, Clone, Debug)]
pub struct LooksReport {
    /// Its detectors.
    pub detectors: Vec<DetectorReport>,
    /// `key_frames` or `all`; none before the first picture.
    pub decodes: Option<&'static str>,
    /// Pictures decoded.
    pub decoded: u64,
    /// Pictures that could not be decoded.
    pub undecodable: u64,
    /// Looks that a newer picture pushed out.
    pub skipped: u64,
    /// From the arrival of the last picture to what was seen on it.
    pub lag_ms: Option<u64>,
    /// CPU time of decoding and looking, in seconds.
    pub cpu_seconds: f64,
    /// Why no picture can be looked at.
    pub error: Option<String>,
    /// What its second stream does, where that is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_stream: Option<SubStreamReport>,
    /// What was seen last.
    pub last: Option<Value>,
    /// Zones, for who draws them.
    pub zones: Vec<Value>,
}

/// The second stream of a camera.
#[derive(Serialize, Clone, Debug)]
pub struct SubStreamReport {
    /// As that of a camera.
    pub state: &'static str,
    /// Why it does not stream.
    pub error: Option<String>,
}

/// One detector.
#[derive(Serialize, Clone, Debug)]
pub struct DetectorReport {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The model.
    pub model: String,
    /// `ready`, `loading` or `failing`.
    pub state: &'static str,
    /// Why it fails.
    pub error: Option<String>,
    /// Pictures it looked at.
    pub looked: u64,
    /// Pictures on which nothing had changed.
    pub still: u64,
    /// Looks that failed.
    pub failed: u64,
    /// Things seen, by class.
    pub detections: Map<String, Value>,
    /// Events begun.
    pub events: u64,
    /// How long its model runs for one picture, on average.
    pub inference_ms: Option<f64>,
    #[serde(skip)]
    times: [u64; BUCKETS.len() + 1],
    #[serde(skip)]
    seconds: f64,
}

/// A place that events go to.
#[derive(Serialize, Clone, Debug)]
pub struct PublisherReport {
    /// `kinesis`, `s3`, `dynamodb`, `webhook` or `directory`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Which one.
    pub to: String,
    /// Messages that have arrived.
    pub published: u64,
    /// Messages that wait.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Messages dropped because too many waited.
    pub dropped: u64,
    /// Messages that it will never take.
    pub refused: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Why the last one did.
    pub error: Option<String>,
}

/// Inference at a camera, where there is some.
pub fn looks(camera: &CameraHandle) -> Option<LooksReport> {
    let CameraStatus { detectors, decode, decoded, undecodable, skipped, lag, cpu, error, last } =
        camera.looks.as_ref()?.get();
    let sub_stream = camera.sub_stream.as_ref().map(|(_, cell): &(_, CaptureCell)| {
        let capture = cell.get();
        SubStreamReport { state: capture.state.name(), error: capture.error }
    });
    let zone = |zone: &edgecam_vision::zone::ZoneDescription| json!({ "name": zone.name, "points": zone.points, "exclude": zone.exclude });
    Some(LooksReport {
        detectors: detectors.into_iter().map(detector).collect(),
        decodes: decode.map(|decode| decode.name()),
        decoded,
        undecodable,
        skipped,
        lag_ms: lag.map(|lag| lag.as_millis() as u64),
        cpu_seconds: (cpu.as_secs_f64() * 1000.0).round() / 1000.0,
        error,
        sub_stream,
        last: last.map(|(_, look)| look),
        zones: camera.config.detectors.iter().flat_map(|detector| detector.zones.iter().map(zone)).collect(),
    })
}

fn detector(status: DetectorStatus) -> DetectorReport {
    let state = match (&status.error, status.is_ready) {
        (Some(_), _) => "failing",
        (None, true) => "ready",
        (None, false) => "loading",
    };
    let mean = (status.looked > 0).then(|| (status.seconds / status.looked as f64 * 100_000.0).round() / 100.0);
    DetectorReport {
        name: status.name,
        kind: status.kind,
        model: status.model,
        state,
        error: status.error,
        looked: status.looked,
        still: status.still,
        failed: status.failed,
        detections: status.detections.iter().map(|(class, count)| (class.to_string(), json!(count))).collect(),
        events: status.events,
        inference_ms: mean,
        times: status.times,
        seconds: status.seconds,
    }
}

/// A place that events go to.
pub fn publisher(publisher: &Publisher) -> PublisherReport {
    let (status, outbox) = publisher.status();
    PublisherReport {
        kind: publisher.destination().kind(),
        to: publisher.destination().shown(),
        published: status.published,
        waiting: outbox.entries,
        waiting_bytes: outbox.bytes,
        dropped: outbox.dropped,
        refused: status.refused,
        failures: status.failures,
        error: status.error.or(outbox.error),
    }
}

/// Metrics of inference and publishers, by our names; with `kvs_infer` by that program's names and labels too.
pub fn metrics(report: &AgentReport, kvs_infer: bool, out: &mut String) {
    let cameras: Vec<(&str, &LooksReport)> = report
        .streams
        .iter()
        .filter_map(|s: &StreamReport| Some((s.camera_id.as_str(), s.inference.as_ref()?)))
        .collect();
    if cameras.is_empty() && report.publishers.is_empty() {
        return;
    }
    let mut page = Page { out };
    page.of_cameras(&cameras);
    page.of_publishers(&report.publishers);
    if kvs_infer {
        page.as_kvs_infer(report, &cameras);
    }
}

struct Page<'a> {
    out: &'a mut String,
}

impl Page<'_> {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}.\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        self.out.write_fmt(text).ok();
        self.out.push('\n');
    }

    fn of_cameras(&mut self, cameras: &[(&str, &LooksReport)]) {
        type Value = fn(&LooksReport) -> Option<f64>;
        let values: [(&str, &str, &str, Value); 5] = [
            ("edgecam_look_decoded_total", "counter", "Pictures decoded to be looked at", |l| Some(l.decoded as f64)),
            ("edgecam_look_undecodable_total", "counter", "Pictures that could not be decoded", |l| {
                Some(l.undecodable as f64)
            }),
            ("edgecam_look_skipped_total", "counter", "Looks that a newer picture pushed out", |l| {
                Some(l.skipped as f64)
            }),
            ("edgecam_look_lag_seconds", "gauge", "From a picture to what was seen on it", |l| {
                l.lag_ms.map(|lag| lag as f64 / 1000.0)
            }),
            ("edgecam_look_cpu_seconds_total", "counter", "CPU time of decoding and looking", |l| Some(l.cpu_seconds)),
        ];
        for (name, kind, help, value) in values {
            self.head(name, kind, help);
            for (camera, looks) in cameras {
                if let Some(value) = value(looks) {
                    self.line(format_args!("{name}{{camera_name=\"{camera}\"}} {value}"));
                }
            }
        }
        type Count = fn(&DetectorReport) -> u64;
        let counts: [(&str, &str, &str, Count); 5] = [
            ("edgecam_detector_ready", "gauge", "1 while the detector works", |d| u64::from(d.state == "ready")),
            ("edgecam_detector_looked_total", "counter", "Pictures it looked at", |d| d.looked),
            ("edgecam_detector_still_total", "counter", "Pictures on which nothing had changed", |d| d.still),
            ("edgecam_detector_failed_total", "counter", "Looks that failed", |d| d.failed),
            ("edgecam_detector_events_total", "counter", "Events begun", |d| d.events),
        ];
        for (name, kind, help, count) in counts {
            self.head(name, kind, help);
            for (camera, detector) in all(cameras) {
                let count = count(detector);
                self.line(format_args!("{name}{{camera_name=\"{camera}\",detector=\"{}\"}} {count}", detector.name));
            }
        }
        self.detections("edgecam_detections_total", cameras);
        self.times("edgecam_inference_seconds", cameras);
    }

    fn detections(&mut self, name: &str, cameras: &[(&str, &LooksReport)]) {
        self.head(name, "counter", "Things seen, on each picture anew");
        for (camera, detector) in all(cameras) {
            for (class, count) in &detector.detections {
                let class = class.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let kind = &detector.kind;
                self.line(format_args!(
                    "{name}{{camera_name=\"{camera}\",detector_type=\"{kind}\",class_name=\"{class}\"}} {count}"
                ));
            }
        }
    }

    fn times(&mut self, name: &str, cameras: &[(&str, &LooksReport)]) {
        self.head(name, "histogram", "How long models ran for one picture, in CPU time");
        for (camera, detector) in all(cameras) {
            let labels = format!("camera_name=\"{camera}\",detector_type=\"{}\"", detector.kind);
            let mut sum = 0;
            for (bucket, count) in BUCKETS.iter().zip(detector.times) {
                sum += count;
                self.line(format_args!("{name}_bucket{{{labels},le=\"{bucket}\"}} {sum}"));
            }
            let count = detector.times.iter().sum::<u64>();
            self.line(format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}"));
            self.line(format_args!("{name}_sum{{{labels}}} {}", detector.seconds));
            self.line(format_args!("{name}_count{{{labels}}} {count}"));
        }
    }

    fn of_publishers(&mut self, publishers: &[PublisherReport]) {
        type Count = fn(&PublisherReport) -> u64;
        let counts: [(&str, &str, &str, Count); 5] = [
            ("edgecam_published_total", "counter", "Events that have arrived", |p| p.published),
            ("edgecam_publish_failures_total", "counter", "Attempts to publish that failed", |p| p.failures),
            ("edgecam_publish_refused_total", "counter", "Events that will never be taken", |p| p.refused),
            ("edgecam_publish_dropped_total", "counter", "Events dropped because too many waited", |p| p.dropped),
            ("edgecam_publish_waiting", "gauge", "Events that wait", |p| p.waiting as u64),
        ];
        for (name, kind, help, count) in counts {
            self.head(name, kind, help);
            for publisher in publishers {
                let (kind, count) = (publisher.kind, count(publisher));
                let to = publisher.to.replace('\\', "\\\\").replace('"', "\\\"");
                self.line(format_args!("{name}{{publisher_type=\"{kind}\",to=\"{to}\"}} {count}"));
            }
        }
    }

    /// Names and labels of kvs-infer's own.
    fn as_kvs_infer(&mut self, report: &AgentReport, cameras: &[(&str, &LooksReport)]) {
        let name = "kvs_infer_frames_processed_total";
        self.head(name, "counter", "Frames processed");
        for (camera, looks) in cameras {
            let sum = |of: fn(&DetectorReport) -> u64| looks.detectors.iter().map(of).sum::<u64>();
            let (processed, failed) = (sum(|d| d.looked + d.still), sum(|d| d.failed) + looks.undecodable);
            self.line(format_args!("{name}{{camera_name=\"{camera}\",status=\"success\"}} {processed}"));
            self.line(format_args!("{name}{{camera_name=\"{camera}\",status=\"error\"}} {failed}"));
            self.line(format_args!("{name}{{camera_name=\"{camera}\",status=\"skipped\"}} {}", looks.skipped));
        }
        self.detections("kvs_infer_detections_total", cameras);
        self.times("kvs_infer_inference_seconds", cameras);
        let name = "kvs_infer_frame_processing_seconds";
        self.head(name, "summary", "CPU time of decoding and looking");
        for (camera, looks) in cameras {
            self.line(format_args!("{name}_sum{{camera_name=\"{camera}\"}} {}", looks.cpu_seconds));
            self.line(format_args!("{name}_count{{camera_name=\"{camera}\"}} {}", looks.decoded));
        }
        let name = "kvs_infer_events_published_total";
        self.head(name, "counter", "Events published, of all cameras together");
        for publisher in &report.publishers {
            let kind = publisher.kind;
            for (status, count) in [("success", publisher.published), ("error", publisher.refused + publisher.dropped)]
            {
                self.line(format_args!(
                    "{name}{{camera_name=\"\",publisher_type=\"{kind}\",status=\"{status}\"}} {count}"
                ));
            }
        }
        let name = "kvs_infer_snapshots_uploaded_total";
        self.head(name, "counter", "Events with pictures that S3 has, of all cameras together");
        let uploaded = report.publishers.iter().filter(|p| p.kind == "s3").map(|p| p.published).sum::<u64>();
        self.line(format_args!("{name}{{camera_name=\"\"}} {uploaded}"));
        let name = "kvs_infer_stream_errors_total";
        self.head(name, "counter", "Attempts to open the source that followed a failure");
        for stream in &report.streams {
            let (camera, errors) = (&stream.camera_id, stream.attempts.saturating_sub(1));
            self.line(format_args!("{name}{{camera_name=\"{camera}\",error_type=\"source\"}} {errors}"));
        }
        let name = "kvs_infer_active_cameras";
        self.head(name, "gauge", "Cameras that stream");
        self.line(format_args!("{name} {}", report.active_streams));
    }
}

fn all<'a>(cameras: &'a [(&'a str, &'a LooksReport)]) -> impl Iterator<Item = (&'a str, &'a DetectorReport)> {
    cameras.iter().flat_map(|(camera, looks)| looks.detectors.iter().map(|detector| (*camera, detector)))
}

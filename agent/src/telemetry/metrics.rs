//! Metrics in Prometheus' text format, made from the report.

use std::fmt::Write;

use super::report::{AgentReport, StreamReport};

type Value = fn(&StreamReport) -> Option<f64>;

/// Name, type, help, value for each camera.
const METRICS: &[(&str, &str, &str, Value)] = &[
    ("edgecam_streaming", "gauge", "1 while the source delivers", |s| Some(f64::from(s.state == "streaming"))),
    ("edgecam_capture_attempts_total", "counter", "Attempts to open the source", |s| Some(s.attempts as f64)),
    ("edgecam_frames_total", "counter", "Pictures taken into the log", |s| Some(s.frames as f64)),
    ("edgecam_bytes_total", "counter", "Bytes taken into the log", |s| Some(s.bytes as f64)),
    ("edgecam_gops_total", "counter", "GOPs begun", |s| Some(s.gops as f64)),
    ("edgecam_lost_packets_total", "counter", "RTP packets lost", |s| Some(s.lost.packets as f64)),
    ("edgecam_late_frames_total", "counter", "Frames dropped as late or stale", |s| Some(s.lost.late as f64)),
    ("edgecam_malformed_nal_units_total", "counter", "NAL units that break the syntax", |s| {
        Some(s.lost.malformed as f64)
    }),
    ("edgecam_skipped_to_idr_total", "counter", "Pictures left out while waiting for an IDR", |s| {
        Some(s.lost.skipped_to_idr as f64)
    }),
    ("edgecam_garbage_bytes_total", "counter", "Bytes that belong to no NAL unit", |s| {
        Some(s.lost.garbage_bytes as f64)
    }),
    ("edgecam_not_archived_total", "counter", "Pictures that left RAM before the disk had them", |s| {
        Some(s.lost.not_archived as f64)
    }),
    ("edgecam_ring_bytes", "gauge", "Footage in RAM", |s| Some(s.ring_bytes as f64)),
    ("edgecam_archive_ok", "gauge", "1 while the recorder works", |s| {
        s.archive.as_ref().map(|a| f64::from(a.recorder_status == "SUCCESS"))
    }),
    ("edgecam_archive_bytes", "gauge", "Footage on disk", |s| s.archive.as_ref().map(|a| a.bytes as f64)),
    ("edgecam_archive_segments", "gauge", "Segment files", |s| s.archive.as_ref().map(|a| a.segments as f64)),
    ("edgecam_upload_ok", "gauge", "1 while the last attempt did not fail", |s| {
        s.upload.as_ref().map(|u| f64::from(u.uploader_status == "SUCCESS"))
    }),
    ("edgecam_upload_streaming", "gauge", "1 while a session takes footage", |s| {
        s.upload.as_ref().map(|u| f64::from(u.state == "streaming"))
    }),
    ("edgecam_upload_lag_seconds", "gauge", "From the newest persisted picture to the newest", |s| {
        s.upload.as_ref().and_then(|u| u.lag_seconds)
    }),
    ("edgecam_putmedia_attempts_total", "counter", "PutMedia attempts", |s| {
        s.upload.as_ref().map(|u| u.stats.attempts as f64)
    }),
    ("edgecam_putmedia_sessions_total", "counter", "PutMedia connections made", |s| {
        s.upload.as_ref().map(|u| u.stats.sessions as f64)
    }),
    ("edgecam_putmedia_failures_total", "counter", "Attempts and sessions that failed", |s| {
        s.upload.as_ref().map(|u| u.stats.failures as f64)
    }),
    ("edgecam_silent_peers_total", "counter", "Connections given up for silence", |s| {
        s.upload.as_ref().map(|u| u.stats.silent_peers as f64)
    }),
    ("edgecam_sent_bytes_total", "counter", "Bytes sent to KVS", |s| {
        s.upload.as_ref().map(|u| u.stats.bytes_sent as f64)
    }),
    ("edgecam_fragments_total", "counter", "Fragments begun", |s| {
        s.upload.as_ref().map(|u| u.stats.fragments_begun as f64)
    }),
    ("edgecam_fragments_in_flight", "gauge", "Fragments not yet persisted", |s| {
        s.upload.as_ref().map(|u| u.stats.in_flight as f64)
    }),
    ("edgecam_fragments_resent_total", "counter", "Fragments that had to be sent again", |s| {
        s.upload.as_ref().map(|u| u.stats.fragments_to_resend as f64)
    }),
    ("edgecam_fragments_skipped_total", "counter", "Fragments KVS refused for good", |s| {
        s.upload.as_ref().map(|u| u.stats.fragments_skipped as f64)
    }),
    ("edgecam_fragments_without_idr_total", "counter", "Fragments of a GOP that is too long", |s| {
        s.upload.as_ref().map(|u| u.stats.fragments_without_idr as f64)
    }),
    ("edgecam_upload_lagged_total", "counter", "Times footage was gone before it was sent", |s| {
        s.upload.as_ref().map(|u| u.stats.lagged as f64)
    }),
];

/// Ack kinds, as values of a label.
const ACKS: &[(&str, Value)] = &[
    ("buffering", |s| s.upload.as_ref().map(|u| u.stats.acks_buffering as f64)),
    ("received", |s| s.upload.as_ref().map(|u| u.stats.acks_received as f64)),
    ("persisted", |s| s.upload.as_ref().map(|u| u.stats.acks_persisted as f64)),
    ("idle", |s| s.upload.as_ref().map(|u| u.stats.acks_idle as f64)),
    ("error", |s| s.upload.as_ref().map(|u| u.stats.acks_error as f64)),
    ("unexpected", |s| s.upload.as_ref().map(|u| u.stats.acks_unexpected as f64)),
    ("unreadable", |s| s.upload.as_ref().map(|u| u.stats.acks_unreadable as f64)),
];

/// All metrics of the agent.
/// With `kvs_infer` those of inference under that program's names, too.
pub fn render(report: &AgentReport, kvs_infer: bool) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        out.write_fmt(text).ok();
        out.push('\n');
    };
    line(format_args!("# HELP edgecam_info The agent.\n# TYPE edgecam_info gauge"));
    line(format_args!("edgecam_info{{version=\"{}\",thing=\"{}\"}} 1", report.version, escape(&report.thing)));
    line(format_args!("# HELP edgecam_uptime_seconds Since the start.\n# TYPE edgecam_uptime_seconds gauge"));
    line(format_args!("edgecam_uptime_seconds {}", report.uptime_seconds));
    line(format_args!(
        "# HELP edgecam_panics_total Stages restarted after a panic.\n# TYPE edgecam_panics_total counter"
    ));
    line(format_args!("edgecam_panics_total {}", report.panics));
    if let Some(skew) = report.clock_skew_seconds {
        line(format_args!(
            "# HELP edgecam_clock_skew_seconds Ahead of the service.\n# TYPE edgecam_clock_skew_seconds gauge"
        ));
        line(format_args!("edgecam_clock_skew_seconds {skew}"));
    }
    if let Some(mqtt) = &report.mqtt {
        for (name, kind, help, value) in [
            ("mqtt_connected", "gauge", "Whether the broker takes messages", u64::from(mqtt.state == "connected")),
            ("mqtt_connections_total", "counter", "Connections that the broker accepted", mqtt.connections),
            ("mqtt_failures_total", "counter", "Attempts to connect that failed", mqtt.failures),
            ("mqtt_published_total", "counter", "Messages the broker has acknowledged", mqtt.published),
            ("mqtt_refused_total", "counter", "Messages that break a limit and were not sent", mqtt.refused),
            ("mqtt_received_total", "counter", "Messages that have arrived", mqtt.received),
            ("mqtt_received_dropped_total", "counter", "Messages that found no room", mqtt.received_and_dropped),
            ("mqtt_outbox_messages", "gauge", "Messages that wait for the broker", mqtt.waiting as u64),
            ("mqtt_outbox_bytes", "gauge", "Bytes that wait for the broker", mqtt.waiting_bytes),
            ("mqtt_outbox_dropped_total", "counter", "Messages dropped because too many waited", mqtt.dropped),
        ] {
            line(format_args!("# HELP edgecam_{name} {help}.\n# TYPE edgecam_{name} {kind}\nedgecam_{name} {value}"));
        }
    }
    if !report.nvrs.is_empty() {
        line(format_args!("# HELP edgecam_nvr_ok 1 while the NVR lists its channels.\n# TYPE edgecam_nvr_ok gauge"));
        for nvr in &report.nvrs {
            let ok = u8::from(nvr.state == "listed");
            line(format_args!("edgecam_nvr_ok{{nvr=\"{}\"}} {ok}", escape(&nvr.name)));
        }
        line(format_args!("# HELP edgecam_nvr_channels Channels that it lists.\n# TYPE edgecam_nvr_channels gauge"));
        for nvr in &report.nvrs {
            line(format_args!("edgecam_nvr_channels{{nvr=\"{}\"}} {}", escape(&nvr.name), nvr.channels));
        }
    }
    if let Some(counts) = &report.commands {
        line(format_args!(
            "# HELP edgecam_commands_total Commands by what became of them.\n# TYPE edgecam_commands_total counter"
        ));
        for (kind, count) in [
            ("taken", counts.taken),
            ("repeated", counts.repeated),
            ("rejected", counts.rejected),
            ("busy", counts.busy),
            ("failed", counts.failed),
            ("unsupported", counts.unsupported),
        ] {
            line(format_args!("edgecam_commands_total{{outcome=\"{kind}\"}} {count}"));
        }
    }
    for (name, kind, help, value) in METRICS {
        line(format_args!("# HELP {name} {help}.\n# TYPE {name} {kind}"));
        for stream in &report.streams {
            if let Some(value) = value(stream) {
                line(format_args!("{name}{{camera_name=\"{}\"}} {value}", escape(&stream.camera_id)));
            }
        }
    }
    line(format_args!("# HELP edgecam_acks_total Acknowledgements by kind.\n# TYPE edgecam_acks_total counter"));
    for stream in &report.streams {
        for (kind, value) in ACKS {
            if let Some(value) = value(stream) {
                let camera = escape(&stream.camera_id);
                line(format_args!("edgecam_acks_total{{camera_name=\"{camera}\",kind=\"{kind}\"}} {value}"));
            }
        }
    }
    super::looks::metrics(report, kvs_infer, &mut out);
    out
}

/// A label's value: backslash, quote and line break are escaped.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

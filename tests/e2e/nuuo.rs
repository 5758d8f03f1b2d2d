//! NUUO recorders of both dialects: what they send is what is archived and stored, picture by picture, whatever their
//! habits; and what they do to an agent that trusts them.

pub(crate) mod clip;
pub(crate) mod hostile;
pub(crate) mod server;
mod sessions;
pub(crate) mod xml;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use self::clip::Unit;
use self::server::{Camera, Dialect, Dress, Fault, Server};
use crate::harness::footage::{archived, archived_pictures, assert_ends_in_order};
use crate::harness::media::{self, Clip};
use crate::harness::{Rig, agent, rig};
use crate::sources::{assert_dumps_show, assert_same};

/// A clip, and each of its pictures decoded.
pub(crate) async fn clip(seconds: u32) -> (Arc<Vec<Unit>>, Vec<String>) {
    let file = Clip { container: "h264", ..Clip::new(seconds) }.file().await;
    let units = clip::read(&file);
    let pictures = media::decoded(&file).await;
    assert_eq!(units.len(), pictures.len());
    (units, pictures)
}

/// The source as the config has it.
pub(crate) fn source(server: &Server, path_and_query: &str) -> Value {
    let url = format!("nuuo://admin:pa%20ss@127.0.0.1:{}{path_and_query}", server.port);
    json!({ "url": url, "frame_timeout": "2s", "setup_timeout": "3s" })
}

/// One run of a clip through a recorder: archive and stream equal the clip. Returns the last report.
async fn check(test: &str, dialect: Dialect, dress: Dress, faults: &[(usize, Fault)]) -> (Value, Rig) {
    let (units, expected) = clip(6).await;
    let mut camera = Camera::new("3659174698549248", "Front Door", &units);
    camera.dress = dress;
    camera.faults = faults.iter().cloned().collect();
    let server = Server::start(dialect, vec![Camera::new("1", "Back", &units), camera]);
    let mut rig = Rig::new(test, vec![rig::camera("cam1", "nuuo", source(&server, "/Front%20Door?profile=Low"))]).await;
    rig.start();
    let wanted = expected.len() as u64;
    let is_all = |report: &Value| report["frames"].as_u64() >= Some(wanted);
    let report = rig.agent().until("cam1", "all there", Duration::from_secs(60), is_all).await;
    rig.stop_and_compare(&["cam1"]).await;
    assert_same(&format!("{test}: archived"), &archived_pictures(&rig.archive("cam1")).await, &expected);
    assert_dumps_show(&rig.kvs, "cam1", rig.scratch.path(), &expected).await;
    server.assert_well_asked();
    let log = rig.agent().log();
    assert!(
        !log.contains("pa ss") && !log.contains("pa%20ss") && !log.contains("camera-secret"),
        "a password is in the log"
    );
    (report, rig)
}

#[tokio::test]
async fn titan() {
    let (report, rig) = check("titan", Dialect::Titan, Dress::default(), &[]).await;
    assert_eq!((&report["attempts"], &report["lost"]["audio"]), (&json!(1), &json!(0)), "{report:#}");
    assert_ends_in_order(&rig.kvs.stream("cam1"));
}

/// Everything at once that is no fault.
#[tokio::test]
async fn titan_in_odd_dress() {
    let dress = Dress { padded_pps: true, audio: true, odd_case: true, no_codec: true, ..Dress::default() };
    let (report, _rig) = check("titan-odd", Dialect::Titan, dress, &[]).await;
    assert_eq!(report["lost"]["audio"], 90, "{report:#}");
    assert_eq!((&report["lost"]["malformed"], &report["lost"]["skipped_to_idr"]), (&json!(0), &json!(0)), "{report:#}");
}

#[tokio::test]
async fn crystal() {
    let (report, rig) = check("crystal", Dialect::Crystal, Dress::default(), &[]).await;
    assert_eq!(report["attempts"], 1, "{report:#}");
    assert_ends_in_order(&rig.kvs.stream("cam1"));
}

/// Pictures come in bursts, and are archived as far apart as they were captured.
#[tokio::test]
async fn crystal_in_odd_dress() {
    let dress = Dress {
        split_key_frames: true,
        padded_pps: true,
        audio: true,
        odd_case: true,
        no_codec: true,
        in_bursts: true,
        repeats: false,
    };
    let (report, rig) = check("crystal-odd", Dialect::Crystal, dress, &[]).await;
    assert_eq!(report["lost"]["audio"], 90, "{report:#}");
    let packets = archived(&rig.archive("cam1")).await;
    let steps: Vec<i64> = packets.windows(2).map(|pair| pair[1].ms - pair[0].ms).collect();
    assert!(steps.iter().all(|step| (65..=68).contains(step)), "not the times of capture: {steps:?}");
}

/// Cut between two GOPs, and inside a key frame that is sent again.
#[tokio::test]
async fn cut() {
    for (test, dialect) in [("titan-cut", Dialect::Titan), ("crystal-cut", Dialect::Crystal)] {
        let faults = [(30, Fault::Cut), (60, Fault::CutInside)];
        let (report, _rig) = check(test, dialect, Dress::default(), &faults).await;
        assert_eq!(report["attempts"], 3, "{report:#}");
    }
}

/// A recorder that keeps the connection and sends nothing, or nothing but audio.
#[tokio::test]
async fn stalled() {
    for (test, dialect) in [("titan-stall", Dialect::Titan), ("crystal-stall", Dialect::Crystal)] {
        let (report, rig) = check(test, dialect, Dress::default(), &[(45, Fault::Stall)]).await;
        assert_eq!(report["attempts"], 2, "{report:#}");
        assert_eq!(rig.agent().log_count("no picture for 2 s"), 1);
    }
}

/// The recorder's clock is set ahead by an hour and back by two: what follows is whole from an IDR on, and in order.
#[tokio::test]
async fn clock_that_jumps() {
    let faults = [(30, Fault::Jump(3600)), (60, Fault::Jump(-7200))];
    let (report, rig) = check("crystal-jump", Dialect::Crystal, Dress::default(), &faults).await;
    assert_eq!(report["attempts"], 1, "{report:#}");
    let packets = archived(&rig.archive("cam1")).await;
    assert!(packets.windows(2).all(|pair| pair[0].ms < pair[1].ms), "the times go back");
    let span = packets.last().expect("pictures").ms - packets[0].ms;
    assert!((5_000..9_000).contains(&span), "6 s of footage last {span} ms");
}

/// What a person sees when they look, and when they have mistyped.
#[tokio::test]
async fn lists_and_names() {
    let (units, _) = clip(6).await;
    let cameras = || vec![Camera::new("7", "Hall", &units), Camera::new("8", "Roof", &units)];
    for dialect in [Dialect::Titan, Dialect::Crystal] {
        let server = Server::start(dialect, cameras());
        let url = format!("nuuo://admin@127.0.0.1:{}", server.port);
        let environment = [("NVR_PASSWORD".to_owned(), "pa ss".to_owned())];
        let run = async |arguments: &[&str]| agent::run(&environment, arguments, Duration::from_secs(20)).await;
        let output = run(&["nvr", "list", &url, "--password-env", "NVR_PASSWORD"]).await;
        let text = agent::text(&output);
        assert!(
            output.status.success() && text.contains("Hall") && text.contains("Original, Low (h264/mjpeg), Minimum"),
            "{text}"
        );
        let output = run(&["nvr", "list", &url, "--password-env", "NVR_PASSWORD", "--json"]).await;
        let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (&listed["cameras"][1]["name"], &listed["cameras"][1]["id"], &listed["cameras"][1]["profiles"][1]["name"]),
            (&json!("Roof"), &json!("8"), &json!("Low")),
        );
        let mut rig = Rig::new("names", Vec::new()).await;
        rig.config["cameras"] = json!([
            { "name": "missing", "nuuo": source(&server, "/Cellar") },
            { "name": "by-id", "nuuo": source(&server, "?camera=8") },
            { "name": "wrong", "nuuo": { "url": format!("nuuo://admin:nonsense@127.0.0.1:{}/Hall", server.port) } },
        ]);
        rig.start();
        rig.agent().until_state("by-id", "streaming").await;
        let error = rig.agent().until_state("missing", "no_device").await["error"].to_string();
        assert!(error.contains("no camera `Cellar`") && error.contains("`Hall` (7)"), "{error}");
        let report = rig.agent().until_state("wrong", "auth_failed").await;
        assert_eq!(report["attempts"], 1, "{report:#}");
        rig.stop().await;
        server.assert_well_asked();
    }
}

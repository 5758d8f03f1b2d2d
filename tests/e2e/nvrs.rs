//! One config entry, many cameras: which ones, what they are called, and that none of them disturbs another.

use std::path::Path;
use std::time::{Duration, Instant};

use kvs_server::StreamSpec;
use serde_json::{Value, json};

use crate::harness::agent::{self, note};
use crate::harness::camera::RtspServer;
use crate::harness::footage::{archived, archived_pictures};
use crate::harness::media::{self, Clip};
use crate::harness::{PATIENCE, Rig, Scratch, http, is_long, poll};
use crate::nuuo::clip;
use crate::nuuo::hostile::resident;
use crate::nuuo::server::{Camera, Dialect, Server};
use crate::nuuo::xml;

fn entry(server: &Server, more: Value) -> Value {
    let mut entry = json!({
        "name": "hq",
        "nuuo": {
            "url": format!("nuuo://127.0.0.1:{}", server.port),
            "username": "admin",
            "password_env": "NVR_PASSWORD",
            "frame_timeout": "2s",
            "setup_timeout": "3s",
        },
        "refresh": "10s",
        "camera": { "archive": { "segment": "10s", "at_risk": "1s", "min_free": "1 MiB" } },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        entry[key] = value.clone();
    }
    entry
}

async fn rig(test: &str, server: &Server, more: Value) -> Rig {
    let named = |name: &str| StreamSpec { name: name.to_owned(), retention_hours: 24 };
    let streams = ["s-hq-Front-Door", "s-hq-Yard", "s-hq-Garden"].map(named);
    let mut rig = Rig::with(test, Vec::new(), |settings| settings.streams = streams.to_vec()).await;
    rig.environment.push(("NVR_PASSWORD".to_owned(), "pa ss".to_owned()));
    rig.config["nvrs"] = json!([entry(server, more)]);
    rig
}

/// The names of all cameras, and how the recorder is.
async fn look(rig: &Rig) -> Option<(Vec<String>, Value)> {
    let streams = http::get(rig.port, "/streams").await.ok()?.json();
    let name = |stream: &Value| stream["camera_id"].as_str().unwrap_or_default().to_owned();
    let names = streams["streams"].as_array()?.iter().map(name).collect();
    let health = http::get(rig.port, "/health").await.ok()?.json();
    Some((names, health["nvrs"][0].clone()))
}

async fn until_cameras(rig: &Rig, expected: &[&str], limit: Duration) {
    let mut last = None;
    let found = poll(limit, async || {
        last = look(rig).await.or(last.take());
        last.as_ref().is_some_and(|(names, _)| names == expected).then_some(())
    });
    let found = found.await.is_some();
    assert!(found, "not {expected:?} within {limit:?}: {last:?}");
}

/// Channels come, go and are renamed; a restart knows them while the recorder is away.
#[tokio::test]
async fn channels_come_and_go() {
    let (units, _) = clip(6).await;
    let camera = |id: &str, name: &str| {
        let mut camera = Camera::new(id, name, &units);
        camera.dress.repeats = true;
        camera
    };
    let server =
        Server::start(Dialect::Crystal, vec![camera("7", "Front Door"), camera("8", "Yard"), camera("9", "Cellar")]);
    let camera_settings = json!({ "archive": { "min_free": "1 MiB" }, "upload": { "stream": "s-{camera}" } });
    let mut rig = rig("channels", &server, json!({ "channels": ["*d*"], "camera": camera_settings })).await;
    rig.start();
    until_cameras(&rig, &["hq-Front-Door", "hq-Yard"], PATIENCE).await;
    rig.agent().until_state("hq-Yard", "streaming").await;
    let before = rig.agent().until_state("hq-Front-Door", "streaming").await;
    assert!(before["source"].as_str().is_some_and(|source| source.contains("camera=7")), "{before:#}");
    {
        let mut state = server.state();
        state.cameras.push(camera("10", "Garden"));
        state.cameras[0].name = "Main Door".to_owned();
        state.cameras[1].dead = true;
        state.cameras[1].name = "Cellar 2".to_owned();
    }
    until_cameras(&rig, &["hq-Front-Door", "hq-Garden"], Duration::from_secs(20)).await;
    rig.agent().until_state("hq-Garden", "streaming").await;
    rig.more_persisted("s-hq-Garden", 2).await;
    // Who stayed was not touched.
    let after = rig.agent().until_state("hq-Front-Door", "streaming").await;
    assert_eq!(after["attempts"], 1, "{after:#}");
    let (_, nvr) = look(&rig).await.expect("an answer");
    assert_eq!(rig.kvs.stream("s-hq-Front-Door").sessions.len(), 1, "its upload was begun anew");
    assert_eq!((&nvr["state"], &nvr["channels"], &nvr["cameras"]), (&json!("listed"), &json!(4), &json!(2)), "{nvr:#}");
    // A recorder that suddenly has none has not taken them down.
    let empty = xml::devices(&[]);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", empty.len());
    server.state().instead.insert("getDeviceList", [head.as_bytes(), &empty].concat());
    let failing = poll(PATIENCE, async || {
        look(&rig)
            .await
            .filter(|(_, nvr)| nvr["error"].as_str().is_some_and(|error| error.contains("lists no channel")))
    });
    let (names, _) = failing.await.expect("an empty list is said to be one");
    assert_eq!(names, ["hq-Front-Door", "hq-Garden"]);
    assert_eq!(rig.agent().until_state("hq-Front-Door", "streaming").await["attempts"], 1);
    rig.stop().await;
    server.assert_well_asked();
    drop(server);
    rig.start();
    until_cameras(&rig, &["hq-Front-Door", "hq-Garden"], PATIENCE).await;
    rig.agent().until_state("hq-Garden", "no_device").await;
    let failing = poll(PATIENCE, async || look(&rig).await.map(|(_, nvr)| nvr).filter(|nvr| nvr["state"] == "failing"));
    let nvr = failing.await.expect("the NVR is said to fail");
    assert!(nvr["error"].as_str().is_some_and(|error| error.contains("refuses connections")), "{nvr:#}");
    assert_eq!(http::get(rig.port, "/health").await.expect("an answer").status, 503);
    rig.stop().await;
}

/// A wrong password is said of the recorder, and asked about again only after a while.
#[tokio::test]
async fn a_recorder_that_does_not_list() {
    let (units, _) = clip(6).await;
    let server = Server::start(Dialect::Titan, vec![Camera::new("1", "Hall", &units)]);
    server.state().locked = true;
    let mut rig = rig("locked", &server, json!({})).await;
    rig.start();
    let failing = poll(PATIENCE, async || look(&rig).await.map(|(_, nvr)| nvr).filter(|nvr| nvr["state"] == "failing"));
    let nvr = failing.await.expect("the NVR is said to fail");
    assert!(nvr["error"].as_str().is_some_and(|error| error.contains("user name and password")), "{nvr:#}");
    assert_eq!((&nvr["attempts"], &nvr["cameras"]), (&json!(1), &json!(0)), "{nvr:#}");
    rig.stop().await;
}

/// The largest distance between two pictures of an archive, in milliseconds, and how many there are.
async fn largest_gap(archive: &Path) -> (i64, usize) {
    let packets = archived(archive).await;
    let steps = packets.windows(2).map(|pair| pair[1].ms - pair[0].ms);
    (steps.max().unwrap_or(i64::MAX), packets.len())
}

/// Many channels of one recorder: all stream within 10 s of the start; one that dies and one that freezes leave the
/// others without a gap; memory is bounded. `EDGECAM_LONG=1`: 64 of them.
#[tokio::test]
async fn many_channels() {
    let (count, limit) = if is_long() { (64, 250 << 20) } else { (16, 130 << 20) };
    let (units, _) = clip(6).await;
    let camera = |number: usize| {
        let mut camera = Camera::new(&format!("{}", 1000 + number), &format!("ch {number:02}"), &units);
        camera.dress.repeats = true;
        camera
    };
    let server = Server::start(Dialect::Crystal, (0..count).map(camera).collect());
    let mut rig = rig("many", &server, json!({ "refresh": "10s" })).await;
    let began = Instant::now();
    rig.start();
    let streaming = async || {
        let health = http::get(rig.port, "/health").await.ok()?.json();
        health["active_streams"].as_u64().filter(|streams| *streams == count as u64)
    };
    poll(PATIENCE, streaming).await.expect("all stream");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "all {count} stream after {took:?}");
    let run = if is_long() { 20 } else { 4 };
    tokio::time::sleep(Duration::from_secs(run)).await;
    {
        let mut state = server.state();
        state.cameras[1].dead = true;
        state.cameras[2].frozen = true;
    }
    rig.agent().until_state("hq-ch-01", "no_device").await;
    rig.agent().until_state("hq-ch-02", "stalled").await;
    tokio::time::sleep(Duration::from_secs(run)).await;
    {
        let mut state = server.state();
        state.cameras[1].dead = false;
        state.cameras[2].frozen = false;
    }
    rig.agent().until_state("hq-ch-01", "streaming").await;
    rig.agent().until_state("hq-ch-02", "streaming").await;
    let size = resident(rig.agent().pid());
    let cpu = cpu_seconds(rig.agent().pid());
    let lasted = began.elapsed();
    rig.stop().await;
    let mut worst = (0, 0);
    for number in (0..count).filter(|number| ![1, 2].contains(number)) {
        let (gap, pictures) = largest_gap(&rig.archive(&format!("hq-ch-{number:02}"))).await;
        assert!(pictures as u64 > 10 * run, "channel {number} has {pictures} pictures");
        worst = worst.max((gap, number));
    }
    // FILETIME says when a picture was captured; a picture that is missing shows as 133 ms.
    assert!(worst.0 < 120, "a gap of {} ms in channel {}", worst.0, worst.1);
    assert!(size < limit, "{} MiB", size >> 20);
    server.assert_well_asked();
    note(&format!(
        "{count} channels: all stream after {:.1} s, {} MiB, {:.1} % of a core, largest gap {} ms",
        took.as_secs_f64(),
        size >> 20,
        cpu / lasted.as_secs_f64() * 100.0,
        worst.0
    ));
}

/// User and system time of a process.
fn cpu_seconds(pid: rustix::process::Pid) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).expect("it runs");
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    (ticks(11) + ticks(12)) / 100.0
}

/// Recorded footage comes into an archive of its own, each picture at the time it was taken.
#[tokio::test]
async fn recorded_footage_is_fetched() {
    let file = Clip::new(8).file().await;
    let expected = media::decoded(&file).await;
    let server = RtspServer::start(0, &["--auth", "digest", "--file", &file.to_string_lossy()]).await;
    let scratch = Scratch::new("fetch");
    let password = scratch.write("password", "test\n");
    let run = async |name: &str, range: &str| {
        let directory = scratch.join(name);
        let (directory, password) = (directory.to_string_lossy(), password.to_string_lossy());
        let url = server.url();
        let arguments =
            ["archive", "fetch", &directory, &url, range, "--username", "admin", "--password-file", &password];
        agent::run(&[], &arguments, PATIENCE).await
    };
    // Up to the end of the range.
    let output = run("a", "2026-03-01T08:00:00Z/2026-03-01T08:00:04Z").await;
    let text = agent::text(&output);
    assert!(output.status.success() && text.contains("60 pictures from 2026-03-01T08:00:00"), "{text}");
    let packets = archived(&scratch.join("a")).await;
    let start: jiff::Timestamp = "2026-03-01T08:00:00Z".parse().expect("a time");
    for (index, packet) in packets.iter().enumerate() {
        let due = start.as_millisecond() + index as i64 * 1000 / 15;
        assert!((packet.ms - due).abs() <= 2, "picture {index} is {} ms off", packet.ms - due);
    }
    assert_eq!(archived_pictures(&scratch.join("a")).await, expected[..60]);
    // Up to the end of the recording, which is said to be too soon.
    let output = run("b", "2026-03-01T08:00:00Z/2026-03-01T09:00:00Z").await;
    let text = agent::text(&output);
    assert!(!output.status.success() && text.contains("it ends before 2026-03-01T09:00:00"), "{text}");
    assert_eq!(archived_pictures(&scratch.join("b")).await, expected);
    let verified = agent::run(&[], &["archive", "verify", &scratch.join("b").to_string_lossy()], PATIENCE).await;
    assert!(verified.status.success(), "{}", agent::text(&verified));
    // A directory that is in use.
    let output = run("b", "2026-03-01T08:00:00Z/2026-03-01T09:00:00Z").await;
    assert!(agent::text(&output).contains("not empty"), "{}", agent::text(&output));
}

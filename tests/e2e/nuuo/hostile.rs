//! A recorder that has been taken over: it may keep its own cameras from streaming, and nothing else.

use std::time::Duration;

use serde_json::json;

use super::server::{Camera, Dialect, Fault, Server};
use super::{clip, source};
use crate::harness::{Rig, rig};

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: rustix::process::Pid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn http(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Each recorder does one thing; a camera of a good one streams beside all of them.
#[tokio::test]
async fn one_bad_recorder_is_one_bad_recorder() {
    let (units, _) = clip(6).await;
    let laughs = "<!DOCTYPE l [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">]><l>&b;</l>";
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n<l>{}", "<x>y</x>".repeat(2 << 20));
    let deep = "<x>".repeat(1 << 20);
    let header = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(8 << 20));
    let in_list: [(&str, Vec<u8>, &str); 6] = [
        ("laughs", http(laughs), "DTD"),
        ("endless", endless.into_bytes(), "sends more than"),
        ("deep", http(&deep), "levels"),
        ("header", header.into_bytes(), "head of its answer"),
        (
            "redirect",
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "redirect",
        ),
        ("huge", b"HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\n<x>".to_vec(), "sends more than"),
    ];
    let begin = "POST /live HTTP/1.1\r\n";
    let in_stream: [(&str, Vec<u8>, &str); 4] = [
        (
            "part-huge",
            format!("{begin}Content-Type: video/H264\r\nContent-Length: 4294967296\r\n\r\n").into_bytes(),
            "more than a picture has",
        ),
        ("part-head", format!("{begin}X: {}", "y".repeat(1 << 20)).into_bytes(), "longer than it may be"),
        ("part-lines", format!("{begin}{}", "X: y\r\n".repeat(1 << 16)).into_bytes(), "more header lines"),
        (
            "part-codec",
            format!("{begin}Content-Type: video/H265\r\nContent-Length: 1\r\n\r\nx\r\n").into_bytes(),
            "video/h265",
        ),
    ];
    let mut servers = Vec::new();
    let mut cameras = Vec::new();
    for (name, answer, _) in in_list.clone() {
        let server = Server::start(Dialect::Titan, vec![Camera::new("1", "Hall", &units)]);
        server.state().instead.insert("getTitanDeviceTreeList", answer);
        cameras.push(json!({ "name": name, "archive": { "enabled": false }, "nuuo": source(&server, "/Hall") }));
        servers.push(server);
    }
    for (name, bytes, _) in in_stream.clone() {
        let mut camera = Camera::new("1", "Hall", &units);
        camera.faults.extend((0..100).map(|_| (0, Fault::Say(bytes.clone()))));
        let server = Server::start(Dialect::Crystal, vec![camera]);
        cameras.push(json!({ "name": name, "archive": { "enabled": false }, "nuuo": source(&server, "/Hall") }));
        servers.push(server);
    }
    let mut good = Camera::new("1", "Hall", &units);
    good.dress.repeats = true;
    let server = Server::start(Dialect::Crystal, vec![good]);
    cameras.push(rig::camera("good", "nuuo", source(&server, "/Hall")));
    let mut rig = Rig::new("hostile", cameras).await;
    rig.start();
    for (name, _, says) in in_list.into_iter().chain(in_stream) {
        let is_said = |report: &serde_json::Value| report["error"].as_str().is_some_and(|error| error.contains(says));
        rig.agent().until(name, says, Duration::from_secs(30), is_said).await;
    }
    rig.agent().more_frames("good", 60).await;
    let report = rig.agent().until_state("good", "streaming").await;
    assert_eq!(report["attempts"], 1, "{report:#}");
    let size = resident(rig.agent().pid());
    assert!(size < 150 << 20, "{} MiB", size >> 20);
    rig.stop().await;
}

//! README, "Two commands" and "Run it": the demo, and a door with a camera.

use std::fs;

use edgecam::config::identity;
use rustix::process::Signal;

use super::{Desk, root, service};
use crate::harness::agent::free_port;
use crate::harness::camera::RtspServer;
use crate::harness::footage::{archived_pictures, segments};
use crate::harness::{PATIENCE, http, media};

/// The alias starts the program with these words; the footage is where the page says, and plays while it is written.
#[tokio::test]
async fn demo() {
    let mut desk = Desk::new("demo");
    let aliases = fs::read_to_string(root().join(".cargo/config.toml")).expect("aliases");
    let alias = aliases.lines().find_map(|line| line.strip_prefix("demo = \"")).expect("an alias");
    let words = alias.trim_end_matches('"').strip_prefix("run --quiet --package edgecam -- ").expect("it runs edgecam");
    let port = free_port();
    desk.instead("cargo demo", format!("edgecam {words} --listen 127.0.0.1:{port}"));
    let mut agent = desk.start("cargo demo", port);
    agent.until("demo", "recorded", PATIENCE, |report| report["gops"].as_u64() > Some(2)).await;
    let page = http::get(port, "/").await.expect("a page");
    assert!(page.status == 200 && page.body.contains("</html>"), "{}", page.head);
    let archive = desk.scratch.join("edgecam-demo/demo");
    let newest = segments(&archive).pop().expect("a segment").display().to_string();
    let probe = ["-v", "error", "-count_frames", "-show_entries", "stream=codec_name,nb_read_frames", "-of", "csv=p=0"];
    let seen = media::tool("ffprobe", &[&probe[..], &[&newest]].concat()).await;
    let frames = seen.trim().strip_prefix("h264,").and_then(|frames| frames.parse::<u32>().ok());
    assert!(frames.is_some_and(|frames| frames > 0), "{seen}");
    agent.signal(Signal::INT);
    assert!(agent.exit(PATIENCE).await.success(), "{}", agent.log_tail());
    assert!(archived_pictures(&archive).await.len() > 15);
}

#[tokio::test]
async fn door() {
    let mut desk = Desk::new("door");
    // What is built is looked at by `tests/tidy`: here it is the tests' own.
    desk.stand_in("cargo", "[ \"$*\" = 'build --release' ]\nmkdir -p target/release\ncp bin/edgecam target/release/");
    desk.stand_in("sudo", "exec \"$@\"");
    desk.instead("/usr/local/bin/", format!("{}/", desk.scratch.join("usr/local/bin").display()));
    fs::create_dir_all(desk.scratch.join("usr/local/bin")).expect("made");
    desk.run("cargo build --release && sudo install target/release/edgecam /usr/local/bin/").await;
    fs::remove_file(desk.scratch.join("bin/edgecam")).expect("removed");
    fs::rename(desk.scratch.join("usr/local/bin/edgecam"), desk.scratch.join("bin/edgecam")).expect("it is installed");

    let thing = identity::thing();
    let stream = format!("{thing}-door");
    let kvs = service(&mut desk, &[&stream], |_| ()).await;
    let server = RtspServer::start(0, &["--size", "320x180", "--auth", "digest"]).await;
    let port = free_port();
    fs::write(desk.scratch.join("door.password"), "test\n").expect("written");
    desk.instead("rtsp://10.0.0.7/Streaming/Channels/101", server.url());
    desk.instead("/etc/edgecam/", format!("{}/", desk.scratch.path().display()));
    desk.config("README.md", "  - name: door\n    rtsp:\n", &format!("http: {{listen: \"127.0.0.1:{port}\"}}\n"));

    let said = desk.run("edgecam check --config edgecam.yaml").await;
    for wanted in ["320x180", &format!("stream {stream}: active"), "config: 1 cameras"] {
        assert!(said.contains(wanted), "no `{wanted}` in: {said}");
    }
    let said = desk.forms("edgecam check --config FILE [--offline] [--json]", &[("FILE", "edgecam.yaml")]).await;
    let report: serde_json::Value = serde_json::from_str(&said[1]).expect("JSON");
    assert!(said[0].contains(&stream) && report["ok"] == true, "{said:?}");

    let mut agent = desk.start("edgecam run --config edgecam.yaml", port);
    agent.until_state("door", "streaming").await;
    kvs.wait_persisted(&stream, 3, PATIENCE).await.expect("it is uploaded");
    let health = http::get(port, "/health").await.expect("an answer").json();
    assert_eq!(health["active_streams"], 1, "{health:#}");
    agent.stop().await;

    let archive = desk.scratch.join("state/door");
    let pictures = archived_pictures(&archive).await.len();
    let (place, cut) = (archive.display().to_string(), desk.scratch.join("cut.mp4"));
    let range = format!("2020-01-01T00:00:00Z/2100-01-01T00:00:00Z {}", cut.display());
    desk.instead(&format!("archive export {place}"), format!("archive export {place} {range}"));
    let said = desk.form("edgecam archive list|export|verify DIR …", false, &[("DIR", &place)]).await;
    assert!(said[0].contains("segments, ") && said[2].contains(", 0 damaged"), "{said:?}");
    assert_eq!(media::decoded(&cut).await.len(), pictures, "{said:?}");
}

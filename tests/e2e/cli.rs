//! The command line, and the signals of a running agent.

use std::time::{Duration, Instant};

use kvs_server::{At, Config, Credentials, Fault, FaultKind, KvsServer, StreamSpec};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::agent::{self, text};
use crate::harness::footage::{archived, assert_ends_in_order, assert_well_behaved, stored};
use crate::harness::media::{self, Clip};
use crate::harness::rig::{camera, environment, looping};
use crate::harness::{PATIENCE, Rig, Scratch};

/// `edgecam check`: exit code, and what it says.
#[tokio::test]
async fn check() {
    let clip = Clip::new(10).file().await;
    let rig = Rig::new("check", vec![looping("good", &clip)]).await;
    let mut broken = rig.environment.clone();
    broken
        .iter_mut()
        .filter(|(name, _)| name == "AWS_SECRET_ACCESS_KEY")
        .for_each(|(_, value)| *value = "wrong".to_owned());
    let dead = camera("dead", "rtsp", json!({ "url": "rtsp://127.0.0.1:1/cam1", "setup_timeout": "2s" }));
    let lost = looping("no-such-stream", &clip);
    let one = async |name: &str, cameras: Value, environment: &[(String, String)], code: i32, words: &[&str]| {
        let mut config = rig.config.clone();
        config["cameras"] = cameras;
        config["state_dir"] = json!(rig.scratch.join(name));
        let path = rig.scratch.write(&format!("{name}.yaml"), config.to_string());
        let path = path.to_string_lossy();
        let output = agent::run(environment, &["check", "--config", &path], PATIENCE).await;
        let text = text(&output);
        assert_eq!(output.status.code(), Some(code), "{name}: {text}");
        for word in words {
            assert!(text.contains(word), "{name}: no `{word}` in: {text}");
        }
    };
    let good = json!([looping("good", &clip)]);
    let environment = &rig.environment;
    tokio::join!(
        one("good", good.clone(), environment, 0, &["320x180", "stream good: active", "GOP 1.0 s"]),
        one("dead", json!([dead]), environment, 1, &["FAIL  dead: rtsp://127.0.0.1:1/cam1"]),
        one(
            "lost",
            json!([lost]),
            environment,
            1,
            &["FAIL  stream no-such-stream", "does not exist", "create_streams"]
        ),
        one("secret", good.clone(), &broken, 1, &["FAIL  stream good", "403", "kinesisvideo:DescribeStream"]),
    );
    let path = rig.write_config();
    let path = path.to_string_lossy();
    let output = agent::run(environment, &["check", "--json", "--config", &path], PATIENCE).await;
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    assert!(
        report["ok"] == true && report["findings"].as_array().is_some_and(|findings| findings.len() > 4),
        "{report:#}"
    );
    let output = agent::run(&[], &["check", "--offline", "--config", &path], PATIENCE).await;
    assert!(output.status.success(), "{}", text(&output));
}

/// A config that cannot be used: exit code 78, with file, line, key and the nearest key.
#[tokio::test]
async fn wrong_config() {
    let scratch = Scratch::new("config");
    for (name, content, words) in [
        ("typo", "cameras:\n  - name: a\n    test_patern: {}\n", &["line 3", "test_patern", "test_pattern"][..]),
        (
            "deep",
            "cameras:\n  - name: a\n    test_pattern: {}\n    archive:\n      segmnt: 1m\n",
            &["line 5", "segmnt", "segment"],
        ),
        (
            "value",
            "cameras:\n  - name: a\n    test_pattern: {}\n    archive: {segment: soon}\n",
            &["line 4", "soon", "10s"],
        ),
        ("source", "cameras:\n  - name: a\n", &["cameras.a", "no source"]),
        ("syntax", "cameras: [\n", &["syntax.yaml"]),
    ] {
        let path = scratch.write(&format!("{name}.yaml"), content);
        let path = path.to_string_lossy();
        for command in ["check", "run"] {
            let output = agent::run(&[], &[command, "--config", &path], PATIENCE).await;
            let text = text(&output);
            assert_eq!(output.status.code(), Some(78), "{command} {name}: {text}");
            for word in words.iter().chain(&[&*format!("{name}.yaml")]) {
                assert!(text.contains(word), "{command} {name}: no `{word}` in: {text}");
            }
        }
    }
    let output = agent::run(&[], &["run", "--config", "/no/such/file"], PATIENCE).await;
    assert_eq!(output.status.code(), Some(78), "{}", text(&output));
}

#[tokio::test]
async fn schema() {
    let output = agent::run(&[], &["schema"], PATIENCE).await;
    let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for key in ["cameras", "state_dir", "aws", "http"] {
        assert!(schema["properties"][key].is_object(), "no {key} in {schema:#}");
    }
}

#[tokio::test]
async fn archive() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("archive", vec![looping("cam1", &clip)]).await;
    rig.config["cameras"][0]["archive"]["segment"] = json!("3s");
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", 130).await;
    let directory = rig.archive("cam1");
    let place = directory.to_string_lossy();
    // A running agent is not disturbed by someone who looks.
    let output = agent::run(&[], &["archive", "list", &place], PATIENCE).await;
    assert!(output.status.success() && text(&output).contains("segments, "), "{}", text(&output));
    rig.stop().await;
    let all = archived(&directory).await;
    let output = agent::run(&[], &["archive", "verify", &place], PATIENCE).await;
    let (found, wanted) = (text(&output), format!("{} frames", all.len()));
    assert!(output.status.success() && found.contains(&wanted) && found.contains(", 0 damaged"), "{wanted}: {found}");
    // From the IDR before the start to the end, over the seams of segments; the last GOP may be whole.
    let (start, end) = (all[20].ms + 5, all[100].ms + 5);
    let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).expect("a time").to_string();
    for (name, range) in [("millis", format!("{start}/{end}")), ("rfc3339", format!("{}/{}", time(start), time(end)))] {
        let cut = rig.scratch.join(format!("{name}.mp4"));
        let output = agent::run(&[], &["archive", "export", &place, &range, &cut.to_string_lossy()], PATIENCE).await;
        let hashes = |packets: &[media::Packet]| packets.iter().map(|packet| packet.hash.clone()).collect::<Vec<_>>();
        let found = media::packets(&cut).await;
        assert!((86..=90).contains(&found.len()), "{name}: {}", text(&output));
        assert!(
            output.status.success() && text(&output).contains(&format!("{} frames", found.len())),
            "{}",
            text(&output)
        );
        assert_eq!(hashes(&found), hashes(&all[15..15 + found.len()]), "{name}");
        assert_eq!(media::decoded(&cut).await.len(), found.len(), "{name}");
    }
    let nothing = rig.scratch.join("nothing.mp4");
    let range = "2001-01-01T00:00:00Z/2001-01-01T00:00:01Z";
    let output = agent::run(&[], &["archive", "export", &place, range, &nothing.to_string_lossy()], PATIENCE).await;
    assert!(!output.status.success() && text(&output).contains("no footage"), "{}", text(&output));
    // Damage is found and named.
    let segment = crate::harness::footage::segments(&directory).remove(0);
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 2_000].fill(0xA5);
    std::fs::write(&segment, bytes).expect("it is written");
    let output = agent::run(&[], &["archive", "verify", &place], PATIENCE).await;
    let name = segment.file_name().expect("a name").to_string_lossy();
    assert!(!output.status.success() && text(&output).contains(&*name), "{}", text(&output));
}

async fn service(scratch: &Scratch) -> (KvsServer, Credentials) {
    let mut settings = Config::new(scratch.join("kvs"));
    settings.streams = vec![StreamSpec { name: "door".to_owned(), retention_hours: 1 }];
    let credentials = settings.credentials[0].clone();
    (KvsServer::start(settings).await.expect("the service starts"), credentials)
}

#[tokio::test]
async fn upload_for_some_seconds() {
    let clip = Clip::new(10).file().await;
    let scratch = Scratch::new("upload");
    let (kvs, credentials) = service(&scratch).await;
    let environment = environment(&kvs, Some(&credentials));
    let output =
        agent::run(&environment, &["upload", &clip.to_string_lossy(), "door", "--seconds", "4"], PATIENCE).await;
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let record = kvs.stream("door");
    assert_well_behaved(&record);
    assert_ends_in_order(&record);
    let count = stored(&record).len();
    assert!((45..=65).contains(&count) && said.contains(&format!("{count} frames")), "{count} stored: {said}");
}

/// What is wrong is said at once, with the call and the service's reason.
#[tokio::test]
async fn upload_that_is_refused() {
    let clip = Clip::new(10).file().await;
    let clip = clip.to_string_lossy();
    let scratch = Scratch::new("upload-refused");
    let (kvs, credentials) = service(&scratch).await;
    let wrong = Credentials::new(credentials.access_key.clone(), "not the secret");
    for (what, credentials, arguments, words) in [
        (
            "wrong secret",
            Some(&wrong),
            vec!["upload", &*clip, "door"],
            &["403", "kinesisvideo:DescribeStream", "door"][..],
        ),
        ("no such stream", Some(&credentials), vec!["upload", &*clip, "window"], &["window", "does not exist"]),
        ("no credentials", None, vec!["upload", &*clip, "door"], &["credentials"]),
        ("no such file", Some(&credentials), vec!["upload", "/no/such.mp4", "door"], &["/no/such.mp4"]),
    ] {
        let environment = environment(&kvs, credentials);
        let began = Instant::now();
        let output = agent::run(&environment, &arguments, PATIENCE).await;
        let (said, took) = (text(&output), began.elapsed());
        assert!(!output.status.success(), "{what}: {said}");
        for word in words {
            assert!(said.contains(word), "{what}: no `{word}` in: {said}");
        }
        assert!(took < Duration::from_secs(5), "{what}: said after {took:?}");
    }
}

/// SIGTERM while the service is there, silent or away.
#[tokio::test]
async fn stop() {
    let clip = Clip::new(10).file().await;
    for what in ["there", "silent", "away"] {
        let mut rig = Rig::new(&format!("stop-{what}"), vec![looping("cam1", &clip)]).await;
        rig.start();
        rig.more_persisted("cam1", 2).await;
        match what {
            "silent" => {
                rig.kvs.fault(Fault::always(FaultKind::Silent { at: At::Bytes(0), read: true }));
            }
            "away" => rig.kvs.stop().await.expect("stopped"),
            _ => {}
        }
        let took = rig.stop().await;
        assert!(took < Duration::from_millis(5_000), "{what}: it took {took:?} to stop");
        let archived = archived(&rig.archive("cam1")).await;
        assert!(archived.len() >= 30, "{what}: the archive is complete");
    }
}

/// SIGHUP: what did not change goes on, what is new begins, what is broken changes nothing.
#[tokio::test]
async fn reload() {
    let clip = Clip::new(10).file().await;
    let mut rig = Rig::new("reload", vec![looping("one", &clip), looping("two", &clip)]).await;
    rig.kvs.create_stream("three", 1);
    rig.start();
    rig.more_persisted("one", 2).await;
    rig.more_persisted("two", 1).await;
    // Broken.
    rig.scratch.write("edgecam.yaml", "cameras: 7\n");
    rig.agent().signal(Signal::HUP);
    let log = |rig: &Rig, text: &str| rig.agent().log_count(text);
    let refused = crate::harness::poll(PATIENCE, async || (log(&rig, "old one stays in force") == 1).then_some(()));
    assert!(refused.await.is_some(), "the broken config is not refused");
    rig.more_persisted("one", 2).await;
    rig.more_persisted("two", 2).await;
    // One camera goes, one stays, one comes.
    rig.config["cameras"] = json!([looping("one", &clip), looping("three", &clip)]);
    rig.write_config();
    rig.agent().signal(Signal::HUP);
    rig.more_persisted("three", 2).await;
    rig.more_persisted("one", 2).await;
    assert!(rig.agent().report("two").await.is_none(), "it is gone");
    rig.caught_up("one", PATIENCE).await;
    rig.caught_up("three", PATIENCE).await;
    rig.stop_and_compare(&["one", "two", "three"]).await;
    for name in ["one", "two", "three"] {
        let record = rig.kvs.stream(name);
        assert_eq!(record.sessions.len(), 1, "{name}: the session was left alone");
        assert_ends_in_order(&record);
    }
}

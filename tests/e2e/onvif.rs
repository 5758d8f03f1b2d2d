//! ONVIF devices: found, asked, and their streams archived and stored.

pub(crate) mod device;

use std::time::Duration;

use serde_json::{Value, json};

use self::device::Device;
use crate::harness::camera::RtspServer;
use crate::harness::footage::{archived_pictures, assert_ends_in_order};
use crate::harness::{PATIENCE, Rig, Scratch, agent, http, poll, rig};
use crate::sources::assert_dumps_show;

fn source(device: &Device, more: Value) -> Value {
    let mut source = json!({
        "url": format!("onvif://admin:test@127.0.0.1:{}", device.port),
        "setup_timeout": "3s",
        "frame_timeout": "3s",
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        source[key] = value.clone();
    }
    source
}

/// A device and the RTSP server behind it.
async fn start(server: &[&str]) -> (Device, RtspServer) {
    let server = RtspServer::start(0, &[&["--size", "320x180", "--auth", "digest"], server].concat()).await;
    (Device::start(server.port).await, server)
}

/// What the device's stream shows is archived and stored.
async fn check(test: &str, change: impl FnOnce(&mut device::State), server: &[&str], more: Value) -> (Device, Value) {
    let (device, _server) = start(server).await;
    change(&mut device.state());
    let mut rig = Rig::new(test, vec![rig::camera("cam1", "onvif", source(&device, more))]).await;
    rig.start();
    rig.agent().until_state("cam1", "streaming").await;
    rig.agent().more_frames("cam1", 60).await;
    let report = rig.caught_up("cam1", Duration::from_secs(30)).await;
    assert_eq!(report["attempts"], 1, "{report:#}");
    rig.stop_and_compare(&["cam1"]).await;
    let pictures = archived_pictures(&rig.archive("cam1")).await;
    assert!(pictures.len() >= 60);
    assert_dumps_show(&rig.kvs, "cam1", rig.scratch.path(), &pictures).await;
    assert_ends_in_order(&rig.kvs.stream("cam1"));
    let refused = device.state().refused.clone();
    assert!(refused.is_empty(), "{refused:?}");
    let log = rig.agent().log();
    assert!(!log.contains("test@") && !log.contains("secret"), "a password is in the log");
    (device, report)
}

/// A device whose clock is an hour behind, and that gives an address which nobody can reach.
#[tokio::test]
async fn media2_with_another_clock() {
    let (device, _) = check("onvif-media2", |state| state.skew = -3600, &[], json!({})).await;
    let calls = device.state().calls.clone();
    let stream = calls.iter().filter(|call| call.starts_with("GetStreamUri /onvif/media2"));
    assert_eq!((calls[0].as_str(), stream.count()), ("GetSystemDateAndTime /onvif/device_service", 1), "{calls:?}");
}

#[tokio::test]
async fn media1_by_capabilities() {
    let change = |state: &mut device::State| {
        (state.is_new, state.has_clock) = (false, false);
    };
    check("onvif-media1", change, &[], json!({ "profile": "sub" })).await;
}

/// Devices that name a Media2 service which is not there, or know no GetServices, and say so by no fault.
#[tokio::test]
async fn media1_where_nothing_else_answers() {
    for (test, is_new) in [("onvif-no-media2", true), ("onvif-no-services", false)] {
        let change = |state: &mut device::State| {
            (state.is_new, state.has_media2, state.is_terse) = (is_new, false, true);
        };
        check(test, change, &[], json!({})).await;
    }
}

#[tokio::test]
async fn h265_by_media2() {
    let change = |state: &mut device::State| state.profiles[1].3 = "H265";
    let (_, report) = check("onvif-h265", change, &["--codec", "h265"], json!({ "profile": "MAINSTREAM" })).await;
    assert!(report["video"]["codec"].as_str().is_some_and(|codec| codec.starts_with("hvc1")), "{report:#}");
}

/// Each mistake has a message of its own, and a wrong password is not tried again at once.
#[tokio::test]
async fn mistakes() {
    let (device, _server) = start(&[]).await;
    let clock = Device::start(1).await;
    (clock.state().has_clock, clock.state().skew) = (false, 3600);
    let hostile = Device::start(1).await;
    hostile.state().instead = Some(b"<!DOCTYPE l [<!ENTITY a \"ha\">]><l>&a;</l>".to_vec());
    let no_rtsp = Device::start(1).await;
    no_rtsp.state().stream = "http://127.0.0.1/mjpeg".to_owned();
    let camera = |name: &str, device: &Device, more: Value| json!({ "name": name, "archive": { "enabled": false }, "onvif": source(device, more) });
    let wrong = json!({ "url": format!("onvif://admin:nonsense@127.0.0.1:{}", device.port) });
    let nobody = json!({ "url": format!("onvif://127.0.0.1:{}", device.port) });
    let path = json!({ "url": format!("onvif://admin:test@127.0.0.1:{}/other", device.port) });
    let cases = [
        ("wrong", camera("wrong", &device, wrong), "auth_failed", "separate list of users"),
        ("nobody", camera("nobody", &device, nobody), "auth_failed", "none are configured"),
        ("clock", camera("clock", &clock, json!({})), "auth_failed", "does not tell its time"),
        (
            "missing",
            camera("missing", &device, json!({ "profile": "fourth" })),
            "no_device",
            "no profile that is `fourth`; it has `p_jpeg`",
        ),
        ("source", camera("source", &device, json!({ "source": "v9" })), "no_device", "none of that video source"),
        ("hostile", camera("hostile", &hostile, json!({})), "no_device", "DTD"),
        ("no-rtsp", camera("no-rtsp", &no_rtsp, json!({})), "no_device", "no rtsp"),
        ("path", camera("path", &device, path), "streaming", ""),
    ];
    let mut rig = Rig::new("onvif-mistakes", Vec::new()).await;
    rig.config["cameras"] = cases.iter().map(|(_, camera, ..)| camera.clone()).collect();
    rig.start();
    for (name, _, state, says) in cases {
        let report = rig.agent().until_state(name, state).await;
        let error = report["error"].as_str().unwrap_or_default();
        assert!(error.contains(says), "{name}: {error}");
        assert!(state != "auth_failed" || report["attempts"] == 1, "{report:#}");
    }
    rig.stop().await;
}

/// Two video sources are two cameras; `nvr list` shows what there is.
#[tokio::test]
async fn several_sources() {
    let (device, _server) = start(&[]).await;
    device.state().profiles.push(("p_two", "other", "v1", "H264", 1280));
    let scratch = Scratch::new("onvif-list");
    let password = scratch.write("password", "test\n");
    let url = format!("onvif://admin@127.0.0.1:{}", device.port);
    let password = password.to_string_lossy();
    let run = async |more: &[&str]| {
        let arguments = [&["nvr", "list", &url, "--password-file", &password], more].concat();
        agent::run(&[], &arguments, Duration::from_secs(20)).await
    };
    let output = run(&["--json"]).await;
    let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let last = &listed["profiles"][3];
    assert_eq!(
        (&last["token"], &last["source"], &last["width"]),
        (&json!("p_two"), &json!("v1"), &json!(1280)),
        "{listed:#}"
    );
    assert_eq!(last["snapshot"], "http://127.0.0.1/snapshot.jpg", "{listed:#}");
    assert!(last["stream"].as_str().is_some_and(|url| url.starts_with("rtsp://127.0.0.1:")), "{listed:#}");
    let text = agent::text(&run(&[]).await);
    assert!(text.contains("p_main  mainStream  H264 1920x960  rtsp://127.0.0.1:"), "{text}");
    let mut rig = Rig::new("onvif-sources", Vec::new()).await;
    rig.config["nvrs"] = json!([{ "name": "dual", "onvif": source(&device, json!({ "profile": "main" })) }]);
    rig.start();
    let cameras = poll(PATIENCE, async || {
        let streams = http::get(rig.port, "/streams").await.ok()?.json();
        (streams["count"] == 2).then_some(streams)
    });
    cameras.await.expect("two cameras");
    rig.agent().until_state("dual-v0", "streaming").await;
    rig.agent().until_state("dual-v1", "streaming").await;
    rig.stop().await;
}

/// A device in the network answers the probe; what is no answer to it is passed over.
#[tokio::test]
async fn discovery() {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
    socket.set_reuse_address(true).expect("set");
    socket.set_nonblocking(true).expect("set");
    let group = std::net::Ipv4Addr::new(239, 255, 255, 250);
    let loopback = std::net::Ipv4Addr::LOCALHOST;
    socket.bind(&std::net::SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, 3702)).into()).expect("bound");
    socket.join_multicast_v4(&group, &loopback).expect("joined");
    let socket = tokio::net::UdpSocket::from_std(socket.into()).expect("a socket");
    let answering = async {
        let mut buffer = vec![0; 8192];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.expect("a probe");
            let probe = String::from_utf8_lossy(&buffer[..length]).into_owned();
            assert!(probe.contains("discovery/Probe") && probe.contains("NetworkVideoTransmitter"), "{probe}");
            let id =
                probe.split("MessageID>").nth(1).and_then(|rest| rest.split('<').next()).expect("an id").to_owned();
            let answer = |relates_to: &str, name: &str| {
                format!(
                    "<e:Envelope xmlns:e=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"a\" xmlns:d=\"d\"><e:Header>\
                     <a:RelatesTo>{relates_to}</a:RelatesTo></e:Header><e:Body><d:ProbeMatches><d:ProbeMatch>\
                     <a:EndpointReference><a:Address>urn:uuid:{name}</a:Address></a:EndpointReference>\
                     <d:Scopes>onvif://www.onvif.org/name/{name}</d:Scopes>\
                     <d:XAddrs>http://192.0.2.7/onvif/device_service</d:XAddrs></d:ProbeMatch></d:ProbeMatches></e:Body>\
                     </e:Envelope>"
                )
            };
            for text in [answer(&id, "Gate"), answer("urn:uuid:other", "Stranger"), "nonsense".to_owned()] {
                socket.send_to(text.as_bytes(), from).await.expect("sent");
            }
        }
    };
    let asking = agent::run(&[], &["discover", "--seconds", "1", "--interface", "127.0.0.1", "--json"], PATIENCE);
    let output = tokio::select! {
        output = asking => output,
        () = answering => unreachable!("it answers until it is dropped"),
    };
    let text = agent::text(&output);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(found["devices"].as_array().map(Vec::len), Some(1), "{found:#}");
    assert_eq!(
        (&found["devices"][0]["name"], &found["devices"][0]["from"]),
        (&json!("Gate"), &json!("127.0.0.1")),
        "{found:#}"
    );
}

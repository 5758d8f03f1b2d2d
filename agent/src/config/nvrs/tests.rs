use super::*;
use crate::config::parse;

fn channel(id: &str, name: &str) -> Channel {
    let (id, name) = (id.to_owned(), name.to_owned());
    Channel { id, name, ..Channel::default() }
}

const NUUO: &str =
    "nvrs:\n  - name: hq\n    nuuo: {url: nuuo://admin:pw@10.0.0.9}\n    camera: {upload: {stream: 's-{camera}'}}\n";

fn names(config: &Config) -> Vec<&str> {
    config.cameras.iter().map(|camera| camera.name.as_str()).collect()
}

#[test]
fn cameras_are_named_after_channels_and_keep_their_names() {
    let mut config = parse(NUUO).expect("valid");
    assert!(config.cameras.is_empty());
    let list = |config: &mut Config, channels: &[(&str, &str)]| {
        let found = channels.iter().map(|(id, name)| channel(id, name)).collect();
        config.nvrs[0].listing.take("hq", Some(NuuoDialect::Crystal), found);
        config.expand_nvrs();
    };
    list(&mut config, &[("1", "Front Door"), ("2", "Höhle/3"), ("3", ""), ("4", "front  door"), ("5", "...")]);
    let first = ["hq-Front-Door", "hq-H-hle-3", "hq-3", "hq-front-door", "hq-5"];
    assert_eq!(names(&config), first);
    let camera = &config.cameras[0];
    assert_eq!(camera.upload.as_ref().map(|upload| upload.stream.as_str()), Some("s-hq-Front-Door"));
    assert!(camera.archive.as_ref().is_some_and(|archive| archive.directory.ends_with("hq-Front-Door")));
    let Source::Nuuo(nuuo) = &camera.source else { panic!("nuuo") };
    assert_eq!(
        (nuuo.camera.exact.clone(), nuuo.dialect),
        (Some((String::new(), "1".to_owned())), Some(NuuoDialect::Crystal))
    );
    // One is renamed, one goes, one comes; and the one that went comes back under another name.
    config.cameras[0].switches.recording = false;
    list(&mut config, &[("1", "Back Door"), ("2", "x"), ("4", "y"), ("5", "z"), ("6", "Front Door")]);
    let kept = ["hq-Front-Door", "hq-H-hle-3", "hq-3", "hq-front-door", "hq-5", "hq-6-Front-Door"];
    assert_eq!(names(&config), kept);
    assert!(config.nvrs[0].listing.misses_some());
    for _ in 0..2 {
        list(&mut config, &[("1", "Back Door"), ("2", "x"), ("4", "y"), ("5", "z"), ("6", "Front Door")]);
    }
    assert_eq!(names(&config), ["hq-Front-Door", "hq-H-hle-3", "hq-front-door", "hq-5", "hq-6-Front-Door"]);
    assert!(!config.nvrs[0].listing.misses_some());
    assert!(!config.cameras[0].switches.recording);
    // Only lists in a row count.
    for _ in 0..3 {
        list(&mut config, &[("2", "x"), ("3", "Hall"), ("4", "y"), ("5", "z"), ("6", "Front Door")]);
        list(&mut config, &[("1", "Back Door"), ("3", "Hall")]);
    }
    assert_eq!(names(&config), kept);
    for _ in 0..3 {
        list(&mut config, &[("3", "Hall")]);
    }
    assert_eq!(names(&config), ["hq-3"]);
    // Over a restart.
    let text = serde_json::to_vec(&config.nvrs[0].listing).expect("JSON");
    assert_eq!(serde_json::from_slice::<Listing>(&text).expect("a listing"), config.nvrs[0].listing);
}

#[test]
fn listings_of_earlier_versions_are_read_and_new_ones_are_bounded() {
    let text = r#"{"channels": [{"server": "", "id": "0", "name": "Roof", "camera": "hq-Roof", "is_there": true}]}"#;
    let mut listing: Listing = serde_json::from_str(text).expect("a listing");
    assert!(listing.count() == 1 && !listing.misses_some());
    // The one that is missing keeps its place until it is gone.
    let many: Vec<Channel> = (1..=MOST_CHANNELS).map(|number| channel(&number.to_string(), "")).collect();
    for expected in [true, true, false] {
        listing.take("hq", None, many.clone());
        assert_eq!((listing.count(), listing.misses_some()), (MOST_CHANNELS, expected));
    }
    assert_eq!(listing.channels.iter().filter(|channel| channel.is_there && channel.id == "0").count(), 0);
}

#[test]
fn rules_choose_channels() {
    let check = |channels: &str, expected: &[&str]| {
        let text = NUUO.replace("    camera:", &format!("    channels: {channels}\n    camera:"));
        let mut config = parse(&text).expect("valid");
        let found = [("17", "Hall north"), ("18", "Hall south"), ("19", "Roof")].map(|(id, name)| channel(id, name));
        config.nvrs[0].listing.take("hq", None, found.to_vec());
        config.expand_nvrs();
        assert_eq!(names(&config), expected, "{channels}");
    };
    check("all", &["hq-Hall-north", "hq-Hall-south", "hq-Roof"]);
    check("hall*", &["hq-Hall-north", "hq-Hall-south"]);
    check("['*n*th', 19]", &["hq-Hall-north", "hq-Roof"]);
    check("[ROOF, Cellar]", &["hq-Roof"]);
    check("'*south'", &["hq-Hall-south"]);
    check("hall", &[]);
}

#[test]
fn numbers_make_cameras_at_once() {
    let text = |channels: &str, url: &str| {
        format!(
            "thing: gw\nnvrs: [{{name: yard, channels: {channels}, rtsp: {{url: '{url}'}}, camera: {{upload: {{}}}}}}]\n"
        )
    };
    let url = "rtsp://admin:pw@10.0.0.9/Streaming/Channels/{channel}02";
    let config = parse(&text("'1-3,7'", url)).expect("valid");
    assert_eq!(names(&config), ["yard-1", "yard-2", "yard-3", "yard-7"]);
    let Source::Rtsp(rtsp) = &config.cameras[3].source else { panic!("rtsp") };
    assert_eq!(rtsp.url.as_str(), "rtsp://10.0.0.9/Streaming/Channels/702");
    assert_eq!(config.cameras[3].upload.as_ref().map(|upload| upload.stream.as_str()), Some("gw-yard-7"));
    assert_eq!(names(&parse(&text("[1, '4-5']", url)).expect("valid")).len(), 3);
    for (channels, url, says) in [
        ("all", url, "nvrs.yard.channels"),
        ("'5-1'", url, "`5-1`"),
        ("'1-9999'", url, "`1-9999`"),
        ("1", "rtsp://10.0.0.9/1", "{channel}"),
    ] {
        let error = parse(&text(channels, url)).expect_err("must be refused").to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn names_and_streams_are_not_shared() {
    let text = format!(
        "{NUUO}cameras: [{{name: hq-Roof, test_pattern: {{}}}}, {{name: x, test_pattern: {{}}, upload: {{stream: s-hq-Hall}}}}]\n"
    );
    let mut config = parse(&text).expect("valid");
    config.nvrs[0].listing.take("hq", None, vec![channel("1", "Roof"), channel("2", "Hall"), channel("3", "Yard")]);
    config.expand_nvrs();
    assert_eq!(names(&config), ["hq-Roof", "x", "hq-Yard"]);
    for (text, says) in [
        ("nvrs: [{name: a}]", "give one of"),
        ("nvrs: [{name: a/b, nuuo: {url: nuuo://h}}]", "a/b"),
        ("nvrs: [{name: a, nuuo: {url: nuuo://h/Roof}}]", "names a camera"),
        ("nvrs: [{name: a, nuuo: {url: nuuo://h}, camera: {upload: {stream: x}}}]", "{camera}"),
        ("nvrs: [{name: a, nuuo: {url: nuuo://h}}, {name: a, nuuo: {url: nuuo://h}}]", "two NVRs"),
    ] {
        let error = parse(text).expect_err("must be refused").to_string();
        assert!(error.contains(says), "{error}");
    }
}

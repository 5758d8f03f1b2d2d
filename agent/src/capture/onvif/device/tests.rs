use super::*;
use crate::config;
use crate::config::source::Source;

fn settings(keys: &str) -> Onvif {
    let config =
        config::parse(&format!("cameras: [{{name: a, onvif: {{url: 'onvif://cam', {keys}}}}}]")).expect("valid");
    match config.cameras.into_iter().next().map(|camera| camera.source) {
        Some(Source::Onvif(onvif)) => onvif,
        other => panic!("{other:?}"),
    }
}

#[test]
fn profiles_are_chosen() {
    let profile = |token: &str, name: &str, source: &str, encoding: &str, width: u32| MediaProfile {
        token: token.to_owned(),
        name: name.to_owned(),
        source: source.to_owned(),
        encoding: encoding.to_owned(),
        width,
        height: width / 2,
    };
    let profiles = [
        profile("p0", "jpeg", "v0", "JPEG", 4000),
        profile("p1", "sub", "v0", "H264", 640),
        profile("p2", "mainStream", "v0", "H265", 1920),
        profile("p3", "again", "v0", "H264", 1920),
        profile("p4", "third", "v0", "H264", 320),
        profile("p5", "other", "v1", "H264", 1280),
    ];
    for (keys, expected) in [
        ("", Ok("p2")),
        ("profile: main", Ok("p2")),
        ("profile: sub", Ok("p4")),
        ("profile: P1", Ok("p1")),
        ("profile: MAINSTREAM", Ok("p2")),
        ("profile: jpeg", Ok("p0")),
        ("source: v1", Ok("p5")),
        ("source: v1, profile: sub", Err("is `sub`; it has `p5` (other, H264 1280x640)")),
        ("source: v2", Err("none of that video source")),
        ("profile: p5, source: v0", Err("`p0` (jpeg, JPEG 4000x2000), `p1`")),
    ] {
        let found = choose(&profiles, &settings(keys)).map(|profile| profile.token.as_str());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{keys}"),
            (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
            (found, _) => panic!("{keys}: {found:?}"),
        }
    }
}

use super::*;

fn error(text: &str) -> String {
    parse(text).expect_err("must be refused").to_string()
}

#[test]
fn defaults() {
    let config = parse("cameras:\n  - name: door\n    test_pattern: {}\n    upload: {}\nthing: gw\n").expect("valid");
    let camera = &config.cameras[0];
    assert_eq!(camera.upload.as_ref().map(|upload| upload.stream.as_str()), Some("gw-door"));
    assert!(camera.archive.as_ref().is_some_and(|archive| archive.at_risk == Duration::from_secs(2)));
    assert_eq!(config.http.map(|http| http.listen.to_string()).as_deref(), Some("127.0.0.1:8080"));
    assert!(parse("").expect("an empty config is a config").cameras.is_empty());
}

#[test]
fn json_is_yaml_too() {
    let config = parse(r#"{"cameras": [{"name": "a", "file": {"path": "x.mp4", "loop": false}}]}"#).expect("valid");
    assert!(matches!(&config.cameras[0].source, Source::File(file) if !file.repeat));
}

#[test]
fn errors_name_the_line_the_key_and_the_nearest_one() {
    let check = |text: &str, parts: &[&str]| {
        let message = error(text);
        for part in parts {
            assert!(message.contains(part), "`{part}` in: {message}");
        }
    };
    let camera = |keys: &str| format!("cameras:\n  - name: door\n    test_pattern: {{}}\n{keys}");
    check("camera: []\n", &["line 1", "`camera`", "`cameras`"]);
    check("cameras:\n  - name: a\n    rtsp:\n      urll: rtsp://x\n", &["line 4", "`urll`", "`url`"]);
    check(&camera("    archive: {max_sizee: 1 GB}\n"), &["line 4", "`max_size`"]);
    check(&camera("    archive: {max_size: 1 XB}\n"), &["line 4", "1 XB", "20 GB"]);
    check(&camera("    archive: {at_risk: 5}\n"), &["line 4", "10s"]);
    check(&camera("    archive: {at_risk: 1h}\n"), &["cameras.door.archive.at_risk", "1m"]);
    check(&camera("    archive: {on_full: explode}\n"), &["deny_new_media"]);
    check(&camera("    file: {path: x}\n"), &["cameras.door", "two sources"]);
    check("cameras:\n  - name: a\n", &["cameras.a", "no source"]);
    check("cameras:\n  - name: a/b\n    test_pattern: {}\n", &["`a/b`"]);
    check("http: {listen: 0.0.0.0:8080}\n", &["http.listen", "token_file"]);
    check(&camera("    upload: {mode: sometimes}\n"), &["cameras.door.upload.mode", "on_demand"]);
    check(&camera("    upload: {mode: schedule, schedule: [{cron: nonsense, duration: 1h}]}\n"), &["cron", "nonsense"]);
    check(&camera("    upload: {stream: 'a b'}\n"), &["cameras.door.upload.stream"]);
    check(&camera("    test_pattern: {}\n"), &["line 4"]);
}

#[test]
fn passwords_never_show() {
    let text = "cameras:\n  - name: a\n    rtsp: {url: 'rtsp://admin:s%23cret@10.0.0.7/1?password=x'}\n";
    let config = parse(text).expect("valid");
    let shown = format!("{config:?}");
    assert!(!shown.contains("#cret") && !shown.contains("23cret"), "{shown}");
    let Source::Rtsp(rtsp) = &config.cameras[0].source else { panic!("rtsp") };
    assert_eq!(
        rtsp.credentials.as_ref().map(|c| (c.username.as_str(), c.password.expose())),
        Some(("admin", "s#cret"))
    );
    let message = error("cameras:\n  - name: a\n    rtsp: {url: 'http://admin:secret@10.0.0.7/1'}\n");
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn one_stream_is_not_shared() {
    let two = "cameras:\n  - {name: a, test_pattern: {}, upload: {stream: s}}\n  - {name: b, test_pattern: {}, upload: {stream: s}}\n";
    assert!(error(two).contains("cameras.b.upload.stream"));
}

#[test]
fn the_schema_documents_every_key() {
    fn undocumented(schema: &serde_json::Value, path: &str, out: &mut Vec<String>) {
        if let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) {
            for (name, property) in properties {
                if property.get("description").is_none() {
                    out.push(format!("{path}.{name}"));
                }
            }
        }
        if let Some(definitions) = schema.get("$defs").and_then(serde_json::Value::as_object) {
            definitions.iter().for_each(|(name, definition)| undocumented(definition, name, out));
        }
    }
    let mut missing = Vec::new();
    undocumented(&schema(), "config", &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn detectors_and_publishers() {
    let camera = |keys: &str| format!("cameras:\n  - name: door\n    test_pattern: {{}}\n{keys}");
    let one = |more: &str| camera(&format!("    detectors: [{{type: person, model: m.onnx{more}}}]\n"));
    let config = parse(&one("")).expect("valid");
    let detector = &config.cameras[0].detectors[0];
    assert_eq!((detector.name.as_str(), detector.threshold, detector.fps_limit), ("person", 0.5, 1.0));
    assert_eq!(detector.classes, ["person"]);
    let config = parse(&format!("{}    fps_limit: 5\n", one(""))).expect("valid");
    assert!((config.cameras[0].detectors[0].fps_limit - 5.0).abs() < 1e-9);
    let general = "publishers: {kinesis_stream_name: all, s3_bucket: b}\n";
    let config = parse(&format!("{general}{}    publishers: {{kinesis_stream_name: own}}\n", one(""))).expect("valid");
    let shown: Vec<String> = config.cameras[0].publishers.destinations.iter().map(|to| to.shown()).collect();
    assert_eq!(shown, ["the Kinesis stream own", "the bucket b"]);
    let check = |text: &str, parts: &[&str]| {
        let message = error(text);
        for part in parts {
            assert!(message.contains(part), "`{part}` in: {message}");
        }
    };
    check(&camera("    detectors: [{type: dragon, model: m.onnx}]\n"), &["cameras.door.detectors", "dragon", "weapon"]);
    check(&one(", confidence_threshold: 2"), &["cameras.door.detectors.person.confidence_threshold", "0 to 1"]);
    check(&one(", fps_limit: 100"), &["fps_limit", "30"]);
    check(&one(", recogniser: {model: r.onnx}"), &["only alpr"]);
    check(&camera("    detectors: [{type: alpr, model: m.onnx}]\n"), &["recogniser"]);
    let zone = |points: &str| one(&format!(", roi: [{{name: gate, points: {points}}}]"));
    check(&zone("[[0, 0], [1, 1], [1, 0], [0, 1]]"), &["cameras.door.detectors.person.roi", "gate", "crosses itself"]);
    check(&zone("[[0, 0], [1, 1]]"), &["gate", "2 points"]);
    check(&one(", events: {min_frames: 0}"), &["events.min_frames", "1 to 100"]);
    let two = "[{type: person, model: a}, {type: person, model: b}]";
    check(&camera(&format!("    detectors: {two}\n")), &["detectors.person", "name"]);
    let publishers = |text: &str| format!("{}    publishers: {{{text}}}\n", one(""));
    check(&publishers("mqtt: true"), &["publishers.mqtt", "no broker"]);
    check(&publishers("webhook: {url: 'http://example.com/x'}"), &["publishers.webhook.url", "https"]);
    check(&publishers("dataset: {}"), &["publishers.dataset", "every"]);
    check(&publishers("dataset: {unsure: [0.9, 0.1]}"), &["unsure", "lower first"]);
    check(&publishers("kinesis_stream_name: 'a b'"), &["kinesis_stream_name", "`a b`"]);
    check("inference: {cpu_percent: 0}\n", &["inference.cpu_percent"]);
}

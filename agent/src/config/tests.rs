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
    assert!(!format!("{config:?}").contains("cret"));
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

//! What a person copies from the documents and from `greengrass/` and `systemd/` is read by what reads it there.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::documents::{blocks, documents, spans};
use super::{read, root};

/// Each file that a person copies or installs, and the test that reads, parses or runs it: by these words.
const COPIED: &[(&str, &str, &str)] = &[
    (
        "greengrass/cloudformation.yaml",
        "tests/e2e/greengrass/files.rs",
        "arg(directory().join(\"cloudformation.yaml\"))",
    ),
    ("greengrass/gdk-config.json", "tests/e2e/greengrass/files.rs", "from_str(&read(\"gdk-config.json\"))"),
    ("greengrass/package", "tests/e2e/greengrass/files.rs", "Command::new(directory().join(\"package\"))"),
    (
        "greengrass/policies/core-device.json",
        "tests/e2e/greengrass/files.rs",
        "read_dir(directory().join(\"policies\"))",
    ),
    (
        "greengrass/policies/own-connection.json",
        "tests/e2e/greengrass/files.rs",
        "read_dir(directory().join(\"policies\"))",
    ),
    (
        "greengrass/policies/token-exchange-role.json",
        "tests/e2e/greengrass/files.rs",
        "read_dir(directory().join(\"policies\"))",
    ),
    (
        "greengrass/policies/token-exchange-trust.json",
        "tests/e2e/greengrass/files.rs",
        "read_dir(directory().join(\"policies\"))",
    ),
    ("greengrass/recipe.yaml", "tests/e2e/greengrass/files.rs", "lint(&yaml(&text))"),
    ("systemd/deeplens.yaml", "tests/e2e/service.rs", "shipped(\"deeplens.yaml\").replace"),
    ("systemd/edgecam.service", "tests/e2e/service.rs", "for unit in [\"edgecam.service\", \"edgecam@.service\"]"),
    ("systemd/edgecam.sysusers", "tests/e2e/service.rs", "\"systemd-sysusers\", &[\"--dry-run\""),
    ("systemd/edgecam.tmpfiles", "tests/e2e/service.rs", "join(\"edgecam.tmpfiles\")"),
    ("systemd/edgecam@.service", "tests/e2e/service.rs", "for unit in [\"edgecam.service\", \"edgecam@.service\"]"),
    ("systemd/mxuvc-sudo.conf", "tests/e2e/service.rs", "Some(\"mxuvc-sudo.conf\")"),
];

#[test]
fn every_file_that_is_copied_is_tried() {
    fn walk(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root()).expect("below").to_string_lossy().into_owned();
            match path.is_dir() {
                // What `greengrass/package` makes.
                true if name.ends_with("greengrass-build") => {}
                true => walk(&path, found),
                // Documents are read by `docs`.
                false if name.ends_with(".md") => {}
                false => found.push(name),
            }
        }
    }
    let mut found = Vec::new();
    for directory in ["greengrass", "systemd"] {
        walk(&root().join(directory), &mut found);
    }
    let unread: Vec<&String> = found.iter().filter(|file| COPIED.iter().all(|(name, ..)| name != file)).collect();
    assert!(unread.is_empty(), "no test reads {unread:?}");
    for (file, reader, words) in COPIED {
        assert!(found.iter().any(|name| name == file), "{file} is not there");
        assert!(read(reader).contains(words), "{file} is said to be read by {reader}, which has no `{words}`");
    }
}

/// A config whose files for passwords are there.
fn with_passwords(text: &str, directory: &Path) -> String {
    let password = directory.join("password");
    fs::write(&password, "x").expect("written");
    let line = |line: &str| match line.split_once("_file: ") {
        Some((before, after)) => {
            let more = after.trim_start_matches(|c| !",} ".contains(c));
            format!("{before}_file: {}{more}", password.display())
        }
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn configs_in_documents_are_configs() {
    let directory = std::env::temp_dir().join(format!("edgecam-tidy-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let mut count = 0;
    for document in documents() {
        for block in blocks(&document, "yaml") {
            let place = format!("{document}:{}", block.line);
            let value: Value = serde_saphyr::from_str(&block.text).unwrap_or_else(|error| panic!("{place}: {error}"));
            // A component's configuration may hold the config as one text.
            let text = value["config"].as_str().map_or_else(|| block.text.clone(), str::to_owned);
            let config = edgecam::config::parse(&with_passwords(&text, &directory));
            let config = config.unwrap_or_else(|error| panic!("{place}: {error} in\n{text}"));
            // It has cameras, unless it shows one section alone.
            assert!(!text.contains("cameras:") || !config.cameras.is_empty(), "{place}:\n{text}");
            count += 1;
        }
        for block in blocks(&document, "json") {
            let parsed = serde_json::from_str::<Value>(&block.text);
            assert!(parsed.is_ok(), "{document}:{}: {parsed:?}", block.line);
        }
    }
    assert!(count > 12, "only {count} configs found");
    fs::remove_dir_all(&directory).ok();
}

/// `a.b.c: value` as an object in an object in an object.
fn nested(path: &str, value: &Value) -> Map<String, Value> {
    let inner = match path.split_once('.') {
        Some((_, rest)) => Value::Object(nested(rest, value)),
        None => value.clone(),
    };
    Map::from_iter([(path.split('.').next().unwrap_or_default().to_owned(), inner)])
}

/// A key and its value, as they stand in a sentence, are a part of some config.
#[test]
fn keys_in_sentences_are_keys() {
    // Of other programs.
    let theirs = ["device: cuda:0"];
    let mut count = 0;
    for document in documents() {
        for (line, span) in spans(&document) {
            let Some((key, written)) = span.split_once(": ") else { continue };
            let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || "_.".contains(c));
            if !is_key || theirs.contains(&span.as_str()) {
                continue;
            }
            let value = written.replace(", …", "").replace('…', "x");
            let value: Value =
                serde_saphyr::from_str(&value).unwrap_or_else(|error| panic!("{document}:{line}: {error}"));
            let given = Value::Object(nested(key, &value));
            let with = |mut base: Value| {
                base.as_object_mut().expect("a map").extend(given.as_object().expect("a map").clone());
                base
            };
            let camera = |camera: Value| json!({ "cameras": [camera] });
            let places = [
                with(json!({})),
                json!({ "publishers": with(json!({})) }),
                camera(with(json!({ "name": "a", "archive": {} }))),
                camera(with(json!({ "name": "a", "archive": {}, "test_pattern": {} }))),
                camera(json!({ "name": "a", "archive": {}, "rtsp": with(json!({ "url": "rtsp://a/" })) })),
                camera(json!({ "name": "a", "archive": {}, "v4l2": with(json!({})) })),
                camera(json!({ "name": "a", "test_pattern": {}, "upload": with(json!({ "stream": "a" })) })),
            ];
            let errors: Vec<String> = places
                .iter()
                .filter_map(|place| edgecam::config::parse(&place.to_string()).err())
                .map(|error| error.to_string())
                .collect();
            assert!(errors.len() < places.len(), "{document}:{line}: `{span}` is a part of no config: {errors:#?}");
            count += 1;
        }
    }
    assert!(count > 10, "only {count} found");
}

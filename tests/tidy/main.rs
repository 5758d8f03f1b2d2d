//! Rules of the house as tests.

mod bill;
mod copied;
mod docs;
#[path = "../documents/mod.rs"]
mod documents;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files with this ending below `agent` and `tests`.
fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target" && name != "corpus") {
                    walk(&path, ending, found);
                }
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for part in ["agent", "tests"] {
        walk(&root().join(part), ending, &mut found);
    }
    assert!(!found.is_empty());
    found
}

fn offenders(what: &str, ending: &str, is_bad: impl Fn(&Path, &str) -> bool) {
    let bad: Vec<String> = files(ending)
        .into_iter()
        .filter(|path| is_bad(path, &fs::read_to_string(path).expect("text")))
        .map(|path| path.display().to_string())
        .collect();
    assert!(bad.is_empty(), "{what}:\n{}", bad.join("\n"));
}

#[test]
fn no_file_is_longer_than_600_lines() {
    offenders("longer than 600 lines", ".rs", |_, text| text.lines().count() > 600);
}

#[test]
fn every_file_says_what_it_is_for() {
    let is_generated = |path: &Path| path.components().any(|part| part.as_os_str() == "fuzz_targets");
    // Tests that belong to a file beside them are described there.
    let is_inner = |path: &Path| path.file_name().is_some_and(|name| name == "tests.rs");
    offenders("without a module doc", ".rs", |path, text| {
        !text.starts_with("//!") && !is_generated(path) && !is_inner(path)
    });
}

#[test]
fn no_test_is_switched_off_and_nothing_is_left_undone() {
    let marks = [concat!("#[ig", "nore"), concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME")];
    offenders("switched off or left undone", ".rs", |_, text| marks.iter().any(|mark| text.contains(mark)));
}

#[test]
fn the_pure_crates_stay_pure() {
    for (manifest, allowed) in [
        ("agent/media/Cargo.toml", &["bytes", "h264-reader", "memchr", "thiserror"][..]),
        (
            "agent/kvs/Cargo.toml",
            &[
                "aws-credential-types",
                "aws-sigv4",
                "bytes",
                "edgecam-media",
                "fastrand",
                "heapless",
                "http",
                "httparse",
                "serde",
                "serde_json",
                "thiserror",
            ],
        ),
        ("agent/vision/Cargo.toml", &["fearless_simd", "schemars", "serde", "thiserror", "tract-onnx"]),
    ] {
        let text = read(manifest);
        let section = text.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap_or_default();
        let names =
            section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty());
        let extra: Vec<&str> = names.filter(|name| !allowed.contains(name)).collect();
        assert!(extra.is_empty(), "{manifest} may not depend on {extra:?}");
    }
}

#[test]
fn the_pure_crates_keep_the_shared_bans() {
    let paths = |file: &str| -> BTreeSet<String> {
        let text = read(file);
        text.lines().filter(|line| line.contains("path = ")).map(|line| line.trim().to_owned()).collect()
    };
    let shared = paths(".clippy.toml");
    for nested in ["agent/media/.clippy.toml", "agent/kvs/.clippy.toml", "agent/vision/.clippy.toml"] {
        assert!(shared.is_subset(&paths(nested)), "{nested} replaces the root's bans: repeat them");
    }
}

#[test]
fn there_is_one_tls_stack() {
    // Cargo.lock also names what no feature asks for; the tree is what is built.
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-p", "edgecam", "-e", "normal,build", "--prefix", "none"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8(tree.stdout).expect("text");
    assert!(tree.contains("aws-lc-rs"), "{tree}");
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    for other in ["openssl", "openssl-sys", "native-tls", "ring", "boring"] {
        assert!(!names.contains(other), "{other} is linked: rustls with aws-lc-rs is the one TLS stack");
    }
}

#[test]
fn the_readme_names_every_command() {
    let readme = read("README.md");
    for command in
        ["run", "check", "upload", "archive", "nvr", "discover", "rtsp-url", "provision", "service", "schema", "import"]
    {
        assert!(readme.contains(&format!("`edgecam {command}")), "README.md does not mention `edgecam {command}`");
    }
    for link in
        readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://"))
    {
        assert!(root().join(link).exists(), "README.md links to {link}, which is not there");
    }
}

//! What is linked: from where, under which licences, and that `cross/bill` tells it the same way each time.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{read, root};

/// The licences that `.cargo/deny.toml` allows.
fn allowed() -> BTreeSet<String> {
    let deny = read(".cargo/deny.toml");
    let list = deny.split("\nallow = [").nth(1).and_then(|rest| rest.split("\n]").next()).expect("a list");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with `allowed`. AND binds before OR (SPDX 3.0.1, annex B).
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = any(&words, allowed);
    met && rest.is_empty()
}

fn any<'w>(words: &'w [&'w str], allowed: &BTreeSet<String>) -> (bool, &'w [&'w str]) {
    let (mut met, mut rest) = all(words, allowed);
    while let ["OR", more @ ..] = rest {
        let (other, after) = all(more, allowed);
        (met, rest) = (met || other, after);
    }
    (met, rest)
}

fn all<'w>(words: &'w [&'w str], allowed: &BTreeSet<String>) -> (bool, &'w [&'w str]) {
    let (mut met, mut rest) = one(words, allowed);
    while let ["AND", more @ ..] = rest {
        let (other, after) = one(more, allowed);
        (met, rest) = (met && other, after);
    }
    (met, rest)
}

fn one<'w>(words: &'w [&'w str], allowed: &BTreeSet<String>) -> (bool, &'w [&'w str]) {
    match words {
        ["(", inner @ ..] => match any(inner, allowed) {
            (met, [")", after @ ..]) => (met, after),
            (_, rest) => (false, rest),
        },
        [licence, "WITH", exception, after @ ..] => (allowed.contains(&format!("{licence} WITH {exception}")), after),
        [licence, after @ ..] => (allowed.contains(*licence), after),
        [] => (false, words),
    }
}

#[test]
fn expressions() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned(), "A WITH x".to_owned()]);
    for met in
        ["MIT", "GPL-3.0 OR MIT", "MIT AND ISC", "(GPL-3.0 OR MIT) AND ISC", "A WITH x", "MIT AND GPL-3.0 OR ISC"]
    {
        assert!(is_met(met, &allowed), "{met}");
    }
    for not in ["GPL-3.0", "GPL-3.0 AND MIT", "A", "A WITH y", "", "MIT ISC", "(MIT", "MIT AND (GPL-3.0 OR A)"] {
        assert!(!is_met(not, &allowed), "{not}");
    }
}

fn bill(directory: &Path) -> (String, String) {
    let mut command = Command::new(root().join("cross/bill"));
    let output = command.arg("x86_64-unknown-linux-musl").arg(directory).output().expect("python3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = |name: &str| fs::read_to_string(directory.join(name)).expect(name);
    (text("edgecam.cdx.json"), text("THIRD-PARTY-LICENSES.txt"))
}

#[test]
fn every_licence_is_allowed_and_every_source_is_the_registry() {
    let directory = std::env::temp_dir().join(format!("edgecam-bill-{}", std::process::id()));
    let first = bill(&directory);
    assert_eq!(bill(&directory), first, "the same twice");
    fs::remove_dir_all(&directory).ok();
    let (json, texts) = first;
    let bill: Value = serde_json::from_str(&json).expect("JSON");
    let components = bill["components"].as_array().expect("a list");
    assert!(components.len() > 100, "{} components", components.len());
    let allowed = allowed();
    for component in components {
        let name = component["purl"].as_str().expect("a name");
        let licence = component["licenses"][0]["expression"].as_str().expect("a licence");
        assert!(is_met(licence, &allowed), "{name}: {licence} is not in .cargo/deny.toml");
        // What is not ours has a checksum: it comes from the registry as it is there.
        let is_ours = ["/edgecam-", "/v4l2-sys", "/rustfft"].iter().any(|ours| name.contains(ours));
        assert!(is_ours || component["hashes"][0]["content"].is_string(), "{name} has no checksum");
        for within in component["components"].as_array().into_iter().flatten() {
            let licence = within["licenses"][0]["expression"].as_str().expect("a licence");
            assert!(is_met(licence, &allowed), "{} in {name}: {licence}", within["name"]);
        }
    }
    for name in ["openh264", "aws-lc-sys", "tokio"] {
        assert!(texts.contains(name), "the licence of {name} is missing");
    }
    let lock = read("Cargo.lock");
    let others = lock.lines().filter(|line| line.starts_with("source = ") && !line.contains("registry+"));
    assert_eq!(others.count(), 0, "a crate does not come from the registry");
}

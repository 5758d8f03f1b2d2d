//! Every command that a document tells a person is tried somewhere: documents and `tests/documents/table.rs` are held
//! against each other, and what is said to be tried elsewhere is looked up there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::documents::table::{Check, TABLE, Where};
use super::documents::{alternatives, commands, documents, spans};
use super::{read, root};

/// Where the tests are that run what can be run.
const READERS: [&str; 6] = ["first", "afar", "machine", "made", "component", "moving"];

#[test]
fn every_command_has_one_place() {
    let mut places = BTreeMap::new();
    for (text, place) in TABLE {
        assert!(places.insert(*text, place).is_none(), "tests/documents/table.rs has `{text}` twice");
    }
    let told = commands();
    assert!(told.len() > 80, "only {} commands found", told.len());
    let unknown: Vec<String> = told
        .iter()
        .filter(|told| !places.contains_key(told.text.as_str()))
        .map(|told| format!("{}:{}: `{}`", told.document, told.line, told.text))
        .collect();
    assert!(unknown.is_empty(), "not in tests/documents/table.rs, so nobody runs:\n{}", unknown.join("\n"));
    let known: BTreeSet<&str> = told.iter().map(|told| told.text.as_str()).collect();
    let stale: Vec<&str> = places.into_keys().filter(|text| !known.contains(text)).collect();
    assert!(stale.is_empty(), "in tests/documents/table.rs, and in no document: {stale:#?}");
}

fn has(file: &str, words: &[&str], text: &str) {
    let content = read(file);
    assert!(!words.is_empty(), "`{text}`: what is to be in {file}?");
    for word in words {
        assert!(content.contains(word), "`{text}` is said to be run by {file}, which has no `{word}`");
    }
}

#[test]
fn what_runs_a_command_is_there() {
    let readers: String = READERS.iter().map(|name| read(format!("tests/e2e/documents/{name}.rs"))).collect();
    for (text, place) in TABLE {
        let tests: &[&str] = match place {
            Where::Run(tests) => tests,
            Where::Cannot(_, Check::StandIn(test)) => &[*test],
            Where::Elsewhere(file, words) => {
                has(file, words, text);
                continue;
            }
            Where::Cannot(..) => continue,
        };
        assert!(!tests.is_empty(), "`{text}`");
        for test in tests {
            assert!(readers.contains(&format!("Desk::new(\"{test}\")")), "`{text}`: no test is a reader of `{test}`");
        }
    }
}

fn run(command: &mut Command) -> (bool, String, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// What Cargo would build: all of it, without a step. The option is not stable, and there is no other that only looks.
fn plan(text: &str, cargo: &str) {
    let look = format!("{cargo} --unit-graph -Z unstable-options --offline --locked");
    let mut command = Command::new("sh");
    command.args(["-c", &look]).current_dir(root()).env("RUSTC_BOOTSTRAP", "1").env_remove("CARGO");
    let (is_good, graph, error) = run(&mut command);
    assert!(is_good, "`{text}`: {error}");
    let graph: serde_json::Value = serde_json::from_str(&graph).unwrap_or_else(|error| panic!("`{text}`: {error}"));
    let units = graph["units"].as_array().expect("units");
    let roots: Vec<&serde_json::Value> = graph["roots"]
        .as_array()
        .expect("roots")
        .iter()
        .filter_map(|root| units.get(root.as_u64().and_then(|root| usize::try_from(root).ok())?))
        .collect();
    let words: Vec<&str> = text.split(' ').collect();
    for pair in words.windows(2).filter(|pair| ["--bin", "--example"].contains(&pair[0])) {
        let is_built = roots.iter().any(|unit| unit["target"]["name"] == pair[1]);
        assert!(is_built, "`{text}` does not build {}", pair[1]);
    }
    for unit in roots {
        assert_eq!(unit["profile"]["name"], "release", "`{text}`");
        let keeps_symbols =
            unit["profile"]["strip"]["resolved"] == "None" || unit["profile"]["strip"]["deferred"] == "None";
        assert_eq!(keeps_symbols, text.contains("strip="), "`{text}`: {}", unit["profile"]);
        let has_models = unit["features"].as_array().is_some_and(|all| all.contains(&"inference".into()));
        if unit["target"]["name"] == "edgecam" {
            assert_eq!(has_models, !text.contains("--no-default-features"), "`{text}`: {}", unit["features"]);
        }
    }
}

#[test]
fn what_is_not_run_is_checked() {
    let told = commands();
    for (text, place) in TABLE {
        let Where::Cannot(reason, check) = place else { continue };
        assert!(reason.contains(' '), "`{text}`: why not?");
        match check {
            Check::Cargo => {
                let ours = text.strip_prefix("cross/build aarch64 ");
                // As cross/build has it.
                let cargo = ours.map(|more| format!("cargo build --release --package edgecam {more}"));
                plan(text, &cargo.unwrap_or_else(|| (*text).to_owned()));
            }
            Check::Benchmark => {
                let programs = [(" inference", "--runner"), (" encode", "--coder"), ("", "--edgecam")];
                let nowhere = programs.iter().find(|(name, _)| text.contains(name)).map_or("", |(_, option)| option);
                let command = format!("{text} {nowhere} /nowhere");
                let (is_good, _, error) = run(Command::new("sh").args(["-c", &command]).current_dir(root()));
                let before = told.iter().position(|told| told.text == *text).expect("it is told");
                let build = told[..before].iter().rfind(|told| told.text.starts_with("cargo build")).expect("a build");
                let wanted = format!("/nowhere is missing: {}\n", build.text);
                assert!(!is_good && error == wanted, "`{text}`: {error}");
            }
            Check::Theirs | Check::StandIn(_) => {}
        }
    }
}

fn help(words: &[String]) -> String {
    let (is_good, said, error) = run(Command::new(env!("CARGO_BIN_EXE_edgecam")).args(words).arg("--help"));
    assert!(is_good, "edgecam {}: {error}", words.join(" "));
    said
}

fn help_of(known: &mut BTreeMap<Vec<String>, String>, words: &[String]) -> String {
    known.entry(words.to_vec()).or_insert_with(|| help(words)).clone()
}

/// What `edgecam` is told to do it can do, wherever that is tried.
#[test]
fn commands_and_options_exist() {
    let mut known: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let mut count = 0;
    for told in commands() {
        let place = format!("{}:{}: `{}`", told.document, told.line, told.text);
        let text = told.text.trim_start_matches("sudo ").trim_start_matches("./");
        let Some(arguments) = text.strip_prefix("edgecam ") else { continue };
        let arguments = arguments.split(" > ").next().unwrap_or_default();
        for words in alternatives(arguments, true) {
            let mut path = Vec::new();
            for word in &words {
                let said = help_of(&mut known, &path);
                let listed = said.split("Commands:").nth(1).and_then(|rest| rest.split("Options:").next());
                if listed.is_some_and(|all| all.lines().any(|line| line.trim_start().split(' ').next() == Some(word))) {
                    path.push(word.clone());
                }
            }
            let is_whole = path.len() == words.len() || !help_of(&mut known, &path).contains("Commands:");
            assert!(!path.is_empty() && is_whole, "{place} is no command");
            // Options stand before or after the subcommand that they do not belong to.
            let above = (0..=path.len()).map(|length| path.iter().take(length).cloned().collect::<Vec<_>>());
            let all: String = above.map(|path| help_of(&mut known, &path)).collect();
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(
                    all.contains(&format!("{option} ")) || all.contains(&format!("{option}\n")),
                    "{place}: {option}"
                );
            }
            count += 1;
        }
    }
    assert!(count > 40, "only {count} commands found");
}

/// An option that stands alone belongs to a command of ours, or to a script.
#[test]
fn options_exist() {
    let mut all: String = ["tests/run", "tests/vm/run", "cross/build", "cross/package", "tests/e2e/rtsp_server.py"]
        .iter()
        .map(read)
        .collect();
    for command in ["run", "check", "detect", "upload", "service install", "discover", "provision"] {
        all += &help(&command.split(' ').map(str::to_owned).collect::<Vec<_>>());
    }
    let mut count = 0;
    for document in documents() {
        for (line, span) in spans(&document).into_iter().filter(|(_, span)| span.starts_with("--")) {
            let option = span.split([' ', '=']).next().unwrap_or_default();
            assert!(all.contains(option), "{document}:{line}: there is no {option}");
            count += 1;
        }
    }
    assert!(count > 4, "only {count} options found");
}

/// A path of the repository that is named is there.
#[test]
fn named_files_exist() {
    let parts = ["agent/", "cross/", "greengrass/", "systemd/", "tests/", ".ci/", ".cargo/"];
    let mut count = 0;
    for document in documents() {
        for (line, span) in spans(&document) {
            let path = span.split([' ', ':', '{']).next().unwrap_or_default();
            if !parts.iter().any(|part| path.starts_with(part)) || path.contains("greengrass-build") {
                continue;
            }
            let is_there = root().join(path).exists() || root().join(format!("{path}.rs")).exists();
            assert!(is_there, "{document}:{line}: {path} is not there");
            count += 1;
        }
    }
    assert!(count > 40, "only {count} paths found");
}

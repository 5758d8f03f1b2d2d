//! What documents tell a person to write or to run is tried.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::read;

const DOCUMENTS: [&str; 2] = ["README.md", "greengrass/MIGRATION.md"];

/// The blocks of a document in one language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = read(document);
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
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
    for document in DOCUMENTS {
        let blocks = blocks(document, "yaml");
        assert!(!blocks.is_empty(), "{document} has no example");
        // A config has cameras, unless it shows one section alone.
        for block in blocks {
            let config = edgecam::config::parse(&with_passwords(&block, &directory));
            let config = config.unwrap_or_else(|error| panic!("{document}: {error} in\n{block}"));
            let shows_one_section = !block.contains("cameras:");
            assert!(shows_one_section || !config.cameras.is_empty(), "{document}:\n{block}");
        }
    }
    fs::remove_dir_all(&directory).ok();
}

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_edgecam")).args(words).arg("--help").output().expect("it runs");
    assert!(output.status.success(), "edgecam {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn commands_in_documents_exist() {
    let mut count = 0;
    for document in DOCUMENTS {
        for language in ["", "sh"] {
            for block in blocks(document, language) {
                for line in block.lines() {
                    let line = line.trim().trim_start_matches("sudo ");
                    let Some(arguments) = line.strip_prefix("edgecam ") else { continue };
                    let words: Vec<&str> =
                        arguments.split_whitespace().take_while(|word| !["|", ">", "#", "&&"].contains(word)).collect();
                    // As many words as name a subcommand of the one before.
                    let mut path = Vec::new();
                    let mut known = help(&[]);
                    for word in &words {
                        let lists = known.lines().any(|line| line.trim_start().split(' ').next() == Some(word));
                        if !known.contains("Commands:") || !lists {
                            break;
                        }
                        path.push(*word);
                        known = help(&path);
                    }
                    assert!(!path.is_empty(), "{document}: `edgecam {}` is no command", words.join(" "));
                    for flag in words.iter().filter(|word| word.starts_with("--")) {
                        assert!(known.contains(flag), "{document}: `edgecam {}` has no {flag}", path.join(" "));
                    }
                    count += 1;
                }
            }
        }
    }
    assert!(count > 3, "only {count} commands found");
}

//! What documents tell a person to run, to send and to write, and where each of it is tried.
//!
//! A command is each line of a block of `sh` or of no language, and what stands between backticks and begins with a program
//! that people know, or has an option. Requests, topics and payloads count as commands. [`table`] says of each where it is
//! run. `tests/tidy` holds documents and table against each other; `tests/e2e/documents` runs what can be run.

#![allow(dead_code, reason = "two test programs use it, each a part")]

pub(crate) mod table;

use std::fs;
use std::path::{Path, PathBuf};

/// Inline text that begins with one of these, and a space after it, is a command.
const PROGRAMS: [&str; 28] = [
    "edgecam",
    "./edgecam",
    "cargo",
    "curl",
    "sudo",
    "systemctl",
    "journalctl",
    "systemd-analyze",
    "apt",
    "dpkg",
    "usermod",
    "sed",
    "openssl",
    "aws",
    "gdk",
    "ggl-cli",
    "greengrass-cli",
    "mosquitto_pub",
    "mosquitto_sub",
    "ffmpeg",
    "docker",
    "make",
    "yolo",
    "python",
    "paddle2onnx",
    "archive",
    "GET",
    "POST",
];
/// The same for programs of the repository, and for what is sent.
const BEGINNINGS: [&str; 8] =
    ["cross/", "tests/", "greengrass/", ".ci/", "{\"", "edgecam/<", "…/", "torch.onnx.export("];

/// A command as a document has it, in one line.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) document: String,
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// A fenced block.
pub(crate) struct Block {
    pub(crate) line: usize,
    pub(crate) language: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every document of the repository.
pub(crate) fn documents() -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && !["target", "greengrass-build"].contains(&&*name) {
                walk(&path, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    walk(&root, &mut found);
    let name = |path: &PathBuf| path.strip_prefix(&root).expect("below").to_string_lossy().into_owned();
    let mut names: Vec<String> = found.iter().map(name).collect();
    names.sort();
    names
}

/// The blocks of a document, and the document without them, line by line.
fn parts(document: &str) -> (Vec<Block>, String) {
    let text = fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    let (mut blocks, mut prose, mut open) = (Vec::new(), String::new(), None);
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(language), None) => {
                open = Some(Block { line: index + 2, language: language.to_owned(), text: String::new() });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(Block { line: begun, language, text })) => {
                open = Some(Block { line: begun, language, text: format!("{text}{line}\n") });
            }
            (None, None) => prose += line,
        }
        prose += "\n";
    }
    assert!(open.is_none(), "{document}: a block is not closed");
    (blocks, prose)
}

/// The blocks of a document in one language.
pub(crate) fn blocks(document: &str, language: &str) -> Vec<Block> {
    parts(document).0.into_iter().filter(|block| block.language == language).collect()
}

/// What stands between backticks, in one line, with the number of the line it begins in.
pub(crate) fn spans(document: &str) -> Vec<(usize, String)> {
    let (_, prose) = parts(document);
    let (mut found, mut line) = (Vec::new(), 1);
    for paragraph in prose.split("\n\n") {
        let pieces: Vec<&str> = paragraph.split('`').collect();
        assert!(pieces.len() % 2 == 1, "{document}:{line}: a backtick has no other one in its paragraph");
        for (index, piece) in pieces.into_iter().enumerate() {
            if index % 2 == 1 {
                let words: Vec<&str> = piece.split_whitespace().collect();
                // In a table a bar is written so.
                found.push((line, words.join(" ").replace("\\|", "|")));
            }
            line += piece.matches('\n').count();
        }
        line += 2;
    }
    found
}

/// What stands between backticks in comments of examples.
fn comments(document: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for block in blocks(document, "yaml") {
        for (index, line) in block.text.lines().enumerate() {
            let comment = line.split_once('#').map(|(_, comment)| comment).unwrap_or_default();
            let inner = comment.split('`').enumerate().filter(|(part, _)| part % 2 == 1);
            found.extend(inner.map(|(_, span)| (block.line + index, span.to_owned())));
        }
    }
    found
}

fn is_command(span: &str) -> bool {
    let Some((first, rest)) = span.split_once(' ') else {
        // A path alone names a file; a topic alone is a place to send to.
        let is_topic = span.starts_with("…/") && span.matches('/').count() > 1;
        return is_topic || span.starts_with("edgecam/<") || span.starts_with("{\"");
    };
    let is_option = |word: &str| word.trim_start_matches('-').len() + 2 >= word.len() && word.starts_with('-');
    let has_option = rest.split(' ').any(|word| is_option(word) && word.chars().any(|c| c.is_ascii_lowercase()));
    let is_known = PROGRAMS.contains(&first) || BEGINNINGS.iter().any(|beginning| span.starts_with(beginning));
    is_known || (has_option && !first.ends_with(':') && !first.starts_with('-'))
}

/// The commands of a block: without comments, what goes on in the next line put together.
fn lines(block: &Block) -> Vec<(usize, String)> {
    let (mut found, mut begun) = (Vec::new(), None);
    for (index, line) in block.text.lines().enumerate() {
        let line = line.split(" # ").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (number, before) = begun.take().unwrap_or((block.line + index, String::new()));
        match line.strip_suffix('\\') {
            Some(more) => begun = Some((number, format!("{before}{} ", more.trim_end()))),
            None => found.push((number, format!("{before}{line}"))),
        }
    }
    found
}

/// All commands of all documents.
pub(crate) fn commands() -> Vec<Told> {
    let mut all = Vec::new();
    for document in documents() {
        let blocks = parts(&document).0.into_iter().filter(|block| ["", "sh"].contains(&block.language.as_str()));
        let in_blocks = blocks.flat_map(|block| lines(&block));
        let inline = spans(&document).into_iter().chain(comments(&document)).filter(|(_, span)| is_command(span));
        let mut found: Vec<(usize, String)> = in_blocks.chain(inline).collect();
        found.sort();
        all.extend(found.into_iter().map(|(line, text)| Told { document: document.clone(), line, text }));
    }
    all
}

/// The commands that a synopsis stands for, word by word: without what is in brackets or with all of it, one for each
/// alternative of the word that has most.
pub(crate) fn alternatives(synopsis: &str, with_options: bool) -> Vec<Vec<String>> {
    let mut text = String::new();
    let mut depth = 0_usize;
    for c in synopsis.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 || with_options => text.push(c),
            _ => {}
        }
    }
    let words: Vec<Vec<&str>> = text.split_whitespace().map(|word| word.split('|').collect()).collect();
    let count = words.iter().map(Vec::len).max().unwrap_or_default();
    let form = |number: usize| words.iter().map(|word| word[number % word.len()].to_owned()).collect();
    (0..count).map(form).collect()
}

/// The same, with `values` in the place of what is in capitals, in their order where a name has several. Nothing in capitals
/// may be left; what a form of its own needs in the place of `…` is the test's to add.
pub(crate) fn forms(synopsis: &str, with_options: bool, values: &[(&str, &str)]) -> Vec<String> {
    let fill = |words: Vec<String>| {
        let mut used: Vec<&str> = Vec::new();
        let mut filled = Vec::new();
        for word in words.iter().filter(|word| *word != "…") {
            let named: Vec<&str> = values.iter().filter(|(name, _)| name == word).map(|(_, value)| *value).collect();
            let before = used.iter().filter(|name| *name == word).count();
            used.push(word);
            let Some(last) = named.len().checked_sub(1) else {
                let mut parts = word.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let is_open =
                    parts.any(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
                assert!(!is_open, "`{synopsis}`: what is {word}?");
                filled.push(word.as_str());
                continue;
            };
            filled.push(named[before.min(last)]);
        }
        filled.join(" ")
    };
    alternatives(synopsis, with_options).into_iter().map(fill).collect()
}

//! A directory on this machine: the same files as in S3. Each is written aside and renamed: it is whole, or not there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::batch::{Failure, Sent};
use crate::event::message::Envelope;
use crate::event::naming;

/// Writes a message; with `max_bytes` the oldest days are deleted until no more is there.
pub(super) async fn send(directory: &Path, envelope: &Envelope, max_bytes: Option<u64>) -> Result<Sent, Failure> {
    let value: Value = serde_json::from_slice(&envelope.json).unwrap_or_default();
    let Some(stem) = naming::stem(&value) else { return Err(Failure::poison("an event without an id")) };
    let (directory, envelope) = (directory.to_owned(), envelope.clone());
    let written = tokio::task::spawn_blocking(move || {
        for (name, _, body) in naming::files(&stem, &envelope) {
            write(&directory.join(&name), &body)
                .map_err(|error| format!("{}: {error}", directory.join(name).display()))?;
        }
        if let Some(max_bytes) = max_bytes {
            sweep(&directory, max_bytes).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        Ok::<(), String>(())
    });
    match written.await {
        Ok(Ok(())) => Ok(Sent::all(1)),
        Ok(Err(message)) => Err(Failure::lasting(message)),
        Err(error) => Err(Failure::passing(error.to_string())),
    }
}

/// Deletes the oldest days of all cameras until at most `max_bytes` are left. What is no day is left alone; so is the
/// newest.
fn sweep(directory: &Path, max_bytes: u64) -> io::Result<()> {
    let mut days: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for camera in children(directory)? {
        for year in children(&camera)?.iter().filter(|path| is_number(path, 4)) {
            for month in children(year)?.iter().filter(|path| is_number(path, 2)) {
                for day in children(month)?.into_iter().filter(|path| is_number(path, 2)) {
                    let name = day.strip_prefix(&camera).unwrap_or(&day).display().to_string();
                    days.entry(name).or_default().push(day);
                }
            }
        }
    }
    let size =
        |day: &PathBuf| -> io::Result<u64> { children(day)?.iter().map(|file| Ok(fs::metadata(file)?.len())).sum() };
    let mut sizes = Vec::new();
    for paths in days.into_values() {
        let bytes = paths.iter().map(size).sum::<io::Result<u64>>()?;
        sizes.push((bytes, paths));
    }
    let mut total: u64 = sizes.iter().map(|(bytes, _)| bytes).sum();
    sizes.pop();
    for (bytes, paths) in sizes {
        if total <= max_bytes {
            break;
        }
        for day in paths {
            fs::remove_dir_all(day)?;
        }
        total -= bytes;
    }
    Ok(())
}

fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

fn is_number(path: &Path, digits: usize) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() == digits && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Writes a file whole, and the directories it needs.
pub(in crate::event) fn write(path: &Path, body: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".part");
    fs::write(&aside, body)?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_days_go_first() {
        let root = std::env::temp_dir().join(format!("edgecam-sweep-{}", std::process::id()));
        for day in ["a/2026/01/02", "b/2026/01/02", "a/2026/01/03", "a/2026/02/01", "a/other/01/01"] {
            write(&root.join(day).join("x.jpg"), &[0; 100]).expect("written");
        }
        sweep(&root, 250).expect("swept");
        let has = |day: &str| root.join(day).exists();
        assert!(!has("a/2026/01/02") && !has("b/2026/01/02") && has("a/2026/01/03") && has("a/2026/02/01"));
        sweep(&root, 0).expect("swept");
        assert!(!has("a/2026/01/03") && has("a/2026/02/01") && has("a/other/01/01"), "the newest stays");
        fs::remove_dir_all(&root).expect("removed");
    }
}

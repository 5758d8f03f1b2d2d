//! What was asked lately and what was answered: the same request twice has one effect and gets the same answer, over a
//! restart too. Written before a command is acted on.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::command::{Name, Request};
use super::reply::{Outcome, Reply};

/// Requests that are remembered.
const MOST: usize = 256;
/// Bytes of results that are remembered in RAM; on disk none above [`ON_DISK`].
const RESULTS_MOST: usize = 4 << 20;
/// Bytes of one result that are worth a place on disk.
const ON_DISK: usize = 2 << 10;

/// A request and its latest answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    /// Where it came from.
    transport: String,
    reply: Reply,
    /// Whether it is kept on disk.
    #[serde(skip)]
    is_kept: bool,
}

/// The journal. On disk it is one small file, replaced as a whole.
#[derive(Debug)]
pub(super) struct Journal {
    path: Option<PathBuf>,
    entries: VecDeque<Entry>,
}

impl Journal {
    /// Reads the journal of the last run. What was still being done then has ended: the answers that are due for it are
    /// returned, each with the transport it goes to.
    pub(super) fn open(path: Option<PathBuf>) -> (Self, Vec<(String, Reply)>) {
        let mut entries = path.as_deref().map(load).unwrap_or_default();
        let mut due = Vec::new();
        for entry in entries.iter_mut().filter(|entry| !entry.reply.is_final()) {
            if entry.reply.command == Some(Name::Restart) {
                entry.reply.status = Outcome::Done;
                entry.reply.reason = None;
            } else {
                entry.reply.status = Outcome::Failed;
                entry.reply.reason = Some("the agent was restarted before it was done".to_owned());
            }
            due.push((entry.transport.clone(), entry.reply.clone()));
        }
        let mut journal = Self { path, entries };
        if !due.is_empty() {
            journal.save();
        }
        (journal, due)
    }

    /// The answer to a request that is known.
    pub(super) fn known(&self, transport: &str, id: &str) -> Option<Reply> {
        let mut known = self.entries.iter().rev();
        known
            .find(|entry| entry.reply.request_id == id && entry.transport == transport)
            .map(|entry| entry.reply.clone())
    }

    /// A request is going to be acted on.
    pub(super) fn begin(&mut self, transport: &str, request: &Request) {
        let reply = Reply::to(request, Outcome::Accepted);
        let is_kept = request.command.has_effect();
        self.entries.push_back(Entry { transport: transport.to_owned(), reply, is_kept });
        while self.entries.len() > MOST || self.results() > RESULTS_MOST {
            self.entries.pop_front();
        }
        if is_kept {
            self.save();
        }
    }

    /// It has got an answer.
    pub(super) fn answered(&mut self, transport: &str, reply: &Reply) {
        let mut entries = self.entries.iter_mut().rev();
        let matches = |entry: &&mut Entry| entry.reply.request_id == reply.request_id && entry.transport == transport;
        let Some(entry) = entries.find(matches) else { return };
        let is_news = entry.reply.status != reply.status;
        entry.reply = reply.clone();
        if entry.is_kept && is_news {
            self.save();
        }
    }

    fn results(&self) -> usize {
        let size = |entry: &Entry| match &entry.reply.result {
            Some(serde_json::Value::Object(result)) => {
                result.values().map(|value| value.as_str().map_or(16, str::len)).sum::<usize>()
            }
            _ => 0,
        };
        self.entries.iter().map(size).sum()
    }

    fn save(&mut self) {
        let Some(path) = &self.path else { return };
        let kept = self.entries.iter().filter(|entry| entry.is_kept).cloned().map(|mut entry| {
            entry.reply.result = entry.reply.result.filter(|result| result.to_string().len() <= ON_DISK);
            entry
        });
        let text = serde_json::to_vec(&kept.collect::<Vec<_>>()).unwrap_or_default();
        if let Err(error) = replace(path, &text) {
            tracing::error!(path = %path.display(), %error, "commands cannot be remembered over a restart");
        }
    }
}

fn load(path: &Path) -> VecDeque<Entry> {
    let read: Vec<Entry> = match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the journal of commands cannot be read; it begins anew");
            Vec::new()
        }),
        Err(_) => Vec::new(),
    };
    read.into_iter().map(|entry| Entry { is_kept: true, ..entry }).collect()
}

/// Replaces a file as a whole: after a crash it is the old one or the new one. Only its owner can read it.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    file.sync_data()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::command::Command;

    fn request(id: &str, command: Command) -> Request {
        Request { id: id.to_owned(), camera: None, command }
    }

    #[test]
    fn what_was_asked_is_known_after_a_restart() {
        let directory = std::env::temp_dir().join(format!("edgecam-journal-{}", std::process::id()));
        let path = directory.join("journal.json");
        let (mut journal, due) = Journal::open(Some(path.clone()));
        assert!(due.is_empty());
        let (restart, stop) = (request("r", Command::Restart), request("s", Command::Stop));
        journal.begin("mqtt", &restart);
        journal.begin("mqtt", &stop);
        journal.answered("mqtt", &Reply::to(&stop, Outcome::Done).with(json!({ "large": "x".repeat(5000) })));
        journal.begin("mqtt", &request("q", Command::Status));
        assert_eq!(journal.known("http", "s"), None, "ids are each transport's own");
        let (journal, due) = Journal::open(Some(path.clone()));
        let ends: Vec<_> =
            due.iter().map(|(to, reply)| (to.as_str(), reply.request_id.as_str(), reply.status)).collect();
        assert_eq!(ends, [("mqtt", "r", Outcome::Done)]);
        assert_eq!(journal.known("mqtt", "s").map(|reply| (reply.status, reply.result)), Some((Outcome::Done, None)));
        assert_eq!(journal.known("mqtt", "q"), None);
        let (_, due) = Journal::open(Some(path));
        assert!(due.is_empty(), "answered once");
        std::fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn it_is_bounded() {
        let (mut journal, _) = Journal::open(None);
        for n in 0..1_000 {
            let request = request(&n.to_string(), Command::Status);
            journal.begin("http", &request);
            journal.answered("http", &Reply::to(&request, Outcome::Done).with(json!({ "data": "x".repeat(100_000) })));
        }
        assert!(journal.entries.len() <= MOST && journal.results() <= RESULTS_MOST + 100_000);
        assert!(journal.known("http", "999").is_some());
    }
}

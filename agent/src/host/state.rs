//! The version of what the agent keeps on disk, in the state directory and in each archive's.
//!
//! A small file says which version wrote there and which versions can go on with it. An older agent that cannot leaves
//! all of it as it is: it would take what it does not know for damage, and mend or delete it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What this agent writes. 1: segments of fragmented MP4, `upload.cursor` with the mark `edgecam-cursor-2`, outboxes,
/// `commanded.json` and `commands.json` of version 1, listings of recorders. It rises with any of them, and what is
/// older is then brought up to date in [`adopt`].
pub const VERSION: u32 = 1;
/// The oldest agents, by their `VERSION`, that can go on with what this one writes.
const READABLE_BY: u32 = 1;
/// The file's name. Its two numbers keep their names and meaning in every version.
const FILE: &str = "state-version.json";
/// More is no such file.
const MOST: u64 = 4 << 10;

#[derive(Serialize, Deserialize)]
struct Mark {
    version: u32,
    readable_by: u32,
    /// For people.
    #[serde(default)]
    agent: String,
}

/// Why a directory is left alone.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A newer agent has been here.
    #[error(
        "{} was written by a newer agent ({agent}; its state has version {version}, this agent, {}, reads up to {VERSION}). \
         Nothing in it is touched: install that agent again, or give this one another directory",
        directory.display(), env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The directory.
        directory: PathBuf,
        /// Version of its state.
        version: u32,
        /// Who wrote it.
        agent: String,
    },
    /// The file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// What a directory holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Nothing, or no such directory.
    Nothing,
    /// State without a mark: that of agents before there was one, which is version 1; or the mark is damaged.
    Unmarked,
    /// State of this version.
    Version(u32),
}

/// Looks, and changes nothing.
pub fn look(directory: &Path) -> Result<Held, StateError> {
    let path = directory.join(FILE);
    match read(&path) {
        Ok(Some(mark)) if mark.readable_by > VERSION => {
            Err(StateError::Newer { directory: directory.to_owned(), version: mark.version, agent: mark.agent })
        }
        Ok(Some(mark)) => Ok(Held::Version(mark.version)),
        Ok(None) => match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(Held::Nothing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Held::Nothing),
            _ => Ok(Held::Unmarked),
        },
        Err(error) => Err(StateError::File { path, error }),
    }
}

/// Makes a directory ours, if it is not a newer agent's. Marks it, and makes it if it is missing.
pub fn adopt(directory: &Path) -> Result<(), StateError> {
    // From version 2 on, what is older is brought up to date here, before the mark says so.
    match look(directory)? {
        // A compatible newer version keeps its mark: what it wrote is still there.
        Held::Version(version) if version >= VERSION => Ok(()),
        Held::Version(_) | Held::Unmarked | Held::Nothing => {
            let path = directory.join(FILE);
            write(directory, &path).map_err(|error| StateError::File { path, error })
        }
    }
}

/// `None`: there is none, or nothing that can be understood.
fn read(path: &Path) -> io::Result<Option<Mark>> {
    use io::Read as _;
    let mut text = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(MOST).read_to_end(&mut text)?,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mark = serde_json::from_slice(&text).ok();
    if mark.is_none() {
        tracing::warn!(path = %path.display(), "the version of the state is damaged; it is taken for this agent's");
    }
    Ok(mark)
}

fn write(directory: &Path, path: &Path) -> io::Result<()> {
    let mark =
        Mark { version: VERSION, readable_by: READABLE_BY, agent: format!("edgecam {}", env!("CARGO_PKG_VERSION")) };
    fs::create_dir_all(directory)?;
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    io::Write::write_all(&mut file, &serde_json::to_vec(&mark).map_err(io::Error::other)?)?;
    file.sync_data()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_state_it_is() {
        let directory = std::env::temp_dir().join(format!("edgecam-state-{}", std::process::id()));
        fs::remove_dir_all(&directory).ok();
        assert_eq!(look(&directory).expect("nothing is no error"), Held::Nothing);
        adopt(&directory).expect("made");
        assert_eq!(look(&directory).expect("ours"), Held::Version(VERSION));
        let path = directory.join(FILE);
        let ours = fs::read(&path).expect("a mark");
        let check = |mark: Option<&str>, found: Result<Held, u32>, after: Option<&[u8]>| {
            match mark {
                Some(mark) => fs::write(&path, mark).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            fs::write(directory.join("footage"), "x").expect("written");
            let told = look(&directory).map_err(|error| match error {
                StateError::Newer { version, .. } => version,
                StateError::File { path, error } => panic!("{}: {error}", path.display()),
            });
            assert_eq!(told, found, "{mark:?}");
            assert_eq!(adopt(&directory).is_ok(), found.is_ok(), "{mark:?}");
            let left = fs::read(&path).expect("a mark");
            assert_eq!(left, after.unwrap_or_else(|| mark.unwrap_or_default().as_bytes()), "{mark:?}");
        };
        // State of before there was a mark is adopted.
        check(None, Ok(Held::Unmarked), Some(&ours));
        check(Some(""), Ok(Held::Unmarked), Some(&ours));
        check(Some("{\"version\":"), Ok(Held::Unmarked), Some(&ours));
        // A newer one that this agent can go on with, with words that it does not know.
        check(Some(r#"{"version":7,"readable_by":1,"agent":"edgecam 2.0.0","more":[1]}"#), Ok(Held::Version(7)), None);
        check(Some(r#"{"version":7,"readable_by":2,"agent":"edgecam 2.0.0"}"#), Err(7), None);
        fs::remove_dir_all(&directory).ok();
    }
}

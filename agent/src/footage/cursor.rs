//! Reads the log at any position: from the ring where it is there, else from the archive.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use edgecam_media::ring::{Position, Read};
use edgecam_media::{AccessUnit, ParameterSets};
use tokio::task::JoinHandle;

use super::Footage;
use super::archive::{ArchiveRead, Reader};

/// After a disk error, until the archive is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Disk errors in a row after which the reader goes on with what is in RAM.
const ERRORS_BEFORE_SKIPPING: u32 = 5;

/// What comes next.
#[derive(Clone, PartialEq, Debug)]
pub enum Next {
    /// A picture.
    Unit {
        /// The picture.
        unit: AccessUnit,
        /// What its GOP refers to.
        sets: Arc<ParameterSets>,
        /// Where to go on.
        next: Position,
    },
    /// The log has let go of the position, and goes on at `resume`.
    Lagged {
        /// The next place that can be decoded.
        resume: Position,
    },
}

type Reading = JoinHandle<(Reader, io::Result<ArchiveRead>)>;

/// A reader of the log. Positions are the caller's; the cursor only keeps what makes reading on cheap.
pub struct Cursor {
    footage: Footage,
    reader: Option<Reader>,
    /// A read of the archive that is under way; it outlives the future that began it.
    reading: Option<(Position, Reading)>,
    /// Units read from the archive ahead of their turn, the position that asks for the first, and their sets.
    ahead: VecDeque<AccessUnit>,
    ahead_at: (Position, Position),
    ahead_sets: Option<Arc<ParameterSets>>,
    errors: u32,
}

impl Cursor {
    pub(super) fn new(footage: Footage) -> Self {
        Self {
            footage,
            reader: None,
            reading: None,
            ahead: VecDeque::new(),
            ahead_at: (Position::default(), Position::default()),
            ahead_sets: None,
            errors: 0,
        }
    }

    /// Reads at `position`; waits while there is nothing yet. Dropping the future loses nothing.
    pub async fn read(&mut self, position: Position) -> Next {
        let footage = self.footage.clone();
        let mut at = position;
        loop {
            let appended = footage.0.appended.notified();
            match self.look(&mut at) {
                Look::Found(next) => return next,
                Look::Nothing => appended.await,
                Look::Evicted(resume) => {
                    let read = self.read_archive(at).await;
                    if let Some(next) = self.take_archive(&mut at, resume, read) {
                        return next;
                    }
                }
            }
        }
    }

    /// Reads at `position` if there is something, on the calling thread: it may block on the disk.
    pub fn try_read(&mut self, position: Position) -> Option<Next> {
        let mut at = position;
        loop {
            match self.look(&mut at) {
                Look::Found(next) => return Some(next),
                Look::Nothing => return None,
                Look::Evicted(resume) => {
                    let index = self.footage.archive().filter(|index| at < index.written()).cloned();
                    let mut reader = self.reader.take().unwrap_or_default();
                    let read = index.and_then(|index| reader.read(&index, at).ok());
                    self.reader = Some(reader);
                    if let Some(next) = self.take_archive(&mut at, resume, read) {
                        return Some(next);
                    }
                }
            }
        }
    }

    /// What is in RAM at `at`.
    fn look(&mut self, at: &mut Position) -> Look {
        if let Some(next) = self.take_ahead(*at) {
            return Look::Found(next);
        }
        match self.footage.read_ring(*at) {
            (Read::Unit { unit, next, .. }, Some(sets)) => {
                // In RAM again: what was needed to read the disk is not worth keeping.
                self.reader = None;
                Look::Found(Next::Unit { unit, sets, next })
            }
            (Read::Pending | Read::Unit { .. }, _) => Look::Nothing,
            (Read::Evicted { resume }, _) => Look::Evicted(resume),
        }
    }

    /// Takes what the archive had at `at`; `resume` is where the ring begins. `None`: look again at `at`.
    fn take_archive(&mut self, at: &mut Position, resume: Position, read: Option<ArchiveRead>) -> Option<Next> {
        let resume = match read {
            Some(ArchiveRead::Units { at: found, units, sets }) => {
                self.ahead = units.into();
                self.ahead_at = (*at, found);
                self.ahead_sets = Some(sets);
                found
            }
            Some(ArchiveRead::Gap { resume: Some(archived) }) if archived > *at => archived.min(resume.max(*at)),
            _ => resume,
        };
        if follows(*at, resume) {
            *at = resume;
            return None;
        }
        Some(Next::Lagged { resume })
    }

    fn take_ahead(&mut self, position: Position) -> Option<Next> {
        let (asked, at) = self.ahead_at;
        if position != asked && position != at {
            self.ahead.clear();
            return None;
        }
        let unit = self.ahead.pop_front()?;
        let next = Position { gop: at.gop, unit: at.unit + 1 };
        self.ahead_at = (next, next);
        Some(Next::Unit { unit, sets: self.ahead_sets.clone()?, next })
    }

    async fn read_archive(&mut self, position: Position) -> Option<ArchiveRead> {
        let index = self.footage.archive()?.clone();
        if position >= index.written() {
            return None;
        }
        loop {
            if self.reading.as_ref().is_none_or(|(at, _)| *at != position) {
                let mut reader = self.reader.take().unwrap_or_default();
                let index = index.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let result = reader.read(&index, position);
                    (reader, result)
                });
                self.reading = Some((position, read));
            }
            let Some((_, reading)) = &mut self.reading else { return None };
            let read = reading.await;
            self.reading = None;
            match read {
                Ok((reader, Ok(read))) => {
                    self.reader = Some(reader);
                    self.errors = 0;
                    return Some(read);
                }
                Ok((_, Err(error))) => {
                    self.errors += 1;
                    tracing::warn!(%error, "the archive cannot be read");
                }
                Err(error) => {
                    self.errors += 1;
                    tracing::error!(%error, "reading the archive failed");
                }
            }
            if self.errors >= ERRORS_BEFORE_SKIPPING {
                return None;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// What is in RAM at a position.
enum Look {
    Found(Next),
    /// Nothing yet.
    Nothing,
    /// It is gone; the ring begins at the position given.
    Evicted(Position),
}

/// Whether `next` is simply what comes after `position`, which stood behind the last unit of its GOP.
fn follows(position: Position, next: Position) -> bool {
    next == position || (position.unit > 0 && next == Position::start_of(position.gop + 1))
}

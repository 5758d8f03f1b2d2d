//! The outbox's thread: the only one that touches its file.

use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::log::{Log, Opened};
use super::queue::{Placed, Sequence, Unwritten};
use super::{SYNC_AFTER, Shared, State, WRITE_AFTER};

/// After the disk has failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// What is gone is written down together: forgetting it only means to offer it again.
const GONE_AFTER: Duration = Duration::from_secs(1);
/// Dead bytes a file may hold beside as many as are alive.
const SLACK: u64 = 256 << 10;

/// What to do next.
enum Job {
    Load(Vec<(Sequence, Placed)>),
    Write(Vec<Unwritten>, Vec<u64>),
    Clear,
    Rewrite(Vec<(Sequence, Placed)>),
    Sync,
    End,
}

/// The thread's own state.
struct Writer {
    log: Log,
    unsynced_since: Option<Instant>,
    retry_at: Option<Instant>,
}

/// Works until the last handle is gone.
pub(super) fn run(shared: &Shared, directory: &Path) {
    let Some(mut writer) = open(shared, directory) else { return };
    loop {
        let job = writer.wait(shared);
        if matches!(job, Job::End) {
            break;
        }
        let done = writer.perform(shared, job);
        let mut state = shared.lock();
        match done {
            Ok(()) => {
                writer.retry_at = None;
                if state.error.take().is_some() {
                    tracing::info!("the outbox's disk works again");
                }
            }
            Err(error) => {
                writer.retry_at = Some(Instant::now() + RETRY_AFTER);
                fail(&mut state, directory, &error);
            }
        }
        drop(state);
        shared.changed.notify_one();
        shared.written.notify_waiters();
    }
}

fn fail(state: &mut State, directory: &Path, error: &io::Error) {
    let text = format!("{}: {error}", directory.display());
    if state.error.as_ref() != Some(&text) {
        tracing::error!(error = text, "the outbox's disk fails: messages wait in RAM");
    }
    state.error = Some(text);
}

/// Opens the file, again and again if it must be; `None` when nobody wants it any more.
fn open(shared: &Shared, directory: &Path) -> Option<Writer> {
    loop {
        let opened = Log::open(directory);
        let mut state = shared.lock();
        match opened {
            Ok(Opened { log, left, cut }) => {
                if cut > 0 {
                    tracing::warn!(bytes = cut, "the end of the outbox was cut off by a crash");
                }
                if !left.is_empty() {
                    tracing::info!(messages = left.len(), "messages of the last run wait in the outbox");
                }
                state.queue.adopt(&left);
                (state.is_opening, state.error) = (false, None);
                drop(state);
                shared.changed.notify_one();
                return Some(Writer { log, unsynced_since: None, retry_at: None });
            }
            Err(error) => {
                fail(&mut state, directory, &error);
                // What waits in RAM can be taken meanwhile.
                state.is_opening = false;
                let until = Instant::now() + RETRY_AFTER;
                shared.changed.notify_one();
                shared.written.notify_waiters();
                while !state.has_ended && Instant::now() < until {
                    let left = until.saturating_duration_since(Instant::now());
                    state = shared.disk.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                }
                if state.has_ended {
                    return None;
                }
            }
        }
    }
}

impl Writer {
    fn wait(&mut self, shared: &Shared) -> Job {
        let mut state = shared.lock();
        loop {
            let now = Instant::now();
            match self.decide(&mut state, now) {
                Ok(job) => return job,
                Err(None) => state = shared.disk.wait(state).unwrap_or_else(PoisonError::into_inner),
                Err(Some(until)) => {
                    let left = until.saturating_duration_since(now);
                    state = shared.disk.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// The next job, or until when there is none.
    fn decide(&self, state: &mut State, now: Instant) -> Result<Job, Option<Instant>> {
        if let Some(wanted) = state.wanted.take() {
            let load = state.queue.to_load(wanted);
            if !load.is_empty() {
                return Ok(Job::Load(load));
            }
        }
        if let Some(retry_at) = self.retry_at.filter(|at| *at > now) {
            return if state.has_ended { Ok(Job::End) } else { Err(Some(retry_at)) };
        }
        let unless_ended = |delay| if state.has_ended { Duration::ZERO } else { delay };
        let write_after = if state.is_hurried { Duration::ZERO } else { unless_ended(WRITE_AFTER) };
        let (gone_after, sync_after) = (unless_ended(GONE_AFTER), unless_ended(SYNC_AFTER));
        let mut next: Option<Instant> = None;
        let mut is_due = |since: Option<Instant>, delay: Duration| {
            let Some(at) = since.map(|since| since + delay) else { return false };
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
            at <= now
        };
        if state.queue.unwritten() == 0 {
            state.unwritten_since = None;
        } else if is_due(state.unwritten_since, write_after) {
            // The rest, if any, is as old.
            return Ok(Job::Write(state.queue.to_write(), self.take_gone(state)));
        }
        if !state.queue.has_gone() {
            state.gone_since = None;
        } else if is_due(state.gone_since, gone_after) {
            let gone = self.take_gone(state);
            return Ok(if state.queue.placed() == 0 { Job::Clear } else { Job::Write(Vec::new(), gone) });
        }
        let live = state.queue.placed_bytes();
        if self.log.length() > 2 * live + SLACK {
            // It is left out anyway.
            self.take_gone(state);
            return Ok(Job::Rewrite(state.queue.live()));
        }
        if is_due(self.unsynced_since, sync_after) {
            return Ok(Job::Sync);
        }
        if state.has_ended { Ok(Job::End) } else { Err(next) }
    }

    fn take_gone(&self, state: &mut State) -> Vec<u64> {
        state.gone_since = None;
        state.queue.take_gone()
    }

    fn perform(&mut self, shared: &Shared, job: Job) -> io::Result<()> {
        match job {
            Job::Load(wanted) => {
                let read: Vec<_> = wanted.iter().map(|(sequence, placed)| (*sequence, self.log.read(placed))).collect();
                let mut state = shared.lock();
                let mut failed = Ok(());
                for (sequence, body) in read {
                    match body {
                        Ok(body) => state.queue.loaded(sequence, Some(body)),
                        Err(error) => {
                            state.queue.loaded(sequence, None);
                            failed = Err(error);
                        }
                    }
                }
                failed
            }
            Job::Write(messages, gone) => {
                let places = self.log.append(&messages, &gone)?;
                self.unsynced_since.get_or_insert_with(Instant::now);
                let mut state = shared.lock();
                for (message, place) in messages.iter().zip(places) {
                    state.queue.written(message.sequence, place);
                }
                if state.queue.has_gone() {
                    state.gone_since.get_or_insert_with(Instant::now);
                }
                Ok(())
            }
            Job::Clear => self.log.clear(),
            Job::Rewrite(live) => {
                let places = self.log.rewrite(&live)?;
                self.unsynced_since = None;
                let mut state = shared.lock();
                for ((sequence, _), place) in live.iter().zip(places) {
                    state.queue.moved(*sequence, place);
                }
                if state.queue.has_gone() {
                    state.gone_since.get_or_insert_with(Instant::now);
                }
                Ok(())
            }
            Job::Sync => {
                self.log.sync()?;
                self.unsynced_since = None;
                Ok(())
            }
            Job::End => Ok(()),
        }
    }
}

//! Threads that look at pictures, and whose turn it is.
//!
//! Each camera has a slot with the pictures that are to be decoded next. A newer key frame pushes out what has not been
//! looked at yet: newest wins, and what was pushed out is counted. The camera that has waited longest is next, so one
//! that is slow takes no turns from others. After each turn a thread rests, as far as the budget wants that; threads have
//! a lower priority than the rest of the agent, so that recording and upload never wait for them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edgecam_media::{AccessUnit, ParameterSets};
use rustix::process::{Pid, setpriority_process};
use rustix::time::{ClockId, clock_gettime};

use super::looker::Looker;
use crate::run::thread;

/// Pictures of a camera that wait at most, and their bytes: a GOP of 10 s.
const MOST: usize = 300;
const MOST_BYTES: usize = 16 << 20;
/// Below the rest of the agent.
const NICE: i32 = 10;
/// A thread rests no longer than this at once.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// A picture to decode.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) unit: AccessUnit,
    pub(super) sets: Arc<ParameterSets>,
    /// Its number since the camera started.
    pub(super) number: u64,
    /// Bit n: detector n is to look at it.
    pub(super) look: u32,
    /// When it was taken into the log.
    pub(super) arrived: Instant,
}

/// Threads that look. Clones share them; the last one ends them.
#[derive(Clone)]
pub struct Pool(Arc<Owner>);

struct Owner(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Share of a thread's time, above 0 to 1.
    budget: f64,
}

#[derive(Default)]
struct State {
    slots: Vec<Slot>,
    next_id: u64,
    is_over: bool,
}

struct Slot {
    id: u64,
    waiting: Vec<Picture>,
    bytes: usize,
    since: Instant,
    /// A picture is missing: nothing can be decoded before the next key frame.
    is_broken: bool,
    /// Not here while a thread has it.
    looker: Option<Box<Looker>>,
    is_leaving: bool,
}

/// A camera's place in the pool; dropping it leaves.
pub(super) struct Place {
    shared: Arc<Shared>,
    id: u64,
}

impl Pool {
    /// Starts `threads` threads that use at most `budget` (above 0 to 1) of their time.
    pub fn start(threads: usize, budget: f64) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), budget });
        let owner = Arc::new(Owner(shared.clone()));
        for number in 0..threads.max(1) {
            let shared = shared.clone();
            thread::spawn(&format!("look {number}"), move || shared.run())?;
        }
        Ok(Self(owner))
    }

    /// As many threads as there are cores, less one for the rest of the agent.
    pub fn usual_threads() -> usize {
        std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
    }

    pub(super) fn join(&self, looker: Looker) -> Place {
        let shared = self.0.0.clone();
        let mut state = shared.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.slots.push(Slot {
            id,
            waiting: Vec::new(),
            bytes: 0,
            since: Instant::now(),
            is_broken: true,
            looker: Some(Box::new(looker)),
            is_leaving: false,
        });
        drop(state);
        Place { shared, id }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.wake.notify_all();
    }
}

impl Place {
    /// Adds pictures that follow each other; returns how many looks were pushed out by them. Never waits.
    pub(super) fn push(&self, pictures: impl IntoIterator<Item = Picture>) -> u64 {
        let mut state = self.shared.lock();
        let Some(slot) = state.slots.iter_mut().find(|slot| slot.id == self.id) else { return 0 };
        let skipped = pictures.into_iter().map(|picture| slot.push(picture)).sum();
        drop(state);
        // All: one that rests must not take the call from one that could work.
        self.shared.wake.notify_all();
        skipped
    }

    /// Nothing that waits is of use: the next picture to look at will be a key frame.
    pub(super) fn interrupt(&self) {
        if let Some(slot) = self.shared.lock().slots.iter_mut().find(|slot| slot.id == self.id) {
            slot.clear();
            slot.is_broken = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(at) = state.slots.iter().position(|slot| slot.id == self.id) {
            // A thread that is at work for it puts it away when it is done.
            state.slots[at].is_leaving = true;
            let looker = state.slots[at].looker.take();
            if looker.is_some() {
                state.slots.swap_remove(at);
            }
            drop(state);
            if let Some(mut looker) = looker {
                looker.leave();
            }
        }
    }
}

impl Slot {
    fn push(&mut self, picture: Picture) -> u64 {
        let mut skipped = 0;
        if picture.unit.is_idr {
            skipped = self.clear();
            self.is_broken = false;
        }
        if self.is_broken {
            return u64::from(picture.look != 0);
        }
        self.bytes += picture.unit.data.len();
        if self.waiting.len() == MOST || self.bytes > MOST_BYTES {
            skipped += self.clear() + u64::from(picture.look != 0);
            self.is_broken = true;
            return skipped;
        }
        if self.waiting.is_empty() {
            self.since = Instant::now();
        }
        self.waiting.push(picture);
        skipped
    }

    /// Returns how many looks are lost.
    fn clear(&mut self) -> u64 {
        self.bytes = 0;
        self.waiting.drain(..).filter(|picture| picture.look != 0).count() as u64
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        // Linux has priorities of threads; where it refuses, all are equal.
        setpriority_process(Pid::from_raw(rustix::thread::gettid().as_raw_pid()), NICE).ok();
        while let Some((id, mut looker, pictures)) = self.next() {
            let before = thread_time();
            // Nothing of a picture that ends in a panic is looked at again.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| looker.work(pictures))) {
                looker.recover(&thread::message(&*panic));
            }
            let spent = thread_time().saturating_sub(before);
            self.put_back(id, looker);
            self.rest(spent);
        }
    }

    fn next(&self) -> Option<(u64, Box<Looker>, Vec<Picture>)> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            let ready = state.slots.iter_mut().filter(|slot| slot.looker.is_some() && !slot.waiting.is_empty());
            if let Some(slot) = ready.min_by_key(|slot| slot.since)
                && let Some(looker) = slot.looker.take()
            {
                slot.bytes = 0;
                return Some((slot.id, looker, std::mem::take(&mut slot.waiting)));
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put_back(&self, id: u64, mut looker: Box<Looker>) {
        let mut state = self.lock();
        let Some(at) = state.slots.iter().position(|slot| slot.id == id) else { return };
        if state.slots[at].is_leaving {
            state.slots.swap_remove(at);
            drop(state);
            looker.leave();
            return;
        }
        state.slots[at].looker = Some(looker);
        let is_waited_for = !state.slots[at].waiting.is_empty();
        drop(state);
        if is_waited_for {
            self.wake.notify_all();
        }
    }

    /// Rests so long that the turn was within the budget.
    fn rest(&self, spent: Duration) {
        if self.budget >= 1.0 {
            return;
        }
        let rest = spent.mul_f64(1.0 / self.budget - 1.0).min(LONGEST_REST);
        let until = Instant::now() + rest;
        let mut state = self.lock();
        while !state.is_over {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// CPU time of this thread.
pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

//! A seeded simulation on a virtual clock: log, archive, cursor and delivery together, against a service, a network, a
//! clock, a disk and a power supply that misbehave.
//!
//! `EDGECAM_SIM_SEEDS=N` runs N seeds (default 10,000); `EDGECAM_SIM_SEED=S` runs one and says what happens.
//!
//! Real here: everything of the product between the camera's picture and the socket, and the archive's files. Made up:
//! time, the socket, and the service, which stores what it has acknowledged and nothing else.

mod agent;
mod service;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test's own settings")]
    let value = std::env::var(name);
    value.ok().and_then(|value| value.parse().ok())
}

#[test]
fn nothing_is_lost_whatever_happens() {
    let directory = world::directory();
    if let Some(seed) = number("EDGECAM_SIM_SEED") {
        world::run(seed, &directory, true);
        return;
    }
    let seeds = number("EDGECAM_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        for worker in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            let (directory, next, failed) = (directory.join(format!("{worker}")), &next, &failed);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.load(Ordering::Relaxed) != u64::MAX {
                        return;
                    }
                    let run = std::panic::AssertUnwindSafe(|| world::run(seed, &directory, false));
                    if std::panic::catch_unwind(run).is_err() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.load(Ordering::Relaxed);
    std::fs::remove_dir_all(&directory).ok();
    assert_eq!(
        failed,
        u64::MAX,
        "seed {failed} failed; replay: EDGECAM_SIM_SEED={failed} cargo test -p edgecam --test sim"
    );
}

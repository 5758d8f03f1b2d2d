//! A stage is a task with a name, a parent and an end. A panic restarts it, is counted, and takes nothing else down.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Between a panic and the restart.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// A running stage.
pub struct Stage {
    name: String,
    task: JoinHandle<()>,
    panics: Arc<AtomicU64>,
}

impl Stage {
    /// Starts a stage. `make` makes its future, again after each panic; when that returns, the stage has ended.
    pub fn spawn<F>(name: String, cancel: CancellationToken, make: impl Fn() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let panics = Arc::new(AtomicU64::new(0));
        let (counter, label) = (panics.clone(), name.clone());
        #[expect(clippy::disallowed_methods, reason = "this is where stages are made")]
        let task = tokio::spawn(async move {
            loop {
                // A task of its own, so that its panic becomes a value; it ends with this one.
                let attempt = AbortOnDropHandle::new(tokio::spawn(make()));
                match attempt.await {
                    Ok(()) => return,
                    Err(error) => {
                        counter.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(stage = %label, %error, "a stage has panicked and is restarted");
                    }
                }
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(RESTART_AFTER) => {}
                }
            }
        });
        Self { name, task, panics }
    }

    /// Panics so far.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Waits for its end, at most `deadline`; then it is aborted.
    pub async fn end(mut self, deadline: Duration) {
        if tokio::time::timeout(deadline, &mut self.task).await.is_err() {
            tracing::warn!(stage = %self.name, "did not end in time");
            self.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panic_restarts_the_stage() {
        let runs = Arc::new(AtomicU64::new(0));
        let counter = runs.clone();
        let stage = Stage::spawn("test".to_owned(), CancellationToken::new(), move || {
            let run = counter.fetch_add(1, Ordering::Relaxed);
            async move { assert!(run >= 2, "the first two runs panic") }
        });
        let panics = stage.panics.clone();
        stage.end(Duration::from_secs(60)).await;
        assert_eq!((runs.load(Ordering::Relaxed), panics.load(Ordering::Relaxed)), (3, 2));
    }
}

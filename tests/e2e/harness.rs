//! What every end-to-end test needs: a place of its own, the stand-in for the service, the agent as a child process,
//! clips, cameras, and the comparison of what went in with what is on disk and in the stream.
//!
//! Waits poll with a deadline. Whatever a test starts ends with it; what it wrote stays when it fails.

pub(crate) mod agent;
pub(crate) mod broker;
pub(crate) mod camera;
pub(crate) mod footage;
pub(crate) mod http;
pub(crate) mod media;
pub(crate) mod moto;
pub(crate) mod pki;
pub(crate) mod python;
pub(crate) mod rig;
pub(crate) mod scratch;

use std::time::{Duration, Instant};

pub(crate) use rig::Rig;
pub(crate) use scratch::Scratch;

/// Two shared cores, several agents, encoders and decoders at once: what takes a second alone may take many.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// Asks again and again until there is an answer; `None` when there is none in time.
pub(crate) async fn poll<T>(timeout: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether tests are to last as long as the requirement says.
pub(crate) fn is_long() -> bool {
    std::env::var_os("EDGECAM_LONG").is_some()
}

//! Logins at one recorder, of all of its cameras: few at a time, and what was refused to one is not tried by the next.
//!
//! 64 cameras that start together would be 64 logins in a second, and 64 wrong passwords: recorders lock out for less.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use url::{Origin, Url};

use crate::capture::CaptureError;
use crate::config::source::Credentials;

/// Logins at once.
const AT_ONCE: usize = 4;
/// A refusal is believed for so long: less than a camera waits after one of its own.
const BELIEVED: Duration = Duration::from_secs(25);

static DOORS: LazyLock<Mutex<HashMap<Origin, Arc<Door>>>> = LazyLock::new(Mutex::default);

/// The door of one recorder.
#[derive(Debug)]
pub(super) struct Door {
    places: Semaphore,
    refused: Mutex<Option<Refusal>>,
}

#[derive(Debug)]
struct Refusal {
    at: Instant,
    credentials: Option<Credentials>,
    why: String,
}

/// The door of the recorder at `server`.
pub(super) fn of(server: &Url) -> Arc<Door> {
    let mut doors = DOORS.lock().unwrap_or_else(PoisonError::into_inner);
    doors.retain(|_, door| Arc::strong_count(door) > 1 || door.refusal(|_| ()).is_some());
    doors.entry(server.origin()).or_insert_with(|| Arc::new(Door::new())).clone()
}

impl Door {
    fn new() -> Self {
        Self { places: Semaphore::new(AT_ONCE), refused: Mutex::new(None) }
    }

    /// Waits for a place to log in, as long as the logins before it take; each of them has deadlines.
    pub(super) async fn enter(
        &self,
        credentials: Option<&Credentials>,
    ) -> Result<Option<SemaphorePermit<'_>>, CaptureError> {
        // The semaphore is never closed: without a place there is no limit either.
        let place = self.places.acquire().await.ok();
        let same = self.refusal(|refusal| {
            (refusal.credentials.as_ref() == credentials)
                .then(|| format!("{} (said to another camera of this recorder)", refusal.why))
        });
        match same.flatten() {
            Some(why) => Err(CaptureError::AuthFailed(why)),
            None => Ok(place),
        }
    }

    /// How a login ended that had a place.
    pub(super) fn left<T>(&self, credentials: Option<&Credentials>, end: &Result<T, CaptureError>) {
        let refusal = match end {
            Ok(_) => None,
            Err(CaptureError::AuthFailed(why)) => {
                Some(Refusal { at: Instant::now(), credentials: credentials.cloned(), why: why.clone() })
            }
            Err(_) => return,
        };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    fn refusal<T>(&self, look: impl FnOnce(&Refusal) -> T) -> Option<T> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().filter(|refusal| refusal.at.elapsed() < BELIEVED).map(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;

    fn with(password: &str) -> Credentials {
        Credentials { username: "admin".to_owned(), password: Secret::new(password) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_password_is_tried_once() {
        let door = Door::new();
        let (wrong, right) = (with("wrong"), with("right"));
        let place = door.enter(Some(&wrong)).await.expect("nothing is known");
        door.left(Some(&wrong), &Err::<(), _>(CaptureError::AuthFailed("no".to_owned())));
        drop(place);
        let told = door.enter(Some(&wrong)).await.expect_err("it was refused");
        assert!(told.to_string().contains("another camera"), "{told}");
        assert!(door.enter(Some(&right)).await.is_ok() && door.enter(None).await.is_ok());
        tokio::time::advance(BELIEVED).await;
        assert!(door.enter(Some(&wrong)).await.is_ok(), "it may be right by now");
    }

    #[tokio::test(start_paused = true)]
    async fn few_enter_at_once() {
        let door = of(&Url::parse("http://10.0.0.1:5250/").expect("a URL"));
        let mut inside = Vec::new();
        for _ in 0..AT_ONCE {
            inside.push(door.enter(None).await.expect("a place"));
        }
        let one_more = tokio::time::timeout(Duration::from_secs(60), door.enter(None)).await;
        assert!(one_more.is_err(), "it has to wait");
        inside.pop();
        assert!(door.enter(None).await.is_ok());
    }
}

//! Named OS threads: the one place where threads are made.
//!
//! Invariants: a thread has a name, and whoever starts it can learn how it ended; a panic becomes a value, it does not
//! vanish. Deliberately absent: stopping a thread. Each one watches a channel of its owner and ends when it closes.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

/// A thread ended by a panic.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the thread '{thread}' panicked: {message}")]
pub struct Panicked {
    /// Name of the thread.
    pub thread: String,
    /// What the panic said.
    pub message: String,
}

/// A running thread whose end can be awaited.
#[derive(Debug)]
pub struct Thread<T> {
    name: String,
    result: oneshot::Receiver<Result<T, Panicked>>,
}

/// Starts a thread. Linux shows the first 15 bytes of `name`.
pub fn spawn<T: Send + 'static>(name: &str, f: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(f)
}

/// Starts a thread that async code waits for.
pub fn start<T: Send + 'static>(name: &str, f: impl FnOnce() -> T + Send + 'static) -> io::Result<Thread<T>> {
    let (send, result) = oneshot::channel();
    let thread = name.to_owned();
    spawn(name, move || {
        // Nothing of what `f` owned is looked at again after a panic.
        let end = catch_unwind(AssertUnwindSafe(f)).map_err(|panic| Panicked { thread, message: message(&*panic) });
        // Nobody waits any more: then nobody wants to know.
        drop(send.send(end));
    })?;
    Ok(Thread { name: name.to_owned(), result })
}

impl<T> Thread<T> {
    /// Waits until the thread has ended. Dropping the future neither stops the thread nor waits for it.
    pub async fn ended(self) -> Result<T, Panicked> {
        let Self { name, result } = self;
        result.await.unwrap_or_else(|_| Err(Panicked { thread: name, message: "it left no result".to_owned() }))
    }
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_has_a_name_and_an_end() {
        let name = start("some-name", || std::thread::current().name().map(str::to_owned)).expect("started");
        assert_eq!(name.ended().await, Ok(Some("some-name".to_owned())));
        let panicked = start("unlucky", || -> u8 { panic!("lost {}", 7) }).expect("started").ended().await;
        assert_eq!(panicked, Err(Panicked { thread: "unlucky".to_owned(), message: "lost 7".to_owned() }));
    }
}

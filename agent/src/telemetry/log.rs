//! The log: for a person on a terminal, one JSON object a line elsewhere.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging to standard error. Other people's crates speak only from `warn` on, whatever `level` says.
pub fn init(level: tracing::Level) {
    let level = LevelFilter::from_level(level);
    let others = level.min(LevelFilter::WARN);
    let targets = Targets::new().with_default(others).with_target("edgecam", level).with_target("edgecam_kvs", level);
    let registry = tracing_subscriber::registry().with(targets);
    // A second call, in tests, changes nothing.
    let result = if io::stderr().is_terminal() {
        let layer = tracing_subscriber::fmt::layer().with_target(false).with_writer(io::stderr);
        registry.with(layer).try_init()
    } else {
        let layer =
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_target(false).with_writer(io::stderr);
        registry.with(layer).try_init()
    };
    if let Err(error) = result {
        tracing::debug!(%error, "logging was started before");
    }
}

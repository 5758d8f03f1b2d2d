//! Looks at the pictures of cameras with the user's models, cheaply: decodes only what is looked at, looks only where
//! something has changed, and never in recording's or upload's way.
//!
//! The order of things: [`sampler`] reads a camera's log and chooses pictures; [`pool`] gives them to threads, newest
//! first; `looker` decodes and shows them to each `eye` (detector), whose story becomes events; [`crate::event::outlet`]
//! sends these on their way.

mod eye;
mod hold;
mod looker;
pub mod models;
pub mod plates;
pub mod pool;
pub mod predict;
pub mod registry;
pub mod sampler;
mod schedule;
pub mod status;

use std::io;
use std::sync::Arc;

use self::models::Models;
use self::pool::Pool;
use crate::config;

/// Threads and models that all cameras share.
#[derive(Clone)]
pub struct Inference {
    pool: Pool,
    models: Arc<Models>,
}

impl Inference {
    /// Starts the threads.
    pub fn start(settings: &config::Inference) -> io::Result<Self> {
        let threads = settings.threads.unwrap_or_else(Pool::usual_threads);
        Ok(Self { pool: Pool::start(threads, f64::from(settings.cpu_percent) / 100.0)?, models: Arc::default() })
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn models(&self) -> &Models {
        &self.models
    }
}

//! The recorders that are asked for their channels: which ones, and since when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::capture::nvr::{self, NvrCell};
use crate::config::Nvr;
use crate::run::stage::Stage;

/// For a question to be given up.
const GRACE: Duration = Duration::from_millis(100);

/// All of them.
#[derive(Default)]
pub(super) struct Nvrs {
    running: BTreeMap<String, Running>,
    listed: Arc<Notify>,
}

struct Running {
    config: Nvr,
    cell: NvrCell,
    stage: Stage,
    cancel: CancellationToken,
}

impl Nvrs {
    /// Goes over to other entries: those that stay are not touched, whatever they have listed.
    pub(super) async fn apply(&mut self, wanted: &[Nvr]) {
        let stays = |running: &Running| wanted.iter().any(|nvr| nvr.is_same_entry(&running.config));
        let gone: Vec<String> =
            self.running.iter().filter(|(_, running)| !stays(running)).map(|(name, _)| name.clone()).collect();
        for name in gone {
            if let Some(running) = self.running.remove(&name) {
                running.cancel.cancel();
                running.stage.end(GRACE).await;
            }
        }
        for nvr in wanted.iter().filter(|nvr| !self.running.contains_key(&nvr.name)).collect::<Vec<_>>() {
            let (cell, cancel) = (NvrCell::default(), CancellationToken::new());
            let (config, status, listed, token) = (nvr.clone(), cell.clone(), self.listed.clone(), cancel.clone());
            let make = move || nvr::run(config.clone(), status.clone(), listed.clone(), token.clone());
            let stage = Stage::spawn(format!("nvr {}", nvr.name), cancel.clone(), make);
            self.running.insert(nvr.name.clone(), Running { config: nvr.clone(), cell, stage, cancel });
        }
    }

    pub(super) fn cells(&self) -> Vec<(String, NvrCell)> {
        self.running.iter().map(|(name, running)| (name.clone(), running.cell.clone())).collect()
    }

    pub(super) fn listed(&self) -> Arc<Notify> {
        self.listed.clone()
    }

    pub(super) fn panics(&self) -> u64 {
        self.running.values().map(|running| running.stage.panics()).sum()
    }
}

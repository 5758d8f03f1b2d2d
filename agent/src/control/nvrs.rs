//! What recorders list becomes cameras: written down, then done. What commands have switched holds for these cameras as
//! for any.

use tokio_util::sync::CancellationToken;

use super::dispatch::Control;
use super::journal::replace;
use crate::topology::Agent;

/// Takes up new lists until `cancel` is called.
pub async fn run(control: Control, cancel: CancellationToken) {
    let Some(listed) = control.agent().read().await.as_ref().map(Agent::nvr_listed) else { return };
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = listed.notified() => take(&control).await,
        }
    }
}

async fn take(control: &Control) {
    let commanded = control.commanded().lock().await;
    let mut agent = control.agent().write().await;
    let Some(agent) = agent.as_mut() else { return };
    let mut config = agent.config().clone();
    let mut has_changed = false;
    for (name, cell) in agent.nvrs() {
        let Some(found) = cell.take() else { continue };
        let Some(nvr) = config.nvrs.iter_mut().find(|nvr| nvr.name == name) else { continue };
        let before = nvr.listing.clone();
        nvr.listing.take(&name, found.dialect, found.channels);
        if nvr.listing == before {
            continue;
        }
        has_changed = true;
        let path = nvr.file(&config.state_dir);
        let written = serde_json::to_vec(&nvr.listing).map_err(std::io::Error::other);
        if let Err(error) = written.and_then(|text| replace(&path, &text)) {
            tracing::error!(path = %path.display(), %error, "what the NVR lists cannot be written: a restart has to ask it first");
        }
    }
    if has_changed {
        config.expand_nvrs();
        commanded.switch(&mut config);
        agent.apply(config).await;
    }
}

//! `edgecam run` as a Greengrass component: where the config comes from, and what is started for the nucleus.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::output::note;
use crate::control::Control;
use crate::control::greengrass::{self, Begun, Component};
use crate::host::greengrass as nucleus;
use crate::run::stage::Stage;

/// Where the component's configuration is kept, in its work directory: the nucleus starts it there.
const FILE: &str = "component.yaml";

/// Asks the nucleus for the config: the file that now holds it.
pub(super) async fn begin() -> Result<(PathBuf, Option<Begun>), String> {
    if nucleus::Place::of_environment().is_none() {
        return Err("--greengrass: the nucleus did not start this process: SVCUID and \
                    AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT are not set. Deploy it as a component, or \
                    run it with --config FILE"
            .to_owned());
    }
    let file = PathBuf::from(FILE);
    match greengrass::begin(&file, note).await {
        Ok(begun) => Ok((file, Some(begun))),
        Err(error) => {
            greengrass::give_up().await;
            Err(format!("the component's configuration: {error}"))
        }
    }
}

/// The component that this process is; `None` when no nucleus has started it. Only a config that came from the nucleus
/// (`begun`) is followed there.
pub(super) fn component(file: Option<&Path>, begun: Option<Begun>) -> Option<Component> {
    let ipc = nucleus::shared()?.clone();
    let followed = file.filter(|_| begun.is_some()).map(Path::to_owned);
    let refused = match begun {
        Some(Begun::Refused(error)) => {
            tracing::error!(error, "Greengrass: the component's configuration cannot be used; the one before stays");
            Some(error)
        }
        Some(Begun::Remembered(fault)) => {
            tracing::warn!(%fault, "Greengrass: the configuration in force is the one before");
            None
        }
        Some(Begun::Fresh) | None => None,
    };
    Some(Component::new(ipc, followed, refused))
}

/// Its connection, and what is said over it: in the order to end them.
pub(super) fn open(component: &Component, control: &Control) -> Vec<(Stage, CancellationToken)> {
    control.set_component(component.clone());
    let Some(ipc) = nucleus::shared() else { return Vec::new() };
    let (connecting, speaking) = (CancellationToken::new(), CancellationToken::new());
    let token = connecting.clone();
    let make = move || nucleus::run(ipc.clone(), token.clone());
    let connection = Stage::spawn("greengrass".to_owned(), connecting.clone(), make);
    let (component, control, token) = (component.clone(), control.clone(), speaking.clone());
    let make = move || greengrass::run(component.clone(), control.clone(), token.clone());
    let component = Stage::spawn("component".to_owned(), speaking.clone(), make);
    vec![(component, speaking), (connection, connecting)]
}

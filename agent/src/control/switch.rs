//! What can be switched: cameras, archives, encoders. Written down before it is done.

use serde_json::json;

use super::commanded::Switch;
use super::dispatch::Context;
use super::reply::{Ending, failed, rejected};
use crate::encode::Control;
use crate::live::honeycomb::Mode;
use crate::topology::CameraHandle;

/// Switches a camera on or off.
pub(super) async fn camera(context: &Context, name: &str, on: bool) -> Ending {
    apply(context, name, Switch::Enabled(on)).await?;
    Ok(Some(json!({ "enabled": on })))
}

/// Switches a camera's archive on or off.
pub(super) async fn record(context: &Context, camera: &CameraHandle, on: bool) -> Ending {
    if camera.config.archive.is_none() {
        return rejected(format!("`{}` has no archive in the config", camera.config.name));
    }
    apply(context, &camera.config.name, Switch::Recording(on)).await?;
    Ok(Some(json!({ "recording": on })))
}

/// Switches camera and archive as a mode says. The archive first: what is not to be recorded is not for a moment.
pub(super) async fn mode(context: &Context, name: &str, mode: Mode) -> Ending {
    let has_archive = {
        let agent = context.agent.read().await;
        let cameras = agent.as_ref().map(|agent| &agent.config().cameras);
        cameras.into_iter().flatten().any(|camera| camera.name == name && camera.archive.is_some())
    };
    if mode != Mode::Privacy && has_archive {
        apply(context, name, Switch::Recording(mode == Mode::Armed)).await?;
    }
    apply(context, name, Switch::Enabled(mode != Mode::Privacy)).await?;
    Ok(Some(json!({ "mode": mode.name() })))
}

/// Sets a camera's encoder.
pub(super) async fn encoder(context: &Context, camera: &CameraHandle, control: Control) -> Ending {
    let all = control.over(camera.config.switches.encoder);
    camera.config.source.accepts(all).or_else(rejected)?;
    apply(context, &camera.config.name, Switch::Encoder(control)).await?;
    Ok(Some(json!({ "encoder": all })))
}

/// Asks the source for an IDR.
pub(super) fn keyframe(camera: &CameraHandle) -> Ending {
    if !camera.makes_idrs() {
        let kind = camera.config.source.kind();
        if camera.config.source.makes_idrs() {
            let why = "the encoder in this camera cannot be asked for an IDR: its I-frame interval decides";
            return rejected(why.to_owned());
        }
        return rejected(format!(
            "a source of the kind `{kind}` cannot be asked for an IDR: its I-frame interval decides"
        ));
    }
    camera.force_idr.send_modify(|count| *count += 1);
    Ok(None)
}

async fn apply(context: &Context, name: &str, switch: Switch) -> Result<(), (super::reply::Outcome, String)> {
    let mut commanded = context.commanded.lock().await;
    let mut agent = context.agent.write().await;
    let Some(agent) = agent.as_mut() else { return failed("the agent is stopping") };
    let mut config = agent.config().clone();
    if !config.cameras.iter().any(|camera| camera.name == name) {
        return rejected(format!("there is no camera `{}`", super::command::printable(name)));
    }
    commanded.set(name, switch).or_else(|error| failed(format!("it cannot be written down: {error}")))?;
    commanded.switch(&mut config);
    agent.apply(config).await;
    Ok(())
}

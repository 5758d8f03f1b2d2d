//! What a NUUO server answers. Pure: bytes in, facts out.

use serde::{Deserialize, Serialize};

use crate::config::source::NuuoCamera;
use crate::xml::{self, Element, XmlError};

/// Cameras of one server that are looked at.
const CAMERAS: usize = 1024;
/// Names and ids are cut off here: they go into logs and requests.
const NAME: usize = 128;

/// A camera of an NVR.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Camera {
    /// The recording server it belongs to (a Crystal); empty for a Titan.
    pub server: String,
    /// What live video is asked for by; unique within the server.
    pub id: String,
    /// What a person has called it; may be empty.
    pub name: String,
    /// What it can be asked for as; empty if the server does not say.
    pub profiles: Vec<Profile>,
    /// Whether it is switched on in the NVR.
    pub enabled: bool,
}

/// One stream of a camera.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Profile {
    /// Original, Low or Minimum.
    pub name: String,
    /// In lower case, without dots; empty if the server does not say, which is taken for H.264.
    pub codecs: Vec<String>,
    /// As the server writes it, such as `10~30`; empty if it does not say.
    pub frame_rate: String,
    /// As the server writes it, such as `QCIF~FullHD`; empty if it does not say.
    pub resolution: String,
}

/// An answer that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerError {
    /// It is no XML that is taken.
    #[error("its answer to {call} cannot be used: {error}")]
    Xml {
        /// What was asked.
        call: &'static str,
        /// What is wrong.
        error: XmlError,
    },
    /// It is a SOAP fault.
    #[error("it answered {call} with a fault: {fault}")]
    Fault {
        /// What was asked.
        call: &'static str,
        /// The reason it gives.
        fault: String,
    },
    /// It is the answer to something else.
    #[error("its answer to {0} does not hold one")]
    Missing(&'static str),
    /// It says that the login failed.
    #[error("it answered the login with `false`")]
    LoginFailed,
}

fn answer(call: &'static str, name: &str, text: &[u8]) -> Result<Element, AnswerError> {
    let root = xml::parse(text).map_err(|error| AnswerError::Xml { call, error })?;
    if let Some(found) = root.find(name) {
        return Ok(found.clone());
    }
    match root.find("Fault") {
        Some(fault) => {
            let reason = fault.at(&["faultstring"]).or_else(|| fault.find("Text").map(Element::text));
            Err(AnswerError::Fault { call, fault: printable(reason.unwrap_or("no reason given")) })
        }
        None => Err(AnswerError::Missing(call)),
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(NAME).collect()
}

/// Whether the answer to the detection is a Crystal's.
pub fn is_crystal(text: &[u8]) -> bool {
    xml::parse(text).is_ok_and(|root| root.find("getSyncOEMStringResponse").is_some())
}

/// The session's id.
pub fn session(text: &[u8]) -> Result<String, AnswerError> {
    let login = answer("login", "loginResponse", text)?;
    if !login.at(&["result"]).is_some_and(|result| result.eq_ignore_ascii_case("true")) {
        return Err(AnswerError::LoginFailed);
    }
    login.at(&["sessionId"]).map(printable).ok_or(AnswerError::Missing("login"))
}

/// The ids of recording servers that are switched on.
pub fn servers(text: &[u8]) -> Result<Vec<String>, AnswerError> {
    const CALL: &str = "getServerList";
    let found = answer(CALL, "getServerListResponse", text)?;
    let list = found.child("serverList").ok_or(AnswerError::Missing(CALL))?;
    let is_wanted = |item: &&Element| is_type(item, "RecordingServer") && is_enabled(item);
    let id = |item: &Element| item.at(&["id"]).map(printable);
    Ok(list.all("item").filter(is_wanted).filter_map(id).take(CAMERAS).collect())
}

/// The cameras of one recording server.
pub fn devices(text: &[u8], server: &str) -> Result<Vec<Camera>, AnswerError> {
    const CALL: &str = "getDeviceList";
    let found = answer(CALL, "getDeviceListResponse", text)?;
    let list = found.child("deviceList").ok_or(AnswerError::Missing(CALL))?;
    let mut cameras = Vec::new();
    for device in list.all("item").filter(|item| is_type(item, "VideoDevice")) {
        let area = device.at(&["name"]).unwrap_or_default();
        let children = device.child("childList").map(Element::children).unwrap_or_default();
        let lenses: Vec<&Element> = children.iter().filter(|item| is_type(item, "Camera")).collect();
        for lens in &lenses {
            let Some(id) = lens.at(&["id"]) else { continue };
            let own = lens.at(&["name"]).unwrap_or_default();
            // A device with several lenses has a name for each.
            let name = match (area, own) {
                ("", own) => own.to_owned(),
                (area, "") => area.to_owned(),
                (area, own) if lenses.len() > 1 => format!("{area} {own}"),
                (area, _) => area.to_owned(),
            };
            cameras.push(Camera {
                server: server.to_owned(),
                id: printable(id),
                name: printable(&name),
                profiles: profiles(lens),
                enabled: is_enabled(device) && is_enabled(lens),
            });
        }
    }
    cameras.truncate(CAMERAS);
    Ok(cameras)
}

/// The cameras of a Titan.
pub fn device_tree(text: &[u8]) -> Result<Vec<Camera>, AnswerError> {
    const CALL: &str = "getTitanDeviceTreeList";
    let found = answer(CALL, "getDeviceTreeListResponse", text)?;
    let list = found.child("deviceTreeList").ok_or(AnswerError::Missing(CALL))?;
    let mut cameras = Vec::new();
    // The recorder itself is one item of the tree, its cameras are below it. Its name differs by model.
    list.all("item").for_each(|item| below(item, &mut cameras));
    cameras.truncate(CAMERAS);
    Ok(cameras)
}

/// Collects the cameras below an item: each has a child that is literally called `sensor`.
fn below(item: &Element, cameras: &mut Vec<Camera>) {
    let children = || item.child("childEntityList").into_iter().flat_map(|list| list.all("item"));
    for child in children() {
        match (child.at(&["name"]), child.at(&["id", "localId"])) {
            (Some("sensor"), Some(id)) => cameras.push(Camera {
                server: String::new(),
                id: printable(id),
                name: item.at(&["name"]).map(printable).unwrap_or_default(),
                profiles: profiles(child),
                enabled: true,
            }),
            _ => below(child, cameras),
        }
    }
}

fn profiles(camera: &Element) -> Vec<Profile> {
    let items = camera.child("outputProfileList").into_iter().flat_map(|list| list.all("item"));
    let profile = |item: &Element| {
        let field = |name: &str| item.at(&[name]).map(printable).unwrap_or_default();
        let codecs =
            field("codec").split('/').map(|codec| codec.trim().replace('.', "").to_ascii_lowercase()).collect();
        Profile {
            name: field("profileName"),
            codecs: Vec::from_iter::<Vec<String>>(codecs).into_iter().filter(|codec| !codec.is_empty()).collect(),
            frame_rate: field("frameRate"),
            resolution: field("resolution"),
        }
    };
    items.map(profile).take(16).collect()
}

/// By `xsi:type`, whose value may have a prefix.
fn is_type(item: &Element, name: &str) -> bool {
    item.attribute("type").is_some_and(|kind| kind.rsplit(':').next() == Some(name))
}

/// `enable` is text; only "false" means off.
fn is_enabled(item: &Element) -> bool {
    !item.at(&["enable"]).is_some_and(|enable| enable.eq_ignore_ascii_case("false"))
}

/// The camera that the config means, or what to write instead.
pub(super) fn select<'a>(cameras: &'a [Camera], wanted: &NuuoCamera) -> Result<&'a Camera, String> {
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    let is_meant = |camera: &&Camera| {
        let by_name = wanted.area.as_deref().is_none_or(|area| same(area, &camera.name));
        let by_id = wanted.camera.as_deref().is_none_or(|id| id == camera.id || same(id, &camera.name));
        by_name && by_id
    };
    let found: Vec<&Camera> = cameras.iter().filter(is_meant).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] if cameras.is_empty() => Err("the NVR lists no camera to this user".to_owned()),
        [] => Err(format!("the NVR has no camera {wanted}; it has {}", listed(cameras.iter()))),
        several => Err(format!(
            "{} cameras of the NVR are {wanted}: say which one with camera=ID; {}",
            several.len(),
            listed(several.iter().copied())
        )),
    }
}

fn listed<'a>(cameras: impl Iterator<Item = &'a Camera>) -> String {
    let one = |camera: &Camera| match camera.name.as_str() {
        "" => camera.id.clone(),
        name => format!("`{name}` ({})", camera.id),
    };
    let names: Vec<String> = cameras.map(one).collect();
    let more = names.len().saturating_sub(12);
    let shown = names.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests;

//! Which device is meant: by path, index, name, or the first one; and the same one again after it was unplugged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use v4l::Device;

use super::explain::explain;
use super::ioctl::controls::{self, Capability};
use crate::capture::CaptureError;
use crate::config::source::V4l2Device;

/// A device node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// `/dev/videoN`.
    pub path: PathBuf,
    /// Its link below `/dev/v4l/by-id`, made of the USB names and the serial number.
    pub by_id: Option<PathBuf>,
    /// What it says about itself.
    pub capability: Capability,
}

impl Node {
    /// What stays the same when a camera is unplugged and plugged in again: its link by id if it has one, else name and
    /// place on the bus.
    pub(super) fn identity(&self) -> String {
        self.by_id.as_ref().map_or_else(
            || format!("{} at {}", self.capability.card, self.capability.bus),
            |link| link.display().to_string(),
        )
    }

    fn is_called(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&name);
        has(&self.capability.card) || self.by_id.as_ref().and_then(|link| link.file_name()?.to_str()).is_some_and(has)
    }
}

/// All nodes that can be asked, by number, and those that cannot with the reason.
pub fn nodes() -> (Vec<Node>, Vec<(PathBuf, io::Error)>) {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    let mut numbers: Vec<u32> = fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("video")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    for number in numbers {
        let path = PathBuf::from(format!("/dev/video{number}"));
        match node(&path) {
            Ok(node) => found.push(node),
            Err(error) => refused.push((path, error)),
        }
    }
    (found, refused)
}

fn node(path: &Path) -> io::Result<Node> {
    let capability = controls::capability(&Device::with_path(path)?)?;
    Ok(Node { path: path.to_owned(), by_id: link(path), capability })
}

/// The link by id that leads to `path`.
fn link(path: &Path) -> Option<PathBuf> {
    let mut links: Vec<PathBuf> = fs::read_dir("/dev/v4l/by-id").ok()?.flatten().map(|entry| entry.path()).collect();
    links.sort();
    links.into_iter().find(|link| fs::canonicalize(link).is_ok_and(|target| target == path))
}

/// The node that `wanted` means. `remembered` is the identity of the one that was used before: it is taken wherever it
/// is now, and no other one instead of it.
pub(super) fn find(wanted: &V4l2Device, remembered: Option<&str>) -> Result<Node, CaptureError> {
    if let V4l2Device::Path(path) = wanted {
        // A path says all there is to know; other cameras are left in peace.
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        // A link by id or place is made anew for the same camera; a number may be another one's now.
        let is_link = path.starts_with("/dev/v4l");
        match node(&real) {
            Ok(node) if !node.capability.captures() => return Err(no_camera(&node)),
            Ok(node) if is_link || remembered.is_none_or(|identity| identity == node.identity()) => return Ok(node),
            Ok(_) => {}
            Err(error) if is_link || remembered.is_none() => {
                return Err(match error.kind() {
                    io::ErrorKind::NotFound => missing(wanted, &nodes().0),
                    _ => explain(path, "opening it", &error),
                });
            }
            Err(_) => {}
        }
    }
    let (nodes, refused) = nodes();
    match choose(wanted, remembered, &nodes) {
        Some(node) if node.capability.captures() => Ok(node.clone()),
        Some(node) => Err(no_camera(node)),
        None => {
            // A node that may not be opened is the reason only where it may be the one that is meant.
            let mut refused = refused.into_iter().filter(|(path, error)| {
                error.kind() == io::ErrorKind::PermissionDenied && remembered.is_none() && may_be(wanted, path)
            });
            match refused.next() {
                Some((path, error)) => Err(explain(&path, "opening it", &error)),
                None => Err(missing(wanted, &nodes)),
            }
        }
    }
}

fn may_be(wanted: &V4l2Device, path: &Path) -> bool {
    match wanted {
        V4l2Device::Auto | V4l2Device::Name(_) => true,
        V4l2Device::Index(index) => path == Path::new(&format!("/dev/video{index}")),
        V4l2Device::Path(wanted) => fs::canonicalize(wanted).is_ok_and(|real| real == path),
    }
}

fn choose<'a>(wanted: &V4l2Device, remembered: Option<&str>, nodes: &'a [Node]) -> Option<&'a Node> {
    let mut cameras = nodes.iter().filter(|node| node.capability.captures());
    if let Some(identity) = remembered {
        return cameras.find(|node| node.identity() == identity);
    }
    match wanted {
        V4l2Device::Auto => cameras.next(),
        V4l2Device::Index(index) => {
            let path = PathBuf::from(format!("/dev/video{index}"));
            nodes.iter().find(|node| node.path == path)
        }
        V4l2Device::Name(name) => cameras.find(|node| node.is_called(name)),
        V4l2Device::Path(path) => {
            let real = fs::canonicalize(path).ok()?;
            nodes.iter().find(|node| node.path == real)
        }
    }
}

fn no_camera(node: &Node) -> CaptureError {
    CaptureError::NotFound(format!(
        "{} ({}) gives no pictures: a camera has several nodes, and this is one for metadata or output; `edgecam devices` \
         lists the others",
        node.path.display(),
        node.capability.card
    ))
}

fn missing(wanted: &V4l2Device, nodes: &[Node]) -> CaptureError {
    let cameras: Vec<String> = nodes
        .iter()
        .filter(|node| node.capability.captures())
        .map(|node| format!("{} ({})", node.path.display(), node.capability.card))
        .collect();
    let there =
        if cameras.is_empty() { "there is none".to_owned() } else { format!("there is {}", cameras.join(", ")) };
    let asked = match wanted {
        V4l2Device::Auto => "no camera is connected".to_owned(),
        V4l2Device::Path(path) => format!("{} does not exist", path.display()),
        V4l2Device::Index(index) => format!("/dev/video{index} does not exist"),
        V4l2Device::Name(name) => format!("no camera is called `{name}`"),
    };
    CaptureError::Unplugged(format!("{asked}; {there}: is it plugged in, and is its driver loaded?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32, card: &str, bus: &str, caps: u32) -> Node {
        let capability = Capability { driver: "test".into(), card: card.into(), bus: bus.into(), caps };
        Node { path: format!("/dev/video{number}").into(), by_id: None, capability }
    }

    const CAPTURE: u32 = 0x0400_0001;
    const METADATA: u32 = 0x0480_0000;

    #[test]
    fn the_right_one_of_many() {
        let nodes = [
            node(0, "HD Webcam C525", "usb-1", METADATA),
            node(1, "HD Webcam C525", "usb-1", CAPTURE),
            node(3, "Thermal", "usb-2", CAPTURE),
        ];
        let number = |wanted: &V4l2Device, remembered: Option<&str>| {
            choose(wanted, remembered, &nodes).map(|node| node.path.display().to_string())
        };
        let path = |number: u32| Some(format!("/dev/video{number}"));
        assert_eq!(number(&V4l2Device::Auto, None), path(1), "metadata nodes are no cameras");
        assert_eq!(number(&V4l2Device::Name("thermal".into()), None), path(3));
        assert_eq!(number(&V4l2Device::Index(0), None), path(0), "said by number: refused with a reason");
        assert_eq!(number(&V4l2Device::Index(7), None), None);
        assert_eq!(number(&V4l2Device::Auto, Some("Thermal at usb-2")), path(3), "the one used before");
        assert_eq!(number(&V4l2Device::Index(1), Some("Thermal at usb-9")), None, "no other one instead");
        let error = missing(&V4l2Device::Name("x".into()), &nodes).to_string();
        assert!(
            error.contains("`x`") && error.contains("/dev/video3 (Thermal)") && !error.contains("video0"),
            "{error}"
        );
    }
}

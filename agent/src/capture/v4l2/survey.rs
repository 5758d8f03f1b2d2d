//! All that the devices of this machine can do, for a person who is to choose.

use std::path::{Path, PathBuf};

use serde::Serialize;
use v4l::Device;
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::video::Capture;

use super::choice::PixelFormat;
use super::controls::plain;
use super::explain::explain;
use super::find::{Node, nodes};
use super::ioctl::controls;

/// Sizes of a format that are listed; a camera that has more is strange.
const MOST_SIZES: usize = 64;

/// A device.
#[derive(Serialize, Debug)]
pub struct Survey {
    /// Its node.
    pub path: PathBuf,
    /// Its link by id, which stays the same.
    pub by_id: Option<PathBuf>,
    /// Its name.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// Where it is connected.
    pub bus: String,
    /// What it can send.
    pub formats: Vec<Format>,
    /// What can be set.
    pub controls: Vec<Control>,
    /// Why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A format.
#[derive(Serialize, Debug)]
pub struct Format {
    /// FourCC.
    pub fourcc: String,
    /// The driver's words.
    pub description: String,
    /// Whether the agent can use it.
    pub is_usable: bool,
    /// Sizes and rates.
    pub sizes: Vec<Size>,
}

/// A size.
#[derive(Serialize, Debug)]
pub struct Size {
    /// `1280x720`, or a range `48x48 to 3840x2160 in steps of 2x2`.
    pub size: String,
    /// Frames a second, as far as the driver lists them.
    pub rates: Vec<f64>,
}

/// A control.
#[derive(Serialize, Debug)]
pub struct Control {
    /// The name for the config file.
    pub name: String,
    /// The least value.
    pub minimum: i64,
    /// The greatest value.
    pub maximum: i64,
    /// The value when nothing was set.
    pub default: i64,
    /// The value now.
    pub value: Option<i64>,
    /// Whether it can be set.
    pub is_writable: bool,
    /// The choices of a menu.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<(i64, String)>,
}

/// All devices that give pictures, and those that could not be asked.
pub fn survey() -> Vec<Survey> {
    let (nodes, refused) = nodes();
    let mut all: Vec<Survey> = nodes.into_iter().filter(|node| node.capability.captures()).map(device).collect();
    all.extend(refused.into_iter().map(|(path, error)| Survey {
        error: Some(explain(&path, "asking what it is", &error).to_string()),
        path,
        by_id: None,
        name: String::new(),
        driver: String::new(),
        bus: String::new(),
        formats: Vec::new(),
        controls: Vec::new(),
    }));
    all.sort_by_key(|device| number(&device.path));
    all
}

fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("video")?.parse().ok()
}

fn device(node: Node) -> Survey {
    let Node { path, by_id, capability } = node;
    let (mut formats, mut list, mut error) = (Vec::new(), Vec::new(), None);
    match Device::with_path(&path) {
        Ok(device) => {
            formats =
                device.enum_formats().unwrap_or_default().iter().map(|offered| format(&device, offered)).collect();
            list = controls::controls(&device).into_iter().map(|control| self::control(&device, control)).collect();
        }
        Err(refused) => error = Some(explain(&path, "opening it", &refused).to_string()),
    }
    let (name, driver, bus) = (capability.card, capability.driver, capability.bus);
    Survey { path, by_id, name, driver, bus, formats, controls: list, error }
}

fn format(device: &Device, offered: &v4l::format::Description) -> Format {
    let sizes = device.enum_framesizes(offered.fourcc).unwrap_or_default();
    let sizes = sizes.iter().take(MOST_SIZES).map(|size| {
        let (text, width, height) = match &size.size {
            FrameSizeEnum::Discrete(size) => (size.to_string(), size.width, size.height),
            FrameSizeEnum::Stepwise(range) => {
                let steps = format!("in steps of {}x{}", range.step_width, range.step_height);
                let least = format!("{}x{}", range.min_width, range.min_height);
                let text = format!("{least} to {}x{} {steps}", range.max_width, range.max_height);
                (text, range.max_width, range.max_height)
            }
        };
        let intervals = device.enum_frameintervals(offered.fourcc, width, height).unwrap_or_default();
        let mut rates: Vec<f64> = intervals.iter().flat_map(|interval| rates(&interval.interval)).collect();
        rates.sort_by(|a, b| b.total_cmp(a));
        Size { size: text, rates }
    });
    Format {
        fourcc: offered.fourcc.to_string(),
        description: offered.description.clone(),
        is_usable: PixelFormat::of(offered.fourcc).is_some(),
        sizes: sizes.collect(),
    }
}

/// One rate, or the ends of a range.
fn rates(interval: &FrameIntervalEnum) -> Vec<f64> {
    let rate = |fraction: &v4l::fraction::Fraction| {
        let rate = f64::from(fraction.denominator) / f64::from(fraction.numerator.max(1));
        (rate * 100.0).round() / 100.0
    };
    match interval {
        FrameIntervalEnum::Discrete(fraction) => vec![rate(fraction)],
        FrameIntervalEnum::Stepwise(range) => vec![rate(&range.min), rate(&range.max)],
    }
}

fn control(device: &Device, control: controls::Control) -> Control {
    Control {
        name: plain(&control.name),
        minimum: control.minimum,
        maximum: control.maximum,
        default: control.default,
        value: controls::value(device, control.id).ok(),
        is_writable: !control.is_read_only,
        items: control.items,
    }
}

//! From a device node to a camera that runs: format, rate, controls, buffers.

use std::path::Path;

use v4l::format::FieldOrder;
use v4l::fraction::Fraction;
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format};

use super::choice::{Choice, PixelFormat, choices};
use super::controls::{self, Notes};
use super::explain::explain;
use super::find::Node;
use super::ioctl::buffers::Buffers;
use super::uvc::Unit;
use crate::capture::CaptureError;
use crate::config::source::{V4l2, V4l2Format};
use crate::encode::Encoding;

/// Buffers of the driver: one with us, one being filled, two that bridge the time in which we are busy.
const BUFFERS: u32 = 4;

/// A camera that runs, and what it gives.
pub(super) struct Opened {
    /// The device; kept open for its controls.
    pub(super) device: Device,
    /// Its buffers.
    pub(super) buffers: Buffers,
    /// What is in them.
    pub(super) format: PixelFormat,
    /// Width in pixels.
    pub(super) width: u32,
    /// Height in pixels.
    pub(super) height: u32,
    /// Bytes from one row to the next.
    pub(super) stride: u32,
    /// Frames a second, if the driver says so.
    pub(super) rate: Option<f64>,
    /// Its H.264 extension unit, where there are no V4L2 controls for its encoder.
    pub(super) unit: Option<Unit>,
    /// What could not be set.
    pub(super) notes: Notes,
}

impl Opened {
    /// What the driver gave, for people.
    pub(super) fn given(&self) -> String {
        let rate = self.rate.map_or_else(|| "a rate of its own".to_owned(), |rate| format!("{} fps", round(rate)));
        let format = match self.format {
            PixelFormat::H264 => "H.264 of the camera".to_owned(),
            PixelFormat::Mjpeg => "MJPEG, encoded here".to_owned(),
            PixelFormat::Raw(layout) => format!("{}, encoded here", format!("{layout:?}").to_uppercase()),
        };
        format!("{}x{} at {rate}, {format}", self.width, self.height)
    }
}

fn round(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

/// Opens the camera with the best of its formats that works.
pub(super) fn open(node: &Node, settings: &V4l2, wanted: &Encoding) -> Result<Opened, CaptureError> {
    let path = &node.path;
    let device = Device::with_path(path).map_err(|error| explain(path, "opening it", &error))?;
    let choices =
        choices(&device, wanted, settings.format).map_err(|error| explain(path, "listing its formats", &error))?;
    if choices.is_empty() {
        return Err(no_format(&device, path, settings.format));
    }
    drop(device);
    let mut failed = None;
    for choice in choices {
        // Opened anew for each: a driver that has refused a format may hold buffers of it.
        match try_open(path, settings, wanted, choice) {
            Ok(opened) => return Ok(opened),
            Err(error @ (CaptureError::UsbBandwidth(_) | CaptureError::UnsupportedFormat(_))) => {
                failed.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(failed.unwrap_or_else(|| CaptureError::UnsupportedFormat(format!("{} has no format", path.display()))))
}

fn no_format(device: &Device, path: &Path, wanted: V4l2Format) -> CaptureError {
    let has: Vec<String> =
        device.enum_formats().unwrap_or_default().iter().map(|format| format.fourcc.to_string()).collect();
    let has = if has.is_empty() { "none at all".to_owned() } else { has.join(", ") };
    let shown = path.display();
    CaptureError::UnsupportedFormat(match wanted {
        V4l2Format::Auto => {
            format!(
                "{shown} has no format the agent can use (H264, MJPG, YUYV, UYVY, NV12, YU12, YV12, GREY): it has {has}"
            )
        }
        asked => format!("{shown} has no format `{}`: it has {has}; `auto` takes the best of them", name(asked)),
    })
}

fn name(format: V4l2Format) -> String {
    format!("{format:?}").to_lowercase()
}

fn try_open(path: &Path, settings: &V4l2, wanted: &Encoding, choice: Choice) -> Result<Opened, CaptureError> {
    let shown = path.display();
    let refused = |what: &'static str| move |error: std::io::Error| explain(path, what, &error);
    let unsupported = |text: String| Err(CaptureError::UnsupportedFormat(text));
    let device = Device::with_path(path).map_err(refused("opening it"))?;
    let format = Format::new(choice.width, choice.height, choice.fourcc);
    let given = device.set_format(&format).map_err(refused("setting the format"))?;
    // A driver may answer with something else instead of an error.
    let Some(pixels) = PixelFormat::of(given.fourcc).filter(|pixels| *pixels == choice.format) else {
        return unsupported(format!("{shown} was asked for {} and gives {}", choice.fourcc, given.fourcc));
    };
    if matches!(given.field_order, FieldOrder::Alternate | FieldOrder::Top | FieldOrder::Bottom) {
        return unsupported(format!("{shown} gives single fields (interlaced): choose a progressive input or size"));
    }
    let interval = interval(wanted.frame_rate);
    // Not all drivers let the rate be set, and one that does not may still be used.
    let parameters = device.set_params(&Parameters::new(interval)).and_then(|_| device.params());
    let rate = parameters.ok().map(|parameters| parameters.interval).filter(|interval| interval.numerator > 0);
    let rate = rate.map(|interval| f64::from(interval.denominator) / f64::from(interval.numerator));
    let mut notes = controls::set_named(&device, settings);
    let needs_unit = pixels == PixelFormat::H264 && !controls::has_bitrate(&device);
    let unit = if needs_unit { Unit::find(path) } else { None };
    if pixels == PixelFormat::H264 {
        notes.extend(controls::set_camera(&device, unit, wanted, false));
    }
    if (given.width, given.height) != (wanted.width, wanted.height) {
        notes.push(format!("the camera has no {}x{}: this is the nearest it has", wanted.width, wanted.height));
    }
    let mut buffers = Buffers::new(&device, BUFFERS).map_err(refused("asking for buffers"))?;
    buffers.start().map_err(refused("starting it"))?;
    let (width, height, stride) = (given.width, given.height, given.stride);
    Ok(Opened { device, buffers, format: pixels, width, height, stride, rate, unit, notes })
}

/// Seconds between two frames as a fraction: 1/15, or 1001/30000 for 29.97.
fn interval(rate: f64) -> Fraction {
    let whole = rate.round();
    if (rate - whole).abs() < 0.001 {
        Fraction::new(1, whole as u32)
    } else if (rate * 1.001 - (rate * 1.001).round()).abs() < 0.001 {
        Fraction::new(1001, ((rate * 1.001).round() * 1000.0) as u32)
    } else {
        Fraction::new(1000, (rate * 1000.0).round() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_fractions() {
        for (rate, expected) in [(15.0, (1, 15)), (29.97, (1001, 30_000)), (12.5, (1000, 12_500)), (1.0, (1, 1))] {
            let fraction = interval(rate);
            assert_eq!((fraction.numerator, fraction.denominator), expected, "{rate}");
        }
    }
}

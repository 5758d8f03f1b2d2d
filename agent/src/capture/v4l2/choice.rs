//! Which of a camera's formats to use: the one that costs least among those that give what is asked.
//!
//! H.264 from the camera costs nothing; raw pictures have to be encoded; JPEG has to be decoded before. A format that
//! does not reach the size or the rate comes after those that do.

use v4l::FourCC;
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::video::Capture;

use crate::config::source::V4l2Format;
use crate::encode::Encoding;
use crate::encode::convert::Layout;

/// How a camera can give pictures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PixelFormat {
    /// Coded already.
    H264,
    /// JPEG, picture by picture.
    Mjpeg,
    /// Not coded.
    Raw(Layout),
}

impl PixelFormat {
    /// The format of a FourCC, if the agent can use it.
    pub fn of(fourcc: FourCC) -> Option<Self> {
        Some(match &fourcc.repr {
            b"H264" => Self::H264,
            b"MJPG" | b"JPEG" => Self::Mjpeg,
            b"YUYV" => Self::Raw(Layout::Yuyv),
            b"UYVY" => Self::Raw(Layout::Uyvy),
            b"NV12" => Self::Raw(Layout::Nv12),
            b"YU12" => Self::Raw(Layout::Yu12),
            b"YV12" => Self::Raw(Layout::Yv12),
            b"GREY" => Self::Raw(Layout::Grey),
            _ => return None,
        })
    }

    /// In the order of cost on the device.
    fn cost(self) -> u8 {
        match self {
            Self::H264 => 0,
            Self::Raw(Layout::Yu12 | Layout::Yv12) => 1,
            Self::Raw(Layout::Nv12) => 2,
            Self::Raw(Layout::Yuyv | Layout::Uyvy) => 3,
            Self::Mjpeg => 4,
            // No colour: only where there is nothing else.
            Self::Raw(Layout::Grey) => 5,
        }
    }

    fn is(self, wanted: V4l2Format) -> bool {
        match wanted {
            V4l2Format::Auto => true,
            V4l2Format::H264 => self == Self::H264,
            V4l2Format::Mjpeg => self == Self::Mjpeg,
            V4l2Format::Yuyv => self == Self::Raw(Layout::Yuyv),
            V4l2Format::Nv12 => self == Self::Raw(Layout::Nv12),
            V4l2Format::Yu12 => self == Self::Raw(Layout::Yu12),
        }
    }
}

/// A format with a size that the camera has, and what is known of its rate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Choice {
    /// The format as the driver names it.
    pub fourcc: FourCC,
    /// The same, as it is used here.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The highest rate at that size, if the driver says so.
    pub most_rate: Option<f64>,
}

/// All that comes into question, the best first.
pub(super) fn choices(camera: &impl Capture, wanted: &Encoding, format: V4l2Format) -> std::io::Result<Vec<Choice>> {
    let mut found = Vec::new();
    for offered in camera.enum_formats()? {
        let Some(pixels) = PixelFormat::of(offered.fourcc).filter(|pixels| pixels.is(format)) else { continue };
        // A driver that lists no sizes takes what it is asked for, or something near it.
        let sizes = camera.enum_framesizes(offered.fourcc).unwrap_or_default();
        let sizes: Vec<_> = sizes.iter().map(|size| nearest(&size.size, wanted)).collect();
        let (width, height) = best(&sizes, wanted).unwrap_or((wanted.width, wanted.height));
        let intervals = camera.enum_frameintervals(offered.fourcc, width, height).unwrap_or_default();
        let rates = intervals.iter().filter_map(|interval| rate(&interval.interval));
        let most_rate = rates.reduce(f64::max);
        found.push(Choice { fourcc: offered.fourcc, format: pixels, width, height, most_rate });
    }
    sort(&mut found, wanted);
    Ok(found)
}

fn sort(choices: &mut [Choice], wanted: &Encoding) {
    let misses_size = |choice: &Choice| distance((choice.width, choice.height), wanted);
    // 29.97 for 30 is no miss.
    let misses_rate = |choice: &Choice| choice.most_rate.is_some_and(|rate| rate < wanted.frame_rate * 0.95);
    choices.sort_by_key(|choice| (misses_size(choice), misses_rate(choice), choice.format.cost()));
}

/// How far a size is from what is wanted, in pixels; one that is too small counts as further away than any larger one.
fn distance((width, height): (u32, u32), wanted: &Encoding) -> (bool, u64) {
    let pixels = |width: u32, height: u32| u64::from(width) * u64::from(height);
    let is_small = width < wanted.width || height < wanted.height;
    (is_small, pixels(width, height).abs_diff(pixels(wanted.width, wanted.height)))
}

fn best(sizes: &[(u32, u32)], wanted: &Encoding) -> Option<(u32, u32)> {
    sizes.iter().copied().min_by_key(|&size| distance(size, wanted))
}

fn nearest(size: &FrameSizeEnum, wanted: &Encoding) -> (u32, u32) {
    match size {
        FrameSizeEnum::Discrete(size) => (size.width, size.height),
        FrameSizeEnum::Stepwise(range) => (
            step(wanted.width, range.min_width, range.max_width, range.step_width),
            step(wanted.height, range.min_height, range.max_height, range.step_height),
        ),
    }
}

/// The least value of a range with steps that is not below `wanted`.
fn step(wanted: u32, least: u32, most: u32, step: u32) -> u32 {
    let steps = wanted.saturating_sub(least).div_ceil(step.max(1));
    least.saturating_add(steps.saturating_mul(step.max(1))).min(most.max(least))
}

fn rate(interval: &FrameIntervalEnum) -> Option<f64> {
    let shortest = match interval {
        FrameIntervalEnum::Discrete(fraction) => fraction,
        FrameIntervalEnum::Stepwise(range) => &range.min,
    };
    (shortest.numerator > 0).then(|| f64::from(shortest.denominator) / f64::from(shortest.numerator))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Encoding = Encoding { width: 1280, height: 720, frame_rate: 15.0, gop: 15, bitrate: 1_000_000 };

    fn choice(fourcc: &[u8; 4], width: u32, height: u32, most_rate: Option<f64>) -> Choice {
        let fourcc = FourCC::new(fourcc);
        Choice { fourcc, format: PixelFormat::of(fourcc).expect("known"), width, height, most_rate }
    }

    fn first(mut choices: Vec<Choice>) -> String {
        sort(&mut choices, &WANTED);
        choices[0].fourcc.to_string()
    }

    #[test]
    fn what_costs_least_and_gives_what_is_asked() {
        let mjpeg = choice(b"MJPG", 1280, 720, Some(30.0));
        let slow = choice(b"YUYV", 1280, 720, Some(10.0));
        let fast = choice(b"YUYV", 1280, 720, Some(14.985));
        let small = choice(b"H264", 640, 360, Some(30.0));
        let coded = choice(b"H264", 1280, 720, Some(30.0));
        assert_eq!(first(vec![mjpeg, slow]), "MJPG", "YUYV at 720p does not fit through USB 2");
        assert_eq!(first(vec![mjpeg, fast]), "YUYV");
        assert_eq!(first(vec![mjpeg, fast, small]), "YUYV", "the size counts before the cost");
        assert_eq!(first(vec![mjpeg, fast, small, coded]), "H264");
        assert_eq!(first(vec![choice(b"GREY", 1280, 720, None), mjpeg]), "MJPG");
        assert_eq!(first(vec![choice(b"NV12", 1280, 720, None), choice(b"YU12", 1280, 720, None)]), "YU12");
    }

    #[test]
    fn the_nearest_size_rather_a_larger_one() {
        let sizes = [(320, 240), (640, 480), (1280, 960), (1920, 1080), (3840, 2160)];
        assert_eq!(best(&sizes, &WANTED), Some((1280, 960)));
        assert_eq!(best(&sizes[..2], &WANTED), Some((640, 480)), "none is large enough");
        assert_eq!(best(&[], &WANTED), None);
        for (wanted, expected) in [(1, 48), (48, 48), (49, 64), (1280, 1280), (9999, 1920)] {
            assert_eq!(step(wanted, 48, 1920, 16), expected);
        }
        // Nonsense of a driver.
        assert_eq!(step(100, 200, 50, 0), 200);
    }
}

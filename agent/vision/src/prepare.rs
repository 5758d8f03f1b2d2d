//! A picture's planes become a model's input in one pass: crop, resize, bars, colours, scaling, at the model's size.
//!
//! Luma is resampled bilinearly between pixel centres, as OpenCV's `INTER_LINEAR` does (most pipelines that models are
//! trained and tried with use it); chroma, which has half the resolution anyhow, by the nearest sample.

use crate::{Colours, Fit, Input, Planes, Region};

/// Where a region of a picture lies in a model's input.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Placement {
    region: Region,
    /// Where the picture's part begins in the input, in pixels of the input.
    left: u32,
    top: u32,
    /// Its size there.
    width: u32,
    height: u32,
    /// Where what is seen begins in the picture, and picture pixels for one of the input.
    origin: (f32, f32),
    step: (f32, f32),
}

impl Placement {
    pub(crate) fn new(input: &Input, region: Region) -> Self {
        let (width, height) = (input.width as f32, input.height as f32);
        let (from_width, from_height) = (region.width as f32, region.height as f32);
        let mut placement = Self {
            region,
            left: 0,
            top: 0,
            width: input.width,
            height: input.height,
            origin: (region.x as f32, region.y as f32),
            step: (from_width / width, from_height / height),
        };
        let ratios = (width / from_width, height / from_height);
        match input.fit {
            Fit::Stretch => {}
            Fit::Letterbox | Fit::TopLeft => {
                let ratio = ratios.0.min(ratios.1);
                let size = |pixels: f32, most: u32| ((pixels * ratio).round() as u32).clamp(1, most);
                placement.width = size(from_width, input.width);
                placement.height = size(from_height, input.height);
                placement.step = (from_width / placement.width as f32, from_height / placement.height as f32);
                if input.fit == Fit::Letterbox {
                    placement.left = (input.width - placement.width) / 2;
                    placement.top = (input.height - placement.height) / 2;
                }
            }
            Fit::Crop => {
                let step = 1.0 / ratios.0.max(ratios.1);
                placement.step = (step, step);
                placement.origin.0 += (from_width - width * step) / 2.0;
                placement.origin.1 += (from_height - height * step) / 2.0;
            }
        }
        placement
    }

    /// From the input to the picture, cut at the region.
    pub(crate) fn to_picture(self, rect: crate::Rect) -> crate::Rect {
        let Region { x, y, width, height } = self.region;
        let across = |at: f32| {
            let at = (at - self.left as f32) * self.step.0 + self.origin.0;
            at.clamp(x as f32, (x + width) as f32)
        };
        let down = |at: f32| {
            let at = (at - self.top as f32) * self.step.1 + self.origin.1;
            at.clamp(y as f32, (y + height) as f32)
        };
        crate::Rect { x1: across(rect.x1), y1: down(rect.y1), x2: across(rect.x2), y2: down(rect.y2) }
    }
}

/// A column or row of the input: the two of the picture it lies between, and how far it is to the second.
#[derive(Clone, Copy, Default, Debug)]
struct Tap {
    first: u32,
    second: u32,
    chroma: u32,
    share: f32,
}

fn taps(out: &mut Vec<Tap>, count: u32, origin: f32, step: f32, begin: u32, length: u32) {
    out.clear();
    let (least, most) = (begin as f32, (begin + length - 1) as f32);
    out.extend((0..count).map(|at| {
        let exact = ((at as f32 + 0.5) * step + origin - 0.5).clamp(least, most);
        let first = exact as u32;
        let nearest = (exact + 0.5) as u32;
        Tap {
            first,
            second: (first + 1).min(begin + length - 1),
            chroma: nearest.min(begin + length - 1) / 2,
            share: exact - first as f32,
        }
    }));
}

/// From YCbCr samples to one channel of the input: what each is multiplied with, and limits before scaling.
#[derive(Clone, Copy, Default, Debug)]
struct Channel {
    y: f32,
    u: f32,
    v: f32,
    offset: f32,
    gain: f32,
    shift: f32,
}

fn channels(input: &Input, planes: &Planes<'_>) -> [Channel; 3] {
    // Kr and Kb: ITU-R BT.601 §2.5.1, BT.709 §3.2. Ranges: BT.601 §2.5.3; JFIF for the full one.
    let (red, blue) = if planes.bt709 { (0.2126, 0.0722) } else { (0.299, 0.114) };
    let green = 1.0 - red - blue;
    let (black, luma, chroma) = if planes.full_range { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
    let channel = |u: f32, v: f32, y: f32| Channel {
        y: y * luma,
        u: u * chroma,
        v: v * chroma,
        offset: -y * luma * black - (u + v) * chroma * 128.0,
        ..Channel::default()
    };
    let r = channel(0.0, 2.0 * (1.0 - red), 1.0);
    let g = channel(-2.0 * blue * (1.0 - blue) / green, -2.0 * red * (1.0 - red) / green, 1.0);
    let b = channel(2.0 * (1.0 - blue), 0.0, 1.0);
    let mut channels = match input.colours {
        Colours::Rgb => [r, g, b],
        Colours::Bgr => [b, g, r],
        Colours::Grey => [channel(0.0, 0.0, 1.0); 3],
    };
    for ((channel, mean), std) in channels.iter_mut().zip(input.mean).zip(input.std) {
        channel.gain = input.scale / std;
        channel.shift = -mean / std;
    }
    channels
}

/// Makes inputs, and keeps its memory from one to the next.
#[derive(Default, Debug)]
pub struct Prepare {
    columns: Vec<Tap>,
    rows: Vec<Tap>,
    /// A row of the picture between two of its rows.
    blended: Vec<f32>,
    /// One row of the input.
    y: Vec<f32>,
    u: Vec<f32>,
    v: Vec<f32>,
    /// What the tables and the bars are for.
    made_for: Option<Placement>,
}

impl Prepare {
    /// Fills `out` (see [`Input::len`]) with what `region` of `planes` looks like to the model. `out` must be the same
    /// memory each time, or its bars must have been filled by an earlier call. The region is inside the picture.
    pub(crate) fn fill(&mut self, input: &Input, planes: &Planes<'_>, region: Region, out: &mut [f32]) -> Placement {
        let placement = Placement::new(input, region);
        let width = input.width as usize;
        let plane = width * input.height as usize;
        let channels = channels(input, planes);
        let channels = &channels[..input.channels()];
        if self.made_for != Some(placement) {
            self.made_for = Some(placement);
            taps(&mut self.columns, placement.width, placement.origin.0, placement.step.0, region.x, region.width);
            taps(&mut self.rows, placement.height, placement.origin.1, placement.step.1, region.y, region.height);
            fill_bars(input, channels, plane, out);
        }
        for line in [&mut self.y, &mut self.u, &mut self.v] {
            line.resize(placement.width as usize, 0.0);
        }
        let end = (region.x + region.width) as usize;
        self.blended.resize(end, 0.0);
        for (index, row) in self.rows.iter().enumerate() {
            blend(planes, row, region.x as usize..end, &mut self.blended);
            for (out, tap) in self.y.iter_mut().zip(&self.columns) {
                let (a, b) = (self.blended[tap.first as usize], self.blended[tap.second as usize]);
                *out = a + (b - a) * tap.share;
            }
            if input.colours != Colours::Grey {
                let line = |plane: &'_ [u8], stride: usize, out: &mut [f32]| {
                    let line = &plane[row.chroma as usize * stride..];
                    for (out, tap) in out.iter_mut().zip(&self.columns) {
                        *out = f32::from(line[tap.chroma as usize]);
                    }
                };
                line(planes.u, planes.strides.1, &mut self.u);
                line(planes.v, planes.strides.2, &mut self.v);
            }
            let begin = (placement.top as usize + index) * width + placement.left as usize;
            for (number, channel) in channels.iter().enumerate() {
                if input.is_interleaved {
                    let out = &mut out[begin * channels.len()..][..self.y.len() * channels.len()];
                    for (at, pixel) in out.chunks_exact_mut(channels.len()).enumerate() {
                        pixel[number] = channel.value(self.y[at], self.u[at], self.v[at]);
                    }
                } else {
                    let out = &mut out[number * plane + begin..][..self.y.len()];
                    for (((out, y), u), v) in out.iter_mut().zip(&self.y).zip(&self.u).zip(&self.v) {
                        *out = channel.value(*y, *u, *v);
                    }
                }
            }
        }
        placement
    }
}

impl Channel {
    fn value(&self, y: f32, u: f32, v: f32) -> f32 {
        let level = self.y * y + self.u * u + self.v * v + self.offset;
        level.clamp(0.0, 255.0) * self.gain + self.shift
    }
}

fn fill_bars(input: &Input, channels: &[Channel], plane: usize, out: &mut [f32]) {
    let bar = |channel: &Channel| f32::from(input.pad) * channel.gain + channel.shift;
    if input.is_interleaved {
        for pixel in out.chunks_exact_mut(channels.len()) {
            for (out, channel) in pixel.iter_mut().zip(channels) {
                *out = bar(channel);
            }
        }
    } else {
        for (out, channel) in out.chunks_exact_mut(plane).zip(channels) {
            out.fill(bar(channel));
        }
    }
}

/// A row between two rows of luma. A whole row at once, though only two samples of it may be wanted for each pixel of the
/// input: that is vectorised, and picking four bytes for each pixel is not.
fn blend(planes: &Planes<'_>, row: &Tap, columns: std::ops::Range<usize>, out: &mut [f32]) {
    let line = |number: u32| &planes.y[number as usize * planes.strides.0..][columns.clone()];
    let share = row.share;
    for ((out, a), b) in out[columns.clone()].iter_mut().zip(line(row.first)).zip(line(row.second)) {
        let (a, b) = (f32::from(*a), f32::from(*b));
        *out = a + (b - a) * share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rect;

    fn input(width: u32, height: u32, fit: Fit) -> Input {
        let (scale, mean, std) = (1.0, [0.0; 3], [1.0; 3]);
        Input { width, height, is_interleaved: false, colours: Colours::Rgb, scale, mean, std, fit, pad: 114 }
    }

    /// The RGB values at some points of what a picture of one colour becomes.
    fn fill(input: &Input, planes: &Planes<'_>, points: &[(usize, usize)]) -> Vec<[f32; 3]> {
        let mut out = vec![-1.0; input.len()];
        Prepare::default().fill(input, planes, planes.whole(), &mut out);
        let (width, plane) = (input.width as usize, (input.width * input.height) as usize);
        let value = |x: usize, y: usize, channel: usize| {
            let pixel = y * width + x;
            out[if input.is_interleaved { pixel * 3 + channel } else { channel * plane + pixel }]
        };
        points.iter().map(|(x, y)| [0, 1, 2].map(|channel| value(*x, *y, channel))).collect()
    }

    fn near(a: [f32; 3], b: [f32; 3]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1.0)
    }

    #[test]
    fn colours() {
        // Pure red and middle grey: BT.601 in both ranges and BT.709 (values of ITU-R BT.601-7 and BT.709-6).
        for (yuv, full_range, bt709, expected) in [
            ([81, 90, 240], false, false, [255.0, 0.0, 0.0]),
            ([76, 85, 255], true, false, [254.0, 0.0, 0.0]),
            ([63, 102, 240], false, true, [255.0, 0.0, 0.0]),
            ([126, 128, 128], false, false, [128.0; 3]),
            ([16, 128, 128], false, false, [0.0; 3]),
            ([255, 128, 128], false, false, [255.0; 3]),
        ] {
            let [y, u, v] = yuv.map(|value: u8| vec![value; 64]);
            let planes = Planes::new([&y, &u, &v], (8, 4, 4), 8, 8).expect("a picture");
            let planes = planes.full_range(full_range).bt709(bt709);
            let rgb = input(4, 4, Fit::Stretch);
            assert!(near(fill(&rgb, &planes, &[(1, 2)])[0], expected), "{yuv:?}");
            let [r, g, b] = expected;
            let bgr = Input { colours: Colours::Bgr, is_interleaved: true, ..rgb.clone() };
            assert!(near(fill(&bgr, &planes, &[(1, 2)])[0], [b, g, r]), "{yuv:?}");
            let scaled = Input { scale: 1.0 / 255.0, mean: [0.5; 3], std: [0.5; 3], ..rgb };
            let normal = expected.map(|value| (value / 255.0 - 0.5) / 0.5 * 100.0);
            assert!(near(fill(&scaled, &planes, &[(3, 3)])[0].map(|value| value * 100.0), normal), "{yuv:?}");
        }
    }

    #[test]
    fn a_gradient_is_resampled_between_centres() {
        // Luma is 2 * x + y, full range, so that the exact answer is known.
        let (width, height) = (64, 32);
        let y: Vec<u8> = (0..width * height).map(|at| (2 * (at % width) + at / width) as u8).collect();
        let grey = vec![128; y.len()];
        let planes = Planes::new([&y, &grey, &grey], (64, 32, 32), 64, 32).expect("a picture").full_range(true);
        for (size, step) in [((32, 16), 2.0), ((16, 8), 4.0), ((128, 64), 0.5), ((64, 32), 1.0)] {
            let seen = fill(&input(size.0, size.1, Fit::Stretch), &planes, &[(3, 2), (7, 5)]);
            for ((x, y), seen) in [(3.0, 2.0), (7.0, 5.0)].into_iter().zip(seen) {
                let at = |value: f32| (value + 0.5) * step - 0.5;
                assert!((seen[1] - (2.0 * at(x) + at(y))).abs() < 0.01, "{size:?}: {seen:?}");
            }
        }
    }

    #[test]
    fn bars_and_boxes() {
        let white = vec![235; 1280 * 720];
        let grey = vec![128; 640 * 360];
        let planes = Planes::new([&white, &grey, &grey], (1280, 640, 640), 1280, 720).expect("a picture");
        let (bar, picture) = ([114.0; 3], [255.0; 3]);
        for (fit, points) in [
            (Fit::Letterbox, [((0, 69), bar), ((0, 70), picture), ((319, 249), picture), ((0, 250), bar)]),
            (Fit::TopLeft, [((0, 0), picture), ((319, 179), picture), ((0, 180), bar), ((319, 319), bar)]),
            (Fit::Stretch, [((0, 0), picture), ((319, 0), picture), ((0, 319), picture), ((319, 319), picture)]),
            (Fit::Crop, [((0, 0), picture), ((319, 0), picture), ((0, 319), picture), ((319, 319), picture)]),
        ] {
            let input = input(320, 320, fit);
            let seen = fill(&input, &planes, &points.map(|(at, _)| at));
            for ((at, expected), seen) in points.into_iter().zip(seen) {
                assert!(near(seen, expected), "{fit:?} {at:?} {seen:?}");
            }
            let placement = Placement::new(&input, planes.whole());
            let whole = placement.to_picture(Rect { x1: 0.0, y1: 0.0, x2: 320.0, y2: 320.0 });
            let left = if fit == Fit::Crop { 280.0 } else { 0.0 };
            let expected = Rect { x1: left, y1: 0.0, x2: 1280.0 - left, y2: 720.0 };
            assert!(whole.iou(&expected) > 0.999, "{fit:?} {whole:?}");
        }
        let region = Region { x: 100, y: 200, width: 640, height: 320 };
        let placement = Placement::new(&input(320, 320, Fit::Letterbox), region);
        let middle = placement.to_picture(Rect { x1: 150.0, y1: 150.0, x2: 170.0, y2: 170.0 });
        assert_eq!(middle, Rect { x1: 400.0, y1: 340.0, x2: 440.0, y2: 380.0 });
    }

    #[test]
    fn any_size_fits() {
        for (width, height) in [(1, 1), (2, 1), (1, 2000), (16_384, 1), (7, 5)] {
            let y = vec![100; (width * height) as usize];
            let planes = Planes::new([&y, &y, &y], (width as usize, width as usize, width as usize), width, height);
            let planes = planes.expect("a picture");
            for fit in [Fit::Letterbox, Fit::TopLeft, Fit::Stretch, Fit::Crop] {
                let seen = fill(&input(32, 24, fit), &planes, &[(16, 12)]);
                assert!(seen[0].iter().all(|value| (0.0..=255.0).contains(value)), "{width}x{height} {fit:?} {seen:?}");
            }
        }
    }
}

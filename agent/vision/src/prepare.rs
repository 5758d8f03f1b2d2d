//! A picture's planes become a model's input in one pass: crop, resize, bars, colours, scaling, at the model's size.
//!
//! It is resampled bilinearly between pixel centres, as OpenCV's `INTER_LINEAR` does (most pipelines that models are trained and
//! tried with use it), and a sample of chroma is that of all its four pixels, as libswscale has it. Chroma by the nearest
//! sample alone cost four boxes in a hundred.

use crate::{Colours, Fit, Input, Planes, Region};

/// Pixels of the input at a time.
const LANES: usize = 16;

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

/// A row of the input: the two of the picture that it lies between, and how far it is to the second.
#[derive(Clone, Copy, Default, Debug)]
struct Row {
    first: u32,
    second: u32,
    share: f32,
}

impl Row {
    /// How far it is to the second of the two samples of chroma that begin with that of the first: both may have the same.
    fn chroma_share(&self) -> f32 {
        if self.first % 2 == 1 { self.share } else { 0.0 }
    }
}

fn rows(out: &mut Vec<Row>, count: u32, origin: f32, step: f32, begin: u32, length: u32) {
    out.clear();
    let (least, most) = (begin as f32, (begin + length - 1) as f32);
    out.extend((0..count).map(|at| {
        let exact = ((at as f32 + 0.5) * step + origin - 0.5).clamp(least, most);
        let first = exact as u32;
        Row { first, second: (first + 1).min(begin + length - 1), share: exact - first as f32 }
    }));
}

/// Between which two samples of a line each column of the input lies, [`LANES`] together; what is past the last is as the first.
#[derive(Default, Debug)]
struct Pairs {
    /// The left one.
    first: Vec<[u32; LANES]>,
    /// How far it is to the right one.
    share: Vec<[f32; LANES]>,
}

impl Pairs {
    /// From the places of left ones and the shares, in a line of `length` samples.
    fn new(places: impl ExactSizeIterator<Item = (u32, f32)>, length: u32) -> Self {
        let chunks = places.len().div_ceil(LANES);
        let mut pairs = Self { first: vec![[0; LANES]; chunks], share: vec![[0.0; LANES]; chunks] };
        // A pair is always two: on the right edge it is the one before, and all of the second.
        let last = length.max(2) - 2;
        for (at, (first, share)) in places.enumerate() {
            pairs.first[at / LANES][at % LANES] = first.min(last);
            pairs.share[at / LANES][at % LANES] = if first > last { 1.0 } else { share };
        }
        pairs
    }
}

/// Of one row of the input: two samples each of the lines above and below it, the left one in the low byte.
#[derive(Default, Debug)]
struct Samples {
    above: Vec<[u16; LANES]>,
    below: Vec<[u16; LANES]>,
}

impl Samples {
    fn new(chunks: usize) -> Self {
        Self { above: vec![[0; LANES]; chunks], below: vec![[0; LANES]; chunks] }
    }

    /// `plane` begins with the first sample that counts; a line has `length` of them.
    fn pick(&mut self, plane: &[u8], stride: usize, length: usize, lines: [u32; 2], pairs: &Pairs) {
        let line = |number: u32| &plane[number as usize * stride..][..length];
        pick_pairs(line(lines[0]), &pairs.first, &mut self.above);
        if lines[0] == lines[1] {
            self.below.copy_from_slice(&self.above);
        } else {
            pick_pairs(line(lines[1]), &pairs.first, &mut self.below);
        }
    }
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
    columns: usize,
    rows: Vec<Row>,
    luma: Pairs,
    chroma: Pairs,
    y: Samples,
    u: Samples,
    v: Samples,
    /// What the tables and the bars are for.
    made_for: Option<(Placement, u32)>,
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
        let chroma_width = planes.width.div_ceil(2);
        let last_chroma_line = planes.height.div_ceil(2) - 1;
        if self.made_for != Some((placement, chroma_width)) {
            self.made_for = Some((placement, chroma_width));
            rows(&mut self.rows, placement.width, placement.origin.0, placement.step.0, region.x, region.width);
            let columns = self.rows.iter();
            self.luma = Pairs::new(columns.clone().map(|row| (row.first - region.x, row.share)), region.width);
            self.chroma = Pairs::new(columns.map(|row| (row.first / 2, row.chroma_share())), chroma_width);
            self.columns = self.rows.len();
            rows(&mut self.rows, placement.height, placement.origin.1, placement.step.1, region.y, region.height);
            fill_bars(input, channels, plane, out);
            let chunks = self.luma.first.len();
            (self.y, self.u, self.v) = (Samples::new(chunks), Samples::new(chunks), Samples::new(chunks));
        }
        let (is_grey, chroma_width) = (input.colours == Colours::Grey, chroma_width as usize);
        let strides = planes.strides;
        for (index, row) in self.rows.iter().enumerate() {
            let lines = [row.first, row.second];
            self.y.pick(&planes.y[region.x as usize..], strides.0, region.width as usize, lines, &self.luma);
            let first = row.first / 2;
            let lines = if row.chroma_share() > 0.0 { [first, (first + 1).min(last_chroma_line)] } else { [first; 2] };
            if !is_grey {
                self.u.pick(planes.u, strides.1, chroma_width, lines, &self.chroma);
                self.v.pick(planes.v, strides.2, chroma_width, lines, &self.chroma);
            }
            let begin = (placement.top as usize + index) * width + placement.left as usize;
            for chunk in 0..self.luma.first.len() {
                let y = between(&self.y, &self.luma, chunk, row.share);
                let [u, v] = match is_grey {
                    true => [[128.0; LANES]; 2],
                    false => [&self.u, &self.v].map(|of| between(of, &self.chroma, chunk, row.chroma_share())),
                };
                let count = (self.columns - chunk * LANES).min(LANES);
                let begin = begin + chunk * LANES;
                for (number, channel) in channels.iter().enumerate() {
                    let values = channel.values(&y, &u, &v);
                    if input.is_interleaved {
                        let out = &mut out[begin * channels.len()..][..count * channels.len()];
                        for (pixel, value) in out.chunks_exact_mut(channels.len()).zip(values) {
                            pixel[number] = value;
                        }
                    } else if let Some(out) = out[number * plane + begin..][..count].first_chunk_mut() {
                        *out = values;
                    } else {
                        out[number * plane + begin..][..count].copy_from_slice(&values[..count]);
                    }
                }
            }
        }
        placement
    }
}

/// Two samples from each place on.
fn pick_pairs(line: &[u8], places: &[[u32; LANES]], out: &mut [[u16; LANES]]) {
    // A picture of one column.
    let twice = [line[0]; 2];
    let line = if line.len() == 1 { &twice } else { line };
    for (out, at) in out.as_flattened_mut().iter_mut().zip(places.as_flattened()) {
        let pair = line.get(*at as usize..*at as usize + 2);
        *out = pair.map_or(0, |pair| u16::from_le_bytes([pair[0], pair[1]]));
    }
}

/// One chunk of a row of the input, between four samples each.
#[inline]
fn between(samples: &Samples, pairs: &Pairs, chunk: usize, share: f32) -> [f32; LANES] {
    let (above, below, shares) = (&samples.above[chunk], &samples.below[chunk], &pairs.share[chunk]);
    let mut out = [0.0; LANES];
    for (lane, out) in out.iter_mut().enumerate() {
        let across = |pair: u16| {
            let (left, right) = (f32::from(pair & 0xff), f32::from(pair >> 8));
            left + (right - left) * shares[lane]
        };
        let (above, below) = (across(above[lane]), across(below[lane]));
        *out = above + (below - above) * share;
    }
    out
}

impl Channel {
    #[inline]
    fn values(&self, y: &[f32; LANES], u: &[f32; LANES], v: &[f32; LANES]) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        for (lane, out) in out.iter_mut().enumerate() {
            let level = self.y * y[lane] + self.u * u[lane] + self.v * v[lane] + self.offset;
            *out = level.clamp(0.0, 255.0) * self.gain + self.shift;
        }
        out
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
    fn every_pixel_is_between_its_four() {
        let mut rng = fastrand::Rng::with_seed(9);
        for case in 0..200 {
            let (width, height) = (rng.u32(1..90), rng.u32(1..50));
            let chroma_width = width.div_ceil(2);
            let mut plane =
                |least: u8, most: u8| -> Vec<u8> { (0..width * height).map(|_| rng.u8(least..most)).collect() };
            // So much colour that nothing is cut off.
            let (y, u, v) = (plane(90, 166), plane(110, 146), plane(110, 146));
            let strides = (width as usize, chroma_width as usize, chroma_width as usize);
            let planes = Planes::new([&y, &u, &v], strides, width, height);
            let planes = planes.expect("a picture").full_range(true);
            let (x, top) = (rng.u32(..width), rng.u32(..height));
            let region = Region { x, y: top, width: rng.u32(1..=width - x), height: rng.u32(1..=height - top) };
            let fit = [Fit::Letterbox, Fit::TopLeft, Fit::Stretch, Fit::Crop][case % 4];
            let input = input(rng.u32(1..50), rng.u32(1..50), fit);
            let mut out = vec![f32::NAN; input.len()];
            let placement = Prepare::default().fill(&input, &planes, region, &mut out);
            let between = |at: u32, origin: f32, step: f32, begin: u32, length: u32| {
                let exact = ((at as f32 + 0.5) * step + origin - 0.5).clamp(begin as f32, (begin + length - 1) as f32);
                (exact as u32, (exact as u32 + 1).min(begin + length - 1), exact.fract())
            };
            for at in 0..placement.width * placement.height {
                let (row, column) = (at / placement.width, at % placement.width);
                let x = between(column, placement.origin.0, placement.step.0, region.x, region.width);
                let down = between(row, placement.origin.1, placement.step.1, region.y, region.height);
                let expected =
                    [(&y, width, 1), (&u, chroma_width, 2), (&v, chroma_width, 2)].map(|(plane, stride, of)| {
                        let sample = |x: u32, line: u32| f32::from(plane[(line / of * stride + x / of) as usize]);
                        let across = |line: u32| sample(x.0, line) + (sample(x.1, line) - sample(x.0, line)) * x.2;
                        across(down.0) + (across(down.1) - across(down.0)) * down.2
                    });
                let [luma, cb, cr] = [expected[0], expected[1] - 128.0, expected[2] - 128.0];
                let expected = [luma + 1.402 * cr, luma - 0.344_136 * cb - 0.714_136 * cr, luma + 1.772 * cb];
                for (channel, expected) in expected.into_iter().enumerate() {
                    let pixel = (placement.top + row) * input.width + placement.left + column;
                    let seen = out[channel * (input.width * input.height) as usize + pixel as usize];
                    assert!((seen - expected).abs() < 0.01, "case {case} {row} {column}: {seen} instead of {expected}");
                }
            }
            assert!(out.iter().all(|value| value.is_finite()), "case {case}: a pixel was left out");
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

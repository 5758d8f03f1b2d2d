//! Notices whether anything moves, for a hundredth of what a detector costs.
//!
//! The picture is a grid of cells of 16 x 16 pixels; the mean luma of each, of every fourth row, is compared with what it
//! usually is. A mean over 64 samples has an eighth of a sample's noise, and what noise is left is measured in each picture
//! and stays below the thresholds.
//!
//! Hysteresis: it opens at one threshold, by what is usual. While it is open the picture of the last change is what counts,
//! and a lower threshold; it closes some time after that. What is there then is the new usual: what has stopped is not moving.

use std::time::Duration;

use crate::Planes;
use crate::zone::Zones;

/// Pixels of a cell's side.
const CELL: usize = 16;
/// Every so many rows one is looked at.
const ROWS: usize = 4;

/// Thresholds are at least so many standard deviations of the noise, whatever the settings say: of 3,600 cells at 5
/// pictures a second some would reach 4 by chance in each second.
const OPEN_DEVIATIONS: f32 = 8.0;
const CLOSE_DEVIATIONS: f32 = 6.0;
/// Standard deviation for a median absolute deviation of 1, of normal noise.
const OF_MEDIAN: f32 = 1.4826;

/// When the gate opens and closes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GateSettings {
    /// Levels of luma (of 256) that a cell's mean must change by to open it.
    pub open: f32,
    /// It stays open while a cell changes by more than this.
    pub close: f32,
    /// So many cells must.
    pub cells: usize,
    /// It stays open for so long after the last change.
    pub hold: Duration,
    /// What is there becomes usual with this half-life.
    pub half_life: Duration,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self { open: 6.0, close: 3.0, cells: 1, hold: Duration::from_secs(2), half_life: Duration::from_secs(2) }
    }
}

/// What the gate says of a picture.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Activity {
    /// Worth looking at.
    pub is_open: bool,
    /// Cells inside the zones that have changed, of all inside: 0 to 1.
    pub share: f32,
}

/// Watches one camera's pictures, all of one size; another size begins anew.
#[derive(Debug)]
pub struct Gate {
    settings: GateSettings,
    columns: usize,
    rows: usize,
    /// Which cells count.
    mask: Vec<bool>,
    usual: Vec<f32>,
    /// While it is open: the picture of the last change.
    changed: Vec<f32>,
    means: Vec<f32>,
    now: Duration,
    open_until: Option<Duration>,
}

impl Gate {
    /// It opens at the first picture, of which nothing is known.
    pub fn new(settings: GateSettings) -> Self {
        let (mask, usual, changed, means) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { settings, columns: 0, rows: 0, mask, usual, changed, means, now: Duration::ZERO, open_until: None }
    }

    /// Looks at a picture of the time `now` (any clock that does not go back). `zones` must be the same each time.
    pub fn update(&mut self, planes: &Planes<'_>, zones: &Zones, now: Duration) -> Activity {
        let now = now.max(self.now);
        let passed = now - self.now;
        self.now = now;
        // What is left at the bottom belongs to the last row; up to 15 columns at the right are not looked at.
        let (columns, rows) = ((planes.width as usize / CELL).max(1), (planes.height as usize / CELL).max(1));
        let is_first = (columns, rows) != (self.columns, self.rows);
        if is_first {
            (self.columns, self.rows) = (columns, rows);
            let counts = |cell: usize| {
                let middle = |index: usize, size: u32| ((index * CELL + CELL / 2) as f32 / size as f32).min(1.0);
                zones.count_point((middle(cell % columns, planes.width), middle(cell / columns, planes.height)))
            };
            self.mask = (0..columns * rows).map(counts).collect();
            self.means = vec![0.0; columns * rows];
        }
        means(planes, columns, &mut self.means);
        if is_first {
            self.usual.clone_from(&self.means);
            self.changed.clone_from(&self.means);
            self.open_until = Some(now + self.settings.hold);
            return Activity { is_open: true, share: 1.0 };
        }
        let is_open = self.open_until.is_some_and(|until| now < until);
        if !is_open && self.open_until.take().is_some() {
            self.usual.clone_from(&self.changed);
        }
        let before = if is_open { &self.changed } else { &self.usual };
        // A camera that changes its exposure changes all cells alike.
        let (drift, noise) = drift_and_noise(&self.means, before);
        let threshold = if is_open {
            self.settings.close.max(CLOSE_DEVIATIONS * noise)
        } else {
            self.settings.open.max(OPEN_DEVIATIONS * noise)
        };
        let has_changed = |mean: &f32, before: &f32| (mean - before - drift).abs() > threshold;
        let cells = self.means.iter().zip(before).zip(&self.mask).filter(|(_, counts)| **counts);
        let (mut changed, mut counted) = (0, 0);
        for ((mean, before), _) in cells {
            counted += 1;
            changed += usize::from(has_changed(mean, before));
        }
        if changed >= self.settings.cells.max(1) {
            self.open_until = Some(now + self.settings.hold);
            self.changed.clone_from(&self.means);
        }
        let keep = 0.5_f32.powf(passed.as_secs_f32() / self.settings.half_life.as_secs_f32().max(0.001));
        for (mean, usual) in self.means.iter().zip(&mut self.usual) {
            *usual = mean + (*usual - mean) * keep;
        }
        let is_open = self.open_until.is_some_and(|until| now < until);
        Activity { is_open, share: changed as f32 / (counted.max(1)) as f32 }
    }
}

/// The mean luma of each cell.
fn means(planes: &Planes<'_>, columns: usize, out: &mut [f32]) {
    let (width, height) = (planes.width as usize, planes.height as usize);
    let rows = out.len() / columns;
    for (row, out) in out.chunks_exact_mut(columns).enumerate() {
        out.fill(0.0);
        let end = if row + 1 == rows { height } else { (row + 1) * CELL };
        let lines = (row * CELL..end).step_by(ROWS);
        let count = lines.len() as f32;
        for line in lines {
            let line = &planes.y[line * planes.strides.0..][..width];
            let (cells, rest) = line.as_chunks::<CELL>();
            for (out, cell) in out.iter_mut().zip(cells) {
                *out += f32::from(cell.iter().map(|luma| u16::from(*luma)).sum::<u16>());
            }
            // Narrower than a cell, or what is left at the right: no more weight than any other.
            if cells.is_empty() {
                out[0] += f32::from(rest.iter().map(|luma| u16::from(*luma)).sum::<u16>()) * CELL as f32 / width as f32;
            }
        }
        for out in out.iter_mut() {
            *out /= count * CELL as f32;
        }
    }
}

/// By how much all has changed, and the standard deviation of the rest: medians of a hundred cells, because what moves is
/// smaller than half of the picture, or all is new anyhow.
fn drift_and_noise(a: &[f32], b: &[f32]) -> (f32, f32) {
    let step = (a.len() / 101).max(1);
    let mut differences: Vec<f32> = a.iter().zip(b).step_by(step).map(|(a, b)| a - b).collect();
    let drift = median(&mut differences);
    differences.iter_mut().for_each(|difference| *difference = (*difference - drift).abs());
    (drift, OF_MEDIAN * median(&mut differences))
}

fn median(values: &mut [f32]) -> f32 {
    values.sort_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::ZoneDescription;

    const WIDTH: usize = 320;
    const HEIGHT: usize = 180;

    struct Camera {
        rng: fastrand::Rng,
        gate: Gate,
        zones: Zones,
        brightness: u8,
    }

    impl Camera {
        fn new(zones: &[ZoneDescription]) -> Self {
            let zones = Zones::new(zones, WIDTH as u32, HEIGHT as u32).expect("zones");
            let gate = Gate::new(GateSettings::default());
            Self { rng: fastrand::Rng::with_seed(1), gate, zones, brightness: 90 }
        }

        /// Noise of ±8 levels, and a thing of 20 x 24 pixels that is 30 levels brighter.
        fn look(&mut self, millis: u64, thing: Option<(usize, usize)>) -> bool {
            let mut luma = vec![0; WIDTH * HEIGHT];
            for (at, luma) in luma.iter_mut().enumerate() {
                let (x, y) = (at % WIDTH, at / WIDTH);
                let is_thing =
                    thing.is_some_and(|(left, top)| (left..left + 20).contains(&x) && (top..top + 24).contains(&y));
                *luma = self.brightness + self.rng.u8(0..17) + if is_thing { 30 } else { 0 };
            }
            let planes = Planes::new([&luma, &luma, &luma], (WIDTH, WIDTH, WIDTH), WIDTH as u32, HEIGHT as u32);
            let planes = planes.expect("a picture");
            self.gate.update(&planes, &self.zones, Duration::from_millis(millis)).is_open
        }

        /// How many of these pictures it is open for.
        fn open(&mut self, millis: std::ops::Range<u64>, thing: impl Fn(u64) -> Option<(usize, usize)>) -> usize {
            millis.step_by(200).filter(|at| self.look(*at, thing(*at))).count()
        }
    }

    #[test]
    fn noise_does_not_open_it_and_motion_does() {
        let mut camera = Camera::new(&[]);
        assert!(camera.look(0, None), "nothing is known of the first picture");
        assert_eq!(camera.open(200..2000, |_| None), 9, "held after the first");
        assert_eq!(camera.open(2000..20_000, |_| None), 0);
        let moving = |at: u64| Some(((at - 20_000) as usize / 100, 80));
        assert_eq!(camera.open(20_000..30_000, moving), 50);
        // It has stopped: that is no motion, whatever was there before.
        let stopped = camera.open(30_000..60_000, |_| Some((100, 80)));
        assert!((8..=11).contains(&stopped), "{stopped}");
        assert_eq!(camera.open(60_000..62_000, |_| Some((100, 80))), 0);
        assert!(camera.look(62_200, None), "it is gone");
        // So slow that no picture differs from the one before by more than noise does.
        camera.open(62_400..80_000, |_| None);
        let creeping = camera.open(80_000..100_000, |at| Some(((at - 80_000) as usize / 200, 80)));
        assert!(creeping > 95, "{creeping}");
    }

    #[test]
    fn exposure_is_no_motion() {
        let mut camera = Camera::new(&[]);
        camera.open(0..10_000, |_| None);
        camera.brightness = 110;
        assert_eq!(camera.open(10_000..12_000, |_| None), 0);
    }

    #[test]
    fn only_zones_count() {
        let left = ZoneDescription {
            name: "left".to_owned(),
            points: vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]],
            exclude: false,
            overlap: crate::zone::Overlap::Centre,
        };
        for (exclude, x, is_open) in [(false, 40, true), (false, 240, false), (true, 40, false), (true, 240, true)] {
            let mut camera = Camera::new(&[ZoneDescription { exclude, ..left.clone() }]);
            camera.open(0..10_000, |_| None);
            assert_eq!(camera.look(10_000, Some((x, 80))), is_open, "exclude {exclude}, at {x}");
        }
    }

    #[test]
    fn another_size_begins_anew() {
        let mut gate = Gate::new(GateSettings::default());
        let luma = vec![0; 64 * 64];
        for (millis, width, height, is_open) in [(0, 64, 64, true), (5000, 64, 64, false), (6000, 33, 1, true)] {
            let planes = Planes::new([&luma, &luma, &luma], (64, 64, 64), width, height).expect("a picture");
            let activity = gate.update(&planes, &Zones::default(), Duration::from_millis(millis));
            assert_eq!(activity.is_open, is_open, "{width}x{height}");
        }
    }
}

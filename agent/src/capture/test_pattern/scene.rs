//! What the test pattern shows: a gradient, three shapes that bounce, a wall clock and the number of the frame.
//!
//! Invariants: where a shape is follows from the frame's number alone, so a dropped frame shows as a jump; a frame
//! costs what it moves. The gradient is drawn once, and a shape that leaves is wiped by copying one row of it.

use edgecam_media::Timestamp;

use super::font;
use crate::encode::frame::{Frame, Planes};

const BLACK: Colour = Colour { y: 16, u: 128, v: 128 };
const ORANGE: Colour = Colour { y: 170, u: 50, v: 180 };
const BLUE: Colour = Colour { y: 70, u: 190, v: 100 };
const GREEN: Colour = Colour { y: 140, u: 60, v: 50 };
const WHITE: u8 = 235;

/// A shape crosses the picture in this many seconds, from left to right and from top to bottom.
const SQUARE: [u64; 2] = [4, 7];
const DISC: [u64; 2] = [7, 4];
const TRIANGLE: [u64; 2] = [9, 5];

#[derive(Clone, Copy)]
struct Colour {
    y: u8,
    u: u8,
    v: u8,
}

/// An area on even coordinates, which I420 can colour exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

/// The scene and the frame it is drawn into.
pub(super) struct Scene {
    frame: Frame,
    /// Frames in a second, rounded.
    rate: u64,
    /// The gradient's luma, the same in every row.
    row: Vec<u8>,
    /// Half the disc's width in each of its rows.
    disc: Vec<usize>,
    /// Half the triangle's.
    triangle: Vec<usize>,
    side: usize,
    /// Pixels for one pixel of the font.
    scale: usize,
    drawn: [Area; 3],
}

impl Scene {
    /// Draws what does not move.
    pub(super) fn new(frame: Frame, frame_rate: f64) -> Self {
        let (width, height) = (frame.width(), frame.height());
        let short = width.min(height);
        let radius = (short / 8).max(1);
        let scale = (height / 90).min(width / 84).max(1);
        let mut scene = Self {
            frame,
            rate: (frame_rate.round() as u64).max(1),
            row: (0..width).map(|x| 48 + (x * 144 / width) as u8).collect(),
            disc: (0..2 * radius).map(|row| half_chord(radius, row)).collect(),
            triangle: (0..2 * radius).map(|row: usize| row.div_ceil(2)).collect(),
            side: even((short / 5).max(2)),
            scale,
            drawn: [Area::default(); 3],
        };
        scene.wipe(Area { x: 0, y: 0, width, height });
        scene
    }

    /// Moves everything to where it is in frame `number`, at `wall` o'clock.
    pub(super) fn draw(&mut self, number: u64, wall: Timestamp) -> &Frame {
        for area in self.drawn {
            self.wipe(area);
        }
        let square = self.place(number, self.side, SQUARE);
        self.fill(square, ORANGE);
        let disc = self.place(number, self.disc.len(), DISC);
        fill_rows(&mut self.frame, disc, &self.disc, BLUE);
        let triangle = self.place(number, self.triangle.len(), TRIANGLE);
        fill_rows(&mut self.frame, triangle, &self.triangle, GREEN);
        self.drawn = [square, disc, triangle];
        let line = 10 * self.scale;
        self.text(2 * self.scale, &font::clock(wall.unix_millis()));
        self.text(2 * self.scale + line, &font::number(number));
        &self.frame
    }

    /// Where a shape of this size is that needs so many seconds to cross the picture.
    fn place(&self, number: u64, side: usize, [across, down]: [u64; 2]) -> Area {
        let at = |free: usize, seconds: u64| bounce(number, self.rate * seconds, free);
        let (x, y) = (at(self.frame.width() - side, across), at(self.frame.height() - side, down));
        Area { x, y, width: side, height: side }
    }

    fn wipe(&mut self, area: Area) {
        let (width, rows) = (self.frame.width(), self.frame.height() / 2);
        let Planes { y, u, v } = self.frame.planes_mut();
        let gradient = &self.row[area.x..area.x + area.width];
        for line in y.chunks_exact_mut(width).skip(area.y).take(area.height) {
            line[area.x..area.x + area.width].copy_from_slice(gradient);
        }
        let columns = area.x / 2..(area.x + area.width) / 2;
        let lines = u.chunks_exact_mut(width / 2).zip(v.chunks_exact_mut(width / 2)).enumerate();
        for (row, (u, v)) in lines.skip(area.y / 2).take(area.height / 2) {
            let shade = (row * 40 / rows) as u8;
            u[columns.clone()].fill(108 + shade);
            v[columns.clone()].fill(148 - shade);
        }
    }

    fn fill(&mut self, area: Area, colour: Colour) {
        let width = self.frame.width();
        let Planes { y, u, v } = self.frame.planes_mut();
        for line in y.chunks_exact_mut(width).skip(area.y).take(area.height) {
            line[area.x..area.x + area.width].fill(colour.y);
        }
        for (plane, value) in [(u, colour.u), (v, colour.v)] {
            for line in plane.chunks_exact_mut(width / 2).skip(area.y / 2).take(area.height / 2) {
                line[area.x / 2..(area.x + area.width) / 2].fill(value);
            }
        }
    }

    /// Writes a line of text on black; what does not fit the picture is left out.
    fn text(&mut self, top: usize, text: &[u8]) {
        let (scale, width, height) = (self.scale, self.frame.width(), self.frame.height());
        let left = 2 * scale;
        let cell = (font::WIDTH + 1) * scale;
        let x = even(left - scale);
        let y = even(top - scale);
        let size = |wanted: usize, room: usize| even(wanted + 1).min(room);
        let plate = Area {
            x,
            y,
            width: size(text.len() * cell + 2 * scale, width - x.min(width)),
            height: size((font::HEIGHT + 2) * scale, height - y.min(height)),
        };
        self.fill(plate, BLACK);
        let luma = self.frame.planes_mut().y;
        for (index, &character) in text.iter().enumerate() {
            let x = left + index * cell;
            if x + cell > width {
                return;
            }
            let rows = font::glyph(character);
            let lines =
                luma.chunks_exact_mut(width).skip(top).zip(rows.iter().flat_map(|row| std::iter::repeat_n(row, scale)));
            for (line, row) in lines {
                for column in (0..font::WIDTH).filter(|column| row & (0b10000 >> column) != 0) {
                    let from = x + column * scale;
                    line[from..from + scale].fill(WHITE);
                }
            }
        }
    }
}

/// Fills a shape that is symmetric: half its width in each of its rows.
fn fill_rows(frame: &mut Frame, area: Area, halves: &[usize], colour: Colour) {
    let width = frame.width();
    let centre = area.x + area.width / 2;
    let Planes { y, u, v } = frame.planes_mut();
    for (line, half) in y.chunks_exact_mut(width).skip(area.y).zip(halves) {
        line[centre - half..centre + half].fill(colour.y);
    }
    for (plane, value) in [(u, colour.u), (v, colour.v)] {
        let lines = plane.chunks_exact_mut(width / 2).skip(area.y / 2);
        for (line, half) in lines.zip(halves.iter().step_by(2)) {
            line[(centre - half) / 2..(centre + half) / 2].fill(value);
        }
    }
}

/// Half the width of a disc in one of its rows.
fn half_chord(radius: usize, row: usize) -> usize {
    let middle = (2 * row + 1).abs_diff(2 * radius);
    // In half pixels: (2r)² = chord² + distance².
    ((4 * radius * radius).saturating_sub(middle * middle).isqrt() / 2).min(radius)
}

/// Goes from 0 to `span` in `frames` frames and back again, on even coordinates.
fn bounce(number: u64, frames: u64, span: usize) -> usize {
    let phase = number % (2 * frames);
    let forward = if phase <= frames { phase } else { 2 * frames - phase };
    // At most `span`, which came from a usize.
    even((forward * span as u64 / frames) as usize)
}

fn even(pixels: usize) -> usize {
    pixels & !1
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_unix_millis(43_200_000);

    #[test]
    fn shapes_stay_inside_at_any_size() {
        for (width, height) in [(2, 2), (16, 16), (64, 48), (320, 180), (1080, 1920), (1280, 720)] {
            let mut scene = Scene::new(Frame::black(width, height).expect("even"), 25.0);
            for number in (0..2000).step_by(7) {
                scene.draw(number, NOON);
            }
        }
    }

    #[test]
    fn a_shape_leaves_nothing_behind() {
        let empty = Scene::new(Frame::black(320, 180).expect("even"), 25.0).frame;
        let mut scene = Scene::new(Frame::black(320, 180).expect("even"), 25.0);
        for number in 0..500 {
            scene.draw(number, NOON);
        }
        for area in scene.drawn {
            scene.wipe(area);
        }
        // Below the lines of text nothing but the gradient is left.
        let text = 24 * scene.scale;
        assert!(scene.frame.y()[text * 320..] == empty.y()[text * 320..]);
        assert!(scene.frame.u()[text / 2 * 160..] == empty.u()[text / 2 * 160..]);
        assert!(scene.frame.v()[text / 2 * 160..] == empty.v()[text / 2 * 160..]);
    }

    #[test]
    fn the_same_number_gives_the_same_picture() {
        let mut one = Scene::new(Frame::black(320, 180).expect("even"), 25.0);
        let mut other = Scene::new(Frame::black(320, 180).expect("even"), 25.0);
        for number in 0..=90 {
            one.draw(number, NOON);
        }
        assert!(one.draw(91, NOON).y() == other.draw(91, NOON).y());
        assert!(one.draw(92, NOON).y() != other.draw(91, NOON).y());
    }

    #[test]
    fn the_number_can_be_read_back() {
        let mut scene = Scene::new(Frame::black(640, 360).expect("even"), 25.0);
        let scale = scene.scale;
        let frame = scene.draw(90_817, NOON).clone();
        let digit = |index: usize| {
            let pixel = |row: usize, column: usize| {
                let (x, y) = (2 * scale + (index * 6 + column) * scale, 12 * scale + row * scale);
                frame.y()[y * 640 + x] == WHITE
            };
            let rows = |row| (0..font::WIDTH).fold(0, |bits, column| bits << 1 | u8::from(pixel(row, column)));
            let seen: [u8; font::HEIGHT] = std::array::from_fn(rows);
            (b'0'..=b'9').find(|&digit| font::glyph(digit) == seen).map(char::from)
        };
        assert_eq!((0..8).map(digit).collect::<Option<String>>().as_deref(), Some("00090817"));
    }

    #[test]
    fn the_built_in_detector_sees_the_shapes() {
        let model = edgecam_vision::Model::shapes().expect("it loads");
        let mut runner = model.runner().expect("it runs");
        let (mut seen, mut shown) = (0, 0);
        for (width, height) in [(640, 480), (1280, 720)] {
            let mut scene = Scene::new(Frame::black(width, height).expect("even"), 15.0);
            for number in (0..1500).step_by(50) {
                scene.draw(number, NOON);
                let frame = &scene.frame;
                let half = width as usize / 2;
                let planes = [frame.y(), frame.u(), frame.v()];
                let planes = edgecam_vision::Planes::new(planes, (width as usize, half, half), width, height);
                let output = runner.run(&planes.expect("a picture").bt709(true), None, 0.5).expect("it runs");
                let edgecam_vision::Output::Detections(found) = output else { panic!("{output:?}") };
                let [square, disc, triangle] = scene.drawn.map(|Area { x, y, width, height }| edgecam_vision::Rect {
                    x1: x as f32,
                    y1: y as f32,
                    x2: (x + width) as f32,
                    y2: (y + height) as f32,
                });
                let hides = |one: &edgecam_vision::Rect, over: &edgecam_vision::Rect| {
                    one.intersection(over).area() > 0.02 * one.area()
                };
                let text = edgecam_vision::Rect { x1: 0.0, y1: 0.0, x2: width as f32, y2: 24.0 * scene.scale as f32 };
                for (name, bbox, over) in [
                    ("square", square, &[disc, triangle, text][..]),
                    ("circle", disc, &[triangle, text, square]),
                    ("triangle", triangle, &[text, disc, square]),
                ] {
                    // What is behind something else has no shape of its own.
                    if over.iter().any(|over| hides(&bbox, over)) {
                        continue;
                    }
                    shown += 1;
                    let is_it =
                        |one: &edgecam_vision::Detection| model.label(one.class) == name && one.bbox.iou(&bbox) > 0.7;
                    seen += usize::from(found.iter().any(is_it));
                }
            }
        }
        assert!(shown > 60 && seen * 100 >= shown * 95, "{seen} of {shown}");
    }

    #[test]
    fn bouncing() {
        for (number, expected) in [(0, 0), (50, 50), (100, 100), (150, 50), (200, 0), (250, 50)] {
            assert_eq!(bounce(number, 100, 100), expected, "frame {number}");
        }
        assert_eq!(bounce(77, 100, 0), 0);
    }
}

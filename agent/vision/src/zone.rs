//! Places in a camera's picture: named polygons, to look at or to leave out.
//!
//! Kept in fractions of the picture, because the picture that is looked at may be a smaller stream than the one the
//! polygon was drawn on.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::Rect;

/// At most so many corners: a box is compared with each.
pub const MOST_POINTS: usize = 100;

/// A polygon as a person writes it.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneDescription {
    /// Said in events. No two are alike.
    pub name: String,
    /// The corners in order, `[x, y]` each: in fractions of the picture if none is above 1, else in pixels.
    pub points: Vec<[f32; 2]>,
    /// What is in it does not count.
    #[serde(default)]
    pub exclude: bool,
    /// When a box is in it.
    #[serde(default)]
    pub overlap: Overlap,
}

/// When a box is in a zone.
#[derive(Clone, Copy, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Its middle is.
    #[default]
    Centre,
    /// So much of its area is, above 0 and at most 1.
    Share(f32),
}

/// A zone that cannot be used.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ZoneError {
    /// No polygon.
    #[error("zone {name}: it has {points} points, and needs 3 to {MOST_POINTS}")]
    Points {
        /// Of the zone.
        name: String,
        /// How many.
        points: usize,
    },
    /// A corner that no pixel has.
    #[error("zone {name}: the point {x},{y} is outside the frame of {width}x{height} pixels")]
    Outside {
        /// Of the zone.
        name: String,
        /// As written.
        x: f32,
        /// As written.
        y: f32,
        /// Of the frame that pixels are counted in.
        width: u32,
        /// Of the frame that pixels are counted in.
        height: u32,
    },
    /// Inside and outside would be a matter of taste.
    #[error(
        "zone {name}: its edge crosses itself between points {first} and {second}; write the corners in order around it"
    )]
    Crossing {
        /// Of the zone.
        name: String,
        /// Where one of the edges begins, from 1.
        first: usize,
        /// Where the other begins, from 1.
        second: usize,
    },
    /// It has no area.
    #[error("zone {name}: it has no area; its points lie in a line")]
    Flat {
        /// Of the zone.
        name: String,
    },
    /// A share that no box has, or each.
    #[error("zone {name}: the share is {share}; it must be above 0 and at most 1")]
    Share {
        /// Of the zone.
        name: String,
        /// As written.
        share: f32,
    },
    /// Two zones of one name.
    #[error("zone {name}: there are two of that name")]
    Twice {
        /// Of both.
        name: String,
    },
}

/// A zone in use.
#[derive(Clone, PartialEq, Debug)]
pub struct Zone {
    name: String,
    is_excluded: bool,
    overlap: Overlap,
    /// In fractions of the picture.
    points: Vec<(f32, f32)>,
}

impl Zone {
    /// Reads a description; pixels are those of a frame of `width` x `height`.
    pub fn new(description: &ZoneDescription, width: u32, height: u32) -> Result<Self, ZoneError> {
        let name = || description.name.clone();
        let count = description.points.len();
        if !(3..=MOST_POINTS).contains(&count) {
            return Err(ZoneError::Points { name: name(), points: count });
        }
        if let Overlap::Share(share) = description.overlap
            && !(share > 0.0 && share <= 1.0)
        {
            return Err(ZoneError::Share { name: name(), share });
        }
        let is_fraction = description.points.iter().flatten().all(|value| *value <= 1.0);
        let size = if is_fraction { (1.0, 1.0) } else { (width as f32, height as f32) };
        let point = |[x, y]: &[f32; 2]| {
            let is_inside = (0.0..=size.0).contains(x) && (0.0..=size.1).contains(y);
            let outside = || ZoneError::Outside { name: name(), x: *x, y: *y, width, height };
            is_inside.then(|| (x / size.0, y / size.1)).ok_or_else(outside)
        };
        let points = description.points.iter().map(point).collect::<Result<Vec<_>, _>>()?;
        if let Some((first, second)) = crossing(&points) {
            return Err(ZoneError::Crossing { name: name(), first: first + 1, second: second + 1 });
        }
        // A millionth of the picture is less than a pixel of the largest.
        if area(&points) < 1e-6 {
            return Err(ZoneError::Flat { name: name() });
        }
        Ok(Self { name: name(), is_excluded: description.exclude, overlap: description.overlap, points })
    }

    /// As written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is in it does not count.
    pub fn is_excluded(&self) -> bool {
        self.is_excluded
    }

    /// The corners, in fractions of the picture.
    pub fn points(&self) -> &[(f32, f32)] {
        &self.points
    }

    /// Whether a box is in it, in a picture of `width` x `height` pixels.
    pub fn has(&self, bbox: &Rect, width: u32, height: u32) -> bool {
        let (width, height) = (width.max(1) as f32, height.max(1) as f32);
        let bbox = Rect { x1: bbox.x1 / width, y1: bbox.y1 / height, x2: bbox.x2 / width, y2: bbox.y2 / height };
        match self.overlap {
            Overlap::Centre => self.has_point(bbox.centre()),
            Overlap::Share(share) => {
                bbox.area() > 0.0 && area(&clip(&self.points, &bbox)) >= share * bbox.area() * 0.999_99
            }
        }
    }

    /// Whether a point, in fractions of the picture, is in it: an even-odd count of edges to its right.
    pub fn has_point(&self, (x, y): (f32, f32)) -> bool {
        edges(&self.points).fold(false, |is_inside, ((x1, y1), (x2, y2))| {
            let is_crossed = (y1 > y) != (y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1;
            is_inside != is_crossed
        })
    }
}

/// All zones of a detector.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Zones(Vec<Zone>);

impl Zones {
    /// Reads descriptions; pixels are those of a frame of `width` x `height`. None at all: the whole picture counts.
    pub fn new(descriptions: &[ZoneDescription], width: u32, height: u32) -> Result<Self, ZoneError> {
        for (index, zone) in descriptions.iter().enumerate() {
            if descriptions[..index].iter().any(|other| other.name == zone.name) {
                return Err(ZoneError::Twice { name: zone.name.clone() });
            }
        }
        Ok(Self(descriptions.iter().map(|zone| Zone::new(zone, width, height)).collect::<Result<_, _>>()?))
    }

    /// In the order of the descriptions.
    pub fn all(&self) -> &[Zone] {
        &self.0
    }

    /// Whether a box counts: in no zone that is excluded, and in one that is not if there are such.
    pub fn count(&self, bbox: &Rect, width: u32, height: u32) -> bool {
        self.counts(|zone| zone.has(bbox, width, height))
    }

    /// Whether what is at a point, in fractions of the picture, counts.
    pub fn count_point(&self, point: (f32, f32)) -> bool {
        self.counts(|zone| zone.has_point(point))
    }

    fn counts(&self, is_in: impl Fn(&Zone) -> bool) -> bool {
        let mut included = self.0.iter().filter(|zone| !zone.is_excluded).peekable();
        let is_included = included.peek().is_none() || included.any(&is_in);
        is_included && !self.0.iter().any(|zone| zone.is_excluded && is_in(zone))
    }

    /// The zones a box is in, those that are excluded left out.
    pub fn of<'a>(&'a self, bbox: &'a Rect, width: u32, height: u32) -> impl Iterator<Item = &'a Zone> {
        self.0.iter().filter(move |zone| !zone.is_excluded && zone.has(bbox, width, height))
    }
}

type Point = (f32, f32);

fn edges(points: &[Point]) -> impl Iterator<Item = (Point, Point)> {
    points.iter().zip(points.iter().cycle().skip(1)).map(|(a, b)| (*a, *b))
}

/// By the shoelace formula.
fn area(points: &[Point]) -> f32 {
    edges(points).map(|((x1, y1), (x2, y2))| x1 * y2 - x2 * y1).sum::<f32>().abs() / 2.0
}

/// Two edges that are no neighbours and meet.
fn crossing(points: &[Point]) -> Option<(usize, usize)> {
    let edges: Vec<_> = edges(points).collect();
    for first in 0..edges.len() {
        for second in first + 1..edges.len() {
            let are_neighbours = second == first + 1 || first == 0 && second == edges.len() - 1;
            if !are_neighbours && meet(edges[first], edges[second]) {
                return Some((first, second));
            }
        }
    }
    None
}

fn meet((a, b): (Point, Point), (c, d): (Point, Point)) -> bool {
    let side = |p: Point, q: Point, r: Point| (q.0 - p.0) * (r.1 - p.1) - (q.1 - p.1) * (r.0 - p.0);
    let is_between = |p: Point, q: Point, r: Point| {
        (p.0.min(q.0)..=p.0.max(q.0)).contains(&r.0) && (p.1.min(q.1)..=p.1.max(q.1)).contains(&r.1)
    };
    let (c_side, d_side, a_side, b_side) = (side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b));
    if c_side * d_side < 0.0 && a_side * b_side < 0.0 {
        return true;
    }
    [(c_side, a, b, c), (d_side, a, b, d), (a_side, c, d, a), (b_side, c, d, b)]
        .into_iter()
        .any(|(side, p, q, r)| side == 0.0 && is_between(p, q, r))
}

/// What of a polygon is in a box (Sutherland and Hodgman, 1974). Of a polygon with dents the parts may be joined by edges
/// without width, which have no area.
fn clip(points: &[Point], bbox: &Rect) -> Vec<Point> {
    let along_x = |a: Point, b: Point, x: f32| (x, a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0));
    let along_y = |a: Point, b: Point, y: f32| (a.0 + (b.0 - a.0) * (y - a.1) / (b.1 - a.1), y);
    let mut points = cut(points, |point| point.0 >= bbox.x1, |a, b| along_x(a, b, bbox.x1));
    points = cut(&points, |point| point.0 <= bbox.x2, |a, b| along_x(a, b, bbox.x2));
    points = cut(&points, |point| point.1 >= bbox.y1, |a, b| along_y(a, b, bbox.y1));
    cut(&points, |point| point.1 <= bbox.y2, |a, b| along_y(a, b, bbox.y2))
}

fn cut(points: &[Point], is_inside: impl Fn(Point) -> bool, meet: impl Fn(Point, Point) -> Point) -> Vec<Point> {
    let mut kept = Vec::with_capacity(points.len() + 4);
    for (a, b) in edges(points) {
        if is_inside(a) != is_inside(b) {
            kept.push(meet(a, b));
        }
        if is_inside(b) {
            kept.push(b);
        }
    }
    kept
}

#[cfg(test)]
mod tests;

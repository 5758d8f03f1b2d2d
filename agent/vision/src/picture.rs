//! A decoded picture, borrowed from its decoder, and places in it.

use crate::PictureError;

/// The largest side of a picture, in pixels. H.264 level 6.2 ends at 16,384 (ITU-T H.264 table A-1).
pub(crate) const MOST_SIDE: u32 = 16_384;

/// A picture in I420 (planar YCbCr 4:2:0, 8 bit), as decoders give it. Its planes are known to be long enough.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    pub(crate) y: &'a [u8],
    pub(crate) u: &'a [u8],
    pub(crate) v: &'a [u8],
    pub(crate) strides: (usize, usize, usize),
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) full_range: bool,
    pub(crate) bt709: bool,
}

impl<'a> Planes<'a> {
    /// A picture of `width` x `height` pixels in limited range and BT.601, what an untagged camera sends. `strides` are
    /// the bytes from row to row of luma, U and V. Odd sizes have `(n + 1) / 2` samples of chroma.
    pub fn new(
        [y, u, v]: [&'a [u8]; 3],
        strides: (usize, usize, usize),
        width: u32,
        height: u32,
    ) -> Result<Self, PictureError> {
        if width == 0 || height == 0 || width > MOST_SIDE || height > MOST_SIDE {
            return Err(PictureError::Size { width, height });
        }
        let half = |pixels: u32| pixels.div_ceil(2);
        let planes = [
            ("Y", y, strides.0, width, height),
            ("U", u, strides.1, half(width), half(height)),
            ("V", v, strides.2, half(width), half(height)),
        ];
        for (plane, bytes, stride, width, height) in planes {
            let (width, height) = (width as usize, height as usize);
            let needed = (height - 1).checked_mul(stride).and_then(|bytes| bytes.checked_add(width));
            if stride < width || needed.is_none_or(|needed| bytes.len() < needed) {
                return Err(PictureError::Plane { plane, bytes: bytes.len(), stride, width, height });
            }
        }
        Ok(Self { y, u, v, strides, width, height, full_range: false, bt709: false })
    }

    /// Samples use the whole byte (JPEG), not 16 to 235 and 240.
    pub fn full_range(self, full_range: bool) -> Self {
        Self { full_range, ..self }
    }

    /// Colours are BT.709's, not BT.601's.
    pub fn bt709(self, bt709: bool) -> Self {
        Self { bt709, ..self }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// All of it.
    pub fn whole(&self) -> Region {
        Region { x: 0, y: 0, width: self.width, height: self.height }
    }

    pub(crate) fn region(&self, region: Option<Region>) -> Result<Region, PictureError> {
        let Some(region) = region else { return Ok(self.whole()) };
        let fits =
            |begin: u32, length: u32, most: u32| length > 0 && begin.checked_add(length).is_some_and(|end| end <= most);
        if fits(region.x, region.width, self.width) && fits(region.y, region.height, self.height) {
            return Ok(region);
        }
        Err(PictureError::Region { region, width: self.width, height: self.height })
    }
}

/// A part of a picture that a model is to see, in whole pixels: a plate for a recogniser, a person for a classifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// At least 1.
    pub width: u32,
    /// At least 1.
    pub height: u32,
}

impl Region {
    /// The pixels of `rect` with `margin` of its size on each side, cut at a picture of `width` x `height`. `None`:
    /// nothing of it is in the picture.
    pub fn around(rect: &Rect, margin: f32, width: u32, height: u32) -> Option<Self> {
        let span = |begin: f32, end: f32, most: u32| {
            let margin = (end - begin).max(0.0) * margin;
            let begin = (begin - margin).floor().max(0.0) as u32;
            let end = ((end + margin).ceil().max(0.0) as u32).min(most);
            (begin < end).then(|| (begin, end - begin))
        };
        let (x, width) = span(rect.x1, rect.x2, width)?;
        let (y, height) = span(rect.y1, rect.y2, height)?;
        Some(Self { x, y, width, height })
    }
}

/// A box in pixels of the picture, from its upper left corner; edges, not centres of pixels.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Rect {
    /// Left.
    pub x1: f32,
    /// Top.
    pub y1: f32,
    /// Right.
    pub x2: f32,
    /// Bottom.
    pub y2: f32,
}

impl Rect {
    /// A box around a centre.
    pub fn centred(x: f32, y: f32, width: f32, height: f32) -> Self {
        Self { x1: x - width / 2.0, y1: y - height / 2.0, x2: x + width / 2.0, y2: y + height / 2.0 }
    }

    /// In pixels; never negative.
    pub fn width(&self) -> f32 {
        (self.x2 - self.x1).max(0.0)
    }

    /// In pixels; never negative.
    pub fn height(&self) -> f32 {
        (self.y2 - self.y1).max(0.0)
    }

    /// In square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// Its middle.
    pub fn centre(&self) -> (f32, f32) {
        ((self.x1 + self.x2) / 2.0, (self.y1 + self.y2) / 2.0)
    }

    /// What both cover. It may be empty.
    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
            x2: self.x2.min(other.x2),
            y2: self.y2.min(other.y2),
        }
    }

    /// Intersection over union, 0 to 1.
    pub fn iou(&self, other: &Self) -> f32 {
        let shared = self.intersection(other).area();
        let union = self.area() + other.area() - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_that_are_too_short_are_refused() {
        let bytes = [0; 100];
        let new = |strides, width, height, chroma: usize| {
            Planes::new([&bytes, &bytes[..chroma], &bytes[..chroma]], strides, width, height)
        };
        assert!(new((1, 1, 1), 1, 1, 1).is_ok());
        assert!(new((10, 5, 5), 10, 10, 25).is_ok());
        // The last row needs no padding.
        assert!(new((12, 5, 5), 4, 9, 25).is_ok());
        assert!(new((5, 3, 3), 5, 5, 9).is_ok(), "odd sizes");
        assert!(matches!(new((10, 5, 5), 10, 10, 24), Err(PictureError::Plane { plane: "U", .. })));
        assert!(matches!(new((9, 5, 5), 10, 10, 25), Err(PictureError::Plane { plane: "Y", .. })));
        assert!(matches!(new((10, 5, 5), 10, 11, 25), Err(PictureError::Plane { plane: "Y", .. })));
        assert!(matches!(new((usize::MAX, 5, 5), 10, 3, 25), Err(PictureError::Plane { plane: "Y", .. })));
        for (width, height) in [(0, 1), (1, 0), (20_000, 1), (1, 20_000)] {
            let error = new((20_000, 10_000, 10_000), width, height, 25).expect_err("refused");
            assert!(error.to_string().contains(&format!("{width}x{height}")), "{error}");
        }
    }

    #[test]
    fn regions_are_inside_or_refused() {
        let bytes = [0; 100];
        let planes = Planes::new([&bytes, &bytes, &bytes], (10, 5, 5), 10, 10).expect("a picture");
        let region = |x, y, width, height| planes.region(Some(Region { x, y, width, height }));
        assert!(region(0, 0, 10, 10).is_ok() && region(9, 9, 1, 1).is_ok());
        for (x, y, width, height) in [(0, 0, 11, 1), (9, 0, 2, 1), (0, 0, 0, 1), (u32::MAX, 0, 2, 1), (0, 10, 1, 1)] {
            assert!(region(x, y, width, height).is_err(), "{x} {y} {width} {height}");
        }
        let rect = Rect { x1: 2.0, y1: 4.0, x2: 6.0, y2: 8.0 };
        assert_eq!(Region::around(&rect, 0.0, 10, 10), Some(Region { x: 2, y: 4, width: 4, height: 4 }));
        assert_eq!(Region::around(&rect, 0.75, 10, 10), Some(Region { x: 0, y: 1, width: 9, height: 9 }));
        assert_eq!(Region::around(&Rect { x1: 20.0, x2: 30.0, ..rect }, 0.0, 10, 10), None);
    }

    #[test]
    fn overlap() {
        let a = Rect { x1: 0.0, y1: 0.0, x2: 2.0, y2: 2.0 };
        let b = Rect { x1: 1.0, y1: 0.0, x2: 3.0, y2: 2.0 };
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-6 && (a.iou(&a) - 1.0).abs() < 1e-6);
        assert!(a.iou(&Rect { x1: 5.0, y1: 5.0, x2: 6.0, y2: 6.0 }).abs() < 1e-6);
        assert!(Rect::default().iou(&Rect::default()).abs() < 1e-6, "an empty box is no division by zero");
    }
}

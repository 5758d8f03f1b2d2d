//! A raw picture, owned or borrowed.

use openh264::formats::YUVSource;

/// A picture in I420: a plane of luma, then two planes of chroma at half the width and height. Rows are not padded.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

/// A picture in I420 that lies in someone else's memory: a [`Frame`]'s, or a driver's.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Width in pixels; even.
    pub width: usize,
    /// Height in pixels; even.
    pub height: usize,
    /// Luma, rows of `strides.0` bytes.
    pub y: &'a [u8],
    /// Blue difference, rows of `strides.1` bytes.
    pub u: &'a [u8],
    /// Red difference, rows of `strides.1` bytes.
    pub v: &'a [u8],
    /// Bytes from one row to the next: of luma, of each chroma plane.
    pub strides: (usize, usize),
}

impl YUVSource for View<'_> {
    fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.strides.0, self.strides.1, self.strides.1)
    }

    fn y(&self) -> &[u8] {
        self.y
    }

    fn u(&self) -> &[u8] {
        self.u
    }

    fn v(&self) -> &[u8] {
        self.v
    }
}

/// The three planes of a frame, to be drawn on.
pub struct Planes<'a> {
    /// Luma, 16 (black) to 235 (white).
    pub y: &'a mut [u8],
    /// Blue difference, 128 is none.
    pub u: &'a mut [u8],
    /// Red difference, 128 is none.
    pub v: &'a mut [u8],
}

impl Frame {
    /// A black frame; `None` when a side is 0, odd, or above 16,384.
    pub fn black(width: u32, height: u32) -> Option<Self> {
        let side = |pixels: u32| {
            let fits = pixels > 0 && pixels.is_multiple_of(2) && pixels <= 16_384;
            fits.then(|| usize::try_from(pixels).ok()).flatten()
        };
        let (width, height) = (side(width)?, side(height)?);
        let luma = width * height;
        let mut data = vec![16; luma + luma / 2];
        data[luma..].fill(128);
        Some(Self { width, height, data })
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The luma plane.
    pub fn y(&self) -> &[u8] {
        &self.data[..self.luma()]
    }

    /// The first chroma plane.
    pub fn u(&self) -> &[u8] {
        let luma = self.luma();
        &self.data[luma..luma + luma / 4]
    }

    /// The second chroma plane.
    pub fn v(&self) -> &[u8] {
        let luma = self.luma();
        &self.data[luma + luma / 4..]
    }

    /// The picture, to be looked at.
    pub fn view(&self) -> View<'_> {
        let strides = (self.width, self.width / 2);
        View { width: self.width, height: self.height, y: self.y(), u: self.u(), v: self.v(), strides }
    }

    /// All planes.
    pub fn planes_mut(&mut self) -> Planes<'_> {
        let luma = self.luma();
        let (y, chroma) = self.data.split_at_mut(luma);
        let (u, v) = chroma.split_at_mut(luma / 4);
        Planes { y, u, v }
    }

    fn luma(&self) -> usize {
        self.width * self.height
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_add_up() {
        for (width, height) in [(2, 2), (640, 360), (1920, 1080)] {
            let mut frame = Frame::black(width, height).expect("even");
            assert_eq!(frame.y().len(), frame.u().len() * 4);
            assert_eq!(frame.u().len(), frame.v().len());
            assert!(frame.y().iter().all(|&y| y == 16) && frame.u().iter().chain(frame.v()).all(|&c| c == 128));
            let Planes { y, u, v } = frame.planes_mut();
            (y[0], u[0], v[0]) = (1, 2, 3);
            assert_eq!((frame.y()[0], frame.u()[0], frame.v()[0]), (1, 2, 3));
        }
        for (width, height) in [(0, 2), (3, 2), (2, 5), (20_000, 2)] {
            assert!(Frame::black(width, height).is_none(), "{width}x{height}");
        }
    }
}

//! From what cameras' drivers give to I420, in one pass; what is I420 already is only looked at.
//!
//! Rows may be padded; sizes that are odd lose their last row or column, since chroma at half the size has no place for
//! it. Nothing is scaled, and the meaning of the samples does not change: see [`Colour`](super::Colour).

use super::frame::{Frame, Planes, View};

/// How a raw picture lies in memory (names of the Linux kernel's V4L2 documentation).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// 4:2:2, Y0 Cb Y1 Cr.
    Yuyv,
    /// 4:2:2, Cb Y0 Cr Y1.
    Uyvy,
    /// 4:2:0, a plane of luma, then Cb and Cr in turns.
    Nv12,
    /// 4:2:0, a plane of luma, then one of Cb, then one of Cr (I420).
    Yu12,
    /// 4:2:0, a plane of luma, then one of Cr, then one of Cb.
    Yv12,
    /// Luma alone.
    Grey,
}

/// A raw picture in a driver's memory.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    /// How it lies there.
    pub layout: Layout,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Bytes from one row of the first plane to the next.
    pub stride: usize,
    /// All planes.
    pub data: &'a [u8],
}

/// The picture is not as long as its size and layout say, or has no even size at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{bytes} bytes where {width}x{height} pixels need {needed}")]
pub struct Short {
    bytes: usize,
    needed: usize,
    width: usize,
    height: usize,
}

impl Layout {
    /// Bytes of a picture with rows of `stride` bytes in the first plane.
    pub fn bytes(self, stride: usize, height: usize) -> usize {
        match self {
            Self::Yuyv | Self::Uyvy | Self::Grey => stride * height,
            Self::Nv12 => stride * height + stride * height.div_ceil(2),
            Self::Yu12 | Self::Yv12 => stride * height + 2 * (stride / 2) * height.div_ceil(2),
        }
    }

    /// Bytes of one row of the first plane, at least.
    pub fn row(self, width: usize) -> usize {
        match self {
            Self::Yuyv | Self::Uyvy => width.div_ceil(2) * 4,
            Self::Nv12 | Self::Yu12 | Self::Yv12 => width.next_multiple_of(2),
            Self::Grey => width,
        }
    }
}

/// Looks at `raw` as I420, by way of `scratch` where it is something else; `scratch` gets the size it needs.
pub fn to_i420<'a>(raw: Raw<'a>, scratch: &'a mut Option<Frame>) -> Result<View<'a>, Short> {
    let Raw { layout, width, height, stride, data } = raw;
    let needed = layout.bytes(stride, height);
    let short = Short { bytes: data.len(), needed, width, height };
    let (even_width, even_height) = (width & !1, height & !1);
    if data.len() < needed || stride < layout.row(width) || even_width == 0 || even_height == 0 {
        return Err(short);
    }
    if matches!(layout, Layout::Yu12 | Layout::Yv12) {
        let (y, chroma) = data.split_at(stride * height);
        let (first, second) = chroma.split_at((stride / 2) * height.div_ceil(2));
        let (u, v) = if layout == Layout::Yu12 { (first, second) } else { (second, first) };
        return Ok(View { width: even_width, height: even_height, y, u, v, strides: (stride, stride / 2) });
    }
    if scratch.as_ref().is_none_or(|frame| (frame.width(), frame.height()) != (even_width, even_height)) {
        *scratch = Frame::black(even_width as u32, even_height as u32);
    }
    let frame = scratch.as_mut().ok_or(short)?;
    let planes = frame.planes_mut();
    match layout {
        Layout::Yuyv => packed(data, stride, (even_width, even_height), planes, [0, 1, 2, 3]),
        Layout::Uyvy => packed(data, stride, (even_width, even_height), planes, [1, 0, 3, 2]),
        _ => {
            for (row, out) in data.chunks_exact(stride).zip(planes.y.chunks_exact_mut(even_width)) {
                out.copy_from_slice(&row[..even_width]);
            }
            if layout == Layout::Nv12 {
                let half = even_width / 2;
                let rows = data[stride * height..].chunks(stride);
                let out = planes.u.chunks_exact_mut(half).zip(planes.v.chunks_exact_mut(half));
                for (row, (u, v)) in rows.zip(out) {
                    for ((pair, u), v) in row.chunks_exact(2).zip(u).zip(v) {
                        (*u, *v) = (pair[0], pair[1]);
                    }
                }
            }
        }
    }
    Ok(frame.view())
}

/// 4:2:2 in groups of four bytes to 4:2:0: chroma is the mean of two rows. `order` is where Y0, Cb, Y1 and Cr are.
fn packed(data: &[u8], stride: usize, (width, height): (usize, usize), planes: Planes<'_>, order: [usize; 4]) {
    let [y0, cb, y1, cr] = order;
    let half = width / 2;
    let rows = data[..stride * height].chunks_exact(2 * stride);
    let luma = planes.y.chunks_exact_mut(2 * width);
    let chroma = planes.u.chunks_exact_mut(half).zip(planes.v.chunks_exact_mut(half));
    for ((rows, luma), (u, v)) in rows.zip(luma).zip(chroma) {
        let (upper, lower) = rows.split_at(stride);
        let (luma_upper, luma_lower) = luma.split_at_mut(width);
        let groups = upper.as_chunks::<4>().0.iter().zip(lower.as_chunks::<4>().0);
        let luma = luma_upper.as_chunks_mut::<2>().0.iter_mut().zip(luma_lower.as_chunks_mut::<2>().0);
        for ((((a, b), (above, below)), u), v) in groups.zip(luma).zip(u).zip(v) {
            *above = [a[y0], a[y1]];
            *below = [b[y0], b[y1]];
            (*u, *v) = (a[cb].midpoint(b[cb]), a[cr].midpoint(b[cr]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Layout; 6] = [Layout::Yuyv, Layout::Uyvy, Layout::Nv12, Layout::Yu12, Layout::Yv12, Layout::Grey];

    fn luma(x: usize, y: usize) -> u8 {
        (16 + x * 3 + y * 5) as u8
    }

    /// A picture whose luma tells where it is, with Cb 90 and Cr 200, and rows padded by `padding` bytes of 255.
    fn picture(layout: Layout, width: usize, height: usize, padding: usize) -> (Vec<u8>, usize) {
        let stride = layout.row(width) + padding;
        let mut data = vec![255; layout.bytes(stride, height)];
        for y in 0..height {
            for x in 0..width {
                let group = y * stride + x / 2 * 4;
                match layout {
                    Layout::Yuyv => {
                        data[group + x % 2 * 2] = luma(x, y);
                        (data[group + 1], data[group + 3]) = (90, 200);
                    }
                    Layout::Uyvy => {
                        data[group + 1 + x % 2 * 2] = luma(x, y);
                        (data[group], data[group + 2]) = (90, 200);
                    }
                    _ => data[y * stride + x] = luma(x, y),
                }
            }
        }
        let chroma = &mut data[stride * height..];
        match layout {
            Layout::Nv12 => chroma.chunks_mut(2).for_each(|pair| pair.copy_from_slice(&[90, 200])),
            Layout::Yu12 | Layout::Yv12 => {
                let half = chroma.len() / 2;
                let first = if layout == Layout::Yu12 { 90 } else { 200 };
                chroma[..half].fill(first);
                chroma[half..].fill(290_u16.wrapping_sub(first.into()) as u8);
            }
            _ => {}
        }
        (data, stride)
    }

    #[test]
    fn every_layout_gives_the_same_picture() {
        for layout in ALL {
            for (width, height) in [(2, 2), (16, 8), (322, 242), (17, 9)] {
                for padding in [0, 2, 62] {
                    let (data, stride) = picture(layout, width, height, padding);
                    let mut scratch = None;
                    let view = to_i420(Raw { layout, width, height, stride, data: &data }, &mut scratch);
                    let view = view.unwrap_or_else(|short| panic!("{layout:?} {width}x{height}+{padding}: {short}"));
                    let chroma = if layout == Layout::Grey { (128, 128) } else { (90, 200) };
                    assert_eq!((view.width, view.height), (width & !1, height & !1), "{layout:?}");
                    for y in 0..view.height {
                        for x in 0..view.width {
                            assert_eq!(
                                view.y[y * view.strides.0 + x],
                                luma(x, y),
                                "{layout:?} {width}x{height} {x},{y}"
                            );
                            let at = y / 2 * view.strides.1 + x / 2;
                            assert_eq!((view.u[at], view.v[at]), chroma, "{layout:?} {width}x{height} {x},{y}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_i420_is_not_copied() {
        let (data, stride) = picture(Layout::Yu12, 320, 240, 0);
        let mut scratch = None;
        let raw = Raw { layout: Layout::Yu12, width: 320, height: 240, stride, data: &data };
        let view = to_i420(raw, &mut scratch).expect("long enough");
        assert_eq!(view.y.as_ptr(), data.as_ptr());
        assert!(scratch.is_none());
    }

    #[test]
    fn what_is_too_short_is_refused() {
        for layout in ALL {
            let (data, stride) = picture(layout, 32, 16, 0);
            let raw = |data, stride| Raw { layout, width: 32, height: 16, stride, data };
            let mut scratch = None;
            assert!(to_i420(raw(&data[1..], stride), &mut scratch).is_err(), "{layout:?}");
            assert!(to_i420(raw(&[], stride), &mut scratch).is_err(), "{layout:?}");
            assert!(to_i420(raw(&data, stride - 2), &mut scratch).is_err(), "{layout:?}");
            assert!(to_i420(Raw { width: 1, height: 1, ..raw(&data, stride) }, &mut scratch).is_err(), "{layout:?}");
        }
    }
}

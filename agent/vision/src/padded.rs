//! A channel of a picture as one long row with bars in it, for convolutions that are done along it.
//!
//! A channel is copied into a padded plane, and the plane is looked at as one row: every tap of a kernel is then the same row
//! shifted by some places, so the loop over it is vectorised whatever the picture's width. What is computed between the rows
//! is read by nobody; with a stride of 1 the bar at the right of a row is the one at the left of the next, and it is a fiftieth
//! of 40 columns. With a stride of 2 the plane is taken apart into four (even and odd columns of even and odd rows), and it is
//! the same again.

/// Where everything lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Padded {
    /// Rows and columns.
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    stride: usize,
    /// Rows above, columns to the left.
    before: [usize; 2],
    /// Planes of a channel, in rows and columns of them.
    phases: [usize; 2],
    /// Rows of a plane, and places from row to row.
    rows: usize,
    pub(crate) pitch: usize,
    /// Places of a plane.
    plane: usize,
    /// Where each tap of the kernel begins in the planes of a channel.
    pub(crate) offsets: Vec<usize>,
}

impl Padded {
    /// `None`: bars wider than the kernel, or nothing to compute. `room`: places that may be read after the last of each row.
    pub(crate) fn new(
        [input, output, kernel]: [[usize; 2]; 3],
        stride: usize,
        [before, after]: [[usize; 2]; 2],
        room: usize,
    ) -> Option<Self> {
        if stride == 0
            || [input, output, kernel].as_flattened().contains(&0)
            || (0..2).any(|axis| before[axis].min(after[axis]) >= kernel[axis])
        {
            return None;
        }
        let size = |axis: usize| (stride * (output[axis] - 1) + kernel[axis]).div_ceil(stride);
        let (rows, mut pitch) = (size(0), size(1));
        if stride == 1 {
            pitch = output[1].max(input[1] + before[1].max(after[1]));
        }
        let phases = kernel.map(|size| size.min(stride));
        let taps = (0..kernel[0] * kernel[1]).map(|tap| {
            let (y, x) = (tap / kernel[1], tap % kernel[1]);
            (y % stride * phases[1] + x % stride, y / stride * pitch + x / stride)
        });
        let length = (output[0] - 1) * pitch + output[1] + room;
        let plane = (rows * pitch).max(length + taps.clone().map(|(_, at)| at).max()?);
        let offsets = taps.map(|(phase, at)| phase * plane + at).collect();
        Some(Self { input, output, stride, before, phases, rows, pitch, plane, offsets })
    }

    /// Places to compute: the first is the first of the output, row follows row every [`Self::pitch`].
    pub(crate) fn length(&self) -> usize {
        (self.output[0] - 1) * self.pitch + self.output[1]
    }

    /// Places of all planes of a channel.
    pub(crate) fn size(&self) -> usize {
        self.plane * self.phases[0] * self.phases[1]
    }

    /// Whether a channel is its own plane but for the room: nothing is to be moved.
    pub(crate) fn is_plain(&self) -> bool {
        self.offsets == [0]
            && self.stride == 1
            && self.pitch == self.input[1]
            && self.rows == self.input[0]
            && self.before == [0, 0]
    }

    /// Copies a channel; every place of `planes` is written, and the bars are `bar`.
    #[inline(always)]
    pub(crate) fn fill(&self, channel: &[f32], bar: f32, planes: &mut [f32]) {
        let [rows, columns] = self.input;
        let step = self.stride;
        for (phase, plane) in planes.chunks_exact_mut(self.plane).enumerate() {
            let (phase_y, phase_x) = (phase / self.phases[1], phase % self.phases[1]);
            // Columns left of the picture, and the first of this phase that is in it.
            let left = self.before[1].saturating_sub(phase_x).div_ceil(step).min(self.pitch);
            let first = (left * step + phase_x).saturating_sub(self.before[1]);
            let count = columns.saturating_sub(first).div_ceil(step).min(self.pitch - left);
            for y in 0..self.rows {
                let begin = y * self.pitch;
                let from = (y * step + phase_y).checked_sub(self.before[0]).filter(|row| *row < rows && count > 0);
                let Some(row) = from else {
                    plane[begin..begin + self.pitch].fill(bar);
                    continue;
                };
                let from = &channel[row * columns + first..(row + 1) * columns];
                let (picture, end) = (begin + left, begin + left + count);
                fill_short(plane, begin..picture, bar);
                fill_short(plane, end..begin + self.pitch, bar);
                let to = &mut plane[picture..end];
                match step {
                    1 => copy_short(to, &from[..count]),
                    2 => {
                        let (pairs, last) = from.as_chunks::<2>();
                        to.iter_mut().zip(pairs).for_each(|(to, pair)| *to = pair[0]);
                        if let ([last], true) = (last, count > pairs.len()) {
                            to[count - 1] = *last;
                        }
                    }
                    _ => to.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, from)| *to = *from),
                }
            }
            plane[self.rows * self.pitch..].fill(bar);
        }
    }
}

/// Fills a bar, and may fill some places behind it, which are written later: a call for two values takes longer than eight of
/// them.
#[inline(always)]
fn fill_short(plane: &mut [f32], places: std::ops::Range<usize>, bar: f32) {
    match plane[places.start..].first_chunk_mut::<8>() {
        Some(eight) if places.len() <= 8 => *eight = [bar; 8],
        _ => plane[places].fill(bar),
    }
}

/// A copy without a call, which takes longer than a row of a small picture.
#[inline(always)]
pub(crate) fn copy_short(to: &mut [f32], from: &[f32]) {
    #[inline(always)]
    fn ends<const N: usize>(to: &mut [f32], from: &[f32]) -> bool {
        let (Some(begin), Some(end)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else { return false };
        if let Some(to) = to.first_chunk_mut::<N>() {
            *to = *begin;
        }
        if let Some(to) = to.last_chunk_mut::<N>() {
            *to = *end;
        }
        true
    }
    if from.len() > 64 {
        to.copy_from_slice(from);
    } else if !(ends::<32>(to, from) || ends::<16>(to, from) || ends::<8>(to, from) || ends::<4>(to, from)) {
        to.iter_mut().zip(from).take(3).for_each(|(to, from)| *to = *from);
    }
}

//! The inner loops of convolutions, for processors with AVX2 and FMA or with AVX-512.
//!
//! A tile is some channels of the output by some vectors of places along the padded row (see `padded`); its sums stay in
//! registers while all taps of all channels of the input pass by. Nothing is packed but the weights, once, at load.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd};

use crate::padded::Padded;

/// Vectors of a tile: with 8 channels 24 of AVX-512's 32 registers are sums, with 4 channels 12 of AVX2's 16.
const VECTORS: usize = 3;
/// Places that a tile has at most, and so those that it may read and compute beyond the last.
pub(crate) const MOST_PLACES: usize = 16 * VECTORS;
/// Values of the input that are looked at for all channels of the output before the next are: half of a small L2 cache.
const CHUNK: usize = 1 << 15;

/// What is done with a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Activation {
    None,
    Relu,
    Silu,
    HardSwish,
}

/// A convolution's numbers.
pub(crate) struct Task<'a> {
    pub(crate) padded: &'a Padded,
    /// For each block of [`block`] channels of the output, for each channel of the input and each tap: a weight for each
    /// channel of the block.
    pub(crate) weights: &'a [f32],
    /// For each channel of the output, to whole blocks.
    pub(crate) bias: &'a [f32],
    pub(crate) activation: Activation,
    /// Planes of all channels of the input; [`MOST_PLACES`] more places can be read.
    pub(crate) input: &'a [f32],
    /// Places from one channel of the input to the next.
    pub(crate) size: usize,
}

/// Channels of the output in a block on this processor; `None`: the library's kernels are as good here.
pub(crate) fn block(level: Level) -> Option<usize> {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => Some(8),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(_) => Some(4),
        _ => None,
    }
}

/// Fills `out`, whole channels.
pub(crate) fn convolve(level: Level, task: &Task<'_>, out: &mut [f32]) {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(simd) => simd.vectorize(
            #[inline(always)]
            || blocks::<_, 8>(simd, task, out),
        ),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(simd) => simd.vectorize(
            #[inline(always)]
            || blocks::<_, 4>(simd, task, out),
        ),
        _ => {}
    }
}

#[inline(always)]
fn blocks<S: Simd, const M: usize>(simd: S, task: &Task<'_>, out: &mut [f32]) {
    let padded = task.padded;
    let plane = padded.output[0] * padded.output[1];
    let channels = task.input.len() / task.size;
    let length = padded.length();
    let step = VECTORS * S::f32s::LEN;
    let chunk = (CHUNK / channels.max(1)).next_multiple_of(step);
    let (bias, _) = task.bias.as_chunks::<M>();
    let (weights, _) = task.weights.as_chunks::<M>();
    for begin in (0..length).step_by(chunk) {
        let end = length.min(begin + chunk);
        let blocks = weights.chunks_exact(channels * padded.offsets.len()).zip(bias);
        for ((weights, bias), out) in blocks.zip(out.chunks_mut(M * plane)) {
            for at in (begin..end).step_by(step) {
                let vectors = (end - at).div_ceil(S::f32s::LEN);
                match vectors {
                    1 => tile::<S, M, 1>(simd, task, weights, bias, at, out),
                    2 => tile::<S, M, 2>(simd, task, weights, bias, at, out),
                    _ => tile::<S, M, VECTORS>(simd, task, weights, bias, at, out),
                }
            }
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const M: usize, const N: usize>(
    simd: S,
    task: &Task<'_>,
    weights: &[[f32; M]],
    bias: &[f32; M],
    at: usize,
    out: &mut [f32],
) {
    let lanes = S::f32s::LEN;
    let offsets = &task.padded.offsets;
    let mut sums = [[S::f32s::splat(simd, 0.0); N]; M];
    for (channel, weights) in weights.chunks_exact(offsets.len()).enumerate() {
        let input = &task.input[channel * task.size + at..];
        for (offset, weights) in offsets.iter().zip(weights) {
            let line = &input[*offset..*offset + N * lanes];
            let mut values = [S::f32s::splat(simd, 0.0); N];
            for n in 0..N {
                values[n] = S::f32s::from_slice(simd, &line[n * lanes..(n + 1) * lanes]);
            }
            for m in 0..M {
                let weight = S::f32s::splat(simd, weights[m]);
                for n in 0..N {
                    sums[m][n] = values[n].mul_add(weight, sums[m][n]);
                }
            }
        }
    }
    let padded = task.padded;
    let [rows, columns] = padded.output;
    // Where the tile begins in the output.
    let (row, column) = (at / padded.pitch, at % padded.pitch);
    let mut line = [0.0; 2 * MOST_PLACES];
    for ((sums, bias), out) in sums.into_iter().zip(bias).zip(out.chunks_exact_mut(rows * columns)) {
        if let (true, Some(out)) = (padded.pitch == columns, out.get_mut(at..at + N * lanes)) {
            for n in 0..N {
                finish(simd, task, *bias, sums[n]).store_slice(&mut out[n * lanes..(n + 1) * lanes]);
            }
            continue;
        }
        for n in 0..N {
            sums[n].store_slice(&mut line[n * lanes..(n + 1) * lanes]);
        }
        let (mut row, mut column, mut from) = (row, column, 0);
        while from < N * lanes && row < rows {
            let count = columns.saturating_sub(column).min(N * lanes - from);
            let to = row * columns + column.min(columns);
            // Whole vectors: what is too much is written over by the row that follows. After the last there may be no room.
            for n in (0..count).step_by(lanes) {
                let sums = finish(simd, task, *bias, S::f32s::from_slice(simd, &line[from + n..from + n + lanes]));
                match out.get_mut(to + n..to + n + lanes) {
                    Some(out) => sums.store_slice(out),
                    None => {
                        let out = &mut out[to + n..to + count];
                        out.copy_from_slice(&sums.as_slice()[..out.len()]);
                    }
                }
            }
            from += padded.pitch - column;
            (row, column) = (row + 1, 0);
        }
    }
}

#[inline(always)]
fn finish<S: Simd>(simd: S, task: &Task<'_>, bias: f32, sum: S::f32s) -> S::f32s {
    activate(simd, task.activation, sum + S::f32s::splat(simd, bias))
}

#[inline(always)]
pub(crate) fn activate<S: Simd>(simd: S, activation: Activation, value: S::f32s) -> S::f32s {
    let splat = |value: f32| S::f32s::splat(simd, value);
    match activation {
        Activation::None => value,
        Activation::Relu => value.max(splat(0.0)),
        Activation::HardSwish => value * value.mul_add(splat(1.0 / 6.0), splat(0.5)).max(splat(0.0)).min(splat(1.0)),
        Activation::Silu => value * sigmoid(simd, value),
    }
}

/// The library's own approximation, good to 1e-7 (tract-linalg, `generic/sigmoid.rs`).
#[inline(always)]
fn sigmoid<S: Simd>(simd: S, value: S::f32s) -> S::f32s {
    const OVER: [f32; 7] =
        [-4.433_153_4e-18, 1.169_974_4e-14, -1.875_289_6e-11, 4.257_889_6e-8, 4.811_817_6e-5, 8.163_842e-3, 0.25];
    const UNDER: [f32; 4] = [3.922_936e-6, 1.524_872_4e-3, 0.115_988_67, 1.0];
    let splat = |value: f32| S::f32s::splat(simd, value);
    let x = value.max(splat(-14.5)).min(splat(14.5));
    let square = x * x;
    let mut over = splat(OVER[0]);
    for factor in &OVER[1..] {
        over = over.mul_add(square, splat(*factor));
    }
    let mut under = splat(UNDER[0]);
    for factor in &UNDER[1..] {
        under = under.mul_add(square, splat(*factor));
    }
    over * x / under + splat(0.5)
}

//! What is done with each channel by itself: depthwise convolution, and pooling to the largest.
//!
//! The library's depthwise convolution walks the picture point by point, and was 61 % of MobileNetV3-small's time; its pooling
//! of 5 x 5 was 3 % of YOLOv8n's. Here every tap of the kernel is a long row shifted (see `padded`), and the loop over it is
//! vectorised whatever the width.
//!
//! Taken where `convolution` says, on any processor.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};
use tract_onnx::tract_core::internal::*;

use crate::convolution::{Place, Spec};
use crate::kernel::{Activation, activate};
use crate::memory;
use crate::padded::{Padded, copy_short};

/// Vectors at a time: so many sums do not wait for each other.
const VECTORS: usize = 4;
/// Values of all at once, of the largest vectors.
const MOST_PLACES: usize = 16 * VECTORS;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Channelwise {
    padded: Padded,
    output_shape: TVec<usize>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// `weights`: as many for each channel as there are taps. `bias`: one for each channel.
    Convolution {
        weights: Arc<Tensor>,
        bias: Arc<Tensor>,
        activation: Activation,
    },
    Largest,
}

impl Channelwise {
    pub(crate) fn convolution(spec: &Spec) -> Option<Self> {
        let is_depthwise = spec.place.channels == [spec.group; 2] && spec.group > 1;
        let (weights, bias) = (spec.weights.clone(), spec.bias.clone());
        let kind = Kind::Convolution { weights, bias, activation: Activation::None };
        is_depthwise.then(|| Self::new(&spec.place, kind)).flatten()
    }

    pub(crate) fn pooling(place: &Place) -> Option<Self> {
        Self::new(place, Kind::Largest)
    }

    fn new(place: &Place, kind: Kind) -> Option<Self> {
        Some(Self { padded: place.padded(MOST_PLACES)?, output_shape: place.output_shape.clone(), kind })
    }

    /// With an activation inside; `None`: it has one, or is no convolution.
    pub(crate) fn activated(&self, activation: Activation) -> Option<Self> {
        match &self.kind {
            Kind::Convolution { weights, bias, activation: Activation::None } => {
                let (weights, bias) = (weights.clone(), bias.clone());
                Some(Self { kind: Kind::Convolution { weights, bias, activation }, ..self.clone() })
            }
            _ => None,
        }
    }

    pub(crate) fn compute(&self, level: Level, input: &[f32], out: &mut [f32]) -> TractResult<()> {
        let size = self.padded.size();
        memory::with_planes(size + self.padded.length() + MOST_PLACES, |planes| {
            let (planes, sums) = planes.split_at_mut(size);
            match &self.kind {
                Kind::Largest => {
                    dispatch!(level, simd => self.largest(simd, input, [&mut *planes, &mut *sums, &mut *out]));
                }
                Kind::Convolution { weights, bias, activation } => {
                    let (weights, bias) = (weights.try_as_plain_ram()?, bias.try_as_plain_ram()?);
                    let numbers = [input, weights.as_slice::<f32>()?, bias.as_slice::<f32>()?];
                    dispatch!(level, simd => self.sum(simd, *activation, numbers, [&mut *planes, &mut *sums, &mut *out]));
                }
            }
            Ok(())
        })
    }

    #[inline(always)]
    fn sum<S: Simd>(
        &self,
        simd: S,
        activation: Activation,
        [input, weights, bias]: [&[f32]; 3],
        [planes, sums, out]: [&mut [f32]; 3],
    ) {
        let Padded { input: [rows, columns], output: [out_rows, out_columns], offsets, .. } = &self.padded;
        let lanes = S::f32s::LEN;
        let (inputs, outputs) = (input.chunks_exact(rows * columns), out.chunks_exact_mut(out_rows * out_columns));
        for (((input, out), weights), bias) in inputs.zip(outputs).zip(weights.chunks_exact(offsets.len())).zip(bias) {
            self.padded.fill(input, 0.0, planes);
            for at in (0..self.padded.length()).step_by(VECTORS * lanes) {
                let mut tile = [S::f32s::splat(simd, *bias); VECTORS];
                for (weight, offset) in weights.iter().zip(offsets) {
                    let line = &planes[at + offset..at + offset + VECTORS * lanes];
                    let weight = S::f32s::splat(simd, *weight);
                    for n in 0..VECTORS {
                        let values = S::f32s::from_slice(simd, &line[n * lanes..(n + 1) * lanes]);
                        tile[n] = values.mul_add(weight, tile[n]);
                    }
                }
                let sums = &mut sums[at..at + VECTORS * lanes];
                for n in 0..VECTORS {
                    activate(simd, activation, tile[n]).store_slice(&mut sums[n * lanes..(n + 1) * lanes]);
                }
            }
            self.take(sums, out);
        }
    }

    #[inline(always)]
    fn largest<S: Simd>(&self, simd: S, input: &[f32], [planes, sums, out]: [&mut [f32]; 3]) {
        let Padded { input: [rows, columns], output: [out_rows, out_columns], offsets, .. } = &self.padded;
        let lanes = S::f32s::LEN;
        for (input, out) in input.chunks_exact(rows * columns).zip(out.chunks_exact_mut(out_rows * out_columns)) {
            self.padded.fill(input, f32::NEG_INFINITY, planes);
            for at in (0..self.padded.length()).step_by(lanes) {
                let mut largest = S::f32s::splat(simd, f32::NEG_INFINITY);
                for offset in offsets {
                    let values = S::f32s::from_slice(simd, &planes[at + offset..at + offset + lanes]);
                    largest = values.max(largest);
                }
                largest.store_slice(&mut sums[at..at + lanes]);
            }
            self.take(sums, out);
        }
    }

    /// What of a long row is the output.
    #[inline(always)]
    fn take(&self, sums: &[f32], out: &mut [f32]) {
        let columns = self.padded.output[1];
        for (out, sums) in out.chunks_exact_mut(columns).zip(sums.chunks(self.padded.pitch)) {
            copy_short(out, &sums[..columns]);
        }
    }
}

impl Op for Channelwise {
    fn name(&self) -> StaticName {
        "ChannelwiseOfOurs".into()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for Channelwise {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let view = input.try_as_plain_ram()?;
        let values = view.as_slice::<f32>()?;
        Ok(tvec!(memory::result(&self.output_shape, |out| self.compute(Level::new(), values, out))?))
    }
}

impl TypedOp for Channelwise {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.output_shape)))
    }

    as_op!();
}

//! Convolutions of our own, put in the places of the library's where they are faster.
//!
//! The library lays out what each place of the output needs (im2col) and packs it for a product of matrices: half of the time
//! of YOLOv8n on x86-64. Here the kernel walks along the picture itself (`padded`, `kernel`), and bias and activation are done
//! while the sums are in registers. Depthwise ones and pooling are in `channelwise`.
//!
//! Taken for one picture in float32, planes of colours (NCHW), strides to 4, no dilation and no groups, on processors
//! that `kernel` has loops for; else the library's, which has assembler for ARM.

use fearless_simd::Level;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::Pad;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PoolSpec};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Add, Div, Max, Mul, Sub};
use tract_onnx::tract_core::ops::nn::{DataFormat, HardSwish, Silu};

use crate::channelwise::Channelwise;
use crate::kernel::{self, Activation, MOST_PLACES, Task};
use crate::memory;
use crate::padded::Padded;

const MOST_KERNEL: usize = 7;
const MOST_STRIDE: usize = 4;
/// Fewer places of the output than this are less than a vector: a vector of channels, as the library does, is better.
const LEAST_PLACES: usize = 16;

/// Puts them in the places of those that they can do; before the library has made products of matrices of 1 x 1 kernels, and
/// again when it has drawn into the kernels what can be.
pub(crate) fn replace(model: &mut TypedModel, when: When) -> TractResult<()> {
    let level = Level::new();
    for id in model.eval_order()? {
        let node = model.node(id);
        let ours: Option<Box<dyn TypedOp>> = if let Some(conv) = node.op_as::<Conv>() {
            let Some(spec) = Spec::of(model, node, conv) else { continue };
            if when == When::Read && !(spec.is_pointwise() && stands_alone(model, node)) {
                continue;
            }
            match Channelwise::convolution(&spec) {
                Some(ours) => Some(Box::new(ours)),
                None => Convolution::of(&spec, level).map(|ours| Box::new(ours) as _),
            }
        } else if let (Some(pool), When::Simplified) = (node.op_as::<MaxPool>(), when) {
            let place = if pool.with_index_outputs.is_none() { Place::of(model, node, &pool.pool_spec) } else { None };
            place.and_then(|place| Some(Box::new(Channelwise::pooling(&place)?) as _))
        } else {
            None
        };
        if let Some(ours) = ours {
            TypedModelPatch::replace_single_op(model, node, &node.inputs[..1], ours)?.apply(model)?;
        }
    }
    for id in model.eval_order()? {
        if let Some(patch) = activated(model, model.node(id))? {
            patch.apply(model)?;
        }
    }
    model.compact()
}

/// When a graph is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// As the file has it.
    Read,
    /// As the library has simplified it.
    Simplified,
}

/// Nothing before or after it could be drawn into its kernel.
fn stands_alone(model: &TypedModel, node: &TypedNode) -> bool {
    let is_padded = node.inputs.first().is_some_and(|input| model.node(input.node).op_is::<Pad>());
    let next: Vec<_> = node.outputs.iter().flat_map(|output| &output.successors).collect();
    let [next] = next.as_slice() else { return !is_padded };
    let next = model.node(next.node);
    let is_constant = |input: &OutletId| model.outlet_fact(*input).is_ok_and(|fact| fact.konst.is_some());
    let is_arithmetic = next
        .op_as::<TypedBinOp>()
        .is_some_and(|op| op.0.is::<Add>() || op.0.is::<Sub>() || op.0.is::<Mul>() || op.0.is::<Div>());
    !(is_padded || is_arithmetic && next.inputs.iter().any(is_constant))
}

/// One of ours with the activation that follows it done inside.
fn activated(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    let [output] = &*node.outputs else { return Ok(None) };
    let ([next], false) = (&*output.successors, model.outputs.contains(&OutletId::new(node.id, 0))) else {
        return Ok(None);
    };
    let next = model.node(next.node);
    let activation = if let Some(op) = next.op_as::<ElementWiseOp>() {
        match &op.0 {
            op if op.is::<Silu>() => Activation::Silu,
            op if op.is::<HardSwish>() => Activation::HardSwish,
            _ => return Ok(None),
        }
    } else if next.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<Max>()) {
        // `Tensor::is_zero` is so of a scalar alone, and the library's is of as many axes as the picture.
        let is_zero = |input: &OutletId| {
            let konst = model.outlet_fact(*input).ok()?.konst.as_ref()?.try_as_plain_ram().ok()?;
            Some(konst.as_slice::<f32>().ok()?.iter().all(|value| *value == 0.0))
        };
        if !next.inputs.iter().any(|input| is_zero(input) == Some(true)) || next.outputs[0].fact != output.fact {
            return Ok(None);
        }
        Activation::Relu
    } else {
        return Ok(None);
    };
    let with = |ours: Box<dyn TypedOp>| -> TractResult<TypedModelPatch> {
        let mut patch = TypedModelPatch::default();
        let inputs = patch.taps(model, &node.inputs)?;
        let wire = patch.wire_node(&next.name, ours, &inputs)?;
        patch.shunt_outside(model, next.id.into(), wire[0])?;
        Ok(patch)
    };
    if let Some(ours) = node.op_as::<Convolution>().filter(|ours| ours.activation == Activation::None) {
        with(Box::new(Convolution { activation, ..ours.clone() })).map(Some)
    } else if let Some(ours) = node.op_as::<Channelwise>().and_then(|ours| ours.activated(activation)) {
        with(Box::new(ours)).map(Some)
    } else {
        Ok(None)
    }
}

/// Where a kernel walks.
pub(crate) struct Place {
    /// Channels in and out.
    pub(crate) channels: [usize; 2],
    /// Rows and columns.
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: usize,
    /// Rows above and columns to the left; below and to the right.
    pub(crate) pads: [[usize; 2]; 2],
    pub(crate) output_shape: TVec<usize>,
}

impl Place {
    /// `None`: not what is done here.
    fn of(model: &TypedModel, node: &TypedNode, spec: &PoolSpec) -> Option<Self> {
        let fact = model.outlet_fact(*node.inputs.first()?).ok()?;
        let input = match (spec.data_format, fact.shape.as_concrete()?) {
            (DataFormat::NCHW, [1, _, height, width]) | (DataFormat::CHW, [_, height, width]) => [*height, *width],
            _ => return None,
        };
        let pair = |values: &[usize]| <[usize; 2]>::try_from(values).ok();
        let (kernel, strides) = (pair(&spec.kernel_shape)?, pair(&spec.strides())?);
        let fits = kernel.iter().all(|size| (1..=MOST_KERNEL).contains(size))
            && strides[0] == strides[1]
            && (1..=MOST_STRIDE).contains(&strides[0])
            && spec.dilations().iter().all(|dilation| *dilation == 1);
        let is_empty = spec.input_channels == 0 || spec.output_channels == 0;
        if is_empty || !fits || fact.datum_type != f32::datum_type() {
            return None;
        }
        let padding = spec.computed_padding(&input);
        Some(Self {
            channels: [spec.input_channels, spec.output_channels],
            input,
            output: [padding[0].convoluted, padding[1].convoluted],
            kernel,
            stride: strides[0],
            pads: [[padding[0].pad_before, padding[1].pad_before], [padding[0].pad_after, padding[1].pad_after]],
            output_shape: node.outputs.first()?.fact.shape.as_concrete()?.into(),
        })
    }

    pub(crate) fn padded(&self, room: usize) -> Option<Padded> {
        if self.taps() == 1 && self.stride == 1 && self.input == self.output {
            // Rows do not matter: it is one.
            let line = [1, self.input[0] * self.input[1]];
            return Padded::new([line, line, self.kernel], 1, [[0; 2]; 2], room);
        }
        Padded::new([self.input, self.output, self.kernel], self.stride, self.pads, room)
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}

/// A convolution of the library's that may be one of ours.
pub(crate) struct Spec {
    pub(crate) place: Place,
    pub(crate) group: usize,
    /// For each channel of the output, for each channel of its group, one for each tap.
    pub(crate) weights: Arc<Tensor>,
    /// One for each channel of the output.
    pub(crate) bias: Arc<Tensor>,
}

impl Spec {
    fn of(model: &TypedModel, node: &TypedNode, conv: &Conv) -> Option<Self> {
        if conv.q_params.is_some() || conv.kernel_fmt != KernelFormat::OIHW || conv.pool_spec.rank() != 2 {
            return None;
        }
        let place = Place::of(model, node, &conv.pool_spec)?;
        let konst = |input: usize| model.outlet_fact(*node.inputs.get(input)?).ok()?.konst.clone();
        let (weights, bias) = (konst(1)?, konst(2)?);
        let is_float = |tensor: &Arc<Tensor>| tensor.datum_type() == f32::datum_type();
        let [inside, outside] = place.channels;
        let count = inside.checked_div(conv.group)? * outside * place.taps();
        if !is_float(&weights) || !is_float(&bias) || weights.len() != count {
            return None;
        }
        let bias = match bias.len() {
            1 => bias.cast_to_scalar::<f32>().ok().map(|value| tensor1(&vec![value; outside]).into_arc_tensor())?,
            len if len == outside => bias,
            _ => return None,
        };
        Some(Self { place, group: conv.group, weights, bias })
    }

    fn is_pointwise(&self) -> bool {
        self.group == 1 && self.place.kernel == [1, 1]
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Convolution {
    /// Channels of the input.
    inside: usize,
    padded: Padded,
    output_shape: TVec<usize>,
    /// As [`Task::weights`] has them.
    weights: Arc<Tensor>,
    bias: Arc<Tensor>,
    activation: Activation,
}

impl Convolution {
    fn of(spec: &Spec, level: Level) -> Option<Self> {
        let block = kernel::block(level)?;
        let place = &spec.place;
        if spec.group != 1 || place.output[0] * place.output[1] < LEAST_PLACES {
            return None;
        }
        let values = |tensor: &Tensor| tensor.try_as_plain_ram().ok()?.as_slice::<f32>().map(<[f32]>::to_vec).ok();
        let [inside, outside] = place.channels;
        let weights = pack(&values(&spec.weights)?, inside * place.taps(), block);
        let mut bias = values(&spec.bias)?;
        bias.resize(outside.next_multiple_of(block), 0.0);
        Some(Self {
            inside,
            padded: place.padded(MOST_PLACES)?,
            output_shape: place.output_shape.clone(),
            weights: tensor1(&weights).into_arc_tensor(),
            bias: tensor1(&bias).into_arc_tensor(),
            activation: Activation::None,
        })
    }

    fn compute(&self, level: Level, input: &[f32], out: &mut [f32]) -> TractResult<()> {
        let (weights, bias) = (self.weights.try_as_plain_ram()?, self.bias.try_as_plain_ram()?);
        let (weights, bias) = (weights.as_slice::<f32>()?, bias.as_slice::<f32>()?);
        let padded = &self.padded;
        let plane = padded.input[0] * padded.input[1];
        let (activation, length) = (self.activation, padded.length());
        if padded.is_plain() && length.is_multiple_of(LEAST_PLACES) {
            let task = Task { padded, weights, bias, activation, input, size: plane };
            kernel::convolve(level, &task, out);
            return Ok(());
        }
        let size = padded.size();
        memory::with_planes(size * self.inside, |planes| {
            for (channel, planes) in input.chunks_exact(plane).zip(planes.chunks_exact_mut(size)) {
                padded.fill(channel, 0.0, planes);
            }
            let task = Task { padded, weights, bias, activation, input: planes, size };
            kernel::convolve(level, &task, out);
        });
        Ok(())
    }
}

/// `taps` weights for each channel of the output, into blocks of channels that lie beside each other.
fn pack(weights: &[f32], taps: usize, block: usize) -> Vec<f32> {
    let mut packed = vec![0.0; (weights.len() / taps).next_multiple_of(block) * taps];
    for (channel, weights) in weights.chunks_exact(taps).enumerate() {
        let begin = channel / block * block * taps + channel % block;
        for (to, weight) in packed[begin..].iter_mut().step_by(block).zip(weights) {
            *to = *weight;
        }
    }
    packed
}

impl Op for Convolution {
    fn name(&self) -> StaticName {
        "ConvolutionOfOurs".into()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for Convolution {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let view = input.try_as_plain_ram()?;
        let values = view.as_slice::<f32>()?;
        Ok(tvec!(memory::result(&self.output_shape, |out| self.compute(Level::new(), values, out))?))
    }
}

impl TypedOp for Convolution {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.output_shape)))
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What this machine can do, and AVX2 where it can do more.
    fn levels() -> Vec<Level> {
        let mut levels = vec![Level::new()];
        #[cfg(target_arch = "x86_64")]
        levels.extend(Level::new().as_avx2().map(Level::Avx2));
        levels
    }

    fn spec(rng: &mut fastrand::Rng, is_depthwise: bool) -> Option<Spec> {
        let inside = rng.usize(1..9);
        let channels = [inside, if is_depthwise { inside } else { rng.usize(1..20) }];
        let (kernel, stride) = ([rng.usize(1..8), rng.usize(1..8)], rng.usize(1..5));
        let pads = [(); 2].map(|()| kernel.map(|size| rng.usize(..size)));
        let input = [rng.usize(1..40), rng.usize(1..40)];
        let size = |axis: usize| {
            let left = (input[axis] + pads[0][axis] + pads[1][axis]).checked_sub(kernel[axis])?;
            Some(left / stride + 1)
        };
        let output = [size(0)?, size(1)?];
        let group = if is_depthwise { inside } else { 1 };
        let mut numbers = |count: usize| {
            let numbers: Vec<f32> = (0..count).map(|_| rng.f32() - 0.5).collect();
            tensor1(&numbers).into_arc_tensor()
        };
        let weights = numbers(channels[0] / group * channels[1] * kernel[0] * kernel[1]);
        let (bias, output_shape) = (numbers(channels[1]), tvec!(1, channels[1], output[0], output[1]));
        let place = Place { channels, input, output, kernel, stride, pads, output_shape };
        Some(Spec { place, group, weights, bias })
    }

    /// As a book says it; a bias alone where there are no weights, and then the largest.
    fn expected(spec: &Spec, activation: Option<Activation>, values: &[f32]) -> Vec<f32> {
        let numbers =
            |tensor: &Tensor| tensor.try_as_plain_ram().expect("plain").as_slice::<f32>().expect("f32").to_vec();
        let (weights, bias) = (numbers(&spec.weights), numbers(&spec.bias));
        let Place { channels, input: [rows, columns], output: [out_rows, out_columns], kernel, stride, pads, .. } =
            spec.place;
        let inside = channels[0] / spec.group;
        let one = |at: usize| {
            let (channel, row, column) = (at / (out_rows * out_columns), at / out_columns % out_rows, at % out_columns);
            let (mut sum, mut largest) = (bias[channel], f32::NEG_INFINITY);
            for tap in 0..inside * kernel[0] * kernel[1] {
                let from = if spec.group == 1 { tap / (kernel[0] * kernel[1]) } else { channel };
                let y = (row * stride + tap / kernel[1] % kernel[0]).wrapping_sub(pads[0][0]);
                let x = (column * stride + tap % kernel[1]).wrapping_sub(pads[0][1]);
                if y < rows && x < columns {
                    let value = values[(from * rows + y) * columns + x];
                    sum += weights[channel * inside * kernel[0] * kernel[1] + tap] * value;
                    largest = largest.max(value);
                }
            }
            match activation {
                None => largest,
                Some(Activation::None) => sum,
                Some(Activation::Relu) => sum.max(0.0),
                Some(Activation::Silu) => sum / (1.0 + (-sum).exp()),
                Some(Activation::HardSwish) => sum * (sum / 6.0 + 0.5).clamp(0.0, 1.0),
            }
        };
        (0..channels[1] * out_rows * out_columns).map(one).collect()
    }

    #[test]
    fn they_are_convolutions_and_pooling() {
        let mut rng = fastrand::Rng::with_seed(4);
        let activations = [Activation::None, Activation::Relu, Activation::Silu, Activation::HardSwish];
        let activations = activations.map(Some).into_iter().chain([None]);
        let mut done = [0; 2];
        for (case, activation) in activations.cycle().take(1500).enumerate() {
            let is_channelwise = rng.bool() || activation.is_none();
            let Some(spec) = spec(&mut rng, is_channelwise) else { continue };
            let place = &spec.place;
            let count = place.channels[0] * place.input[0] * place.input[1];
            let values: Vec<f32> = (0..count).map(|_| rng.f32() * 8.0 - 4.0).collect();
            let expected = expected(&spec, activation, &values);
            for level in levels() {
                let mut out = vec![f32::NAN; expected.len()];
                let of_channels = match activation {
                    None => Channelwise::pooling(place),
                    Some(Activation::None) => Channelwise::convolution(&spec),
                    Some(activation) => Channelwise::convolution(&spec).and_then(|ours| ours.activated(activation)),
                };
                if let Some(ours) = of_channels {
                    ours.compute(level, &values, &mut out).expect("it runs");
                } else if let (Some(ours), Some(activation)) = (Convolution::of(&spec, level), activation) {
                    Convolution { activation, ..ours }.compute(level, &values, &mut out).expect("it runs");
                } else {
                    continue;
                }
                done[usize::from(is_channelwise)] += 1;
                for (at, (out, expected)) in out.iter().zip(&expected).enumerate() {
                    let Place { channels, input, output, kernel, stride, pads, .. } = place;
                    assert!(
                        out == expected || (out - expected).abs() < 1e-4,
                        "case {case} at {at}: {out} instead of {expected}; {level:?} {activation:?} {channels:?} {input:?} \
                         {output:?} {kernel:?} {stride} {pads:?}"
                    );
                }
            }
        }
        assert!(done[1] > 400 && (done[0] > 300 || kernel::block(Level::new()).is_none()), "{done:?}");
    }
}

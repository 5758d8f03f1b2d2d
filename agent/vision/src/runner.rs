//! A model at work in one thread: a picture in, what it sees out.

use std::sync::Arc;
use std::time::Duration;

use tract_onnx::prelude::{IntoTValue, TValue, TVec, Tensor, TypedSimpleState, tvec};
use tract_onnx::tract_core::plan;

use crate::decode::{self, Reading};
use crate::model::Loaded;
use crate::prepare::Prepare;
use crate::{Operator, Output, PictureError, Planes, Region, RunError};

/// Runs a model; one for each thread that does. Keeps its memory from picture to picture.
pub struct Runner {
    model: Arc<Loaded>,
    state: TypedSimpleState,
    prepare: Prepare,
    /// `None` only while the library has it.
    input: Option<Arc<Tensor>>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("input", &self.model.input).finish_non_exhaustive()
    }
}

impl Runner {
    pub(crate) fn new(model: Arc<Loaded>) -> Result<Self, RunError> {
        let state = model.plan.spawn().map_err(|error| RunError::Failed(one_line(&error)))?;
        Ok(Self { model, state, prepare: Prepare::default(), input: None })
    }

    /// Looks at `region` of a picture, or at all of it; nothing below `threshold` (0 to 1) is answered.
    pub fn run(&mut self, planes: &Planes<'_>, region: Option<Region>, threshold: f32) -> Result<Output, RunError> {
        let placement = self.fill(planes, region)?;
        let outputs = self.infer()?;
        let mut values = Vec::with_capacity(outputs.len());
        for (tensor, output) in outputs.iter().zip(&self.model.outputs) {
            let cast = tensor.cast_to::<f32>().map_err(|error| RunError::Failed(one_line(&error)))?;
            values.push((cast, output));
        }
        let mut slices = Vec::with_capacity(values.len());
        for (tensor, output) in &values {
            let view = tensor.try_as_plain_ram().and_then(|view| view.as_slice::<f32>());
            let slice = view.map_err(|error| RunError::Failed(one_line(&error)))?;
            // One sum instead of a branch for each value: NaN times 0 stays NaN, and so does infinity.
            if slice.iter().map(|value| value * 0.0).sum::<f32>().is_nan() && slice.iter().any(|value| value.is_nan()) {
                return Err(RunError::NotANumber { output: output.name.clone() });
            }
            slices.push(slice);
        }
        let reading = Reading { model: &self.model, outputs: &slices, placement, threshold: threshold.clamp(0.0, 1.0) };
        Ok(decode::output(&reading))
    }

    /// Makes a picture into the model's input and runs nothing: for who wants to measure that alone.
    pub fn prepare(&mut self, planes: &Planes<'_>, region: Option<Region>) -> Result<(), RunError> {
        self.fill(planes, region).map(|_| ())
    }

    /// The numbers the model would be given, for who wants to compare or measure: see [`crate::Input`].
    pub fn prepared(&mut self, planes: &Planes<'_>, region: Option<Region>) -> Result<Vec<f32>, RunError> {
        self.fill(planes, region)?;
        let tensor = self.input.as_ref().ok_or_else(|| RunError::Failed("no input".to_owned()))?;
        let view = tensor.try_as_plain_ram().and_then(|view| Ok(view.as_slice::<f32>()?.to_vec()));
        view.map_err(|error| RunError::Failed(one_line(&error)))
    }

    /// Runs the graph once and says what each kind of its operators took on `clock`, the dearest first.
    pub fn profile(
        &mut self,
        planes: &Planes<'_>,
        clock: &mut dyn FnMut() -> Duration,
    ) -> Result<Vec<Operator>, RunError> {
        self.fill(planes, None)?;
        let input = self.input.clone().ok_or_else(|| RunError::Failed("no input".to_owned()))?;
        let mut operators: Vec<Operator> = Vec::new();
        let run = self.state.run_plan_with_eval(tvec!(input.into_tvalue()), |context, state, node, inputs| {
            let began = clock();
            let outputs = plan::eval(context, state, node, inputs);
            let time = clock().saturating_sub(began);
            let name = node.op().name();
            match operators.iter_mut().find(|operator| operator.name == name) {
                Some(operator) => {
                    operator.count += 1;
                    operator.time += time;
                }
                None => operators.push(Operator { name: name.into_owned(), count: 1, time }),
            }
            outputs
        });
        run.map_err(|error| RunError::Failed(one_line(&error)))?;
        operators.sort_by_key(|operator| std::cmp::Reverse(operator.time));
        Ok(operators)
    }

    /// Brings a picture into the model's form, and no more.
    pub(crate) fn fill(
        &mut self,
        planes: &Planes<'_>,
        region: Option<Region>,
    ) -> Result<crate::prepare::Placement, RunError> {
        let region = planes.region(region).map_err(|error: PictureError| RunError::Picture(error))?;
        let model = &self.model;
        let refused = |error| RunError::Failed(one_line(&error));
        // The library may still hold the tensor of the run before, and a failed run has taken it.
        if self.input.as_mut().and_then(Arc::get_mut).is_none() {
            self.input = Some(Arc::new(Tensor::zero::<f32>(&model.input_shape()).map_err(refused)?));
            self.prepare = Prepare::default();
        }
        let tensor = self.input.as_mut().and_then(Arc::get_mut);
        let tensor = tensor.ok_or_else(|| RunError::Failed("the input is in use".to_owned()))?;
        let mut view = tensor.try_as_plain_ram_mut().map_err(refused)?;
        let out = view.as_slice_mut::<f32>().map_err(refused)?;
        Ok(self.prepare.fill(&model.input, planes, region, out))
    }

    /// Runs the graph on what was filled in.
    pub(crate) fn infer(&mut self) -> Result<TVec<TValue>, RunError> {
        let input = self.input.clone().ok_or_else(|| RunError::Failed("no input".to_owned()))?;
        self.state.run(tvec!(input.into_tvalue())).map_err(|error| RunError::Failed(one_line(&error)))
    }
}

/// The library's errors are chains over many lines.
pub(crate) fn one_line(error: &tract_onnx::prelude::TractError) -> String {
    let text = format!("{error:#}");
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > 300 {
        line = line.chars().take(300).chain("…".chars()).collect();
    }
    line
}

//! A build without tract: the same names, and no model can be loaded. Nobody can hold one, so the rest of a program that
//! would run it is not even linked.

use std::borrow::Cow;
use std::convert::Infallible;
use std::time::Duration;

use crate::{Description, Input, Layout, ModelError, Operator, Output, Planes, Region, RunError, Task};

/// There is none.
#[derive(Clone, Debug)]
pub struct Model(Infallible);

/// There is none.
#[derive(Debug)]
pub struct Runner(Infallible);

impl Model {
    /// [`ModelError::Absent`], unless the description is wrong already.
    pub fn load(_onnx: &[u8], description: &Description) -> Result<Self, ModelError> {
        description.check().map_err(ModelError::Description)?;
        Err(ModelError::Absent)
    }

    /// See the build with tract.
    pub fn runner(&self) -> Result<Runner, RunError> {
        match self.0 {}
    }

    /// See the build with tract.
    pub fn task(&self) -> Task {
        match self.0 {}
    }

    /// See the build with tract.
    pub fn layout(&self) -> Layout {
        match self.0 {}
    }

    /// See the build with tract.
    pub fn labels(&self) -> &[String] {
        match self.0 {}
    }

    /// See the build with tract.
    pub fn label(&self, _class: u32) -> Cow<'_, str> {
        match self.0 {}
    }

    /// See the build with tract.
    pub fn input(&self) -> &Input {
        match self.0 {}
    }

    /// See the build with tract.
    pub fn is_cut(&self) -> bool {
        match self.0 {}
    }
}

impl Runner {
    /// See the build with tract.
    pub fn run(&mut self, _: &Planes<'_>, _region: Option<Region>, _threshold: f32) -> Result<Output, RunError> {
        match self.0 {}
    }

    /// See the build with tract.
    pub fn prepare(&mut self, _: &Planes<'_>, _region: Option<Region>) -> Result<(), RunError> {
        match self.0 {}
    }

    /// See the build with tract.
    pub fn prepared(&mut self, _: &Planes<'_>, _region: Option<Region>) -> Result<Vec<f32>, RunError> {
        match self.0 {}
    }

    /// See the build with tract.
    pub fn profile(&mut self, _: &Planes<'_>, _clock: &mut dyn FnMut() -> Duration) -> Result<Vec<Operator>, RunError> {
        match self.0 {}
    }
}

//! The ONNX file before the inference library sees it: what it takes, what it answers, what it says of itself, and
//! whether it holds what cannot be run.

use std::collections::HashMap;

use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::Framework;

use crate::ModelError;

/// ONNX TensorProto.DataLocation EXTERNAL.
const EXTERNAL: i32 = 1;

/// Reads a file's bytes, and refuses what cannot be run.
pub(crate) fn read(mut bytes: &[u8]) -> Result<ModelProto, ModelError> {
    if bytes.is_empty() {
        return Err(ModelError::NotOnnx("it is empty".to_owned()));
    }
    let model = tract_onnx::onnx()
        .proto_model_for_read(&mut bytes)
        .map_err(|error| ModelError::NotOnnx(error.root_cause().to_string()))?;
    let Some(graph) = &model.graph else { return Err(ModelError::NotOnnx("it has no graph".to_owned())) };
    if graph.node.is_empty() || graph.output.is_empty() {
        return Err(ModelError::NotOnnx("its graph has no nodes or no outputs".to_owned()));
    }
    refuse(graph)?;
    Ok(model)
}

fn refuse(graph: &GraphProto) -> Result<(), ModelError> {
    let has = |names: &[&str]| graph.node.iter().find(|node| names.contains(&node.op_type.as_str()));
    let unsupported = |what: String, instead: &str| Err(ModelError::Unsupported { what, instead: instead.to_owned() });
    if let Some(node) = graph.node.iter().find(|node| node.op_type.starts_with("QLinear") || is_integer(node)) {
        return unsupported(
            format!("an int8 model in QOperator form (operator {})", node.op_type),
            "export it in float32 (quantising does not make it faster here)",
        );
    }
    // Detectors of torchvision have control flow in their post-processing, and some have suppression too.
    if let Some(node) = has(&["If", "Loop"]) {
        return unsupported(
            format!("a model with control flow (operator {}), such as torchvision's detectors", node.op_type),
            "export one without post-processing inside, such as YOLO11, YOLO26 or NanoDet",
        );
    }
    if has(&["NonMaxSuppression"]).is_some() {
        return unsupported(
            "a model with non-maximum suppression inside (ultralytics: nms=True)".to_owned(),
            "export it without (nms=False, or leave nms out): the agent does that part itself",
        );
    }
    for tensor in &graph.initializer {
        check_tensor(tensor)?;
    }
    Ok(())
}

fn is_integer(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "ConvInteger" | "MatMulInteger")
}

/// A length that the bytes of a tensor belie would cost its memory before it is noticed.
fn check_tensor(tensor: &TensorProto) -> Result<(), ModelError> {
    if tensor.data_location == Some(EXTERNAL) || !tensor.external_data.is_empty() {
        return Err(ModelError::Unsupported {
            what: format!("a model whose weights are in another file ({})", short(&tensor.name)),
            instead: "export it as one file (onnx.save without external data)".to_owned(),
        });
    }
    let size = tensor.dims.iter().try_fold(1_u64, |size, &dim| size.checked_mul(u64::try_from(dim).ok()?));
    let values = [
        tensor.raw_data.len(),
        tensor.float_data.len(),
        tensor.int32_data.len(),
        tensor.int64_data.len(),
        tensor.double_data.len(),
        tensor.uint64_data.len(),
        tensor.string_data.len(),
    ];
    // Two 4-bit values fit a byte; nothing is smaller.
    let most = 2 * values.iter().sum::<usize>() as u64;
    if size.is_none_or(|size| size > most) {
        let what = format!("the tensor {} says it is {:?}, and has fewer values", short(&tensor.name), tensor.dims);
        return Err(ModelError::NotOnnx(what));
    }
    Ok(())
}

/// A name for a message: files may hold anything.
pub(crate) fn short(name: &str) -> String {
    let clean = name.chars().filter(|character| !character.is_control()).take(60).collect::<String>();
    format!("\"{clean}\"")
}

/// A size that a file gives, or leaves open.
pub(crate) type Dimension = Option<usize>;

/// What the graph takes that is no weight.
pub(crate) fn inputs(graph: &GraphProto) -> Vec<&ValueInfoProto> {
    let is_weight = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    graph.input.iter().filter(|input| !is_weight(&input.name)).collect()
}

/// Element type (ONNX TensorProto.DataType) and shape, where the file says them.
pub(crate) fn fact(value: &ValueInfoProto) -> Option<(i32, Vec<Dimension>)> {
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    let dimensions = tensor.shape.as_ref()?.dim.iter().map(|dimension| match dimension.value {
        Some(dimension::Value::DimValue(value)) => usize::try_from(value).ok().filter(|value| *value > 0),
        _ => None,
    });
    Some((tensor.elem_type, dimensions.collect()))
}

/// Which node makes a value.
pub(crate) struct Makers<'a> {
    nodes: HashMap<&'a str, &'a NodeProto>,
    constants: HashMap<&'a str, &'a TensorProto>,
}

impl<'a> Makers<'a> {
    pub(crate) fn new(graph: &'a GraphProto) -> Self {
        let outputs = graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)));
        let constants = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor));
        let made = graph.node.iter().filter(|node| node.op_type == "Constant").filter_map(|node| {
            let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref())?;
            Some((node.output.first()?.as_str(), tensor))
        });
        Self { nodes: outputs.collect(), constants: constants.chain(made).collect() }
    }

    pub(crate) fn of(&self, name: &str) -> Option<&'a NodeProto> {
        self.nodes.get(name).copied()
    }

    pub(crate) fn constant(&self, name: &str) -> Option<&'a TensorProto> {
        self.constants.get(name).copied()
    }
}

/// The float32 values of a constant.
pub(crate) fn floats(tensor: &TensorProto) -> Vec<f32> {
    if tensor.float_data.is_empty() {
        tensor.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    } else {
        tensor.float_data.clone()
    }
}

/// Makes the graph answer `names` instead of what it answers, and drops the nodes that are then of no use.
pub(crate) fn cut(model: &mut ModelProto, names: &[String]) {
    let Some(graph) = &mut model.graph else { return };
    let made: HashMap<String, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.output.iter().map(move |name| (name.clone(), index)))
        .collect();
    let mut needed = vec![false; graph.node.len()];
    let mut open: Vec<usize> = names.iter().filter_map(|name| made.get(name).copied()).collect();
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut needed[index], true) {
            open.extend(graph.node[index].input.iter().filter_map(|name| made.get(name).copied()));
        }
    }
    let mut needed = needed.into_iter();
    graph.node.retain(|_| needed.next().unwrap_or(false));
    graph.output =
        names.iter().map(|name| ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() }).collect();
}

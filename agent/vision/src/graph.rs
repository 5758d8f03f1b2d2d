//! The ONNX file before the inference library sees it: what it takes, what it answers, what it says of itself, and
//! whether it holds what cannot be run.

use std::collections::HashMap;

use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::Framework;

use crate::ModelError;

/// ONNX TensorProto.DataType INT64.
const INT64: i32 = 7;
/// Of a kernel, a stride, a bar.
const MOST_SIZE: i64 = 1 << 16;
/// Of a tensor that is made, not read: 1 GB of float32.
pub(crate) const MOST_VALUES: u128 = 1 << 28;
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
    let constants =
        graph.node.iter().flat_map(|node| node.attribute.iter().filter_map(|attribute| attribute.t.as_ref()));
    for tensor in graph.initializer.iter().chain(constants) {
        check_tensor(tensor)?;
    }
    check_sizes(graph)
}

/// Sizes that are written in the file and that the library would take memory for before anything else is looked at.
fn check_sizes(graph: &GraphProto) -> Result<(), ModelError> {
    let makers = Makers::new(graph);
    let damaged = |node: &NodeProto| {
        Err(ModelError::NotOnnx(format!(
            "the operator {} {} has sizes that no model has",
            node.op_type,
            short(&node.name)
        )))
    };
    for node in &graph.node {
        let kernel = ["Conv", "Pool", "Pad", "LSTM", "GRU"].iter().any(|kind| node.op_type.contains(kind));
        let sizes = node.attribute.iter().flat_map(|attribute| attribute.ints.iter().chain([&attribute.i]));
        if kernel && sizes.into_iter().any(|size| !(-MOST_SIZE..=MOST_SIZE).contains(size)) {
            return damaged(node);
        }
        if matches!(
            node.op_type.as_str(),
            "ConstantOfShape" | "Expand" | "Tile" | "Range" | "Pad" | "Resize" | "OneHot"
        ) {
            for tensor in node.input.iter().filter_map(|name| makers.constant(name)) {
                let sizes = integers(tensor).into_iter().filter(|size| *size != 0);
                let product = sizes.map(|size| u128::from(size.unsigned_abs())).fold(1, u128::saturating_mul);
                if tensor.data_type == INT64 && product > MOST_VALUES {
                    return damaged(node);
                }
            }
        }
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

/// The int64 values of a constant.
fn integers(tensor: &TensorProto) -> Vec<i64> {
    if tensor.int64_data.is_empty() {
        tensor.raw_data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
    } else {
        tensor.int64_data.clone()
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

#[cfg(test)]
mod tests {
    use tract_onnx::pb::AttributeProto;

    use super::*;

    fn node(op_type: &str, input: &[&str]) -> NodeProto {
        let input = input.iter().map(ToString::to_string).collect();
        NodeProto { op_type: op_type.to_owned(), input, output: vec!["out".to_owned()], ..NodeProto::default() }
    }

    fn tensor(dims: &[i64], values: &[i64]) -> TensorProto {
        TensorProto {
            name: "sizes".to_owned(),
            dims: dims.to_vec(),
            data_type: INT64,
            int64_data: values.to_vec(),
            ..TensorProto::default()
        }
    }

    #[test]
    fn sizes_that_would_take_all_memory_are_refused() {
        let check = |node: NodeProto, constant: Option<TensorProto>, is_good: bool| {
            let shown = format!("{node:?} {constant:?}");
            let graph =
                GraphProto { node: vec![node], initializer: constant.into_iter().collect(), ..GraphProto::default() };
            assert_eq!(refuse(&graph).is_ok(), is_good, "{shown}");
        };
        check(node("ConstantOfShape", &["sizes"]), Some(tensor(&[2], &[10, 10])), true);
        check(node("ConstantOfShape", &["sizes"]), Some(tensor(&[2], &[1 << 30, 10])), false);
        check(node("Expand", &["x", "sizes"]), Some(tensor(&[3], &[i64::MAX, i64::MAX, i64::MIN])), false);
        check(node("Reshape", &["x", "sizes"]), Some(tensor(&[2], &[1, -1])), true);
        // What a tensor says it is, and what it has.
        check(node("Add", &["x", "sizes"]), Some(tensor(&[1 << 40], &[1])), false);
        check(node("Add", &["x", "sizes"]), Some(tensor(&[i64::MAX, i64::MAX], &[1])), false);
        check(node("Add", &["x", "sizes"]), Some(tensor(&[-1], &[1])), false);
        let attribute =
            |name: &str, ints: Vec<i64>| AttributeProto { name: name.to_owned(), ints, ..AttributeProto::default() };
        let conv = |pads: Vec<i64>| NodeProto { attribute: vec![attribute("pads", pads)], ..node("Conv", &["x"]) };
        check(conv(vec![1, 1, 1, 1]), None, true);
        check(conv(vec![1, 1, 1 << 40, 1]), None, false);
    }

    #[test]
    fn what_is_no_model() {
        for (bytes, expected) in [
            (&b""[..], "it is empty"),
            (b"<html>not found</html>", "not an ONNX model"),
            (&[0xff; 1000], "not an ONNX model"),
            (&[0; 10], "not an ONNX model"),
            // A model with nothing but a version of its format.
            (&[8, 7], "it has no graph"),
            (&[8, 7, 0x3a, 0], "no nodes"),
        ] {
            let error = read(bytes).expect_err("refused").to_string();
            assert!(error.contains(expected), "{bytes:x?}: {error}");
        }
        let name = short(&format!("a\nb{}", "x".repeat(100)));
        assert_eq!(name.chars().count(), 62, "{name}");
    }
}

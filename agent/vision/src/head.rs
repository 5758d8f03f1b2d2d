//! The head of an Ultralytics detector, found in the graph by its shape, not by its names.
//!
//! From YOLOv8 on the graph ends the same way: of each stride a convolution for boxes and one for classes; all put
//! together; boxes through a softmax over 16 bins (DFL; not in YOLO26), then the arithmetic that makes them boxes; classes
//! through a sigmoid. The library needs a third of its time for that softmax over all anchors (yolov8n at 320: 30 ms
//! with it, 19 ms without), and nearly all anchors are below the threshold. So the graph is cut at the convolutions, and
//! `decode::head` does the rest for the few that are not.

use tract_onnx::pb::{GraphProto, NodeProto};

use crate::graph::{Makers, floats};

/// What the boxes may pass through on their way to the output.
const ARITHMETIC: &[&str] = &[
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Concat",
    "Slice",
    "Split",
    "Reshape",
    "Transpose",
    "Softmax",
    "Conv",
    "Shape",
    "Gather",
    "Unsqueeze",
    "Squeeze",
    "Constant",
    "Cast",
    "Range",
    "Expand",
    "ConstantOfShape",
    "Where",
    "Equal",
    "Pow",
    "Ceil",
];
/// Of a path that is longer nothing is known.
const LONGEST_PATH: usize = 200;

/// Where to cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// Of each stride, in the file's order: what the graph is to answer for boxes and for classes, by name.
    pub(crate) scales: Vec<(String, String)>,
    /// Boxes are distributions over bins.
    pub(crate) is_dfl: bool,
    /// The graph goes on with a choice of the best (TopK), so no suppression is needed.
    pub(crate) is_end_to_end: bool,
}

/// Finds the head, or nothing where anything is unlike.
pub(crate) fn find(graph: &GraphProto) -> Option<Head> {
    // Masks, key points and angles are more outputs, or other operators.
    let [_] = graph.output.as_slice() else { return None };
    let makers = Makers::new(graph);
    graph.node.iter().filter(|node| node.op_type == "Sigmoid").find_map(|sigmoid| from_classes(graph, &makers, sigmoid))
}

fn from_classes(graph: &GraphProto, makers: &Makers<'_>, sigmoid: &NodeProto) -> Option<Head> {
    let scores = sigmoid.output.first()?;
    let joined = graph.node.iter().find(|node| node.op_type == "Concat" && node.input.get(1) == Some(scores))?;
    let [boxes, _] = joined.input.as_slice() else { return None };
    let logits = makers.of(sigmoid.input.first()?)?;
    let scales = match logits.op_type.as_str() {
        "Concat" => {
            let classes = scales_of(makers, logits)?;
            let (path, boxes) = walk(makers, boxes, &|node| scales_of(makers, node))?;
            (boxes.len() == classes.len()).then_some(())?;
            (path, boxes.into_iter().zip(classes).collect())
        }
        // Until 2024: each stride's boxes and classes are put together first, and split at the end.
        "Split" | "Slice" => {
            let source = logits.input.first()?;
            let all = makers.of(source)?;
            let pairs =
                scales_of(makers, all)?.into_iter().map(|name| pair(makers, &name)).collect::<Option<Vec<_>>>()?;
            let begins_here = |node: &NodeProto| (node.output.iter().any(|name| name == source)).then(|| pairs.clone());
            let (path, pairs) = walk(makers, boxes, &begins_here)?;
            (path, pairs)
        }
        _ => return None,
    };
    let (path, scales) = scales;
    let softmax = path.iter().filter(|node| node.op_type == "Softmax").count();
    let convolutions: Vec<_> = path.iter().filter(|node| node.op_type == "Conv").collect();
    let is_dfl = match (softmax, convolutions.as_slice()) {
        (0, []) => false,
        // DFL's convolution is the mean of the bins: its weights count from 0.
        (1, [mean]) => {
            let weights = floats(makers.constant(mean.input.get(1)?)?);
            (weights.len() > 1 && weights.iter().enumerate().all(|(bin, weight)| *weight == bin as f32))
                .then_some(true)?
        }
        _ => return None,
    };
    let is_end_to_end = graph.node.iter().any(|node| node.op_type == "TopK");
    Some(Head { scales, is_dfl, is_end_to_end })
}

/// The convolutions behind a node that joins reshaped grids.
fn scales_of(makers: &Makers<'_>, node: &NodeProto) -> Option<Vec<String>> {
    if node.op_type != "Concat" || !(2..=5).contains(&node.input.len()) {
        return None;
    }
    let grid = |name: &String| {
        let reshape = makers.of(name).filter(|node| node.op_type == "Reshape")?;
        let made = makers.of(reshape.input.first()?)?;
        matches!(made.op_type.as_str(), "Conv" | "Concat").then(|| reshape.input[0].clone())
    };
    node.input.iter().map(grid).collect()
}

fn pair(makers: &Makers<'_>, name: &str) -> Option<(String, String)> {
    let node = makers.of(name).filter(|node| node.op_type == "Concat")?;
    let is_convolution = |name: &String| makers.of(name).is_some_and(|node| node.op_type == "Conv");
    let [boxes, classes] = node.input.as_slice() else { return None };
    (is_convolution(boxes) && is_convolution(classes)).then(|| (boxes.clone(), classes.clone()))
}

/// Goes back from `name` until all ways have come to where `begin` knows the node; gives the nodes between.
fn walk<'a, T: PartialEq>(
    makers: &Makers<'a>,
    name: &str,
    begin: &dyn Fn(&NodeProto) -> Option<T>,
) -> Option<(Vec<&'a NodeProto>, T)> {
    let (mut path, mut found) = (Vec::<&NodeProto>::new(), None);
    let mut open = vec![makers.of(name)?];
    while let Some(node) = open.pop() {
        if path.iter().any(|seen| std::ptr::eq(*seen, node)) {
            continue;
        }
        if let Some(here) = begin(node) {
            if found.as_ref().is_some_and(|found| *found != here) {
                return None;
            }
            found = Some(here);
            continue;
        }
        if !ARITHMETIC.contains(&node.op_type.as_str()) || path.len() == LONGEST_PATH {
            return None;
        }
        path.push(node);
        // A size says nothing of a value; it would lead into the body of the network.
        if node.op_type == "Shape" {
            continue;
        }
        open.extend(node.input.iter().filter_map(|name| makers.of(name)));
    }
    Some((path, found?))
}

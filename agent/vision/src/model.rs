//! A model: from a file's bytes to a plan that any thread can run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::pb::{GraphProto, ModelProto};
use tract_onnx::prelude::{DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, TypedRunnableModel};

use crate::convolution::When;
use crate::graph::{Dimension, short};
use crate::input::MOST_INPUT_SIDE;
use crate::layout::{Clues, Read};
use crate::runner::one_line;
use crate::{
    Colours, Description, Fit, Input, Layout, ModelError, Planes, Runner, Task, convolution, graph, head, labels,
    layout,
};

/// Pixels of an input side where neither file nor description says it.
const DETECTOR_SIDE: u32 = 640;
const CLASSIFIER_SIDE: u32 = 224;
const LINE_WIDTH: u32 = 320;
/// Boxes of a picture.
const MOST_DETECTIONS: usize = 300;
const IOU: f32 = 0.45;
const TOP_K: usize = 5;
/// ONNX TensorProto.DataType.
const FLOAT: i32 = 1;

/// A model that has run once. Cheap to clone; any thread may have it.
#[derive(Clone)]
pub struct Model(Arc<Loaded>);

/// One thing the graph answers.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answer {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
}

pub(crate) struct Loaded {
    pub(crate) plan: Arc<TypedRunnableModel>,
    pub(crate) input: Input,
    pub(crate) outputs: Vec<Answer>,
    pub(crate) read: Read,
    pub(crate) labels: Vec<String>,
    pub(crate) iou: f32,
    pub(crate) is_agnostic: bool,
    pub(crate) most: usize,
    pub(crate) top_k: usize,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("input", &self.0.input).field("read", &self.0.read).finish_non_exhaustive()
    }
}

impl Model {
    /// Reads a model, prepares it for this machine and runs it once. It takes 0.1 to 1 s for a small detector.
    pub fn load(onnx: &[u8], description: &Description) -> Result<Self, ModelError> {
        // The library is made for models of people who mean well: on a damaged one it may index where nothing is. One
        // detector's file must not end the agent, and nothing of what was begun is used afterwards.
        let loaded = catch_unwind(AssertUnwindSafe(|| Self::try_load(onnx, description)));
        loaded
            .unwrap_or_else(|_| Err(ModelError::Graph("the file is damaged, or has operators used wrongly".to_owned())))
    }

    fn try_load(onnx: &[u8], description: &Description) -> Result<Self, ModelError> {
        description.check().map_err(ModelError::Description)?;
        let proto = graph::read(onnx)?;
        let said = Said::of(&proto, description)?;
        let mut loaded = None;
        if matches!(description.layout, None | Some(Layout::Yolo | Layout::EndToEnd)) && said.task != Some(Task::Text) {
            loaded = cut(&proto, &said, description);
        }
        let loaded = match loaded {
            Some(loaded) => loaded,
            None => whole(proto, &said, description)?,
        };
        let model = Self(Arc::new(loaded));
        model.trial()?;
        Ok(model)
    }

    /// A grey picture: it finds nothing, but what cannot be run fails now and not in the night.
    fn trial(&self) -> Result<(), ModelError> {
        let Input { width, height, .. } = self.0.input;
        let grey = vec![114; width as usize * height as usize];
        let stride = width as usize;
        let planes = Planes::new([&grey, &grey, &grey], (stride, stride, stride), width, height);
        let planes = planes.map_err(|error| ModelError::Trial(error.into()))?;
        self.runner().and_then(|mut runner| runner.run(&planes, None, 0.5)).map_err(ModelError::Trial)?;
        Ok(())
    }

    /// One for each thread that runs it.
    pub fn runner(&self) -> Result<Runner, crate::RunError> {
        Runner::new(self.0.clone())
    }

    /// What it is for.
    pub fn task(&self) -> Task {
        self.0.read.task()
    }

    /// How its answers are read.
    pub fn layout(&self) -> Layout {
        self.0.read.layout()
    }

    /// The names of its classes in order; of a text recogniser, its characters. Empty if a model that answers numbers of
    /// classes has no names.
    pub fn labels(&self) -> &[String] {
        &self.0.labels
    }

    /// The name of a class, made up if it has none.
    pub fn label(&self, class: u32) -> std::borrow::Cow<'_, str> {
        match self.0.labels.get(class as usize) {
            Some(name) => name.as_str().into(),
            None => format!("class {class}").into(),
        }
    }

    /// What it is given.
    pub fn input(&self) -> &Input {
        &self.0.input
    }

    /// Whether a part of the graph that is slow in the library is done by this crate (see `head`).
    pub fn is_cut(&self) -> bool {
        matches!(self.0.read, Read::Head { .. })
    }
}

impl Loaded {
    pub(crate) fn input_shape(&self) -> [usize; 4] {
        let Input { width, height, .. } = self.input;
        shape(self.input.is_interleaved, self.input.channels(), width, height)
    }
}

fn shape(is_interleaved: bool, channels: usize, width: u32, height: u32) -> [usize; 4] {
    let (width, height) = (width as usize, height as usize);
    if is_interleaved { [1, height, width, channels] } else { [1, channels, height, width] }
}

/// What file and description say before anything is run.
struct Said {
    is_interleaved: bool,
    channels: usize,
    width: u32,
    height: u32,
    task: Option<Task>,
    labels: Option<Vec<String>>,
    is_ultralytics: bool,
}

impl Said {
    fn of(proto: &ModelProto, description: &Description) -> Result<Self, ModelError> {
        let meta =
            |key: &str| proto.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
        let is_ultralytics =
            meta("author") == Some("Ultralytics") || meta("stride").is_some() && meta("names").is_some();
        let task = match meta("task") {
            None => None,
            Some("detect") => Some(Task::Detect),
            Some("classify") => Some(Task::Classify),
            Some(other) => {
                return Err(ModelError::Unsupported {
                    what: format!("a model for the task {}", short(other)),
                    instead: "use one for detect or classify".to_owned(),
                });
            }
        };
        if let (Some(said), Some(task)) = (description.task, task)
            && said != task
        {
            return Err(wrong_task(said, task));
        }
        let characters = |text: &str| text.lines().map(str::to_owned).collect();
        let labels = description.labels.clone().or_else(|| meta("names").and_then(labels::parse));
        let labels = labels.or_else(|| meta("character").map(characters));
        let no_graph = || ModelError::NotOnnx("it has no graph".to_owned());
        let (name, dimensions) = input(proto.graph.as_ref().ok_or_else(no_graph)?)?;
        let is_channels = |dimension: Dimension| matches!(dimension, Some(1 | 3));
        let (is_interleaved, channels, height, width) = match dimensions[..] {
            [_, channels, height, width] if is_channels(channels) => (false, channels, height, width),
            [_, height, width, channels] if is_channels(channels) => (true, channels, height, width),
            [_, None, height, width] => (false, Some(3), height, width),
            _ => {
                let what = format!("the model takes {} of {dimensions:?}, which is no picture", short(&name));
                return Err(ModelError::Unknown(format!("{what} ([1, 3, height, width])")));
            }
        };
        let asked = meta("imgsz").and_then(size);
        let task = description.task.or(task);
        let open = match task {
            Some(Task::Classify) => CLASSIFIER_SIDE,
            _ if height.is_some_and(|height| height <= 64) => LINE_WIDTH,
            _ => DETECTOR_SIDE,
        };
        let side = |name: &str, file: Dimension, said: Option<u32>, asked: Option<u32>| {
            let file = file.and_then(|value| u32::try_from(value).ok());
            match (file, said) {
                (Some(file), Some(said)) if file != said => {
                    let what = format!("{name} is {said} in the description, and the model takes {file} alone");
                    Err(ModelError::Description(what))
                }
                _ => Ok(file.or(said).or(asked).unwrap_or(open)),
            }
        };
        let width = side("width", width, description.width, asked.map(|(_, width)| width))?;
        let height = side("height", height, description.height, asked.map(|(height, _)| height))?;
        if width > MOST_INPUT_SIDE || height > MOST_INPUT_SIDE {
            let what = format!("a model that takes pictures of {width}x{height} pixels");
            return Err(ModelError::Unsupported { what, instead: format!("at most {MOST_INPUT_SIDE} are") });
        }
        let channels = channels.unwrap_or(3);
        Ok(Self { is_interleaved, channels, width, height, task, labels, is_ultralytics })
    }
}

fn wrong_task(said: Task, found: Task) -> ModelError {
    let (said, found) = (said.name(), found.name());
    ModelError::Description(format!("the model is for the task {found}, and the description says {said}"))
}

/// `[320, 320]`: height and width.
fn size(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().trim_matches(['[', ']']).split(',').map(|number| number.trim().parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn input(graph: &GraphProto) -> Result<(String, Vec<Dimension>), ModelError> {
    let inputs = graph::inputs(graph);
    let [input] = inputs.as_slice() else {
        let names = inputs.iter().map(|input| short(&input.name)).collect::<Vec<_>>().join(", ");
        let what = format!("a model that takes {} things ({names})", inputs.len());
        return Err(ModelError::Unsupported { what, instead: "export one that takes one picture".to_owned() });
    };
    let unknown = || ModelError::Unknown(format!("the model does not say what {} is", short(&input.name)));
    let (element, dimensions) = graph::fact(input).ok_or_else(unknown)?;
    if element != FLOAT {
        return Err(ModelError::Unsupported {
            what: format!("a model that takes {} in something else than float32", short(&input.name)),
            instead: "export it in float32 (not half, not int8)".to_owned(),
        });
    }
    Ok((input.name.clone(), dimensions))
}

/// Prepares the graph without the part of the head that is slow in the library, if it has one and it is as expected.
fn cut(proto: &ModelProto, said: &Said, description: &Description) -> Option<Loaded> {
    let head = head::find(proto.graph.as_ref()?)?;
    let names: Vec<String> = head.scales.iter().flat_map(|(boxes, classes)| [boxes.clone(), classes.clone()]).collect();
    let mut smaller = proto.clone();
    graph::cut(&mut smaller, &names);
    let (plan, answers) = prepare(&smaller, said).ok()?;
    let read = layout::of_head(&head, &answers, said.width, said.height)?;
    finish(plan, answers, read, said, description).ok()
}

fn whole(proto: ModelProto, said: &Said, description: &Description) -> Result<Loaded, ModelError> {
    let (plan, answers) = prepare(&proto, said)?;
    let operators = proto.graph.iter().flat_map(|graph| &graph.node);
    let first = proto.graph.as_ref().and_then(|graph| graph.output.first()).map(|output| output.name.as_str());
    let ends_in = operators.clone().find(|node| node.output.iter().any(|name| Some(name.as_str()) == first));
    let clues = Clues {
        answers: &answers,
        width: said.width,
        height: said.height,
        layout: description.layout,
        task: said.task,
        blank: description.blank,
        is_ultralytics: said.is_ultralytics,
        is_probability: ends_in.is_some_and(|node| matches!(node.op_type.as_str(), "Softmax" | "Sigmoid")),
        has_exp: operators.clone().any(|node| node.op_type == "Exp"),
        labels: said.labels.as_ref().map(Vec::len),
    };
    let read = layout::of_graph(&clues)?;
    finish(plan, answers, read, said, description)
}

fn prepare(proto: &ModelProto, said: &Said) -> Result<(Arc<TypedRunnableModel>, Vec<Answer>), ModelError> {
    let refused = |error| ModelError::Graph(one_line(&error));
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let model = onnx.model_for_proto_model(proto).map_err(refused)?;
    let fact =
        InferenceFact::dt_shape(DatumType::F32, shape(said.is_interleaved, said.channels, said.width, said.height));
    let model = model.with_input_fact(0, fact).map_err(refused)?;
    let mut model = model.into_typed().map_err(refused)?;
    model.prop_consts().map_err(refused)?;
    convolution::replace(&mut model, When::Read).map_err(refused)?;
    let mut model = model.into_decluttered().map_err(refused)?;
    convolution::replace(&mut model, When::Simplified).map_err(refused)?;
    let model = model.into_optimized().map_err(refused)?;
    let facts =
        model.nodes().iter().flat_map(|node| &node.outputs).filter_map(|outlet| outlet.fact.shape.as_concrete());
    let largest = facts.map(|shape| shape.iter().map(|size| *size as u128).product()).max().unwrap_or(0);
    if largest > graph::MOST_VALUES {
        return Err(ModelError::Unsupported {
            what: format!("a model that makes {largest} values at once"),
            instead: format!("at most {} can be", graph::MOST_VALUES),
        });
    }
    let answers = proto.graph.iter().flat_map(|graph| &graph.output).enumerate().map(|(index, output)| {
        let fact = model.output_fact(index).map_err(refused)?;
        let shape = fact.shape.as_concrete().map(<[usize]>::to_vec);
        let shape = shape.ok_or_else(|| ModelError::Unsupported {
            what: format!("a model whose output {} has a size that depends on the picture", short(&output.name)),
            instead: "export it without post-processing inside (ultralytics: nms=False)".to_owned(),
        })?;
        Ok(Answer { name: output.name.clone(), shape })
    });
    let answers = answers.collect::<Result<Vec<_>, ModelError>>()?;
    let plan = model.into_runnable().map_err(refused)?;
    Ok((plan, answers))
}

fn finish(
    plan: Arc<TypedRunnableModel>,
    outputs: Vec<Answer>,
    read: Read,
    said: &Said,
    description: &Description,
) -> Result<Loaded, ModelError> {
    if let Some(task) = description.task
        && task != read.task()
    {
        return Err(wrong_task(task, read.task()));
    }
    Ok(Loaded {
        labels: names(&read, said)?,
        input: describe_input(&read, said, description)?,
        plan,
        outputs,
        read,
        iou: description.iou_threshold.unwrap_or(IOU),
        is_agnostic: description.class_agnostic.unwrap_or(false),
        most: description.max_detections.unwrap_or(MOST_DETECTIONS),
        top_k: description.top_k.unwrap_or(TOP_K),
    })
}

fn names(read: &Read, said: &Said) -> Result<Vec<String>, ModelError> {
    let Some(classes) = read.classes() else { return Ok(said.labels.clone().unwrap_or_default()) };
    if let Read::Ctc { blank, .. } = read {
        return characters(classes, *blank, said.labels.clone());
    }
    let Some(labels) = &said.labels else {
        return Ok(labels::guess(classes, matches!(read, Read::Ssd { .. })));
    };
    if labels.len() != classes {
        let what = format!("labels: there are {} names, and the model tells {classes} classes apart", labels.len());
        return Err(ModelError::Description(what));
    }
    Ok(labels.clone())
}

/// The character of each class but the blank.
fn characters(classes: usize, blank: usize, labels: Option<Vec<String>>) -> Result<Vec<String>, ModelError> {
    let wrong = |what: String| {
        let which = if blank == 0 { "first" } else { "last" };
        ModelError::Description(format!(
            "{what}: give the {} characters, without the blank, which is the {which} class",
            classes - 1
        ))
    };
    let Some(mut labels) = labels else {
        return Err(wrong("labels: a text recogniser says no characters itself".to_owned()));
    };
    match classes.checked_sub(labels.len()) {
        Some(0) => drop(labels.remove(blank)),
        Some(1) => {}
        // PaddleOCR's files of characters leave out the space, which is the last class.
        Some(2) => labels.push(" ".to_owned()),
        _ => return Err(wrong(format!("labels: there are {}", labels.len()))),
    }
    Ok(labels)
}

fn describe_input(read: &Read, said: &Said, description: &Description) -> Result<Input, ModelError> {
    const SAME: ([f32; 3], [f32; 3]) = ([0.0; 3], [1.0; 3]);
    const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    // What the families' own code does before inference.
    let (colours, scale, (mean, std), fit, pad) = match read {
        Read::Classes { .. } if said.is_ultralytics => (Colours::Rgb, 1.0 / 255.0, SAME, Fit::Crop, 0),
        Read::Classes { .. } if said.is_interleaved => (Colours::Rgb, 1.0 / 127.5, ([1.0; 3], [1.0; 3]), Fit::Crop, 0),
        Read::Classes { .. } => (Colours::Rgb, 1.0 / 255.0, IMAGENET, Fit::Crop, 0),
        Read::Head { .. } | Read::Yolo { .. } | Read::YoloAnchors { .. } | Read::EndToEnd { .. } => {
            (Colours::Rgb, 1.0 / 255.0, SAME, Fit::Letterbox, 114)
        }
        Read::Yolox { .. } => (Colours::Bgr, 1.0, SAME, Fit::TopLeft, 114),
        Read::Ssd { .. } => (Colours::Rgb, 1.0, ([127.0; 3], [128.0; 3]), Fit::Stretch, 0),
        Read::Grid { .. } => (Colours::Bgr, 1.0 / 255.0, SAME, Fit::Stretch, 0),
        Read::Nanodet { .. } => {
            (Colours::Bgr, 1.0, ([103.53, 116.28, 123.675], [57.375, 57.12, 58.395]), Fit::Stretch, 0)
        }
        Read::Ctc { .. } => {
            let fit = if said.width >= 5 * said.height { Fit::TopLeft } else { Fit::Stretch };
            (Colours::Bgr, 1.0 / 127.5, ([1.0; 3], [1.0; 3]), fit, 127)
        }
    };
    let colours = description.colours.unwrap_or(if said.channels == 1 { Colours::Grey } else { colours });
    let input = Input {
        width: said.width,
        height: said.height,
        is_interleaved: said.is_interleaved,
        colours,
        scale: description.scale.unwrap_or(scale),
        mean: description.mean.unwrap_or(mean),
        std: description.std.unwrap_or(std),
        fit: description.fit.unwrap_or(fit),
        pad: description.pad.unwrap_or(pad),
    };
    if input.channels() != said.channels {
        let what = format!("colours: the model takes {} channels, not {}", said.channels, input.channels());
        return Err(ModelError::Description(what));
    }
    Ok(input)
}

//! How the numbers of a model are to be read, found out from the shapes of what it answers.

use crate::head::Head;
use crate::model::Answer;
use crate::{Blank, Layout, ModelError, Task};

/// How to read the answers; indices are of the model's outputs.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Read {
    /// `is_probability`: they need no softmax.
    Classes {
        classes: usize,
        is_probability: bool,
    },
    /// Cut at its convolutions: boxes and classes of each scale in turn.
    Head {
        scales: Vec<Scale>,
        bins: usize,
        classes: usize,
        is_end_to_end: bool,
    },
    Yolo {
        classes: usize,
        anchors: usize,
        is_row: bool,
    },
    YoloAnchors {
        classes: usize,
        anchors: usize,
    },
    Yolox {
        classes: usize,
        scales: Vec<Scale>,
        is_decoded: bool,
    },
    EndToEnd {
        boxes: usize,
    },
    Ssd {
        scores: usize,
        corners: usize,
        classes: usize,
        boxes: usize,
    },
    Grid {
        classes: usize,
        columns: usize,
        rows: usize,
    },
    /// `centre`: where in a cell its point is, in cells.
    Nanodet {
        parts: Vec<Part>,
        bins: usize,
        classes: usize,
        centre: f32,
    },
    Ctc {
        steps: usize,
        classes: usize,
        is_column: bool,
        is_probability: bool,
        blank: usize,
    },
}

/// A grid over the picture.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Scale {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
    /// Pixels of the input from cell to cell.
    pub(crate) stride: (f32, f32),
}

impl Scale {
    fn of(columns: usize, rows: usize, width: u32, height: u32) -> Self {
        Self { columns, rows, stride: (width as f32 / columns as f32, height as f32 / rows as f32) }
    }

    pub(crate) fn cells(&self) -> usize {
        self.columns * self.rows
    }
}

/// Where one grid of NanoDet is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Part {
    pub(crate) scale: Scale,
    /// Output, index of the first value, and values from cell to cell; the same twice where both are in one output.
    pub(crate) scores: (usize, usize, usize),
    pub(crate) distances: (usize, usize, usize),
}

impl Read {
    pub(crate) fn task(&self) -> Task {
        match self {
            Self::Classes { .. } => Task::Classify,
            Self::Ctc { .. } => Task::Text,
            _ => Task::Detect,
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        match self {
            Self::Classes { .. } => Layout::Classes,
            Self::Head { is_end_to_end: false, .. } | Self::Yolo { .. } => Layout::Yolo,
            Self::YoloAnchors { .. } => Layout::YoloAnchors,
            Self::Yolox { .. } => Layout::Yolox,
            Self::Head { is_end_to_end: true, .. } | Self::EndToEnd { .. } => Layout::EndToEnd,
            Self::Ssd { .. } => Layout::Ssd,
            Self::Grid { .. } => Layout::Grid,
            Self::Nanodet { .. } => Layout::Nanodet,
            Self::Ctc { .. } => Layout::Ctc,
        }
    }

    /// How many classes it tells apart; `None`: it does not say (YOLO26 answers numbers of classes). A text recogniser's
    /// blank is one.
    pub(crate) fn classes(&self) -> Option<usize> {
        match *self {
            Self::EndToEnd { .. } => None,
            Self::Classes { classes, .. }
            | Self::Head { classes, .. }
            | Self::Yolo { classes, .. }
            | Self::YoloAnchors { classes, .. }
            | Self::Yolox { classes, .. }
            | Self::Ssd { classes, .. }
            | Self::Grid { classes, .. }
            | Self::Nanodet { classes, .. }
            | Self::Ctc { classes, .. } => Some(classes),
        }
    }
}

/// What is known when the shapes are looked at.
pub(crate) struct Clues<'a> {
    pub(crate) answers: &'a [Answer],
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) layout: Option<Layout>,
    pub(crate) task: Option<Task>,
    pub(crate) blank: Option<Blank>,
    /// Said by the file's metadata.
    pub(crate) is_ultralytics: bool,
    /// The graph ends in a softmax or sigmoid.
    pub(crate) is_probability: bool,
    /// Somewhere in it is an exponential function.
    pub(crate) has_exp: bool,
    /// How many names there are for classes.
    pub(crate) labels: Option<usize>,
}

/// Reads the shapes of a graph that was cut; `None` if they are not what the head looked like.
pub(crate) fn of_head(head: &Head, answers: &[Answer], width: u32, height: u32) -> Option<Read> {
    let (mut scales, mut bins, mut classes) = (Vec::new(), None, None);
    for pair in answers.chunks(2) {
        let [boxes, scores] = pair else { return None };
        let ([1, channels, rows, columns], [1, count, rows_2, columns_2]) = (&boxes.shape[..], &scores.shape[..])
        else {
            return None;
        };
        let here = channels / 4;
        let agree = (rows, columns) == (rows_2, columns_2)
            && channels % 4 == 0
            && bins.is_none_or(|bins| bins == here)
            && classes.is_none_or(|classes| classes == *count);
        if !agree || (here > 1) != head.is_dfl || here == 0 {
            return None;
        }
        (bins, classes) = (Some(here), Some(*count));
        scales.push(Scale::of(*columns, *rows, width, height));
    }
    Some(Read::Head { scales, bins: bins?, classes: classes?, is_end_to_end: head.is_end_to_end })
}

/// Reads the shapes of a whole graph.
pub(crate) fn of_graph(clues: &Clues<'_>) -> Result<Read, ModelError> {
    let shapes: Vec<&[usize]> = clues.answers.iter().map(|answer| answer.shape.as_slice()).collect();
    let read = match clues.layout {
        Some(layout) => of_layout(clues, layout, &shapes),
        None => guesses(clues).iter().find_map(|layout| of_layout(clues, *layout, &shapes)),
    };
    read.ok_or_else(|| {
        let answers = clues.answers.iter().map(|answer| format!("{} {:?}", crate::graph::short(&answer.name), answer.shape));
        let answers = answers.collect::<Vec<_>>().join(", ");
        ModelError::Unknown(match clues.layout {
            Some(layout) => format!("the model answers {answers}, which layout {layout:?} does not describe"),
            None => format!(
                "the model answers {answers}, which is no layout that is known; is it a detector, a classifier or a text \
                 recogniser? If it is of a known family, give its layout"
            ),
        })
    })
}

/// What the layout may be, the likeliest first.
fn guesses(clues: &Clues<'_>) -> &'static [Layout] {
    let is_strip = clues.height <= 64 && clues.width >= 2 * clues.height;
    match clues.task {
        Some(Task::Classify) => &[Layout::Classes],
        Some(Task::Text) => &[Layout::Ctc],
        None if is_strip => &[Layout::Classes, Layout::Ctc],
        Some(Task::Detect) if clues.is_ultralytics => &[Layout::EndToEnd, Layout::Yolo],
        Some(Task::Detect) | None => &[
            Layout::Classes,
            Layout::Ssd,
            Layout::Grid,
            Layout::Nanodet,
            Layout::Yolox,
            Layout::YoloAnchors,
            Layout::EndToEnd,
            Layout::Yolo,
        ],
    }
}

fn scales(clues: &Clues<'_>, strides: &[u32]) -> Vec<Scale> {
    let of = |stride: &u32| {
        let (columns, rows) = (clues.width.div_ceil(*stride) as usize, clues.height.div_ceil(*stride) as usize);
        let stride = *stride as f32;
        Scale { columns, rows, stride: (stride, stride) }
    };
    strides.iter().map(of).collect()
}

fn cells(scales: &[Scale]) -> usize {
    scales.iter().map(Scale::cells).sum()
}

fn of_layout(clues: &Clues<'_>, layout: Layout, shapes: &[&[usize]]) -> Option<Read> {
    let three = scales(clues, &[8, 16, 32]);
    let is_task = |task| clues.task.is_none_or(|said| said == task);
    match (layout, shapes) {
        (Layout::Classes, [[1, classes] | [1, classes, 1, 1]]) if is_task(Task::Classify) => {
            Some(Read::Classes { classes: *classes, is_probability: clues.is_probability })
        }
        (Layout::Yolo, [[1, rows, columns]]) => {
            // Anchors are many, and classes few.
            let is_row = rows > columns;
            let (values, anchors) = if is_row { (columns, rows) } else { (rows, columns) };
            (*values > 4).then(|| Read::Yolo { classes: values - 4, anchors: *anchors, is_row })
        }
        (Layout::YoloAnchors, [[1, anchors, values]]) if *values > 5 => {
            let fits = clues.layout.is_some() || *anchors == 3 * cells(&three);
            fits.then(|| Read::YoloAnchors { classes: values - 5, anchors: *anchors })
        }
        (Layout::Yolox, [[1, anchors, values]]) if *values > 5 && *anchors == cells(&three) => {
            Some(Read::Yolox { classes: values - 5, scales: three, is_decoded: clues.has_exp })
        }
        (Layout::EndToEnd, [[1, boxes, 6]]) => Some(Read::EndToEnd { boxes: *boxes }),
        (Layout::Ssd, [a, b]) => {
            let ssd = |scores: usize, classes: &[usize], corners: usize, boxes: &[usize]| match (classes, boxes) {
                ([1, many, classes], [1, count, 4]) if many == count && *classes > 1 => {
                    Some(Read::Ssd { scores, corners, classes: classes - 1, boxes: *many })
                }
                _ => None,
            };
            ssd(0, a, 1, b).or_else(|| ssd(1, b, 0, a))
        }
        (Layout::Grid, [[1, values, rows, columns]]) if *values > 5 => {
            Some(Read::Grid { classes: values - 5, columns: *columns, rows: *rows })
        }
        (Layout::Nanodet, _) => nanodet(clues, shapes),
        (Layout::Ctc, [[1, a, b], ..]) => Some(ctc(clues, *a, *b)),
        _ => None,
    }
}

fn nanodet(clues: &Clues<'_>, shapes: &[&[usize]]) -> Option<Read> {
    // NanoDet-Plus, one output: 80 classes and 4 x 8 bins of four grids.
    if let [[1, all, values]] = shapes {
        let scales = scales(clues, &[8, 16, 32, 64]);
        let classes = values.checked_sub(32).filter(|classes| *classes > 0)?;
        if *all != cells(&scales) {
            return None;
        }
        let mut before = 0;
        let part = |scale: Scale| {
            let begin = before * values;
            before += scale.cells();
            Part { scale, scores: (0, begin, *values), distances: (0, begin + classes, *values) }
        };
        let parts = scales.into_iter().map(part).collect();
        return Some(Read::Nanodet { parts, bins: 8, classes, centre: 0.0 });
    }
    // NanoDet, two outputs for each grid, in any order.
    let (mut parts, mut classes) = (Vec::new(), None);
    for scale in scales(clues, &[8, 16, 32, 64]) {
        let of = |is_wanted: &dyn Fn(usize) -> bool| {
            let fits =
                |shape: &&[usize]| matches!(shape, [1, cells, values] if *cells == scale.cells() && is_wanted(*values));
            let at = shapes.iter().position(fits)?;
            Some((at, shapes[at][2]))
        };
        let (Some(distances), Some(scores)) = (of(&|values| values == 32), of(&|values| values != 32)) else {
            continue;
        };
        if classes.is_some_and(|classes| classes != scores.1) {
            return None;
        }
        classes = Some(scores.1);
        parts.push(Part { scale, scores: (scores.0, 0, scores.1), distances: (distances.0, 0, 32) });
    }
    if parts.len() * 2 != shapes.len() {
        return None;
    }
    Some(Read::Nanodet { parts, bins: 8, classes: classes?, centre: 0.5 })
}

/// Which axis is the class? The one that the names fit, else the longer one.
fn ctc(clues: &Clues<'_>, a: usize, b: usize) -> Read {
    let fits = |classes: usize| clues.labels.is_some_and(|labels| (labels..=labels + 2).contains(&classes));
    let is_column = if fits(a) == fits(b) { a > b } else { fits(a) };
    let (steps, classes) = if is_column { (b, a) } else { (a, b) };
    let blank = clues.blank.unwrap_or(if is_column { Blank::Last } else { Blank::First });
    let blank = if blank == Blank::First { 0 } else { classes - 1 };
    Read::Ctc { steps, classes, is_column, is_probability: clues.is_probability, blank }
}

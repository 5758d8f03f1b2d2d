//! Pictures for subcommands that look at them: read from a file, looked at, drawn on.

use std::path::{Path, PathBuf};

use clap::Args;
use edgecam_media::parameter_sets::VideoSignal;
use edgecam_vision::{Description, Detection, Model, Planes};
use openh264::formats::YUVSource;

use crate::capture::test_pattern::font;
use crate::decode::jpeg::{self, Jpeg};
use crate::encode::frame::{self, Frame, View};

/// A description is some lines of YAML.
const MOST_DESCRIPTION: u64 = 1 << 20;
/// A model is some MB, the largest that a small device runs some dozens.
const MOST_MODEL: u64 = 512 << 20;
/// Luma, U, V; one for each class in turn, as far apart as can be.
const COLOURS: [[u8; 3]; 6] =
    [[145, 54, 34], [210, 16, 146], [81, 90, 240], [170, 166, 16], [106, 202, 222], [41, 240, 110]];

/// Which model, and how it is to be read.
#[derive(Args)]
pub(super) struct Given {
    /// An ONNX file. Without it: the built-in demonstration, which sees drawn circles, squares and triangles alone
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// A YAML or JSON file that describes the model, where it does not do so itself (layout, labels, colours, …)
    #[arg(long, value_name = "FILE")]
    description: Option<PathBuf>,
}

impl Given {
    /// Of the same words in another subcommand.
    pub(super) fn new(model: Option<PathBuf>, description: Option<PathBuf>) -> Self {
        Self { model, description }
    }

    /// The bytes of the model, and what is said of it.
    pub(super) fn read(&self) -> Result<(Vec<u8>, Description), String> {
        let description = match &self.description {
            None => Description::default(),
            Some(path) => {
                let text = read(path, MOST_DESCRIPTION)?;
                let text = String::from_utf8(text).map_err(|_| format!("{}: it is not text", path.display()))?;
                serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?
            }
        };
        let bytes = match &self.model {
            None => Model::shapes_file().to_vec(),
            Some(path) => read(path, MOST_MODEL)?,
        };
        Ok((bytes, description))
    }

    /// Loads it.
    pub(super) fn load(&self) -> Result<Model, String> {
        let (bytes, description) = self.read()?;
        Model::load(&bytes, &description).map_err(|error| format!("{}: {error}", self.name()))
    }

    /// For a message.
    pub(super) fn name(&self) -> String {
        self.model.as_ref().map_or_else(|| "the built-in model".to_owned(), |path| path.display().to_string())
    }
}

/// A file that is not larger than `most` bytes.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(at)?.len();
    if size > most {
        return Err(format!("{}: {size} bytes are too many; at most {most} are read", path.display()));
    }
    std::fs::read(path).map_err(at)
}

/// What a model is given of a picture.
pub(super) fn planes(picture: View<'_>, signal: VideoSignal) -> Result<Planes<'_>, String> {
    let View { width, height, y, u, v, strides } = picture;
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    let planes = Planes::new([y, u, v], (strides.0, strides.1, strides.1), side(width), side(height));
    Ok(planes.map_err(|error| error.to_string())?.full_range(signal.full_range).bt709(signal.bt709))
}

/// A copy to draw on, in limited range: what the JPEG encoder takes.
pub(super) fn copy(picture: View<'_>, full_range: bool) -> Option<Frame> {
    let (width, height) = (picture.width & !1, picture.height & !1);
    let mut frame = Frame::black(u32::try_from(width).ok()?, u32::try_from(height).ok()?)?;
    let frame::Planes { y, u, v } = frame.planes_mut();
    // BT.601 §2.5.3: 219 and 224 of 255 levels.
    let luma = |value: u8| if full_range { (16 + (u32::from(value) * 219 + 127) / 255) as u8 } else { value };
    let chroma = |value: u8| if full_range { (16 + (u32::from(value) * 224 + 127) / 255) as u8 } else { value };
    let planes = [
        (y, picture.y, picture.strides.0, width, &luma as &dyn Fn(u8) -> u8),
        (u, picture.u, picture.strides.1, width / 2, &chroma),
        (v, picture.v, picture.strides.1, width / 2, &chroma),
    ];
    for (to, from, stride, width, level) in planes {
        for (to, from) in to.chunks_exact_mut(width).zip(from.chunks(stride)) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = level(*from));
        }
    }
    Some(frame)
}

/// Draws each box, and its number from 1 as in the table.
pub(super) fn draw(frame: &mut Frame, detections: &[Detection]) {
    let thick = (frame.height() / 240).max(1) * 2;
    for (index, detection) in detections.iter().enumerate() {
        let colour = COLOURS[detection.class as usize % COLOURS.len()];
        let edge = |value: f32, most: usize| (value.max(0.0) as usize).min(most);
        let (x1, x2) = (edge(detection.bbox.x1, frame.width()), edge(detection.bbox.x2, frame.width()));
        let (y1, y2) = (edge(detection.bbox.y1, frame.height()), edge(detection.bbox.y2, frame.height()));
        fill(frame, (x1, y1), (x2, y1 + thick), colour);
        fill(frame, (x1, y2.saturating_sub(thick)), (x2, y2), colour);
        fill(frame, (x1, y1), (x1 + thick, y2), colour);
        fill(frame, (x2.saturating_sub(thick), y1), (x2, y2), colour);
        number(frame, (x1 + thick, y1 + thick), index + 1, colour);
    }
}

fn number(frame: &mut Frame, (left, top): (usize, usize), number: usize, colour: [u8; 3]) {
    let scale = (frame.height() / 180).max(1) * 2;
    for (index, digit) in number.to_string().bytes().enumerate() {
        let left = left + index * (font::WIDTH + 1) * scale;
        for (row, bits) in font::glyph(digit).into_iter().enumerate() {
            for column in (0..font::WIDTH).filter(|column| bits & (0b10000 >> column) != 0) {
                let from = (left + column * scale, top + row * scale);
                fill(frame, from, (from.0 + scale, from.1 + scale), colour);
            }
        }
    }
}

fn fill(frame: &mut Frame, (x1, y1): (usize, usize), (x2, y2): (usize, usize), [y, u, v]: [u8; 3]) {
    let (width, height) = (frame.width(), frame.height());
    let (x1, x2, y1, y2) = (x1.min(width), x2.min(width), y1.min(height), y2.min(height));
    let planes = frame.planes_mut();
    for (plane, value, step) in [(planes.y, y, 1), (planes.u, u, 2), (planes.v, v, 2)] {
        for row in plane.chunks_exact_mut(width / step).take(y2 / step).skip(y1 / step) {
            if let Some(part) = row.get_mut(x1 / step..x2 / step) {
                part.fill(value);
            }
        }
    }
}

/// The whole frame as a JPEG.
pub(super) fn encode(frame: &Frame) -> Result<Jpeg, String> {
    jpeg::encode(&frame.view(), u32::MAX)
}

/// A decoder's picture without its decoder.
pub(super) fn view(picture: &impl YUVSource) -> View<'_> {
    let ((width, height), strides) = (picture.dimensions(), picture.strides());
    let (y, u, v) = (picture.y(), picture.u(), picture.v());
    View { width, height, y, u, v, strides: (strides.0, strides.1) }
}

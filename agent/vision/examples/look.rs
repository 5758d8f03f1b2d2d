//! What a model sees in a raw picture (I420, limited range): for comparing with other runtimes.
//!
//! usage: look MODEL.onnx PICTURE.yuv WIDTH HEIGHT [THRESHOLD [DESCRIPTION.json]]

use std::error::Error;
use std::io::Write;

use edgecam_vision::{Description, Model, Output, Planes};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, picture, width, height, more @ ..] = arguments.as_slice() else {
        return Err("usage: look MODEL.onnx PICTURE.yuv WIDTH HEIGHT [THRESHOLD [DESCRIPTION.json]]".into());
    };
    let threshold = more.first().map_or(Ok(0.5), |text| text.parse())?;
    let description = match more.get(1) {
        Some(file) => serde_json::from_slice(&std::fs::read(file)?)?,
        None => Description::default(),
    };
    let model = Model::load(&std::fs::read(model)?, &description)?;
    let (width, height): (u32, u32) = (width.parse()?, height.parse()?);
    let yuv = std::fs::read(picture)?;
    let (luma, chroma) = ((width * height) as usize, (width.div_ceil(2) * height.div_ceil(2)) as usize);
    let (y, u, v) = (&yuv[..luma], &yuv[luma..luma + chroma], &yuv[luma + chroma..]);
    let half = width.div_ceil(2) as usize;
    let planes = Planes::new([y, u, v], (width as usize, half, half), width, height)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {:?}, cut: {}, {:?}", model.task().name(), model.layout(), model.is_cut(), model.input())?;
    let mut runner = model.runner()?;
    let mut times: Vec<_> = (0..10)
        .map(|_| {
            let began = std::time::Instant::now();
            let output = runner.run(&planes, None, threshold);
            (began.elapsed(), output)
        })
        .collect();
    times.sort_by_key(|(time, _)| *time);
    let (time, output) = times.swap_remove(times.len() / 2);
    writeln!(out, "{time:?}")?;
    match output? {
        Output::Detections(detections) => {
            for seen in detections {
                let (name, bbox) = (model.label(seen.class), seen.bbox);
                writeln!(
                    out,
                    "{name} {:.4} {:.1} {:.1} {:.1} {:.1}",
                    seen.confidence, bbox.x1, bbox.y1, bbox.x2, bbox.y2
                )?;
            }
        }
        Output::Classes(classes) => {
            for seen in classes {
                writeln!(out, "{} {:.4}", model.label(seen.class), seen.confidence)?;
            }
        }
        Output::Text(text) => writeln!(out, "{:?} {:.4}", text.text, text.confidence)?,
    }
    Ok(())
}

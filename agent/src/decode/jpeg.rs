//! A decoded picture as a JPEG, made smaller where that is asked for.

use jpeg_encoder::{Encoder, ImageBuffer, JpegColorType, SamplingFactor};
use openh264::formats::YUVSource;

const QUALITY: u8 = 80;

/// A JPEG file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Jpeg {
    /// The file.
    pub bytes: Vec<u8>,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

/// Encodes `picture`, at most `max_width` pixels wide: every n-th of its width, the pixels between averaged.
pub fn encode(picture: &impl YUVSource, max_width: u32) -> Result<Jpeg, String> {
    let (width, height) = picture.dimensions();
    let step = width.div_ceil((max_width as usize).max(1)).max(1);
    let size = |pixels: usize| u16::try_from(pixels / step).ok().filter(|pixels| *pixels > 0);
    let (Some(new_width), Some(new_height)) = (size(width), size(height)) else {
        return Err(format!("a picture of {width}x{height} does not fit into a JPEG {max_width} pixels wide"));
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let scaled = Scaled { picture, step, width: new_width, height: new_height };
    encoder.encode_image(scaled).map_err(|error| error.to_string())?;
    Ok(Jpeg { bytes, width: new_width, height: new_height })
}

struct Scaled<'a, P> {
    picture: &'a P,
    step: usize,
    width: u16,
    height: u16,
}

impl<P: YUVSource> ImageBuffer for Scaled<'_, P> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        JpegColorType::Ycbcr
    }

    fn width(&self) -> u16 {
        self.width
    }

    fn height(&self) -> u16 {
        self.height
    }

    fn fill_buffers(&self, y: u16, buffers: &mut [Vec<u8>; 4]) {
        let (y, step) = (usize::from(y), self.step);
        let (luma_stride, u_stride, v_stride) = self.picture.strides();
        let [luma, u, v, _] = buffers;
        for x in 0..usize::from(self.width) {
            let row = |index: usize| {
                let begin = (y * step + index) * luma_stride + x * step;
                self.picture.y()[begin..begin + step].iter().map(|&value| u32::from(value)).sum::<u32>()
            };
            let sum: u32 = (0..step).map(row).sum();
            luma.push(full_range((sum / (step * step) as u32) as u8, 16.0, 219.0, 0.0));
            let chroma = |plane: &[u8], stride: usize| {
                let value = plane[(y * step / 2) * stride + x * step / 2];
                full_range(value, 128.0, 224.0, 128.0)
            };
            u.push(chroma(self.picture.u(), u_stride));
            v.push(chroma(self.picture.v(), v_stride));
        }
    }
}

/// Video uses a part of the range of a byte (BT.709 §3.5), JPEG all of it (JFIF).
fn full_range(value: u8, zero: f32, span: f32, offset: f32) -> u8 {
    ((f32::from(value) - zero) * 255.0 / span + offset).round().clamp(0.0, 255.0) as u8
}

//! JPEG pictures of a camera to I420, to be encoded: Motion JPEG over USB, RTP or a FIFO.
//!
//! Cameras leave out the Huffman tables (each picture uses the standard's own, ITU-T T.81 annex K.3) and pad or cut what
//! they send. What cannot be decoded is an error of that picture alone.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::DecodeError;
use crate::encode::frame::{Frame, View};

/// The largest side of a picture, in pixels: the encoder takes no more than 3840.
const MOST_SIDE: usize = 4096;
/// Start of image, and an APP0 segment "AVI1": it says that tables that are missing are the standard's.
const BEGIN_WITH_STANDARD_TABLES: &[u8] =
    &[0xff, 0xd8, 0xff, 0xe0, 0, 16, b'A', b'V', b'I', b'1', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Decodes one camera's pictures; keeps its memory from one to the next.
#[derive(Default)]
pub struct JpegDecoder420 {
    complete: Vec<u8>,
    interleaved: Vec<u8>,
    frame: Option<Frame>,
}

impl JpegDecoder420 {
    /// Decodes one picture: BT.601, full range (JFIF). Odd sizes lose their last row or column.
    pub fn decode(&mut self, jpeg: &[u8]) -> Result<View<'_>, DecodeError> {
        let Self { complete, interleaved, frame } = self;
        let jpeg = if has_huffman_tables(jpeg) {
            jpeg
        } else {
            complete.clear();
            complete.extend_from_slice(BEGIN_WITH_STANDARD_TABLES);
            complete.extend_from_slice(jpeg.get(2..).unwrap_or_default());
            complete
        };
        let options = DecoderOptions::default().set_max_width(MOST_SIDE).set_max_height(MOST_SIDE);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
        let refused =
            |error: &dyn std::fmt::Display| DecodeError(format!("not a JPEG picture that can be used: {error}"));
        decoder.decode_headers().map_err(|error| refused(&error))?;
        let is_grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
        let wanted = if is_grey { ColorSpace::Luma } else { ColorSpace::YCbCr };
        decoder.set_options(options.jpeg_set_out_colorspace(wanted));
        let info = decoder.info().ok_or_else(|| refused(&"it has no size"))?;
        let (width, height) = (usize::from(info.width), usize::from(info.height));
        let channels = if is_grey { 1 } else { 3 };
        interleaved.resize(width * height * channels, 0);
        decoder.decode_into(interleaved).map_err(|error| refused(&error))?;
        let (even_width, even_height) = (width & !1, height & !1);
        if frame.as_ref().is_none_or(|frame| (frame.width(), frame.height()) != (even_width, even_height)) {
            *frame = Frame::black(even_width as u32, even_height as u32);
        }
        let frame = frame.as_mut().ok_or_else(|| refused(&format_args!("{width}x{height} pixels")))?;
        if is_grey {
            let planes = frame.planes_mut();
            // The picture before may have had colour.
            planes.u.fill(128);
            planes.v.fill(128);
            for (row, out) in interleaved.chunks_exact(width).zip(planes.y.chunks_exact_mut(even_width)) {
                out.copy_from_slice(&row[..even_width]);
            }
        } else {
            subsample(interleaved, width, frame);
        }
        Ok(frame.view())
    }
}

/// Whether a DHT segment comes before the first scan. A JPEG is a row of segments, each with its length, up to there.
fn has_huffman_tables(jpeg: &[u8]) -> bool {
    let mut rest = jpeg.get(2..).unwrap_or_default();
    while let [0xff, marker, after @ ..] = rest {
        match *marker {
            0xc4 => return true,
            0xda => return false,
            // Fill bytes.
            0xff => rest = &rest[1..],
            _ => {
                let Some(length) = after.first_chunk::<2>() else { return true };
                let Some(next) = after.get(usize::from(u16::from_be_bytes(*length))..) else { return true };
                rest = next;
            }
        }
    }
    // Not a JPEG, or cut short: the decoder has the words for it.
    true
}

/// Luma as it is, chroma as the mean of four pixels.
fn subsample(interleaved: &[u8], width: usize, frame: &mut Frame) {
    let (even_width, half) = (frame.width(), frame.width() / 2);
    let planes = frame.planes_mut();
    let rows = interleaved.chunks_exact(width * 6);
    let chroma = planes.u.chunks_exact_mut(half).zip(planes.v.chunks_exact_mut(half));
    for ((rows, luma), (u, v)) in rows.zip(planes.y.chunks_exact_mut(2 * even_width)).zip(chroma) {
        let (upper, lower) = rows.split_at(width * 3);
        let (luma_upper, luma_lower) = luma.split_at_mut(even_width);
        let pixels = upper.as_chunks::<6>().0.iter().zip(lower.as_chunks::<6>().0);
        let luma = luma_upper.as_chunks_mut::<2>().0.iter_mut().zip(luma_lower.as_chunks_mut::<2>().0);
        for ((((a, b), (above, below)), u), v) in pixels.zip(luma).zip(u).zip(v) {
            *above = [a[0], a[3]];
            *below = [b[0], b[3]];
            let mean = |at: usize| {
                let sum = u16::from(a[at]) + u16::from(a[at + 3]) + u16::from(b[at]) + u16::from(b[at + 3]);
                ((sum + 2) / 4) as u8
            };
            (*u, *v) = (mean(1), mean(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

    use super::*;

    /// Grey that rises to the right, with a little red all over.
    fn jpeg(width: u16, height: u16, sampling: SamplingFactor) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, 95);
        encoder.set_sampling_factor(sampling);
        let pixel = |x: u16| [40 + (x / 2).min(150) as u8, 120, 150];
        let data: Vec<u8> = (0..height).flat_map(|_| (0..width).flat_map(pixel)).collect();
        encoder.encode(&data, width, height, ColorType::Ycbcr).expect("encodes");
        out
    }

    fn without_tables(jpeg: &[u8]) -> Vec<u8> {
        let mut out = jpeg.to_vec();
        while let Some(at) = out.windows(2).position(|marker| marker == [0xff, 0xc4]) {
            let length = usize::from(u16::from_be_bytes([out[at + 2], out[at + 3]]));
            out.drain(at..at + 2 + length);
        }
        out
    }

    fn check(view: View<'_>, width: usize, height: usize) {
        assert_eq!((view.width, view.height), (width, height));
        for (x, y) in [(0, 0), (width / 2, height / 2), (width - 1, height - 1)] {
            let luma = view.y[y * view.strides.0 + x];
            assert!(luma.abs_diff(40 + (x / 2).min(150) as u8) <= 3, "luma {luma} at {x},{y}");
            let at = y / 2 * view.strides.1 + x / 2;
            assert!(view.u[at].abs_diff(120) <= 2 && view.v[at].abs_diff(150) <= 2, "{} {}", view.u[at], view.v[at]);
        }
    }

    #[test]
    fn what_cameras_send_is_decoded() {
        let mut decoder = JpegDecoder420::default();
        for sampling in [SamplingFactor::F_2_2, SamplingFactor::F_2_1, SamplingFactor::F_1_1] {
            for (width, height) in [(64, 48), (640, 360), (66, 50), (65, 49)] {
                let jpeg = jpeg(width, height, sampling);
                let even = (usize::from(width) & !1, usize::from(height) & !1);
                check(decoder.decode(&jpeg).expect("decodes"), even.0, even.1);
                let bare = without_tables(&jpeg);
                assert!(has_huffman_tables(&jpeg) && !has_huffman_tables(&bare));
                check(decoder.decode(&bare).expect("decodes without tables"), even.0, even.1);
                let padded = [&jpeg[..], &[0; 100]].concat();
                check(decoder.decode(&padded).expect("decodes with padding"), even.0, even.1);
            }
        }
    }

    #[test]
    fn rubbish_is_an_error_and_no_panic() {
        let jpeg = jpeg(64, 48, SamplingFactor::F_2_2);
        let mut decoder = JpegDecoder420::default();
        for rubbish in [&[][..], &[0xff, 0xd8], b"not a picture", &[0xff; 5000], &jpeg[..40]] {
            assert!(decoder.decode(rubbish).is_err(), "{} bytes", rubbish.len());
        }
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..3000 {
            let mut bad = jpeg.clone();
            for _ in 0..rng.usize(1..8) {
                let at = rng.usize(2..bad.len());
                bad[at] = rng.u8(..);
            }
            bad.truncate(rng.usize(2..=bad.len()));
            // Some still decode: what counts is that it comes back, and with a picture of a sane size.
            if let Ok(view) = decoder.decode(&bad) {
                assert!(view.width <= MOST_SIDE && view.height <= MOST_SIDE);
            }
        }
    }

    #[test]
    fn a_huge_size_is_refused_before_memory_is_taken() {
        let mut jpeg = jpeg(64, 48, SamplingFactor::F_2_2);
        let at = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).expect("a frame header");
        jpeg[at + 5..at + 9].fill(0xff);
        let error = JpegDecoder420::default().decode(&jpeg).err().expect("refused");
        assert!(error.to_string().contains("JPEG"), "{error}");
    }
}

//! Encodes raw pictures as a camera's thread does, and says what it cost: for `tests/bench/run encode`.
//!
//! `bench_encode FRAMES WIDTH HEIGHT FPS BITRATE LAYOUT OUTPUT`: FRAMES is raw video in LAYOUT (yu12 or yuyv), OUTPUT gets
//! Annex B. Prints one line of JSON.

#![allow(clippy::print_stdout, reason = "a small program of the benchmark")]

use std::io::Write;
use std::time::Duration;

use edgecam::encode::coder::Coder;
use edgecam::encode::convert::{Layout, Raw, to_i420};
use edgecam::encode::{Colour, Encoding};
use edgecam_media::Codec;
use edgecam_media::nal::LengthPrefixed;
use tokio::sync::watch;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [frames, width, height, fps, bitrate, layout, output] = &arguments[..] else {
        return Err("FRAMES WIDTH HEIGHT FPS BITRATE LAYOUT OUTPUT".into());
    };
    let (width, height, rate): (usize, usize, u32) = (width.parse()?, height.parse()?, fps.parse()?);
    let layout = if layout == "yuyv" { Layout::Yuyv } else { Layout::Yu12 };
    let encoding = Encoding {
        width: width as u32,
        height: height as u32,
        frame_rate: rate.into(),
        gop: rate,
        bitrate: bitrate.parse()?,
    };
    let (requests, watch) = watch::channel(0_u64);
    let mut coder = Coder::new(encoding.settings(Colour::Bt601), watch)?;
    let data = std::fs::read(frames)?;
    let stride = layout.row(width);
    let mut scratch = None;
    let mut out = std::fs::File::create(output)?;
    let (mut count, mut bytes, mut asked, mut answered) = (0_u32, 0_u64, 0_u32, 0_u32);
    let before = cpu()?;
    for data in data.chunks_exact(layout.bytes(stride, height)) {
        // In the middle of a GOP, where nothing but the request makes an IDR; seldom, as in life: each costs bits.
        let is_asked = count % (4 * rate) == rate / 2 && count > rate;
        if is_asked {
            requests.send_modify(|count| *count += 1);
            asked += 1;
        }
        let view = to_i420(Raw { layout, width, height, stride, data }, &mut scratch)?;
        let at = Duration::from_secs_f64(f64::from(count) / f64::from(rate));
        let picture = coder.encode(view, at)?.ok_or("no picture for a frame")?;
        answered += u32::from(is_asked && picture.is_idr);
        bytes += picture.data.len() as u64;
        if let Some(sets) = &picture.parameter_sets {
            out.write_all(&sets.annex_b())?;
        }
        for unit in LengthPrefixed::new(Codec::H264, &picture.data).flatten() {
            out.write_all(&[0, 0, 0, 1])?;
            out.write_all(unit.bytes())?;
        }
        count += 1;
    }
    let cost = cpu()? - before;
    let bits = bytes as f64 * 8.0 / (f64::from(count) / f64::from(rate));
    println!(
        "{{\"frames\": {count}, \"cpu_ms_per_frame\": {:.3}, \"bitrate\": {bits:.0}, \"idrs_asked\": {asked}, \
         \"idrs_at_once\": {answered}}}",
        cost / f64::from(count) * 1000.0
    );
    Ok(())
}

/// CPU seconds of this process, user and system.
fn cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanos: f64 = stat.split_whitespace().next().ok_or("no time")?.parse()?;
    Ok(nanos / 1e9)
}

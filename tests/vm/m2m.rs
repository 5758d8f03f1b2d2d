//! A program for inside the virtual machine: puts drawn pictures through a memory-to-memory encoder with the agent's own
//! code, and tells what came out as JSON. `m2m_tool FOURCC WIDTH HEIGHT PICTURES GOP`.

#![allow(clippy::print_stdout, reason = "a small program of the tests")]

use std::time::Duration;

use edgecam::capture::v4l2::ioctl::controls;
use edgecam::capture::v4l2::ioctl::m2m::{Coded, Coder, Shape};
use edgecam::encode::m2m::find;
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// V4L2_CID_MPEG_VIDEO_GOP_SIZE.
const GOP_SIZE: u32 = 0x0099_09cb;
const PATIENCE: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [fourcc, width, height, pictures, gop] = &arguments[..] else {
        return Err("FOURCC WIDTH HEIGHT PICTURES GOP".into());
    };
    let coded: [u8; 4] = fourcc.as_bytes().try_into()?;
    let (pictures, gop): (u64, i64) = (pictures.parse()?, gop.parse()?);
    let device = find(coded).ok_or("no device makes it")?;
    let raw = Shape { fourcc: device.raw, width: width.parse()?, height: height.parse()?, stride: 0 };
    let other = Coder::open(&device.path, raw, *b"NONE", 15.0, |_| ()).err().map(|error| error.to_string());
    let mut control = String::new();
    let mut coder = Coder::open(&device.path, raw, coded, 15.0, |device| {
        control =
            format!("{:?}", controls::set(device, GOP_SIZE, gop).and_then(|()| controls::value(device, GOP_SIZE)));
    })?;
    let mut found = Vec::new();
    let keep = |coded: Coded, bytes: &[u8]| (coded, bytes.to_vec());
    for number in 0..pictures {
        let at = Duration::from_millis(1000 + number * 66);
        let drawn = coder.put(at, |to| draw(to, coder_size(raw), number))?;
        if !drawn {
            return Err(format!("no buffer for picture {number}").into());
        }
        found.extend(coder.take(PATIENCE, keep)?);
    }
    // So many without taking any: then none is free.
    let mut ahead = 0;
    while ahead < 20 && coder.put(Duration::from_secs(60 + ahead), |to| draw(to, coder_size(raw), ahead))? {
        ahead += 1;
    }
    coder.drain()?;
    let mut drained = 0;
    let mut has_last = false;
    while let Some((coded, bytes)) = coder.take(PATIENCE, keep)? {
        drained += u64::from(!bytes.is_empty());
        if coded.is_last {
            has_last = true;
            break;
        }
    }
    let times: Vec<u128> = found.iter().map(|(coded, _)| coded.at.as_millis()).collect();
    let heads: Vec<String> =
        found.iter().map(|(_, bytes)| bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()).collect();
    let damaged = found.iter().filter(|(coded, _)| coded.is_damaged).count();
    let sizes: Vec<usize> = found.iter().map(|(_, bytes)| bytes.len()).collect();
    let answer = json!({
        "device": device.name, "path": device.path, "raw": String::from_utf8_lossy(&device.raw), "other": other,
        "control": control, "times": times, "heads": heads, "sizes": sizes, "damaged": damaged,
        "ahead": ahead, "drained": drained, "has_last": has_last,
    });
    println!("{answer}");
    Ok(())
}

fn coder_size(raw: Shape) -> usize {
    raw.width as usize * raw.height as usize * 3 / 2
}

/// A grey ramp that moves.
fn draw(to: &mut [u8], size: usize, number: u64) -> usize {
    let size = size.min(to.len());
    for (at, byte) in to[..size].iter_mut().enumerate() {
        *byte = (at as u64 / 8 + number * 4) as u8;
    }
    size
}

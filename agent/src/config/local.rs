//! Cameras at this machine, as written → as used.

use std::path::PathBuf;

use super::check::{Result, seconds, span, wrong};
use super::source::{Mxuvc, Source, V4l2, V4l2Device, V4l2Format, mxuvc_range};
use super::{Camera, written};
use crate::encode::Encoding;

/// Where the vendor's tool is on a DeepLens.
pub(crate) const DEEPLENS_TOOL: &str = "/opt/awscam/camera/installed/bin/mxuvc";
/// What a DeepLens comes with.
const DEEPLENS: Encoding = Encoding { width: 1920, height: 1080, frame_rate: 24.0, gop: 24, bitrate: 2_000_000 };

/// What a camera gives that is asked for nothing else.
const USUAL: Encoding = Encoding { width: 1280, height: 720, frame_rate: 15.0, gop: 15, bitrate: 1_500_000 };

/// An encoding with what is not written as `usual`, and one IDR a second.
pub(super) fn encoding(
    (width, height): (Option<u32>, Option<u32>),
    frame_rate: Option<f64>,
    gop: Option<u32>,
    bitrate: Option<u32>,
    usual: Encoding,
) -> Encoding {
    let frame_rate = frame_rate.unwrap_or(usual.frame_rate);
    Encoding {
        width: width.unwrap_or(usual.width),
        height: height.unwrap_or(usual.height),
        frame_rate,
        gop: gop.unwrap_or_else(|| frame_rate.round().max(1.0) as u32),
        bitrate: bitrate.unwrap_or(usual.bitrate),
    }
}

pub(super) fn v4l2(written: written::V4l2, key: &str) -> Result<Source> {
    let format = match written.format.as_deref() {
        None | Some("auto") => V4l2Format::Auto,
        Some("h264") => V4l2Format::H264,
        Some("mjpeg") => V4l2Format::Mjpeg,
        Some("yuyv") => V4l2Format::Yuyv,
        Some("nv12") => V4l2Format::Nv12,
        Some("yu12") => V4l2Format::Yu12,
        Some(other) => {
            let message = format!("`{other}` is not auto, h264, mjpeg, yuyv, nv12 or yu12");
            return wrong(&format!("{key}.format"), message);
        }
    };
    let usual = Encoding { bitrate: 1_500_000, ..USUAL };
    let size = (written.width, written.height);
    let encoding = encoding(size, written.frame_rate, written.gop, written.bitrate, usual);
    encoding.check().or_else(|error| wrong(key, error))?;
    Ok(Source::V4l2(V4l2 {
        device: device(written.device.as_deref().unwrap_or("auto")),
        format,
        encoding,
        controls: written.controls,
        frame_timeout: span(key, "frame_timeout", written.frame_timeout, seconds(10), (seconds(1), seconds(300)))?,
    }))
}

/// How a person names a device.
pub(crate) fn device(text: &str) -> V4l2Device {
    match text.trim() {
        "auto" | "" => V4l2Device::Auto,
        path if path.starts_with('/') => V4l2Device::Path(PathBuf::from(path)),
        other => match other.parse() {
            Ok(index) => V4l2Device::Index(index),
            Err(_) => V4l2Device::Name(other.to_owned()),
        },
    }
}

/// Two cameras that take the first device there is would fight for it.
pub(super) fn one_auto(cameras: &[Camera]) -> Result<()> {
    let is_auto = |camera: &&Camera| matches!(&camera.source, Source::V4l2(v4l2) if v4l2.device == V4l2Device::Auto);
    match cameras.iter().filter(is_auto).nth(1) {
        None => Ok(()),
        Some(second) => wrong(
            &format!("cameras.{}.v4l2.device", second.name),
            "another camera takes the first device too (`auto`): name the devices; `edgecam devices` lists them",
        ),
    }
}

pub(super) fn mxuvc(written: written::Mxuvc, key: &str) -> Result<Source> {
    let channel = written.channel.unwrap_or(1);
    if !(1..=7).contains(&channel) {
        return wrong(&format!("{key}.channel"), "must be 1 to 7");
    }
    let usual = Encoding { bitrate: 2_000_000, ..USUAL };
    let size = (written.width, written.height);
    let encoding = encoding(size, written.frame_rate, written.gop, written.bitrate, usual);
    mxuvc_range(&encoding).or_else(|error| wrong(key, error))?;
    if written.frame_size.is_some_and(|bytes| !(1_000..=10_000_000).contains(&bytes)) {
        return wrong(&format!("{key}.frame_size"), "must be 1000 to 10000000 bytes");
    }
    let tool = written.tool.unwrap_or_else(|| PathBuf::from(DEEPLENS_TOOL));
    if !tool.is_absolute() {
        return wrong(&format!("{key}.tool"), "must be a full path: the tool may run with the rights of root");
    }
    Ok(Source::Mxuvc(Mxuvc {
        encoding,
        frame_size: written.frame_size,
        channel,
        tool,
        command_prefix: written.command_prefix,
        stream: written.stream.unwrap_or_else(|| PathBuf::from(format!("/opt/awscam/out/ch{channel}_out.h264"))),
        restore: written.restore_at_exit.then_some(DEEPLENS),
        frame_timeout: span(key, "frame_timeout", written.frame_timeout, seconds(10), (seconds(1), seconds(300)))?,
    }))
}

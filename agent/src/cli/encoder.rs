//! `edgecam encoder`: sets the encoder of a DeepLens camera through the vendor's tool, with its ranges checked.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::EXIT_CONFIG;
use super::output::{fail, say};
use crate::capture::mxuvc::tool::{Setting, Tool};
use crate::config;

#[derive(Args)]
pub(super) struct Arguments {
    /// The encoder's channel
    #[arg(long = "ch", visible_alias = "channel", default_value_t = 1)]
    channel: u8,
    /// The vendor's tool
    #[arg(long, default_value = config::DEEPLENS_TOOL)]
    tool: PathBuf,
    /// What the tool is run with, word by word: --prefix sudo --prefix -n
    #[arg(long, allow_hyphen_values = true)]
    prefix: Vec<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Frames a second, 1 to 30
    Framerate {
        /// Frames a second
        rate: u32,
    },
    /// Size of the pictures, up to 1920x1080
    Resolution {
        /// Pixels, even
        width: u32,
        /// Pixels, even
        height: u32,
    },
    /// Frames from one IDR to the next, 1 to 600
    Gop {
        /// Frames
        frames: u32,
    },
    /// Bits a second, 100000 to 20000000
    Bitrate {
        /// Bits a second
        bits: u32,
    },
    /// Most bytes of one picture
    Framesize {
        /// Bytes
        bytes: u32,
    },
    /// An IDR, now
    Iframe,
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    let setting = match arguments.what {
        What::Framerate { rate } => Setting::FrameRate(rate),
        What::Resolution { width, height } => Setting::Resolution(width, height),
        What::Gop { frames } => Setting::Gop(frames),
        What::Bitrate { bits } => Setting::Bitrate(bits),
        What::Framesize { bytes } => Setting::FrameSize(bytes),
        What::Iframe => Setting::IFrame,
    };
    if let Err(error) = setting.check() {
        return fail(EXIT_CONFIG, format_args!("{error}"));
    }
    let source = match config::mxuvc(arguments.channel, arguments.tool, arguments.prefix) {
        Ok(source) => source,
        Err(error) => return fail(EXIT_CONFIG, format_args!("{error}")),
    };
    match Tool(&source).once(setting, Duration::from_secs(5)).await {
        Ok(()) => {
            say(format_args!("channel {}: {}", source.channel, setting.words().join(" ")));
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, format_args!("{error}")),
    }
}

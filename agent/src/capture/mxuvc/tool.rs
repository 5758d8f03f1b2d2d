//! The vendor's tool `mxuvc`: one process for each setting, never through a shell.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::config::source::Mxuvc;
use crate::encode::Encoding;

/// Deadline of one call.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// One thing that the tool can set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// Frames a second.
    FrameRate(u32),
    /// Width and height in pixels.
    Resolution(u32, u32),
    /// Frames from one IDR to the next.
    Gop(u32),
    /// Bits a second.
    Bitrate(u32),
    /// Most bytes of one picture.
    FrameSize(u32),
    /// An IDR, now.
    IFrame,
}

impl Setting {
    /// The tool's words for it.
    pub fn words(self) -> Vec<String> {
        let (name, values) = match self {
            Self::FrameRate(rate) => ("framerate", vec![rate]),
            Self::Resolution(width, height) => ("resolution", vec![width, height]),
            Self::Gop(frames) => ("gop", vec![frames]),
            Self::Bitrate(bits) => ("bitrate", vec![bits]),
            Self::FrameSize(bytes) => ("framesize", vec![bytes]),
            Self::IFrame => ("iframe", vec![]),
        };
        std::iter::once(name.to_owned()).chain(values.iter().map(u32::to_string)).collect()
    }

    /// What is wrong with it, if anything is.
    pub fn check(self) -> Result<(), String> {
        let usual = Encoding { width: 1280, height: 720, frame_rate: 15.0, gop: 15, bitrate: 1_000_000 };
        let range = |encoding: Encoding| crate::config::source::mxuvc_range(&encoding);
        match self {
            Self::FrameRate(rate) => range(Encoding { frame_rate: rate.into(), ..usual }),
            Self::Resolution(width, height) => range(Encoding { width, height, ..usual }),
            Self::Gop(gop) => range(Encoding { gop, ..usual }),
            Self::Bitrate(bitrate) => range(Encoding { bitrate, ..usual }),
            Self::FrameSize(bytes) if !(1_000..=10_000_000).contains(&bytes) => {
                Err("the largest picture must be 1000 to 10000000 bytes".to_owned())
            }
            Self::FrameSize(_) | Self::IFrame => Ok(()),
        }
    }
}

/// All of an encoding, in the order in which the encoder takes it; of what is the same in `before` nothing.
pub fn settings(wanted: &Encoding, frame_size: Option<u32>, before: Option<&Encoding>) -> Vec<Setting> {
    let differs = |is_other: fn(&Encoding, &Encoding) -> bool| before.is_none_or(|before| is_other(wanted, before));
    let mut all = Vec::new();
    if differs(|a, b| a.frame_rate != b.frame_rate) {
        all.push(Setting::FrameRate(wanted.frame_rate.round() as u32));
    }
    if differs(|a, b| (a.width, a.height) != (b.width, b.height)) {
        all.push(Setting::Resolution(wanted.width, wanted.height));
    }
    if differs(|a, b| a.gop != b.gop) {
        all.push(Setting::Gop(wanted.gop));
    }
    if differs(|a, b| a.bitrate != b.bitrate) {
        all.push(Setting::Bitrate(wanted.bitrate));
    }
    if before.is_none() {
        all.extend(frame_size.map(Setting::FrameSize));
    }
    all.push(Setting::IFrame);
    all
}

/// The tool with what it is run with.
#[derive(Clone, Copy)]
pub struct Tool<'a>(pub &'a Mxuvc);

impl Tool<'_> {
    /// Sets one thing, trying twice.
    pub async fn set(&self, setting: Setting) -> Result<(), String> {
        match self.once(setting, DEADLINE).await {
            Err(_) => self.once(setting, DEADLINE).await,
            done => done,
        }
    }

    /// Sets one thing, trying once.
    pub async fn once(&self, setting: Setting, deadline: Duration) -> Result<(), String> {
        setting.check()?;
        let Mxuvc { tool, command_prefix, channel, .. } = self.0;
        let mut words: Vec<String> = command_prefix.clone();
        words.push(tool.display().to_string());
        words.extend(["--ch".to_owned(), channel.to_string()]);
        words.extend(setting.words());
        let shown = words.join(" ");
        let Some((program, arguments)) = words.split_first() else { return Ok(()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        match timeout(deadline, command.output()).await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => Err(failed(&shown, &output, command_prefix.is_empty())),
            Ok(Err(error)) => Err(format!("`{shown}` cannot be run: {error}; is `tool` the right path?")),
            Err(_) => Err(format!("`{shown}` did not end within {} s", deadline.as_secs_f32())),
        }
    }
}

/// The tool says little; without permission it says nothing but its exit status.
fn failed(shown: &str, output: &Output, has_no_prefix: bool) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let advice = if has_no_prefix {
        "; the usual reason is a missing permission: `command_prefix: [sudo, -n]` with a rule for it in sudoers, or the \
         group video"
    } else {
        ""
    };
    format!("`{shown}` failed ({}){said}{advice}", output.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODING: Encoding = Encoding { width: 1280, height: 720, frame_rate: 15.0, gop: 15, bitrate: 2_000_000 };

    fn lines(settings: &[Setting]) -> Vec<String> {
        settings.iter().map(|setting| setting.words().join(" ")).collect()
    }

    #[test]
    fn all_in_order_and_later_only_what_changes() {
        let all = settings(&ENCODING, Some(200_000), None);
        let expected =
            ["framerate 15", "resolution 1280 720", "gop 15", "bitrate 2000000", "framesize 200000", "iframe"];
        assert_eq!(lines(&all), expected);
        let changed = Encoding { bitrate: 500_000, ..ENCODING };
        assert_eq!(lines(&settings(&changed, Some(200_000), Some(&ENCODING))), ["bitrate 500000", "iframe"]);
    }

    #[test]
    fn ranges() {
        for (setting, is_fine) in [
            (Setting::FrameRate(30), true),
            (Setting::FrameRate(31), false),
            (Setting::FrameRate(0), false),
            (Setting::Resolution(858, 480), true),
            (Setting::Resolution(1921, 1080), false),
            (Setting::Gop(0), false),
            (Setting::Bitrate(99_999), false),
            (Setting::FrameSize(1), false),
            (Setting::IFrame, true),
        ] {
            assert_eq!(setting.check().is_ok(), is_fine, "{setting:?}");
        }
    }
}

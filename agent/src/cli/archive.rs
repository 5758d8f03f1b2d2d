//! `edgecam archive list|export|verify|fetch`: no archive of a camera is written to; a running agent is not disturbed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use edgecam_media::Ticks;

use super::output::{bytes, fail, say};
use super::{EXIT_CONFIG, fetch};
use crate::config::schedule::Period;
use crate::footage::archive::{self, export};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the segments of a camera
    List {
        /// The camera's directory
        directory: PathBuf,
    },
    /// Cut a range out into one MP4 file, without encoding anew; it begins at the IDR before START
    Export {
        /// The camera's directory
        directory: PathBuf,
        /// START/END, each RFC 3339 (2026-11-21T08:00:00Z) or milliseconds since the epoch
        range: String,
        /// The file to write
        output: PathBuf,
    },
    /// Fetch recorded footage of an NVR by RTSP into an archive of its own
    Fetch(fetch::Arguments),
    /// Read every segment and say what is damaged or missing
    Verify {
        /// The camera's directory
        directory: PathBuf,
    },
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::List { directory } => list(&directory),
        Command::Export { directory, range, output } => match range.parse() {
            Ok(period) => cut(&directory, period, &output),
            Err(error) => fail(EXIT_CONFIG, format_args!("{error}")),
        },
        Command::Fetch(arguments) => Box::pin(fetch::main(arguments)).await,
        Command::Verify { directory } => verify(&directory),
    }
}

fn list(directory: &Path) -> ExitCode {
    let found = match archive::inspect(directory) {
        Ok(found) => found,
        Err(error) => return fail(1, format_args!("{}: {error}", directory.display())),
    };
    let segments = found.segments();
    for segment in &segments {
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy();
        say(format_args!(
            "{}  {:>10}  first GOP {:>8}  {name}",
            segment.start,
            bytes(segment.bytes),
            segment.first_gop
        ));
    }
    let (total, count) = found.size();
    say(format_args!("{count} segments, {}", bytes(total)));
    ExitCode::SUCCESS
}

fn cut(directory: &Path, period: Period, output: &Path) -> ExitCode {
    match export::export(directory, period.start, period.end, output) {
        Ok(0) => fail(1, format_args!("there is no footage from {} to {}", period.start, period.end)),
        Ok(frames) => {
            say(format_args!("{}: {frames} frames", output.display()));
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, format_args!("{error}")),
    }
}

fn verify(directory: &Path) -> ExitCode {
    let found = match archive::inspect(directory) {
        Ok(found) => found,
        Err(error) => return fail(1, format_args!("{}: {error}", directory.display())),
    };
    let (mut damaged, mut frames, mut span) = (0, 0, Ticks::ZERO);
    let mut next_gop = None;
    for segment in found.segments() {
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(expected) = next_gop.filter(|expected| *expected < segment.first_gop) {
            say(format_args!("{name}: GOPs {expected} to {} are missing before it", segment.first_gop - 1));
        }
        match export::verify(&segment) {
            Ok(summary) => {
                (frames, span) = (frames + summary.frames, span + summary.span);
                next_gop = Some(segment.first_gop + summary.gops);
                if let Some(problem) = summary.problem {
                    damaged += 1;
                    say(format_args!("{name}: {problem}"));
                }
            }
            Err(error) => {
                damaged += 1;
                say(format_args!("{name}: {error}"));
            }
        }
    }
    let (_, count) = found.size();
    say(format_args!("{count} segments, {frames} frames, {:.1} s, {damaged} damaged", span.seconds()));
    if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

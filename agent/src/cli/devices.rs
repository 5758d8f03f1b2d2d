//! `edgecam devices`: the cameras at this machine and what they can do.

use std::process::ExitCode;

use clap::Args;

use super::output::{fail, say};
use crate::capture::v4l2::survey::{Control, Format, Survey, survey};

#[derive(Args)]
pub(super) struct Arguments {
    /// As JSON, with everything
    #[arg(long)]
    json: bool,
    /// Formats that the agent cannot use, too
    #[arg(long)]
    all: bool,
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    let devices = survey();
    if arguments.json {
        return match serde_json::to_string_pretty(&devices) {
            Ok(text) => {
                say(format_args!("{text}"));
                ExitCode::SUCCESS
            }
            Err(error) => fail(1, format_args!("{error}")),
        };
    }
    if devices.is_empty() {
        return fail(
            1,
            format_args!(
                "no camera: there is no /dev/video* that gives pictures; is one plugged in, is its driver loaded?"
            ),
        );
    }
    devices.iter().for_each(|device| print(device, arguments.all));
    ExitCode::SUCCESS
}

fn print(device: &Survey, all: bool) {
    let Survey { path, by_id, name, driver, bus, formats, controls, error } = device;
    if let Some(error) = error {
        say(format_args!("{}  {error}\n", path.display()));
        return;
    }
    say(format_args!("{}  {name}  ({driver}, {bus})", path.display()));
    if let Some(link) = by_id {
        say(format_args!("  device: {}", link.display()));
    }
    let usable = formats.iter().filter(|format| all || format.is_usable);
    for Format { fourcc, description, is_usable, sizes } in usable {
        say(format_args!("  {fourcc}  {description}{}", if *is_usable { "" } else { "  (not used by the agent)" }));
        for size in sizes {
            let rates: Vec<String> = size.rates.iter().map(f64::to_string).collect();
            let rates = if rates.is_empty() { String::new() } else { format!("  {} fps", rates.join(" ")) };
            say(format_args!("        {}{rates}", size.size));
        }
    }
    let others = formats.iter().filter(|format| !format.is_usable).count();
    if !all && others > 0 {
        say(format_args!("  and {others} formats the agent cannot use (--all lists them)"));
    }
    if !controls.is_empty() {
        say(format_args!("  controls:"));
    }
    for Control { name, minimum, maximum, default, value, is_writable, items } in controls {
        let now = value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let locked = if *is_writable { "" } else { "  read only" };
        say(format_args!("    {name:<36} {minimum} to {maximum}, default {default}, now {now}{locked}"));
        for (value, item) in items {
            say(format_args!("      {value:>4} {item}"));
        }
    }
    say(format_args!(""));
}

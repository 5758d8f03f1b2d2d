//! `edgecam discover`: ONVIF devices in this network.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output::{fail, say};
use crate::capture::onvif::discovery;

#[derive(Args)]
pub(super) struct Arguments {
    /// Seconds to wait for answers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Address of the network card to ask through, if not the one of the default route
    #[arg(long, value_name = "ADDRESS")]
    interface: Option<Ipv4Addr>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    let found = discovery::discover(Duration::from_secs(arguments.seconds), arguments.interface).await;
    let devices = match found {
        Ok(devices) => devices,
        Err(error) => {
            let advice = "is there a network, and a route for multicast? --interface says which card to use";
            return fail(1, format_args!("the network cannot be asked ({error}): {advice}"));
        }
    };
    if arguments.json {
        say(format_args!("{}", json!({ "devices": devices })));
        return ExitCode::SUCCESS;
    }
    for device in &devices {
        let name = [&device.name, &device.hardware].map(String::as_str).join(" ");
        say(format_args!("{:15}  {}  {}", device.from, name.trim(), device.addresses.join(" ")));
    }
    say(format_args!(
        "{} devices; those that are silent may have discovery switched off, or be in another network",
        devices.len()
    ));
    ExitCode::SUCCESS
}

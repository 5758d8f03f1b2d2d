//! The command line: one file a subcommand.

mod after_upgrade;
mod archive;
mod bench_model;
mod check;
mod demo;
mod detect;
mod devices;
mod discover;
mod encoder;
mod fetch;
mod findings;
mod greengrass;
mod import;
mod nvr;
mod output;
mod picture;
mod provision;
mod rtsp_url;
mod run;
mod schema;
mod service;
mod upload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// `sysexits.h` EX_CONFIG: the config cannot be used. systemd does not restart on it (RestartPreventExitStatus).
pub(crate) const EXIT_CONFIG: u8 = 78;

/// Edge camera agent: records H.264 cameras to disk and uploads them to Amazon Kinesis Video Streams.
#[derive(Parser)]
#[command(name = "edgecam", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the cameras of a config file
    Run(run::Arguments),
    /// Show what it does, without config, camera or AWS account: test pattern, archive, status page
    Demo(demo::Arguments),
    /// Find out what is wrong: config, cameras, clock, network, credentials, stream, disk
    Check(check::Arguments),
    /// Upload one source to one stream
    Upload(upload::Arguments),
    /// Look at, cut out of or verify an archive
    Archive(archive::Arguments),
    /// Look for ONVIF devices in this network
    Discover(discover::Arguments),
    /// Look at what an NVR has
    Nvr(nvr::Arguments),
    /// Print the RTSP URL of a camera or of a recorder's channel, by brand
    RtspUrl(rtsp_url::Arguments),
    /// Get a certificate of its own for this device, with the claim certificate of its fleet (AWS IoT)
    Provision(provision::Arguments),
    /// List the cameras at this machine: formats, sizes, rates, controls
    Devices(devices::Arguments),
    /// Set the encoder of a DeepLens camera
    Encoder(encoder::Arguments),
    /// Look for things in a picture or a video with a model (ONNX): draws boxes, prints a table
    Detect(detect::Arguments),
    /// Measure a model (ONNX) on this machine: time, memory, where the time goes, what to do
    BenchModel(bench_model::Arguments),
    /// The agent as a service of systemd: install, start, stop, restart, status, log
    Service(service::Arguments),
    /// Print a config file with the cameras of another system
    Import(import::Arguments),
    /// Print the JSON schema of the config file
    Schema,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread moves all bytes: at a few Mbit/s a camera a second one would only wake up more often.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(1, format_args!("the runtime cannot be started: {error}")),
    };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::Run(arguments) => Box::pin(run::main(arguments)).await,
            Command::Demo(arguments) => Box::pin(demo::main(arguments)).await,
            Command::Check(arguments) => Box::pin(check::main(arguments)).await,
            Command::Upload(arguments) => Box::pin(upload::main(arguments)).await,
            Command::Archive(arguments) => Box::pin(archive::main(arguments)).await,
            Command::Discover(arguments) => Box::pin(discover::main(arguments)).await,
            Command::Nvr(arguments) => Box::pin(nvr::main(arguments)).await,
            Command::RtspUrl(arguments) => rtsp_url::main(arguments),
            Command::Provision(arguments) => Box::pin(provision::main(arguments)).await,
            Command::Devices(arguments) => devices::main(&arguments),
            Command::Encoder(arguments) => Box::pin(encoder::main(arguments)).await,
            Command::Detect(arguments) => detect::main(&arguments),
            Command::BenchModel(arguments) => bench_model::main(&arguments),
            Command::Service(arguments) => Box::pin(service::main(arguments)).await,
            Command::Import(arguments) => Box::pin(import::main(arguments)).await,
            Command::Schema => schema::main(),
        }
    });
    // A disk that hangs must not keep the process: its threads are left behind.
    runtime.shutdown_background();
    code
}

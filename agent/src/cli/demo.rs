//! `edgecam demo`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::EXIT_CONFIG;
use super::output::{fail, say};
use super::run::serve;
use crate::config;
use crate::control::commanded::{self, Commanded};

#[derive(Args)]
pub(super) struct Arguments {
    /// Where the footage goes
    #[arg(long, default_value = "edgecam-demo")]
    directory: PathBuf,
    /// Address and port of the status page
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: std::net::SocketAddr,
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    if !arguments.listen.ip().is_loopback() {
        return fail(
            EXIT_CONFIG,
            format_args!("--listen: the demo has no token, so it stays on this machine: use 127.0.0.1"),
        );
    }
    let mut config = match config::demo(arguments.directory.clone()) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_CONFIG, format_args!("{error}")),
    };
    config.http = Some(config::Http { listen: arguments.listen, token: None, kvs_infer: false });
    say(format_args!("Status page:  http://{}/", arguments.listen));
    say(format_args!(
        "Footage:      {}/demo/*.mp4 (any player plays it, while it is written too)",
        arguments.directory.display()
    ));
    say(format_args!("Stop:         Ctrl-C\n"));
    if let Err(error) = commanded::own(&config) {
        return fail(EXIT_CONFIG, format_args!("{error}"));
    }
    let commanded = Commanded::load(&config.state_dir);
    commanded.switch(&mut config);
    serve(config, commanded, None, None).await
}

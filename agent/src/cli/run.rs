//! `edgecam run`: the agent until a signal ends it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use super::EXIT_CONFIG;
use super::output::fail;
use crate::config::{self, Config, Http};
use crate::host::systemd::Notifier;
use crate::run::stage::Stage;
use crate::topology::Agent;
use crate::{telemetry, web};

/// How often systemd is told and the signals' handlers get their turn.
const TICK: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct Arguments {
    /// The config file (YAML or JSON)
    #[arg(long, short)]
    config: PathBuf,
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    match config::load(&arguments.config) {
        Ok(config) => serve(config, Some(&arguments.config)).await,
        Err(error) => fail(EXIT_CONFIG, format_args!("{error}")),
    }
}

/// Runs the agent. `file` is what SIGHUP reads again.
pub(super) async fn serve(config: Config, file: Option<&Path>) -> ExitCode {
    telemetry::log::init(config.log_level);
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        return fail(1, format_args!("signals cannot be handled"));
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), thing = %config.thing, cameras = config.cameras.len(), "edgecam starts");
    let http = config.http.clone();
    let agent = match Agent::start(config).await {
        Ok(agent) => Arc::new(RwLock::new(Some(agent))),
        Err(error) => return fail(1, format_args!("the disk thread cannot be started: {error}")),
    };
    let mut server = http.map(|http| Server::start(http, &agent));
    let mut notifier = Notifier::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                if let Some(agent) = agent.read().await.as_ref() {
                    notifier.update(agent);
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                notifier.reloading();
                if let Some(file) = file {
                    reload(file, &agent, &mut server).await;
                }
                notifier.reloaded();
            }
        }
    }
    notifier.stopping();
    tracing::info!("stopping; a second signal stops at once");
    let stop = async {
        if let Some(server) = server.take() {
            server.end().await;
        }
        if let Some(agent) = agent.write().await.take() {
            agent.stop().await;
        }
    };
    tokio::select! {
        () = stop => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        () = either(&mut terminate, &mut interrupt) => fail(130, format_args!("stopped at once; the last pictures may be missing")),
    }
}

async fn either(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}

/// A config that cannot be used changes nothing.
async fn reload(file: &Path, agent: &web::Shared, server: &mut Option<Server>) {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "the new config cannot be used; the old one stays in force");
            return;
        }
    };
    let http = config.http.clone();
    if let Some(agent) = agent.write().await.as_mut() {
        agent.apply(config).await;
    }
    if server.as_ref().map(|server| &server.settings) != http.as_ref() {
        if let Some(old) = server.take() {
            old.end().await;
        }
        *server = http.map(|http| Server::start(http, agent));
    }
    tracing::info!("config reloaded");
}

/// The running web server.
struct Server {
    settings: Http,
    stage: Stage,
    cancel: CancellationToken,
}

impl Server {
    fn start(settings: Http, agent: &web::Shared) -> Self {
        let cancel = CancellationToken::new();
        let (http, agent, token) = (settings.clone(), agent.clone(), cancel.clone());
        let make = move || web::run(http.clone(), agent.clone(), token.clone());
        Self { settings, stage: Stage::spawn("web".to_owned(), cancel.clone(), make), cancel }
    }

    async fn end(self) {
        self.cancel.cancel();
        self.stage.end(Duration::from_millis(300)).await;
    }
}

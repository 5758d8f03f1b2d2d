//! `edgecam run`: the agent until a signal ends it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::EXIT_CONFIG;
use super::output::fail;
use crate::config::{Config, Honeycomb, Http, Mqtt};
use crate::control::commanded::{self, Commanded};
use crate::control::greengrass::{Begun, Component};
use crate::control::link::MqttLink;
use crate::control::mqtt::Via;
use crate::control::{self, Control, mqtt};
use crate::host::systemd::Notifier;
use crate::run::stage::Stage;
use crate::topology::Agent;
use crate::upload::Network;
use crate::{telemetry, web};

/// How often systemd is told and the signals' handlers get their turn.
const TICK: Duration = Duration::from_secs(1);

/// For each of them to end.
const CLOSE: Duration = Duration::from_millis(500);

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Arguments {
    /// The config file (YAML or JSON)
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// As a Greengrass component: the config is the component's configuration
    #[arg(long)]
    greengrass: bool,
}

pub(super) async fn main(arguments: Arguments) -> ExitCode {
    let begun = match arguments.config {
        Some(file) => Ok((file, None)),
        None => super::greengrass::begin().await,
    };
    let (file, origin) = match begun {
        Ok(begun) => begun,
        Err(error) => return fail(EXIT_CONFIG, format_args!("{error}")),
    };
    match commanded::effective(&file) {
        Ok((config, commanded)) => serve(config, commanded, Some(&file), origin).await,
        Err(error) => fail(EXIT_CONFIG, format_args!("{error}")),
    }
}

/// Why the agent ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Restart,
}

/// Runs the agent. `file` is what SIGHUP reads again; `begun` is how the nucleus's configuration got into it.
pub(super) async fn serve(config: Config, commanded: Commanded, file: Option<&Path>, begun: Option<Begun>) -> ExitCode {
    telemetry::log::init(config.log_level);
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        return fail(1, format_args!("signals cannot be handled"));
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), thing = %config.thing, cameras = config.cameras.len(), "edgecam starts");
    page_by_page(&config);
    let agent = web::Shared::default();
    let control = Control::new(agent.clone(), commanded, file.map(Path::to_owned), &config);
    let settings = Settings::of(&config);
    match Agent::start(config).await {
        Ok(started) => *agent.write().await = Some(started),
        Err(error) => return fail(1, format_args!("the disk thread cannot be started: {error}")),
    }
    let component = super::greengrass::component(file, begun);
    let mut doors = Doors::open(settings, &control, component.as_ref());
    let mut notifier = Notifier::new();
    let mut tick = tokio::time::interval(TICK);
    let end = loop {
        tokio::select! {
            _ = tick.tick() => {
                if let Ok(agent) = agent.try_read()
                    && let Some(agent) = agent.as_ref()
                {
                    notifier.update(agent);
                }
            }
            _ = terminate.recv() => break End::Stop,
            _ = interrupt.recv() => break End::Stop,
            () = control.restart() => break End::Restart,
            _ = hangup.recv() => {
                notifier.reloading();
                if let Some(file) = file {
                    reload(file, &control, &mut doors).await;
                }
                notifier.reloaded();
            }
            () = config_from(component.as_ref()) => {
                if let Some(file) = file {
                    reload(file, &control, &mut doors).await;
                }
            }
        }
    };
    notifier.stopping();
    tracing::info!("stopping; a second signal stops at once");
    let stop = async {
        // Events end while there is a connection that they can go out by.
        if let Some(agent) = agent.write().await.as_mut() {
            agent.stop_looking().await;
        }
        doors.close().await;
        if let Some(agent) = agent.write().await.take() {
            agent.stop().await;
        }
    };
    tokio::select! {
        () = stop => {
            tracing::info!("stopped");
            if end == End::Restart { again() } else { ExitCode::SUCCESS }
        }
        () = either(&mut terminate, &mut interrupt) => fail(130, format_args!("stopped at once; the last pictures may be missing")),
    }
}

/// Without detectors, RAM is taken in pages of 4 KiB: on Debian the kernel gives 2 MiB wherever that many lie together, of which
/// an agent with one camera uses a fraction. Models gain from large pages.
fn page_by_page(config: &Config) {
    let looks = config.cameras.iter().any(|camera| !camera.detectors.is_empty());
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(!looks) {
        tracing::debug!(%error, "the size of pages is left to the kernel");
    }
}

/// Becomes the program anew: same arguments, same process, so that no service manager counts a crash.
fn again() -> ExitCode {
    use std::os::unix::process::CommandExt as _;
    // An upgrade may have put another file in its place: that one is wanted then.
    let program =
        std::env::current_exe().map(|path| match path.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
            Some(replaced) => PathBuf::from(replaced),
            None => path,
        });
    let error = match program {
        Ok(program) => std::process::Command::new(program).args(std::env::args_os().skip(1)).exec(),
        Err(error) => error,
    };
    fail(1, format_args!("the agent cannot restart itself ({error}): whoever started it has to"))
}

async fn either(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}

/// Waits until the nucleus has a new config.
async fn config_from(component: Option<&Component>) {
    match component {
        Some(component) => component.changed().await,
        None => std::future::pending().await,
    }
}

/// A config that cannot be used changes nothing.
async fn reload(file: &Path, control: &Control, doors: &mut Doors) {
    let (config, commanded) = match commanded::effective(file) {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, "the new config cannot be used; the old one stays in force");
            return;
        }
    };
    let settings = Settings::of(&config);
    control.reconfigured(config.commands.clone(), commanded).await;
    if let Some(agent) = control.agent().write().await.as_mut() {
        agent.apply(config).await;
    }
    doors.change(settings, control).await;
    tracing::info!("config reloaded");
}

/// Where commands come in and reports go out.
struct Doors {
    /// The nucleus of Greengrass: its connection, and what is said over it.
    greengrass: Vec<(Stage, CancellationToken)>,
    control: (Stage, CancellationToken),
    nvrs: (Stage, CancellationToken),
    http: Option<Door<Http>>,
    mqtt: Option<Door<Broker>>,
}

/// What they run with.
struct Settings {
    http: Option<Http>,
    mqtt: Option<Broker>,
}

/// The broker, and the platform that speaks through it.
type Broker = (Mqtt, Option<Honeycomb>);

/// One of them, and the settings it runs with.
struct Door<S> {
    settings: S,
    stages: Vec<(Stage, CancellationToken)>,
}

impl Settings {
    fn of(config: &Config) -> Self {
        let mqtt = config.mqtt.clone().map(|mqtt| (mqtt, config.honeycomb.clone()));
        Self { http: config.http.clone(), mqtt }
    }
}

impl Doors {
    fn open(Settings { http, mqtt }: Settings, control: &Control, component: Option<&Component>) -> Self {
        let cancel = CancellationToken::new();
        let (commands, token) = (control.clone(), cancel.clone());
        let make = move || control::run(commands.clone(), token.clone());
        let listening = CancellationToken::new();
        let (commands, token) = (control.clone(), listening.clone());
        let take = move || control::nvrs::run(commands.clone(), token.clone());
        Self {
            greengrass: component.map(|component| super::greengrass::open(component, control)).unwrap_or_default(),
            nvrs: (Stage::spawn("nvrs".to_owned(), listening.clone(), take), listening),
            control: (Stage::spawn("control".to_owned(), cancel.clone(), make), cancel),
            http: http.map(|http| open_http(http, control)),
            mqtt: mqtt.and_then(|mqtt| open_mqtt(mqtt, control)),
        }
    }

    async fn change(&mut self, Settings { http, mqtt }: Settings, control: &Control) {
        if self.http.as_ref().map(|door| &door.settings) != http.as_ref() {
            if let Some(old) = self.http.take() {
                old.close().await;
            }
            self.http = http.map(|http| open_http(http, control));
        }
        if self.mqtt.as_ref().map(|door| &door.settings) != mqtt.as_ref() {
            if let Some(old) = self.mqtt.take() {
                old.close().await;
                // Its outbox is not to be written by two.
                if let Some(agent) = control.agent().read().await.as_ref() {
                    agent.broker().connect(None);
                }
            }
            self.mqtt = mqtt.and_then(|mqtt| open_mqtt(mqtt, control));
        }
    }

    async fn close(self) {
        if let Some(http) = self.http {
            http.close().await;
        }
        for (stage, cancel) in [self.nvrs, self.control] {
            cancel.cancel();
            stage.end(CLOSE).await;
        }
        if let Some(mqtt) = self.mqtt {
            mqtt.close().await;
        }
        for (stage, cancel) in self.greengrass {
            cancel.cancel();
            stage.end(CLOSE).await;
        }
    }
}

impl<S> Door<S> {
    /// In order: what speaks ends before what carries it.
    async fn close(self) {
        for (stage, cancel) in self.stages {
            cancel.cancel();
            stage.end(CLOSE).await;
        }
    }
}

fn open_http(settings: Http, control: &Control) -> Door<Http> {
    let cancel = CancellationToken::new();
    let (http, control, token) = (settings.clone(), control.clone(), cancel.clone());
    let make = move || web::run(http.clone(), control.clone(), token.clone());
    Door { settings, stages: vec![(Stage::spawn("web".to_owned(), cancel.clone(), make), cancel)] }
}

fn open_mqtt(settings: Broker, control: &Control) -> Option<Door<Broker>> {
    let link = match MqttLink::new(&settings.0, settings.1.as_ref(), control.clone()) {
        Ok(link) => link,
        Err(error) => {
            tracing::error!(%error, "no thread for the outbox of MQTT: there are no commands and no reports");
            return None;
        }
    };
    let network = Arc::<Network>::default();
    let (client, cancel) = (link.client().clone(), CancellationToken::new());
    let token = cancel.clone();
    let stage = match settings.0.connection.via {
        Via::Broker => {
            let make = move || mqtt::run(client.clone(), network.clone(), token.clone());
            Stage::spawn("mqtt".to_owned(), cancel.clone(), make)
        }
        Via::Nucleus => {
            let make = move || mqtt::run_over_nucleus(client.clone(), token.clone());
            Stage::spawn("mqtt".to_owned(), cancel.clone(), make)
        }
    };
    let connection = (stage, cancel);
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    let make = move || link.clone().run(token.clone());
    let reports = (Stage::spawn("mqtt reports".to_owned(), cancel.clone(), make), cancel);
    Some(Door { settings, stages: vec![reports, connection] })
}

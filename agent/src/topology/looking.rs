//! Wires inference and publishers: threads that all cameras share, and one way out for each destination.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::CameraHandle;
use crate::config::publishers::{Destination, Publishers};
use crate::config::{self, Config, Detector};
use crate::control::clip;
use crate::event::dataset::Dataset;
use crate::event::outlet::{Broker, MOST_CLIPS, Outlet};
use crate::event::publish::{self, Aws, Publisher};
use crate::event::tags::EventTags;
use crate::footage::Footage;
use crate::inference::Inference;
use crate::inference::predict::Predictor;
use crate::inference::sampler::{self, Watch, new_id};
use crate::inference::status::StatusCell;
use crate::run::stage::Stage;

/// For publishers to bring what waits to the disk.
const PUBLISH_GRACE: Duration = Duration::from_secs(2);
/// For a look that is under way.
const LOOK_GRACE: Duration = Duration::from_secs(2);

/// What looks at cameras, and where events go.
#[derive(Default)]
pub(super) struct Looking {
    inference: Option<(config::Inference, Inference)>,
    publishers: Vec<(Publisher, Stage, CancellationToken)>,
    broker: Broker,
}

/// What looks at one camera.
pub(super) struct Look {
    stages: Vec<(Stage, CancellationToken)>,
}

impl Look {
    pub(super) async fn end(self) {
        for (stage, cancel) in self.stages {
            cancel.cancel();
            stage.end(LOOK_GRACE).await;
        }
    }

    pub(super) fn panics(&self) -> u64 {
        self.stages.iter().map(|(stage, _)| stage.panics()).sum()
    }
}

impl Looking {
    /// Opens what the cameras of `config` need, and ends what none of them does.
    pub(super) async fn prepare(&mut self, config: &Config, aws: &Aws, has_other_aws: bool) {
        let cameras = || config.cameras.iter().filter(|camera| camera.switches.enabled);
        let is_wanted = cameras().any(|camera| !camera.detectors.is_empty());
        if !is_wanted || self.inference.as_ref().is_some_and(|(settings, _)| *settings != config.inference) {
            self.inference = None;
        }
        if is_wanted && self.inference.is_none() {
            match Inference::start(&config.inference) {
                Ok(inference) => self.inference = Some((config.inference, inference)),
                Err(error) => tracing::error!(%error, "no thread can be started to look at pictures"),
            }
        }
        let wanted: Vec<&Destination> = cameras()
            .filter(|camera| !camera.detectors.is_empty())
            .flat_map(|camera| destinations(&camera.publishers))
            .collect();
        let (stay, go) = std::mem::take(&mut self.publishers)
            .into_iter()
            .partition(|(publisher, ..)| !has_other_aws && wanted.contains(&publisher.destination()));
        self.publishers = stay;
        end(go).await;
        for destination in wanted {
            if self.publisher(destination).is_none() {
                self.open(destination, &config.state_dir, aws);
            }
        }
    }

    fn open(&mut self, destination: &Destination, state_dir: &Path, aws: &Aws) {
        let publisher = match Publisher::open(destination.clone(), state_dir) {
            Ok(publisher) => publisher,
            Err(error) => return tracing::error!(to = destination.shown(), %error, "events cannot be kept for it"),
        };
        let cancel = CancellationToken::new();
        let (publishing, aws, token) = (publisher.clone(), aws.clone(), cancel.clone());
        let make = move || publish::run(publishing.clone(), aws.clone(), token.clone());
        let stage = Stage::spawn(format!("publish {}", destination.kind()), cancel.clone(), make);
        self.publishers.push((publisher, stage, cancel));
    }

    fn publisher(&self, destination: &Destination) -> Option<&Publisher> {
        self.publishers.iter().map(|(publisher, ..)| publisher).find(|one| one.destination() == destination)
    }

    /// Whether cameras that are looked at have to be started anew for `settings`.
    pub(super) fn differs(&self, settings: &config::Inference) -> bool {
        self.inference.as_ref().is_some_and(|(known, _)| known != settings)
    }

    /// Starts to look at a camera, whose pictures are in `footage`; `status` tells of it.
    pub(super) fn watch(
        &self,
        handle: &CameraHandle,
        footage: &Footage,
        state_dir: &Path,
        (status, tags): (&StatusCell, EventTags),
    ) -> Option<Look> {
        let (_, inference) = self.inference.as_ref()?;
        let config = &handle.config;
        let of = |destinations: &[Destination]| -> Vec<Publisher> {
            destinations.iter().filter_map(|destination| self.publisher(destination).cloned()).collect()
        };
        let dataset = config.publishers.dataset.clone().map(|settings| {
            let publishers = of(&settings.destinations);
            Dataset::new(&config.name, settings, publishers, new_id)
        });
        let broker = config.publishers.mqtt.then(|| self.broker.clone());
        let (clips, to_cut) = mpsc::channel(MOST_CLIPS);
        let watch = Watch {
            camera: config.name.clone(),
            detectors: config.detectors.iter().cloned().map(Arc::new).collect(),
            footage: footage.clone(),
            inference: inference.clone(),
            outlet: Outlet::new(broker, of(&config.publishers.destinations), clips, dataset, tags),
            status: status.clone(),
        };
        let (looking, cutting) = (CancellationToken::new(), CancellationToken::new());
        let token = looking.clone();
        let make = move || sampler::run(watch.clone(), token.clone());
        let look = Stage::spawn(format!("look {}", config.name), looking.clone(), make);
        let (camera, to_cut) = (handle.clone(), Arc::new(Mutex::new(to_cut)));
        let (state_dir, token) = (state_dir.to_owned(), cutting.clone());
        let make = move || clip::run(camera.clone(), to_cut.clone(), state_dir.clone(), token.clone());
        let cut = Stage::spawn(format!("clips {}", config.name), cutting.clone(), make);
        Some(Look { stages: vec![(look, looking), (cut, cutting)] })
    }

    /// Runs `detector` on pictures of no camera.
    pub(super) fn predictor(&self, detector: &Detector) -> Option<Predictor> {
        let (_, inference) = self.inference.as_ref()?;
        Some(Predictor::new(inference.clone(), detector.clone()))
    }

    /// The broker that events go to.
    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(super) fn publishers(&self) -> Vec<Publisher> {
        self.publishers.iter().map(|(publisher, ..)| publisher.clone()).collect()
    }

    /// What waits goes to the disk.
    pub(super) async fn stop(&mut self) {
        self.inference = None;
        end(std::mem::take(&mut self.publishers)).await;
    }

    pub(super) fn panics(&self) -> u64 {
        self.publishers.iter().map(|(_, stage, _)| stage.panics()).sum()
    }
}

fn destinations(publishers: &Publishers) -> impl Iterator<Item = &Destination> {
    let of_dataset = publishers.dataset.iter().flat_map(|dataset| &dataset.destinations);
    publishers.destinations.iter().chain(of_dataset)
}

async fn end(publishers: Vec<(Publisher, Stage, CancellationToken)>) {
    publishers.iter().for_each(|(_, _, cancel)| cancel.cancel());
    for (_, stage, _) in publishers {
        stage.end(PUBLISH_GRACE).await;
    }
}

//! The MQTT connection against Debian's mosquitto, with TLS and client certificates.

mod outages;
mod policies;
mod refusals;
mod stand_in;
mod through_proxy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgecam::control::mqtt::{
    Client, Connection, Identity, Inbox, Kind, Message, MqttState, MqttStatus, Settings, Tls, Via, run,
};
use edgecam::event::outbox::{self, Bounds};
use edgecam::run::stage::Stage;
use edgecam::upload::Network;
use tokio_util::sync::CancellationToken;

use crate::harness::broker::{Broker, outbox_of};
use crate::harness::pki::Issued;
use crate::harness::{PATIENCE, poll};

/// What is wrong with a connection is said within this time.
const SAID_WITHIN: Duration = Duration::from_secs(5);

/// A client of ours that runs.
struct Running {
    client: Client,
    inbox: Inbox,
    cancel: CancellationToken,
    stage: Stage,
}

fn settings(broker: &Broker, client_id: &str, identity: &Issued) -> Settings {
    let identity = Identity { certificate: identity.certificate.clone(), private_key: identity.key.clone() };
    let directory = Some(outbox_of(&broker.scratch, client_id));
    Settings {
        connection: Connection {
            via: Via::Broker,
            host: "localhost".to_owned(),
            port: broker.port,
            tls: Some(Tls { ca_file: Some(broker.ca.clone()), identity: Some(identity), alpn: None }),
            client_id: client_id.to_owned(),
            login: None,
            keep_alive: Duration::from_secs(60),
            proxy: None,
            outbox: outbox::Settings { directory, bounds: Bounds { bytes: 8 << 20, entries: 20_000 } },
        },
        last_will: Some(message("edgecam/gw/status", "offline", Kind::State)),
        subscriptions: vec!["edgecam/gw/+/cmd/+".to_owned(), "edgecam/gw/cmd/+".to_owned()],
    }
}

fn message(topic: &str, payload: &str, kind: Kind) -> Message {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Message { topic: topic.to_owned(), payload, retain: kind == Kind::State, kind }
}

impl Running {
    fn start(settings: Settings) -> Self {
        let (client, inbox) = Client::new(settings).expect("a thread");
        let cancel = CancellationToken::new();
        let (clone, token, network) = (client.clone(), cancel.clone(), Arc::new(Network::default()));
        let stage =
            Stage::spawn("mqtt".to_owned(), cancel.clone(), move || run(clone.clone(), network.clone(), token.clone()));
        Self { client, inbox, cancel, stage }
    }

    fn publish(&self, topic: &str, payload: &str, kind: Kind) {
        self.client.publish(message(topic, payload, kind)).expect("within limits");
    }

    /// Waits until the status is as wanted.
    async fn until(&self, what: &str, is_so: impl Fn(&MqttStatus) -> bool) -> MqttStatus {
        let found = poll(PATIENCE, async || Some(self.client.status()).filter(&is_so)).await;
        found.unwrap_or_else(|| panic!("not {what}: {:#?}", self.client.status()))
    }

    async fn connected(&self) -> MqttStatus {
        self.until("connected", |status| status.state == MqttState::Connected).await
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.stage.end(PATIENCE).await;
    }
}

/// What a client says about why it is not connected; in time.
async fn complaint(settings: Settings) -> (&'static str, String) {
    let began = Instant::now();
    let running = Running::start(settings);
    let status = running.until("refused", |status| matches!(status.state, MqttState::Waiting { .. })).await;
    assert!(began.elapsed() < SAID_WITHIN, "said after {:?}", began.elapsed());
    let MqttState::Waiting { message, reason, .. } = status.state else { panic!("{status:?}") };
    assert_eq!(status.last_error.as_ref(), Some(&message));
    running.stop().await;
    (reason.name(), message)
}

/// State, report and reply reach a second client; a command comes back; good-bye comes without the last will.
#[tokio::test]
async fn both_ways() {
    let broker = Broker::start("mqtt-both-ways").await;
    let listener = broker.listen("edgecam/#").await;
    let mut ours = Running::start(settings(&broker, "gw", &broker.client("gw")));
    let status = ours.connected().await;
    assert!(status.certificate_expires.is_some_and(|at| at.unix_seconds() > 2_200_000_000), "{status:?}");
    ours.publish("edgecam/gw/status", "online", Kind::State);
    ours.publish("edgecam/gw/door/event", "1", Kind::Report);
    ours.publish("edgecam/gw/door/reply/1", "2", Kind::Reply);
    assert_eq!(listener.until("2").await.len(), 3);
    for n in 0..3 {
        broker.say("edgecam/gw/door/cmd/live", &format!("{{\"requestId\":\"{n}\"}}"), &["-i", "speaker"]).await;
    }
    for n in 0..3 {
        let command = tokio::time::timeout(PATIENCE, ours.inbox.messages.recv()).await.expect("in time").expect("open");
        assert_eq!((command.topic.as_str(), command.retain), ("edgecam/gw/door/cmd/live", false));
        assert_eq!(command.payload, format!("{{\"requestId\":\"{n}\"}}"));
    }
    let status = ours.until("acknowledged", |status| status.published == 3).await;
    assert_eq!((status.received, status.outbox.entries), (3, 0));
    ours.publish("edgecam/gw/status", "stopped", Kind::State);
    ours.stop().await;
    listener.until("stopped").await;
    // A client that comes later sees how things are: the will was not needed.
    drop(listener);
    let late = broker.listen("edgecam/gw/status").await;
    assert_eq!(late.next().await, Some((true, "edgecam/gw/status".to_owned(), "stopped".to_owned())));
}

/// A message of a megabyte is answered for, not fetched again and again; more than anybody acts on is handed over as
/// such.
#[tokio::test]
async fn floods_and_large_messages() {
    let broker = Broker::start("mqtt-floods").await;
    let mut ours = Running::start(settings(&broker, "gw", &broker.client("gw")));
    ours.connected().await;
    let large = broker.scratch.write("large", vec![b'x'; 1 << 20]);
    let mut command = tokio::process::Command::new("mosquitto_pub");
    let speaker = broker.client("speaker");
    command.args(["-h", "localhost", "-p", &broker.port.to_string(), "-i", "speaker", "-q", "1"]);
    command.arg("--cafile").arg(&broker.ca).arg("--cert").arg(&speaker.certificate).arg("--key").arg(&speaker.key);
    command.args(["-t", "edgecam/gw/cmd/config", "-f"]).arg(&large);
    assert!(command.status().await.expect("runs").success());
    let large = tokio::time::timeout(PATIENCE, ours.inbox.messages.recv()).await.expect("in time").expect("open");
    assert_eq!((large.payload.len(), large.too_large), (0, Some(1 << 20)));
    // Lines of a file, one message each; nobody takes them.
    let lines: String = (0..200).map(|n| format!("{n}\n")).collect();
    let file = broker.scratch.write("lines", lines);
    let mut command = tokio::process::Command::new("mosquitto_pub");
    command.args(["-h", "localhost", "-p", &broker.port.to_string(), "-i", "speaker", "-q", "1", "-l"]);
    command.arg("--cafile").arg(&broker.ca).arg("--cert").arg(&speaker.certificate).arg("--key").arg(&speaker.key);
    command.args(["-t", "edgecam/gw/cmd/live"]).stdin(std::fs::File::open(file).expect("there"));
    assert!(command.status().await.expect("runs").success());
    let status = ours.until("all there", |status| status.received == 201).await;
    assert_eq!(status.connections, 1, "it stayed connected: {status:?}");
    let mut taken = Vec::new();
    while let Ok(message) = ours.inbox.messages.try_recv() {
        taken.push(message.payload);
    }
    let mut busy = 0;
    while ours.inbox.overflow.try_recv().is_ok() {
        busy += 1;
    }
    assert_eq!(taken, (0..8).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!((busy, status.received_and_dropped), (64, 200 - 8 - 64));
    ours.stop().await;
}

/// What breaks a limit is refused at once and never sent: the broker's log is checked when it ends.
#[tokio::test]
async fn limits_are_kept_here() {
    let broker = Broker::start("mqtt-limits").await;
    let listener = broker.listen("#").await;
    let ours = Running::start(settings(&broker, "gw", &broker.client("gw")));
    ours.connected().await;
    let large = "x".repeat((128 << 10) + 1);
    let long = "t".repeat(257);
    for (topic, payload) in
        [("a/b/c/d/e/f/g/h/i", ""), (long.as_str(), ""), ("a/+", ""), ("$SYS/x", ""), ("", ""), ("fine", &large)]
    {
        let refused = ours.client.publish(message(topic, payload, Kind::Report)).expect_err(topic);
        assert!(!refused.reason.is_empty());
    }
    // A thousand at once leave at the pace AWS IoT allows.
    let began = Instant::now();
    (0..400).for_each(|n| ours.publish("edgecam/gw/event", &n.to_string(), Kind::Report));
    let heard = listener.until("399").await;
    let numbers: Vec<String> = heard.into_iter().map(|(_, _, payload)| payload).collect();
    assert_eq!(numbers, (0..400).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(ours.client.status().refused, 6);
    ours.stop().await;
}

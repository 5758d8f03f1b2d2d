//! `edgecam provision`: mosquitto carries the messages, a strict stand-in for AWS IoT's fleet provisioning answers, and
//! the agent then runs with what was written.

mod service;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::json;

use self::service::{STOLEN, Service, TEMPLATE, Whim};
use crate::harness::agent::{self, Agent, free_port, text};
use crate::harness::broker::Broker;
use crate::harness::pki::{Authority, Issued, set_mode};
use crate::harness::{PATIENCE, poll};

/// A device that has only its fleet's claim certificate.
struct Device {
    claim: Issued,
    directory: PathBuf,
    template: &'static str,
    serial: &'static str,
}

impl Device {
    fn new(broker: &Broker) -> Self {
        let (claim, directory) = (broker.client("claim"), broker.scratch.join("identity"));
        Self { claim, directory, template: TEMPLATE, serial: "7" }
    }

    fn arguments(&self, broker: &Broker) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let port = broker.port.to_string();
        let serial = format!("SerialNumber={}", self.serial);
        let (certificate, key) = (path(&self.claim.certificate), path(&self.claim.key));
        let (ca, directory) = (path(&broker.ca), path(&self.directory));
        [
            ["--endpoint", "localhost"],
            ["--port", &port],
            ["--claim-certificate", &certificate],
            ["--claim-key", &key],
            ["--ca-file", &ca],
            ["--template", self.template],
            ["--directory", &directory],
            ["--parameter", &serial],
            ["--parameter", "Site=a=b"],
        ]
        .iter()
        .fold(vec!["provision".to_owned()], |all, pair| [all, pair.map(str::to_owned).to_vec()].concat())
    }

    async fn provision(&self, broker: &Broker, service: &mut Service) -> Output {
        let arguments = self.arguments(broker);
        tokio::select! {
            output = agent::run(&[], &arguments, PATIENCE) => output,
            () = service.serve(broker) => unreachable!("it serves for ever"),
        }
    }

    /// It is not provisioned, says why, and has no certificate.
    async fn refused(&self, broker: &Broker, service: &mut Service, says: &str) {
        let output = self.provision(broker, service).await;
        let said = text(&output);
        assert!(output.status.code() == Some(1) && said.contains(says), "no `{says}` in: {said}");
        assert!(output.stdout.is_empty() && said.lines().count() == 1, "{said}");
        assert!(!said.contains("token-"), "{said}");
        assert!(self.files().iter().all(|file| file == "device.key"), "{:?}", self.files());
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn key(&self) -> String {
        std::fs::read_to_string(self.directory.join("device.key")).expect("a key")
    }
}

#[tokio::test]
async fn a_device_gets_its_identity() {
    let broker = Broker::start("provisioning").await;
    let mut service = Service::new(&broker).await;
    let device = Device::new(&broker);
    let output = device.provision(&broker, &mut service).await;
    assert!(output.status.success(), "{}\n{}", text(&output), broker.log());
    assert_eq!(device.files(), ["device.key", "device.pem"]);
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(device.directory.join(name)).expect("there").permissions().mode() & 0o777
    };
    assert_eq!((mode(""), mode("device.key"), mode("device.pem")), (0o700, 0o600, 0o644));
    assert_eq!(service.things.get("7").map(String::as_str), Some("cam-7"));
    assert_eq!(service.requests.len(), 2);

    // The key went nowhere.
    let key = device.key();
    let secret = key.lines().nth(1).expect("PEM");
    let said = text(&output);
    assert!(secret.len() > 40 && !said.contains(secret) && !said.contains("token-"), "{said}");
    assert!(service.requests.iter().all(|(_, payload)| !payload.contains(secret) && !payload.contains("PRIVATE")));
    assert!(said.contains(r##"# The template says: {"Site":"a=b"}"##), "{said}");

    // What it printed is a config that the agent runs with.
    let heard = broker.listen("edgecam/cam-7/status").await;
    let port = free_port();
    let (state, http) = (broker.scratch.join("state"), json!({ "listen": format!("127.0.0.1:{port}") }));
    let config = String::from_utf8(output.stdout).expect("text");
    let config = format!("{config}state_dir: {}\nhttp: {http}\n", json!(state));
    let path = broker.scratch.write("edgecam.yaml", &config);
    let mut agent = Agent::start(&path, port, &broker.scratch.join("agent.log"), &[]);
    let online = heard.next().await.unwrap_or_else(|| panic!("{config}\n{}", agent.log_tail()));
    assert!(online.2.contains("online"), "{online:?}");
    agent.stop().await;

    // Once is enough.
    let before = (key, std::fs::read(device.directory.join("device.pem")).expect("there"), service.requests.len());
    let again = device.provision(&broker, &mut service).await;
    let said = text(&again);
    assert!(again.status.code() == Some(1) && said.contains("device.pem is there already"), "{said}");
    let after =
        (device.key(), std::fs::read(device.directory.join("device.pem")).expect("there"), service.requests.len());
    assert!(before == after, "{said}");
    assert_eq!(device.files(), ["device.key", "device.pem"]);
}

#[tokio::test]
async fn refusals() {
    let broker = Broker::start("provisioning-refusals").await;
    service::check_that_it_is_strict(&broker).await;
    let mut service = Service::new(&broker).await;
    let mut device = Device::new(&broker);
    for (whim, says) in [
        (Whim::BadRequest, "refuses a certificate: 400 InvalidCertificateSigningRequest: Unable to parse the CSR"),
        (Whim::UsedToken, "refuses a thing: 400 InvalidCertificateOwnershipToken: Token was used"),
        (Whim::OtherKey, "cannot be used: the certificate is not for this device's key"),
    ] {
        service.whim = whim;
        device.refused(&broker, &mut service, says).await;
    }
    service.whim = Whim::None;
    let key = device.key();
    device.template = "other";
    let says = "refuses a thing: 404 ResourceNotFoundException: Template other not found";
    device.refused(&broker, &mut service, says).await;
    device.template = TEMPLATE;
    device.serial = STOLEN;
    device.refused(&broker, &mut service, "refuses a thing: 403 AccessDenied: Pre-provisioning hook").await;
    device.serial = "8";

    // Before anything is asked.
    let asked = service.requests.len();
    let stranger = Authority::new("another CA").issue(&broker.scratch, "stranger", &[], 2040);
    let claim = std::mem::replace(&mut device.claim, stranger);
    device.refused(&broker, &mut service, "our certificate was issued by a CA it does not trust").await;
    set_mode(&device.claim.key, 0o644);
    device.refused(&broker, &mut service, "others can read this key (mode 644)").await;
    device.claim = claim;
    for (change, code, says) in [
        (["--template", "a b"], 78, "`a b` is not the name of a template"),
        (["--endpoint", "https://x"], 78, "is not a host name"),
        (["--parameter", "Site"], 78, "--parameter `Site` is not NAME=VALUE"),
        (["--parameter", "Site=again"], 78, "--parameter `Site` is there twice"),
        (["--nonsense", "x"], 2, "--nonsense"),
    ] {
        let mut arguments = device.arguments(&broker);
        // What may be there once replaces what is there.
        match arguments.iter().position(|argument| argument == change[0] && argument != "--parameter") {
            Some(index) => change[1].clone_into(&mut arguments[index + 1]),
            None => arguments.extend(change.map(str::to_owned)),
        }
        let output = agent::run(&[], &arguments, PATIENCE).await;
        let said = text(&output);
        assert!(output.status.code() == Some(code) && said.contains(says), "{change:?}: {said}");
    }
    assert_eq!(service.requests.len(), asked);

    // All of them left the key alone, and it is used in the end.
    let output = device.provision(&broker, &mut service).await;
    assert!(output.status.success() && device.key() == key, "{}", text(&output));
    assert_eq!(service.things.get("8").map(String::as_str), Some("cam-8"));
}

/// Killed while it waits for its certificate: the key is there, and the next run uses it.
#[tokio::test]
async fn killed_half_way() {
    let broker = Broker::start("provisioning-killed").await;
    let mut service = Service::new(&broker).await;
    let device = Device::new(&broker);
    service.whim = Whim::Silent;
    let mut command = agent::program(&[]);
    command.args(device.arguments(&broker)).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let topic = "$aws/certificates/create-from-csr/json";
    let asked = poll(PATIENCE, async || broker.log().contains(&format!("'{topic}'")).then_some(())).await;
    // Another one leaves that one's key alone.
    device.refused(&broker, &mut service, "another `edgecam provision` is at work there").await;
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(asked.is_some(), "{}", broker.log());
    assert_eq!(device.files(), ["device.key"]);
    let key = device.key();
    service.whim = Whim::None;
    let output = device.provision(&broker, &mut service).await;
    assert!(output.status.success() && device.key() == key, "{}", text(&output));
    assert!(service.certificates() >= 2 && service.things.len() == 1);
}

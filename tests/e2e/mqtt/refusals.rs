//! What a broker does not like, and what we do not like about a broker: each has its own words, in time.

use super::*;
use crate::harness::broker::Peculiar;
use crate::harness::pki::{Authority, set_mode};
use edgecam::config::secret::Secret;
use edgecam::control::mqtt::Login;

#[tokio::test]
async fn certificates() {
    let broker = Broker::start("mqtt-certificates").await;
    let good = settings(&broker, "gw", &broker.client("gw"));
    let with = |change: &dyn Fn(&mut Tls)| {
        let mut settings = good.clone();
        settings.connection.tls.as_mut().map(change);
        settings
    };
    let other = Authority::new("other CA");
    let other_ca = broker.scratch.write("other-ca.pem", &other.pem);
    let (reason, message) = complaint(with(&|tls| tls.ca_file = Some(other_ca.clone()))).await;
    assert!(reason == "untrusted" && message.contains("was not issued by a CA that is trusted here"), "{message}");

    let stranger = other.issue(&broker.scratch, "stranger", &[], 2040);
    let identity = Identity { certificate: stranger.certificate, private_key: stranger.key.clone() };
    let (reason, message) = complaint(with(&|tls| tls.identity = Some(identity.clone()))).await;
    assert!(
        reason == "untrusted" && message.contains("our certificate was issued by a CA it does not trust"),
        "{message}"
    );

    let (reason, message) = complaint(with(&|tls| tls.identity = None)).await;
    assert!(reason == "untrusted" && message.contains("our certificate is missing"), "{message}");

    let old = broker.authority.issue(&broker.scratch, "old", &[], 2021);
    let identity = Identity { certificate: old.certificate, private_key: old.key };
    let (reason, message) = complaint(with(&|tls| tls.identity = Some(identity.clone()))).await;
    assert!(reason == "untrusted" && message.contains("has expired, by its clock"), "{message}");
    assert!(message.contains("this device's certificate expired on 2021-12-31"), "{message}");

    let identity = Identity { private_key: stranger.key.clone(), ..identity };
    let (reason, message) = complaint(with(&|tls| tls.identity = Some(identity.clone()))).await;
    assert!(reason == "bad_identity" && message.contains("does not belong to the certificate"), "{message}");

    set_mode(&stranger.key, 0o644);
    let (reason, message) = complaint(with(&|tls| tls.identity = Some(identity.clone()))).await;
    assert!(reason == "bad_identity" && message.contains("mode 644): chmod 600 "), "{message}");

    let missing = Identity { certificate: "/nonexistent/c.pem".into(), ..identity };
    let (reason, message) = complaint(with(&|tls| tls.identity = Some(missing.clone()))).await;
    assert!(
        reason == "bad_identity" && message.contains("/nonexistent/c.pem cannot be used: No such file"),
        "{message}"
    );
}

#[tokio::test]
async fn certificates_of_the_broker() {
    let hosts = Peculiar { hosts: Some(&["broker.example"]), ..Peculiar::default() };
    let broker = Broker::peculiar("mqtt-wrong-host", hosts).await;
    let (reason, message) = complaint(settings(&broker, "gw", &broker.client("gw"))).await;
    assert!(reason == "untrusted" && message.contains("is for broker.example, not for localhost"), "{message}");
    let old = Peculiar { last_year: Some(2022), ..Peculiar::default() };
    let broker = Broker::peculiar("mqtt-expired", old).await;
    let (reason, message) = complaint(settings(&broker, "gw", &broker.client("gw"))).await;
    assert!(
        reason == "untrusted" && message.contains("the certificate of the broker expired on 2022-12-31"),
        "{message}"
    );
}

#[tokio::test]
async fn passwords() {
    let password = Peculiar { password: Some("right"), ..Peculiar::default() };
    let broker = Broker::peculiar("mqtt-password", password).await;
    let mut settings = settings(&broker, "gw", &broker.client("gw"));
    let (reason, message) = complaint(settings.clone()).await;
    assert!(reason == "refused" && message.contains("does not allow the client `gw` to connect"), "{message}");
    let login = |password: &str| Some(Login { username: "gw".to_owned(), password: Secret::new(password) });
    settings.connection.login = login("wrong");
    let (reason, message) = complaint(settings.clone()).await;
    assert!(reason == "refused" && !message.contains("wrong"), "{message}");
    settings.connection.login = login("right");
    let ours = Running::start(settings);
    ours.connected().await;
    ours.stop().await;
}

#[tokio::test]
async fn nobody_there() {
    let mut broker = Broker::start("mqtt-nobody").await;
    let mut settings = settings(&broker, "gw", &broker.client("gw"));
    broker.kill();
    let (reason, message) = complaint(settings.clone()).await;
    assert!(reason == "unreachable" && message.contains("Connection refused"), "{message}");
    settings.connection.host = "no-such-host.invalid".to_owned();
    let (reason, message) = complaint(settings).await;
    assert!(reason == "unreachable" && message.contains("no-such-host.invalid"), "{message}");
}

/// Two agents with one client id: at least one of them stands back and says why; the other one stays.
#[tokio::test]
async fn two_agents_with_one_client_id() {
    let broker = Broker::start("mqtt-takeover").await;
    let identity = broker.client("gw");
    let start = |name: &str| {
        let mut settings = settings(&broker, "gw", &identity);
        settings.connection.outbox.directory = Some(outbox_of(&broker.scratch, name));
        Running::start(settings)
    };
    let (one, two) = (start("one"), start("two"));
    let is_back = |status: &MqttStatus| status.state.name() == "taken_over";
    let stood_back = poll(PATIENCE, async || {
        [&one, &two]
            .into_iter()
            .find(|running| is_back(&running.client.status()))
            .map(|running| running.client.status())
    });
    let status = stood_back.await.unwrap_or_else(|| panic!("{:#?} {:#?}", one.client.status(), two.client.status()));
    let said = status.last_error.unwrap_or_default();
    assert!(said.contains("another client with the id `gw`") && said.contains("mqtt.client_id"), "{said}");
    let alone = poll(PATIENCE, async || {
        let up = [&one, &two].into_iter().filter(|running| running.client.status().state == MqttState::Connected);
        (up.count() == 1).then_some(())
    });
    assert!(alone.await.is_some());
    let before = one.client.status().connections + two.client.status().connections;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(one.client.status().connections + two.client.status().connections, before, "nobody fights");
    one.stop().await;
    two.stop().await;
}

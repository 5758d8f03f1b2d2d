//! Brokers that say no in ways mosquitto does not have, AWS IoT's first of all.

use super::stand_in::{Got, Manner, StandIn};
use super::*;
use crate::harness::Scratch;

fn plain(scratch: &Scratch, port: u16) -> Settings {
    Settings {
        connection: Connection {
            via: Via::Broker,
            host: "127.0.0.1".to_owned(),
            port,
            tls: None,
            client_id: "gw".to_owned(),
            login: None,
            keep_alive: Duration::from_secs(60),
            proxy: None,
            outbox: outbox::Settings {
                directory: Some(scratch.join("outbox")),
                bounds: Bounds { bytes: 1 << 20, entries: 1000 },
            },
        },
        last_will: None,
        subscriptions: vec!["edgecam/gw/+/cmd/+".to_owned()],
    }
}

#[tokio::test]
async fn every_refusal_has_its_words() {
    let scratch = Scratch::new("mqtt-codes");
    let code = |code| Manner { code: Some(code), ..Manner::default() };
    let noise = |noise| Manner { noise: Some(noise), ..Manner::default() };
    for (manner, reason, part) in [
        (code(1), "refused", "does not speak MQTT 3.1.1"),
        (code(2), "refused", "does not accept the client id `gw`"),
        (code(3), "unreachable", "not ready"),
        (code(4), "refused", "user name and password"),
        (code(5), "refused", "does not allow the client `gw` to connect"),
        (code(7), "refused", "does not allow the client `gw` to connect"),
        (code(99), "refused", "code 99"),
        (noise(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "protocol_error", "not for a client"),
        (noise(b"\xd0\x00"), "protocol_error", "did not begin with a CONNACK"),
        (Manner::default(), "unreachable", "did not answer within 4 s"),
    ] {
        let broker = StandIn::start([manner]).await;
        let (word, message) = complaint(plain(&scratch, broker.port)).await;
        assert!(word == reason && message.contains(part), "{reason}, {part}: {word}: {message}");
        assert_eq!(broker.got()[0], Got::Connect { clean: false, keep_alive: 60 });
    }
}

#[tokio::test]
async fn refused_filters_are_named() {
    let scratch = Scratch::new("mqtt-filters");
    let mut broker = StandIn::start([Manner { refuses: Some("f7/"), ..Manner::friendly() }]).await;
    let mut settings = plain(&scratch, broker.port);
    settings.subscriptions = (0..10).map(|n| format!("f{n}/cmd/+")).collect();
    let ours = Running::start(settings);
    let status = ours.until("told", |status| !status.refused_filters.is_empty()).await;
    assert_eq!((status.state, status.refused_filters), (MqttState::Connected, vec!["f7/cmd/+".to_owned()]));
    assert!(status.last_error.is_some_and(|said| said.contains("does not allow subscribing to `f7/cmd/+`")));
    broker.until("all filters", |got| matches!(got, [_, Got::Subscribe(_), Got::Subscribe(_)])).await;
    ours.stop().await;
}

/// AWS IoT closes the connection over a message that the policy does not allow. It is found out which, and the others
/// go on, in order.
#[tokio::test]
async fn a_message_that_closes_the_connection() {
    let scratch = Scratch::new("mqtt-forbidden");
    let manner = Manner { closes_over_publish: Some("forbidden"), session_present: true, ..Manner::friendly() };
    let mut broker = StandIn::start([manner]).await;
    let ours = Running::start(plain(&scratch, broker.port));
    for n in 0..6 {
        ours.publish(if n == 2 { "forbidden" } else { "fine" }, &n.to_string(), Kind::Report);
    }
    broker
        .until("the others are there", |got| matches!(got.last(), Some(Got::Publish { payload, .. }) if payload == "5"))
        .await;
    let payloads = broker.payloads();
    let count = |wanted: &str| payloads.iter().filter(|payload| *payload == wanted).count();
    assert_eq!((count("2"), payloads.len()), (3, 8), "{payloads:?}");
    let status = ours.until("connected", |status| status.state == MqttState::Connected).await;
    assert_eq!(status.refused_topics, ["forbidden"]);
    let said = status.last_error.unwrap_or_default();
    assert!(said.contains("closes the connection over publishing to `forbidden`: its policy"), "{said}");
    ours.publish("forbidden", "6", Kind::State);
    ours.publish("fine", "7", Kind::Report);
    broker.until("the next", |got| matches!(got.last(), Some(Got::Publish { payload, .. }) if payload == "7")).await;
    ours.stop().await;
    broker.until("good-bye", |got| got.last() == Some(&Got::Disconnect)).await;
}

#[tokio::test]
async fn a_subscription_that_closes_the_connection() {
    let scratch = Scratch::new("mqtt-unsubscribable");
    let manner = Manner { closes_over_subscribe: true, session_present: true, ..Manner::friendly() };
    let mut broker = StandIn::start([manner]).await;
    let ours = Running::start(plain(&scratch, broker.port));
    ours.publish("fine", "1", Kind::Report);
    ours.until("understood", |status| status.last_error.as_ref().is_some_and(|said| said.contains("policy"))).await;
    ours.publish("fine", "2", Kind::Report);
    let is_there = |got: &[Got]| matches!(got.last(), Some(Got::Publish { payload, .. }) if payload == "2");
    broker.until("reports go without it", is_there).await;
    let said = ours.client.status().last_error.unwrap_or_default();
    assert!(said.contains("over subscribing to `edgecam/gw/+/cmd/+`"), "{said}");
    ours.stop().await;
}

/// Messages without an acknowledgement are sent again with the same identifier as long as the broker remembers us, and
/// as new ones when it does not; in order both times.
#[tokio::test]
async fn sent_again_in_order() {
    for session_present in [true, false] {
        let scratch = Scratch::new("mqtt-again");
        let forgetful = Manner { takes_without_ack: Some(3), ..Manner::friendly() };
        let mut broker = StandIn::start([forgetful, Manner { session_present, ..Manner::friendly() }]).await;
        let ours = Running::start(plain(&scratch, broker.port));
        (0..5).for_each(|n| ours.publish("fine", &n.to_string(), Kind::Report));
        broker.until("all", |got| matches!(got.last(), Some(Got::Publish { payload, .. }) if payload == "4")).await;
        let sent = |got| match got {
            Got::Publish { payload, id, again, .. } => Some((payload, id, again)),
            _ => None,
        };
        let sent: Vec<_> = broker.got().into_iter().filter_map(sent).collect();
        let payloads: Vec<&str> = sent.iter().map(|(payload, ..)| payload.as_str()).collect();
        assert_eq!(payloads, ["0", "1", "2", "0", "1", "2", "3", "4"]);
        let (first, second) = sent.split_at(3);
        for ((_, before, _), (_, id, again)) in first.iter().zip(second) {
            assert_eq!(*again, session_present);
            assert!(!session_present || id == before);
        }
        ours.stop().await;
    }
}

#[tokio::test]
async fn plain_tcp_stays_on_this_machine() {
    let scratch = Scratch::new("mqtt-plain");
    let mut settings = plain(&scratch, 1883);
    settings.connection.host = "192.0.2.1".to_owned();
    let (reason, message) = complaint(settings).await;
    assert!(reason == "unreachable" && message.contains("not this machine"), "{message}");
}

//! Brokers that go and come back, and connections that are cut: nothing is lost, nothing is out of order.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::*;
use crate::harness::agent::free_port;
use crate::harness::broker::BLINK;
use crate::harness::is_long;
use edgecam::control::mqtt::Link;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Connections that do not last.
const CUTS: u32 = 5;

/// Numbers of reports as they were first heard; sent again is allowed, in order too.
fn first_heard(messages: &[(bool, String, String)]) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    let numbers = messages.iter().filter_map(|(_, _, payload)| payload.parse().ok());
    numbers.filter(|number| seen.insert(*number)).collect()
}

/// Publishes numbered reports until told to end; returns how many.
async fn reports(client: Client, end: CancellationToken) -> u32 {
    let mut count = 0;
    while !end.is_cancelled() {
        client.publish(message("edgecam/gw/event", &count.to_string(), Kind::Report)).expect("within limits");
        count += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    count
}

/// A broker that is not there at the start, and goes and comes back again and again while reports go out.
#[tokio::test]
async fn restarts() {
    let mut broker = Broker::start("mqtt-restarts").await;
    let listener = broker.listen("edgecam/gw/#").await;
    broker.stop();
    let ours = Running::start(settings(&broker, "gw", &broker.client("gw")));
    ours.publish("edgecam/gw/status", "online", Kind::State);
    let (end, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(reports(ours.client.clone(), end.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    broker.start_again().await;
    let times = if is_long() { 10 } else { 6 };
    for _ in 0..times {
        ours.connected().await;
        tokio::time::sleep(BLINK * 2).await;
        broker.stop();
        ours.until("down", |status| status.state != MqttState::Connected).await;
        tokio::time::sleep(BLINK).await;
        broker.start_again().await;
    }
    ours.connected().await;
    end.cancel();
    let count = tasks.join_next().await.expect("a task").expect("no panic");
    ours.publish("edgecam/gw/last", "last", Kind::Report);
    let heard = listener.until("last").await;
    assert_eq!(first_heard(&heard), (0..count).collect::<Vec<_>>());
    let status = ours.until("all acknowledged", |status| status.outbox.entries == 0).await;
    assert_eq!((status.outbox.dropped, status.connections), (0, times + 1));
    // How things are was said again on each connection, by us after the broker said our will.
    let states: Vec<&str> =
        heard.iter().filter(|(_, topic, _)| topic == "edgecam/gw/status").map(|(_, _, payload)| &**payload).collect();
    assert_eq!(states.last(), Some(&"online"), "{states:?}");
    ours.stop().await;
}

/// Connections that are cut at any byte, by something in between; the broker stays.
#[tokio::test]
async fn cut_at_any_byte() {
    let broker = Broker::start("mqtt-cuts").await;
    let listener = broker.listen("edgecam/gw/event").await;
    let port = free_port();
    let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a port");
    let (behind, mut rng) = (broker.port, fastrand::Rng::with_seed(3));
    let mut relaying = JoinSet::new();
    relaying.spawn(async move {
        for connection in 0..u32::MAX {
            let (mut ours, _) = relay.accept().await.expect("a connection");
            let mut theirs = TcpStream::connect((Ipv4Addr::LOCALHOST, behind)).await.expect("the broker is there");
            // The handshake takes some 10 ms. Cut for ever, it would look as if another agent had the same client id.
            let life = if connection < CUTS { Duration::from_millis(rng.u64(5..900)) } else { PATIENCE * 4 };
            drop(tokio::time::timeout(life, copy_bidirectional(&mut ours, &mut theirs)).await);
        }
    });
    let mut settings = settings(&broker, "gw", &broker.client("gw"));
    settings.connection.port = port;
    let ours = Running::start(settings);
    let mut link = ours.client.link();
    let (end, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(reports(ours.client.clone(), end.clone()));
    let again = link.wait_for(|link| matches!(link, Link::Up(number) if *number >= 2));
    tokio::time::timeout(PATIENCE * 2, again).await.expect("in time").expect("there");
    end.cancel();
    let count = tasks.join_next().await.expect("a task").expect("no panic");
    let heard = listener.until(&(count - 1).to_string()).await;
    assert_eq!(first_heard(&heard), (0..count).collect::<Vec<_>>());
    ours.stop().await;
}

/// What could not be sent is sent by the next run, first.
#[tokio::test]
async fn a_restart_of_ours_without_a_broker() {
    let mut broker = Broker::start("mqtt-own-restart").await;
    let listener = broker.listen("edgecam/gw/#").await;
    broker.stop();
    let identity = broker.client("gw");
    for run in 0..3 {
        let ours = Running::start(settings(&broker, "gw", &identity));
        (0..10).for_each(|n| ours.publish("edgecam/gw/event", &(run * 10 + n).to_string(), Kind::Report));
        ours.stop().await;
    }
    broker.start_again().await;
    let ours = Running::start(settings(&broker, "gw", &identity));
    ours.publish("edgecam/gw/event", "last", Kind::Report);
    assert_eq!(first_heard(&listener.until("last").await), (0..30).collect::<Vec<_>>());
    ours.stop().await;
}

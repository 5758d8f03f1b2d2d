//! Through an HTTP proxy that wants to know who asks.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use edgecam::config::secret::Secret;
use edgecam::control::mqtt::{Login, Proxy};

/// Lets through whoever knows `u:p`, to the one place asked for.
async fn proxy(listener: TcpListener) {
    loop {
        let (mut client, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.expect("a request"));
        }
        let head = String::from_utf8(head).expect("text");
        let port = head.strip_prefix("CONNECT localhost:").and_then(|rest| rest.split(' ').next()?.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("{head}"));
        if !head.contains("\r\nProxy-Authorization: Basic dTpw\r\n") {
            client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.ok();
            continue;
        }
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.expect("written");
        let mut broker = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the broker");
        copy_bidirectional(&mut client, &mut broker).await.ok();
    }
}

#[tokio::test]
async fn through_a_proxy() {
    let broker = Broker::start("mqtt-proxy").await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let mut serving = JoinSet::new();
    serving.spawn(proxy(listener));
    let mut settings = settings(&broker, "gw", &broker.client("gw"));
    let login = |password: &str| Some(Login { username: "u".to_owned(), password: Secret::new(password) });
    settings.connection.proxy = Some(Proxy { host: "127.0.0.1".to_owned(), port, login: login("wrong") });
    let (reason, message) = complaint(settings.clone()).await;
    assert!(reason == "unreachable" && message.contains("the proxy wants another user name and password"), "{message}");
    settings.connection.proxy = Some(Proxy { host: "127.0.0.1".to_owned(), port, login: login("p") });
    let ours = Running::start(settings);
    ours.connected().await;
    ours.publish("edgecam/gw/event", "1", Kind::Report);
    ours.until("acknowledged", |status| status.published == 1).await;
    ours.stop().await;
}

//! A broker of our own, for what mosquitto does not do: it says no as AWS IoT does, by closing the connection; it answers
//! with any code; it falls silent. It speaks plain TCP, and notes what it gets.
//!
//! Strict: whatever is not MQTT 3.1.1, or breaks a limit of AWS IoT, ends the test. Uses no code of the agent's.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{PATIENCE, poll};

/// What it does to one connection.
#[derive(Clone, Default)]
pub(super) struct Manner {
    /// Code of the CONNACK; no CONNACK at all without one.
    pub(super) code: Option<u8>,
    /// Sent instead of a CONNACK.
    pub(super) noise: Option<&'static [u8]>,
    pub(super) session_present: bool,
    /// Closes the connection over messages to this topic.
    pub(super) closes_over_publish: Option<&'static str>,
    /// Closes the connection over a subscription.
    pub(super) closes_over_subscribe: bool,
    /// Refuses filters with this in them.
    pub(super) refuses: Option<&'static str>,
    /// Takes this many messages and acknowledges none of them, then closes.
    pub(super) takes_without_ack: Option<usize>,
}

/// What it got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Got {
    Connect { clean: bool, keep_alive: u16 },
    Publish { topic: String, payload: String, id: u16, again: bool },
    Subscribe(Vec<String>),
    Disconnect,
}

pub(super) struct StandIn {
    pub(super) port: u16,
    got: Arc<Mutex<Vec<Got>>>,
    serving: JoinSet<()>,
}

impl Manner {
    pub(super) fn friendly() -> Self {
        Self { code: Some(0), ..Self::default() }
    }
}

impl StandIn {
    /// Treats one connection after the other in these manners, and all further ones in the last.
    pub(super) async fn start(manners: impl IntoIterator<Item = Manner>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (note, mut manners) = (got.clone(), manners.into_iter().collect::<VecDeque<_>>());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                stream.set_nodelay(true).expect("an option");
                let manner = if manners.len() > 1 { manners.pop_front() } else { manners.front().cloned() };
                // One at a time: the client has one connection. It may vanish at any point.
                serve(&mut stream, &manner.unwrap_or_default(), &note).await.ok();
            }
        });
        Self { port, got, serving }
    }

    pub(super) fn got(&self) -> Vec<Got> {
        self.got.lock().expect("no panic").clone()
    }

    /// Payloads of the messages that came, in order.
    pub(super) fn payloads(&self) -> Vec<String> {
        let publish = |got| if let Got::Publish { payload, .. } = got { Some(payload) } else { None };
        self.got().into_iter().filter_map(publish).collect()
    }

    /// Waits until it has got what is wanted.
    pub(super) async fn until(&mut self, what: &str, is_so: impl Fn(&[Got]) -> bool) {
        let found = poll(PATIENCE, async || is_so(&self.got()).then_some(())).await;
        if let Some(ended) = self.serving.try_join_next() {
            ended.expect("it found nothing wrong");
        }
        assert!(found.is_some(), "not {what}: {:?}", self.got());
    }
}

async fn serve(stream: &mut TcpStream, manner: &Manner, note: &Mutex<Vec<Got>>) -> std::io::Result<()> {
    let mut taken = 0;
    loop {
        let first = stream.read_u8().await?;
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = stream.read_u8().await?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let got = parse(first, &body);
        if let Some(got) = &got {
            note.lock().expect("no panic").push(got.clone());
        }
        match got {
            Some(Got::Connect { .. }) => {
                if let Some(noise) = manner.noise {
                    stream.write_all(noise).await?;
                }
                let Some(code) = manner.code else {
                    // Until the client has had enough: the next one may come.
                    tokio::time::timeout(PATIENCE, stream.read_u8()).await.ok();
                    return Ok(());
                };
                stream.write_all(&[0x20, 2, u8::from(manner.session_present), code]).await?;
                if code != 0 {
                    return Ok(());
                }
            }
            Some(Got::Subscribe(filters)) => {
                if manner.closes_over_subscribe {
                    return Ok(());
                }
                assert!((1..=8).contains(&filters.len()), "{} filters", filters.len());
                let mut answer = vec![0x90, 2 + filters.len() as u8, body[0], body[1]];
                let is_refused = |filter: &String| manner.refuses.is_some_and(|part| filter.contains(part));
                answer.extend(filters.iter().map(|filter| if is_refused(filter) { 0x80 } else { 1 }));
                stream.write_all(&answer).await?;
            }
            Some(Got::Publish { topic, id, .. }) => {
                taken += 1;
                if manner.closes_over_publish.is_some_and(|bad| topic == bad) {
                    return Ok(());
                }
                match manner.takes_without_ack {
                    Some(most) if taken >= most => return Ok(()),
                    Some(_) => {}
                    None => stream.write_all(&[0x40, 2, (id >> 8) as u8, id as u8]).await?,
                }
            }
            Some(Got::Disconnect) => return Ok(()),
            None => stream.write_all(&[0xd0, 0]).await?,
        }
    }
}

/// A packet of a client without QoS 2 that never unsubscribes; `None` is a ping.
fn parse(first: u8, mut body: &[u8]) -> Option<Got> {
    let text = |body: &mut &[u8]| {
        let (length, rest) = body.split_first_chunk::<2>().expect("a length");
        let (text, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into()).expect("its text");
        *body = rest;
        std::str::from_utf8(text).expect("UTF-8").to_owned()
    };
    match first {
        0x10 => {
            assert_eq!((text(&mut body).as_str(), body[0]), ("MQTT", 4));
            Some(Got::Connect { clean: body[1] & 2 != 0, keep_alive: u16::from_be_bytes([body[2], body[3]]) })
        }
        0x32 | 0x33 | 0x3a | 0x3b => {
            let topic = text(&mut body);
            assert!(topic.len() <= 256 && topic.matches('/').count() <= 7 && !topic.contains(['+', '#']), "{topic}");
            let (id, payload) = body.split_first_chunk::<2>().expect("an identifier");
            let id = u16::from_be_bytes(*id);
            assert!(id > 0 && payload.len() <= 128 << 10);
            let payload = String::from_utf8_lossy(payload).into_owned();
            Some(Got::Publish { topic, payload, id, again: first & 8 != 0 })
        }
        0x82 => {
            body = &body[2..];
            let mut filters = Vec::new();
            while !body.is_empty() {
                filters.push(text(&mut body));
                assert_eq!(body[0], 1, "QoS 1");
                body = &body[1..];
            }
            Some(Got::Subscribe(filters))
        }
        0x40 => panic!("nothing was sent that could be acknowledged"),
        0xc0 => None,
        0xe0 => Some(Got::Disconnect),
        other => panic!("packet {other:#x}"),
    }
}

//! One connection's side of the protocol: what is in flight, what has been subscribed to, when to ping. Sans-IO.
//!
//! Invariants: what is in flight keeps its packet identifier until it is acknowledged, over connections too when the
//! broker has kept the session; messages are acknowledged in the order they came.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rumqttc::{Packet, PubAck, Publish, QoS, Subscribe, SubscribeFilter};

use super::limits::FILTERS_MOST;
use super::wire::{self, Received};
use crate::event::outbox::Sequence;

/// Messages that wait for an acknowledgement: mosquitto takes 20 by default, AWS IoT 100.
const IN_FLIGHT_MOST: usize = 16;
/// Their bytes: on a slow link acknowledgements are not behind minutes of data.
const IN_FLIGHT_BYTES: usize = 256 << 10;
/// A broker that owes us an answer and moves nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(20);
/// The same for an answer to a ping.
const PING_SILENCE: Duration = Duration::from_secs(10);

/// Where a message in flight came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A state: its topic says which.
    State,
    /// A message of the outbox.
    Outbox(Sequence),
}

/// A message the broker has not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct InFlight {
    pub(super) origin: Origin,
    pub(super) packet: Publish,
}

/// What a packet means for others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// A message has come; of a payload that was too large, the bytes.
    Deliver(Publish, Option<usize>),
    /// The broker has taken a message.
    Delivered(Origin),
    /// The broker has answered a SUBSCRIBE; these filters it refused.
    Subscribed { refused: Vec<String> },
    /// Nothing.
    None,
}

/// Nothing has come from the broker for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Silent;

/// The state of one connection, from CONNACK on.
#[derive(Debug)]
pub(super) struct Session {
    /// What is to be written.
    pub(super) out: BytesMut,
    keep_alive: Duration,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    next_id: u16,
    subscribing: VecDeque<(u16, Vec<String>)>,
    ping: Option<Instant>,
    sent: Instant,
    /// When bytes last went either way.
    moved: Instant,
}

impl Session {
    /// A new connection. Subscribes first: whatever the broker then closes the connection over is the first thing it
    /// owes an answer for. What was in flight, and the broker may know of, is sent again, in order.
    pub(super) fn begin(keep_alive: Duration, in_flight: VecDeque<InFlight>, filters: &[String], now: Instant) -> Self {
        let mut session = Self {
            out: BytesMut::new(),
            keep_alive,
            in_flight_bytes: in_flight.iter().map(|message| message.packet.payload.len()).sum(),
            next_id: in_flight.back().map_or(0, |last| last.packet.pkid),
            in_flight,
            subscribing: VecDeque::new(),
            ping: None,
            sent: now,
            moved: now,
        };
        session.subscribe(filters);
        for message in &mut session.in_flight {
            message.packet.dup = true;
            wire::put(&mut session.out, &Packet::Publish(message.packet.clone()));
        }
        session
    }

    /// Ends the connection: what is still in flight, in order.
    pub(super) fn end(self) -> VecDeque<InFlight> {
        self.in_flight
    }

    /// Whether one more message may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < IN_FLIGHT_MOST && self.in_flight_bytes < IN_FLIGHT_BYTES
    }

    /// Whether all messages have been acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The message the broker owes an answer for, if it owes one.
    pub(super) fn oldest(&self) -> Option<&InFlight> {
        self.in_flight.front()
    }

    /// Filters the broker owes an answer for.
    pub(super) fn unanswered_filters(&self) -> Vec<String> {
        self.subscribing.iter().flat_map(|(_, filters)| filters.clone()).collect()
    }

    /// Subscribes, in as many packets as it takes.
    fn subscribe(&mut self, filters: &[String]) {
        for some in filters.chunks(FILTERS_MOST) {
            let id = self.fresh_id();
            let filters = some.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
            let packet = Subscribe { pkid: id, ..Subscribe::new_many(filters) };
            wire::put(&mut self.out, &Packet::Subscribe(packet));
            self.subscribing.push_back((id, some.to_vec()));
        }
    }

    /// Sends a message.
    pub(super) fn publish(&mut self, origin: Origin, topic: String, payload: Bytes, retain: bool) {
        let pkid = self.fresh_id();
        self.in_flight_bytes += payload.len();
        let packet = Publish { retain, pkid, ..Publish::from_bytes(topic, QoS::AtLeastOnce, payload) };
        wire::put(&mut self.out, &Packet::Publish(packet.clone()));
        self.in_flight.push_back(InFlight { origin, packet });
    }

    /// Says good-bye: the broker forgets the last will.
    pub(super) fn disconnect(&mut self) {
        wire::put(&mut self.out, &Packet::Disconnect);
    }

    /// An identifier that is not in use (§2.3.1): never 0.
    fn fresh_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            let id = self.next_id;
            let is_used = self.in_flight.iter().any(|message| message.packet.pkid == id)
                || self.subscribing.iter().any(|(used, _)| *used == id);
            if !is_used {
                return id;
            }
        }
    }

    /// A packet has come.
    pub(super) fn receive(&mut self, packet: Received) -> Effect {
        match packet {
            Received::Publish { packet, too_large } => {
                if packet.qos == QoS::AtLeastOnce {
                    wire::put(&mut self.out, &Packet::PubAck(PubAck::new(packet.pkid)));
                }
                Effect::Deliver(packet, too_large)
            }
            Received::PubAck(id) => match self.in_flight.iter().position(|message| message.packet.pkid == id) {
                Some(index) => {
                    let Some(message) = self.in_flight.remove(index) else { return Effect::None };
                    self.in_flight_bytes -= message.packet.payload.len();
                    Effect::Delivered(message.origin)
                }
                None => Effect::None,
            },
            Received::SubAck { id, granted } => match self.subscribing.iter().position(|(asked, _)| *asked == id) {
                Some(index) => {
                    let filters = self.subscribing.remove(index).map(|(_, filters)| filters).unwrap_or_default();
                    // What is not answered for is not granted.
                    let granted = granted.into_iter().chain(std::iter::repeat(false));
                    let refused = filters.into_iter().zip(granted).filter(|(_, granted)| !granted);
                    Effect::Subscribed { refused: refused.map(|(filter, _)| filter).collect() }
                }
                None => Effect::None,
            },
            Received::PingResp => {
                self.ping = None;
                Effect::None
            }
            Received::ConnAck { .. } => Effect::None,
        }
    }

    /// Bytes have been read.
    pub(super) fn read(&mut self, now: Instant) {
        self.moved = now;
    }

    /// Bytes have been written.
    pub(super) fn written(&mut self, now: Instant) {
        (self.sent, self.moved) = (now, now);
    }

    /// When [`Self::tick`] is due.
    pub(super) fn deadline(&self) -> Instant {
        let owed = !self.in_flight.is_empty() || !self.subscribing.is_empty() || !self.out.is_empty();
        let silent = owed.then(|| self.moved + SILENCE);
        let next = self.ping.map_or(self.sent + self.keep_alive, |ping| ping.max(self.moved) + PING_SILENCE);
        silent.map_or(next, |silent| silent.min(next))
    }

    /// The deadline has come: pings, or finds the broker gone.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), Silent> {
        if now < self.deadline() {
            return Ok(());
        }
        if self.ping.is_none() && now >= self.sent + self.keep_alive {
            wire::put(&mut self.out, &Packet::PingReq);
            self.ping = Some(now);
            return Ok(());
        }
        Err(Silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::mqtt::wire::Decoder;

    const KEEP_ALIVE: Duration = Duration::from_secs(60);

    fn publish(session: &mut Session, text: &str) {
        session.publish(Origin::State, "t".to_owned(), Bytes::copy_from_slice(text.as_bytes()), false);
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_with_its_identifier() {
        let now = Instant::now();
        let mut session = Session::begin(KEEP_ALIVE, VecDeque::new(), &[], now);
        ["a", "b", "c"].iter().for_each(|text| publish(&mut session, text));
        assert_eq!(session.receive(Received::PubAck(2)), Effect::Delivered(Origin::State));
        assert_eq!(session.receive(Received::PubAck(2)), Effect::None, "nobody waits for it");
        let mut again = Session::begin(KEEP_ALIVE, session.end(), &[], now);
        let mut decoder = Decoder::default();
        decoder.feed(&again.out.split());
        let mut sent = Vec::new();
        while let Some(Received::Publish { packet, .. }) = decoder.next().expect("well-formed") {
            sent.push((packet.pkid, packet.dup, packet.payload));
        }
        assert_eq!(sent, [(1, true, Bytes::from_static(b"a")), (3, true, Bytes::from_static(b"c"))]);
        publish(&mut again, "d");
        decoder.feed(&again.out);
        let next = decoder.next().expect("well-formed");
        assert!(matches!(next, Some(Received::Publish { packet: Publish { pkid: 4, dup: false, .. }, .. })));
    }

    #[test]
    fn identifiers_go_around_and_are_never_shared() {
        let mut session = Session::begin(KEEP_ALIVE, VecDeque::new(), &[], Instant::now());
        publish(&mut session, "old");
        for _ in 0..70_000 {
            publish(&mut session, "x");
            let id = session.in_flight.back().expect("in flight").packet.pkid;
            assert!(id > 1);
            session.receive(Received::PubAck(id));
        }
    }

    #[test]
    fn pings_only_when_nothing_was_sent_and_notices_silence() {
        let start = Instant::now();
        let mut session = Session::begin(KEEP_ALIVE, VecDeque::new(), &[], start);
        assert_eq!(session.deadline(), start + KEEP_ALIVE);
        let now = start + Duration::from_secs(50);
        publish(&mut session, "x");
        session.out.clear();
        session.written(now);
        session.receive(Received::PubAck(1));
        assert_eq!(session.deadline(), now + KEEP_ALIVE);
        let now = now + KEEP_ALIVE;
        assert_eq!(session.tick(now), Ok(()));
        assert_eq!(&session.out[..], [0xc0, 0]);
        session.out.clear();
        session.written(now);
        assert_eq!(session.deadline(), now + PING_SILENCE);
        assert_eq!(session.tick(now + PING_SILENCE), Err(Silent));
        session.receive(Received::PingResp);
        assert_eq!(session.tick(now + PING_SILENCE), Ok(()));
    }

    #[test]
    fn a_broker_that_owes_an_answer_is_not_waited_for_for_ever() {
        let start = Instant::now();
        let mut session = Session::begin(Duration::from_secs(1200), VecDeque::new(), &[], start);
        publish(&mut session, "x");
        session.out.clear();
        session.written(start);
        assert_eq!(session.deadline(), start + SILENCE);
        session.read(start + Duration::from_secs(15));
        assert_eq!(session.tick(start + SILENCE), Ok(()), "something has moved");
        assert_eq!(session.tick(start + Duration::from_secs(35)), Err(Silent));
    }

    #[test]
    fn eight_filters_a_packet_and_refused_ones_are_named() {
        let filters: Vec<String> = (0..10).map(|n| format!("f/{n}")).collect();
        let mut session = Session::begin(KEEP_ALIVE, VecDeque::new(), &filters, Instant::now());
        assert_eq!(session.subscribing.len(), 2);
        let mut granted = vec![true; 8];
        granted[3] = false;
        let effect = session.receive(Received::SubAck { id: 1, granted });
        assert_eq!(effect, Effect::Subscribed { refused: vec!["f/3".to_owned()] });
        let effect = session.receive(Received::SubAck { id: 2, granted: vec![true] });
        assert_eq!(effect, Effect::Subscribed { refused: vec!["f/9".to_owned()] });
    }
}

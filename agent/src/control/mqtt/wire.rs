//! MQTT 3.1.1 packets in a stream of bytes. Pure. The packets are rumqttc's.
//!
//! Invariants: only what a broker sends to a client without QoS 2 gets through; a message that is too large is skipped
//! while it comes, so that it can be acknowledged: refused by closing, a persistent session would bring it back for ever.
//!
//! Section numbers are those of the OASIS standard of 29 October 2014.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttc::mqttbytes::Error;
use rumqttc::{ConnectReturnCode, Packet, Publish, QoS, SubscribeReasonCode};

/// Largest payload that is kept: AWS IoT's limit.
pub(super) const PAYLOAD_MOST: usize = 128 << 10;
/// What comes before a payload at most: topic with its length (§1.5.3), packet identifier.
const BEFORE_PAYLOAD_MOST: usize = 2 + 0xffff + 2;
const PUBLISH_MOST: usize = BEFORE_PAYLOAD_MOST + PAYLOAD_MOST;
/// Packets without a payload are acknowledgements: nobody needs longer ones.
const OTHERS_MOST: usize = 64;

/// What a broker sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Received {
    /// §3.2
    ConnAck { session_present: bool, code: u8 },
    /// §3.3; of a payload that was too large and is skipped, the bytes.
    Publish { packet: Publish, too_large: Option<usize> },
    /// §3.4
    PubAck(u16),
    /// §3.9; whether each filter was granted.
    SubAck { id: u16, granted: Vec<bool> },
    /// §3.13
    PingResp,
}

/// What has come is not MQTT 3.1.1, or nothing a client asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the broker sent what is not MQTT 3.1.1: {0}")]
    Packet(String),
    #[error("the broker sent a packet that is not for a client")]
    NotForUs,
    #[error("the broker sent a message with QoS 2, which was not asked for")]
    QoS2,
    #[error("the broker sent a topic that cannot be one")]
    Topic,
}

/// Makes packets of bytes, in whatever pieces they come.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    /// Bytes of a payload still to come that nobody wants.
    skip: usize,
}

impl Decoder {
    /// Takes what has come.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.buffer.extend_from_slice(bytes.get(skipped..).unwrap_or_default());
    }

    /// The next packet, once it is there.
    pub(super) fn next(&mut self) -> Result<Option<Received>, Malformed> {
        let Some(&first) = self.buffer.first() else { return Ok(None) };
        let is_publish = match first >> 4 {
            3 => true,
            2 | 4 | 9 | 13 => false,
            _ => return Err(Malformed::NotForUs),
        };
        let read = Packet::read(&mut self.buffer, if is_publish { PUBLISH_MOST } else { OTHERS_MOST });
        if self.buffer.is_empty() {
            // A large packet does not leave a large buffer behind.
            self.buffer = BytesMut::new();
        }
        match read {
            Ok(packet) => received(packet).map(Some),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(Error::PayloadSizeLimitExceeded(length)) if is_publish => self.too_large(first, length),
            // AWS IoT has codes of its own.
            Err(Error::InvalidConnectReturnCode(code)) => Ok(Some(Received::ConnAck { session_present: false, code })),
            Err(Error::PayloadSizeLimitExceeded(_)) => Err(Malformed::NotForUs),
            Err(error) => Err(Malformed::Packet(error.to_string())),
        }
    }

    /// A message of which only what comes before the payload is read.
    fn too_large(&mut self, first: u8, length: usize) -> Result<Option<Received>, Malformed> {
        let header = 2 + self.buffer.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count();
        let Some(topic) = self.buffer.get(header..header + 2).and_then(<[u8]>::first_chunk::<2>) else {
            return Ok(None);
        };
        let before = 2 + usize::from(u16::from_be_bytes(*topic)) + if first & 0x06 == 0 { 0 } else { 2 };
        let Some(beginning) = self.buffer.get(header..header + before) else { return Ok(None) };
        let mut small = BytesMut::with_capacity(4 + before);
        // A length of three bytes (§2.2.3), whatever it is.
        small.put_slice(&[first, before as u8 | 0x80, (before >> 7) as u8 | 0x80, (before >> 14) as u8]);
        small.extend_from_slice(beginning);
        let packet = Packet::read(&mut small, PUBLISH_MOST).map_err(|error| Malformed::Packet(error.to_string()))?;
        self.buffer.advance(header + before);
        let skipped = (length - before).min(self.buffer.len());
        self.buffer.advance(skipped);
        self.skip = length - before - skipped;
        match received(packet)? {
            Received::Publish { packet, .. } => {
                Ok(Some(Received::Publish { packet, too_large: Some(length - before) }))
            }
            _ => Err(Malformed::NotForUs),
        }
    }
}

fn received(packet: Packet) -> Result<Received, Malformed> {
    match packet {
        Packet::ConnAck(ack) => Ok(Received::ConnAck { session_present: ack.session_present, code: code(ack.code) }),
        Packet::Publish(publish) if publish.qos == QoS::ExactlyOnce => Err(Malformed::QoS2),
        Packet::Publish(publish) if publish.topic.is_empty() || publish.topic.contains(['+', '#', '\0']) => {
            Err(Malformed::Topic)
        }
        Packet::Publish(mut packet) => {
            let size = packet.payload.len();
            let too_large = (size > PAYLOAD_MOST).then_some(size);
            if too_large.is_some() {
                packet.payload = Bytes::new();
            }
            Ok(Received::Publish { packet, too_large })
        }
        Packet::PubAck(ack) => Ok(Received::PubAck(ack.pkid)),
        Packet::SubAck(ack) => {
            let granted = ack.return_codes.iter().map(|code| *code != SubscribeReasonCode::Failure).collect();
            Ok(Received::SubAck { id: ack.pkid, granted })
        }
        Packet::PingResp => Ok(Received::PingResp),
        _ => Err(Malformed::NotForUs),
    }
}

fn code(code: ConnectReturnCode) -> u8 {
    match code {
        ConnectReturnCode::Success => 0,
        ConnectReturnCode::RefusedProtocolVersion => 1,
        ConnectReturnCode::BadClientId => 2,
        ConnectReturnCode::ServiceUnavailable => 3,
        ConnectReturnCode::BadUserNamePassword => 4,
        ConnectReturnCode::NotAuthorized => 5,
    }
}

/// Adds a packet to what is to be written. What is sent was checked before: it is well-formed and small enough.
pub(super) fn put(out: &mut BytesMut, packet: &Packet) {
    let length = out.len();
    if let Err(error) = packet.write(out, PUBLISH_MOST) {
        tracing::error!(%error, "MQTT: a packet cannot be written");
        out.truncate(length);
    }
}

#[cfg(test)]
mod tests;

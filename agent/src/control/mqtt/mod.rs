//! The connection to an MQTT broker, AWS IoT Core first of all.
//!
//! Invariants: publishing never waits, and nothing waits for the broker; a report or reply is sent in order and again
//! until the broker has acknowledged it; what breaks a limit of AWS IoT is refused here and never sent; a connection
//! that cannot be made, or does not last, says why in plain words, and is tried again with growing, jittered waits.
//!
//! Deliberately absent: what commands mean and what reports say ([`crate::control`] above this module); QoS 2, which
//! AWS IoT does not have; MQTT 5. The packets and the session are our own, not rumqttc's: with TLS that crate links
//! ring, a second TLS provider; it cannot be given a stream, so neither a proxy of ours nor a deadline for each step; it
//! drops unacknowledged publishes when the broker has lost the session, may then stop for good (its issue 1056), and a
//! packet over its limit ends the connection, which a persistent session brings back for ever.

mod client;
mod message;
mod settings;
mod status;

pub use client::{Client, Inbox, run};
pub use message::{Incoming, Kind, Message, Refused};
pub use settings::{Connection, Identity, Login, Proxy, Settings, Tls};
pub use status::{Link, MqttState, MqttStatus, Reason};

//! The connection to an MQTT broker, AWS IoT Core first of all.
//!
//! Invariants: publishing never waits, and nothing waits for the broker; a report or reply is sent in order and again
//! until the broker has acknowledged it; what breaks a limit of AWS IoT is refused here and never sent; a connection
//! that cannot be made, or does not last, says why in plain words, and is tried again with growing, jittered waits.
//!
//! Deliberately absent: what commands mean and what reports say ([`crate::control`] above this module); QoS 2, which
//! AWS IoT does not have; MQTT 5.
//!
//! Packets are rumqttc's; its event loop is not used. With TLS that crate links ring, a second TLS provider. It cannot
//! be given a stream, so neither a proxy of ours nor a deadline for each step. It drops unacknowledged publishes when
//! the broker has lost the session, and may then stop for good (bytebeamio/rumqtt#1056). It does not say which message
//! the broker has acknowledged. A packet over its limit ends the connection, which a persistent session brings back for
//! ever; and a broker that is gone is noticed only after two keep-alives.

mod attempts;
mod client;
mod connect;
pub mod limits;
mod message;
mod nucleus;
mod proxy;
mod serve;
mod session;
mod settings;
mod states;
mod status;
mod task;
mod wire;

pub use client::{Client, Inbox};
pub use message::{Incoming, Kind, Message, Refused};
pub use nucleus::run_over_nucleus;
pub use settings::{Connection, Login, Proxy, Settings, Tls, Via};
pub use status::{Link, MqttState, MqttStatus, Reason};
pub use task::run;

pub use crate::host::certificate::Identity;

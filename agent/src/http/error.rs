//! What went wrong, in words for a person who has to walk to the device.
//!
//! Invariant: a message says host and port, and holds neither user, password nor query string.

use std::fmt;
use std::io;
use std::time::Duration;

/// The class of an error: what to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HttpFault {
    /// Not there, gone, or silent: later perhaps.
    Unreachable,
    /// It does not take user name and password, or wants some.
    Unauthorized,
    /// It sends more than it may.
    TooLarge,
    /// It sends what is no HTTP, or what may not be followed.
    Malformed,
}

/// An exchange that failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct HttpError {
    /// What to do next.
    pub fault: HttpFault,
    /// Whether there was a connection before it failed: something listens there.
    pub was_connected: bool,
    message: String,
}

/// Who is spoken to. Prints `host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Peer {
    /// Host name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl HttpError {
    pub(super) fn new(fault: HttpFault, message: impl Into<String>) -> Self {
        Self { fault, was_connected: true, message: message.into() }
    }

    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(HttpFault::Unreachable, message)
    }

    fn unconnected(message: impl Into<String>) -> Self {
        Self { was_connected: false, ..Self::unreachable(message) }
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(HttpFault::Malformed, message)
    }
}

impl Peer {
    pub(super) fn unresolved(&self, error: &io::Error) -> HttpError {
        let host = &self.host;
        HttpError::unconnected(format!("the name '{host}' cannot be resolved ({error}): check it, and the DNS server"))
    }

    pub(super) fn unconnected(&self, error: &io::Error) -> HttpError {
        let port = self.port;
        HttpError::unconnected(match error.kind() {
            io::ErrorKind::ConnectionRefused => format!(
                "{self} refuses connections: the device is there, but nothing listens on port {port}. Is the port right?"
            ),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                format!("{self} cannot be reached ({error}): check address, cable and route")
            }
            io::ErrorKind::TimedOut => {
                format!("{self} does not answer: is the device switched on, is the address right?")
            }
            _ => format!("{self}: connecting failed ({error})"),
        })
    }

    pub(super) fn silent_host(&self, waited: Duration) -> HttpError {
        let waited = waited.as_secs_f32();
        HttpError::unconnected(format!(
            "{self} does not answer within {waited} s: is the device switched on, is the address right, is a firewall \
             between?"
        ))
    }

    pub(super) fn silent(&self, what: &str, waited: Duration) -> HttpError {
        let waited = waited.as_secs_f32();
        HttpError::unreachable(format!("{self} takes connections but did not {what} within {waited} s"))
    }

    pub(super) fn closed(&self) -> HttpError {
        HttpError::unreachable(format!("{self} closed the connection"))
    }

    /// An error of the HTTP library.
    pub(super) fn broke(&self, error: &hyper::Error) -> HttpError {
        if error.is_parse_too_large() {
            let message = format!("{self}: the head of its answer is longer than it may be");
            return HttpError::new(HttpFault::TooLarge, message);
        }
        if error.is_parse() {
            return HttpError::malformed(format!("{self}: its answer is not HTTP ({error}); is the port right?"));
        }
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            return self.closed();
        }
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        HttpError::unreachable(format!("{self}: the connection broke ({error}{cause})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_printed_as_in_urls() {
        let print = |host: &str| Peer { host: host.to_owned(), port: 80 }.to_string();
        assert_eq!(print("nvr.local"), "nvr.local:80");
        assert_eq!(print("fe80::1"), "[fe80::1]:80");
    }
}

//! Where a stream may be sent to. A command that names its own target must not turn the agent into a packet cannon.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Networks that may be sent to. An empty list allows nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllowList(Vec<Network>);

/// A network: an address, and how many of its bits count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A network that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{0}' is not an address, nor a network such as 192.168.0.0/16")]
pub struct NetworkError(String);

/// An address that is not sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// 0.0.0.0 or `::`.
    #[error("the address {0} is no place")]
    Unspecified(IpAddr),
    /// A group, or everyone.
    #[error("the address {0} is multicast or broadcast")]
    Multicast(IpAddr),
    /// This machine; it must be named in the list by an entry of its own.
    #[error("the address {0} is this machine itself, which the list of allowed targets does not name")]
    Loopback(IpAddr),
    /// Not in the list.
    #[error("the address {0} is not among the allowed targets")]
    NotAllowed(IpAddr),
}

impl AllowList {
    /// A list of networks.
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether `address` may be sent to.
    pub fn check(&self, address: IpAddr) -> Result<(), AddressError> {
        // ::ffff:127.0.0.1 is 127.0.0.1 to the kernel.
        let address = address.to_canonical();
        let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        if address.is_unspecified() {
            Err(AddressError::Unspecified(address))
        } else if address.is_multicast() || is_broadcast {
            Err(AddressError::Multicast(address))
        } else if address.is_loopback() {
            let named = |network: &Network| network.address.is_loopback() && network.contains(address);
            self.0.iter().any(named).then_some(()).ok_or(AddressError::Loopback(address))
        } else {
            let is_allowed = self.0.iter().any(|network| network.contains(address));
            is_allowed.then_some(()).ok_or(AddressError::NotAllowed(address))
        }
    }
}

impl Network {
    /// Whether `address` is inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shared = |a: u128, b: u128, width: u32| (a ^ b).leading_zeros() - (128 - width);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                shared(own.to_bits().into(), other.to_bits().into(), 32) >= u32::from(self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => shared(own.to_bits(), other.to_bits(), 128) >= u32::from(self.bits),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError(text.to_owned());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.trim().parse().map_err(|_| error())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |bits| bits.trim().parse()).map_err(|_| error())?;
        if bits > width {
            return Err(error());
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_list_names() {
        let check = |list: &[&str], address: &str| {
            let list = AllowList::new(list.iter().map(|text| text.parse().expect("a network")).collect());
            list.check(address.parse().expect("an address")).is_ok()
        };
        for (list, address, expected) in [
            (&["192.168.0.0/16"][..], "192.168.7.9", true),
            (&["192.168.0.0/16"], "192.169.7.9", false),
            (&["10.0.0.1", "10.0.0.2"], "10.0.0.2", true),
            (&["10.0.0.1"], "10.0.0.2", false),
            (&["10.0.0.1"], "::ffff:10.0.0.1", true),
            (&["10.0.0.1"], "fd00::1", false),
            (&["fd00::/8"], "fd12::1", true),
            (&["fd00::/8"], "fe12::1", false),
            (&["0.0.0.0/0", "::/0"], "8.8.8.8", true),
            (&["0.0.0.0/0", "::/0"], "127.0.0.1", false),
            (&["0.0.0.0/0", "::/0"], "::ffff:127.0.0.1", false),
            (&["0.0.0.0/0", "::/0"], "::1", false),
            (&["127.0.0.0/8"], "127.0.0.1", true),
            (&["::1"], "::1", true),
            (&["0.0.0.0/0", "::/0"], "0.0.0.0", false),
            (&["0.0.0.0/0", "::/0"], "::", false),
            (&["0.0.0.0/0", "224.0.0.0/4"], "239.1.1.1", false),
            (&["0.0.0.0/0"], "255.255.255.255", false),
            (&["::/0"], "ff02::1", false),
            (&[], "10.0.0.1", false),
        ] {
            assert_eq!(check(list, address), expected, "{address} in {list:?}");
        }
    }

    #[test]
    fn networks_are_written_as_they_are_read() {
        for (text, written) in
            [("10.0.0.1", Some("10.0.0.1/32")), ("fd00::/8", Some("fd00::/8")), ("10.0.0.0/33", None)]
        {
            assert_eq!(text.parse::<Network>().ok().map(|network| network.to_string()).as_deref(), written);
        }
        for text in ["", "door", "10.0.0.1/", "10.0.0.1/-1", "10.0.0.1/8/8", "fd00::/129"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}

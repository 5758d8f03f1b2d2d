//! WS-Discovery: who in this network is an ONVIF device. Asked only when a person asks.
//!
//! Anyone in the network may answer, with anything: answers are read as XML of strangers, bounded in size and number, and
//! nothing of them is acted on.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::config::secret::redact_url;
use crate::xml::{self, Element, escape};

/// WS-Discovery 1.0 section 2.4.
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 3702);
/// Sent so many times: UDP loses packets (WS-Discovery 1.0 section 3.1.3).
const PROBES: u32 = 3;
/// Devices that are kept.
const DEVICES: usize = 512;
/// Names and addresses are cut off here.
const NAME: usize = 256;

/// A device that has answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Device {
    /// Who sent the answer.
    pub from: String,
    /// Its own id.
    pub id: String,
    /// What it calls itself, from its scopes.
    pub name: String,
    /// Its model, from its scopes.
    pub hardware: String,
    /// Where it says its device service is.
    pub addresses: Vec<String>,
}

/// Asks, and collects answers for `wait`. `interface` is the address of the network card to ask through.
pub async fn discover(wait: Duration, interface: Option<Ipv4Addr>) -> io::Result<Vec<Device>> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_multicast_ttl_v4(1)?;
    if let Some(interface) = interface {
        socket.set_multicast_if_v4(&interface)?;
    }
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let id = message_id();
    let (message, began) = (probe(&id), Instant::now());
    let mut found = BTreeMap::new();
    let mut buffer = vec![0; 64 << 10];
    for round in 1..=PROBES {
        socket.send_to(message.as_bytes(), GROUP).await?;
        let until = began + wait * round / PROBES;
        while let Ok(received) = timeout_at(until, socket.recv_from(&mut buffer)).await {
            let (length, from) = received?;
            for device in matches(&buffer[..length], &id, &from.ip().to_string()) {
                if found.len() < DEVICES || found.contains_key(&device.id) {
                    found.insert(device.id.clone(), device);
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

fn message_id() -> String {
    let bits = fastrand::u128(..);
    let part = |shift: u32, mask: u128| (bits >> shift) & mask;
    let (a, b, c, d, e) =
        (part(96, 0xffff_ffff), part(80, 0xffff), part(64, 0xfff), part(48, 0x3fff), part(0, 0xffff_ffff_ffff));
    format!("urn:uuid:{a:08x}-{b:04x}-4{c:03x}-{:04x}-{e:012x}", d | 0x8000)
}

/// A question for video transmitters (ONVIF Core section 7.3.2).
fn probe(id: &str) -> String {
    let id = escape(id);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\" \
         xmlns:dn=\"http://www.onvif.org/ver10/network/wsdl\"><s:Header>\
         <a:Action s:mustUnderstand=\"1\">http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action>\
         <a:MessageID>{id}</a:MessageID>\
         <a:To s:mustUnderstand=\"1\">urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header><s:Body><d:Probe>\
         <d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></s:Body></s:Envelope>"
    )
}

/// The devices of an answer to the probe `id` that came from `from`.
pub fn matches(text: &[u8], id: &str, from: &str) -> Vec<Device> {
    let Ok(root) = xml::parse(text) else { return Vec::new() };
    // An answer to another question, or to nobody's.
    if root.find("RelatesTo").map(Element::text) != Some(id) {
        return Vec::new();
    }
    let list = root.find("ProbeMatches").map(|list| list.all("ProbeMatch").collect::<Vec<_>>()).unwrap_or_default();
    let device = |item: &Element| {
        let scopes = item.at(&["Scopes"]).unwrap_or_default();
        let scope = |name: &str| {
            let prefix = format!("onvif://www.onvif.org/{name}/");
            let found = scopes.split_whitespace().find_map(|scope| scope.strip_prefix(&prefix)).unwrap_or_default();
            printable(&percent_decoded(found))
        };
        // An address that is no URL is of no use, and one may hold a password.
        let addresses = item.at(&["XAddrs"]).unwrap_or_default().split_whitespace().take(8);
        let addresses = addresses.filter_map(|address| url::Url::parse(address).ok());
        Device {
            from: from.to_owned(),
            id: printable(item.at(&["EndpointReference", "Address"]).unwrap_or(from)),
            name: scope("name"),
            hardware: scope("hardware"),
            addresses: addresses.map(|url| printable(&redact_url(&url))).collect(),
        }
    };
    list.into_iter().take(16).map(device).collect()
}

fn percent_decoded(text: &str) -> String {
    crate::config::percent_decode(text)
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_strangers_are_not() {
        let answer = |relates_to: &str| {
            format!(
                "<e:Envelope xmlns:e='x'><e:Header><a:RelatesTo xmlns:a='y'>{relates_to}</a:RelatesTo></e:Header><e:Body>
                 <d:ProbeMatches xmlns:d='z'><d:ProbeMatch><a:EndpointReference xmlns:a='y'><a:Address>urn:uuid:1</a:Address>
                 </a:EndpointReference><d:Types>dn:NetworkVideoTransmitter</d:Types><d:Scopes>onvif://www.onvif.org/type/x
                 onvif://www.onvif.org/name/Front%20Door onvif://www.onvif.org/hardware/DS-2CD</d:Scopes>
                 <d:XAddrs>http://admin:pw@10.0.0.7/onvif/device_service nonsense</d:XAddrs></d:ProbeMatch></d:ProbeMatches>
                 </e:Body></e:Envelope>"
            )
        };
        let found = matches(answer("urn:me").as_bytes(), "urn:me", "10.0.0.7");
        let expected = Device {
            from: "10.0.0.7".to_owned(),
            id: "urn:uuid:1".to_owned(),
            name: "Front Door".to_owned(),
            hardware: "DS-2CD".to_owned(),
            addresses: vec!["http://10.0.0.7/onvif/device_service".to_owned()],
        };
        assert_eq!(found, [expected]);
        assert!(matches(answer("urn:other").as_bytes(), "urn:me", "10.0.0.7").is_empty());
        assert!(matches(b"nonsense", "urn:me", "10.0.0.7").is_empty());
    }

    #[test]
    fn probes_are_xml_with_an_id_of_their_own() {
        let ids: Vec<String> = (0..10).map(|_| message_id()).collect();
        for id in &ids {
            let root = xml::parse(probe(id).as_bytes()).expect("XML");
            assert_eq!(root.find("MessageID").map(Element::text), Some(id.as_str()));
            assert_eq!(id.len(), "urn:uuid:".len() + 36);
        }
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

//! The SDP that says where video is to go (RFC 8866), as Kurento and its like write it for a camera.
//!
//! It comes from outside and may be hostile: everything has a bound, and what is wrong is said. It may also be merely
//! odd: lines end with CRLF, LF or nothing, or with either written out as text by a sender that escaped it twice; the
//! three `x-skl-…` attributes stand at the very end and are meant for the whole.
//!
//! Deliberately absent: host names (a look-up would follow an attacker's name server), and all that audio says but
//! its being there: the sender sends video only, and audio that is not sent is declined.

use std::borrow::Cow;
use std::net::IpAddr;

use super::{AddressError, AllowList};

/// Bytes of the longest SDP that is read.
const LONGEST: usize = 16 << 10;
/// Media sections; Kurento writes two or three.
const MOST_MEDIA: usize = 16;
/// Payload types of one media section.
const MOST_FORMATS: usize = 64;
/// Bytes of the longest CNAME (RFC 3550 section 6.5).
const LONGEST_CNAME: usize = 255;
/// RTP is never received below this port: whoever asks for it means something else.
const LEAST_PORT: u16 = 1024;

/// Where video goes, and as what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RtpTarget {
    /// The receiver.
    pub address: IpAddr,
    /// Its port for RTP.
    pub port: u16,
    /// Its port for RTCP; the same with `a=rtcp-mux`.
    pub rtcp_port: u16,
    /// RTP payload type of H.264.
    pub payload_type: u8,
    /// `packetization-mode` (RFC 6184 section 8.1): 1 where it is not 0.
    pub packetization_mode: u8,
    /// `profile-level-id`: profile, constraints and level.
    pub profile_level_id: Option<[u8; 3]>,
    /// What the receiver will ask for.
    pub feedback: FeedbackKinds,
    /// The most the receiver wants, in kbit/s (`b=AS`).
    pub bandwidth: Option<u32>,
    /// The SSRC to send with.
    pub ssrc: Option<u32>,
    /// The CNAME to send with.
    pub cname: Option<String>,
    /// Whether audio is wanted too. It is not sent.
    pub has_audio: bool,
}

/// Kinds of RTCP feedback (RFC 4585, RFC 5104, draft-alvestrand-rmcat-remb).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FeedbackKinds {
    /// Packets to be sent again.
    pub nack: bool,
    /// Picture loss indications.
    pub pli: bool,
    /// Full intra requests.
    pub fir: bool,
    /// Receiver estimated maximum bitrate.
    pub remb: bool,
}

/// Why an SDP cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SdpError {
    /// Longer than any that makes sense.
    #[error("the SDP has {0} bytes, more than 16384")]
    TooLong(usize),
    /// It does not begin with `v=0`.
    #[error("the SDP does not begin with v=0")]
    NotSdp,
    /// More media sections or payload types than make sense.
    #[error("the SDP has too many media sections or payload types")]
    TooMany,
    /// A line that matters cannot be read.
    #[error("the SDP's line '{0}' cannot be read")]
    Line(String),
    /// No `m=video` line.
    #[error("the SDP has no video")]
    NoVideo,
    /// Port 0: the receiver has declined video.
    #[error("the SDP declines video: its port is 0")]
    Declined,
    /// A port outside 1024 to 65535.
    #[error("the SDP's port {0} is outside 1024 to 65535")]
    Port(u32),
    /// SAVP and DTLS: encryption that is not there.
    #[error("the SDP wants '{0}'; video is sent as RTP/AVP or RTP/AVPF")]
    Protocol(String),
    /// The receiver does not receive.
    #[error("the SDP says that video is not received")]
    NotReceiving,
    /// No payload type for H.264.
    #[error("the SDP has no H.264")]
    NoH264,
    /// No `c=` line, or one that names no address.
    #[error("the SDP has no address: '{0}'")]
    NoAddress(String),
    /// An address that is not sent to.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// A section: the session's own or that of an `m=` line.
#[derive(Default)]
struct Section<'a> {
    /// `m=`: the kind, the port, the protocol, the payload types.
    media: &'a str,
    connection: Option<&'a str>,
    bandwidth: Option<&'a str>,
    attributes: Vec<(&'a str, &'a str)>,
}

/// One payload type of H.264.
#[derive(Clone, Copy)]
struct H264 {
    payload_type: u8,
    packetization_mode: u8,
    profile_level_id: Option<[u8; 3]>,
}

impl RtpTarget {
    /// Reads the SDP of a receiver; `allowed` is where it may be.
    pub fn parse(sdp: &str, allowed: &AllowList) -> Result<Self, SdpError> {
        if sdp.len() > LONGEST {
            return Err(SdpError::TooLong(sdp.len()));
        }
        let text = unescaped(sdp);
        let sections = sections(&text)?;
        let (session, media) = sections.split_first().ok_or(SdpError::NotSdp)?;
        let mut videos = media.iter().filter(|section| section.kind() == "video");
        let first = videos.next().ok_or(SdpError::NoVideo)?;
        let video = std::iter::once(first).chain(videos).find(|section| section.word(1) != Some("0"));
        let video = video.ok_or(SdpError::Declined)?;
        let port = video.port()?;
        let protocol = video.word(2).unwrap_or_default();
        if !matches!(protocol, "RTP/AVP" | "RTP/AVPF") {
            return Err(SdpError::Protocol(excerpt(protocol)));
        }
        let receives = |section: &Section<'_>| {
            let direction = section.first(&["recvonly", "sendrecv", "sendonly", "inactive"]);
            direction.map(|(direction, _)| matches!(direction, "recvonly" | "sendrecv"))
        };
        if !receives(video).or(receives(session)).unwrap_or(true) {
            return Err(SdpError::NotReceiving);
        }
        let h264 = video.h264()?;
        let rtcp_port = match (video.first(&["rtcp-mux"]), video.first(&["rtcp"])) {
            (Some(_), _) => port,
            // The address behind the port is not followed: one check of one address covers all that is sent.
            (None, Some((_, value))) => checked_port(value.split_ascii_whitespace().next().unwrap_or_default())?,
            (None, None) => port.checked_add(1).ok_or(SdpError::Port(u32::from(port) + 1))?,
        };
        let connection = video.connection.or(session.connection).unwrap_or_default();
        let address = address(connection)?;
        allowed.check(address)?;
        // The attributes at the end belong to the last section by their place, and to the whole by their meaning.
        let anywhere = |name: &str| {
            sections.iter().rev().flat_map(|section| section.attributes.iter().rev()).find(|(key, _)| *key == name)
        };
        let (ssrc, cname) = video.source();
        let skl_ssrc = anywhere("x-skl-ssrcv").and_then(|(_, value)| value.trim().parse().ok());
        let skl_cname = anywhere("x-skl-cname").map(|(_, value)| value.trim());
        let cname = skl_cname.or(cname).filter(|name| !name.is_empty() && name.len() <= LONGEST_CNAME);
        Ok(Self {
            address,
            port,
            rtcp_port,
            payload_type: h264.payload_type,
            packetization_mode: h264.packetization_mode,
            profile_level_id: h264.profile_level_id,
            feedback: video.feedback(h264.payload_type),
            bandwidth: video.bandwidth.or(session.bandwidth).and_then(|value| value.trim().parse().ok()),
            ssrc: skl_ssrc.or(ssrc),
            cname: cname.map(str::to_owned),
            has_audio: media.iter().any(|section| section.kind() == "audio" && section.word(1) != Some("0")),
        })
    }
}

impl<'a> Section<'a> {
    fn word(&self, index: usize) -> Option<&'a str> {
        self.media.split_ascii_whitespace().nth(index)
    }

    fn kind(&self) -> &'a str {
        self.word(0).unwrap_or_default()
    }

    /// The port; `5006/2` means two of them, of which the first is used.
    fn port(&self) -> Result<u16, SdpError> {
        let text = self.word(1).unwrap_or_default();
        checked_port(text.split('/').next().unwrap_or_default())
    }

    /// The first attribute with one of these names.
    fn first(&self, names: &[&str]) -> Option<(&'a str, &'a str)> {
        self.attributes.iter().find(|(name, _)| names.contains(name)).copied()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.attributes.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// What an attribute says of a payload type: `a=fmtp:103 …`.
    fn of_payload(&self, name: &str, payload_type: u8) -> impl Iterator<Item = &'a str> {
        self.values(name).filter_map(move |value| {
            let (key, rest) = value.trim().split_once(' ')?;
            (key == "*" || key.parse() == Ok(payload_type)).then_some(rest.trim())
        })
    }

    /// The payload type to send: the first that takes fragments, else the first of H.264.
    fn h264(&self) -> Result<H264, SdpError> {
        let formats: Vec<&str> = self.media.split_ascii_whitespace().skip(3).take(MOST_FORMATS + 1).collect();
        if formats.len() > MOST_FORMATS {
            return Err(SdpError::TooMany);
        }
        let is_h264 = |payload_type: &u8| {
            let mut maps = self.of_payload("rtpmap", *payload_type);
            maps.any(|map| map.eq_ignore_ascii_case("H264/90000"))
        };
        let types = formats.iter().filter_map(|format| format.parse().ok()).filter(|format| *format < 128);
        let found: Vec<H264> = types
            .filter(is_h264)
            .map(|payload_type| {
                let parameter = |name: &str| {
                    let all = self.of_payload("fmtp", payload_type).flat_map(|line| line.split(';'));
                    let mut pairs = all.filter_map(|pair| pair.trim().split_once('='));
                    pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
                };
                let packetization_mode = u8::from(parameter("packetization-mode").is_some_and(|mode| mode != "0"));
                let profile_level_id = parameter("profile-level-id").and_then(hex);
                H264 { payload_type, packetization_mode, profile_level_id }
            })
            .collect();
        found.iter().find(|h264| h264.packetization_mode == 1).or(found.first()).copied().ok_or(SdpError::NoH264)
    }

    fn feedback(&self, payload_type: u8) -> FeedbackKinds {
        let mut kinds = FeedbackKinds::default();
        for line in self.of_payload("rtcp-fb", payload_type) {
            match line {
                "nack" => kinds.nack = true,
                "nack pli" => kinds.pli = true,
                "ccm fir" => kinds.fir = true,
                "goog-remb" => kinds.remb = true,
                _ => {}
            }
        }
        kinds
    }

    /// The first SSRC that has a CNAME (RFC 5576), else the first.
    fn source(&self) -> (Option<u32>, Option<&'a str>) {
        let lines = || self.values("ssrc").map(|value| value.trim().split_once(' ').unwrap_or((value, "")));
        let named = lines().find_map(|(ssrc, rest)| Some((ssrc, rest.trim().strip_prefix("cname:")?)));
        let (ssrc, cname) = match named {
            Some((ssrc, cname)) => (Some(ssrc), Some(cname)),
            None => (lines().next().map(|(ssrc, _)| ssrc), None),
        };
        (ssrc.and_then(|ssrc| ssrc.trim().parse().ok()), cname)
    }
}

/// Line ends that were escaped once too often are line ends again.
fn unescaped(sdp: &str) -> Cow<'_, str> {
    if !sdp.contains("\\n") && !sdp.contains("\\r") {
        return Cow::Borrowed(sdp);
    }
    let mut out = String::with_capacity(sdp.len());
    let mut slashes = 0;
    for letter in sdp.chars() {
        match letter {
            '\\' => slashes += 1,
            'r' | 'n' if slashes > 0 => {
                out.push('\n');
                slashes = 0;
            }
            _ => {
                out.extend(std::iter::repeat_n('\\', slashes));
                out.push(letter);
                slashes = 0;
            }
        }
    }
    out.extend(std::iter::repeat_n('\\', slashes));
    Cow::Owned(out)
}

/// The session's section, and those of the media.
fn sections(text: &str) -> Result<Vec<Section<'_>>, SdpError> {
    let mut lines = text.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty());
    if lines.next() != Some("v=0") {
        return Err(SdpError::NotSdp);
    }
    let mut all = vec![Section::default()];
    for line in lines {
        let (kind, value) = line.split_once('=').ok_or_else(|| SdpError::Line(excerpt(line)))?;
        if kind == "m" {
            if all.len() > MOST_MEDIA {
                return Err(SdpError::TooMany);
            }
            all.push(Section { media: value, ..Section::default() });
            continue;
        }
        let Some(section) = all.last_mut() else { continue };
        match kind {
            "c" => section.connection = section.connection.or(Some(value)),
            "b" => section.bandwidth = section.bandwidth.or(value.strip_prefix("AS:")),
            "a" => section.attributes.push(value.split_once(':').unwrap_or((value, ""))),
            _ => {}
        }
    }
    Ok(all)
}

/// `IN IP4 192.0.2.1`; what follows a slash is a multicast's hop count.
fn address(connection: &str) -> Result<IpAddr, SdpError> {
    let mut words = connection.split_ascii_whitespace().skip(2);
    let text = words.next().and_then(|word| word.split('/').next()).unwrap_or_default();
    text.parse().map_err(|_| SdpError::NoAddress(excerpt(connection)))
}

fn checked_port(text: &str) -> Result<u16, SdpError> {
    let number: u32 = text.parse().map_err(|_| SdpError::Line(excerpt(text)))?;
    u16::try_from(number).ok().filter(|port| *port >= LEAST_PORT).ok_or(SdpError::Port(number))
}

fn hex(text: &str) -> Option<[u8; 3]> {
    let number = u32::from_str_radix(text, 16).ok().filter(|_| text.len() == 6)?;
    let [_, bytes @ ..] = number.to_be_bytes();
    Some(bytes)
}

/// Enough of a hostile text to find it by.
fn excerpt(text: &str) -> String {
    text.chars().take(64).map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests;

//! What an ONVIF device answers. Pure: bytes in, facts out.

use edgecam_media::Timestamp;
use serde::Serialize;
use url::Url;

use crate::xml::{self, Element, XmlError};

/// Profiles that are looked at. An NVR with 256 channels has three for each.
pub(super) const PROFILES: usize = 1024;
/// Names, tokens and reasons are cut off here.
const NAME: usize = 128;

/// An answer that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerError {
    /// It is no XML that is taken.
    #[error("its answer to {call} cannot be used: {error}")]
    Xml {
        /// What was asked.
        call: &'static str,
        /// What is wrong.
        error: XmlError,
    },
    /// It does not take the credentials, or wants some.
    #[error("it answered {call} with `{reason}`")]
    NotAuthorized {
        /// What was asked.
        call: &'static str,
        /// What it says.
        reason: String,
    },
    /// Another fault.
    #[error("it answered {call} with a fault: {reason}")]
    Fault {
        /// What was asked.
        call: &'static str,
        /// What it says.
        reason: String,
    },
    /// The answer to something else.
    #[error("its answer to {0} does not hold one")]
    Missing(&'static str),
}

/// A service and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its URL, as the device knows it.
    pub address: String,
}

/// A stream that a device offers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MediaProfile {
    /// What it is asked for by.
    pub token: String,
    /// What a person has called it.
    pub name: String,
    /// Token of its video source: the channel of an NVR.
    pub source: String,
    /// `H264`, `H265`, `JPEG` or `MPEG4`; empty if it has no video encoder.
    pub encoding: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

fn answer(call: &'static str, text: &[u8]) -> Result<Element, AnswerError> {
    let root = xml::parse(text).map_err(|error| AnswerError::Xml { call, error })?;
    if let Some(fault) = root.find("Fault") {
        let text = fault.find("Text").or_else(|| fault.find("faultstring")).map(Element::text);
        let codes = codes(fault);
        let said = text.filter(|text| !text.is_empty()).map_or(codes.as_str(), |text| text);
        let reason = printable(if said.is_empty() { "no reason given" } else { said });
        let lower = format!("{codes} {reason}").to_lowercase();
        let is_about_who =
            ["notauthorized", "not authorized", "failedauthentication", "authority failure", "unauthorized"];
        return Err(match is_about_who.iter().any(|word| lower.contains(word)) {
            true => AnswerError::NotAuthorized { call, reason },
            false => AnswerError::Fault { call, reason },
        });
    }
    let name = format!("{call}Response");
    root.find(&name).cloned().ok_or(AnswerError::Missing(call))
}

/// Codes and subcodes, one after the other: `s:Sender ter:NotAuthorized`.
fn codes(fault: &Element) -> String {
    let mut codes = Vec::new();
    let mut level = fault.child("Code");
    while let Some(code) = level {
        codes.extend(code.at(&["Value"]));
        level = code.child("Subcode");
    }
    codes.extend(fault.at(&["faultcode"]));
    codes.join(" ")
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(NAME).collect()
}

/// The device's clock, in UTC; to the second.
pub fn system_time(text: &[u8]) -> Result<Timestamp, AnswerError> {
    const CALL: &str = "GetSystemDateAndTime";
    let found = answer(CALL, text)?;
    let utc = found.find("UTCDateTime").ok_or(AnswerError::Missing(CALL))?;
    let number = |path: &[&str]| utc.at(path).and_then(|text| text.parse::<i16>().ok());
    let small = |path: &[&str]| number(path).and_then(|number| i8::try_from(number).ok());
    let at = || {
        let (year, month, day) = (number(&["Date", "Year"])?, small(&["Date", "Month"])?, small(&["Date", "Day"])?);
        let (hour, minute) = (small(&["Time", "Hour"])?, small(&["Time", "Minute"])?);
        // 60 in a leap second.
        let second = small(&["Time", "Second"])?.min(59);
        let civil = jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp().as_millisecond())
    };
    at().map(Timestamp::from_unix_millis).ok_or(AnswerError::Missing(CALL))
}

/// The services.
pub fn services(text: &[u8]) -> Result<Vec<Service>, AnswerError> {
    let found = answer("GetServices", text)?;
    let service = |item: &Element| {
        let (namespace, address) = (item.at(&["Namespace"])?, item.at(&["XAddr"])?);
        Some(Service { namespace: printable(namespace), address: address.to_owned() })
    };
    Ok(found.all("Service").filter_map(service).take(64).collect())
}

/// The address of the media service, of a device that does not know GetServices.
pub fn capabilities(text: &[u8]) -> Result<String, AnswerError> {
    let found = answer("GetCapabilities", text)?;
    let media = found.find("Media").and_then(|media| media.at(&["XAddr"]));
    media.map(str::to_owned).ok_or(AnswerError::Missing("GetCapabilities"))
}

/// The profiles of either media service.
pub fn profiles(text: &[u8]) -> Result<Vec<MediaProfile>, AnswerError> {
    let found = answer("GetProfiles", text)?;
    let profile = |item: &Element| {
        let token = item.attribute("token").filter(|token| !token.is_empty())?;
        // Media2 has them in Configurations, under shorter names.
        let inner = item.child("Configurations").unwrap_or(item);
        let encoder = inner.child("VideoEncoder").or_else(|| inner.child("VideoEncoderConfiguration"));
        let source = inner.child("VideoSource").or_else(|| inner.child("VideoSourceConfiguration"));
        let pixels = |name: &str| {
            encoder
                .and_then(|encoder| encoder.at(&["Resolution", name]))
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        let encoding = encoder.and_then(|encoder| encoder.at(&["Encoding"])).unwrap_or_default();
        Some(MediaProfile {
            token: printable(token),
            name: printable(item.at(&["Name"]).unwrap_or_default()),
            source: source.and_then(|source| source.at(&["SourceToken"])).map(printable).unwrap_or_default(),
            encoding: printable(&encoding.to_ascii_uppercase().replace('.', "")),
            width: pixels("Width"),
            height: pixels("Height"),
        })
    };
    Ok(found.all("Profiles").filter_map(profile).take(PROFILES).collect())
}

/// The URL of a stream, as the device knows it.
pub fn stream_uri(text: &[u8]) -> Result<Url, AnswerError> {
    uri("GetStreamUri", text)
}

/// The URL of a still picture, as the device knows it.
pub fn snapshot_uri(text: &[u8]) -> Result<Url, AnswerError> {
    uri("GetSnapshotUri", text)
}

fn uri(call: &'static str, text: &[u8]) -> Result<Url, AnswerError> {
    let found = answer(call, text)?;
    let uri = found.find("Uri").map(Element::text).unwrap_or_default();
    Url::parse(uri).map_err(|_| AnswerError::Missing(call))
}

#[cfg(test)]
mod tests;

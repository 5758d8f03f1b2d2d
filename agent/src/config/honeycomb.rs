//! The section `honeycomb`: as written, and as used.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use edgecam_media::rtp::{AllowList, DEFAULT_MTU, Network};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Camera;
use super::check::{Result, seconds, span, wrong};
use super::value::Span;
use crate::control::mqtt::limits;
use crate::live::honeycomb::CameraId;

/// Cameras of one connection: each takes one of the filters that AWS IoT allows, and some are left for our own topics.
const CAMERAS_MOST: usize = limits::SUBSCRIPTIONS_MOST - 10;
/// An encoder takes no less.
const BITRATE_LEAST: u32 = 10_000;
const BITRATE_MOST: u32 = 100_000_000;

/// Live view for a platform of hive cameras: its MQTT topics `<topic_prefix>/honeycomb/<id>/…`, over the connection of
/// `mqtt`, and video as plain RTP to where its `play` says. What of it is obeyed, `commands.mqtt` decides: `play` needs
/// `live`, `setmode` needs `camera` and `record`, `reboot` needs `restart`, `settings/update` needs `encoder`.
///
/// A camera's connection is reported when the agent connects and when it ends in order. A client has one last will, and
/// the agent's own status is it: that a camera has vanished shows in that, and in heartbeats that do not come.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    /// First levels of the platform's topics. Default: prod.
    pub(crate) topic_prefix: Option<String>,
    /// Addresses and networks that video may be sent to, such as `10.0.0.0/8`. This machine and groups are only sent to
    /// if a network of their own names them; 0.0.0.0/0 names neither. Default: none, and nothing is sent.
    #[serde(default)]
    pub(crate) allow: Vec<String>,
    /// Between what a receiver may set the encoder's bitrate.
    #[serde(default)]
    pub(crate) bitrate: WrittenBitrate,
    /// Bytes of the largest RTP packet, 300 to 1460. Default: 1200.
    pub(crate) mtu: Option<usize>,
    /// A stream ends this long after the last sign that somebody watches (keepalive, REMB): 2s to 10m. Default: 30s.
    pub(crate) silence: Option<Span>,
    /// The platform's id of each camera it knows: our name of the camera, and 32 digits `0` to `9`, `A` to `F`,
    /// in quotes.
    pub(crate) cameras: BTreeMap<String, String>,
}

/// Between what a receiver may set the encoder's bitrate.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenBitrate {
    /// Bits a second, 10000 to 100000000. Default: 100000.
    pub(crate) min: Option<u32>,
    /// Bits a second, not less than `min`. Default: 10000000.
    pub(crate) max: Option<u32>,
}

/// Live view for a platform of hive cameras, as used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Honeycomb {
    /// First levels of the platform's topics.
    pub topic_prefix: String,
    /// What a stream may be.
    pub live: LiveLimits,
    /// The platform's ids, by our names.
    pub cameras: BTreeMap<String, CameraId>,
}

/// What a stream of RTP may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveLimits {
    /// Where it may go.
    pub allow: AllowList,
    /// Least and most bit/s that a receiver may ask for.
    pub bitrate: (u32, u32),
    /// Bytes of the largest RTP packet.
    pub mtu: usize,
    /// How long it goes on without a sign that somebody watches.
    pub silence: Duration,
}

impl Honeycomb {
    /// Our name of the camera that the platform calls `id`.
    pub fn camera(&self, id: &CameraId) -> Option<&str> {
        self.cameras.iter().find(|(_, other)| *other == id).map(|(name, _)| name.as_str())
    }
}

pub(super) fn check(written: Written, has_mqtt: bool, cameras: &[Camera]) -> Result<Honeycomb> {
    if !has_mqtt {
        return wrong("honeycomb", "the platform speaks MQTT: set `mqtt` as well");
    }
    if written.cameras.is_empty() || written.cameras.len() > CAMERAS_MOST {
        return wrong("honeycomb.cameras", format_args!("must name 1 to {CAMERAS_MOST} cameras"));
    }
    let mut ids = BTreeMap::new();
    let mut seen = HashSet::new();
    for (name, id) in written.cameras {
        let key = format!("honeycomb.cameras.{name}");
        if !cameras.iter().any(|camera| camera.name == name) {
            return wrong(&key, "there is no camera of this name");
        }
        let id: CameraId = id.parse().or_else(|error| wrong(&key, error))?;
        if !seen.insert(id.clone()) {
            return wrong(&key, format_args!("another camera has the id {id} too"));
        }
        if id.as_str() != name && cameras.iter().any(|camera| camera.name == id.as_str()) {
            return wrong(&key, format_args!("another camera is named {id}"));
        }
        ids.insert(name, id);
    }
    let topic_prefix = topic_prefix(written.topic_prefix.as_deref().unwrap_or("prod"))?;
    let network = |text: &String| text.parse::<Network>().or_else(|error| wrong("honeycomb.allow", error));
    let allow = written.allow.iter().map(network).collect::<Result<Vec<_>>>()?;
    let bitrate = (written.bitrate.min.unwrap_or(100_000), written.bitrate.max.unwrap_or(10_000_000));
    if bitrate.0 < BITRATE_LEAST || bitrate.1 > BITRATE_MOST || bitrate.0 > bitrate.1 {
        let message = format!("min must not be above max, both {BITRATE_LEAST} to {BITRATE_MOST} bits a second");
        return wrong("honeycomb.bitrate", message);
    }
    let mtu = written.mtu.unwrap_or(DEFAULT_MTU);
    if !(300..=1460).contains(&mtu) {
        return wrong("honeycomb.mtu", "must be 300 to 1460 bytes");
    }
    let silence = span("honeycomb", "silence", written.silence, seconds(30), (seconds(2), seconds(600)))?;
    let live = LiveLimits { allow: AllowList::new(allow), bitrate, mtu, silence };
    Ok(Honeycomb { topic_prefix, live, cameras: ids })
}

fn topic_prefix(written: &str) -> Result<String> {
    let prefix = written.trim_end_matches('/');
    // The deepest of all topics below it.
    let deepest = format!("{prefix}/device/message/hive-cam/{}/activity/start", "0".repeat(32));
    if let Err(error) = limits::topic(&deepest) {
        return wrong("honeycomb.topic_prefix", format_args!("`{written}`, in `{deepest}`: {error}"));
    }
    if prefix.is_empty() || prefix.starts_with(['$', '/']) || prefix.contains("//") {
        return wrong("honeycomb.topic_prefix", format_args!("`{written}` begins with `$` or has an empty level"));
    }
    Ok(prefix.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const IDS: [&str; 2] = ["56C1CADCF1FA4C6CAEBA3E2FD85EFEBF", "00000000000000000000000000000001"];

    fn parsed(section: &str) -> std::result::Result<Honeycomb, String> {
        let config = parse(&format!(
            "mqtt: {{endpoint: broker}}\nhoneycomb: {{{section}}}\n\
             cameras: [{{name: a, test_pattern: {{}}}}, {{name: b, test_pattern: {{}}}}]\n"
        ));
        let config = config.map_err(|error| error.to_string())?;
        config.honeycomb.ok_or_else(|| "no honeycomb".to_owned())
    }

    #[test]
    fn defaults() {
        assert_eq!(parse("").map(|config| config.honeycomb).map_err(|error| error.to_string()), Ok(None));
        let honeycomb = parsed(&format!("cameras: {{a: {}}}", IDS[0])).expect("valid");
        assert_eq!(honeycomb.topic_prefix, "prod");
        let live =
            LiveLimits { allow: AllowList::default(), bitrate: (100_000, 10_000_000), mtu: 1200, silence: seconds(30) };
        assert_eq!(honeycomb.live, live);
        let [known, unknown] = IDS.map(|id| id.parse().expect("an id"));
        assert_eq!((honeycomb.camera(&known), honeycomb.camera(&unknown)), (Some("a"), None));
    }

    #[test]
    fn what_is_written_is_used() {
        let honeycomb = parsed(&format!(
            "topic_prefix: site/dev/, allow: [10.0.0.0/8, '::1'], bitrate: {{min: 50000, max: 800000}}, mtu: 500, \
             silence: 5s, cameras: {{a: {}, b: '{}'}}",
            IDS[0], IDS[1]
        ));
        let Honeycomb { topic_prefix, live, cameras } = honeycomb.expect("valid");
        assert_eq!((topic_prefix.as_str(), cameras.len()), ("site/dev", 2));
        assert_eq!((live.bitrate, live.mtu, live.silence), ((50_000, 800_000), 500, seconds(5)));
        assert!(live.allow.check([10, 1, 2, 3].into()).is_ok() && live.allow.check([127, 0, 0, 1].into()).is_err());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let a = format!("cameras: {{a: {}}}", IDS[0]);
        for (section, part) in [
            ("cameras: {}".to_owned(), "honeycomb.cameras: must name 1 to 40"),
            (
                "cameras: {a: 56c1cadcf1fa4c6caeba3e2fd85efebf}".to_owned(),
                "honeycomb.cameras.a: the camera id is not 32",
            ),
            (format!("cameras: {{c: {}}}", IDS[0]), "honeycomb.cameras.c: there is no camera"),
            (format!("cameras: {{a: {0}, b: {0}}}", IDS[0]), "honeycomb.cameras.b: another camera"),
            (format!("{a}, topic_prefix: a/b/c"), "honeycomb.topic_prefix: `a/b/c`, in `a/b/c/device/"),
            (format!("{a}, topic_prefix: 'a/+'"), "wildcard"),
            (format!("{a}, topic_prefix: '/'"), "honeycomb.topic_prefix"),
            (format!("{a}, allow: [example.org]"), "honeycomb.allow: 'example.org' is not an address"),
            (format!("{a}, allow: [10.0.0.0/33]"), "honeycomb.allow"),
            (format!("{a}, bitrate: {{min: 2000000, max: 1000000}}"), "honeycomb.bitrate: min must not be above max"),
            (format!("{a}, bitrate: {{min: 9}}"), "honeycomb.bitrate"),
            (format!("{a}, mtu: 9000"), "honeycomb.mtu: must be 300 to 1460"),
            (format!("{a}, silence: 1s"), "honeycomb.silence: must be 2s to 10m"),
            (format!("{a}, sillence: 1s"), "did you mean `silence`"),
        ] {
            let message = parsed(&section).expect_err(&section);
            assert!(message.contains(part), "{section}: {message}");
        }
        let alone = parse(&format!("honeycomb: {{{a}}}\ncameras: [{{name: a, test_pattern: {{}}}}]\n"));
        let message = alone.expect_err("no mqtt").to_string();
        assert!(message.contains("honeycomb: the platform speaks MQTT: set `mqtt`"), "{message}");
    }
}

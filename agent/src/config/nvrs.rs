//! A recorder whose channels become cameras by a rule: as written, as used, and what comes of it.
//!
//! Channels of an RTSP server are numbers and known from the config. Those of a NUUO recorder or an ONVIF device are
//! listed by it: the last list is kept in the state directory, so that a restart knows the cameras while the recorder
//! is away. A camera keeps its name for as long as the recorder keeps the channel's id, whatever that is renamed to. One
//! that is missing from a list is kept until several lists in a row have missed it: a recorder that has just started
//! lists what it has found so far.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{self, General, Result, seconds, span, wrong};
use super::detectors::WrittenDetector;
use super::nvr::{WrittenNuuo, WrittenOnvif};
use super::publishers::WrittenPublishers;
use super::source::{NuuoCamera, NuuoDialect, OnvifProfile, Source};
use super::value::{Size, Span};
use super::{Camera, Config, Switches, identity, written};

/// Of one recorder.
pub const MOST_CHANNELS: usize = 256;
/// A channel that so many lists in a row have missed is gone.
const GONE_AFTER: u8 = 3;
/// A camera's name.
const NAME: usize = 64;

/// A recorder. Exactly one of `nuuo`, `onvif` and `rtsp` must be given.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenNvr {
    /// Its name; its cameras are named `<name>-<channel>`.
    pub(crate) name: String,
    /// A NUUO recorder, which lists its channels itself. The URL names no camera.
    pub(crate) nuuo: Option<WrittenNuuo>,
    /// An ONVIF device with several video sources.
    pub(crate) onvif: Option<WrittenOnvif>,
    /// An RTSP server with a URL for each channel: `{channel}` in it is its number.
    pub(crate) rtsp: Option<written::Rtsp>,
    /// Which channels: `all`, names with `*` for anything, or ids; for rtsp numbers such as `1-16` or `[1, 3, 5-8]`.
    /// Default: all; rtsp has no default.
    pub(crate) channels: Option<WrittenChannels>,
    /// How often the recorder is asked for its channels; every 30s at least while one is missing that it had, which is
    /// gone when three lists in a row have missed it. 10s to 1day. Default: 5m.
    pub(crate) refresh: Option<Span>,
    /// What is the same for all of its cameras.
    #[serde(default)]
    pub(crate) camera: WrittenTemplate,
}

/// One rule or several.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(untagged)]
pub(crate) enum WrittenChannels {
    One(WrittenChannel),
    Many(Vec<WrittenChannel>),
}

#[derive(Deserialize, JsonSchema, Debug)]
#[serde(untagged)]
pub(crate) enum WrittenChannel {
    Number(u32),
    Text(String),
}

/// What is the same for all cameras of a recorder.
#[derive(Deserialize, JsonSchema, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenTemplate {
    /// Newest footage kept in RAM. Default: 512 KiB with an archive, 16 MiB without.
    pub(crate) ring: Option<Size>,
    /// Most RAM used while the disk does not keep up. Default: 8 MiB more than `ring`.
    pub(crate) ring_most: Option<Size>,
    /// Footage on disk. `directory` is the one that holds the cameras' directories.
    pub(crate) archive: written::Archive,
    /// Upload to Kinesis Video Streams; `stream` must hold `{camera}`. Default: none.
    pub(crate) upload: Option<written::Upload>,
    /// What looks at their pictures. Default: nothing.
    pub(crate) detectors: Vec<WrittenDetector>,
    /// Pictures a second that detectors look at which do not say it themselves. Default: 1.
    pub(crate) fps_limit: Option<f64>,
    /// Where their events go, as far as that is different from the agent's `publishers`.
    pub(crate) publishers: Option<WrittenPublishers>,
}

/// A recorder that lists its channels.
#[derive(Clone, PartialEq, Debug)]
pub struct Nvr {
    /// Its name.
    pub name: String,
    /// Which channels become cameras.
    pub channels: Vec<Pattern>,
    /// How often it is asked.
    pub refresh: Duration,
    /// The settings of its cameras, but for what follows.
    pub template: Camera,
    /// Where their archives are.
    directory: PathBuf,
    /// The name of their streams, to be filled in.
    stream: String,
    /// What it listed last.
    pub listing: Listing,
}

/// What a recorder has listed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Listing {
    /// How it speaks, for NUUO: `titan` or `crystal`.
    #[serde(default)]
    dialect: Option<String>,
    /// All that were ever seen, so that one that comes back has the name it had.
    channels: Vec<Channel>,
}

/// A channel of a recorder.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Channel {
    /// The recording server it belongs to; empty where there is but one.
    pub server: String,
    /// Unique within that.
    pub id: String,
    /// What a person calls it now; may be empty.
    pub name: String,
    /// The camera it became, when it was first seen.
    #[serde(default)]
    pub camera: String,
    /// Whether it counts: the last list has it, or has not missed it often enough.
    #[serde(default)]
    pub is_there: bool,
    /// Lists in a row that have missed it, up to when it is gone.
    #[serde(default)]
    pub missed: u8,
}

impl Channel {
    fn key(&self) -> (&str, &str) {
        (&self.server, &self.id)
    }
}

/// Channels by name or id; `*` stands for anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(String);

impl Pattern {
    fn fits(&self, channel: &Channel) -> bool {
        glob(&self.0, &channel.name.to_lowercase()) || self.0 == channel.id.to_lowercase()
    }
}

fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// What an entry comes to: cameras that are known now, or a recorder to be asked.
pub(super) enum Checked {
    Cameras(Vec<Camera>),
    Nvr(Box<Nvr>),
}

pub(super) fn nvr(written: WrittenNvr, general: &General<'_>) -> Result<Checked> {
    let (thing, state_dir) = (general.thing, general.state_dir);
    let key = format!("nvrs.{}", written.name);
    let WrittenTemplate { ring, ring_most, archive, upload, detectors, fps_limit, publishers } = written.camera;
    if written.name.len() > NAME / 2 {
        return wrong(&key, format_args!("the name has more than {} characters", NAME / 2));
    }
    let directory = archive.directory.clone().unwrap_or_else(|| state_dir.to_owned());
    let stream = upload.as_ref().and_then(|upload| upload.stream.clone());
    let stream = stream.unwrap_or_else(|| "{thing}-{camera}".to_owned());
    if upload.is_some() && !stream.contains("{camera}") {
        return wrong(
            &format!("{key}.camera.upload.stream"),
            "must hold {camera}: each camera needs a stream of its own",
        );
    }
    let range = (seconds(10), seconds(24 * 3600));
    let refresh = span(&key, "refresh", written.refresh, seconds(300), range)?;
    let words = words(written.channels);
    let is_rtsp = written.rtsp.is_some();
    let numbers = match &written.rtsp {
        Some(rtsp) if !rtsp.url.contains("{channel}") => {
            return wrong(&format!("{key}.rtsp.url"), "must hold {channel}, the number of the channel");
        }
        Some(_) => numbers(&words).or_else(|error| wrong(&format!("{key}.channels"), error))?,
        None => Vec::new(),
    };
    let kinds = [is_rtsp, written.nuuo.is_some(), written.onvif.is_some()];
    if kinds.into_iter().filter(|is_given| *is_given).count() != 1 {
        return wrong(&key, "give one of nuuo, onvif and rtsp");
    }
    // Checked with a number in the place of the channel: what is wrong with one is wrong with all.
    let rtsp = |number: u32| {
        let rtsp = written.rtsp.as_ref()?;
        Some(written::Rtsp { url: rtsp.url.replace("{channel}", &number.to_string()), ..rtsp.clone() })
    };
    let camera = written::Camera {
        name: written.name.clone(),
        enabled: true,
        rtsp: rtsp(numbers.first().copied().unwrap_or(1)),
        nuuo: written.nuuo,
        onvif: written.onvif,
        ring,
        ring_most,
        archive,
        upload,
        detectors,
        fps_limit,
        publishers,
        ..written::Camera::default()
    };
    let template = check::camera(camera, general)?;
    if let Source::Nuuo(nuuo) = &template.source
        && nuuo.camera != NuuoCamera::default()
    {
        return wrong(&format!("{key}.nuuo"), "names a camera: which ones are taken is said by `channels`");
    }
    if let Source::Onvif(onvif) = &template.source
        && (onvif.source.is_some() || matches!(onvif.profile, OnvifProfile::Named(_)))
    {
        return wrong(&format!("{key}.onvif"), "names one source or profile: give `main` or `sub`, and `channels`");
    }
    let nvr = Nvr {
        channels: patterns(words),
        refresh,
        template: Camera { nvr: Some(written.name.clone()), ..template },
        name: written.name.clone(),
        directory,
        stream,
        listing: Listing::default(),
    };
    if !is_rtsp {
        return Ok(Checked::Nvr(Box::new(nvr)));
    }
    let mut cameras = Vec::new();
    for number in numbers {
        let Some(written) = rtsp(number) else { continue };
        let source = check::rtsp(written, &format!("{key}.rtsp"))?;
        let camera = nvr.camera(format!("{}-{number}", nvr.name), source, thing);
        cameras.push(camera.or_else(|error| wrong(&format!("{key}.camera.upload.stream"), error))?);
    }
    Ok(Checked::Cameras(cameras))
}

fn words(written: Option<WrittenChannels>) -> Vec<String> {
    let word = |channel: WrittenChannel| match channel {
        WrittenChannel::Number(number) => number.to_string(),
        WrittenChannel::Text(text) => text,
    };
    match written {
        None => Vec::new(),
        Some(WrittenChannels::One(one)) => vec![word(one)],
        Some(WrittenChannels::Many(many)) => many.into_iter().map(word).collect(),
    }
}

fn patterns(words: Vec<String>) -> Vec<Pattern> {
    let pattern = |word: String| Pattern(if word == "all" { "*".to_owned() } else { word.to_lowercase() });
    if words.is_empty() { vec![Pattern("*".to_owned())] } else { words.into_iter().map(pattern).collect() }
}

/// `1`, `1-16` or `1,3,5-8`.
fn numbers(words: &[String]) -> std::result::Result<Vec<u32>, String> {
    let mut numbers = BTreeSet::new();
    for word in words.iter().flat_map(|word| word.split(',')) {
        let wrong = || format!("`{word}` is no number of a channel, nor a range such as 1-16");
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last as usize - first as usize >= MOST_CHANNELS {
            return Err(wrong());
        }
        numbers.extend(first..=last);
    }
    match numbers.len() {
        0 => Err("an RTSP server does not list its channels: say which there are, such as 1-16".to_owned()),
        many if many > MOST_CHANNELS => Err(format!("more than {MOST_CHANNELS} channels")),
        _ => Ok(numbers.into_iter().collect()),
    }
}

impl Nvr {
    /// The recorder itself, as the source of no camera in particular.
    pub fn source(&self) -> &Source {
        &self.template.source
    }

    /// The same entry, whatever it has listed.
    pub fn is_same_entry(&self, other: &Self) -> bool {
        *self == Self { listing: self.listing.clone(), ..other.clone() }
    }

    fn camera(&self, name: String, source: Source, thing: &str) -> std::result::Result<Camera, String> {
        let mut camera = Camera { name, source, ..self.template.clone() };
        if let Some(archive) = &mut camera.archive {
            archive.directory = self.directory.join(&camera.name);
        }
        if let Some(upload) = &mut camera.upload {
            upload.stream = identity::stream_name(&self.stream, thing, &camera.name)?;
        }
        Ok(camera)
    }

    /// The cameras that its listing and its rule come to.
    fn cameras(&self, thing: &str) -> Vec<Camera> {
        let is_wanted = |channel: &&Channel| channel.is_there && self.channels.iter().any(|rule| rule.fits(channel));
        let camera = |channel: &Channel| {
            let mut source = self.template.source.clone();
            if let Source::Onvif(onvif) = &mut source {
                onvif.source = Some(channel.id.clone());
            }
            if let Source::Nuuo(nuuo) = &mut source {
                let exact = Some((channel.server.clone(), channel.id.clone()));
                nuuo.camera = NuuoCamera { exact, ..NuuoCamera::default() };
                nuuo.dialect = nuuo.dialect.or(self.listing.dialect());
            }
            self.camera(channel.camera.clone(), source, thing).ok()
        };
        self.listing.channels.iter().filter(is_wanted).filter_map(camera).collect()
    }

    /// Where its listing is kept.
    pub fn file(&self, state_dir: &Path) -> PathBuf {
        state_dir.join("nvrs").join(format!("{}.json", self.name))
    }
}

impl Listing {
    /// Takes a new list. Who was known keeps its camera; who is new gets one, as long as there is room; who is gone is
    /// remembered.
    pub fn take(&mut self, nvr: &str, dialect: Option<NuuoDialect>, found: Vec<Channel>) {
        self.dialect = dialect.map(|dialect| match dialect {
            NuuoDialect::Titan => "titan".to_owned(),
            NuuoDialect::Crystal => "crystal".to_owned(),
        });
        let listed: HashSet<(&str, &str)> = found.iter().map(Channel::key).collect();
        for known in self.channels.iter_mut().filter(|channel| channel.is_there) {
            known.missed = if listed.contains(&known.key()) { 0 } else { known.missed.saturating_add(1) };
            known.is_there = known.missed < GONE_AFTER;
        }
        let mut count = self.count();
        let mut taken: HashSet<String> = self.channels.iter().map(|channel| channel.camera.clone()).collect();
        // Enough for those that are known, wherever they stand, and no work for one who lists without end.
        for new in found.into_iter().take(4 * MOST_CHANNELS) {
            let known = self.channels.iter_mut().find(|known| known.key() == new.key());
            if !known.as_ref().is_some_and(|known| known.is_there) {
                if count >= MOST_CHANNELS {
                    continue;
                }
                count += 1;
            }
            if let Some(known) = known {
                (known.name, known.is_there, known.missed) = (new.name, true, 0);
                continue;
            }
            let camera = unique(nvr, &new, &taken);
            taken.insert(camera.clone());
            self.channels.push(Channel { camera, is_there: true, ..new });
        }
        // Someone who renumbers all day must not fill the disk.
        while self.channels.len() > 4 * MOST_CHANNELS {
            let Some(oldest) = self.channels.iter().position(|channel| !channel.is_there) else { break };
            self.channels.remove(oldest);
        }
    }

    fn dialect(&self) -> Option<NuuoDialect> {
        match self.dialect.as_deref() {
            Some("titan") => Some(NuuoDialect::Titan),
            Some("crystal") => Some(NuuoDialect::Crystal),
            _ => None,
        }
    }

    /// Whether the last list has missed a channel that counts.
    pub fn misses_some(&self) -> bool {
        self.channels.iter().any(|channel| channel.is_there && channel.missed > 0)
    }

    /// Channels that are there now.
    pub fn count(&self) -> usize {
        self.channels.iter().filter(|channel| channel.is_there).count()
    }
}

/// `<nvr>-<channel>`, of what a camera's name may have; with the id where that is taken.
fn unique(nvr: &str, channel: &Channel, taken: &HashSet<String>) -> String {
    let name = sanitised(&channel.name);
    let plain = cut(format!("{nvr}-{}", if name.is_empty() { sanitised(&channel.id) } else { name.clone() }));
    if !taken.contains(&plain) && plain.len() > nvr.len() + 1 {
        return plain;
    }
    let with_id = cut(format!("{nvr}-{}-{name}", sanitised(&channel.id)));
    let mut candidate = with_id.clone();
    for number in 2.. {
        if !taken.contains(&candidate) {
            break;
        }
        candidate = format!("{}-{number}", with_id.get(..NAME - 6).unwrap_or(&with_id));
    }
    candidate
}

fn cut(mut name: String) -> String {
    name.truncate(NAME);
    name.trim_end_matches('-').to_owned()
}

/// ASCII letters and digits; anything else becomes one `-`.
fn sanitised(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || character == '_' {
            out.push(character);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_matches('-').to_owned()
}

impl Config {
    /// Takes what recorders listed in earlier runs, and makes the cameras of it.
    pub fn recall_nvrs(&mut self) {
        for nvr in &mut self.nvrs {
            let path = nvr.file(&self.state_dir);
            let Ok(text) = std::fs::read(&path) else { continue };
            match serde_json::from_slice(&text) {
                Ok(listing) => nvr.listing = listing,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "what an NVR has listed cannot be read; it is asked anew");
                }
            }
        }
        self.expand_nvrs();
    }

    /// Keeps what is known of recorders that this config has as well, where it knows nothing of them itself.
    pub fn adopt_listings(&mut self, known: &Self) {
        let mut has_changed = false;
        for nvr in self.nvrs.iter_mut().filter(|nvr| nvr.listing == Listing::default()) {
            if let Some(known) = known.nvrs.iter().find(|known| known.is_same_entry(nvr)) {
                has_changed |= known.listing != Listing::default();
                nvr.listing = known.listing.clone();
            }
        }
        if has_changed {
            self.expand_nvrs();
        }
    }

    /// Makes the cameras of all listings anew. Switches of cameras that stay are kept; a camera whose name or stream is
    /// taken already is left out, and said.
    pub fn expand_nvrs(&mut self) {
        let listed: HashSet<String> = self.nvrs.iter().map(|nvr| nvr.name.clone()).collect();
        let is_expanded = |camera: &Camera| camera.nvr.as_ref().is_some_and(|nvr| listed.contains(nvr));
        let switches: BTreeMap<String, Switches> =
            self.cameras.iter().map(|camera| (camera.name.clone(), camera.switches)).collect();
        self.cameras.retain(|camera| !is_expanded(camera));
        let stream = |camera: &Camera| camera.upload.as_ref().map(|upload| upload.stream.clone());
        let mut names: HashSet<String> = self.cameras.iter().map(|camera| camera.name.clone()).collect();
        let mut streams: HashSet<String> = self.cameras.iter().filter_map(stream).collect();
        for mut camera in self.nvrs.iter().flat_map(|nvr| nvr.cameras(&self.thing)) {
            if let Some(known) = switches.get(&camera.name) {
                camera.switches = *known;
            }
            let has_stream = stream(&camera).is_none_or(|stream| streams.insert(stream));
            if has_stream && names.insert(camera.name.clone()) {
                self.cameras.push(camera);
            } else {
                tracing::warn!(
                    camera_name = camera.name,
                    "another camera has this name or stream: the NVR's is left out"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Playback by HLS: GetHLSStreamingSessionURL, and the playlists and fragments behind the URL that it gives.
//!
//! LIVE and fragmented MP4 alone; what is played is given by [`KvsServer::play`](crate::KvsServer::play), and appears as time
//! passes. A session numbers fragments from 0 on, wherever it begins. Absent: LIVE_REPLAY, ON_DEMAND, MPEG transport
//! streams, and footage that PutMedia brought.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock::{format_iso_time, now_ms};
use crate::digest::payload_hash;
use crate::error::ServiceError;
use crate::http::head::Head;

/// Where the paths behind a session's URL begin.
pub(crate) const PREFIX: &str = "/hls/v1/";

/// What is played to whoever asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Playback {
    /// The head that all fragments need: `ftyp` and `moov`.
    pub init: Vec<u8>,
    /// Fragments, `moof` and `mdat`, and how long they last.
    pub fragments: Vec<(Vec<u8>, Duration)>,
}

#[derive(Debug)]
struct Program {
    playback: Playback,
    began: Instant,
    began_ms: u64,
}

#[derive(Debug)]
struct Session {
    stream: String,
    expires: Instant,
    /// Number of its first fragment, once it has asked for a playlist.
    first: Option<usize>,
    most: usize,
    has_times: bool,
}

/// All playback.
#[derive(Debug, Default)]
pub(crate) struct Hls {
    programs: BTreeMap<String, Program>,
    sessions: BTreeMap<String, Session>,
    /// Sessions given out.
    pub(crate) count: u64,
    /// Fragments given out, by number, in the order they were asked for.
    pub(crate) fetched: Vec<usize>,
}

/// The body of GetHLSStreamingSessionURL.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    playback_mode: Option<String>,
    #[serde(rename = "HLSFragmentSelector")]
    selector: Option<Selector>,
    container_format: Option<String>,
    discontinuity_mode: Option<String>,
    display_fragment_timestamp: Option<String>,
    expires: Option<u64>,
    max_media_playlist_fragment_results: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Selector {
    fragment_selector_type: Option<String>,
    timestamp_range: Option<Value>,
}

impl Request {
    /// Name and ARN of the stream.
    pub(crate) fn target(&self) -> (Option<&str>, Option<&str>) {
        (self.stream_name.as_deref(), self.stream_arn.as_deref())
    }

    fn check(&self) -> Result<(), String> {
        let one_of = |name: &str, given: &Option<String>, known: &[&str]| match given.as_deref() {
            Some(value) if !known.contains(&value) => Err(format!("{name} '{value}' is none of {known:?}.")),
            _ => Ok(()),
        };
        one_of("PlaybackMode", &self.playback_mode, &["LIVE", "LIVE_REPLAY", "ON_DEMAND"])?;
        one_of("ContainerFormat", &self.container_format, &["FRAGMENTED_MP4", "MPEG_TS"])?;
        one_of("DiscontinuityMode", &self.discontinuity_mode, &["ALWAYS", "NEVER", "ON_DISCONTINUITY"])?;
        one_of("DisplayFragmentTimestamp", &self.display_fragment_timestamp, &["ALWAYS", "NEVER"])?;
        if let Some(selector) = &self.selector {
            let kinds = ["PRODUCER_TIMESTAMP", "SERVER_TIMESTAMP"];
            one_of("FragmentSelectorType", &selector.fragment_selector_type, &kinds)?;
            if selector.timestamp_range.is_some() {
                return Err("TimestampRange must not be there if PlaybackMode is LIVE.".to_owned());
            }
        }
        if !(300..=43_200).contains(&self.expires.unwrap_or(300)) {
            return Err("Expires must be 300 to 43200.".to_owned());
        }
        if !(1..=5000).contains(&self.max_media_playlist_fragment_results.unwrap_or(5)) {
            return Err("MaxMediaPlaylistFragmentResults must be 1 to 5000.".to_owned());
        }
        if self.playback_mode.as_deref().is_some_and(|mode| mode != "LIVE")
            || self.container_format.as_deref() == Some("MPEG_TS")
        {
            return Err("This stand-in plays LIVE in FRAGMENTED_MP4 only.".to_owned());
        }
        Ok(())
    }
}

impl Hls {
    /// From now on this is played as the live footage of a stream.
    pub(crate) fn play(&mut self, stream: &str, playback: Playback) {
        let program = Program { playback, began: Instant::now(), began_ms: now_ms() };
        self.programs.insert(stream.to_owned(), program);
    }

    /// All session tokens end now.
    pub(crate) fn expire(&mut self) {
        self.sessions.values_mut().for_each(|session| session.expires = Instant::now());
    }

    /// Opens a session for a stream that exists.
    pub(crate) fn open(
        &mut self,
        request: &Request,
        stream: &str,
        retention_hours: u32,
        endpoint: &str,
        now: Instant,
    ) -> Result<Value, ServiceError> {
        request.check().map_err(ServiceError::invalid_argument)?;
        if retention_hours == 0 {
            let message = format!("The stream {stream} has no data retention.");
            return Err(ServiceError::modelled(400, "NoDataRetentionException", message));
        }
        if self.programs.get(stream).is_none_or(|program| program.there(now) == 0) {
            return Err(ServiceError::modelled(404, "ResourceNotFoundException", "No fragments found in the stream."));
        }
        self.count += 1;
        let token = payload_hash(format!("{stream} {} {}", self.count, now_ms()).as_bytes());
        let session = Session {
            stream: stream.to_owned(),
            expires: now + Duration::from_secs(request.expires.unwrap_or(300)),
            first: None,
            most: request.max_media_playlist_fragment_results.unwrap_or(5) as usize,
            has_times: request.display_fragment_timestamp.as_deref() == Some("ALWAYS"),
        };
        self.sessions.insert(token.clone(), session);
        let url = format!("{endpoint}{PREFIX}getHLSMasterPlaylist.m3u8?SessionToken={token}");
        Ok(json!({ "HLSStreamingSessionURL": url }))
    }

    /// Answers a GET behind a session's URL: content type and body.
    pub(crate) fn answer(&mut self, head: &Head, now: Instant) -> Result<(&'static str, Vec<u8>), ServiceError> {
        let parameter =
            |name: &str| head.query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
        let parameter = |name: &str| parameter(name).map(|(_, value)| value);
        let token =
            parameter("SessionToken").ok_or_else(|| ServiceError::invalid_argument("SessionToken is missing."))?;
        let denied = |message: &str| ServiceError::front_end(403, "AccessDeniedException", message);
        let session = self.sessions.get_mut(token).ok_or_else(|| denied("The session token is not known."))?;
        if session.expires <= now {
            return Err(denied("The session token has expired."));
        }
        let program = self.programs.get(&session.stream).ok_or_else(|| ServiceError::not_found(&session.stream))?;
        let page = head.path.strip_prefix(PREFIX).unwrap_or_default();
        if page != "getHLSMasterPlaylist.m3u8" && parameter("TrackNumber") != Some("1") {
            return Err(ServiceError::invalid_argument("TrackNumber is missing or is no track."));
        }
        match page {
            "getHLSMasterPlaylist.m3u8" => {
                let stream =
                    "#EXT-X-STREAM-INF:CODECS=\"avc1.42C00D\",RESOLUTION=320x180,FRAME-RATE=15.0,BANDWIDTH=400000";
                let media = format!("getHLSMediaPlaylist.m3u8?SessionToken={token}&TrackNumber=1");
                Ok((PLAYLIST, format!("#EXTM3U\n#EXT-X-VERSION:1\n{stream}\n{media}\n").into_bytes()))
            }
            "getHLSMediaPlaylist.m3u8" => Ok((PLAYLIST, program.playlist(session, token, now).into_bytes())),
            "getMP4InitFragment.mp4" => Ok((MP4, program.playback.init.clone())),
            "getMP4MediaFragment.mp4" => {
                let number = parameter("FragmentNumber").and_then(fragment_index);
                let there = program.there(now);
                let fragment = number.filter(|number| *number < there);
                let Some(number) = fragment else {
                    return Err(ServiceError::modelled(404, "ResourceNotFoundException", "There is no such fragment."));
                };
                self.fetched.push(number);
                Ok((MP4, program.playback.fragments[number].0.clone()))
            }
            _ => Err(ServiceError::front_end(404, "UnknownOperationException", "no such page")),
        }
    }
}

const PLAYLIST: &str = "application/x-mpegURL";
const MP4: &str = "video/mp4";
/// Fragment numbers of the service have some 47 digits.
const FRAGMENT: u128 = 91_343_852_333_181_726_411_000_000_000_000_000;

fn fragment_index(text: &str) -> Option<usize> {
    let number: u128 = text.parse().ok()?;
    usize::try_from(number.checked_sub(FRAGMENT)?).ok()
}

impl Program {
    /// Fragments that have ended by now.
    fn there(&self, now: Instant) -> usize {
        let mut left = now.saturating_duration_since(self.began);
        let ended = self.playback.fragments.iter().take_while(|(_, duration)| match left.checked_sub(*duration) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        });
        ended.count()
    }

    fn playlist(&self, session: &mut Session, token: &str, now: Instant) -> String {
        let there = self.there(now);
        let begin = there.saturating_sub(session.most);
        let first = *session.first.get_or_insert(begin);
        let longest = self.playback.fragments.iter().map(|(_, duration)| *duration).max().unwrap_or_default();
        let target = longest.as_secs_f64().ceil();
        let sequence = begin.saturating_sub(first);
        let query = format!("SessionToken={token}&TrackNumber=1");
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:1\n#EXT-X-MAP:URI=\"getMP4InitFragment.mp4?{query}&SequenceNumber=1\"\n"
        );
        for number in begin..there {
            let before: Duration = self.playback.fragments[..number].iter().map(|(_, duration)| *duration).sum();
            if session.has_times {
                let time = format_iso_time(self.began_ms + before.as_millis() as u64);
                // Writing to a string cannot fail.
                writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{time}").ok();
            }
            let seconds = self.playback.fragments[number].1.as_secs_f64();
            let fragment = FRAGMENT + number as u128;
            writeln!(text, "#EXTINF:{seconds:.3},\ngetMP4MediaFragment.mp4?FragmentNumber={fragment}&{query}").ok();
        }
        text
    }
}

//! Playlists (RFC 8216): read with bounds, and no more of them than the agent uses.
//!
//! Deliberately absent: renditions (`EXT-X-MEDIA`), subtitles, partial segments of low-latency HLS, decryption.

use std::sync::Arc;
use std::time::Duration;

use edgecam_media::Timestamp;

/// Segments of one playlist at most: a day in segments of 2 s has 43,200.
const MOST_SEGMENTS: usize = 50_000;
/// Variants of one master playlist at most.
const MOST_VARIANTS: usize = 200;
/// Longest segment, and target duration.
const LONGEST: f64 = 600.0;
/// Bytes of a URI at most.
const LONGEST_URI: usize = 8192;

/// A playlist.
#[derive(Clone, PartialEq, Debug)]
pub enum Playlist {
    /// Names playlists of the same in several qualities.
    Master(Vec<Variant>),
    /// Names segments.
    Media(Media),
}

/// One quality (section 4.3.4.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variant {
    /// Where its playlist is, relative to this one.
    pub uri: String,
    /// Bits a second at most.
    pub bandwidth: u64,
    /// Codec strings, where they are said.
    pub codecs: Option<String>,
}

/// A playlist of segments.
#[derive(Clone, PartialEq, Debug)]
pub struct Media {
    /// No segment is longer, rounded to the second (section 4.3.3.1).
    pub target: Duration,
    /// Number of the first segment.
    pub sequence: u64,
    /// The segments.
    pub segments: Vec<Segment>,
    /// No more will come.
    pub is_over: bool,
}

/// One segment.
#[derive(Clone, PartialEq, Debug)]
pub struct Segment {
    /// Where it is, relative to the playlist.
    pub uri: String,
    /// The bytes that are meant: offset and length (section 4.3.2.2).
    pub range: Option<(u64, u64)>,
    /// Its length.
    pub duration: Duration,
    /// Nothing in it continues what came before: formats, times.
    pub is_discontinuous: bool,
    /// Where the head of fragmented MP4 is, and which bytes of it: one for all segments that it holds for.
    pub map: Option<Arc<Map>>,
    /// When its first picture was taken.
    pub taken: Option<Timestamp>,
    /// It is named and not there (`EXT-X-GAP`).
    pub is_gap: bool,
}

/// The head that segments of fragmented MP4 need (section 4.3.2.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Map {
    /// Where it is, relative to the playlist.
    pub uri: String,
    /// The bytes that are meant.
    pub range: Option<(u64, u64)>,
}

/// A playlist that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlaylistError {
    /// It does not begin as one.
    #[error("it is no playlist: it does not begin with #EXTM3U")]
    NotOne,
    /// A line breaks the syntax, or a value its range.
    #[error("line {0} of the playlist cannot be used: {1}")]
    Line(usize, &'static str),
    /// Its segments are encrypted.
    #[error("its segments are encrypted ({0}), which the agent does not take: use a stream without encryption")]
    Encrypted(String),
}

/// Reads a playlist.
pub fn parse(text: &str) -> Result<Playlist, PlaylistError> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).enumerate();
    if lines.next().is_none_or(|(_, first)| !first.starts_with("#EXTM3U")) {
        return Err(PlaylistError::NotOne);
    }
    let mut reader = Reader::default();
    for (index, line) in lines {
        reader.line(line).map_err(|refusal| match refusal {
            Refusal::Line(why) => PlaylistError::Line(index + 1, why),
            Refusal::Encrypted(method) => PlaylistError::Encrypted(method),
        })?;
    }
    if reader.media.segments.is_empty() && !reader.variants.is_empty() {
        return Ok(Playlist::Master(reader.variants));
    }
    Ok(Playlist::Media(reader.media))
}

enum Refusal {
    Line(&'static str),
    Encrypted(String),
}

/// What the lines so far say about the segment that comes next.
struct Reader {
    variants: Vec<Variant>,
    variant: Option<(u64, Option<String>)>,
    media: Media,
    duration: Option<Duration>,
    range: Option<(u64, u64)>,
    range_end: u64,
    is_discontinuous: bool,
    map: Option<Arc<Map>>,
    taken: Option<Timestamp>,
    is_gap: bool,
}

impl Default for Reader {
    fn default() -> Self {
        let media = Media { target: Duration::from_secs(6), sequence: 0, segments: Vec::new(), is_over: false };
        Self {
            variants: Vec::new(),
            variant: None,
            media,
            duration: None,
            range: None,
            range_end: 0,
            is_discontinuous: false,
            map: None,
            taken: None,
            is_gap: false,
        }
    }
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), Refusal> {
        if line.is_empty() {
            return Ok(());
        }
        if !line.starts_with('#') {
            return self.uri(line);
        }
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        let wrong = |why| Err(Refusal::Line(why));
        match tag {
            "#EXT-X-STREAM-INF" => {
                let bandwidth = attribute(value, "BANDWIDTH").and_then(|text| text.parse().ok()).unwrap_or(0);
                self.variant = Some((bandwidth, attribute(value, "CODECS").map(str::to_owned)));
            }
            "#EXT-X-TARGETDURATION" => match seconds(value) {
                Some(target) => self.media.target = target.max(Duration::from_millis(500)),
                None => return wrong("EXT-X-TARGETDURATION is no number of seconds"),
            },
            "#EXT-X-MEDIA-SEQUENCE" => match value.parse() {
                Ok(sequence) if sequence < u64::MAX / 2 => self.media.sequence = sequence,
                _ => return wrong("EXT-X-MEDIA-SEQUENCE is no number"),
            },
            "#EXTINF" => match seconds(value.split(',').next().unwrap_or_default()) {
                Some(duration) => self.duration = Some(duration),
                None => return wrong("EXTINF is no number of seconds"),
            },
            "#EXT-X-BYTERANGE" => match byte_range(value, self.range_end) {
                Some(range) => self.range = Some(range),
                None => return wrong("EXT-X-BYTERANGE cannot be read"),
            },
            "#EXT-X-DISCONTINUITY" => self.is_discontinuous = true,
            "#EXT-X-GAP" => self.is_gap = true,
            "#EXT-X-ENDLIST" => self.media.is_over = true,
            "#EXT-X-PROGRAM-DATE-TIME" => {
                let parsed: Option<jiff::Timestamp> = value.parse().ok();
                self.taken = parsed.map(|time| Timestamp::from_unix_millis(time.as_millisecond()));
            }
            "#EXT-X-MAP" => {
                let Some(uri) = attribute(value, "URI") else { return wrong("EXT-X-MAP has no URI") };
                if uri.len() > LONGEST_URI {
                    return wrong("a URI of more than 8192 bytes");
                }
                let range = attribute(value, "BYTERANGE").and_then(|text| byte_range(text, 0));
                self.map = Some(Arc::new(Map { uri: uri.to_owned(), range }));
            }
            "#EXT-X-KEY" => match attribute(value, "METHOD") {
                None | Some("NONE") => {}
                Some(method) => {
                    let method = method.chars().filter(char::is_ascii_graphic).take(20).collect();
                    return Err(Refusal::Encrypted(method));
                }
            },
            _ => {}
        }
        Ok(())
    }

    fn uri(&mut self, uri: &str) -> Result<(), Refusal> {
        if uri.len() > LONGEST_URI {
            return Err(Refusal::Line("a URI of more than 8192 bytes"));
        }
        if let Some((bandwidth, codecs)) = self.variant.take() {
            if self.variants.len() == MOST_VARIANTS {
                return Err(Refusal::Line("too many variants"));
            }
            self.variants.push(Variant { uri: uri.to_owned(), bandwidth, codecs });
            return Ok(());
        }
        let Some(duration) = self.duration.take() else { return Err(Refusal::Line("a URI without EXTINF before it")) };
        if self.media.segments.len() == MOST_SEGMENTS {
            return Err(Refusal::Line("too many segments"));
        }
        let range = self.range.take();
        self.range_end = range.map_or(0, |(offset, length)| offset + length);
        // It holds for the segments after it as well, by their lengths.
        let taken = self.taken;
        self.taken = taken.map(|taken| taken + edgecam_media::Ticks::from_duration(duration));
        self.media.segments.push(Segment {
            uri: uri.to_owned(),
            range,
            duration,
            is_discontinuous: std::mem::take(&mut self.is_discontinuous),
            map: self.map.clone(),
            taken,
            is_gap: std::mem::take(&mut self.is_gap),
        });
        Ok(())
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    (0.0..=LONGEST).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// `length[@offset]`; without an offset it follows what came before.
fn byte_range(text: &str, follows: u64) -> Option<(u64, u64)> {
    let (length, offset) = match text.trim().split_once('@') {
        Some((length, offset)) => (length, offset.parse().ok()?),
        None => (text.trim(), follows),
    };
    let length: u64 = length.parse().ok().filter(|length| *length > 0)?;
    offset.checked_add(length).map(|_| (offset, length))
}

/// The value of an attribute, without its quotes (section 4.2).
fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, next) = quoted.split_once('"')?;
                (value, next.strip_prefix(',').unwrap_or(next))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim() == name {
            return Some(value);
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(text: &str) -> Media {
        match parse(text) {
            Ok(Playlist::Media(media)) => media,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_live_playlist() {
        let media = media(
            "#EXTM3U\r\n#EXT-X-VERSION:7\r\n#EXT-X-TARGETDURATION:2\r\n#EXT-X-MEDIA-SEQUENCE:17\r\n\
             #EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"700@0\"\r\n#EXT-X-PROGRAM-DATE-TIME:2026-11-21T02:36:15.129+0000\r\n\
             #EXTINF:2.000000,\r\na.m4s\r\n#EXTINF:1.5,a, title\r\nb.m4s?x=1\r\n#EXT-X-DISCONTINUITY\r\n#EXTINF:2,\r\n\
             #EXT-X-BYTERANGE:100@50\r\nc.m4s\r\n#EXTINF:2,\r\n#EXT-X-BYTERANGE:10\r\nc.m4s\r\n",
        );
        assert_eq!((media.target, media.sequence, media.is_over), (Duration::from_secs(2), 17, false));
        let uris: Vec<&str> = media.segments.iter().map(|segment| segment.uri.as_str()).collect();
        assert_eq!(uris, ["a.m4s", "b.m4s?x=1", "c.m4s", "c.m4s"]);
        let ranges: Vec<_> = media.segments.iter().map(|segment| segment.range).collect();
        assert_eq!(ranges, [None, None, Some((50, 100)), Some((150, 10))]);
        let discontinuous: Vec<_> = media.segments.iter().map(|segment| segment.is_discontinuous).collect();
        assert_eq!(discontinuous, [false, false, true, false]);
        let taken: Vec<_> = media.segments.iter().map(|s| s.taken.expect("a time").unix_millis()).collect();
        assert_eq!(taken[..3], [1_795_228_575_129, 1_795_228_577_129, 1_795_228_578_629]);
        let map = media.segments[3].map.clone().expect("a map");
        assert_eq!((map.uri.as_str(), map.range), ("init.mp4", Some((0, 700))));
    }

    #[test]
    fn a_master_playlist() {
        let text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=300000,CODECS=\"avc1.42C01F,mp4a.40.2\"\nlow/v.m3u8\n\
                    #EXT-X-STREAM-INF:AVERAGE-BANDWIDTH=1,BANDWIDTH=900000\nhigh.m3u8\n";
        let Ok(Playlist::Master(variants)) = parse(text) else { panic!("a master playlist") };
        let found: Vec<_> = variants.iter().map(|v| (v.uri.as_str(), v.bandwidth, v.codecs.as_deref())).collect();
        assert_eq!(found, [("low/v.m3u8", 300_000, Some("avc1.42C01F,mp4a.40.2")), ("high.m3u8", 900_000, None)]);
    }

    #[test]
    fn segments_share_their_map() {
        let media = media("#EXTM3U\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:1,\na\n#EXTINF:1,\nb\n");
        let maps: Vec<_> = media.segments.iter().filter_map(|segment| segment.map.as_ref()).collect();
        assert!(maps.len() == 2 && Arc::ptr_eq(maps[0], maps[1]), "{maps:?}");
    }

    #[test]
    fn what_is_refused() {
        let long = format!("#EXTM3U\n#EXT-X-MAP:URI=\"{}\"\n", "i".repeat(8193));
        for (text, says) in [
            ("", "#EXTM3U"),
            ("<html>", "#EXTM3U"),
            ("#EXTM3U\na.ts", "line 2"),
            ("#EXTM3U\n#EXTINF:x,\na.ts", "EXTINF"),
            ("#EXTM3U\n#EXTINF:-1,\na.ts", "EXTINF"),
            ("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na.ts", "AES-128"),
            (&long, "8192 bytes"),
            ("#EXTM3U\n#EXT-X-BYTERANGE:0\n", "BYTERANGE"),
            ("#EXTM3U\n#EXT-X-BYTERANGE:18446744073709551615@1\n", "BYTERANGE"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}

//! What must hold for any bytes. Run by cargo-fuzz, and with made-up bytes by `cargo test`.

use edgecam::capture::hls::playlist::{self, Playlist};
use edgecam::capture::nuuo::{self, Framing, Part, PartError, PartReader};
use edgecam::capture::onvif;
use edgecam::config;
use edgecam::control::command::{Name, Request, is_id};
use edgecam::host::greengrass::frame::{Decoder, FRAME_MOST, Frame};
use edgecam::live::honeycomb;
use edgecam::xml;

/// A target: what it is called, and what must not panic.
type Target = (&'static str, fn(&[u8]));

/// All targets, by name.
pub(crate) const TARGETS: &[Target] = &[
    ("command", command),
    ("honeycomb", honeycomb),
    ("config", config),
    ("nuuo", nuuo),
    ("xml", xml),
    ("onvif", onvif),
    ("playlist", playlist),
    ("ipc", ipc),
];

/// A command is understood or refused with a reason that can be shown; what it is called by can be a level of a topic.
pub(crate) fn command(data: &[u8]) {
    let Some((&pick, data)) = data.split_first() else { return };
    let name = Name::ALL.get(usize::from(pick) % 16).map_or("?", |name| name.text());
    let text = String::from_utf8_lossy(data);
    let wrapped = format!("{{\"requestId\":\"a\",\"start\":{0},\"end\":{0}}}", serde_json::json!(text));
    let open = format!("{{\"requestId\":\"a\",{text}");
    for payload in [data, wrapped.as_bytes(), open.as_bytes()] {
        for camera in [None, Some("door"), Some(&*text)] {
            match Request::parse(name, camera, payload) {
                Ok(request) => assert!(is_id(&request.id) && request.command.name().text() == name),
                Err(error) => assert!(!error.reason.is_empty() && error.id.is_none_or(|id| is_id(&id))),
            }
        }
    }
}

/// A playlist is within its bounds or refused with a reason.
pub(crate) fn playlist(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let tags = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-STREAM-INF:";
    for text in
        [text.to_string(), format!("#EXTM3U\n{text}"), format!("{tags}{text}"), format!("{tags}\n#EXT-X-MAP:{text}")]
    {
        match playlist::parse(&text) {
            Ok(Playlist::Media(media)) => {
                assert!(media.target.as_secs() <= 600 && media.target.as_millis() >= 500);
                assert!(media.segments.iter().all(|segment| segment.duration.as_secs() <= 600));
                assert!(media.segments.iter().filter_map(|segment| segment.range).all(|(_, length)| length > 0));
            }
            Ok(Playlist::Master(variants)) => assert!(!variants.is_empty()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// The platform's messages.
pub(crate) fn honeycomb(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let id = "0123456789ABCDEF0123456789ABCDEF";
    for rest in ["stream/play", "stream/keepalive", "stream/stop", "system/setmode", "settings/update", &text] {
        honeycomb::parse("prod", &format!("prod/honeycomb/{id}/{rest}"), data).ok();
    }
    honeycomb::parse("prod", &text, data).ok();
}

/// A config is usable or refused with a reason.
pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for text in
        [text.to_string(), format!("cameras: [{{name: a, test_pattern: {{{text}}}}}]"), format!("mqtt: {{{text}}}")]
    {
        if let Err(error) = config::parse(&text) {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// A stream of a NUUO server gives the same parts however it is cut; its other answers are understood or refused.
pub(crate) fn nuuo(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let dressed = |begin: &str| [begin.as_bytes(), b"Content-Type: video/H264\r\nContent-Length: ", data].concat();
    for (framing, begin) in [(Framing::Multipart, "--b\r\n"), (Framing::Requests, "POST /live HTTP/1.1\r\n")] {
        for stream in [data.to_vec(), dressed(begin)] {
            let whole = parts(framing, &[&stream]);
            let (head, rest) = stream.split_at(usize::from(cut).min(stream.len()));
            let pieces = parts(framing, &[head, rest]);
            assert_eq!(whole.0, pieces.0);
            assert!(pieces.1.is_none() || whole.1.is_some());
        }
    }
    nuuo::is_crystal(data);
    nuuo::session(data).ok();
    nuuo::servers(data).ok();
    nuuo::devices(data, "1").ok();
    nuuo::device_tree(data).ok();
}

fn parts(framing: Framing, pieces: &[&[u8]]) -> (Vec<Part>, Option<PartError>) {
    let mut reader = PartReader::new(framing);
    let mut parts = Vec::new();
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.next_part() {
                Ok(Some(part)) => parts.push(part),
                Ok(None) => break,
                Err(error) => return (parts, Some(error)),
            }
        }
    }
    (parts, None)
}

/// XML is read or refused; a text that is escaped can be read, and is what it was but for what XML cannot write.
pub(crate) fn xml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let wrapped = format!("<a b=\"{0}\">{0}</a>", xml::escape(&text));
    for text in [data, wrapped.as_bytes()] {
        if let Ok(root) = xml::parse(text) {
            assert!(root.find(root.name()).is_some());
        }
    }
    let root = xml::parse(wrapped.as_bytes()).expect("escaped text is XML");
    let can_be_written = |c: &char| !c.is_control();
    let kept = |text: &str| text.trim().chars().filter(can_be_written).collect::<String>();
    assert_eq!(kept(root.text()), kept(text.trim_matches(|c: char| c.is_whitespace() || c.is_control())));
}

/// What an ONVIF device or a stranger answers is understood or refused.
pub(crate) fn onvif(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let wrapped = |call: &str| format!("<E><Body><{call}Response>{text}</{call}Response></Body></E>").into_bytes();
    for (call, inner) in
        [("GetProfiles", "<Profiles token='a'>"), ("GetServices", "<Service>"), ("GetStreamUri", "<Uri>")]
    {
        for text in [data.to_vec(), wrapped(call), [inner.as_bytes(), data].concat()] {
            onvif::system_time(&text).ok();
            onvif::services(&text).ok();
            onvif::capabilities(&text).ok();
            assert!(onvif::profiles(&text).map_or(0, |profiles| profiles.len()) <= 512);
            onvif::stream_uri(&text).ok();
            onvif::snapshot_uri(&text).ok();
            assert!(onvif::discovery::matches(&text, "1", "h").len() <= 16);
        }
    }
}

/// What comes over the nucleus's socket gives the same frames however it is cut, and none that is damaged.
pub(crate) fn ipc(data: &[u8]) {
    let Some((&at, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    let mut written = bytes::BytesMut::new();
    Frame::request(i32::from(at), "GetConfiguration", &serde_json::json!(text)).write(&mut written).expect("it fits");
    let whole = frames(&[&written]);
    assert!(whole.1 && whole.0.len() == 1 && whole.0[0].stream == i32::from(at), "what we write we read");
    let (head, rest) = written.split_at(usize::from(at).min(written.len()));
    assert_eq!(frames(&[head, rest]), whole);
    if let Some(byte) = written.get_mut(usize::from(at)) {
        *byte ^= 1 << (at % 8);
        let (found, is_well) = frames(&[&written]);
        assert!(found.is_empty() || usize::from(at) >= written.len(), "{is_well}");
    }
    let (head, rest) = data.split_at(usize::from(at).min(data.len()));
    assert_eq!(frames(&[data]).0, frames(&[head, rest]).0);
}

/// The frames, and whether nothing was wrong.
fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, bool) {
    let (mut decoder, mut found) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.payload.len() < FRAME_MOST);
                    found.push(frame);
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return (found, false);
                }
            }
        }
    }
    (found, true)
}

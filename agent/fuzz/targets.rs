//! What must hold for any bytes. Run by cargo-fuzz, and with made-up bytes by `cargo test`.

use edgecam::config;
use edgecam::control::command::{Name, Request, is_id};
use edgecam::live::honeycomb;

/// A target: what it is called, and what must not panic.
type Target = (&'static str, fn(&[u8]));

/// All targets, by name.
pub(crate) const TARGETS: &[Target] = &[("command", command), ("honeycomb", honeycomb), ("config", config)];

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

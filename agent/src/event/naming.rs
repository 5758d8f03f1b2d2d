//! What files of an event, or of a picture to train with, are called.

use bytes::Bytes;
use edgecam_media::Timestamp;
use serde_json::Value;

use super::message::Envelope;

/// `YYYY/MM/DD` of an instant.
pub fn day(at: Timestamp) -> String {
    at.to_string().get(..10).unwrap_or_default().replace('-', "/")
}

/// `<camera>/YYYY/MM/DD/<id>` of a message.
pub fn stem(message: &Value) -> Option<String> {
    let id = message["id"].as_str().filter(|id| is_plain(id))?;
    let camera = message["camera_id"].as_str().filter(|name| is_plain(name))?;
    let at = Timestamp::from_unix_millis((message["timestamp"].as_f64()? * 1000.0) as i64);
    Some(format!("{camera}/{}/{id}", day(at)))
}

/// Path, content type and content of each file of a message; its JSON last.
pub fn files(stem: &str, envelope: &Envelope) -> Vec<(String, &'static str, Bytes)> {
    let name = |index: usize| match index {
        0 => format!("{stem}.jpg"),
        crop => format!("{stem}_crop{}.jpg", crop - 1),
    };
    let pictures =
        envelope.pictures.iter().enumerate().map(|(index, bytes)| (name(index), "image/jpeg", bytes.clone()));
    let json = (format!("{stem}.json"), "application/json", envelope.json.clone());
    pictures.chain([json]).collect()
}

/// Nothing in it could mean another directory.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        let message = json!({ "id": "a-1", "camera_id": "door", "timestamp": 1_795_228_575.25 });
        assert_eq!(stem(&message).as_deref(), Some("door/2026/11/21/a-1"));
        for bad in ["..", "a/b", "", ".x"] {
            assert_eq!(stem(&json!({ "id": bad, "camera_id": "door", "timestamp": 1.0 })), None, "{bad}");
        }
        let envelope = Envelope { json: "{}".into(), pictures: vec![Bytes::new(), Bytes::new()] };
        let names: Vec<String> = files("s", &envelope).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["s.jpg", "s_crop0.jpg", "s.json"]);
    }
}

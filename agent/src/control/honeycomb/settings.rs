//! What of a platform's settings an encoder of ours has. Pure.

use serde_json::{Map, Value};

use crate::encode::Control;

/// What is asked of the encoder, and the names of what it does not have. The error is for a person.
///
/// The platform counts bitrates in kbit/s.
pub(super) fn encoder(values: &Map<String, Value>) -> Result<(Control, Vec<String>), String> {
    let mut control = Control::default();
    let mut rest = Vec::new();
    for (name, value) in values {
        let wrong = || format!("`{name}` cannot be {value:.60}");
        match name.to_ascii_lowercase().as_str() {
            // The platform's word for "as it is".
            _ if value.is_null() || value == "NA" => {}
            "fps" | "framerate" | "frame_rate" => control.framerate = Some(number(value).ok_or_else(wrong)?),
            "gop" => control.gop = Some(whole(value, 1.0).ok_or_else(wrong)?),
            "bitrate" => control.bitrate = Some(whole(value, 1000.0).ok_or_else(wrong)?),
            "resolution" => control.resolution = Some(resolution(value).ok_or_else(wrong)?),
            _ => rest.push(name.clone()),
        }
    }
    Ok((control, rest))
}

/// A number, or one written as text.
fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    number.is_finite().then_some(number)
}

fn whole(value: &Value, unit: f64) -> Option<u32> {
    let number = number(value)? * unit;
    (number >= 1.0 && number <= f64::from(u32::MAX)).then_some(number as u32)
}

/// `1280x720`, or an object of width and height.
fn resolution(value: &Value) -> Option<(u32, u32)> {
    if let Some((width, height)) = value.as_str().and_then(|text| text.split_once(['x', 'X'])) {
        return Some((width.trim().parse().ok()?, height.trim().parse().ok()?));
    }
    Some((whole(&value["width"], 1.0)?, whole(&value["height"], 1.0)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_encoder_has_and_what_not() {
        let check = |values: Value| encoder(values.as_object().expect("an object"));
        let all = Control {
            resolution: Some((1280, 720)),
            framerate: Some(12.5),
            gop: Some(30),
            bitrate: Some(800_000),
            bitrate_limit: None,
        };
        assert_eq!(
            check(json!({ "fps": 12.5, "gop": "30", "bitrate": 800, "resolution": "1280x720" })),
            Ok((all, vec![]))
        );
        let sized = json!({ "resolution": { "width": 640, "height": 360 }, "frameRate": "NA", "night_vision": "auto" });
        let expected = Control { resolution: Some((640, 360)), ..Control::default() };
        assert_eq!(check(sized), Ok((expected, vec!["night_vision".to_owned()])));
        assert_eq!(
            check(json!({ "messageType": "x", "fps": null })),
            Ok((Control::default(), vec!["messageType".to_owned()]))
        );
        for wrong in [
            json!({ "fps": "fast" }),
            json!({ "fps": [1] }),
            json!({ "gop": -1 }),
            json!({ "bitrate": 1e30 }),
            json!({ "resolution": "large" }),
            json!({ "resolution": { "width": 640 } }),
            json!({ "resolution": 720 }),
        ] {
            assert!(check(wrong.clone()).is_err_and(|error| error.contains("cannot be")), "{wrong}");
        }
    }
}

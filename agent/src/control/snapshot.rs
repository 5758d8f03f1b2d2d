//! A JPEG of a camera's newest picture.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgecam_media::Timestamp;
use serde_json::json;

use super::reply::{Ending, failed, rejected};
use crate::decode::Decoder;
use crate::decode::jpeg::{self, Jpeg};
use crate::footage::{Footage, Next};
use crate::topology::CameraHandle;

/// Bytes of a JPEG that fit into a message: Base64 makes them a third more, and AWS IoT takes 128 KB.
const MESSAGE_MOST: usize = 92_000;
/// Pictures of a GOP that are decoded at most to get to the newest.
const DECODED_MOST: usize = 600;

/// The newest picture as a reply that fits into a message.
pub(super) async fn take(camera: &CameraHandle, max_width: u32) -> Ending {
    let mut max_width = max_width;
    let (jpeg, at) = loop {
        let (jpeg, at) = newest(camera, max_width).await.or_else(rejected)?;
        if jpeg.bytes.len() <= MESSAGE_MOST {
            break (jpeg, at);
        }
        max_width = u32::from(jpeg.width) * 2 / 3;
        if max_width < 16 {
            return failed("the picture does not fit into a message");
        }
    };
    let Jpeg { bytes, width, height } = jpeg;
    Ok(Some(json!({
        "contentType": "image/jpeg", "width": width, "height": height, "timestamp": at.to_string(),
        "data": STANDARD.encode(bytes),
    })))
}

/// The newest picture; what is wrong, if there is none.
pub async fn newest(camera: &CameraHandle, max_width: u32) -> Result<(Jpeg, Timestamp), String> {
    let (footage, name) = (camera.footage.clone(), camera.config.name.clone());
    let decoded = tokio::task::spawn_blocking(move || decode(&footage, max_width));
    match decoded.await {
        Ok(Ok(Some(found))) => Ok(found),
        Ok(Ok(None)) => Err(format!("`{name}` has no picture")),
        Ok(Err(error)) => Err(format!("the newest picture of `{name}` cannot be decoded: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

fn decode(footage: &Footage, max_width: u32) -> Result<Option<(Jpeg, Timestamp)>, String> {
    let mut decoder = Decoder::new().map_err(|error| error.to_string())?;
    let mut cursor = footage.cursor();
    let mut position = footage.live();
    let gop = position.gop;
    let mut units = Vec::new();
    while let Some(Next::Unit { unit, sets, next }) = cursor.try_read(position) {
        if next.gop != gop || units.len() == DECODED_MOST {
            break;
        }
        if unit.is_video() {
            units.push((unit, sets));
        }
        position = next;
    }
    let Some(last) = units.len().checked_sub(1) else { return Ok(None) };
    let mut shown = None;
    for (index, (unit, sets)) in units.iter().enumerate() {
        let decoded = decoder.decode(unit, sets).map_err(|error| error.to_string())?;
        // Only the newest is worth a JPEG; one before it, where the decoder holds the newest back.
        if let Some(picture) = decoded.filter(|_| index + 2 > last) {
            shown = Some((jpeg::encode(&picture, max_width)?, unit.pts));
        }
    }
    Ok(shown)
}

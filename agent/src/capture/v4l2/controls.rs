//! Setting a camera's controls: those that the config names, and those of an encoder inside the camera.

use v4l::Device;
use v4l::v4l_sys as sys;

use super::ioctl::controls::{Control, ControlKind, controls, set, value};
use super::uvc::Unit;
use crate::config::source::V4l2;
use crate::encode::Encoding;

/// What could not be set, for people.
pub(crate) type Notes = Vec<String>;

/// Sets the controls that the config names. What the device lacks or refuses is said, and the others are set.
pub(super) fn set_named(device: &Device, settings: &V4l2) -> Notes {
    let mut notes = Notes::new();
    if settings.controls.is_empty() {
        return notes;
    }
    let known = controls(device);
    let find = |name: &str| known.iter().find(|control| is_called(control, name));
    // What switches an automatic off goes before the value that the automatic would overwrite.
    let is_switch =
        |name: &str| find(name).is_some_and(|control| matches!(control.kind, ControlKind::Boolean | ControlKind::Menu));
    let (switches, values): (Vec<_>, Vec<_>) = settings.controls.iter().partition(|(name, _)| is_switch(name));
    for (name, &wanted) in switches.into_iter().chain(values) {
        let Some(control) = find(name) else {
            notes.push(format!("the camera has no control `{name}`: `edgecam devices` lists those it has"));
            continue;
        };
        if wanted < control.minimum || wanted > control.maximum {
            let (least, most) = (control.minimum, control.maximum);
            notes.push(format!("the control `{name}` takes {least} to {most}, not {wanted}"));
        } else if let Err(error) = set(device, control.id, wanted) {
            notes.push(format!("the control `{name}` cannot be set to {wanted}: {error}"));
        } else if control.kind != ControlKind::Button
            && let Ok(now) = value(device, control.id)
            && now != wanted
        {
            notes.push(format!("the control `{name}` was set to {wanted}, and the driver made it {now}"));
        }
    }
    notes
}

/// `Brightness`, `brightness`, `white_balance_automatic` for "White Balance, Automatic", or its number.
fn is_called(control: &Control, name: &str) -> bool {
    plain(&control.name) == plain(name) || number(name) == Some(control.id)
}

/// A control's name as the config spells it.
pub fn plain(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_")
}

fn number(text: &str) -> Option<u32> {
    text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())
}

/// Sets what an H.264 encoder in the camera has: bitrate, GOP, profile without B-frames, parameter sets with each IDR.
/// Where there are no V4L2 controls for it, its extension unit is used. Says what it lacks.
pub(super) fn set_camera(device: &Device, unit: Option<Unit>, wanted: &Encoding, is_running: bool) -> Notes {
    let Some(unit) = unit else { return set_encoder(device, wanted) };
    let given = match is_running {
        true => unit.set_bitrate(device, wanted.bitrate).map(|()| (wanted.bitrate, wanted.gop)),
        false => unit.set(device, wanted),
    };
    match given {
        Ok(given) if given == (wanted.bitrate, wanted.gop) => Notes::new(),
        Ok((bitrate, gop)) => vec![format!("the camera's encoder made it {bitrate} bit/s and a GOP of {gop} frames")],
        Err(error) => vec![format!("the camera's H.264 extension unit refuses bitrate and GOP: {error}")],
    }
}

/// Sets what an H.264 encoder with V4L2 controls has. Says what it lacks.
pub(crate) fn set_encoder(device: &Device, wanted: &Encoding) -> Notes {
    let known = controls(device);
    let has = |id: u32| known.iter().find(|control| control.id == id);
    let mut notes = Notes::new();
    // What is only good to have is not spoken of when it is missing.
    for (id, value) in [
        (sys::V4L2_CID_MPEG_VIDEO_B_FRAMES, 0),
        (sys::V4L2_CID_MPEG_VIDEO_REPEAT_SEQ_HEADER, 1),
        (
            sys::V4L2_CID_MPEG_VIDEO_BITRATE_MODE,
            sys::v4l2_mpeg_video_bitrate_mode_V4L2_MPEG_VIDEO_BITRATE_MODE_CBR.into(),
        ),
    ] {
        if has(id).is_some()
            && let Err(error) = set(device, id, value)
        {
            notes.push(format!("the camera's encoder refused control {id:#x}: {error}"));
        }
    }
    let gop = [sys::V4L2_CID_MPEG_VIDEO_H264_I_PERIOD, sys::V4L2_CID_MPEG_VIDEO_GOP_SIZE];
    for (what, ids, value) in [
        ("bitrate", &[sys::V4L2_CID_MPEG_VIDEO_BITRATE][..], i64::from(wanted.bitrate)),
        ("GOP", &gop[..], i64::from(wanted.gop)),
    ] {
        let Some(control) = ids.iter().find_map(|&id| has(id)) else {
            notes.push(format!("the {what} of the camera's encoder cannot be set: the camera decides"));
            continue;
        };
        let within = value.clamp(control.minimum, control.maximum.max(control.minimum));
        if let Err(error) = set(device, control.id, within) {
            notes.push(format!("the {what} of the camera's encoder cannot be set to {within}: {error}"));
        } else if within != value {
            notes.push(format!("the {what} of the camera's encoder was set to {within}: it does not take {value}"));
        }
    }
    notes
}

/// Whether an encoder in the camera has a V4L2 control for its bitrate.
pub(super) fn has_bitrate(device: &Device) -> bool {
    controls(device).iter().any(|control| control.id == sys::V4L2_CID_MPEG_VIDEO_BITRATE)
}

/// Whether an encoder in the camera can be asked for an IDR by a V4L2 control.
pub(super) fn has_force_key_frame(device: &Device) -> bool {
    controls(device).iter().any(|control| control.id == sys::V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME)
}

/// Asks an encoder for an IDR by a V4L2 control, if it can be asked.
pub(crate) fn force_key_frame(device: &Device) -> std::io::Result<()> {
    set(device, sys::V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_controls() {
        assert_eq!(plain("White Balance, Automatic"), "white_balance_automatic");
        assert_eq!(plain("Brightness"), "brightness");
        let control = Control {
            id: 0x0098_0900,
            name: "Brightness".into(),
            kind: ControlKind::Integer,
            minimum: 0,
            maximum: 255,
            step: 1,
            default: 128,
            is_read_only: false,
            is_inactive: false,
            items: Vec::new(),
        };
        for (name, is_it) in
            [("brightness", true), ("Brightness", true), ("0x980900", true), ("9963776", true), ("contrast", false)]
        {
            assert_eq!(is_called(&control, name), is_it, "{name}");
        }
    }
}

//! What a driver's refusal means, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::capture::{CaptureError, path_error};

/// The error of doing `what` with the device at `path`.
pub(super) fn explain(path: &Path, what: &str, error: &io::Error) -> CaptureError {
    let shown = path.display();
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::BUSY) => {
            let user = users(path).first().map_or_else(String::new, |user| format!(" ({user})"));
            CaptureError::Busy(format!(
                "{shown} is in use by another program{user}: a camera streams to one program only; stop that one"
            ))
        }
        Some(Errno::ACCESS | Errno::PERM) => match path_error::explain(path, &io::ErrorKind::PermissionDenied.into()) {
            CaptureError::Unreachable(text) => CaptureError::PermissionDenied(text),
            other => other,
        },
        Some(Errno::NOSPC) => CaptureError::UsbBandwidth(format!(
            "{shown}: the USB bus has no bandwidth left for this format: use a smaller size or frame rate, `format: \
             mjpeg` or `h264`, or another USB port that is not shared"
        )),
        Some(Errno::NODEV | Errno::NXIO | Errno::IO | Errno::NOENT | Errno::PIPE | Errno::PROTO) => {
            CaptureError::Unplugged(format!("{shown} has gone ({what}: {error}): it is used again when it comes back"))
        }
        Some(Errno::INVAL | Errno::NOTTY) => {
            CaptureError::UnsupportedFormat(format!("{shown} does not do what is asked of it ({what}: {error})"))
        }
        _ => CaptureError::Unreachable(format!("{shown}: {what}: {error}")),
    }
}

/// The programs that have `path` open, as far as this user may see them.
fn users(path: &Path) -> Vec<String> {
    let Ok(device) = std::fs::canonicalize(path) else { return Vec::new() };
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = process.file_name().to_string_lossy().into_owned();
        if !id.bytes().all(|byte| byte.is_ascii_digit()) || id == own {
            continue;
        }
        let open = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        if open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|target: PathBuf| target == device) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(format!("{}, process {id}", name.trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::supervisor::CaptureState;

    #[test]
    fn every_refusal_has_a_state_of_its_own() {
        let path = Path::new("/dev/null");
        for (errno, state, word) in [
            (Errno::BUSY, CaptureState::Busy, "another program"),
            (Errno::ACCESS, CaptureState::PermissionDenied, "permission denied"),
            (Errno::NOSPC, CaptureState::UsbBandwidth, "mjpeg"),
            (Errno::NODEV, CaptureState::NoDevice, "has gone"),
            (Errno::INVAL, CaptureState::UnsupportedFormat, "does not do"),
            (Errno::NOMEM, CaptureState::NoDevice, "setting the format"),
        ] {
            let error = explain(path, "setting the format", &io::Error::from_raw_os_error(errno.raw_os_error()));
            assert_eq!(CaptureState::after(&error), state, "{errno:?}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}

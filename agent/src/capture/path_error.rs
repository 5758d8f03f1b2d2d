//! Why a path could not be opened, in words that say what to do.

use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::CaptureError;

/// The error of opening or reading `path`.
pub(super) fn explain(path: &Path, error: &Error) -> CaptureError {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound => CaptureError::NotFound(format!(
            "{shown} does not exist: is the program running that makes it, and is the path right?"
        )),
        ErrorKind::PermissionDenied => {
            CaptureError::Unreachable(format!("{shown}: permission denied: {}", advice(path)))
        }
        ErrorKind::IsADirectory => CaptureError::NotFound(format!("{shown} is a directory, not a file or FIFO")),
        _ => CaptureError::Unreachable(format!("{shown}: {error}")),
    }
}

fn advice(path: &Path) -> String {
    let Ok(metadata) = std::fs::metadata(path) else {
        return "the agent's user may not enter a directory above it".to_owned();
    };
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let group = group_name(&groups, metadata.gid()).map_or_else(|| metadata.gid().to_string(), str::to_owned);
    let mode = metadata.mode();
    if mode & 0o040 != 0 {
        format!("add the agent's user to the group '{group}', which may read it")
    } else {
        format!(
            "its mode is {:04o}; let the group '{group}' read it and add the agent's user to that group",
            mode & 0o7777
        )
    }
}

/// The name of a group in the text of `/etc/group` (group(5)): `name:password:gid:members`.
fn group_name(groups: &str, gid: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_names() {
        let groups = "root:x:0:\nvideo:x:44:alice,bob\nbroken\nnogroup:x:65534:";
        for (gid, name) in [(0, Some("root")), (44, Some("video")), (65_534, Some("nogroup")), (7, None)] {
            assert_eq!(group_name(groups, gid), name);
        }
    }

    #[test]
    fn what_is_missing_is_not_found() {
        let path = Path::new("/nonexistent/stream.h264");
        assert!(matches!(explain(path, &Error::from(ErrorKind::NotFound)), CaptureError::NotFound(_)));
        let denied = explain(path, &Error::from(ErrorKind::PermissionDenied));
        assert!(denied.to_string().contains("directory above"), "{denied}");
        assert!(matches!(denied, CaptureError::Unreachable(_)));
    }
}

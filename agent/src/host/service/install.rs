//! Puts the service in place: program, units, user, directories, config. What is there already stays as it is, so that it
//! can be done again after each change.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{ServiceError, Unit, ask};
use crate::config::{self, Config};

/// Where the unit files look for the program.
const PACKAGED: &str = "/usr/bin/edgecam";
/// Where it goes without a package.
const LOCAL: &str = "/usr/local/bin/edgecam";
/// The files of `systemd/`, and where they go without a package.
const FILES: [(&str, &str); 4] = [
    ("etc/systemd/system/edgecam.service", include_str!("../../../../systemd/edgecam.service")),
    ("etc/systemd/system/edgecam@.service", include_str!("../../../../systemd/edgecam@.service")),
    (SYSUSERS, include_str!("../../../../systemd/edgecam.sysusers")),
    (TMPFILES, include_str!("../../../../systemd/edgecam.tmpfiles")),
];
const SYSUSERS: &str = "etc/sysusers.d/edgecam.conf";
const TMPFILES: &str = "etc/tmpfiles.d/edgecam.conf";
/// A DeepLens with the encoder's settings of its vendor's examples.
const DEEPLENS: &str = include_str!("../../../../systemd/deeplens.yaml");

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which agent.
    pub unit: Unit,
    /// The config to be used; `None` for the one that is there.
    pub config: Option<PathBuf>,
    /// Write the config of a DeepLens if there is none.
    pub deeplens: bool,
    /// Whom it runs as instead of `edgecam`.
    pub user: Option<String>,
    /// Start it, if it has a config.
    pub start: bool,
    /// The system: `/`, or one that is booted later.
    pub root: PathBuf,
}

/// Does it; `say` hears of each step.
pub async fn install(request: &Request, say: &mut dyn FnMut(String)) -> Result<(), ServiceError> {
    let Request { unit, root, .. } = request;
    let is_here = root == Path::new("/");
    if is_here {
        if !rustix::process::geteuid().is_root() {
            return Err(ServiceError::NotRoot);
        }
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(ServiceError::NoSystemd);
        }
    }
    // Nothing is touched for a config that the agent would refuse.
    let path = unit.config(root);
    let text = wanted(request, &path)?;
    let config = text.as_deref().map(|text| config::parse_as_service(text, &path)).transpose()?;
    let program = program(root, say)?;
    if program == Path::new(PACKAGED) {
        say("units, user and directories are those of the package".to_owned());
    } else {
        for (to, content) in FILES {
            put(&root.join(to), content.replace(PACKAGED, &program.to_string_lossy()).as_bytes(), 0o644, say)?;
        }
        let below = root_option(root);
        accounts(root, &below).await?;
        let tmpfiles = root.join(TMPFILES);
        let arguments = [OsStr::new("--create"), tmpfiles.as_os_str()];
        ask("systemd-tmpfiles", &with(&below, &arguments)).await?;
    }
    if let Some(text) = &text {
        put(&path, text.as_bytes(), 0o640, say)?;
        if let Some(group) = group(root) {
            let owned = rustix::fs::chown(&path, None, Some(group));
            owned.map_err(|error| ServiceError::File { path: path.clone(), error: error.into() })?;
        }
    }
    drop_in(request, config.as_ref(), say)?;
    let below = root_option(root);
    let name = unit.to_string();
    let enable = [OsStr::new("enable"), OsStr::new(&name)];
    if is_here {
        ask("systemctl", &[OsStr::new("daemon-reload")]).await?;
    }
    ask("systemctl", &with(&below, &enable)).await?;
    for camera in config.iter().flat_map(|config| &config.cameras) {
        if let Some(upload) = &camera.upload {
            say(format!("{}: uploads to the stream {}", camera.name, upload.stream));
        }
    }
    let Some(_) = config else {
        say(format!("{name} is not started: it has no config. Write {}, then: edgecam service start", path.display()));
        return Ok(());
    };
    if request.start && is_here {
        ask("systemctl", &[OsStr::new("restart"), OsStr::new(&name)]).await?;
        say(format!("{name} runs, and starts at boot"));
    } else {
        say(format!("{name} starts at boot"));
    }
    Ok(())
}

/// The text of the config that will count; `None` when there is none.
fn wanted(request: &Request, path: &Path) -> Result<Option<String>, ServiceError> {
    let there = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(path)(error)),
    };
    let given = match &request.config {
        Some(given) => Some(fs::read_to_string(given).map_err(failed(given))?),
        None => None,
    };
    match (there, given) {
        (Some(there), Some(given)) if there != given => Err(ServiceError::HasConfig(path.to_owned())),
        (None, None) if request.deeplens => Ok(Some(DEEPLENS.to_owned())),
        (there, given) => Ok(there.or(given)),
    }
}

/// The program's place, where it is put unless a package or a person has put it there.
fn program(root: &Path, say: &mut dyn FnMut(String)) -> Result<PathBuf, ServiceError> {
    let running = std::env::current_exe().map_err(failed(Path::new("/proc/self/exe")))?;
    if [PACKAGED, LOCAL].iter().any(|place| running == below(root, place)) {
        let place = running.strip_prefix(root).unwrap_or(&running);
        return Ok(Path::new("/").join(place));
    }
    let to = below(root, LOCAL);
    let content = fs::read(&running).map_err(failed(&running))?;
    put(&to, &content, 0o755, say)?;
    Ok(PathBuf::from(LOCAL))
}

/// Makes user and group. Systems older than systemd-sysusers have useradd.
async fn accounts(root: &Path, root_option: &[&OsStr]) -> Result<(), ServiceError> {
    let file = root.join(SYSUSERS);
    match ask("systemd-sysusers", &with(root_option, &[file.as_os_str()])).await {
        Err(ServiceError::NoTool(_)) if group(root).is_some() => Ok(()),
        Err(ServiceError::NoTool(_)) => {
            let words = "--system --user-group --groups video --no-create-home --home-dir /var/lib/edgecam \
                         --shell /usr/sbin/nologin";
            let mut arguments: Vec<&OsStr> = words.split_ascii_whitespace().map(OsStr::new).collect();
            if root != Path::new("/") {
                arguments.extend([OsStr::new("--root"), root.as_os_str()]);
            }
            arguments.push(OsStr::new("edgecam"));
            ask("useradd", &arguments).await
        }
        other => other,
    }
}

/// What differs on this machine from the unit: another user, and footage outside the state directory.
fn drop_in(request: &Request, config: Option<&Config>, say: &mut dyn FnMut(String)) -> Result<(), ServiceError> {
    let Request { unit, root, user, .. } = request;
    let path = root.join(format!("etc/systemd/system/{unit}.d/50-install.conf"));
    let mut lines = String::new();
    if let Some(user) = user {
        lines.push_str(&format!("User={user}\n"));
    }
    for directory in config.map(|config| outside(config, &unit.state())).unwrap_or_default() {
        // The hyphen: a disk that is not there is no reason not to start.
        lines.push_str(&format!("ReadWritePaths=-{}\n", quoted(&directory)));
    }
    if lines.is_empty() {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path)(error)),
            _ => Ok(()),
        };
    }
    let text = format!("# Written by `edgecam service install`, from its options and the config.\n[Service]\n{lines}");
    put(&path, text.as_bytes(), 0o644, say)
}

/// Directories that the agent writes to and that are not below its state directory, none of them twice.
fn outside(config: &Config, state: &Path) -> Vec<PathBuf> {
    // Without STATE_DIRECTORY, which systemd sets, the default is a relative path.
    let set = Some(&config.state_dir).filter(|path| path.is_absolute()).cloned();
    let archives = config.cameras.iter().filter_map(|camera| camera.archive.as_ref());
    let mut found: Vec<PathBuf> = set.into_iter().chain(archives.map(|archive| archive.directory.clone())).collect();
    found.retain(|path| path.is_absolute() && !path.starts_with(state));
    found.sort();
    found.dedup_by(|path, before| path.starts_with(before));
    found
}

/// A path as systemd.syntax(7) and systemd.unit(5) want it: specifiers and quotes taken literally.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "\\\\").replace('%', "%%").replace('"', "\\\"");
    if text.contains(|c: char| c.is_whitespace() || c == '"' || c == '\'') { format!("\"{text}\"") } else { text }
}

/// Writes a file as a whole: nobody reads half of it, and a program that runs is replaced.
fn put(path: &Path, content: &[u8], mode: u32, say: &mut dyn FnMut(String)) -> Result<(), ServiceError> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        drop(fs::remove_file(&new));
        let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(&new)?;
        // The mask of whoever runs this is not the file's.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(failed(path))?;
    say(format!("{}: written", path.display()));
    Ok(())
}

/// The id of the group `edgecam` in the system below `root`.
fn group(root: &Path) -> Option<rustix::fs::Gid> {
    let text = fs::read_to_string(root.join("etc/group")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("edgecam:"))?;
    line.split(':').nth(1)?.parse().ok().map(rustix::fs::Gid::from_raw)
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn root_option(root: &Path) -> Vec<&OsStr> {
    if root == Path::new("/") { Vec::new() } else { vec![OsStr::new("--root"), root.as_os_str()] }
}

fn with<'a>(first: &[&'a OsStr], then: &[&'a OsStr]) -> Vec<&'a OsStr> {
    first.iter().chain(then).copied().collect()
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ServiceError + use<> {
    let path = path.to_owned();
    move |error| ServiceError::File { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn footage_outside_the_state_directory() {
        let text = "cameras:\n  - {name: a, test_pattern: {}, archive: {directory: /mnt/usb/a}}\n  - {name: b, test_pattern: {}, archive: {directory: /mnt/usb}}\n  - {name: c, test_pattern: {}, archive: {directory: /var/lib/edgecam/c}}\n  - {name: d, test_pattern: {}, archive: {}}\n";
        let found = |text: &str| config::parse(text).map(|config| outside(&config, Path::new("/var/lib/edgecam")));
        assert_eq!(found(text).expect("a config"), [Path::new("/mnt/usb")]);
        let text = "state_dir: /data\ncameras: [{name: a, test_pattern: {}, archive: {}}]\n";
        assert_eq!(found(text).expect("a config"), [Path::new("/data")]);
    }

    #[test]
    fn paths_as_systemd_reads_them() {
        for (path, text) in [
            ("/mnt/usb", "/mnt/usb"),
            ("/mnt/my disk", "\"/mnt/my disk\""),
            ("/mnt/100%", "/mnt/100%%"),
            ("/mnt/a\"b", "\"/mnt/a\\\"b\""),
        ] {
            assert_eq!(quoted(Path::new(path)), text);
        }
    }
}

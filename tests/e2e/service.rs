//! The files of `systemd/`, judged by systemd's own tools, and `edgecam service` with stand-ins for them. The real ones do
//! it in the virtual machine of `tests/vm`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use edgecam::config::{self, identity};
use rustix::process::Signal;

use crate::harness::agent::{self, text};
use crate::harness::{PATIENCE, Scratch};

/// The files of `systemd/`.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

fn shipped(name: &str) -> String {
    fs::read_to_string(directory().join(name)).unwrap_or_else(|error| panic!("systemd/{name}: {error}"))
}

/// Runs one of systemd's tools.
fn tool(name: &str, arguments: &[&str]) -> Output {
    let output = Command::new(name).args(arguments).env("SYSTEMD_COLORS", "0").output();
    output.unwrap_or_else(|error| panic!("{name} (tests/run --setup installs it): {error}"))
}

/// What `systemd-analyze security` gives a unit, 0 to 10, with the drop-in `with`.
fn exposure(unit: &str, with: Option<&str>) -> f32 {
    let scratch = Scratch::new("exposure");
    let units = scratch.join("etc/systemd/system");
    fs::create_dir_all(units.join(format!("{unit}.d"))).expect("made");
    fs::write(units.join(unit), shipped(unit)).expect("written");
    if let Some(with) = with {
        fs::write(units.join(format!("{unit}.d")).join(with), shipped(with)).expect("written");
    }
    let root = format!("--root={}", scratch.path().display());
    let output = tool("systemd-analyze", &["security", "--offline=true", "--no-pager", &root, unit]);
    let told = text(&output);
    let level = told.lines().rev().find_map(|line| line.split("exposure level for ").nth(1)?.split(": ").nth(1));
    let number = level.and_then(|level| level.split(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no level in: {told}"))
}

#[test]
fn units_are_hardened_and_sound() {
    for (unit, with, most) in [
        ("edgecam.service", None, 2.0),
        ("edgecam@.service", None, 2.0),
        ("edgecam.service", Some("mxuvc-sudo.conf"), 6.2),
    ] {
        let level = exposure(unit, with);
        assert!(level <= most, "{unit} with {with:?}: {level}");
    }
    // `verify` wants the program to be there.
    let scratch = Scratch::new("verify");
    for unit in ["edgecam.service", "edgecam@.service"] {
        let path = scratch.write(unit, shipped(unit).replace("/usr/bin/edgecam", env!("CARGO_BIN_EXE_edgecam")));
        let output = tool("systemd-analyze", &["verify", "--man=no", &path.display().to_string()]);
        assert!(output.status.success() && text(&output).is_empty(), "{unit}: {}", text(&output));
    }
    let output = tool("systemd-sysusers", &["--dry-run", &directory().join("edgecam.sysusers").display().to_string()]);
    assert!(output.status.success(), "{}", text(&output));
}

/// Directories as they are made on a machine, where the configs are not everybody's to read.
#[test]
fn directories_are_made() {
    let scratch = Scratch::new("tmpfiles");
    fs::create_dir_all(scratch.join("etc")).expect("made");
    scratch.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nedgecam:x:990:990::/var/lib/edgecam:/bin/sh\n");
    scratch.write("etc/group", "root:x:0:\nedgecam:x:990:\n");
    let (root, file) = (format!("--root={}", scratch.path().display()), directory().join("edgecam.tmpfiles"));
    let output = tool("systemd-tmpfiles", &[&root, "--create", &file.display().to_string()]);
    let said = text(&output);
    // EX_DATAERR: a line that it cannot read.
    assert!(output.status.code() != Some(65) && !said.contains("edgecam.tmpfiles:"), "{said}");
    // Only root may give a directory to another user.
    if rustix::process::geteuid().is_root() {
        assert!(output.status.success(), "{said}");
        for (path, mode, owner) in [("etc/edgecam", 0o750, (0, 990)), ("var/lib/edgecam", 0o700, (990, 990))] {
            let made = fs::metadata(scratch.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!((made.permissions().mode() & 0o777, (made.uid(), made.gid())), (mode, owner), "{path}");
        }
    }
}

/// One unit for one agent, and one for several: they must not drift apart.
#[test]
fn the_template_is_the_unit() {
    let lines = |text: String| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let mut template = shipped("edgecam@.service");
    for (several, one) in [
        (" (%i)", ""),
        ("/etc/edgecam/%i.yaml", "/etc/edgecam/edgecam.yaml"),
        ("/etc/edgecam/%i.environment", "/etc/edgecam/environment"),
        ("edgecam-%i\n", "edgecam\n"),
        (":edgecam-%i.key", ""),
        (":edgecam-%i.pem", ""),
    ] {
        assert!(template.contains(several), "{several}");
        template = template.replace(several, one);
    }
    assert_eq!(lines(template), lines(shipped("edgecam.service")));
}

/// What the unit runs before the start and for a reload.
#[tokio::test]
async fn commands_of_the_unit_run() {
    let scratch = Scratch::new("unit-commands");
    let good = scratch.write("good.yaml", "cameras: [{name: a, test_pattern: {}, archive: {}}]\n");
    let bad = scratch.write("bad.yaml", "cameras: [{name: a, test_patern: {}}]\n");
    let unit = shipped("edgecam.service");
    let commands: Vec<&str> =
        unit.lines().filter_map(|line| line.split_once("=")?.1.split("/usr/bin/edgecam ").nth(1)).collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    for command in commands.iter().filter(|command| !command.starts_with("run ")) {
        for (config, code) in [(&good, 0), (&bad, 78)] {
            // In place of the agent: SIGHUP ends it.
            let mut agent = Command::new("sleep").arg("600").spawn().expect("sleep");
            let command = command
                .replace("/etc/edgecam/edgecam.yaml", &config.display().to_string())
                .replace("$MAINPID", &agent.id().to_string());
            let words: Vec<&str> = command.split(' ').collect();
            let state = ("STATE_DIRECTORY".to_owned(), scratch.path().display().to_string());
            let output = agent::run(&[state], &words, PATIENCE).await;
            assert_eq!(output.status.code(), Some(code), "{command}: {}", text(&output));
            let is_told = command.contains("--reload") && code == 0;
            if !is_told {
                assert!(agent.try_wait().expect("its status").is_none(), "{command} has ended the agent");
                agent.kill().expect("it can be killed");
            }
            let signal = if is_told { Signal::HUP } else { Signal::KILL };
            assert_eq!(agent.wait().expect("its status").signal(), Some(signal.as_raw()), "{command}");
        }
    }
}

/// Tools that write down what they are asked, and a system to install into.
struct Stage {
    scratch: Scratch,
    environment: Vec<(String, String)>,
}

impl Stage {
    fn set(name: &str, script: &str) -> Self {
        let scratch = Scratch::new(name);
        let tools = scratch.join("tools");
        fs::create_dir_all(&tools).expect("made");
        for tool in ["systemctl", "journalctl", "systemd-sysusers", "systemd-tmpfiles"] {
            let path = tools.join(tool);
            let log = scratch.join("asked").display().to_string();
            fs::write(&path, format!("#!/bin/sh\necho {tool} \"$@\" >> {log}\n{script}\n")).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        let environment = vec![("PATH".to_owned(), tools.display().to_string())];
        Self { scratch, environment }
    }

    fn root(&self) -> PathBuf {
        self.scratch.join("root")
    }

    async fn install(&self, arguments: &[&str]) -> (i32, String) {
        let root = self.root().display().to_string();
        let words = [&["service", "install", "--root", &root], arguments].concat();
        let output = agent::run(&self.environment, &words, PATIENCE).await;
        (output.status.code().unwrap_or(-1), text(&output))
    }

    /// What the tools were asked since the last time.
    fn asked(&self) -> Vec<String> {
        let path = self.scratch.join("asked");
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::remove_file(&path).ok();
        let root = self.root().display().to_string();
        text.lines().map(|line| line.replace(&root, "ROOT")).collect()
    }

    fn read(&self, path: &str) -> String {
        let path = self.root().join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn has(&self, path: &str) -> bool {
        self.root().join(path).exists()
    }
}

#[tokio::test]
async fn install() {
    let stage = Stage::set("install", "");
    // Without a config: everything is there, and nothing to be started.
    let (code, told) = stage.install(&[]).await;
    assert!(code == 0 && told.contains("it has no config"), "{told}");
    assert_eq!(
        stage.asked(),
        [
            "systemd-sysusers --root ROOT ROOT/etc/sysusers.d/edgecam.conf",
            "systemd-tmpfiles --root ROOT --create ROOT/etc/tmpfiles.d/edgecam.conf",
            "systemctl --root ROOT enable edgecam.service",
        ]
    );
    let unit = stage.read("etc/systemd/system/edgecam.service");
    assert_eq!(unit, shipped("edgecam.service").replace("/usr/bin/edgecam", "/usr/local/bin/edgecam"));
    let program = fs::metadata(stage.root().join("usr/local/bin/edgecam")).expect("the program");
    assert_eq!(program.permissions().mode() & 0o777, 0o755);
    assert!(program.len() == fs::metadata(env!("CARGO_BIN_EXE_edgecam")).expect("built").len());
    assert!(!stage.has("etc/edgecam/edgecam.yaml"), "no config is made up");

    // A config that cannot be used changes nothing; neither does one in place of another.
    let bad = stage.scratch.write("bad.yaml", "cameras: [{name: a, test_patern: {}}]\n");
    let (code, told) = stage.install(&["--config", &bad.display().to_string()]).await;
    assert!(code == 78 && told.contains("test_pattern") && stage.asked().is_empty(), "{told}");
    let text = "cameras: [{name: a, test_pattern: {}, archive: {directory: /mnt/my disk}, upload: {stream: yard}}]\n";
    let good = stage.scratch.write("good.yaml", text);
    let good = good.display().to_string();
    let (code, told) = stage.install(&["--config", &good, "--user", "aws_cam"]).await;
    assert!(code == 0 && told.contains("a: uploads to the stream yard"), "{told}");
    assert!(told.contains("edgecam.service starts at boot"), "{told}");
    assert_eq!(stage.read("etc/edgecam/edgecam.yaml"), text);
    let mode = fs::metadata(stage.root().join("etc/edgecam/edgecam.yaml")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "passwords are nobody's to read");
    let drop_in = "etc/systemd/system/edgecam.service.d/50-install.conf";
    assert!(stage.read(drop_in).ends_with("[Service]\nUser=aws_cam\nReadWritePaths=-\"/mnt/my disk\"\n"));
    let other = stage.scratch.write("other.yaml", "cameras: [{name: b, test_pattern: {}}]\n");
    let (code, told) = stage.install(&["--config", &other.display().to_string()]).await;
    assert!(code == 1 && told.contains("is there and differs"), "{told}");

    // Done again: nothing is written that is there, and what is no longer wanted goes.
    let (code, told) = stage.install(&["--config", &good]).await;
    assert!(code == 0 && !told.contains("usr/local/bin"), "{told}");
    assert!(stage.read(drop_in).ends_with("[Service]\nReadWritePaths=-\"/mnt/my disk\"\n"));
}

/// `make deploy SVC=deeplens` of old: the stream is named by the serial number.
#[tokio::test]
async fn install_on_a_deeplens() {
    let stage = Stage::set("deeplens", "");
    let (code, told) = stage.install(&["--deeplens"]).await;
    match identity::serial() {
        Some(serial) => {
            assert!(code == 0 && told.contains(&format!("deeplens: uploads to the stream {serial}\n")), "{told}");
            assert_eq!(stage.read("etc/edgecam/edgecam.yaml"), shipped("deeplens.yaml"));
        }
        None => assert!(code == 78 && told.contains("no usable serial number"), "{told}"),
    }
    let text = shipped("deeplens.yaml").replace("{serial}", "G0123");
    let config = config::parse(&text).expect("a config");
    assert_eq!(config.cameras.first().map(|camera| camera.source.kind()), Some("mxuvc"));
}

#[tokio::test]
async fn several_agents() {
    let stage = Stage::set("several", "");
    let config = stage.scratch.write("c.yaml", "cameras: [{name: a, test_pattern: {}, archive: {}}]\n");
    let (code, told) = stage.install(&["yard", "--config", &config.display().to_string()]).await;
    assert!(code == 0 && stage.has("etc/edgecam/yard.yaml"), "{told}");
    assert!(stage.asked().contains(&"systemctl --root ROOT enable edgecam@yard.service".to_owned()));
    let (code, told) = stage.install(&["../yard"]).await;
    assert!(code == 1 && told.contains("is no name of an agent"), "{told}");
}

#[tokio::test]
async fn manage() {
    let run = async |stage: &Stage, words: &[&str]| {
        let output = agent::run(&stage.environment, &[&["service"], words].concat(), PATIENCE).await;
        (output.status.code().unwrap_or(-1), text(&output))
    };
    let stage = Stage::set("manage", "");
    for (words, asked) in [
        (&["stop"][..], "systemctl stop edgecam.service"),
        (&["stop", "yard"], "systemctl stop edgecam@yard.service"),
        (&["status"], "systemctl status --no-pager --lines=20 edgecam.service"),
        (&["log"], "journalctl --no-pager --lines=100 --unit edgecam.service"),
        (&["log", "yard", "-f", "-n", "5"], "journalctl --no-pager --lines=5 --follow --unit edgecam@yard.service"),
    ] {
        let (code, told) = run(&stage, words).await;
        assert_eq!((code, stage.asked()), (0, vec![asked.to_owned()]), "{words:?}: {told}");
    }
    for verb in ["start", "restart"] {
        let (code, told) = run(&stage, &[verb, "no-such-agent"]).await;
        assert!(code == 78 && told.contains("/etc/edgecam/no-such-agent.yaml is not there"), "{told}");
        assert!(stage.asked().is_empty(), "systemd would say that all is well");
    }
    // A tool that says no, and one that is not there.
    let stage = Stage::set("manage-no", "echo 'the bus is gone' >&2; exit 3");
    let (code, told) = run(&stage, &["status"]).await;
    assert!(code == 3 && told.contains("the bus is gone"), "{told}");
    let (code, told) = run(&stage, &["stop"]).await;
    let is_root = rustix::process::geteuid().is_root();
    let wanted = if is_root { "`systemctl stop edgecam.service` failed" } else { "as root" };
    assert!(code == 1 && told.contains(wanted) && (!is_root || told.contains("the bus is gone")), "{told}");
    fs::remove_file(stage.scratch.join("tools/systemctl")).expect("removed");
    let (code, told) = run(&stage, &["stop"]).await;
    assert!(code == 1 && told.contains("`systemctl` is not there"), "{told}");
}

/// Whoever may not install is told so before anything is done.
#[test]
fn not_root() {
    let scratch = Scratch::new("not-root");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("set");
    // Where it was built may be root's alone to look into.
    let program = scratch.join("edgecam");
    fs::copy(env!("CARGO_BIN_EXE_edgecam"), &program).expect("copied");
    let mut command = Command::new(&program);
    command.args(["service", "install"]);
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let output = command.output().expect("it runs");
    assert!(output.status.code() == Some(1) && text(&output).contains("as root"), "{}", text(&output));
}

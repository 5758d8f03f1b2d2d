//! What is made of a binary: sizes, package, and what its removal leaves.

use std::path::Path;
use std::process::Command;

use super::{Desk, root};

/// A checkout: copies of these directories, links to the rest.
pub(super) fn check_out(desk: &Desk, copied: &[&str]) {
    for entry in std::fs::read_dir(root()).expect("the repository").flatten() {
        let (from, name) = (entry.path(), entry.file_name());
        let to = desk.scratch.join(&name);
        let is_ours = !["target", ".git"].contains(&&*name.to_string_lossy());
        if copied.contains(&&*name.to_string_lossy()) {
            run(Command::new("cp").arg("-r").arg(from).arg(to));
        } else if is_ours {
            std::os::unix::fs::symlink(from.canonicalize().expect("a path"), to).expect("a link");
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn made() {
    let mut desk = Desk::new("made");
    check_out(&desk, &["cross"]);
    let built = desk.scratch.join("target/aarch64-unknown-linux-musl/release");
    std::fs::create_dir_all(&built).expect("made");
    // Not of that architecture: symbols are symbols.
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_edgecam"), built.join("edgecam")).expect("a link");
    let said = desk.run("cross/sizes aarch64").await;
    assert!(["KB of code", "  tokio\n", "  edgecam\n", "  .text\n"].iter().all(|word| said.contains(word)), "{said}");
    std::fs::remove_file(built.join("edgecam")).expect("removed");

    // What is in it does not matter, and a large one would take long to compress.
    std::fs::write(built.join("edgecam"), "not a program").expect("written");
    desk.run("cross/package aarch64").await;
    let version = env!("CARGO_PKG_VERSION");
    let package = desk.scratch.join(format!("target/package/edgecam_{version}_arm64.deb"));
    let tarball = desk.scratch.join(format!("target/package/edgecam-{version}-aarch64.tar.xz"));
    assert!(package.is_file() && tarball.is_file(), "package, and a tarball beside it");

    // Its removal, in a directory instead of this machine.
    run(Command::new("dpkg-deb").arg("--control").arg(&package).arg(desk.scratch.join("control")));
    let state = desk.scratch.join("var/lib/edgecam");
    let config = desk.scratch.join("etc/edgecam/edgecam.yaml");
    for file in [state.join("door/1.mp4"), config.clone()] {
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        std::fs::write(file, "x").expect("written");
    }
    desk.stand_in("deb-systemd-helper", "");
    desk.stand_in("systemctl", "");
    desk.stand_in("sudo", "exec \"$@\"");
    desk.instead("/var/lib/edgecam", state.display());
    let removal = std::fs::read_to_string(desk.scratch.join("control/postrm")).expect("a script");
    let removal = desk.here(&removal).replace("/etc/edgecam", &parent(&config));
    desk.scratch.write("postrm", removal);
    let said = desk.shell("sh postrm purge").await;
    assert!(said.contains("are kept") && state.join("door/1.mp4").is_file(), "{said}");
    desk.run("sudo touch /var/lib/edgecam/delete-on-purge").await;
    desk.shell("sh postrm purge").await;
    assert!(!state.exists() && config.is_file(), "footage and state go, and the config stays");
}

fn parent(path: &Path) -> String {
    path.parent().map(|parent| parent.display().to_string()).unwrap_or_default()
}

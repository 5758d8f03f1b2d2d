//! What `cross/package` makes: its content, its scripts, and that it is the same twice. It is installed in the virtual
//! machine of `tests/vm`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::Scratch;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn package_and_tarball() {
    let scratch = Scratch::new("packages");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // What is in the binary does not matter here, and a large one would take long to compress.
    let binary = scratch.write("edgecam", "not a program");
    let version = env!("CARGO_PKG_VERSION");
    for (name, arch) in [("aarch64", "arm64"), ("x86_64", "amd64"), ("armv7", "armhf")] {
        let make = |to: &str| {
            let to = scratch.join(format!("{name}-{to}"));
            let package = Command::new(root.join("cross/package"))
                .args([name, "--binary"])
                .arg(&binary)
                .arg("--out")
                .arg(&to)
                .output()
                .expect("bash");
            assert!(package.status.success(), "{}", String::from_utf8_lossy(&package.stderr));
            to
        };
        let (first, again) = (make("first"), make("again"));
        let sums = format!("edgecam-{version}-{name}.sha256");
        let sum = |directory: &Path| fs::read_to_string(directory.join(&sums)).expect("sums");
        assert_eq!(sum(&first), sum(&again), "the same binary gives the same bytes");
        run(Command::new("sha256sum").args(["--check", "--strict", &sums]).current_dir(&first));

        let deb = first.join(format!("edgecam_{version}_{arch}.deb"));
        let fields = run(Command::new("dpkg-deb").arg("--field").arg(&deb));
        for field in ["Package: edgecam\n", &format!("Version: {version}\n"), &format!("Architecture: {arch}\n")] {
            assert!(fields.contains(field), "{field}: {fields}");
        }
        let content = run(Command::new("dpkg-deb").arg("--contents").arg(&deb));
        for (mode, file) in [
            ("-rwxr-xr-x root/root", "/usr/bin/edgecam"),
            ("-rw-r--r-- root/root", "/usr/lib/systemd/system/edgecam.service"),
            ("-rw-r--r-- root/root", "/usr/lib/systemd/system/edgecam@.service"),
            ("-rw-r--r-- root/root", "/usr/lib/sysusers.d/edgecam.conf"),
            ("-rw-r--r-- root/root", "/usr/lib/tmpfiles.d/edgecam.conf"),
            ("-rw-r--r-- root/root", "/usr/share/doc/edgecam/README.md"),
        ] {
            let line = content.lines().find(|line| line.ends_with(&format!(".{file}")));
            assert!(line.is_some_and(|line| line.starts_with(mode)), "{file}: {content}");
        }
        assert!(!content.contains("./etc"), "no config comes along: nothing is to start by itself");
        let scripts = scratch.join(format!("{name}-scripts"));
        run(Command::new("dpkg-deb").arg("--control").arg(&deb).arg(&scripts));
        for script in ["postinst", "prerm", "postrm"] {
            run(Command::new("sh").arg("-n").arg(scripts.join(script)));
        }
        let tarball = first.join(format!("edgecam-{version}-{name}.tar.xz"));
        let content = run(Command::new("tar").arg("--list").arg("--file").arg(&tarball));
        for file in ["edgecam", "LICENSE", "systemd/edgecam.service", "systemd/README.md"] {
            assert!(content.contains(&format!("edgecam-{version}-{name}/{file}\n")), "{file}: {content}");
        }
    }
}

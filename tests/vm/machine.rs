//! A virtual machine with Debian's kernel, in which the agent meets real drivers.
//!
//! It is emulated (no KVM is needed), has the host's loopback address behind its gateway, and does what is said over a
//! serial line. It ends with the test.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

const BOOT: Duration = Duration::from_secs(300);
/// For a command, and between two pieces of what it prints.
const COMMAND: Duration = Duration::from_secs(120);

/// What systemd is told that the machine is.
const MACHINE_ID: &str = "0123456789abcdef0123456789abcdee";

/// The machine.
pub(crate) struct Machine {
    emulator: Child,
    line: UnixStream,
    console: PathBuf,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.emulator.kill().ok();
        self.emulator.wait().ok();
        if std::thread::panicking() {
            let console = fs::read_to_string(&self.console).unwrap_or_default();
            let tail: Vec<&str> = console.lines().rev().take(40).collect();
            writeln!(io::stderr(), "the console of the machine:").ok();
            tail.iter().rev().for_each(|line| drop(writeln!(io::stderr(), "  {line}")));
        }
    }
}

/// What the machine's processor is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Architecture {
    Amd64,
    /// What a Raspberry Pi 4 has.
    Arm64,
}

impl Architecture {
    /// Debian's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The machine's serial number. This one for ARM has none, as boards without firmware: there it is systemd's machine-id.
    pub(crate) fn serial(self) -> &'static str {
        match self {
            Self::Amd64 => "VM-0001",
            Self::Arm64 => MACHINE_ID,
        }
    }

    /// The emulator, with the machine's kind, and the kernel's console.
    fn emulator(self) -> (Command, &'static str) {
        let (program, machine, processor, console) = match self {
            Self::Amd64 => ("qemu-system-x86_64", "q35", "max", "ttyS0"),
            Self::Arm64 => ("qemu-system-aarch64", "virt", "cortex-a72", "ttyAMA0"),
        };
        let mut command = Command::new(program);
        command.args(["-M", machine, "-cpu", processor]);
        (command, console)
    }
}

/// What the machine is made of.
pub(crate) struct Parts {
    pub(crate) architecture: Architecture,
    /// Kernel and initramfs, made by `tests/vm/image`.
    pub(crate) image: PathBuf,
    /// Files to add: where they are, and where they go.
    pub(crate) files: Vec<(PathBuf, &'static str)>,
    /// Disks. With any, the first holds the system that is started (tests/vm/debian), and no files are added.
    pub(crate) disks: Vec<PathBuf>,
    /// Where to work.
    pub(crate) directory: PathBuf,
}

impl Machine {
    pub(crate) async fn boot(parts: &Parts) -> Self {
        let Parts { architecture, image, files, disks, directory } = parts;
        let mut initramfs = image.join("initramfs.cpio");
        if disks.is_empty() {
            let with_files = directory.join("initramfs.cpio");
            fs::copy(&initramfs, &with_files).expect("copied");
            initramfs = with_files;
            append(&initramfs, files, directory);
        }
        let (console, control) = (directory.join("console.log"), directory.join("control.sock"));
        // Of an earlier start.
        for file in [&console, &control] {
            fs::remove_file(file).ok();
        }
        let (mut command, terminal) = architecture.emulator();
        command.args(["-smp", "2", "-m", "1024", "-no-reboot", "-display", "none", "-monitor", "none"]);
        // The kernel's check of its timer fails where the emulator gets no time, and that ends it.
        let from = if disks.is_empty() { "" } else { " disk net.ifnames=0 mitigations=off" };
        command
            .arg("-append")
            .arg(format!("console={terminal} quiet panic=-1 no_timer_check systemd.machine_id={MACHINE_ID}{from}"));
        for disk in disks {
            // What the machine has written is in the host's memory, and outlives the emulator.
            command.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()));
        }
        command.args(["-smbios", &format!("type=1,serial={}", architecture.serial())]);
        command.arg("-kernel").arg(image.join("kernel")).arg("-initrd").arg(&initramfs);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command.arg("-chardev").arg(format!("socket,id=line,path={},server=on,wait=off", control.display()));
        command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=line,nr=1"]);
        command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let emulator = command.spawn().expect("QEMU is installed (tests/run --setup)");
        let begun = Instant::now();
        let line = loop {
            assert!(begun.elapsed() < BOOT, "the machine did not start: {}", console.display());
            match UnixStream::connect(&control).await {
                Ok(line) => break line,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        };
        let mut machine = Self { emulator, line, console };
        while !fs::read_to_string(&machine.console).unwrap_or_default().contains("the machine is up") {
            let ended = machine.emulator.try_wait().expect("its status");
            assert!(ended.is_none(), "the emulator has ended: {ended:?}");
            assert!(begun.elapsed() < BOOT, "the machine did not come up");
            sleep(Duration::from_millis(100)).await;
        }
        machine.run("true").await;
        machine
    }

    /// Cuts its power.
    pub(crate) fn cut(mut self) {
        self.emulator.kill().expect("the emulator runs");
        self.emulator.wait().expect("it ends");
    }

    /// Waits for it to have switched itself off.
    pub(crate) async fn ended(mut self) {
        let begun = Instant::now();
        while self.emulator.try_wait().expect("its status").is_none() {
            assert!(begun.elapsed() < BOOT, "the machine does not end");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Runs a command in the machine, which must succeed; returns what it printed.
    pub(crate) async fn run(&mut self, command: &str) -> String {
        let (status, text) = self.try_run(command).await;
        assert_eq!(status, 0, "`{command}` in the machine:\n{text}");
        text
    }

    /// Runs a command in the machine; returns its exit code and what it printed.
    pub(crate) async fn try_run(&mut self, command: &str) -> (i32, String) {
        // The marks are put together by the shell, so that an echo of the command does not look like its end.
        let sent = format!("echo '<''<'\n{{ {command}\n}} 2>&1\necho '>''>'$?'@'\n");
        timeout(Duration::from_secs(10), self.line.write_all(sent.as_bytes())).await.expect("in time").expect("sent");
        let mut read = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let count = timeout(COMMAND, self.line.read(&mut chunk)).await;
            let count =
                count.unwrap_or_else(|_| panic!("`{command}` took too long: {}", String::from_utf8_lossy(&read)));
            read.extend_from_slice(&chunk[..count.expect("the line is open")]);
            let text = String::from_utf8_lossy(&read).replace('\r', "");
            let Some((before, after)) = text.rsplit_once(">>") else { continue };
            let Some(status) = after.trim_end().strip_suffix('@').and_then(|number| number.parse().ok()) else {
                continue;
            };
            let output = before.rsplit_once("<<\n").map_or(before, |(_, output)| output);
            return (status, output.trim_end().to_owned());
        }
    }
}

/// Appends a second archive to the initramfs: the kernel unpacks one after the other.
fn append(initramfs: &Path, files: &[(PathBuf, &'static str)], directory: &Path) {
    let tree = directory.join("overlay");
    for (from, to) in files {
        let target = tree.join(to.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("a directory")).expect("made");
        fs::copy(from, &target).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    let script = "cd \"$0\" && find . | cpio -o -H newc --quiet >> \"$1\"";
    let status = Command::new("sh").args(["-c", script]).arg(&tree).arg(initramfs).status();
    assert!(status.expect("cpio is installed").success());
}

/// A program without its symbols, and the libraries it needs.
pub(crate) fn program(from: &Path, to: &'static str, directory: &Path) -> Vec<(PathBuf, &'static str)> {
    let stripped = directory.join(to.trim_start_matches('/').replace('/', "-"));
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(from).status().expect("binutils are installed");
    assert!(status.success(), "strip {}", from.display());
    let libraries = Command::new("ldd").arg(from).output().expect("ldd");
    let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    let mut files: Vec<(PathBuf, &'static str)> =
        paths.map(|path| (PathBuf::from(path), &*Box::leak(path.to_owned().into_boxed_str()))).collect();
    files.push((stripped, to));
    files
}

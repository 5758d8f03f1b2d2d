//! The Debian package on a Debian that is run by systemd: installed, configured, started at boot, and switched off hard.
//!
//! `EDGECAM_VM_BINARY` names a static release binary to be packed instead of the tests' own; what its service needs of memory
//! is asserted then. `EDGECAM_LONG` cuts the power five times instead of twice.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kvs_server::KvsServer;
use serde_json::{Value, json};

use super::machine::{Architecture, Machine, Parts};
use super::{TURN, act, environment, footage, made, media, programs, service_of};

/// An emulated machine beside other work is slow.
const PATIENCE: Duration = Duration::from_secs(180);
/// Of the camera whose memory is measured.
const MEASURED: &str = "measured";
/// How much a power cut may cost by the config.
const AT_RISK: Duration = Duration::from_secs(1);
/// KiB of the service with one camera: in all (PSS), and of that its own (anonymous).
const MEMORY: (u64, u64) = (24_000, 9_000);

/// The tool that sets a DeepLens' encoder, and where a service's settings are added to.
const MXUVC: &str = "/opt/awscam/camera/installed/bin/mxuvc";
const DROP_INS: &str = "/etc/systemd/system/edgecam.service.d";

struct Stage {
    /// Of the camera at vivid; the stream's name is made from the serial number.
    stream: &'static str,
    machine: Option<Machine>,
    parts: Parts,
    kvs: KvsServer,
    broker: Broker,
}

/// mosquitto, on this host, with TLS: to the machine it is another one.
struct Broker(Child, u16);

impl Drop for Broker {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Broker {
    /// Leaves what it is to be trusted by in `medium`.
    fn start(directory: &Path, medium: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let file = |name: &str, text: &str| {
            fs::write(directory.join(name), text).expect("written");
            directory.join(name).display().to_string()
        };
        let (certificate, key) =
            (file("broker.pem", &made.cert.pem()), file("broker.key", &made.signing_key.serialize_pem()));
        fs::copy(&certificate, medium.join("broker.pem")).expect("copied");
        let config =
            format!("listener {port}\ncertfile {certificate}\nkeyfile {key}\nallow_anonymous true\nuser root\n");
        let mut command = Command::new("mosquitto");
        command.args(["-c", &file("broker.conf", &config)]).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("mosquitto is installed (tests/run --setup)"), port)
    }
}

impl Stage {
    async fn set() -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vm-service-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let (architecture, files) = programs(&directory);
        let stream: &'static str = format!("{}-vivid", architecture.serial()).leak();
        let kvs = service_of(&[stream, MEASURED], &directory).await;
        let printed = made("debian", architecture);
        let (image, system) = printed.trim().split_once('\n').expect("two lines");
        let disk = directory.join("system.ext4");
        copy(Path::new(system), &disk);
        // What is brought along, as a medium of its own.
        let medium = directory.join("medium");
        fs::create_dir_all(&medium).expect("made");
        let program = |name: &str| files.iter().find(|(_, to)| *to == name).expect("a program").0.clone();
        fs::copy(program("/bin/tool"), medium.join("tool")).expect("copied");
        fs::copy(kvs.ca_pem_path(), medium.join("ca.pem")).expect("copied");
        let drop_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/mxuvc-sudo.conf");
        fs::copy(drop_in, medium.join("mxuvc-sudo.conf")).expect("copied");
        package(architecture, &program("/bin/edgecam"), &medium);
        clip(&medium.join("clip.mp4")).await;
        let broker = Broker::start(&directory, &medium);
        let brought = directory.join("medium.ext4");
        let status = Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-d"])
            .arg(&medium)
            .arg(&brought)
            .arg("400M")
            .status();
        assert!(status.expect("e2fsprogs are installed").success());
        let disks = vec![disk, brought];
        let parts = Parts { architecture, image: PathBuf::from(image), files: Vec::new(), disks, directory };
        let machine = boot(&parts).await;
        Self { stream, machine: Some(machine), parts, kvs, broker }
    }

    async fn run(&mut self, command: &str) -> String {
        self.machine.as_mut().expect("it runs").run(command).await
    }

    async fn try_run(&mut self, command: &str) -> (i32, String) {
        self.machine.as_mut().expect("it runs").try_run(command).await
    }

    /// Tries a command until it succeeds.
    async fn until(&mut self, command: &str) -> String {
        let begun = Instant::now();
        loop {
            let (status, text) = self.try_run(command).await;
            if status == 0 {
                return text;
            }
            if begun.elapsed() > PATIENCE {
                let journal = self.try_run("journalctl --no-pager -b -u edgecam -n 60").await.1;
                panic!("`{command}` does not come true: {text}\n{journal}");
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Waits until so many more fragments of a stream are persisted.
    async fn persisted(&mut self, stream: &str, more: u64) {
        let wanted = self.kvs.stream(stream).persisted + more;
        if let Err(error) = self.kvs.wait_persisted(stream, wanted, PATIENCE).await {
            let journal = self.try_run("journalctl --no-pager -b -u edgecam -n 60").await.1;
            panic!("{stream}: {error}\n{journal}");
        }
    }

    /// Waits until the newest picture of the camera at vivid has been sent.
    async fn caught_up(&mut self) {
        let begun = Instant::now();
        loop {
            let report = self.until("tool ask 8080 /streams/vivid").await;
            let report: Value = serde_json::from_str(&report).unwrap_or_default();
            let latest = report["stream"]["latest"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
            let sent = self.kvs.stream(self.stream).fragments.last().map(|fragment| fragment.timecode);
            if let (Some(latest), Some(sent)) = (latest, sent)
                && latest.as_millisecond() - sent < 3_000
            {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "not caught up: {report:#}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn configure(&mut self, path: &str, config: &Value) {
        self.run(&format!(
            "cat > {path} <<'END'\n{config}\nEND\nchown root:edgecam {path}; chmod 640 {path}; sync {path}"
        ))
        .await;
    }
}

/// A copy that takes no more room than the original.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("--sparse=always").arg(from).arg(to).status();
    assert!(status.expect("cp").success(), "{}", from.display());
}

/// Starts the machine, and waits until systemd has started everything.
async fn boot(parts: &Parts) -> Machine {
    let mut machine = Machine::boot(parts).await;
    let (_, state) = machine.try_run("systemctl is-system-running --wait").await;
    let failed = machine.run("systemctl --failed --no-pager --plain --no-legend").await;
    assert!(state == "running" && failed.is_empty(), "{state}: {failed}");
    machine.run("mkdir -p /mnt/medium; mount -o ro /dev/vdb /mnt/medium").await;
    machine
}

/// Packs an agent as `cross/package` does for a release.
fn package(architecture: Architecture, built: &Path, medium: &Path) {
    let given = std::env::var_os("EDGECAM_VM_BINARY").map(PathBuf::from);
    let name = match architecture {
        Architecture::Amd64 => "x86_64",
        Architecture::Arm64 => "aarch64",
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cross/package");
    let mut command = Command::new(script);
    command.arg(name).arg("--binary").arg(given.as_deref().unwrap_or(built)).arg("--out").arg(medium).arg("--quick");
    let output = command.output().expect("bash");
    assert!(output.status.success(), "cross/package: {}", String::from_utf8_lossy(&output.stderr));
}

/// Ten seconds of 720p15 at 2 Mbit/s.
async fn clip(file: &Path) {
    let words = "-v error -y -f lavfi -i testsrc2=size=1280x720:rate=15 -t 10 -c:v libx264 -preset ultrafast -bf 0 -g 15 \
                 -b:v 2M -maxrate 2M -bufsize 2M -pix_fmt yuv420p";
    let file = file.to_string_lossy();
    let words: Vec<&str> = words.split_ascii_whitespace().chain([&*file]).collect();
    media::tool("ffmpeg", &words).await;
}

fn config(camera: &Value, more: &Value) -> Value {
    let mut config = json!({ "thing": "vm", "http": { "listen": "127.0.0.1:8080" }, "cameras": [camera] });
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

fn vivid() -> Value {
    json!({ "name": "vivid",
        "v4l2": { "device": "/dev/video0", "format": "yu12", "width": 320, "height": 180, "frame_rate": 5, "gop": 5 },
        "archive": { "min_free": "1 MiB", "segment": "10s", "at_risk": format!("{}s", AT_RISK.as_secs()) },
        "upload": { "stream": "{serial}-vivid" } })
}

fn deeplens(command_prefix: &[&str]) -> Value {
    let mxuvc = json!({ "width": 1280, "height": 720, "frame_rate": 15, "gop": 15, "bitrate": 2_000_000,
        "command_prefix": command_prefix });
    json!({ "name": "deeplens", "mxuvc": mxuvc })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_package_as_a_service() {
    let _turn = TURN.lock().await;
    let begun = Instant::now();
    let mut stage = Stage::set().await;
    act("Debian is up", begun);
    installed(&mut stage).await;
    act("the package is installed, and nothing runs", begun);
    configured(&mut stage).await;
    act("it runs once there is a config", begun);
    hardened(&mut stage).await;
    act("it may do what it must and no more", begun);
    by_sudo(&mut stage).await;
    act("it runs mxuvc by sudo where that is allowed", begun);
    reloaded(&mut stage).await;
    act("a config that cannot be used fails the reload", begun);
    let cuts = if std::env::var_os("EDGECAM_LONG").is_some() { 5 } else { 2 };
    for cut in 1..=cuts {
        switched_off(&mut stage).await;
        act(&format!("power cut {cut} of {cuts}: nothing that was on disk is lost, and it goes on by itself"), begun);
    }
    upgraded(&mut stage).await;
    act("the package again: the agent restarts", begun);
    measured(&mut stage, begun).await;
    purged(&mut stage).await;
    act("the package is gone, footage is not", begun);
    compared(stage).await;
    act("what is on the disk is in the stream", begun);
}

async fn installed(stage: &mut Stage) {
    stage
        .run("cp /mnt/medium/tool /usr/local/bin/; cp /mnt/medium/ca.pem /etc/ca.pem; chmod 644 /etc/ca.pem; sync")
        .await;
    // As systemd/README has it.
    let told = stage.run("cd /mnt/medium; sudo apt install ./edgecam_*.deb").await;
    assert!(told.contains("write /etc/edgecam/edgecam.yaml"), "{told}");
    assert_eq!(stage.run("systemctl is-enabled edgecam").await, "enabled");
    assert_eq!(stage.try_run("systemctl is-active edgecam").await.1, "inactive");
    assert_eq!(stage.run("systemctl --failed --no-legend").await, "");
    let (status, told) = stage.try_run("edgecam service start").await;
    assert!(status == 78 && told.contains("/etc/edgecam/edgecam.yaml is not there"), "{told}");
}

async fn configured(stage: &mut Stage) {
    let variables: String = environment(&stage.kvs).iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    stage
        .run(&format!("cat > /etc/edgecam/environment <<'END'\n{variables}END\nchmod 600 /etc/edgecam/environment; sync /etc/edgecam/environment"))
        .await;
    let config = config(&vivid(), &json!({}));
    stage.configure("/root/edgecam.yaml", &config).await;
    let told = stage.run("cd /root; sudo edgecam service install --config edgecam.yaml").await;
    assert!(told.contains(&format!("vivid: uploads to the stream {}", stage.stream)), "{told}");
    assert!(told.contains("those of the package") && told.contains("edgecam.service runs"), "{told}");
    assert!(stage.run("ls -l /etc/edgecam/edgecam.yaml").await.starts_with("-rw-r----- 1 root edgecam "));
    stage.persisted(stage.stream, 3).await;
    let told = stage.run("edgecam service status").await;
    assert!(told.contains("Status: \"1 of 1 cameras streaming\""), "{told}");
    let told = stage.run("edgecam check --after-upgrade --config /etc/edgecam/edgecam.yaml").await;
    assert!(told.contains("1 of 1 stream") && told.contains("state in /var/lib/edgecam: version 1"), "{told}");
    let told = stage.run("edgecam service log").await;
    assert!(told.contains("ok    config: 1 cameras") && told.contains("edgecam starts"), "{told}");
}

async fn hardened(stage: &mut Stage) {
    let told = stage.run("systemd-analyze security edgecam | tail -n 1").await;
    let level = told.split(": ").nth(1).and_then(|level| level.split(' ').next()?.parse::<f32>().ok());
    assert!(level.is_some_and(|level| level <= 2.0), "{told}");
    act(&told, Instant::now());
    let status = "/proc/$(systemctl show --value -p MainPID edgecam)/status";
    let told = stage.run(&format!("grep -E '^(Uid|NoNewPrivs|Seccomp|CapBnd):' {status}")).await;
    let user = stage.run("id -u edgecam").await;
    for wanted in [&format!("Uid:\t{user}"), "NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000"] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    // Another disk, with an editor that needs no person. `systemctl edit` wants a terminal, which `script` gives it.
    let editor = r#"#!/bin/sh\nsed -i "3i [Service]\\nReadWritePaths=/mnt/usb" $1\n"#;
    stage.run(&format!("printf '{editor}' > /root/editor; chmod 755 /root/editor")).await;
    stage
        .run(
            "SYSTEMD_EDITOR=/root/editor script --quiet --return --command 'systemctl edit edgecam' /dev/null < /dev/null",
        )
        .await;
    let told = stage.run("systemctl show --property ReadWritePaths edgecam").await;
    assert!(told.contains("/mnt/usb"), "{told}");
    stage.run(&format!("rm {DROP_INS}/override.conf; systemctl daemon-reload")).await;
    // The tool that sets a DeepLens' encoder has to reach the camera from inside.
    let tool = MXUVC;
    stage
        .run(&format!(
            "mkdir -p $(dirname {tool}) /opt/awscam/out; mkfifo -m 644 /opt/awscam/out/ch1_out.h264\n\
             printf '#!/bin/sh\\nexec 3<>/dev/video0 || exit 1\\necho \"$@\" >> /var/lib/edgecam/mxuvc.log\\n' > {tool}\n\
             chmod 755 {tool}"
        ))
        .await;
    stage.configure("/etc/edgecam/edgecam.yaml", &config(&deeplens(&[]), &json!({}))).await;
    stage.run("systemctl reload edgecam").await;
    let told = stage.until("grep 'bitrate 2000000' /var/lib/edgecam/mxuvc.log && cat /var/lib/edgecam/mxuvc.log").await;
    for wanted in ["--ch 1 framerate 15", "--ch 1 resolution 1280 720", "--ch 1 gop 15"] {
        assert!(told.contains(wanted), "{told}");
    }
    stage.configure("/etc/edgecam/edgecam.yaml", &config(&vivid(), &json!({}))).await;
    stage.run("systemctl reload edgecam").await;
    stage.persisted(stage.stream, 2).await;
}

/// A tool that only root may run, as `mxuvc-sudo.conf` and a line in sudoers have it.
async fn by_sudo(stage: &mut Stage) {
    stage
        .run(&format!(
            "printf '#!/bin/sh\\necho by $(id -u): \"$@\" >> /var/lib/edgecam/mxuvc.log\\n' > {MXUVC}; chmod 700 {MXUVC}\n\
             echo 'edgecam ALL=(root) NOPASSWD: {MXUVC}' > /etc/sudoers.d/edgecam; chmod 440 /etc/sudoers.d/edgecam\n\
             mkdir -p {DROP_INS}; cp /mnt/medium/mxuvc-sudo.conf {DROP_INS}/; systemctl daemon-reload"
        ))
        .await;
    stage.configure("/etc/edgecam/edgecam.yaml", &config(&deeplens(&["sudo", "-n"]), &json!({}))).await;
    stage.run("systemctl restart edgecam").await;
    stage.until("grep 'by 0: --ch 1 bitrate 2000000' /var/lib/edgecam/mxuvc.log").await;
    stage.configure("/etc/edgecam/edgecam.yaml", &config(&vivid(), &json!({}))).await;
    stage.run(&format!("rm {DROP_INS}/mxuvc-sudo.conf; systemctl daemon-reload; systemctl restart edgecam")).await;
    stage.persisted(stage.stream, 2).await;
}

async fn reloaded(stage: &mut Stage) {
    let pid = stage.run("systemctl show --value -p MainPID edgecam").await;
    stage.configure("/etc/edgecam/edgecam.yaml", &json!({ "cameras": [{ "name": "vivid", "v4l3": {} }] })).await;
    let (status, _) = stage.try_run("systemctl reload edgecam").await;
    assert_ne!(status, 0, "the config cannot be used");
    let told = stage.run("edgecam service log -n 20").await;
    assert!(told.contains("unknown key `v4l3`") && told.contains("v4l2"), "{told}");
    stage.configure("/etc/edgecam/edgecam.yaml", &config(&vivid(), &json!({}))).await;
    stage.run("systemctl reload edgecam").await;
    assert_eq!(stage.run("systemctl show --value -p MainPID edgecam").await, pid);
    stage.persisted(stage.stream, 2).await;
}

/// The sizes of all segments, and sums of that many bytes.
const SUMS: &str = "for file in *.mp4; do size=$(stat -c %s $file); \
                    echo $size $(head -c $size $file | sha256sum | cut -c 1-64) $file; done";

async fn switched_off(stage: &mut Stage) {
    let before = stage.run(&format!("cd /var/lib/edgecam/vivid; {SUMS}")).await;
    assert!(before.lines().count() >= 1, "{before}");
    // What was written then has been flushed by now: a flush may be under way, and an emulated disk is slow.
    tokio::time::sleep(AT_RISK * 3).await;
    stage.machine.take().expect("it runs").cut();
    stage.machine = Some(boot(&stage.parts).await);
    for line in before.lines() {
        let [size, sum, file] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let command = format!("cd /var/lib/edgecam/vivid; head -c {size} {file} | sha256sum | cut -c 1-64");
        assert_eq!(stage.run(&command).await, sum, "{file}: its first {size} bytes");
    }
    // It was started by systemd, and goes on where it was.
    assert_eq!(stage.run("systemctl is-active edgecam").await, "active");
    stage.persisted(stage.stream, 3).await;
}

async fn upgraded(stage: &mut Stage) {
    let pid = stage.run("systemctl show --value -p MainPID edgecam").await;
    stage.run("dpkg -i /mnt/medium/edgecam_*.deb").await;
    assert_ne!(stage.run("systemctl show --value -p MainPID edgecam").await, pid);
    stage.run("edgecam check --after-upgrade --config /etc/edgecam/edgecam.yaml").await;
    stage.persisted(stage.stream, 2).await;
}

async fn measured(stage: &mut Stage, begun: Instant) {
    let camera = json!({ "name": "file", "file": { "path": "/mnt/medium/clip.mp4" },
        "archive": { "min_free": "1 MiB" }, "upload": { "stream": MEASURED } });
    let mqtt =
        json!({ "mqtt": { "endpoint": "localhost", "port": stage.broker.1, "ca_file": "/mnt/medium/broker.pem" } });
    stage.configure("/etc/edgecam/edgecam.yaml", &config(&camera, &mqtt)).await;
    stage.run("edgecam service restart").await;
    stage.persisted(MEASURED, 10).await;
    stage.until("tool ask 8080 /health | grep '\"mqtt\":{[^}]*\"connected\"'").await;
    let told = stage.run("cat /proc/$(systemctl show --value -p MainPID edgecam)/smaps_rollup").await;
    let figure = |name: &str| -> u64 {
        let line = told.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {told}"));
        line.trim_start_matches(':').trim_end_matches("kB").trim().parse().expect("a number")
    };
    let (pss, anonymous) = (figure("Pss:"), figure("Pss_Anon:"));
    let is_release = ["EDGECAM_VM_BINARY", "EDGECAM_VM_ARM64"].iter().any(|name| std::env::var_os(name).is_some());
    let kind = if is_release { "release" } else { "test" };
    act(
        &format!(
            "one 720p camera, archive, upload, MQTT: PSS {pss} KiB, of it anonymous {anonymous} KiB ({kind} binary)"
        ),
        begun,
    );
    if is_release {
        assert!(pss < MEMORY.0 && anonymous < MEMORY.1, "{told}");
    }
}

async fn purged(stage: &mut Stage) {
    stage.configure("/etc/edgecam/edgecam.yaml", &config(&vivid(), &json!({}))).await;
    stage.run("edgecam service restart").await;
    stage.persisted(stage.stream, 2).await;
    stage.caught_up().await;
    stage.run("edgecam service stop").await;
    let before = stage.run(&format!("cd /var/lib/edgecam/vivid; {SUMS}")).await;
    let told = stage.run("apt purge --yes edgecam").await;
    assert!(told.contains("footage and configs are kept"), "{told}");
    assert_eq!(stage.run(&format!("cd /var/lib/edgecam/vivid; {SUMS}")).await, before);
    assert_eq!(stage.try_run("command -v edgecam; ls /usr/lib/systemd/system/edgecam*").await.0, 2, "files are left");
}

/// Takes the footage off the disk: every picture of it was persisted, with its bytes and its time.
async fn compared(mut stage: Stage) {
    stage.try_run("sync; systemctl poweroff").await;
    stage.machine.take().expect("it runs").ended().await;
    let directory = stage.parts.directory.join("footage");
    fs::create_dir_all(&directory).expect("made");
    let command = format!("rdump /var/lib/edgecam/vivid {}", directory.display());
    let output = Command::new("/sbin/debugfs").args(["-R", &command]).arg(&stage.parts.disks[0]).output();
    assert!(output.expect("e2fsprogs are installed").status.success());
    let archived = footage::archived(&directory.join("vivid")).await;
    let record = stage.kvs.stream(stage.stream);
    let (pictures, again) = footage::assert_stored(&archived, &record);
    assert!(pictures > 50, "{pictures} pictures");
    act(&format!("{pictures} pictures on disk, {again} of them sent again"), Instant::now());
    footage::assert_well_behaved(&record);
    fs::remove_dir_all(&stage.parts.directory).ok();
}

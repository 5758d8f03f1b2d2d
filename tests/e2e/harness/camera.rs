//! Cameras: GStreamer's RTSP server as a child process.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{PATIENCE, media};

/// A camera that serves `/cam1`. Killed when dropped.
pub(crate) struct RtspServer {
    child: Child,
    pub(crate) port: u16,
}

impl RtspServer {
    pub(crate) async fn start(port: u16, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e/rtsp_server.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg("--port").arg(port.to_string()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("python3 is installed");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("the camera starts").expect("a line");
        let line = line.unwrap_or_else(|| panic!("the camera with {arguments:?} ended"));
        let port = line.strip_prefix("READY ").and_then(|port| port.parse().ok());
        Self { child, port: port.unwrap_or_else(|| panic!("the camera says: {line}")) }
    }

    pub(crate) fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam1", self.port)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
        kill_process(pid, signal).expect("it takes a signal");
    }

    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }
}

/// A certificate authority, and a certificate for localhost with its key.
pub(crate) struct Certificates {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

pub(crate) async fn certificates(directory: &Path) -> Certificates {
    let file = |name: &str| directory.join(name);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (ca, ca_key, certificate, key) = (file("rtsp-ca.pem"), file("rtsp-ca.key"), file("rtsp.pem"), file("rtsp.key"));
    let new =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-batch"];
    let run = async |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        let output = command.args(arguments).stdin(Stdio::null()).output().await.expect("openssl is installed");
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let (ca_text, ca_key_text) = (text(&ca), text(&ca_key));
    run(&[&new[..], &["-subj", "/CN=test authority", "-keyout", &ca_key_text, "-out", &ca_text]].concat()).await;
    let leaf = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    let leaf = [&leaf[..], &["-addext", "basicConstraints=critical,CA:FALSE", "-CA", &ca_text, "-CAkey", &ca_key_text]]
        .concat();
    let (certificate_text, key_text) = (text(&certificate), text(&key));
    run(&[&new[..], &leaf[..], &["-keyout", &key_text, "-out", &certificate_text]].concat()).await;
    Certificates { ca, certificate, key }
}

/// A writer that ffmpeg plays: an H.264 clip in real time into `target`.
pub(crate) fn play_into(clip: &Path, target: &Path) -> Child {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-re", "-i"]).arg(clip).args(["-c", "copy", "-f", "h264"]).arg(target);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("ffmpeg is installed")
}

/// The size of the newest and the oldest picture of an archive.
pub(crate) async fn sizes(segments: &[PathBuf]) -> Vec<(u64, u64)> {
    let mut sizes = Vec::new();
    for segment in segments {
        sizes.push(media::size(segment).await);
    }
    sizes
}

//! Janus' streaming plugin as receiver: it records what it is sent.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::harness::agent::free_port;
use crate::harness::{PATIENCE, Scratch, media, poll};

const PLUGINS: &str = "/usr/lib/x86_64-linux-gnu/janus/plugins/libjanus_streaming.so";
const TRANSPORTS: &str = "/usr/lib/x86_64-linux-gnu/janus/transports/libjanus_http.so";

/// A running Janus with one stream, `1`. Killed when dropped.
pub(crate) struct Janus {
    _child: Child,
    api: String,
    recording: PathBuf,
    /// Where a stream is to send to.
    pub(crate) rtp: u16,
    pub(crate) rtcp: u16,
}

impl Janus {
    pub(crate) async fn start(scratch: &Scratch) -> Self {
        let (api, rtp, rtcp) = (free_port(), free_port(), free_port());
        let directory = scratch.path().display();
        for (folder, library) in [("plugins", PLUGINS), ("transports", TRANSPORTS)] {
            let (folder, library) =
                (scratch.join(folder), Path::new(&library.replace("x86_64", std::env::consts::ARCH)).to_owned());
            std::fs::create_dir(&folder).expect("a directory");
            std::os::unix::fs::symlink(&library, folder.join(library.file_name().unwrap_or_default())).expect("a link");
        }
        let mut folders = String::new();
        for (name, folder) in [
            ("configs", ""),
            ("plugins", "plugins"),
            ("transports", "transports"),
            ("events", "none"),
            ("loggers", "none"),
        ] {
            writeln!(folders, "  {name}_folder = \"{directory}/{folder}\"").expect("text");
        }
        let config = scratch.write("janus.jcfg", format!("general: {{\n{folders}  debug_level = 3\n}}\n"));
        scratch.write(
            "janus.transport.http.jcfg",
            format!(
                "general: {{ json = \"plain\" base_path = \"/janus\" http = true port = {api} ip = \"127.0.0.1\" }}"
            ),
        );
        scratch.write(
            "janus.plugin.streaming.jcfg",
            format!(
                "cam1: {{ type = \"rtp\" id = 1 audio = false video = true videoport = {rtp} videortcpport = {rtcp} \
                 videoiface = \"lo\" videopt = 103 videocodec = \"h264\" \
                 videofmtp = \"profile-level-id=42e01f;packetization-mode=1\" }}"
            ),
        );
        let mut command = Command::new("janus");
        command.arg("-F").arg(scratch.path()).arg("-C").arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().expect("janus is installed");
        let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", api)).await.ok();
        poll(PATIENCE, listens).await.expect("janus listens");
        let mut janus = Self {
            _child: child,
            api: format!("http://127.0.0.1:{api}/janus"),
            recording: scratch.join("recording"),
            rtp,
            rtcp,
        };
        let session = janus.ask(json!({ "janus": "create" })).await;
        janus.api = format!("{}/{}", janus.api, session["data"]["id"]);
        let handle = janus.ask(json!({ "janus": "attach", "plugin": "janus.plugin.streaming" })).await;
        janus.api = format!("{}/{}", janus.api, handle["data"]["id"]);
        janus.record(json!({ "action": "start", "video": janus.recording })).await;
        janus
    }

    /// Ends the recording and makes a file of it that can be played.
    pub(crate) async fn finish(self) -> PathBuf {
        self.record(json!({ "action": "stop", "video": true })).await;
        let (recorded, made) = (self.recording.with_extension("mjr"), self.recording.with_extension("mp4"));
        let paths = [recorded.to_string_lossy(), made.to_string_lossy()];
        let output = Command::new("janus-pp-rec").args(paths.iter().map(|path| &**path)).output().await;
        let output = output.expect("janus-pp-rec is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        made
    }

    async fn record(&self, what: Value) {
        let mut body = json!({ "request": "recording", "id": 1 });
        body.as_object_mut().into_iter().for_each(|body| body.extend(what.as_object().cloned().unwrap_or_default()));
        let answer = self.ask(json!({ "janus": "message", "body": body })).await;
        assert_eq!(answer["plugindata"]["data"]["streaming"], "ok", "{answer:#}");
    }

    async fn ask(&self, mut question: Value) -> Value {
        question["transaction"] = json!("t");
        let text = media::tool("curl", &["-sS", "-m", "10", "-d", &question.to_string(), &self.api]).await;
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(answer["janus"], "success", "{answer:#}");
        answer
    }
}

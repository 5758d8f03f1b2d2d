//! Clips made by ffmpeg, and what ffmpeg, ffprobe and mkvinfo say about files.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(120);

/// A clip of test pictures, each different from all others: 320x180 at 15 frames a second, an IDR each second.
#[derive(Clone, Copy)]
pub(crate) struct Clip {
    pub(crate) seconds: u32,
    pub(crate) b_frames: bool,
    /// H.265 instead of H.264.
    pub(crate) h265: bool,
    /// Noise instead of a drawing, with so many bits a second.
    pub(crate) noise: Option<u32>,
    /// End of its name: mp4, mov, mkv, h264, h265.
    pub(crate) container: &'static str,
}

impl Clip {
    pub(crate) fn new(seconds: u32) -> Self {
        Self { seconds, b_frames: false, h265: false, noise: None, container: "mp4" }
    }

    /// Its file, made at first use and kept for the next run.
    pub(crate) async fn file(self) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Self { seconds, b_frames, h265, noise, container } = self;
        let b = if b_frames { "2" } else { "0" };
        let codec = if h265 { "libx265" } else { "libx264" };
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = directory.join(format!("clip-{seconds}s-{codec}-bf{b}-{}.{container}", noise.unwrap_or(0)));
        if path.exists() {
            return path;
        }
        let filter = if noise.is_some() { ",noise=alls=60:allf=t" } else { "" };
        let input = format!("testsrc2=size=320x180:rate=15{filter}");
        let rate = noise.unwrap_or(300_000).to_string();
        let unique = format!("making-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let made = directory.join(format!("{unique}.{container}"));
        let (length, file) = (seconds.to_string(), made.to_string_lossy());
        let mut arguments = vec!["-v", "error", "-y", "-f", "lavfi", "-i", &input, "-t", &length, "-c:v", codec];
        arguments.extend(["-preset", "ultrafast", "-bf", b, "-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate]);
        let gop = "keyint=15:min-keyint=15:scenecut=0:repeat-headers=1";
        // x265 writes to standard error, and its GOPs are open unless it is told otherwise: here they are.
        let gop = if h265 { format!("log-level=none:{gop}") } else { gop.to_owned() };
        arguments.extend([if h265 { "-x265-params" } else { "-x264-params" }, &gop, "-pix_fmt", "yuv420p"]);
        if h265 && matches!(container, "mp4" | "mov") {
            arguments.extend(["-tag:v", "hvc1"]);
        }
        arguments.push(&file);
        tool("ffmpeg", &arguments).await;
        // The first one stays: who has begun to read it goes on with the same pictures. x264 makes no two alike.
        let linked = std::fs::hard_link(&made, &path);
        std::fs::remove_file(&made).expect("its first name goes");
        assert!(linked.is_ok() || path.exists(), "the clip has no name: {linked:?}");
        path
    }
}

/// Runs a tool, which must succeed and say nothing on standard error; returns its standard output.
pub(crate) async fn tool(name: &str, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = output(name, arguments).await;
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success() && stderr.trim().is_empty(), "{name} {}: {status}\n{stderr}", arguments.join(" "));
    String::from_utf8_lossy(&stdout).into_owned()
}

async fn output(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    output.unwrap_or_else(|_| panic!("{name} {} took too long", arguments.join(" "))).expect("the tool is installed")
}

/// The hash of each decoded picture, in the order they are shown.
pub(crate) async fn decoded(file: &Path) -> Vec<String> {
    let file = file.to_string_lossy();
    let arguments =
        ["-v", "error", "-xerror", "-i", &file, "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-"];
    let text = tool("ffmpeg", &arguments).await;
    let hash = |line: &str| line.rsplit(',').next().unwrap_or_default().trim().to_owned();
    text.lines().filter(|line| !line.starts_with('#')).map(hash).collect()
}

/// One coded picture, in decoding order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Packet {
    /// When it is shown, in milliseconds.
    pub(crate) ms: i64,
    pub(crate) is_key: bool,
    /// As the stand-in for the service records it.
    pub(crate) hash: String,
}

/// The coded pictures of a file, as ffprobe reads them.
pub(crate) async fn packets(file: &Path) -> Vec<Packet> {
    tracks(file).await.0
}

/// The same, and the frames of its sound.
pub(crate) async fn tracks(file: &Path) -> (Vec<Packet>, Vec<Packet>) {
    let file = file.to_string_lossy();
    let arguments = ["-v", "warning", "-show_packets", "-show_data_hash", "sha256", "-of", "json"];
    let text = tool("ffprobe", &[&arguments[..], &[&file]].concat()).await;
    let mut parsed: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("ffprobe of {file}: {error}"));
    let Some(Value::Array(packets)) = parsed.get_mut("packets").map(Value::take) else { return Default::default() };
    let packet = |packet: &Value| {
        let field = |name: &str| packet[name].as_str().unwrap_or_else(|| panic!("{file}: no {name} in {packet}"));
        let seconds: f64 = field("pts_time").parse().expect("a time");
        let hash = field("data_hash").trim_start_matches("SHA256:");
        let hash = hash.get(..16).unwrap_or(hash).to_owned();
        Packet { ms: (seconds * 1000.0).round() as i64, is_key: field("flags").starts_with('K'), hash }
    };
    let (pictures, sound): (Vec<_>, Vec<_>) = packets.iter().partition(|packet| packet["codec_type"] == "video");
    (pictures.into_iter().map(packet).collect(), sound.into_iter().map(packet).collect())
}

/// How a stream is coded, and the number of samples that can be decoded: `pcm_alaw`, 8000.
pub(crate) async fn audio(file: &Path) -> (String, usize) {
    let name = file.to_string_lossy();
    let arguments = ["-v", "error", "-select_streams", "a", "-show_entries", "stream=codec_name", "-of", "csv=p=0"];
    let codec = tool("ffprobe", &[&arguments[..], &[&name]].concat()).await.trim().to_owned();
    let raw = file.with_extension("raw");
    let arguments = ["-v", "error", "-xerror", "-y", "-i", &name, "-map", "0:a", "-f", "s16le", &raw.to_string_lossy()];
    tool("ffmpeg", &arguments).await;
    (codec, std::fs::metadata(&raw).map_or(0, |raw| raw.len() as usize / 2))
}

/// The size of the picture.
pub(crate) async fn size(file: &Path) -> (u64, u64) {
    let file = file.to_string_lossy();
    let arguments =
        ["-v", "error", "-select_streams", "v", "-show_entries", "stream=width,height", "-of", "json", &file];
    let parsed: Value = serde_json::from_str(&tool("ffprobe", &arguments).await).expect("JSON");
    let side = |name: &str| parsed["streams"][0][name].as_u64().unwrap_or_default();
    (side("width"), side("height"))
}

/// Whether mkvinfo reads a file through: all Clusters it finds.
pub(crate) async fn clusters(file: &Path) -> usize {
    let file = file.to_string_lossy();
    let Output { status, stdout, stderr } = output("mkvinfo", &["--all", &file]).await;
    let text = String::from_utf8_lossy(&stdout);
    assert!(status.success() && stderr.is_empty(), "mkvinfo {file}: {status}\n{text}");
    text.lines().filter(|line| line.trim_start_matches(['|', ' ', '+']).starts_with("Cluster")).count()
}

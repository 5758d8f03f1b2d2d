//! The agent against real V4L2 drivers: `vivid` and `v4l2loopback` in a virtual machine, footage to the stand-in on the
//! host.
//!
//! One machine, one test, several acts: starting it is what takes long.

#[allow(dead_code, reason = "shared with the end-to-end tests, which use more of it")]
#[path = "../e2e/harness/media.rs"]
mod media;

#[allow(dead_code, reason = "shared with the end-to-end tests, which use more of it")]
#[path = "../e2e/harness/footage.rs"]
mod footage;

mod machine;
mod service;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kvs_server::{Config, Credentials, Dump, KvsServer, StreamSpec};
use serde_json::{Value, json};

use machine::{Architecture, Machine, Parts, program};

const PATIENCE: Duration = Duration::from_secs(60);
/// The size, frame rate and GOP of the clip that is played into the loopback device.
const CLIP: (u32, u32, u32, usize) = (320, 180, 10, 60);

/// The machine with the agent inside, and the service outside.
struct Stage {
    machine: Machine,
    kvs: KvsServer,
    directory: PathBuf,
}

impl Stage {
    async fn set(streams: &[&str]) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vm-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let kvs = service_of(streams, &directory).await;
        let (architecture, mut files) = programs(&directory);
        files.push((kvs.ca_pem_path().to_owned(), "/etc/ca.pem"));
        files.push((frames(&directory).await, "/etc/frames"));
        let parts =
            Parts { architecture, image: image(architecture), files, disks: Vec::new(), directory: directory.clone() };
        let mut machine = Machine::boot(&parts).await;
        for (name, value) in environment(&kvs) {
            machine.run(&format!("export {name}={value}")).await;
        }
        machine.run("modprobe vivid n_devs=3 node_types=0x200001,0x1,0x1").await;
        machine.run("modprobe v4l2loopback video_nr=20 card_label=Loopback").await;
        Self { machine, kvs, directory }
    }

    async fn configure(&mut self, cameras: &[Value]) {
        let config = json!({
            "thing": "vm", "state_dir": "/tmp/state", "http": { "listen": "127.0.0.1:8080" }, "cameras": cameras,
        });
        self.machine.run(&format!("cat > /tmp/edgecam.yaml <<'END'\n{config}\nEND")).await;
    }

    async fn start(&mut self) {
        self.machine.run("edgecam run --config /tmp/edgecam.yaml > /tmp/agent.log 2>&1 &").await;
    }

    async fn reload(&mut self) {
        self.machine.run("kill -HUP $(pidof edgecam)").await;
    }

    /// The report of one camera.
    async fn report(&mut self, camera: &str) -> Value {
        let command = format!("tool ask 8080 /streams/{camera}");
        let (_, text) = self.machine.try_run(&command).await;
        // While the agent starts there is no answer; what came instead is for the message of a failure.
        serde_json::from_str::<Value>(&text).map_or(Value::String(text), |answer| answer["stream"].clone())
    }

    /// Waits until a camera's report is as it should be.
    async fn until(&mut self, camera: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let report = self.report(camera).await;
            if is_so(&report) {
                return report;
            }
            if begun.elapsed() > PATIENCE {
                let log = self.machine.run("tail -n 40 /tmp/agent.log").await;
                panic!("{camera}: {what} did not come: {report:#}\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn until_state(&mut self, camera: &str, state: &str) -> Value {
        self.until(camera, state, |report| report["state"] == state).await
    }

    /// Waits until so many more fragments of a stream are persisted, and returns the newest session as a file.
    async fn persisted(&mut self, stream: &str, more: u64) -> PathBuf {
        let wanted = self.kvs.stream(stream).persisted + more;
        if let Err(error) = self.kvs.wait_persisted(stream, wanted, PATIENCE).await {
            let log = self.machine.run("tail -n 60 /tmp/agent.log").await;
            panic!("{stream}: {error}\n{log}");
        }
        let newest = self.kvs.dumped(stream).pop().expect("a session");
        let file = self.directory.join(format!("{stream}-{}.mkv", newest.session));
        fs::write(&file, newest.mkv).expect("written");
        file
    }
}

/// The stand-in for the service, with streams.
async fn service_of(streams: &[&str], directory: &Path) -> KvsServer {
    let mut settings = Config::new(directory.join("kvs"));
    settings.region = Some("eu-central-1".to_owned());
    settings.dump = Dump::Memory;
    settings.credentials = vec![Credentials::example()];
    settings.streams =
        streams.iter().map(|name| StreamSpec { name: (*name).to_owned(), retention_hours: 24 }).collect();
    KvsServer::start(settings).await.expect("the service starts")
}

/// What an agent in the machine needs to find it.
fn environment(kvs: &KvsServer) -> Vec<(&'static str, String)> {
    let credentials = Credentials::example();
    vec![
        ("AWS_ENDPOINT_URL_KINESIS_VIDEO", kvs.endpoint().to_owned()),
        ("AWS_CA_BUNDLE", "/etc/ca.pem".to_owned()),
        ("AWS_REGION", "eu-central-1".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("AWS_ACCESS_KEY_ID", credentials.access_key.clone()),
        ("AWS_SECRET_ACCESS_KEY", credentials.secret_key.clone()),
    ]
}

/// The agent and the tests' tool: those of this machine, or those that EDGECAM_VM_ARM64 names the directory of.
fn programs(directory: &Path) -> (Architecture, Vec<(PathBuf, &'static str)>) {
    let built = Path::new(env!("CARGO_BIN_EXE_edgecam"));
    let tool = |edgecam: &Path, name: &str| edgecam.with_file_name("examples").join(name);
    let tools = [("v4l2_tool", "/bin/tool"), ("m2m_tool", "/bin/m2m")];
    if let Some(given) = std::env::var_os("EDGECAM_VM_ARM64") {
        let edgecam = Path::new(&given).join("edgecam");
        let mut files: Vec<_> = tools.into_iter().map(|(name, to)| (tool(&edgecam, name), to)).collect();
        files.push((edgecam, "/bin/edgecam"));
        return (Architecture::Arm64, files);
    }
    let mut files = program(built, "/bin/edgecam", directory);
    for (name, to) in tools {
        let built = tool(built, name);
        assert!(built.exists(), "the example {name} is not built: `tests/vm/run` and `cargo test` do that");
        files.extend(program(&built, to, directory));
    }
    (Architecture::Amd64, files)
}

/// The kernel and its initramfs, made once.
fn image(architecture: Architecture) -> PathBuf {
    PathBuf::from(made("image", architecture).trim())
}

/// What a script of tests/vm prints about what it has made, or found to be made.
fn made(script: &str, architecture: Architecture) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vm");
    let given = std::env::var_os("EDGECAM_VM_IMAGES").map(PathBuf::from);
    let cache = given.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm-images"));
    fs::create_dir_all(&cache).expect("a directory");
    let made = Command::new(here.join(script)).arg(architecture.name()).arg(&cache).output().expect("bash");
    assert!(made.status.success(), "tests/vm/{script}: {}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8_lossy(&made.stdout).into_owned()
}

/// Two emulated machines at once would be too slow for each other.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Pictures of a clip, each behind its length, as `tool play` wants them.
async fn frames(directory: &Path) -> PathBuf {
    let (width, height, rate, gop) = CLIP;
    let clip = directory.join("clip.h264");
    let source = format!("testsrc2=size={width}x{height}:rate={rate}");
    let parameters = format!("keyint={gop}:min-keyint={gop}:scenecut=0:repeat-headers=1:aud=1");
    let parameters = parameters.replace(&format!("keyint={gop}"), "keyint=10");
    media::tool(
        "ffmpeg",
        &[
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            &source,
            "-t",
            "6",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-bf",
            "0",
            "-x264-params",
            &parameters,
            "-pix_fmt",
            "yuv420p",
            &clip.to_string_lossy(),
        ],
    )
    .await;
    let bytes = fs::read(&clip).expect("the clip");
    // Each picture begins with an access unit delimiter.
    let starts: Vec<usize> =
        bytes.windows(5).enumerate().filter(|(_, start)| start[..] == [0, 0, 0, 1, 9]).map(|(at, _)| at).collect();
    assert_eq!(starts.len(), CLIP.3);
    let mut out = Vec::new();
    for (at, start) in starts.iter().enumerate() {
        let picture = &bytes[*start..starts.get(at + 1).copied().unwrap_or(bytes.len())];
        out.extend_from_slice(&(picture.len() as u32).to_be_bytes());
        out.extend_from_slice(picture);
    }
    let file = directory.join("frames");
    fs::write(&file, out).expect("written");
    file
}

fn camera(name: &str, v4l2: &Value) -> Value {
    json!({ "name": name, "v4l2": v4l2, "archive": { "min_free": "1 MiB" }, "upload": { "stream": name } })
}

fn act(text: &str, begun: Instant) {
    use std::io::Write;
    writeln!(std::io::stderr(), "[{:>5.1} s] {text}", begun.elapsed().as_secs_f32()).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_at_real_drivers() {
    let _turn = TURN.lock().await;
    let begun = Instant::now();
    let mut stage = Stage::set(&["one", "two", "three", "loop"]).await;
    act("the machine is up", begun);
    devices(&mut stage).await;
    act("devices are listed", begun);
    formats(&mut stage, begun).await;
    act("every format at three sizes", begun);
    loopback(&mut stage).await;
    act("H.264 of a camera", begun);
    controls(&mut stage).await;
    act("controls", begun);
    refusals(&mut stage).await;
    act("busy, permission, no such device, no such format", begun);
    encoder(&mut stage).await;
    act("the encoder by command", begun);
    damaged(&mut stage).await;
    act("damaged buffers", begun);
    unplugged(&mut stage).await;
    act("unplugged and plugged in again", begun);
    machine_encoder(&mut stage).await;
    act("a memory-to-memory encoder", begun);
    let (status, text) = stage.machine.try_run("kill -TERM $(pidof edgecam); sleep 3; pidof edgecam").await;
    assert_eq!(status, 1, "the agent has not ended: {text}");
    let panics = stage.machine.try_run("grep -c panicked /tmp/agent.log").await.1;
    assert_eq!(panics, "0", "a panic in the agent's log");
    fs::remove_dir_all(&stage.directory).ok();
}

async fn devices(stage: &mut Stage) {
    let text = stage.machine.run("edgecam devices --json 2>/dev/null").await;
    let devices: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let cameras: Vec<&Value> = devices.iter().filter(|device| device["driver"] == "vivid").collect();
    assert_eq!(cameras.len(), 3, "metadata and output nodes are no cameras: {devices:#?}");
    let fourccs: Vec<&str> =
        cameras[0]["formats"].as_array().expect("formats").iter().filter_map(|f| f["fourcc"].as_str()).collect();
    for wanted in ["YUYV", "NV12", "YU12"] {
        assert!(fourccs.contains(&wanted), "{wanted} in {fourccs:?}");
    }
    let paths: Vec<&str> = cameras.iter().filter_map(|camera| camera["path"].as_str()).collect();
    assert_eq!(paths, VIVID);
    let table = stage.machine.run("edgecam devices 2>/dev/null | head -n 60").await;
    assert!(table.contains("vivid") && table.contains("1280x720") && table.contains(" fps"), "{table}");
}

/// Three cameras at once, three formats each: every format at every size.
async fn formats(stage: &mut Stage, begun: Instant) {
    let sizes = [(320, 180), (640, 360), (1280, 720)];
    let formats = ["yuyv", "nv12", "yu12"];
    let names = ["one", "two", "three"];
    for round in 0..3 {
        let cameras: Vec<Value> = (0..3)
            .map(|index| {
                let (width, height) = sizes[index];
                let device = VIVID[index];
                let format = formats[(index + round) % 3];
                let rate = if index == 2 { 3 } else { 5 };
                camera(
                    names[index],
                    &json!({ "device": device, "format": format, "width": width, "height": height,
                        "frame_rate": rate, "gop": rate, "bitrate": 1_000_000 }),
                )
            })
            .collect();
        stage.configure(&cameras).await;
        if round == 0 {
            stage.start().await
        } else {
            stage.reload().await
        }
        for index in 0..3 {
            let (width, height) = sizes[index];
            let format = formats[(index + round) % 3].to_uppercase();
            let report = stage
                .until(names[index], &format, |report| {
                    report["state"] == "streaming"
                        && report["device"]["given"].as_str().is_some_and(|given| given.contains(&format))
                })
                .await;
            let given = report["device"]["given"].as_str().unwrap_or_default();
            assert!(given.contains(&format!("{width}x{height}")), "{given}");
            let file = stage.persisted(names[index], 3).await;
            assert_eq!(media::size(&file).await, (width, height));
            check_picture(&file, &format).await;
        }
        act(&format!("round {round} of formats"), begun);
    }
}

/// The capture nodes of vivid; the metadata node of the first comes between.
const VIVID: [&str; 3] = ["/dev/video0", "/dev/video1", "/dev/video2"];

/// vivid draws colour bars: white, yellow, cyan, green, magenta, red, blue, black.
async fn check_picture(file: &Path, format: &str) {
    let text = media::decoded(file).await;
    let distinct: std::collections::BTreeSet<&String> = text.iter().collect();
    assert!(
        distinct.len() * 2 > text.len() && text.len() >= 6,
        "{format}: {} of {} pictures differ",
        distinct.len(),
        text.len()
    );
    let rgb = file.with_extension("rgb");
    let (input, output) = (file.to_string_lossy(), rgb.to_string_lossy());
    let arguments = [
        "-v",
        "error",
        "-y",
        "-i",
        &*input,
        "-frames:v",
        "1",
        "-vf",
        "scale=80:10:flags=area",
        "-pix_fmt",
        "rgb24",
        "-f",
        "rawvideo",
        &*output,
    ];
    media::tool("ffmpeg", &arguments).await;
    let pixels = fs::read(&rgb).expect("pixels");
    // The middle of each bar, low in the picture, away from the text.
    let bar = |index: usize| {
        let at = (8 * 80 + index * 10 + 5) * 3;
        (pixels[at], pixels[at + 1], pixels[at + 2])
    };
    let (yellow, red, blue) = (bar(1), bar(5), bar(6));
    assert!(yellow.0 > 110 && yellow.1 > 110 && yellow.2 < 90, "{format}: yellow is {yellow:?}");
    assert!(red.0 > 110 && red.1 < 90 && red.2 < 90, "{format}: red is {red:?}");
    assert!(blue.0 < 90 && blue.1 < 90 && blue.2 > 110, "{format}: blue is {blue:?}");
}

async fn loopback(stage: &mut Stage) {
    let (width, height, rate, _) = CLIP;
    stage
        .machine
        .run(&format!("tool play /etc/frames /dev/video20 {width} {height} {rate} > /tmp/play.log 2>&1 &"))
        .await;
    stage.machine.run("sleep 1; pidof tool").await;
    stage
        .configure(&[camera(
            "loop",
            &json!({ "device": "Loopback", "width": width, "height": height, "frame_rate": rate }),
        )])
        .await;
    stage.reload().await;
    let report = stage.until_state("loop", "streaming").await;
    assert!(
        report["device"]["given"].as_str().is_some_and(|given| given.contains("H.264 of the camera")),
        "{report:#}"
    );
    let file = stage.persisted("loop", 8).await;
    // The pictures are those that were played, untouched, in their order.
    let sent = media::decoded(&stage.directory.join("clip.h264")).await;
    let stored = media::decoded(&file).await;
    assert!(stored.len() >= 60, "{} pictures", stored.len());
    let begins = sent.iter().position(|hash| *hash == stored[0]).expect("the first is one of those sent");
    for (index, (hash, expected)) in stored.iter().zip(sent.iter().cycle().skip(begins)).enumerate() {
        assert_eq!(hash, expected, "picture {index}");
    }
}

async fn controls(stage: &mut Stage) {
    let source = json!({ "device": "/dev/video0", "format": "yu12", "width": 320, "height": 180, "frame_rate": 5,
        "controls": { "brightness": 77, "no_such_thing": 1, "contrast": 100_000 } });
    stage.configure(&[camera("one", &source)]).await;
    stage.reload().await;
    let report = stage
        .until("one", "notes", |report| report["device"]["notes"].as_array().is_some_and(|notes| notes.len() >= 2))
        .await;
    let notes = report["device"]["notes"].to_string();
    assert!(notes.contains("no_such_thing") && notes.contains("contrast") && !notes.contains("brightness"), "{notes}");
    assert_eq!(stage.machine.run("tool get /dev/video0 Brightness").await, "77");
    stage.until_state("one", "streaming").await;
}

async fn refusals(stage: &mut Stage) {
    let source = |device: &str, format: &str| json!({ "device": device, "format": format, "width": 320, "height": 180, "frame_rate": 5 });
    stage
        .configure(&[
            camera("one", &source("/dev/video0", "yu12")),
            camera("two", &source("/dev/video0", "yu12")),
            camera("three", &source("/dev/video7", "auto")),
            camera("loop", &source("/dev/video2", "mjpeg")),
        ])
        .await;
    stage.reload().await;
    // Whoever comes first has it; the other one says why not.
    let begun = Instant::now();
    loop {
        let states = [stage.report("one").await, stage.report("two").await];
        let has = |state: &str| states.iter().any(|report| report["state"] == state);
        if has("streaming") && has("busy") {
            let busy = states.iter().find(|report| report["state"] == "busy").expect("one is busy");
            assert!(busy["error"].as_str().is_some_and(|error| error.contains("in use by another")), "{busy:#}");
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{states:#?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let missing = stage.until_state("three", "no_device").await;
    assert!(missing["error"].as_str().is_some_and(|error| error.contains("/dev/video7 does not exist")), "{missing:#}");
    let format = stage.until_state("loop", "unsupported_format").await;
    assert!(
        format["error"].as_str().is_some_and(|error| error.contains("mjpeg") && error.contains("YUYV")),
        "{format:#}"
    );
    // Another user, who is not in the group of the device.
    stage
        .machine
        .run("chmod 660 /dev/video1; chown 0:44 /dev/video1; mkdir -p /tmp/nobody; chown 65534 /tmp/nobody")
        .await;
    let config = json!({ "state_dir": "/tmp/nobody", "http": { "listen": "127.0.0.1:8081" },
        "cameras": [{ "name": "three", "v4l2": source("/dev/video1", "auto") }] });
    stage.machine.run(&format!("cat > /tmp/nobody.yaml <<'END'\n{config}\nEND")).await;
    stage
        .machine
        .run("(su nobody -c 'edgecam run --config /tmp/nobody.yaml' > /tmp/nobody.log 2>&1 &) ; sleep 4")
        .await;
    let text = stage.machine.run("tool ask 8081 /streams/three").await;
    stage.machine.run("kill $(pidof edgecam | tr ' ' '\\n' | sort -n | tail -n 1)").await;
    stage.machine.run("while [ $(pidof edgecam | wc -w) -gt 1 ]; do sleep 0.2; done").await;
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(report["stream"]["state"], "permission_denied", "{report:#}");
    assert!(report["stream"]["error"].as_str().is_some_and(|error| error.contains("group 'video'")), "{report:#}");
}

/// Bitrate and GOP while it runs, a size for which the camera is opened anew, and an IDR on request.
async fn encoder(stage: &mut Stage) {
    let source =
        json!({ "device": "/dev/video0", "format": "nv12", "width": 320, "height": 180, "frame_rate": 5, "gop": 300 });
    stage.configure(&[camera("one", &source)]).await;
    stage.reload().await;
    let before = stage.until("one", "a GOP", |report| report["gops"].as_u64() >= Some(1)).await["gops"].as_u64();
    let ask = async |stage: &mut Stage, command: &str, body: &str| {
        let text = stage.machine.run(&format!("tool ask 8080 /streams/one/commands/{command} '{body}'")).await;
        assert!(text.contains("\"done\""), "{command}: {text}");
    };
    ask(stage, "keyframe", r#"{"requestId": "a"}"#).await;
    stage.until("one", "an IDR that was asked for", |report| report["gops"].as_u64() > before).await;
    ask(stage, "encoder", r#"{"requestId": "b", "bitrate": 200000, "gop": 5}"#).await;
    stage.persisted("one", 4).await;
    ask(stage, "encoder", r#"{"requestId": "c", "resolution": [640, 360], "framerate": 4, "gop": 4}"#).await;
    stage.until("one", "the larger size", |report| report["video"]["width"] == 640).await;
    let file = stage.persisted("one", 3).await;
    assert_eq!(media::size(&file).await, (640, 360));
}

async fn damaged(stage: &mut Stage) {
    let source = json!({ "device": "/dev/video0", "format": "yuyv", "width": 320, "height": 180, "frame_rate": 5 });
    stage.configure(&[camera("one", &source)]).await;
    stage.reload().await;
    stage.until_state("one", "streaming").await;
    let before = stage.report("one").await["lost"]["malformed"].as_u64().unwrap_or_default();
    for _ in 0..3 {
        stage.machine.run("tool set /dev/video0 'Inject V4L2_BUF_FLAG_ERROR' 1 && sleep 1").await;
    }
    stage
        .until("one", "three damaged buffers", |report| {
            report["state"] == "streaming" && report["lost"]["malformed"].as_u64() >= Some(before + 3)
        })
        .await;
    // All buffers went back: it goes on.
    stage.persisted("one", 3).await;
    // Buffers that the driver drops show in its sequence numbers.
    stage.machine.run("tool set /dev/video0 'Percentage of Dropped Buffers' 50").await;
    stage.until("one", "dropped pictures", |report| report["lost"]["late"].as_u64() >= Some(3)).await;
    stage.machine.run("tool set /dev/video0 'Percentage of Dropped Buffers' 0").await;
    stage.persisted("one", 2).await;
}

async fn unplugged(stage: &mut Stage) {
    let name = stage.report("one").await["device"]["name"].clone();
    stage.machine.run("tool set /dev/video0 'Disconnect' 1").await;
    let gone = stage.until_state("one", "no_device").await;
    assert!(
        gone["error"].as_str().is_some_and(|error| error.contains("has gone") || error.contains("plugged in")),
        "{gone:#}"
    );
    stage
        .machine
        .run("echo vivid.0 > /sys/bus/platform/drivers/vivid/unbind; sleep 1; ls /dev/video0 2>&1 || true")
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stage.until_state("one", "no_device").await;
    stage.machine.run("echo vivid.0 > /sys/bus/platform/drivers/vivid/bind").await;
    let back = stage.until_state("one", "streaming").await;
    assert_eq!(back["device"]["name"], name, "the same camera");
    stage.persisted("one", 3).await;
}

/// vicodec makes FWHT, which no archive takes: so the agent must not choose it, and what is tested is how the queues of such
/// a device are handled.
async fn machine_encoder(stage: &mut Stage) {
    for (planar, name) in [(0, "single-planar"), (1, "multi-planar")] {
        stage.machine.run(&format!("modprobe vicodec multiplanar={planar}")).await;
        let text = stage.machine.run("m2m FWHT 640 360 12 5").await;
        let told: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
        assert_eq!(told["device"], "vicodec", "{told:#}");
        assert_eq!(told["control"], "Ok(5)", "{told:#}");
        assert!(told["other"].is_string(), "a format it does not make: {told:#}");
        let times: Vec<u64> = (0..12).map(|number| 1000 + number * 66).collect();
        assert_eq!(told["times"], json!(times), "{name}: one for one, in order, with its time");
        // It does not mark key frames; the others are a tenth of their size.
        let sizes: Vec<u64> = told["sizes"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        let keys: Vec<usize> = (0..sizes.len()).filter(|at| sizes[*at] > 40_000).collect();
        assert_eq!(keys, [0, 5, 10], "{name}: {told:#}");
        // The head of FWHT: a magic number, a version, width and height.
        let is_head = |head: &Value| head.as_str().is_some_and(|head| head.starts_with("4f4f4f4fffffffff"));
        assert!(told["heads"].as_array().is_some_and(|heads| heads.iter().all(is_head)), "{told:#}");
        assert_eq!((&told["damaged"], &told["has_last"]), (&json!(0), &json!(true)), "{told:#}");
        let ahead = told["ahead"].as_u64().expect("a number");
        assert!((1..20).contains(&ahead) && told["drained"] == ahead, "{name}: {told:#}");
        assert_eq!(stage.machine.try_run("m2m H264 640 360 1 5").await.0, 1, "no device makes H.264 here");
        stage.machine.run("rmmod vicodec").await;
    }
}

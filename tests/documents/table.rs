//! Where each command is tried.

/// Where a command is tried.
pub(crate) enum Where {
    /// By these tests of `tests/e2e/documents`, as it is written but for what they say.
    Run(&'static [&'static str]),
    /// By what is in this file already, which has to have these words.
    Elsewhere(&'static str, &'static [&'static str]),
    /// Not to its end, for this reason; and what is checked instead.
    Cannot(&'static str, Check),
}

/// What is checked of a command that is not run.
pub(crate) enum Check {
    /// It is no command of this project, and stands there for those who know it.
    Theirs,
    /// Cargo knows all that it is to build, and how.
    Cargo,
    /// The benchmark takes the options, and then misses the release build that its page tells to make.
    Benchmark,
    /// It is run by this test of `tests/e2e/documents` with a stand-in for the program it begins with.
    StandIn(&'static str),
}

use Check::{Benchmark, Cargo, StandIn, Theirs};
use Where::{Cannot, Elsewhere, Run};

const RELEASE: &str = "a release build takes ten minutes";
const MEASURES: &str = "it measures a release build, for minutes";
const OF_THE_OLD: &str = "the command of the program that is moved from";
const OF_A_REPOSITORY: &str = "a script of a repository that is on no package registry";
const VM: &str = "tests/vm/service.rs";
const SERVICE: &str = "tests/e2e/service.rs";

/// Every command that a document has, once.
pub(crate) const TABLE: &[(&str, Where)] = &[
    // README, "Two commands" and "Run it".
    ("cargo demo", Run(&["demo"])),
    ("tests/run", Elsewhere(".ci/run", &["exec tests/run"])),
    ("cargo build --release && sudo install target/release/edgecam /usr/local/bin/", Run(&["door"])),
    ("edgecam check --config edgecam.yaml", Run(&["door", "moving"])),
    ("edgecam run --config edgecam.yaml", Run(&["door"])),
    ("cross/build aarch64", Elsewhere("tests/arm", &["cross/build aarch64 ", "program=", "EDGECAM_PROGRAM="])),
    ("cross/build aarch64 --bin edgecam --no-default-features", Cannot(RELEASE, Cargo)),
    ("cross/build aarch64 --bin edgecam --config 'profile.release.strip=\"none\"'", Cannot(RELEASE, Cargo)),
    ("cross/sizes aarch64", Run(&["made"])),
    ("cross/package aarch64", Run(&["made"])),
    // README, "Commands".
    ("edgecam run --config FILE", Run(&["afar"])),
    ("edgecam check --config FILE [--offline] [--json]", Run(&["door"])),
    (
        "edgecam service install|start|stop|restart|status|log [NAME]",
        Elsewhere(
            SERVICE,
            &["stage.install(&[\"yard\"", "(&[\"stop\", \"yard\"]", "[\"start\", \"restart\"]", "(&[\"log\"]"],
        ),
    ),
    ("install --deeplens", Elsewhere(SERVICE, &["stage.install(&[\"--deeplens\"])"])),
    ("edgecam upload SOURCE STREAM [--seconds N]", Run(&["moving"])),
    ("edgecam import edge-agent", Elsewhere("tests/e2e/edge_agent.rs", &["&[\"import\", \"edge-agent\", HUB]"])),
    ("edgecam import", Elsewhere("tests/e2e/edge_agent.rs", &["&[\"import\", \"edge-agent\", HUB]"])),
    ("edgecam import edge-agent ARN", Run(&["moving"])),
    ("edgecam archive list|export|verify DIR …", Run(&["door"])),
    ("edgecam devices [--json] [--all]", Run(&["by_hand"])),
    ("edgecam devices", Run(&["by_hand"])),
    ("edgecam detect IMAGE|VIDEO [--model FILE.onnx] [--json]", Run(&["by_hand"])),
    ("edgecam detect", Elsewhere("tests/e2e/detect.rs", &["&[\"detect\", &picture, \"--out\", &out]"])),
    ("edgecam bench-model FILE.onnx", Run(&["by_hand"])),
    ("edgecam bench-model", Elsewhere("tests/e2e/detect.rs", &["&[\"bench-model\", \"--runs\", \"3\"]"])),
    ("edgecam encoder [--ch N] [--prefix sudo --prefix -n] resolution 1280 720", Run(&["by_hand"])),
    (
        "edgecam nvr list nuuo://HOST[:PORT]|onvif://HOST[:PORT] [--username U --password-file F] [--json]",
        Run(&["recorders"]),
    ),
    ("edgecam nvr list", Elsewhere("tests/e2e/nuuo.rs", &["&[\"nvr\", \"list\", &url,"])),
    // Others in this network are not to be bothered by a test.
    (
        "edgecam discover [--seconds N] [--interface ADDRESS] [--json]",
        Elsewhere(
            "tests/e2e/onvif.rs",
            &["[\"discover\", \"--seconds\", \"1\", \"--interface\", \"127.0.0.1\", \"--json\"]"],
        ),
    ),
    ("edgecam discover", Elsewhere("tests/e2e/onvif.rs", &["[\"discover\", \"--seconds\", \"1\", \"--interface\""])),
    ("edgecam archive fetch NEW_DIR RTSP_URL START/END [--username U --password-file F]", Run(&["recorders"])),
    ("archive fetch", Elsewhere("tests/e2e/nvrs.rs", &["[\"archive\", \"fetch\", &directory, &url, range,"])),
    ("edgecam rtsp-url BRAND --host H [--channel N] [--stream main|sub|third] [--start T --end T]", Run(&["by_hand"])),
    (
        "edgecam provision --endpoint HOST --claim-certificate F --claim-key F --template NAME --directory DIR",
        Elsewhere(
            "tests/e2e/provisioning.rs",
            &[
                "[\"--endpoint\", \"localhost\"]",
                "[\"--claim-certificate\", &certificate]",
                "[\"--claim-key\", &key]",
                "[\"--template\", self.template]",
                "[\"--directory\", &directory]",
            ],
        ),
    ),
    ("edgecam schema", Run(&["by_hand"])),
    // README, "Commands from afar", and what is asked for over HTTP.
    ("{\"requestId\": \"1\", \"seconds\": 300}", Run(&["afar"])),
    ("edgecam/<thing>/<camera>/cmd/live", Run(&["afar"])),
    ("edgecam/<thing>/<camera>/reply/1", Run(&["afar"])),
    ("…/<camera>/record/set", Run(&["afar"])),
    ("…/enabled/set", Run(&["afar"])),
    (
        "curl -X POST -H 'Content-Type: application/json' -d '{\"seconds\":300}' localhost:8080/streams/door/live",
        Run(&["afar"]),
    ),
    ("…/streams/door/upload", Run(&["afar"])),
    ("{\"start\":\"2026-11-21T08:00:00Z\",\"end\":\"2026-11-21T08:05:00Z\"}", Run(&["afar"])),
    ("edgecam/<thing>/<camera>/event", Elsewhere("tests/e2e/looks.rs", &["fleet.hear(\"edgecam/e2e/cam1/event\""])),
    ("GET /stream", Elsewhere("tests/e2e/looks.rs", &["GET /stream?camera=cam1 HTTP/1.1"])),
    ("POST /predict", Elsewhere("tests/e2e/looks.rs", &["http://127.0.0.1:{port}/predict"])),
    (
        "POST /streams/<camera>/start",
        Elsewhere("tests/e2e/honeycomb/rest.rs", &["post(\"/streams/cam1/start\", &wanted)"]),
    ),
    // greengrass/README.
    ("greengrass/package aarch64 armv7 x86_64", Run(&["component"])),
    ("greengrass/package aarch64=path/to/edgecam", Run(&["component"])),
    (
        "ggl-cli deploy --recipe-dir greengrass/greengrass-build/local/recipes --artifacts-dir \
         greengrass/greengrass-build/artifacts --add-component com.edgecam.Agent=0.1.0",
        Cannot("it needs a nucleus", StandIn("component")),
    ),
    (
        "greengrass-cli deployment create --recipeDir greengrass/greengrass-build/local/recipes --artifactDir \
         greengrass/greengrass-build/artifacts --merge com.edgecam.Agent=0.1.0",
        Cannot("it needs a nucleus", StandIn("component")),
    ),
    (
        "(cd greengrass && gdk component build && gdk component publish)",
        Cannot("GDK is on no package registry, and publishing needs an account of AWS", StandIn("component")),
    ),
    ("usermod -aG video ggc_user", Run(&["component"])),
    ("usermod -aG video gg_component", Run(&["component"])),
    (
        "aws cloudformation deploy --template-file greengrass/cloudformation.yaml --stack-name edgecam-gw-1 --capabilities \
         CAPABILITY_IAM --parameter-overrides ThingName=gw-1 ArtifactBucket=edgecam-components-eu-west-1-ACCOUNT \
         CertificateSigningRequest=\"$(cat gw-1.csr)\" CameraName=door CameraUrl=rtsp://admin:PASSWORD@10.0.0.7/101",
        Run(&["fleet"]),
    ),
    ("aws iot add-thing-to-thing-group --thing-name gw-1 --thing-group-name edgecam", Run(&["fleet"])),
    (
        "sed 's/REGION/eu-west-1/; s/ACCOUNT/123456789012/; s/BUCKET/my-bucket/; s/ROLE_ALIAS/my-alias/' \
         greengrass/policies/core-device.json",
        Run(&["component"]),
    ),
    (
        "{\"MediaURI\": \"rtsp://user:password@host/path\"}",
        Elsewhere("tests/e2e/greengrass/secrets.rs", &["json!({ \"MediaURI\": with_password(&server, PASSWORD) })"]),
    ),
    // greengrass/MIGRATION.
    ("edgecam import edge-agent arn:aws:iot:eu-west-1:123456789012:thing/gate > edgecam.yaml", Run(&["moving"])),
    ("edgecam upload /opt/awscam/out/ch1_out.h264 MyKVStream --seconds 60", Run(&["moving"])),
    ("edgecam check", Elsewhere("tests/e2e/cli.rs", &["&[\"check\", \"--config\", &path]"])),
    ("make deploy SVC=deeplens", Cannot(OF_THE_OLD, Theirs)),
    ("make start", Cannot(OF_THE_OLD, Theirs)),
    ("edgecam service install", Elsewhere(SERVICE, &["&[\"service\", \"install\", \"--root\", &root]"])),
    ("edgecam service start", Elsewhere(SERVICE, &["for verb in [\"start\", \"restart\"]"])),
    // systemd/README.
    ("sudo apt install ./edgecam_*.deb", Elsewhere(VM, &["sudo apt install ./edgecam_*.deb"])),
    (
        "sudo ./edgecam service install --config edgecam.yaml",
        Elsewhere(SERVICE, &["stage.install(&[\"--config\", &good"]),
    ),
    (
        "sudo edgecam service install --config edgecam.yaml",
        Elsewhere(VM, &["sudo edgecam service install --config edgecam.yaml"]),
    ),
    ("sudo edgecam service install", Elsewhere(SERVICE, &["stage.install(&[])"])),
    (
        "edgecam service start|stop|restart|status|log",
        Elsewhere(SERVICE, &["(&[\"stop\"][..]", "[\"start\", \"restart\"]"]),
    ),
    ("log -f", Elsewhere(SERVICE, &["(&[\"log\", \"yard\", \"-f\""])),
    ("systemctl reload edgecam", Elsewhere(VM, &["stage.run(\"systemctl reload edgecam\")"])),
    ("systemd-analyze security edgecam", Elsewhere(VM, &["systemd-analyze security edgecam |"])),
    ("systemctl edit edgecam", Elsewhere(VM, &["'systemctl edit edgecam'", "ReadWritePaths=/mnt/usb"])),
    (
        "sudo edgecam service install --deeplens [--user aws_cam]",
        Elsewhere(SERVICE, &["stage.install(&[\"--deeplens\"])", "\"--user\", \"aws_cam\""]),
    ),
    (
        "sudo edgecam service install yard --config yard.yaml",
        Elsewhere(SERVICE, &["stage.install(&[\"yard\", \"--config\", &config"]),
    ),
    (
        "edgecam check --after-upgrade --config /etc/edgecam/edgecam.yaml",
        Elsewhere(VM, &["stage.run(\"edgecam check --after-upgrade --config /etc/edgecam/edgecam.yaml\")"]),
    ),
    ("apt purge edgecam", Elsewhere(VM, &["apt purge --yes edgecam"])),
    ("sudo touch /var/lib/edgecam/delete-on-purge", Run(&["made"])),
    // agent/vision/README.
    (
        "yolo export model=yolo11n.pt format=onnx imgsz=320",
        Elsewhere("tests/vision/exports.py", &["\"yolo11n\": {}", "model.export(format=\"onnx\"", "{\"imgsz\": SIZE}"]),
    ),
    (
        "yolo export model=yolo26n.pt format=onnx imgsz=320 nms=False",
        Elsewhere("tests/vision/exports.py", &["\"yolo26n\": {\"nms\": False}", "model.export(format=\"onnx\""]),
    ),
    ("yolo export format=onnx", Elsewhere("tests/vision/exports.py", &["model.export(format=\"onnx\""])),
    ("python export.py --weights yolov5n.pt --include onnx --imgsz 320", Cannot(OF_A_REPOSITORY, Theirs)),
    ("python tools/export_onnx.py -n yolox-nano", Cannot(OF_A_REPOSITORY, Theirs)),
    ("python tools/export_onnx.py --cfg_path … --model_path …", Cannot(OF_A_REPOSITORY, Theirs)),
    ("paddle2onnx …", Cannot("it needs PaddlePaddle, and a model that is on no package registry", Theirs)),
    (
        "torch.onnx.export(model, torch.zeros(1, 3, 224, 224), \"out.onnx\")",
        Elsewhere("tests/vision/exports.py", &["torch.onnx.export(network, torch.zeros(shape)", "(1, 3, 224, 224)"]),
    ),
    // tests/bench/README.
    ("cargo build --release -p edgecam -p kvs-server", Cannot(RELEASE, Cargo)),
    ("cargo build --release -p edgecam --bin edgecam --example bench_encode", Cannot(RELEASE, Cargo)),
    ("cargo build --release -p edgecam-vision --example bench_inference", Cannot(RELEASE, Cargo)),
    ("cargo build --release -p edgecam", Cannot(RELEASE, Cargo)),
    ("tests/bench/run upload", Cannot(MEASURES, Benchmark)),
    ("tests/bench/run upload --cameras 16", Cannot(MEASURES, Benchmark)),
    ("tests/bench/run upload --profile 1080p30 --seconds 120 --json figures.json", Cannot(MEASURES, Benchmark)),
    ("tests/bench/run encode", Cannot(MEASURES, Benchmark)),
    ("tests/bench/run inference", Cannot(MEASURES, Benchmark)),
    ("tests/bench/run detect", Cannot(MEASURES, Benchmark)),
    (
        "tests/bench/run detect --model FastestDet.onnx --labels coco.names --video street.mp4",
        Cannot(MEASURES, Benchmark),
    ),
    (
        "ffmpeg -c:v libx264 -preset ultrafast -tune zerolatency -threads 1",
        Elsewhere("tests/bench/encoding.py", &["\"libx264\", \"-preset\", \"ultrafast\", \"-tune\", \"zerolatency\""]),
    ),
    (
        "ffmpeg -rtsp_transport tcp -i … -c copy -f matroska -method POST https://…",
        Elsewhere(
            "tests/bench/run",
            &[
                "\"-rtsp_transport\", \"tcp\", \"-i\", rtsp, \"-c\", \"copy\"",
                "\"-f\", \"matroska\", \"-method\", \"POST\"",
            ],
        ),
    ),
];

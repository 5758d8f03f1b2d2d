"""tests/bench/run detect: the same camera and the same model through the agent and through a Python pipeline, in one run.

The pipeline is what people write: OpenCV reads the RTSP stream, every so many frames one is given to onnxruntime, on one
thread. The agent has its archive on, which the pipeline has not. The scene is edgecam's test pattern, whose shapes the
built-in model knows, encoded by x264; --video and --model take others (a model of FastestDet's layout).

What the agent saw is held against onnxruntime on every frame of the file. Who of both began at which frame is not known: the
shift that fits best counts.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from measuring import MIB, SAMPLE_EVERY, Sampler, start, start_rtsp_server

FPS = 15
# Seconds that belong to the start of either.
STARTING = 8.0
THRESHOLD = 0.5
# Of a confidence beside the threshold nobody can say on which side it is.
UNSURE = 0.02
SAME_IOU = 0.9
# What is promised.
CPU = {"1 fps": 0.6, "5 fps, still for 80 %": 0.5, "5 fps, moving": 1.0}
MEMORY = 0.25
SAME = 0.99
OLDEST_MS = 1500
# Of a core, where nothing moves.
STILL_PERCENT = 2
# Of pictures that one camera of many is to be looked at.
LOOKED = 0.9


def add(commands, root):
    parser = commands.add_parser("detect", help="an RTSP camera looked at")
    parser.add_argument("--seconds", type=int, default=60, metavar="S")
    parser.add_argument("--edgecam", type=pathlib.Path, default=root / "target/release/edgecam", metavar="PATH")
    parser.add_argument("--model", type=pathlib.Path, default=root / "agent/vision/models/shapes.onnx", metavar="ONNX")
    parser.add_argument("--labels", type=pathlib.Path, metavar="FILE", help="a class a line; the built-in model has its own")
    parser.add_argument("--video", type=pathlib.Path, metavar="FILE", help="instead of the test pattern")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/edgecam-vision")
    parser.set_defaults(run=run, root=root)


def run(options):
    if not options.edgecam.exists():
        sys.exit(f"{options.edgecam} is missing: cargo build --release -p edgecam")
    environment = [sys.executable, options.root / "tests/vision/environment.py", options.cache]
    options.python = subprocess.run(environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    options.labels = options.labels.read_text().splitlines() if options.labels else ["circle", "square", "triangle"]
    cache = options.root / "target/bench"
    cache.mkdir(parents=True, exist_ok=True)
    videos = {kind: encode(options, cache, kind) for kind in ("moving", "still", "frozen")}
    targets = []
    for name, video, rate in (("1 fps", "moving", 1), ("5 fps, still for 80 %", "still", 5), ("5 fps, moving", "moving", 5)):
        targets += compare(options, name, videos[video], rate)
    targets += frozen(options, videos["frozen"])
    targets += many(options, videos["moving"])
    return 0 if all(targets) else 1


def target(name, value, bound, is_met):
    print(f"{'met   ' if is_met else 'MISSED'} {name}: {value} ({bound})", flush=True)
    return is_met


# The scene.


def encode(options, cache, kind):
    """720p, 15 fps, GOP 15. `still`: of each 10 s two move, and then the last picture stays; `frozen`: it is one picture."""
    source = options.video or record(options, cache)
    video = cache / f"detect-{source.stem}-{kind}-{options.seconds}.mp4"
    if not video.exists():
        partial = video.with_suffix(".partial.mp4")
        still = f"select='lt(mod(n,{10 * FPS}),{2 * FPS})',"
        hold = {"moving": "", "still": still, "frozen": "loop=loop=-1:size=1,"}[kind]
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-stream_loop", "-1", "-i", source, "-an"]
        command += ["-vf", f"fps={FPS},scale=1280:720,{hold}fps={FPS}", "-t", str(options.seconds + 30)]
        command += ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-bf", "0"]
        # OpenCV takes every picture for BT.601.
        command += ["-colorspace", "smpte170m", "-color_primaries", "smpte170m", "-color_trc", "smpte170m"]
        command += ["-b:v", "2000k", "-g", str(FPS), "-keyint_min", str(FPS), "-sc_threshold", "0", partial]
        subprocess.run(command, check=True)
        partial.rename(video)
    return video


def record(options, cache):
    """Half a minute of the test pattern, from its own archive."""
    video = cache / "detect-pattern.mp4"
    if not video.exists():
        with tempfile.TemporaryDirectory(prefix="edgecam-bench-") as directory:
            camera = {"name": "scene", "test_pattern": {"width": 1280, "height": 720, "frame_rate": FPS, "bitrate": 4_000_000}, "archive": {}}
            file = pathlib.Path(directory, "edgecam.json")
            file.write_text(json.dumps({"state_dir": directory, "cameras": [camera]}))
            agent = subprocess.Popen([options.edgecam, "run", "--config", file])
            time.sleep(32)
            agent.terminate()
            agent.wait(20)
            (segment, *_) = sorted(pathlib.Path(directory).glob("**/*.mp4"))
            partial = video.with_suffix(".partial.mp4")
            command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-i", segment, "-c", "copy", "-t", "30", partial]
            subprocess.run(command, check=True)
            partial.rename(video)
    return video


# Both sides.


class Agent:
    """The agent, and what it says it sees."""

    def __init__(self, stack, options, sampler, rtsp, rate, cameras=1):
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgecam-bench-")))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            listen = "127.0.0.1:%d" % free.getsockname()[1]
        detector = {"type": "object", "model": str(options.model), "fps_limit": rate, "confidence_threshold": THRESHOLD}
        detector["params"] = {"labels": options.labels}
        camera = {"rtsp": {"url": rtsp}, "archive": {"min_free": "1 MiB"}, "detectors": [detector]}
        config = {
            "state_dir": str(directory / "state"),
            "http": {"listen": listen},
            "cameras": [{"name": f"cam{index}", **camera} for index in range(cameras)],
        }
        file = directory / "edgecam.json"
        file.write_text(json.dumps(config))
        log = stack.enter_context((directory / "edgecam.log").open("w", encoding="utf-8"))
        command = [options.edgecam, "run", "--config", file]
        self.looks, self.listen = [], listen
        self.measured = sampler.start(lambda: start(stack, command, env={"PATH": os.environ["PATH"]}, stderr=log))
        self.log = directory / "edgecam.log"
        threading.Thread(target=self.hear, daemon=True).start()

    def hear(self):
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.listen}/stream", timeout=30) as answer:
                    for line in answer:
                        if line.startswith(b"data:"):
                            self.looks.append((time.monotonic(), json.loads(line[5:])))
                return
            except OSError:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.2)


def start_pipeline(stack, options, sampler, rtsp, rate):
    pipeline = options.root / "tests/bench/pipeline.py"
    command = [options.python, pipeline, rtsp, options.model, str(FPS // rate), str(THRESHOLD)]
    environment = {"PATH": os.environ["PATH"], "OPENCV_FFMPEG_CAPTURE_OPTIONS": "rtsp_transport;tcp"}
    return sampler.start(lambda: start(stack, command, env=environment, stdout=subprocess.DEVNULL))


def compare(options, name, video, rate):
    with contextlib.ExitStack() as stack:
        rtsp = start_rtsp_server(stack, video)
        sampler = Sampler()
        pipeline = start_pipeline(stack, options, sampler, rtsp, rate)
        agent = Agent(stack, options, sampler, rtsp, rate)
        time.sleep(options.seconds + 2 * SAMPLE_EVERY)
        sampler.stop()
        looks = [look for _, look in agent.looks]
        if not looks:
            sys.exit(f"the agent saw nothing:\n{agent.log.read_text()}")
    (mine, mine_mb), (other, other_mb) = (cost(options, side) for side in (agent.measured, pipeline))
    print(f"{name}: CPU s a minute: edgecam {mine:.2f}, Python {other:.2f}; peak RSS, MB: {mine_mb:.1f}, {other_mb:.1f}; "
          f"edgecam looked at {len(looks)} pictures", flush=True)
    same = alike(looks, reference(options, video))
    return [
        target(f"{name}, CPU, edgecam / Python", round(mine / other, 2), f"at most {CPU[name]}", mine <= CPU[name] * other),
        target(f"{name}, memory, edgecam / Python", round(mine_mb / other_mb, 2), f"at most {MEMORY}", mine_mb <= MEMORY * other_mb),
        target(f"{name}, detections alike", round(same, 4), f"at least {SAME}", same >= SAME),
    ]


def cost(options, measured):
    """CPU seconds a minute after the start, and the peak of memory."""
    if not measured.samples or measured.samples[-1][0] < options.seconds - 2:
        sys.exit("a measured process ended early")
    first, last = measured.at(STARTING), measured.at(options.seconds)
    return (last[1] - first[1]) / (last[0] - first[0]) * 60, measured.rss / MIB


# What was seen.


def reference(options, video):
    """Of every frame of the file what onnxruntime sees, a little under the threshold too."""
    command = [options.python, options.root / "tests/bench/pipeline.py", video, options.model, "1", str(THRESHOLD - UNSURE)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    name = lambda box: {"class_name": options.labels[box["class"]], "confidence": box["confidence"], "bbox": box["bbox"]}
    return [[name(box) for box in json.loads(line)] for line in lines]


def alike(looks, frames):
    """The share of boxes that both have, at the best shift."""
    # By the picture's number: times follow the camera's clock, which may be put right while it is watched.
    began = looks[0]["frame_number"]
    steps = [(look["frame_number"] - began, look["detections"]) for look in looks]
    last = max(step for step, _ in steps)

    def share(shift):
        both = alone = 0
        for step, seen in steps:
            found = frames[step + shift]
            for ours, theirs in ((seen, found), (found, seen)):
                for box in ours:
                    if any(is_same(box, other) for other in theirs):
                        both += 1
                    elif box["confidence"] >= THRESHOLD + UNSURE:
                        alone += 1
        return both / max(1, both + alone)

    return max(share(shift) for shift in range(max(1, len(frames) - last)))


def is_same(one, other):
    (a1, b1, a2, b2), (c1, d1, c2, d2) = one["bbox"], other["bbox"]
    shared = max(0, min(a2, c2) - max(a1, c1)) * max(0, min(b2, d2) - max(b1, d1))
    union = (a2 - a1) * (b2 - b1) + (c2 - c1) * (d2 - d1) - shared
    return one["class_name"] == other["class_name"] and shared >= SAME_IOU * union


# Nothing moves.


def frozen(options, video):
    with contextlib.ExitStack() as stack:
        rtsp = start_rtsp_server(stack, video)
        sampler = Sampler()
        agent = Agent(stack, options, sampler, rtsp, 5)
        time.sleep(options.seconds + 2 * SAMPLE_EVERY)
        sampler.stop()
    percent = round(cost(options, agent.measured)[0] / 60 * 100, 2)
    return [target("5 fps, nothing moves, percent of a core", percent, f"at most {STILL_PERCENT}", percent <= STILL_PERCENT)]


# Many cameras.


def many(options, video, cameras=16):
    with contextlib.ExitStack() as stack:
        rtsp = start_rtsp_server(stack, video)
        sampler = Sampler()
        agent = Agent(stack, options, sampler, rtsp, 1, cameras)
        time.sleep(options.seconds)
        sampler.stop()
        steady = agent.measured.started + STARTING
        looks = [look for heard, look in agent.looks if heard >= steady]
    if not looks:
        sys.exit(f"the agent saw nothing:\n{agent.log.read_text()}")
    oldest = max(look["lag_ms"] for look in looks)
    counts = [sum(look["camera_id"] == f"cam{index}" for look in looks) for index in range(cameras)]
    least = round(LOOKED * (options.seconds - STARTING))
    cpu, mb = cost(options, agent.measured)
    print(f"{cameras} cameras at 1 fps: CPU s a minute {cpu:.2f}, peak RSS {mb:.1f} MB")
    return [
        target(f"{cameras} cameras, oldest picture, ms", oldest, f"at most {OLDEST_MS}", oldest <= OLDEST_MS),
        target(f"{cameras} cameras, looks at the one with the fewest", min(counts), f"at least {least}", min(counts) >= least),
    ]

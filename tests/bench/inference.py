"""tests/bench/run inference: models through the agent against onnxruntime, one thread each, in one run.

Both take turns of some runs each, so that whatever else the machine does hits both. The agent's time is from the decoder's
planes to boxes; onnxruntime's is the graph alone. Weights are random: they cost as much as any.
"""

import pathlib
import statistics
import subprocess
import sys

# At most so many times onnxruntime's CPU time.
MODELS = {"yolov8n": 1.9, "yolo26n": 2.1, "mobilenet_v3_small": 3.0}
PREPARE_MS = 0.5
ROUNDS, RUNS = 15, 8


def add(commands, root):
    parser = commands.add_parser("inference", help="models through the agent and through onnxruntime")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--runner", type=pathlib.Path, default=root / "target/release/examples/bench_inference")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/edgecam-vision")
    parser.set_defaults(run=run, root=root)


class Side:
    """One of the two programs, with all models loaded."""

    def __init__(self, command):
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.process.args[0]} ended")
        return float(answer)

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)


def run(options):
    if not options.runner.exists():
        sys.exit(f"{options.runner} is missing: cargo build --release -p edgecam-vision --example bench_inference")
    vision = options.root / "tests/vision"
    python = subprocess.run([sys.executable, vision / "environment.py", options.cache], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    exports = options.root / "target/bench/models"
    files = [exports / f"{name}.onnx" for name in MODELS]
    if not all(file.exists() for file in files):
        exports.mkdir(parents=True, exist_ok=True)
        make = "import numpy, sys; numpy.save(sys.argv[1], numpy.random.default_rng(1).random((1, 3, 320, 320), numpy.float32))"
        subprocess.run([python, "-c", make, exports / "picture.npy"], check=True)
        subprocess.run([python, vision / "exports.py", exports / "picture.npy", exports], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ours = Side([options.runner, *files])
    theirs = Side([python, options.root / "tests/bench/onnx_runner.py", *files])
    met = True
    for index, (name, most) in enumerate(MODELS.items()):
        for side in (ours, theirs):
            side.ask(f"{index} 3")
        rounds = [(ours.ask(f"{index} {RUNS}"), theirs.ask(f"{index} {RUNS}")) for _ in range(options.rounds)]
        ratio = statistics.median(mine / other for mine, other in rounds)
        mine, other = (statistics.median(column) for column in zip(*rounds))
        prepare = statistics.median(ours.ask(f"prepare {index} 20") for _ in range(5))
        good = ratio <= most and prepare <= PREPARE_MS
        met &= good
        print(f"{'met   ' if good else 'MISSED'} {name}: CPU ms a picture: edgecam {mine:.2f}, of which picture to tensor "
              f"{prepare:.2f} (at most {PREPARE_MS}); onnxruntime {other:.2f}; ratio {ratio:.2f} (at most {most})", flush=True)
    ours.end()
    theirs.end()
    return 0 if met else 1

"""Processes that are measured, and the camera they watch."""

import pathlib
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The one that has GStreamer's bindings.
SYSTEM_PYTHON = "/usr/bin/python3"
MIB = 1 << 20
SAMPLE_EVERY = 0.5


def start(stack, command, **more):
    process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, **more)
    stack.callback(end, process)
    return process


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_rtsp_server(stack, video):
    """GStreamer's; it plays the file from its first IDR to each client."""
    command = [ROOT / "tests/e2e/rtsp_server.py", "--file", video, "--tcp-only"]
    process = start(stack, [SYSTEM_PYTHON, *command], stdout=subprocess.PIPE, text=True)
    word, _, port = process.stdout.readline().strip().partition(" ")
    if word != "READY":
        sys.exit("the RTSP server did not start")
    # Its first client pays for loading plugins: that must be neither of those measured.
    probe = ["ffprobe", "-loglevel", "error", "-rtsp_transport", "tcp", f"rtsp://127.0.0.1:{port}/cam1"]
    subprocess.run(probe, check=True, timeout=30, stdout=subprocess.DEVNULL)
    return f"rtsp://127.0.0.1:{port}/cam1"


class Measured:
    """One process and what was read of it: (seconds since its start, CPU seconds, context switches) and peaks."""

    def __init__(self, make):
        self.started_ms, self.started = time.time() * 1000, time.monotonic()
        self.pid = make().pid
        self.samples = []
        self.rss = self.anon = self.threads = 0

    def sample(self):
        process = pathlib.Path(f"/proc/{self.pid}")
        try:
            status = read_status(process)
            cpu = time.clock_gettime(cpu_clock(self.pid))
            switches = sum(read_status(task)["voluntary_ctxt_switches"] for task in (process / "task").iterdir())
        except (OSError, KeyError):
            return
        self.samples.append((time.monotonic() - self.started, cpu, switches))
        self.rss = max(self.rss, status["VmHWM"] * 1024)
        self.anon = max(self.anon, status["RssAnon"] * 1024)
        self.threads = max(self.threads, status["Threads"])

    def at(self, second):
        return min(self.samples, key=lambda sample: abs(sample[0] - second))


def cpu_clock(pid):
    """The clock of a process's user and system time, as clock_getcpuclockid(3) makes it; /proc counts in 10 ms."""
    return (~pid << 3) | 2


def read_status(process):
    fields = (line.partition(":") for line in (process / "status").read_text().splitlines())
    numbers = {name: value.split()[0] for name, _, value in fields if value.split()}
    return {name: int(value) for name, value in numbers.items() if value.isdigit()}


class Sampler:
    """Reads /proc of all measured processes twice a second."""

    def __init__(self):
        self.measured, self.stopping = [], threading.Event()
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def start(self, make):
        measured = Measured(make)
        self.measured.append(measured)
        return measured

    def loop(self):
        while not self.stopping.wait(SAMPLE_EVERY):
            for measured in list(self.measured):
                measured.sample()

    def stop(self):
        self.stopping.set()
        self.thread.join()

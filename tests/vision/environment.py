#!/usr/bin/env python3
"""Makes a Python environment with torch, torchvision, ultralytics and onnxruntime, once, and prints its interpreter.

usage: environment.py DIRECTORY

PyPI's torch for x86-64 Linux is linked with CUDA, whose libraries are 2.5 GB that nothing here calls. Empty ones of the same
names take their places: every function that torch refers to is there and answers "no". So it is 0.6 GB to fetch.
"""

import collections
import hashlib
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
LIBRARIES = ("libcu", "libnv", "libnccl")


def main():
    cache = pathlib.Path(sys.argv[1]).resolve()
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + pathlib.Path(__file__).read_bytes() + sys.version.encode())
    directory = cache / f"python-{key.hexdigest()[:12]}"
    python = directory / "bin" / "python"
    if not (directory / "ready").exists():
        shutil.rmtree(directory, ignore_errors=True)
        run(sys.executable, "-m", "venv", directory)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        run(*install, "-r", REQUIREMENTS, why="PyPI cannot be reached, or has no such packages for this Python")
        for lib in directory.glob("lib/python3*/site-packages/torch/lib"):
            fill_in(lib)
        run(python, "-c", "import torch, torchvision, onnxruntime; torch.nn.Conv2d(3, 4, 3)(torch.rand(1, 3, 8, 8))")
        (directory / "ready").touch()
    print(python)


def run(*command, why=""):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"tests/vision/environment.py: {command[0]} fails. {why}\n{done.stderr[-2000:]}")
    return done.stdout


def fill_in(lib):
    """Makes the libraries that torch is linked with and that are not there."""
    needed, versioned, loose, defined = set(), collections.defaultdict(set), set(), set()
    versions = collections.defaultdict(set)
    for file in lib.glob("lib*.so"):
        needed |= set(re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-dW", file)))
        for line in run("nm", "-D", file).splitlines():
            kind, symbol = line.split()[-2:]
            name, _, version = symbol.partition("@")
            if kind == "U":
                (versioned[version] if version else loose).add(name)
            elif kind != "w":
                defined.add(name)
        library = None
        for line in run("readelf", "-VW", file).splitlines():
            if found := re.search(r"File: (\S+)", line):
                library = found[1]
            if (found := re.search(r"Name: (\S+)", line)) and library:
                versions[library].add(found[1])
    there = {path.name for path in lib.parent.parent.glob("nvidia/**/lib*.so*")} | {path.name for path in lib.iterdir()}
    loose = {name for name in loose - defined if name.startswith(("nccl", "nvshmem", "cu", "nvrtc"))}
    for library in sorted(name for name in needed if name.startswith(LIBRARIES) and name not in there):
        names = set().union(*(versioned[version] for version in versions[library]))
        names |= loose if library.startswith("libnccl") else set()
        with tempfile.TemporaryDirectory() as work:
            source, script = pathlib.Path(work) / "no.c", pathlib.Path(work) / "no.map"
            source.write_text("".join(f"int {name}(void) {{ return 1; }}\n" for name in sorted(names)))
            lists = {version: "".join(f"{name};" for name in versioned[version]) for version in versions[library]}
            script.write_text("".join(f"{version} {{ {names} }};\n" for version, names in lists.items()))
            command = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{library}", "-o", lib / library, source]
            run(*command, *([f"-Wl,--version-script,{script}"] if lists else []))


if __name__ == "__main__":
    main()

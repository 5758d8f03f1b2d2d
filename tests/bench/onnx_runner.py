"""The other side of tests/bench/inference.rs: the same models and questions, with onnxruntime on one thread.

usage: onnx_runner.py MODEL.onnx …, then lines `INDEX RUNS` on standard input.
"""

import statistics
import sys
import time

import numpy
import onnxruntime


def main():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    sessions = [onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in sys.argv[1:]]
    inputs = []
    for session in sessions:
        (given,) = session.get_inputs()
        inputs.append({given.name: numpy.random.default_rng(1).random(given.shape, numpy.float32)})
    for line in sys.stdin:
        index, runs = map(int, line.split())
        times = []
        for _ in range(runs):
            began = time.thread_time()
            sessions[index].run(None, inputs[index])
            times.append((time.thread_time() - began) * 1000)
        print(statistics.median(times), flush=True)


if __name__ == "__main__":
    main()

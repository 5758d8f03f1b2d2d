"""The other side of tests/bench/run detect: OpenCV reads, onnxruntime looks, on one thread.

usage: pipeline.py URL|FILE MODEL.onnx EVERY THRESHOLD. Of each picture that is looked at a line of JSON.
"""

import json
import pathlib
import sys

import cv2
import numpy
import onnxruntime

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "vision"))
import reference  # noqa: E402


def main():
    source, model, every, threshold = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    cv2.setNumThreads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    job = {"threshold": threshold, "iou": 0.45, "shape": given.shape, "fit": "stretch"}
    (rows, columns) = given.shape[2:]
    capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    number = 0
    # What is not looked at is decoded too, but not converted.
    while capture.grab():
        if number % every == 0:
            _, picture = capture.retrieve()
            job["picture"] = picture.shape[1], picture.shape[0]
            small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_LINEAR)
            tensor = numpy.ascontiguousarray(small.astype(numpy.float32).transpose(2, 0, 1)[None] / 255)
            answers = dict(zip([output.name for output in session.get_outputs()], session.run(None, {given.name: tensor})))
            print(json.dumps(reference.fastest_det(answers, job)["detections"]), flush=True)
        number += 1


if __name__ == "__main__":
    main()

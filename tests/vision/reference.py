"""What onnxruntime and plain numpy make of the tensors that edgecam has made: the other side of the comparison.

usage: reference.py JOBS.json RESULTS.json

A job: {"file", "tensor" (float32, raw), "shape", "family", "threshold", "iou", "fit", "picture": [width, height], "labels"}.
Decoding is written anew here, from the families' own code, on the whole graph: nothing is cut.
"""

import json
import sys

import numpy
import onnxruntime


def main():
    jobs, out = sys.argv[1:]
    with open(jobs, encoding="utf-8") as file:
        results = [run(job) for job in json.load(file)]
    with open(out, "w", encoding="utf-8") as file:
        json.dump(results, file)


def run(job):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(job["file"], options, providers=["CPUExecutionProvider"])
    tensor = numpy.fromfile(job["tensor"], numpy.float32).reshape(job["shape"])
    answers = session.run(None, {session.get_inputs()[0].name: tensor})
    answers = {output.name: answer for output, answer in zip(session.get_outputs(), answers)}
    return FAMILIES[job["family"]](answers, job)


def sigmoid(values):
    return 1 / (1 + numpy.exp(-values))


def softmax(values, axis):
    values = numpy.exp(values - values.max(axis, keepdims=True))
    return values / values.sum(axis, keepdims=True)


def cells(job, strides, middle):
    height, width = job["shape"][2:]
    points, steps = [], []
    for stride in strides:
        columns, rows = -(-width // stride), -(-height // stride)
        y, x = numpy.mgrid[:rows, :columns]
        points.append(numpy.stack([x, y], 2).reshape(-1, 2) + middle)
        steps.append(numpy.full((rows * columns, 1), stride))
    return numpy.concatenate(points), numpy.concatenate(steps)


def centred(boxes):
    return numpy.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)


def iou(box, boxes):
    low, high = numpy.maximum(box[:2], boxes[:, :2]), numpy.minimum(box[2:], boxes[:, 2:])
    shared = numpy.clip(high - low, 0, None).prod(1)
    areas = numpy.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1)
    return shared / (numpy.clip(box[2:] - box[:2], 0, None).prod() + areas - shared + 1e-12)


def boxes_of(corners, scores, classes, job, suppress=True):
    sure = scores >= job["threshold"]
    corners, scores, classes = corners[sure], scores[sure], classes[sure]
    order = numpy.argsort(-scores, kind="stable")
    box = lambda index: {"class": int(classes[index]), "confidence": float(scores[index]), "bbox": place(corners[index], job)}
    candidates = [box(index) for index in order] if suppress else None
    kept = []
    for index in order[:3000] if suppress else order:
        others = [other for other in kept if suppress and classes[other] == classes[index]]
        if not others or iou(corners[index], corners[others]).max() <= job["iou"]:
            kept.append(index)
    kept = kept[:300]
    result = []
    for index in kept:
        x1, y1, x2, y2 = place(corners[index], job)
        if x2 > x1 and y2 > y1:
            result.append({"class": int(classes[index]), "confidence": float(scores[index]), "bbox": [x1, y1, x2, y2]})
    return {"detections": result, "candidates": candidates}


def place(corners, job):
    """From the model's pixels to the picture's."""
    (width, height), (rows, columns) = job["picture"], job["shape"][2:]
    left = top = 0
    if job["fit"] == "stretch":
        across, down = width / columns, height / rows
    else:
        ratio = min(columns / width, rows / height)
        new_width, new_height = round(width * ratio), round(height * ratio)
        across, down = width / new_width, height / new_height
        if job["fit"] == "letterbox":
            left, top = (columns - new_width) // 2, (rows - new_height) // 2
    x1, y1, x2, y2 = (float(value) for value in corners)
    clip = lambda value, most: min(max(value, 0.0), float(most))
    return (clip((x1 - left) * across, width), clip((y1 - top) * down, height), clip((x2 - left) * across, width),
            clip((y2 - top) * down, height))


def yolo(answers, job):
    (answer,) = answers.values()
    rows = answer[0].T
    return boxes_of(centred(rows[:, :4]), rows[:, 4:].max(1), rows[:, 4:].argmax(1), job)


def end_to_end(answers, job):
    (answer,) = answers.values()
    return boxes_of(answer[0][:, :4], answer[0][:, 4], answer[0][:, 5].astype(int), job, suppress=False)


def yolox(answers, job):
    (answer,) = answers.values()
    rows = answer[0]
    points, steps = cells(job, (8, 16, 32), 0)
    boxes = numpy.concatenate([(rows[:, :2] + points) * steps, numpy.exp(rows[:, 2:4]) * steps], 1)
    scores = rows[:, 4:5] * rows[:, 5:]
    return boxes_of(centred(boxes), scores.max(1), scores.argmax(1), job)


def nanodet_plus(answers, job):
    (answer,) = answers.values()
    points, steps = cells(job, (8, 16, 32, 64), 0)
    scores = answer[0][:, :-32]
    distances = (softmax(answer[0][:, -32:].reshape(-1, 4, 8), 2) * numpy.arange(8)).sum(2)
    boxes = numpy.concatenate([points - distances[:, :2], points + distances[:, 2:]], 1) * steps
    return boxes_of(boxes, scores.max(1), scores.argmax(1), job)


def ssd(answers, job):
    scores, boxes = answers["scores"][0][:, 1:], answers["boxes"][0]
    height, width = job["shape"][2:]
    return boxes_of(boxes * [width, height, width, height], scores.max(1), scores.argmax(1), job)


def fastest_det(answers, job):
    (answer,) = answers.values()
    values = answer[0]
    _, rows, columns = values.shape
    y, x = numpy.mgrid[:rows, :columns]
    height, width = job["shape"][2:]
    scores = values[0] ** 0.6 * values[5:].max(0) ** 0.4
    boxes = [(x + numpy.tanh(values[1])) / columns * width, (y + numpy.tanh(values[2])) / rows * height,
             sigmoid(values[3]) * width, sigmoid(values[4]) * height]
    boxes = numpy.stack(boxes, 2).reshape(-1, 4)
    return boxes_of(centred(boxes), scores.reshape(-1), values[5:].argmax(0).reshape(-1), job)


def classes(answers, job):
    (answer,) = answers.values()
    scores = softmax(answer[0], 0)
    best = [index for index in numpy.argsort(-scores, kind="stable")[:5] if scores[index] >= job["threshold"]]
    return {"classes": [{"class": int(index), "confidence": float(scores[index])} for index in best]}


def ctc(answers, job):
    (answer,) = answers.values()
    text, sure, before = "", [], 0
    for step in answer[0]:
        best = int(step.argmax())
        if best not in (0, before):
            text += job["labels"][best - 1]
            sure.append(float(step[best]))
        before = best
    return {"text": text, "confidence": sum(sure) / max(len(sure), 1)}


FAMILIES = {
    "yolo": yolo,
    "end_to_end": end_to_end,
    "yolox": yolox,
    "nanodet_plus": nanodet_plus,
    "ssd": ssd,
    "fastest_det": fastest_det,
    "classes": classes,
    "ctc": ctc,
}

if __name__ == "__main__":
    main()

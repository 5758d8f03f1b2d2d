"""Exports detectors and classifiers with random weights, as their users do, and what must be refused.

usage: exports.py PICTURE.npy DIRECTORY

Weights are random, so that nothing has to be fetched; the numbers say whether two runtimes agree, not whether a model is
good. The last convolutions for classes are scaled until some boxes are sure.
"""

import contextlib
import os
import pathlib
import sys

os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"

import numpy
import onnx
import torch
import torchvision
from torch import nn
from ultralytics import YOLO

SIZE = 320
DETECTORS = {
    "yolov8n": {},
    "yolo11n": {},
    "yolov5n": {},
    "yolov10n": {"nms": False},
    "yolo26n": {"nms": False},
    "yolo26n-raw": {},
    "yolov8n-640x352": {"imgsz": [352, 640]},
    "yolov8n-open": {"dynamic": True},
}


def main():
    picture = torch.from_numpy(numpy.load(sys.argv[1]))
    directory = pathlib.Path(sys.argv[2]).resolve()
    torch.manual_seed(11)
    work = directory / "work"
    work.mkdir(exist_ok=True)
    # Each export of a kind has the same name.
    os.chdir(work)
    for name, options in DETECTORS.items():
        yolo(directory, name, options, picture)
    yolo(directory, "nms", {"nms": True}, picture, "yolov8n")
    os.chdir(directory)
    classifiers()
    own(picture)
    refused()


def shake(network):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.8, 1.4)
            module.bias.data.normal_(0, 0.2)


def spread(network, layers, picture, mean, deviation):
    """Scales the last layers until their answers to the picture have this mean and deviation."""
    answers = {}
    hooks = [layer.register_forward_hook(lambda layer, _, out: answers.update({layer: out})) for layer in layers]
    network.eval()
    with torch.no_grad():
        network(picture)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        if layer not in answers:
            continue
        out = answers[layer]
        factor = deviation / out.std().item()
        layer.weight.data *= factor
        layer.bias.data = (layer.bias.data - out.mean().item()) * factor + mean


def yolo(directory, name, options, picture, kind=None):
    kind = kind or name.split("-")[0]
    model = YOLO(f"{kind}.yaml", task="detect")
    network = model.model
    shake(network)
    head = network.model[-1]
    parts = [getattr(head, part, None) for part in ("cv3", "one2one_cv3")]
    layers = [branch[-1] for part in parts if part is not None for branch in part]
    spread(network, layers, picture, -6.0, 2.5)
    boxes = [branch[-1] for part in ("cv2", "one2one_cv2") if getattr(head, part, None) is not None for branch in getattr(head, part)]
    spread(network, boxes, picture, 2.0 if head.reg_max == 1 else 0.0, 1.0)
    with contextlib.redirect_stdout(sys.stderr):
        made = model.export(format="onnx", opset=17, simplify=False, **({"imgsz": SIZE} | options))
    os.replace(made, directory / f"{name}.onnx")


def export(network, name, shape, outputs=("out",)):
    network.eval()
    names = {"input_names": ["in"], "output_names": list(outputs)}
    torch.onnx.export(network, torch.zeros(shape), f"{name}.onnx", opset_version=17, dynamo=False, **names)


def classifiers():
    for name in ("mobilenet_v3_small", "mobilenet_v2"):
        network = torchvision.models.get_model(name, weights=None)
        shake(network)
        export(network, name, (1, 3, 224, 224))


def body(*channels):
    layers, before = [], 3
    for after in channels:
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.SiLU()]
        before = after
    return nn.Sequential(*layers)


class Cells(nn.Module):
    """One row of values for each cell of the grids with these strides."""

    def __init__(self, values, strides, finish):
        super().__init__()
        self.stem = body(16, 32, 32)
        self.down = nn.ModuleList(nn.Conv2d(32, 32, 3, 2, 1) for _ in strides[1:])
        self.last = nn.ModuleList(nn.Conv2d(32, values, 1) for _ in strides)
        self.finish = finish

    def forward(self, picture):
        grid, rows = self.stem(picture), []
        for index, last in enumerate(self.last):
            grid = grid if index == 0 else self.down[index - 1](grid)
            rows.append(last(grid).flatten(2).transpose(1, 2))
        return self.finish(rows)


class Line(nn.Module):
    """A recogniser of text: height away, then an LSTM over the width, as CRNN."""

    def __init__(self, classes):
        super().__init__()
        self.stem = body(16, 32)
        self.lstm = nn.LSTM(32 * 12, 32, bidirectional=True, batch_first=True)
        self.last = nn.Linear(64, classes)

    def forward(self, picture):
        grid = self.stem(picture)
        steps = grid.flatten(1, 2).transpose(1, 2)
        return (self.last(self.lstm(steps)[0]) * 12).softmax(2)


def own(picture):
    """Small networks whose answers look like those of families without a package on PyPI."""

    def yolox(rows):
        rows = torch.cat(rows, 1)
        return torch.cat([rows[..., :4], rows[..., 4:].sigmoid()], 2)

    def nanodet(rows):
        rows = torch.cat(rows, 1)
        return torch.cat([rows[..., :5].sigmoid(), rows[..., 5:]], 2)

    def face(rows):
        rows = torch.cat(rows, 1)
        return rows[..., :2].softmax(2), torch.cat([rows[..., 2:4] * 0.2, rows[..., 2:4] * 0.2 + 0.1 + rows[..., 4:6].sigmoid() * 0.3], 2)

    bgr = picture.flip(1) * 255
    nets = {
        "yolox": (Cells(5 + 80, (8, 16, 32), yolox), bgr, ("out",), 0.0, 1.5),
        "nanodet-plus": (Cells(5 + 32, (8, 16, 32, 64), nanodet), (bgr - 110) / 57, ("out",), -1.0, 1.5),
        "ssd": (Cells(6, (16, 32, 64, 64), face), (picture * 255 - 127) / 128, ("scores", "boxes"), 0.0, 2.0),
    }
    for name, (network, given, outputs, mean, deviation) in nets.items():
        spread(network, list(network.last), given, mean, deviation)
        export(network, name, (1, 3, SIZE, SIZE), outputs)
    export(Line(38), "line", (1, 3, 48, 320))


def refused():
    network = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    network.eval()
    torch.onnx.export(network, torch.rand(1, 3, SIZE, SIZE), "torchvision.onnx", opset_version=17, dynamo=False)
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = [{"in": numpy.random.rand(1, 3, SIZE, SIZE).astype(numpy.float32)}]

        def get_next(self):
            return self.left.pop() if self.left else None

    quantize_static("yolox.onnx", "int8.onnx", Reader(), quant_format=QuantFormat.QOperator)
    model = onnx.load("line.onnx")
    onnx.save(model, "apart.onnx", save_as_external_data=True, location="apart.data", size_threshold=0)


if __name__ == "__main__":
    main()

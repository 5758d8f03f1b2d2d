#!/usr/bin/env python3
"""Trains the detector that is built in: circles, squares and triangles, on pictures that are drawn here.

It is a demonstration, for `edgecam demo` and for tests, and sees nothing else. Its layout is FastestDet's: of each cell of
16 x 16 pixels objectness, offset, size and class.

needs: torch, onnx, numpy, opencv-python-headless
usage: shapes.py OUT.onnx [STEPS]
"""

import sys
import time

import cv2
import numpy
import torch
from torch import nn
from torch.nn import functional

WIDTH, HEIGHT, STRIDE = 320, 192, 16
COLUMNS, ROWS = WIDTH // STRIDE, HEIGHT // STRIDE
CLASSES = ["circle", "square", "triangle"]
BATCH = 24
SEED = 5


class Shapes(nn.Module):
    """Plain convolutions: the picture is seen over 111 x 111 pixels by each cell."""

    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for channels, stride in [(8, 2), (16, 2), (32, 2), (32, 1), (48, 2), (48, 1), (48, 1)]:
            layers += [nn.Conv2d(before, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(before, 5 + len(CLASSES), 1)
        # Nearly all cells see nothing.
        self.head.bias.data[0] = -4.0

    def forward(self, pictures):
        return self.head(self.body(pictures))


class Exported(nn.Module):
    """What FastestDet answers: objectness and classes as probabilities."""

    def __init__(self, shapes):
        super().__init__()
        self.shapes = shapes

    def forward(self, pictures):
        out = self.shapes(pictures)
        return torch.cat([out[:, :1].sigmoid(), out[:, 1:5], out[:, 5:].softmax(1)], 1)


def background(rng):
    """A gradient between colours, as it may be lit, with lines, text and blobs that are none of the three."""
    corners = rng.integers(0, 256, (2, 2, 3)).astype(numpy.float32)
    if rng.random() < 0.5:
        corners = corners * 0.25 + rng.integers(0, 192, 3)
    picture = cv2.resize(corners, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    picture = numpy.clip(picture, 0, 255).astype(numpy.uint8)
    for _ in range(rng.integers(0, 8)):
        colour = rng.integers(0, 256, 3).tolist()
        at = (int(rng.integers(0, WIDTH)), int(rng.integers(0, HEIGHT)))
        kind = rng.integers(0, 4)
        if kind == 0:
            text = "".join(rng.choice(list("0123456789:.ABCDEFG"), rng.integers(3, 12)))
            size = float(rng.uniform(0.3, 1.0))
            cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, int(rng.integers(1, 3)), cv2.LINE_AA)
        elif kind == 1:
            to = (int(rng.integers(0, WIDTH)), int(rng.integers(0, HEIGHT)))
            cv2.line(picture, at, to, colour, int(rng.integers(1, 5)), cv2.LINE_AA)
        elif kind == 2:
            # Long boxes and thin ellipses are neither squares nor circles.
            long, thin = int(rng.integers(24, 120)), int(rng.integers(3, 10))
            to = (at[0] + long, at[1] + thin) if rng.random() < 0.5 else (at[0] + thin, at[1] + long)
            cv2.rectangle(picture, at, to, colour, -1)
        else:
            points = rng.integers(-30, 30, (rng.integers(6, 10), 2)) + at
            cv2.polylines(picture, [points.astype(numpy.int32)], True, colour, 1, cv2.LINE_AA)
    return picture


def draw_digits(picture, rng):
    """A clock in a corner, in pixels as large as those of the test pattern's font."""
    size = int(rng.integers(1, 4))
    cells = (rng.random((7, int(rng.integers(8, 80)))) < 0.5).astype(numpy.uint8)
    cells = cv2.resize(cells, None, fx=size, fy=size, interpolation=cv2.INTER_NEAREST)
    left, top = int(rng.integers(0, 30)), int(rng.integers(0, HEIGHT - 24))
    part = picture[top : top + cells.shape[0], left : left + cells.shape[1]]
    cells = cells[: part.shape[0], : part.shape[1]]
    part[cells == 0] = 16
    part[cells == 1] = 235


def outline(kind, x, y, size, stretch, rng):
    """A shape's corners, and its box."""
    if kind == 0:
        angles = numpy.linspace(0, 2 * numpy.pi, 48, endpoint=False)
        points = numpy.stack([numpy.cos(angles), numpy.sin(angles)], 1)
    elif kind == 1:
        points = numpy.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    else:
        points = numpy.array([[0, -1], [1, 1], [-1, 1]], float)
    if kind != 0 and rng.random() < 0.3:
        turn = rng.uniform(-0.25, 0.25)
        points = points @ numpy.array([[numpy.cos(turn), numpy.sin(turn)], [-numpy.sin(turn), numpy.cos(turn)]])
    return points * [size / 2 * stretch, size / 2] + [x, y]


def scene(rng):
    """A picture and its boxes: (class, x, y, width, height) in pixels."""
    picture, boxes = background(rng), []
    if rng.random() < 0.5:
        draw_digits(picture, rng)
    for _ in range(rng.integers(0, 6)):
        kind = int(rng.integers(0, 3))
        size = float(numpy.exp(rng.uniform(numpy.log(14), numpy.log(90))))
        # Cameras are 4:3 to 16:9, and the picture is stretched.
        stretch = float(rng.uniform(0.9, 1.3))
        x, y = rng.uniform(size * 0.3, WIDTH - size * 0.3), rng.uniform(size * 0.3, HEIGHT - size * 0.3)
        points = outline(kind, x, y, size, stretch, rng)
        (left, top), (right, bottom) = points.min(0), points.max(0)
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, WIDTH), min(bottom, HEIGHT)
        box = (kind, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        # Shapes may touch; those that hide each other teach nothing.
        if any(abs(box[1] - b[1]) < (box[3] + b[3]) * 0.4 and abs(box[2] - b[2]) < (box[4] + b[4]) * 0.4 for b in boxes):
            continue
        colour = rng.integers(0, 256, 3)
        around = picture[min(int(y), HEIGHT - 1), min(int(x), WIDTH - 1)].astype(int)
        if numpy.abs(colour - around).max() < 40:
            continue
        fixed = numpy.round(points * 16).astype(numpy.int32)
        cv2.fillPoly(picture, [fixed], colour.tolist(), cv2.LINE_AA, 4)
        boxes.append(box)
    # What a camera, an encoder and a scaler do to it.
    if rng.random() < 0.6:
        picture = picture + rng.normal(0, rng.uniform(0, 10), picture.shape)
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (3, 3), 0)
    picture = numpy.clip(picture, 0, 255).astype(numpy.uint8)
    if rng.random() < 0.4:
        coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])[1]
        picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return picture, boxes


def batch(rng):
    pictures = numpy.empty((BATCH, HEIGHT, WIDTH, 3), numpy.uint8)
    # Objectness: 1 at the middle, -1 beside it (which says nothing), else 0. Then offset, size and class.
    targets = numpy.zeros((BATCH, 6, ROWS, COLUMNS), numpy.float32)
    for index in range(BATCH):
        pictures[index], boxes = scene(rng)
        cells = targets[index]
        places = [(min(int(x / STRIDE), COLUMNS - 1), min(int(y / STRIDE), ROWS - 1)) for _, x, y, _, _ in boxes]
        for (_, _, _, w, h), (column, row) in zip(boxes, places):
            cells[0, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = -1
        for (kind, x, y, w, h), (column, row) in zip(boxes, places):
            cells[:, row, column] = 1, x / STRIDE - column, y / STRIDE - row, w / WIDTH, h / HEIGHT, kind
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(targets)


def loss_of(out, targets):
    objectness = targets[:, 0]
    counted = objectness >= 0
    cross = functional.binary_cross_entropy_with_logits(out[:, 0], objectness.clamp(0), reduction="none")
    probability = torch.exp(-cross)
    focal = ((1 - probability) ** 2 * cross * torch.where(objectness > 0, 4.0, 1.0))[counted].sum()
    here = objectness > 0
    count = here.sum().clamp(1)
    values, wanted = out.permute(0, 2, 3, 1)[here], targets.permute(0, 2, 3, 1)[here]
    offset = functional.l1_loss(values[:, 1:3].tanh(), wanted[:, 1:3], reduction="sum")
    # In logarithms: a pixel is more of a small box.
    size = functional.l1_loss(functional.logsigmoid(values[:, 3:5]), wanted[:, 3:5].clamp(1e-3).log(), reduction="sum")
    kind = functional.cross_entropy(values[:, 5:], wanted[:, 5].long(), reduction="sum")
    return (2 * focal + 2 * offset + 2 * size + kind) / count


def main():
    out, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rng = numpy.random.default_rng(SEED)
    model = Shapes()
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    began, sum_of_losses = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        pictures, targets = batch(rng)
        loss = loss_of(model(pictures), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        sum_of_losses += loss.item()
        if step % 100 == 0:
            print(f"{step} loss {sum_of_losses / 100:.3f}, {time.monotonic() - began:.0f} s", flush=True)
            sum_of_losses = 0.0
    model.eval()
    picture = torch.zeros(1, 3, HEIGHT, WIDTH)
    names = {"input_names": ["picture"], "output_names": ["cells"]}
    torch.onnx.export(Exported(model), picture, out, opset_version=17, dynamo=False, **names)
    describe(out)


def describe(path):
    import onnx

    model = onnx.load(path)
    for key, value in {
        "names": str(dict(enumerate(CLASSES))),
        "task": "detect",
        "description": "edgecam's demonstration: drawn shapes and nothing else",
    }.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, path)


if __name__ == "__main__":
    main()

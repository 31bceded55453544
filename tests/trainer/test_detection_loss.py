"""The detection loss: an example by hand, and an oracle of loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.config import DetectorConfig
from trainer.data.batches import Batch
from trainer.detection import DetectionObjective, detection_loss, make_grid
from trainer.detection.loss import assign

CONFIG = DetectorConfig()
LN2 = math.log(2)
NONE = [-1.0] * 6


def test_a_single_box_computed_by_hand():
    """A box of 16x30 pixels, the shape of the second anchor at stride 8, at (16, 12.8) in 32x32 pixels.

    Its centre is in column 2, row 1 of 4x4 cells, at 0 and 0.6 of the cell: prediction (1 * 4 + 2) * 3 + 1.
    """
    grid = make_grid(CONFIG, 32, 32)
    assert grid.predictions == 3 * (16 + 4 + 1)
    labels = torch.tensor([[[1.0, 0.5, 0.4, 0.5, 30 / 32, 1.0], NONE]])
    outputs = torch.zeros(1, 63, 7)
    outputs[0, 19, 2:4] = torch.tensor([0.5, -0.25])
    outputs[0, 19, 6] = 2.0
    small = 2 - 0.5 * 30 / 32
    expected = (
        63 * LN2  # objectness: all are undecided, and none overlaps the box by more than 0.7
        + small * 2 * LN2  # centre: an undecided prediction costs ln 2 whatever the target
        + small * (0.5 + 0.25)  # size: the target is 0, the logarithm of 1
        + LN2
        + math.log1p(math.exp(-2.0))  # classes: the first is undecided, the second, the right one, says 2
    )
    assert detection_loss(outputs, labels, grid, 0.7).item() == pytest.approx(expected, rel=1e-6)


def test_a_prediction_that_overlaps_the_box_without_being_chosen_is_not_taught_that_there_is_nothing():
    grid = make_grid(CONFIG, 32, 32)
    labels = torch.tensor([[[0.0, 0.5, 0.4, 0.5, 30 / 32, 1.0]]])
    outputs = torch.zeros(1, 63, 6, requires_grad=True)
    with torch.no_grad():
        outputs[0, 16, 0] = 20.0  # the second anchor of the cell to the left, its centre at the right border
    detection_loss(outputs, labels, grid, 0.7).backward()
    assert outputs.grad[0, 16, 4] == 0
    assert outputs.grad[0, 13, 4] == 0.5
    assert outputs.grad[0, 19, 4] == -0.5
    outputs.grad = None
    detection_loss(outputs, labels, grid, 0.99).backward()
    assert outputs.grad[0, 16, 4] == 0.5


def loss_by_loops(outputs: Tensor, labels: Tensor, height: int, width: int) -> float:
    """The loss of one image, box by box and prediction by prediction."""
    places = []  # stride, column, row, anchor of each prediction
    for stride, anchors in zip((8, 16, 32), CONFIG.anchors, strict=True):
        for row in range(height // stride):
            for column in range(width // stride):
                places += [(stride, column, row, anchor) for anchor in anchors]
    boxes = [box for box in labels.tolist() if box[0] >= 0]
    chosen = {}
    for kind, x, y, w, h, weight in boxes:
        size = (w * width, h * height)
        shapes = [anchor for anchors in CONFIG.anchors for anchor in anchors]
        best = max(shapes, key=lambda anchor: shape_overlap(size, anchor))
        for index, (stride, column, row, anchor) in enumerate(places):
            inside = column <= x * width / stride < column + 1 and row <= y * height / stride < row + 1
            if anchor == best and inside:
                chosen[index] = (kind, x, y, w, h, weight)
    total = 0.0
    for index, (values, (stride, column, row, anchor)) in enumerate(
        zip(outputs.tolist(), places, strict=True)
    ):
        tx, ty, tw, th, objectness, *classes = values
        if index not in chosen:
            box = (
                (column + sigmoid(tx)) * stride,
                (row + sigmoid(ty)) * stride,
                anchor[0] * math.exp(tw),
                anchor[1] * math.exp(th),
            )
            truths = [(x * width, y * height, w * width, h * height) for _, x, y, w, h, _ in boxes]
            if all(overlap(box, truth) <= 0.7 for truth in truths):
                total += entropy(objectness, 0.0)
            continue
        kind, x, y, w, h, weight = chosen[index]
        scale = 2 - w * h
        total += weight * entropy(objectness, 1.0)
        total += weight * scale * entropy(tx, x * width / stride - column)
        total += weight * scale * entropy(ty, y * height / stride - row)
        total += weight * scale * abs(tw - math.log(w * width / anchor[0]))
        total += weight * scale * abs(th - math.log(h * height / anchor[1]))
        total += weight * sum(entropy(value, float(i == kind)) for i, value in enumerate(classes))
    return total


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def entropy(logit, target):
    return -target * math.log(sigmoid(logit)) - (1 - target) * math.log(1 - sigmoid(logit))


def shape_overlap(first, second):
    shared = min(first[0], second[0]) * min(first[1], second[1])
    return shared / (first[0] * first[1] + second[0] * second[1] - shared)


def overlap(first, second):
    """Of boxes given by centre and size."""
    sides = [
        max(
            0.0,
            min(first[i] + first[i + 2] / 2, second[i] + second[i + 2] / 2)
            - max(first[i] - first[i + 2] / 2, second[i] - second[i + 2] / 2),
        )
        for i in range(2)
    ]
    shared = sides[0] * sides[1]
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.sampled_from([(32, 32), (64, 32), (32, 96)]))
def test_the_loss_is_that_of_an_oracle_of_loops(seed, count, size):
    generator = torch.Generator().manual_seed(seed)
    grid = make_grid(CONFIG, *size)
    labels = torch.full((2, count + 2, 6), -1.0, dtype=torch.float64)
    for image in labels:
        for row in image[:count]:
            x, y, w, h, weight = torch.rand(5, generator=generator).tolist()
            row[:] = torch.tensor(
                [float(int(torch.randint(0, 3, (), generator=generator))), x, y, w, h, weight]
            )
    outputs = torch.randn(2, grid.predictions, 8, generator=generator).double()
    expected = sum(loss_by_loops(*image, *size) for image in zip(outputs, labels, strict=True))
    assert detection_loss(outputs, labels, grid, 0.7).item() == pytest.approx(expected, rel=1e-5)


def test_of_two_boxes_that_want_the_same_prediction_the_later_gets_it():
    grid = make_grid(CONFIG, 64, 64)
    row = [0.5, 0.5, 0.15, 0.2, 1.0]
    labels = torch.tensor([[[0.0, *row], [1.0, *row], NONE, [2.0, 0.9, 0.9, 0.9, 0.9, 1.0]], [NONE] * 4])
    targets = assign(labels, grid)
    assert targets.images.tolist() == [0, 0]
    assert sorted(targets.classes.tolist()) == [1, 2]


def test_a_centre_on_the_right_border_belongs_to_the_last_cell():
    grid = make_grid(CONFIG, 32, 64)
    targets = assign(torch.tensor([[[0.0, 1.0, 1.0, 0.1, 0.2, 1.0]]]), grid)
    assert grid.cells[targets.predictions[0]].tolist() == [7.0, 3.0]
    assert targets.centres.tolist() == [[1.0, 1.0]]


def test_parts_of_a_batch_add_up_to_sums_over_images_divided_by_the_batch():
    generator = torch.Generator().manual_seed(0)
    grid = make_grid(CONFIG, 32, 32)
    labels = torch.tensor([[[0.0, 0.3, 0.6, 0.2, 0.2, 1.0]]]).repeat(4, 1, 1)
    outputs = torch.randn(4, grid.predictions, 6, generator=generator)
    batch = Batch(torch.zeros(4, 3, 32, 32), labels)
    objective = DetectionObjective(CONFIG, 4, 0.7)
    parts = zip(batch.split(2), outputs.chunk(2), strict=True)
    total = sum(objective.for_part(part)(outputs).item() for part, outputs in parts)
    by_image = [
        detection_loss(o[None], label[None], grid, 0.7).item()
        for o, label in zip(outputs, labels, strict=True)
    ]
    assert total == pytest.approx(sum(by_image) / 4, rel=1e-5)
    assert objective.for_part(batch)(outputs).item() == pytest.approx(sum(by_image) / 4, rel=1e-5)

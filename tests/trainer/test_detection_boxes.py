"""Decoding and non-maximum suppression, against oracles that go box by box."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import DetectorConfig
from trainer.detection import Detections, decode, make_grid
from trainer.detection.boxes import overlaps, shape_overlaps, to_centres, to_corners
from trainer.detection.decode import CANDIDATES, KEPT, MAX_OVERLAP, MIN_SCORE, suppress

CONFIG = DetectorConfig()

coordinates = st.integers(0, 1024).map(lambda value: value / 1024)


@st.composite
def some_boxes(draw, most=12):
    rows = draw(st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=most))
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in rows]
    return torch.tensor(boxes).reshape(-1, 4)


def overlap(first, second):
    """Intersection over union of two boxes, in Python's floats."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    union = areas[0] + areas[1] - shared
    return shared / union if union > 0 else 0.0


def suppressed(boxes, classes):
    """Greedy suppression, one box after the other."""
    kept = []
    for index, (box, kind) in enumerate(zip(boxes, classes, strict=True)):
        if all(kind != classes[other] or overlap(box, boxes[other]) <= MAX_OVERLAP for other in kept):
            kept.append(index)
    return kept


@given(some_boxes(), some_boxes())
def test_overlaps_are_intersections_over_unions(first, second):
    found = overlaps(first, second)
    assert found.shape == (len(first), len(second))
    for row, box in zip(found.tolist(), first.tolist(), strict=True):
        assert row == pytest.approx([overlap(box, other) for other in second.tolist()], abs=1e-5)


@given(some_boxes())
def test_a_box_overlaps_itself_whole_and_corners_and_centres_agree(boxes):
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    whole = overlaps(boxes, boxes).diagonal()[areas > 1e-6]
    assert torch.allclose(whole, torch.ones_like(whole))
    assert torch.allclose(to_corners(to_centres(boxes)), boxes, atol=1e-6)


def test_shapes_overlap_as_boxes_with_a_common_centre_do():
    sizes = torch.rand(5, 2, generator=torch.Generator().manual_seed(0)) + 0.1
    anchors = torch.rand(3, 2, generator=torch.Generator().manual_seed(1)) + 0.1
    centred = [to_corners(torch.cat([torch.zeros_like(x), x], dim=1)) for x in (sizes, anchors)]
    assert torch.allclose(shape_overlaps(sizes, anchors), overlaps(*centred))


@given(some_boxes(30), st.data())
def test_suppression_is_the_greedy_one(boxes, data):
    classes = data.draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes)))
    kept = suppress(boxes, torch.tensor(classes, dtype=torch.int64)).tolist()
    near = (abs(overlap(a, b) - MAX_OVERLAP) < 1e-5 for a in boxes.tolist() for b in boxes.tolist())
    if not any(near):
        assert kept == suppressed(boxes.tolist(), classes)
    for one in kept:
        for other in kept:
            if one != other and classes[one] == classes[other]:
                assert overlap(boxes[one].tolist(), boxes[other].tolist()) <= MAX_OVERLAP + 1e-5


def decoded_one_by_one(outputs, height, width):
    """Boxes of one image as (score, class, corners), before suppression, by loops."""
    found = []
    rows = iter(outputs.tolist())
    for stride, anchors in zip((8, 16, 32), CONFIG.anchors, strict=True):
        for row in range(height // stride):
            for column in range(width // stride):
                for anchor in anchors:
                    x, y, w, h, objectness, *classes = next(rows)
                    centre = ((column + sigmoid(x)) * stride, (row + sigmoid(y)) * stride)
                    half = (anchor[0] * math.exp(w) / 2, anchor[1] * math.exp(h) / 2)
                    corners = [
                        (centre[0] - half[0]) / width,
                        (centre[1] - half[1]) / height,
                        (centre[0] + half[0]) / width,
                        (centre[1] + half[1]) / height,
                    ]
                    scores = [sigmoid(objectness) * sigmoid(value) for value in classes]
                    found += [
                        (score, kind, corners) for kind, score in enumerate(scores) if score > MIN_SCORE
                    ]
    assert next(rows, None) is None
    return sorted(found, key=lambda item: -item[0])[:CANDIDATES]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(("height", "width", "shift"), [(64, 64, -1.0), (64, 96, 0.0), (32, 32, -9.0)])
def test_decoding_agrees_with_an_oracle_that_goes_one_by_one(height, width, shift):
    grid = make_grid(CONFIG, height, width)
    outputs = torch.randn(2, grid.predictions, 8, generator=torch.Generator().manual_seed(0)).double()
    outputs[..., 4] += shift
    for image, found in zip(outputs, decode(outputs, grid), strict=True):
        candidates = decoded_one_by_one(image, height, width)
        kept = suppressed([box for *_, box in candidates], [kind for _, kind, _ in candidates])[:KEPT]
        assert found.classes.tolist() == [candidates[index][1] for index in kept]
        assert found.scores.tolist() == pytest.approx([candidates[index][0] for index in kept])
        expected = torch.tensor([candidates[index][2] for index in kept]).reshape(-1, 4)
        assert torch.allclose(found.boxes.float(), expected, atol=1e-5)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 50))
def test_whatever_the_network_says_detections_are_few_sorted_and_finite(seed, scale):
    grid = make_grid(CONFIG, 64, 64)
    outputs = scale * torch.randn(1, grid.predictions, 7, generator=torch.Generator().manual_seed(seed))
    (found,) = decode(outputs, grid)
    assert isinstance(found, Detections)
    assert len(found.boxes) == len(found.scores) == len(found.classes) <= KEPT
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert ((found.scores > MIN_SCORE) & (found.scores <= 1)).all()
    assert found.boxes.isfinite().all()
    assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()

"""Average precision, where it can be computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.detection import AnnotatedImage, Detections, average_precisions
from trainer.detection.metrics import voc_average_precision

LEFT, RIGHT, AWAY = (0.0, 0.0, 0.4, 1.0), (0.5, 0.0, 0.9, 1.0), (0.45, 0.0, 0.49, 0.2)


def image(boxes, classes=None, ignored=None):
    count = len(boxes)
    return AnnotatedImage(
        Path("image.jpg"),
        (200, 100),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes or [0] * count, np.int64),
        np.array(ignored or [False] * count, np.bool_),
    )


def found(*rows):
    """Rows of (box, score, class)."""
    boxes = torch.tensor([box for box, *_ in rows]).reshape(-1, 4)
    return Detections(
        boxes,
        torch.tensor([row[1] for row in rows]),
        torch.tensor([row[2] for row in rows], dtype=torch.int64),
    )


def test_perfect_detections_score_one():
    images = [image([LEFT, RIGHT], [0, 1]), image([AWAY], [1])]
    scores = average_precisions(images, [found((LEFT, 0.9, 0), (RIGHT, 0.8, 1)), found((AWAY, 0.7, 1))], 2)
    assert (scores.ap50, scores.mean_ap, scores.voc_ap50) == pytest.approx((1.0, 1.0, 1.0))


def test_none_score_zero():
    scores = average_precisions([image([LEFT])], [found()], 1)
    assert (scores.ap50, scores.mean_ap, scores.voc_ap50) == (0.0, 0.0, 0.0)


def test_right_wrong_right_is_interpolated_at_11_and_at_101_recalls():
    """Precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1: up to recall 1/2 the best is 1, behind it 2/3."""
    detections = [found((LEFT, 0.9, 0), (AWAY, 0.8, 0), (RIGHT, 0.7, 0))]
    scores = average_precisions([image([LEFT, RIGHT])], detections, 1)
    assert scores.voc_ap50 == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert scores.ap50 == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_the_second_detection_of_an_object_is_wrong():
    detections = [found((LEFT, 0.9, 0), (LEFT, 0.8, 0), (RIGHT, 0.7, 0))]
    expected = (6 * 1 + 5 * 2 / 3) / 11
    assert voc_average_precision([image([LEFT, RIGHT])], detections, 1) == pytest.approx(expected)


def test_ignored_objects_count_neither_way():
    images = [image([LEFT, RIGHT], ignored=[False, True])]
    for rows in ([(LEFT, 0.5, 0), (RIGHT, 0.9, 0)], [(LEFT, 0.5, 0)]):
        scores = average_precisions(images, [found(*rows)], 1)
        assert (scores.ap50, scores.voc_ap50) == pytest.approx((1.0, 1.0))


def test_classes_that_do_not_occur_do_not_count():
    scores = average_precisions([image([LEFT], [2])], [found((LEFT, 0.9, 2), (RIGHT, 0.9, 1))], 4)
    assert (scores.ap50, scores.voc_ap50) == pytest.approx((1.0, 1.0))


def test_boxes_that_overlap_by_60_percent_count_at_half_but_not_at_higher_overlaps():
    moved = (0.1, 0.0, 0.5, 1.0)  # 0.3 of 0.5 is shared with LEFT
    scores = average_precisions([image([LEFT])], [found((moved, 0.9, 0))], 1)
    assert (scores.ap50, scores.voc_ap50) == pytest.approx((1.0, 1.0))
    assert scores.mean_ap == pytest.approx(0.2, abs=0.11)  # two or three of ten overlaps, by rounding

"""Average precision of detections: COCO's by pycocotools, and the 11-point one of VOC2007."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainer.detection.boxes import overlaps
from trainer.detection.decode import Detections
from trainer.detection.samples import AnnotatedImage

_MATCHING_OVERLAP = 0.5


@dataclass(frozen=True)
class DetectionScores:
    """Average precisions, 0..1, means over the classes that occur.

    `ap50` and `mean_ap` are COCO's (Lin et al., ECCV 2014) by pycocotools, at an overlap of 0.5 and averaged
    over 0.5 to 0.95. `voc_ap50` is that of VOC2007 (Everingham et al., IJCV 2010) at 0.5: the precision at 11
    recalls, as GluonCV reports it for VOC.
    """

    ap50: float
    mean_ap: float
    voc_ap50: float


def average_precisions(
    images: Sequence[AnnotatedImage], detections: Sequence[Detections], classes: int
) -> DetectionScores:
    """Score the detections of each of the images.

    What finds an ignored object counts neither for nor against; COCO compares it with crowds by its own area.
    """
    mean_ap, ap50 = _coco(images, detections, classes)
    return DetectionScores(ap50, mean_ap, voc_average_precision(images, detections, classes))


def _coco(
    images: Sequence[AnnotatedImage], detections: Sequence[Detections], classes: int
) -> tuple[float, float]:
    """Mean AP and AP50."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations: list[dict[str, Any]] = []
    rows = []
    for number, (image, found) in enumerate(zip(images, detections, strict=True), 1):
        scale = np.array([*image.size, *image.size], np.float64)
        for box, kind, ignored in zip(_sides(image.boxes) * scale, image.classes, image.ignored, strict=True):
            annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": int(kind)}
            area = float(box[2] * box[3])
            annotations.append(annotation | {"bbox": box.tolist(), "area": area, "iscrowd": int(ignored)})
        boxes = _sides(found.boxes.cpu().numpy()) * scale
        values = (found.scores.cpu().numpy()[:, None], found.classes.cpu().numpy()[:, None])
        rows.append(np.concatenate([np.full((len(boxes), 1), number), boxes, *values], axis=1))
    found_rows = np.concatenate(rows)
    if not len(found_rows):
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": number} | _size(image) for number, image in enumerate(images, 1)],
            "categories": [{"id": kind} for kind in range(classes)],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found_rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    mean_ap, ap50 = (max(0.0, float(value)) for value in evaluation.stats[:2])
    return mean_ap, ap50


def _sides(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Corners to left, top, width, height."""
    sides: npt.NDArray[np.float64] = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    return sides.astype(np.float64)


def _size(image: AnnotatedImage) -> dict[str, int]:
    return {"width": image.size[0], "height": image.size[1]}


def voc_average_precision(
    images: Sequence[AnnotatedImage], detections: Sequence[Detections], classes: int
) -> float:
    """Mean over the classes that occur of the 11-point interpolated average precision, as in VOC2007.

    Detections are matched from the surest on, each to the object of its class that it overlaps most, by 0.5
    or more; the second one of an object is wrong.
    """
    precisions = [_class_precision(images, detections, kind) for kind in range(classes)]
    known = [precision for precision in precisions if precision is not None]
    return float(np.mean(known)) if known else 0.0


def _class_precision(
    images: Sequence[AnnotatedImage], detections: Sequence[Detections], kind: int
) -> float | None:
    """None where there is no such object to find."""
    matches: list[tuple[float, bool]] = []
    objects = 0
    for image, found in zip(images, detections, strict=True):
        wanted, own = image.classes == kind, found.classes == kind
        ignored = image.ignored[wanted]
        objects += int((~ignored).sum())
        shared = overlaps(found.boxes[own].cpu(), torch.from_numpy(image.boxes[wanted])).numpy()
        taken = np.zeros(len(ignored), np.bool_)
        for score, row in zip(found.scores[own].tolist(), shared, strict=True):
            best = int(row.argmax()) if len(row) else -1
            hit = best >= 0 and row[best] >= _MATCHING_OVERLAP
            if hit and ignored[best]:
                continue
            matches.append((score, bool(hit and not taken[best])))
            if hit:
                taken[best] = True
    if not objects:
        return None
    right = np.array([hit for _, hit in sorted(matches, key=lambda match: -match[0])], np.bool_)
    found_so_far = right.cumsum()
    recall = found_so_far / objects
    precision = found_so_far / np.arange(1, len(right) + 1)
    levels = [precision[recall >= level - 1e-9] for level in np.linspace(0.0, 1.0, 11)]
    return float(np.mean([level.max() if len(level) else 0.0 for level in levels]))

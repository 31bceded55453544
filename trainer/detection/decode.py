"""From a detector's raw outputs to boxes; on the host, for the float and the int8 network alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.detection.boxes import overlaps, to_corners
from trainer.detection.grid import BOX_VALUES, Grid

MIN_SCORE = 0.01
MAX_OVERLAP = 0.45
CANDIDATES = 400
KEPT = 100

_LARGEST_LOG = 10.0  # of a size relative to its anchor: keeps boxes finite


@dataclass(frozen=True)
class Detections:
    """What was found in one image, the surest first.

    `boxes` float [K, 4]: left, top, right, bottom as shares of the image, which they may leave; `scores`
    float [K], 0..1; `classes` int64 [K].
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


def predicted_boxes(outputs: Tensor, grid: Grid) -> Tensor:
    """Raw outputs [..., P, 5 + classes] to boxes [..., P, 4] in pixels: left, top, right, bottom.

    The centre is the sigmoid of the raw one within the cell; the size is the anchor's times the exponential.
    """
    centres = (outputs[..., :2].sigmoid() + grid.cells) * grid.strides
    sizes = outputs[..., 2:4].clamp(max=_LARGEST_LOG).exp() * grid.anchors
    return to_corners(torch.cat([centres, sizes], dim=-1))


@torch.no_grad()
def decode(outputs: Tensor, grid: Grid) -> list[Detections]:
    """The detections of each image, from raw outputs float [N, P, 5 + classes].

    A score is that of the class times the objectness. Of each image, the 400 best scores above 0.01 take part
    in the suppression, and 100 are kept (as GluonCV does).
    """
    boxes = predicted_boxes(outputs, grid) / grid.size.repeat(2)
    scores = outputs[..., 4:5].sigmoid() * outputs[..., BOX_VALUES:].sigmoid()
    return [_best(*image) for image in zip(boxes, scores, strict=True)]


def _best(boxes: Tensor, scores: Tensor) -> Detections:
    classes = scores.shape[1]
    candidates = (scores.flatten() > MIN_SCORE).nonzero()[:, 0]
    values, order = scores.flatten()[candidates].sort(descending=True, stable=True)
    chosen = candidates[order[:CANDIDATES]]
    values = values[:CANDIDATES]
    kinds = chosen % classes
    boxes = boxes[chosen // classes]
    kept = suppress(boxes, kinds)[:KEPT]
    return Detections(boxes[kept], values[kept], kinds[kept])


def suppress(boxes: Tensor, classes: Tensor, max_overlap: float = MAX_OVERLAP) -> Tensor:
    """Greedy non-maximum suppression: the indices of the boxes that stay, int64, in order.

    `boxes` float [K, 4] are corners, the surest first; `classes` int64 [K]. A box goes where one of its class
    that stays, and that is surer, overlaps it by more than `max_overlap` (IoU).
    """
    rivals = (overlaps(boxes, boxes) > max_overlap) & (classes[:, None] == classes[None])
    rivals = rivals.cpu()
    gone = torch.zeros(len(boxes), dtype=torch.bool)
    kept = []
    for index in range(len(boxes)):
        if not gone[index]:
            kept.append(index)
            gone |= rivals[index]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)

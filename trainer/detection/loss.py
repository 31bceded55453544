"""What a detector is trained for: the YOLOv3 loss as GluonCV has it, summed over each image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from trainer.config import DetectorConfig
from trainer.data.batches import Batch
from trainer.detection.boxes import overlaps, shape_overlaps, to_corners
from trainer.detection.decode import predicted_boxes
from trainer.detection.grid import ANCHORS_PER_CELL, BOX_VALUES, Grid, make_grid
from trainer.objectives import BatchLoss

BOX_COLUMNS = 6
"""Of a label: class (-1: no box), centre x and y, width, height as shares of the image, weight."""


@dataclass(frozen=True)
class Targets:
    """The predictions that shall find a box, and what they shall say; B boxes of all images together.

    `images`, `predictions`, `classes` int64 [B]; `centres` float [B, 2] within the cell, 0..1; `sizes` float
    [B, 2]: logarithm relative to the anchor; `weights` float [B] of the box, `scales` float [B]: 2 less the
    box's share of the image, by which centre and size count more for small boxes.
    """

    images: Tensor
    predictions: Tensor
    classes: Tensor
    centres: Tensor
    sizes: Tensor
    weights: Tensor
    scales: Tensor


def assign(labels: Tensor, grid: Grid) -> Targets:
    """Choose a prediction for each box of labels float [N, boxes, 6].

    It is the one of the cell in which the box's centre lies whose anchor, of all nine, has the shape most
    like the box (by the IoU with a common centre). Where two boxes want the same one, the later gets it.
    """
    images, indices = (labels[..., 0] >= 0).nonzero(as_tuple=True)
    rows = labels[images, indices]
    sizes = rows[:, 3:5] * grid.size
    centres = rows[:, 1:3] * grid.size
    shapes = torch.cat([grid.anchors[start : start + ANCHORS_PER_CELL] for start in grid.starts])
    best = shape_overlaps(sizes, shapes).argmax(dim=1)
    starts, columns = (torch.tensor(x, device=labels.device) for x in (grid.starts, grid.columns))
    level, anchor = best // ANCHORS_PER_CELL, best % ANCHORS_PER_CELL
    strides = grid.strides[starts[level]]
    extent = (grid.size / strides).long()
    cells = torch.minimum((centres / strides).long(), extent - 1)
    places = cells[:, 1] * columns[level] + cells[:, 0]
    predictions = starts[level] + places * ANCHORS_PER_CELL + anchor
    last = _last_of_each(images * grid.predictions + predictions)
    within = (centres / strides - cells)[last]
    logarithms = (sizes / shapes[best]).clamp(min=1e-6).log()[last]
    return Targets(
        images[last],
        predictions[last],
        rows[last, 0].long(),
        within,
        logarithms,
        rows[last, 5],
        2.0 - rows[last, 3] * rows[last, 4],
    )


def _last_of_each(keys: Tensor) -> Tensor:
    """Indices, ascending, of the elements of int64 [B] that do not come again behind."""
    _, inverse = torch.unique(keys, return_inverse=True)
    order = torch.arange(len(keys), device=keys.device)
    last = torch.zeros(int(inverse.max()) + 1 if len(keys) else 0, dtype=torch.int64, device=keys.device)
    return last.scatter_reduce(0, inverse, order, "amax", include_self=False).sort().values


def detection_loss(outputs: Tensor, labels: Tensor, grid: Grid, ignore_overlap: float) -> Tensor:
    """Sum over images of the loss of raw outputs [N, P, 5 + classes] for labels float [N, boxes, 6].

    Binary cross-entropies of objectness, centre and classes, and the absolute difference of the size; centre
    and size are scaled by 2 less the box's share of the image. All are sums over predictions. Predictions
    that overlap any box by more than `ignore_overlap` and are not chosen for one have no objectness to learn.
    """
    targets = assign(labels, grid)
    chosen = outputs[targets.images, targets.predictions]
    entropy = functional.binary_cross_entropy_with_logits
    scales = (targets.weights * targets.scales)[:, None]
    classes = functional.one_hot(targets.classes, outputs.shape[2] - BOX_VALUES).to(outputs.dtype)
    found = outputs.new_zeros(outputs.shape[:2])
    found[targets.images, targets.predictions] = 1.0
    weights = (~_overlapping(outputs, labels, grid, ignore_overlap)).to(outputs.dtype)
    weights[targets.images, targets.predictions] = targets.weights
    return (
        entropy(outputs[..., 4], found, weights, reduction="sum")
        + (scales * entropy(chosen[:, :2], targets.centres, reduction="none")).sum()
        + (scales * (chosen[:, 2:4] - targets.sizes).abs()).sum()
        + (targets.weights[:, None] * entropy(chosen[:, BOX_VALUES:], classes, reduction="none")).sum()
    )


@torch.no_grad()
def _overlapping(outputs: Tensor, labels: Tensor, grid: Grid, threshold: float) -> Tensor:
    """Which predictions, bool [N, P], overlap any box of their image by more than `threshold`."""
    found = []
    for image, rows in zip(outputs, labels, strict=True):
        boxes = to_corners(rows[rows[:, 0] >= 0, 1:5] * grid.size.repeat(2))
        if len(boxes):
            found.append((overlaps(predicted_boxes(image, grid), boxes) > threshold).any(dim=1))
        else:
            found.append(torch.zeros(len(image), dtype=torch.bool, device=image.device))
    return torch.stack(found)


class DetectionObjective:
    """The detection loss of each batch, whatever the size of its images."""

    def __init__(self, detector: DetectorConfig, batch_size: int, ignore_overlap: float) -> None:
        self._detector = detector
        self._batch_size = batch_size
        self._ignore_overlap = ignore_overlap

    def start_epoch(self, epoch: int) -> None:
        """Every epoch is alike."""

    def for_part(self, batch: Batch) -> BatchLoss:
        """The same for all networks."""
        height, width = batch.images.shape[2:]
        grid = _grid(self._detector, height, width, str(batch.images.device))

        def loss(outputs: Tensor, *, augmented: bool = False) -> Tensor:  # noqa: ARG001
            total = detection_loss(outputs.float(), batch.labels, grid, self._ignore_overlap)
            return total / self._batch_size

        return loss


@lru_cache(maxsize=32)
def _grid(config: DetectorConfig, height: int, width: int, device: str) -> Grid:
    return make_grid(config, height, width, device)

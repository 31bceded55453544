"""Where the predictions of a detector stand: their cells and anchors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config import DetectorConfig
from trainer.detection.backbone import STRIDES

ANCHORS_PER_CELL = 3
BOX_VALUES = 5
"""Of a prediction: centre x and y, width, height and objectness, before the scores of the classes."""


@dataclass(frozen=True)
class Grid:
    """Cells and anchors of all predictions P for images of one size, in the order of the detector's outputs.

    `cells` float [P, 2]: column and row; `strides` float [P, 1]: pixels of a cell's side; `anchors` float
    [P, 2]: width and height in pixels; `starts`: the index of the first prediction of each stride; `columns`:
    cells in a row at each stride; `size`: (width, height) of the image in pixels, float [2].
    """

    cells: Tensor
    strides: Tensor
    anchors: Tensor
    starts: tuple[int, ...]
    columns: tuple[int, ...]
    size: Tensor

    @property
    def predictions(self) -> int:
        """P."""
        return len(self.cells)


def make_grid(config: DetectorConfig, height: int, width: int, device: torch.device | str = "cpu") -> Grid:
    """The grid for images of height x width pixels, both multiples of 32."""
    cells, strides, anchors, starts, columns = [], [], [], [], []
    start = 0
    for stride, boxes in zip(STRIDES, config.anchors, strict=True):
        rows, across = height // stride, width // stride
        y, x, anchor = torch.meshgrid(
            torch.arange(rows), torch.arange(across), torch.arange(len(boxes)), indexing="ij"
        )
        cells.append(torch.stack([x, y], dim=-1).reshape(-1, 2).float())
        anchors.append(torch.tensor(boxes, dtype=torch.float32)[anchor.reshape(-1)])
        strides.append(torch.full((len(cells[-1]), 1), float(stride)))
        starts.append(start)
        columns.append(across)
        start += len(cells[-1])
    return Grid(
        torch.cat(cells).to(device),
        torch.cat(strides).to(device),
        torch.cat(anchors).to(device),
        tuple(starts),
        tuple(columns),
        torch.tensor([float(width), float(height)], device=device),
    )

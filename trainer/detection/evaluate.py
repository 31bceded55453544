"""How well a detector does, whatever computes its raw outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainer.config import DetectorConfig
from trainer.data.dataset import normalise
from trainer.detection.dataset import DetectionDataset
from trainer.detection.decode import Detections, decode
from trainer.detection.grid import make_grid
from trainer.detection.metrics import DetectionScores, average_precisions
from trainer.detection.samples import AnnotatedImage

Answer = Callable[[Tensor], Tensor]
"""Float images [N, C, H, W], normalised, to raw outputs [N, P, 5 + classes]: a network, or its int8 model."""


@torch.inference_mode()
def detect(
    answer: Answer,
    config: DetectorConfig,
    dataset: DetectionDataset,
    images: Sequence[AnnotatedImage],
    device: str = "cpu",
) -> list[Detections]:
    """The detections of each of the images, stretched to the dataset's input shape."""
    _, height, width = dataset.input_shape
    grid = make_grid(config, height, width, device)
    found = []
    for pixels in dataset.pixels(images):
        batch = normalise(torch.from_numpy(pixels).to(device), dataset.mean, dataset.std)
        found += decode(answer(batch).float(), grid)
    return found


def score_outputs(
    outputs: Tensor, config: DetectorConfig, dataset: DetectionDataset, images: Sequence[AnnotatedImage]
) -> DetectionScores:
    """Average precisions of raw outputs float [N, P, 5 + classes], those of each of the images."""
    _, height, width = dataset.input_shape
    grid = make_grid(config, height, width, "cpu")
    return average_precisions(images, decode(outputs, grid), len(dataset.class_names))


def evaluate_detector(
    answer: Answer,
    config: DetectorConfig,
    dataset: DetectionDataset,
    images: Sequence[AnnotatedImage] | None = None,
    device: str = "cpu",
) -> DetectionScores:
    """Average precisions on `images`, by default all test images of the dataset.

    `answer` is a network in eval mode, or anything else that gives its raw outputs, such as the int8 model
    with dequantized outputs.
    """
    chosen = dataset.test_images if images is None else images
    return average_precisions(
        chosen, detect(answer, config, dataset, chosen, device), len(dataset.class_names)
    )

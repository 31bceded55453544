"""Detection of objects."""

from __future__ import annotations

import logging

from torch import Tensor, nn

from common.errors import ConfigError
from trainer.config import DataConfig, ModelConfig, TrainConfig
from trainer.detection import DetectionObjective, DetectionScores, evaluate_detector, load_detection
from trainer.objectives import Objective
from trainer.tasks.dataset_task import DatasetTask

_log = logging.getLogger(__name__)

_TRAIN_IMAGES = 500


class Detection(DatasetTask):
    """COCO's average precision at an overlap of 0.5, on all test images and on up to 500 training images."""

    metric = "AP50"

    def __init__(
        self, data: DataConfig, model: ModelConfig, train: TrainConfig, rank: int = 0, ranks: int = 1
    ) -> None:
        assert model.detector is not None
        if train.objective != TrainConfig.model_fields["objective"].default:
            raise ConfigError(
                f"train.objective {train.objective!r} is for classification: a detector has its own loss"
            )
        self._detector = model.detector
        self._device = train.device
        self._logged: DetectionScores | None = None
        self._dataset = load_detection(data)
        super().__init__(self._dataset, model, train, rank, ranks)
        self.objective: Objective = DetectionObjective(
            self._detector, train.batch_size, train.detection.ignore_overlap
        )

    def hits(self, outputs: Tensor, labels: Tensor) -> None:
        """A batch has none: precision is that of many images together."""

    def score(self, network: nn.Module) -> float:
        """AP50 on the test images; the other average precisions are logged."""
        scores = evaluate_detector(network, self._detector, self._dataset, device=self._device)
        if scores != self._logged:  # the last epoch's network is often the final one
            self._logged = scores
            _log.info(
                "test split: AP50 %.1f %%, mAP %.1f %%, VOC2007's 11-point AP50 %.1f %%",
                100 * scores.ap50,
                100 * scores.mean_ap,
                100 * scores.voc_ap50,
            )
        return scores.ap50

    def train_score(self, network: nn.Module) -> float:
        """AP50 on the first training images."""
        images = self._dataset.train_images[:_TRAIN_IMAGES]
        return evaluate_detector(network, self._detector, self._dataset, images, self._device).ap50

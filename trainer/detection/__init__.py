"""Object detection: YOLOv3 heads on networks of the zoo, their loss, data and scores."""

from __future__ import annotations

from trainer.detection import coco, voc
from trainer.detection.batches import DetectionBatches
from trainer.detection.dataset import DetectionDataset, load_detection
from trainer.detection.decode import Detections, decode
from trainer.detection.evaluate import detect, evaluate_detector, score_outputs
from trainer.detection.grid import Grid, make_grid
from trainer.detection.loss import DetectionObjective, detection_loss
from trainer.detection.metrics import DetectionScores, average_precisions
from trainer.detection.network import Detector, build_detector
from trainer.detection.samples import (
    DETECTION_DATASETS,
    AnnotatedImage,
    DetectionSamples,
)

__all__ = [
    "DETECTION_DATASETS",
    "AnnotatedImage",
    "DetectionBatches",
    "DetectionDataset",
    "DetectionObjective",
    "DetectionSamples",
    "DetectionScores",
    "Detections",
    "Detector",
    "Grid",
    "average_precisions",
    "build_detector",
    "decode",
    "detect",
    "detection_loss",
    "evaluate_detector",
    "load_detection",
    "make_grid",
    "score_outputs",
]

DETECTION_DATASETS.register("voc", voc.load)
DETECTION_DATASETS.register("coco", coco.load)

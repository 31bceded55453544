"""What a network is trained to do with a batch."""

from trainer.objectives.base import OBJECTIVES, BatchLoss, Objective, ObjectiveContext
from trainer.objectives.cross_entropy import CrossEntropy

__all__ = ["OBJECTIVES", "BatchLoss", "Objective", "ObjectiveContext"]

OBJECTIVES.register("cross_entropy", CrossEntropy)

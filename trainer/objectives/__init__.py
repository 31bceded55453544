"""What a network is trained to do with a batch."""

from trainer.objectives.base import OBJECTIVES, BatchLoss, Objective, ObjectiveContext
from trainer.objectives.cross_entropy import CrossEntropy
from trainer.objectives.distillation import kd, rco_kd, tf_kd_reg, tf_kd_self

__all__ = ["OBJECTIVES", "UNTAUGHT", "BatchLoss", "Objective", "ObjectiveContext"]

UNTAUGHT = frozenset({"cross_entropy", "tf_kd_reg"})
"""Objectives that no network teaches."""

OBJECTIVES.register("cross_entropy", CrossEntropy)
OBJECTIVES.register("kd", kd)
OBJECTIVES.register("rco_kd", rco_kd)
OBJECTIVES.register("tf_kd_self", tf_kd_self)
OBJECTIVES.register("tf_kd_reg", tf_kd_reg)

"""Knowledge distillation: a network also learns from the probabilities that a teacher gives.

All objectives here are a weighted sum of the cross-entropy against the labels, smoothed as without a
teacher, and of T^2 * CE(softmax(teacher / T), student / T) (Hinton et al., 2015), whose gradient is that of
T^2 times the Kullback-Leibler divergence. NetAug's wider networks learn by the same sum unless `tiny_only`
is set, NetBooster's giant in all phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from common.errors import ConfigError
from trainer.data.batches import Batch
from trainer.objectives.base import BatchLoss, ObjectiveContext
from trainer.objectives.cross_entropy import CrossEntropy
from trainer.objectives.teacher import Teacher


class Source(Protocol):
    """Where the probabilities come from that are taught."""

    def start_epoch(self, epoch: int) -> None:
        """Told of every epoch, counted from 0."""

    def probabilities(self, batch: Batch, temperature: float) -> Tensor:
        """Softened probabilities [N, classes] for a batch; threads call this at the same time."""


class Distillation:
    """The labels' loss times `label_weight`, plus the taught one times `teacher_weight` T^2.

    Labels are int64 [N] or shares of classes float32 [N, classes].
    """

    def __init__(
        self,
        context: ObjectiveContext,
        source: Source,
        *,
        label_weight: float,
        teacher_weight: float,
        temperature: float,
    ) -> None:
        self._labels = CrossEntropy(context)
        self._source = source
        self._size = context.train.batch_size
        self._tiny_only = context.train.distillation.tiny_only
        self._label_weight = label_weight
        self._teacher_weight = teacher_weight * temperature**2
        self._temperature = temperature

    def start_epoch(self, epoch: int) -> None:
        """Let the source know."""
        self._source.start_epoch(epoch)

    def for_part(self, batch: Batch) -> BatchLoss:
        """Ask the source once, whichever networks learn from the part."""
        from_labels = self._labels.for_part(batch)
        targets = self._source.probabilities(batch, self._temperature)

        def loss(outputs: Tensor, *, augmented: bool = False) -> Tensor:
            labelled = from_labels(outputs, augmented=augmented)
            if augmented and self._tiny_only:
                return labelled
            taught = functional.cross_entropy(outputs / self._temperature, targets, reduction="sum")
            return self._label_weight * labelled + self._teacher_weight * taught / self._size

        return loss


class Route:
    """Trained networks, each of which teaches from its epoch in `starts` on until the next one does."""

    def __init__(self, teachers: Sequence[Teacher], starts: Sequence[int] = (0,)) -> None:
        self._teachers = teachers
        self._starts = starts
        self.teacher = teachers[0]

    def start_epoch(self, epoch: int) -> None:
        """Choose the last one whose epoch has come."""
        self.teacher = self._teachers[sum(start <= epoch for start in self._starts) - 1]

    def probabilities(self, batch: Batch, temperature: float) -> Tensor:
        """The teacher's."""
        return (self.teacher(batch.images) / temperature).softmax(1)


class VirtualTeacher:
    """Gives the right class `correct_probability`, all others equal shares of the rest, then softened.

    Softened is p^(1 / T), normalised, as of any teacher's probabilities p.
    """

    def __init__(self, correct_probability: float, classes: int) -> None:
        self._correct = correct_probability
        self._classes = classes

    def start_epoch(self, epoch: int) -> None:
        """Every epoch is alike."""

    def probabilities(self, batch: Batch, temperature: float) -> Tensor:
        """Those of the labels; of mixed images, those of both in their shares."""
        others = max(self._classes - 1, 1)
        right = self._correct ** (1.0 / temperature)
        wrong = ((1.0 - self._correct) / others) ** (1.0 / temperature)
        total = right + others * wrong
        labels = batch.labels
        shares = functional.one_hot(labels, self._classes).float() if labels.ndim == 1 else labels
        probabilities: Tensor = wrong / total + (right - wrong) / total * shares
        return probabilities


def kd(context: ObjectiveContext) -> Distillation:
    """Make CE(labels) + weight T^2 CE(softmax(teacher / T), student / T) (Hinton et al., 2015).

    Weight and temperature are 1 where they are not given, as in once-for-all's code.
    """
    return _distillation(context, Route([_one_teacher(context)]))


def rco_kd(context: ObjectiveContext) -> Distillation:
    """Make "kd" by checkpoints along one teacher's training, one after the other (Jin et al., ICCV 2019).

    The early, weaker ones are easier to follow. The paper takes them at equal distances in epochs, or chooses
    them greedily; which, and when each takes over, is the configuration's.
    """
    starts = _starts(context)
    teachers = [Teacher(folder, context) for folder in context.train.distillation.teachers]
    return _distillation(context, Route(teachers, starts))


def tf_kd_self(context: ObjectiveContext) -> Distillation:
    """Make Tf-KD_self (Yuan et al., CVPR 2020): the teacher is a copy of the network, trained before.

    (1 - weight) CE(labels) + weight T^2 CE(softmax(teacher / T), student / T); weight 0.95 and temperature 6
    where they are not given, as in the authors' code.
    """
    source = Route([_one_teacher(context)])
    return _distillation(context, source, weight=0.95, temperature=6.0, convex=True)


def tf_kd_reg(context: ObjectiveContext) -> Distillation:
    """Make Tf-KD_reg (Yuan et al., CVPR 2020): as Tf-KD_self, with a virtual teacher.

    Weight 0.1 and temperature 20 where they are not given, as theirs for ImageNet. (The authors' code softens
    by a softmax of p / T instead, and scales the loss by a factor per network in the place of T^2.)
    """
    config = context.train.distillation
    source = VirtualTeacher(config.correct_probability, len(context.class_names))
    return _distillation(context, source, weight=0.1, temperature=20.0, convex=True)


def _distillation(
    context: ObjectiveContext,
    source: Source,
    *,
    weight: float = 1.0,
    temperature: float = 1.0,
    convex: bool = False,
) -> Distillation:
    """The configured weight and temperature, or these defaults; `convex` leaves the labels 1 - weight."""
    config = context.train.distillation
    weight = weight if config.weight is None else config.weight
    if convex and weight > 1.0:
        raise ConfigError(
            f"train.distillation.weight {weight} must be at most 1 for teacher-free distillation: "
            "the labels get the rest"
        )
    return Distillation(
        context,
        source,
        label_weight=1.0 - weight if convex else 1.0,
        teacher_weight=weight,
        temperature=config.temperature or temperature,
    )


def _one_teacher(context: ObjectiveContext) -> Teacher:
    config = context.train.distillation
    if config.teacher is None or config.teachers:
        raise ConfigError(
            f'train.objective "{context.train.objective}" needs one train.distillation.teacher: '
            "the folder of a trained network (runs/NAME/train)"
        )
    return Teacher(config.teacher, context)


def _starts(context: ObjectiveContext) -> list[int]:
    """The first epoch of each teacher."""
    config, epochs = context.train.distillation, context.train.epochs
    count = len(config.teachers)
    if not count or config.teacher is not None:
        raise ConfigError(
            'train.objective "rco_kd" needs train.distillation.teachers, and no teacher: a list of '
            "checkpoints of a teacher's training (runs/NAME/train/checkpoints/epoch_010, ...; "
            "train.keep_every keeps them)"
        )
    if config.switch_epochs is None:
        starts = [index * epochs // count for index in range(count)]
    else:
        starts = [0, *config.switch_epochs]
    rising = all(before < after for before, after in pairwise([*starts, epochs]))
    if len(starts) != count or not rising:
        raise ConfigError(
            f"train.distillation: the {count} teachers start in epochs {starts} of {epochs}: each needs an "
            "epoch of its own, in rising order (switch_epochs has one for each teacher but the first)"
        )
    return starts

"""The `[train]` section of a configuration, and those of what is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from trainer.config.methods import NetAugConfig, NetBoosterConfig, RocketLaunchConfig
from trainer.config.section import Section


class DetectionConfig(Section):
    """How a detector is trained: sizes of the images, their variation, and the loss.

    Every `size_every` batches, images are resized to another of `sizes`, sides that are multiples of 32; none
    means the network's own resolution. `expand`, `crop`, `colour` and `flip` vary images and their boxes.
    `mixup` is the probability that an image is blended with another one, of Beta(1.5, 1.5), not in the last
    `no_mixup_epochs` (Zhang et al., 2019). Predictions that overlap a box by more than `ignore_overlap` (IoU)
    without being chosen for it are not taught that there is nothing.
    """

    sizes: tuple[Annotated[int, Field(ge=32, le=4096, multiple_of=32)], ...] = ()
    size_every: PositiveInt = 10
    colour: bool = True
    expand: bool = True
    crop: bool = True
    flip: bool = True
    mixup: Annotated[float, Field(ge=0, le=1)] = 0.0
    no_mixup_epochs: Annotated[int, Field(ge=0)] = 20
    ignore_overlap: Annotated[float, Field(gt=0, le=1)] = 0.7


class DistillationConfig(Section):
    """Who teaches the tiny network, for the objectives "kd", "rco_kd", "tf_kd_self" and "tf_kd_reg".

    `teacher` is a folder with a trained network (model.json and model.safetensors); `teachers` are several,
    from the first one that teaches to the last, each from its epoch in `switch_epochs` on (None: equal shares
    of the training). `weight` and `temperature` None are the objective's own. `tiny_only` lets wider networks
    that train with the tiny one learn from labels alone. `correct_probability` is the virtual teacher's.
    """

    teacher: Path | None = None
    teachers: tuple[Path, ...] = ()
    switch_epochs: tuple[PositiveInt, ...] | None = None
    weight: Annotated[float, Field(ge=0)] | None = None
    temperature: PositiveFloat | None = None
    tiny_only: bool = False
    correct_probability: Annotated[float, Field(gt=0, lt=1)] = 0.99

    @property
    def all_teachers(self) -> tuple[Path, ...]:
        """The one, and the several."""
        return ((self.teacher,) if self.teacher else ()) + self.teachers


class RegularisationConfig(Section):
    """What is dropped at random from the trained network.

    `dropout` is the probability for each feature before the classifier. `dropblock` is the share of the
    values that are dropped behind the blocks of the last two resolutions, in squares of `dropblock_size`
    pixels (Ghiasi et al., NeurIPS 2018); it rises from 0 linearly over the first `dropblock_epochs` (None:
    all; 0: at once).
    """

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dropblock: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dropblock_size: PositiveInt = 7
    dropblock_epochs: Annotated[int, Field(ge=0)] | None = None


class TrainConfig(Section):
    """The recipe: SGD with Nesterov momentum, or Adam; linear warm-up per step, cosine to 0.

    `initial` is the folder of an earlier training (its train/ folder) whose weights this one starts from.
    Those that do not fit, like a classifier of other classes, are left out.

    With `drop_epochs`, the rate is constant instead of a cosine, and multiplied by `drop_factor` after each
    of these numbers of epochs.

    `epochs` includes `warmup_epochs`. `images_per_epoch` makes epochs of another length than the training
    set's: its images come once more in a new order, or not all in each epoch. A checkpoint is written every
    `checkpoint_every` epochs, the network evaluated every `evaluate_every`; the last epoch always is. With
    `keep_every`, the tiny network is kept in checkpoints/ every so many epochs.

    `workers` threads share each batch, which is normalised in as many parts; each uses `threads` threads
    inside of operators (None: PyTorch's own number). Small networks train fastest with workers of 1 thread.

    Several processes (torchrun, accelerate launch) share each batch likewise: `batch_size` is that of all.
    `accumulate` parts of a worker's share are computed one after the other, to need less memory. A process
    that waits for the others longer than `timeout` seconds gives up.

    `precision` is that of matrix products and convolutions in training; weights stay float32. With `ema`, a
    moving average of the weights with this decay, which starts lower, is evaluated and saved. `compile`
    trains the network by torch.compile.
    """

    method: str = "plain"
    objective: str = "cross_entropy"
    initial: Path | None = None
    epochs: PositiveInt = 10
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    images_per_epoch: PositiveInt | None = None
    batch_size: Annotated[int, Field(ge=2)] = 128
    learning_rate: PositiveFloat = 0.1
    warmup_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    drop_epochs: tuple[PositiveInt, ...] = ()
    drop_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 4e-5
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["cpu", "cuda"] = "cpu"
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    threads: PositiveInt | None = None
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    timeout: PositiveFloat = 1800.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    compile: bool = False
    checkpoint_every: PositiveInt = 1
    evaluate_every: PositiveInt = 1
    keep_every: PositiveInt | None = None
    netaug: NetAugConfig = NetAugConfig()
    netbooster: NetBoosterConfig = NetBoosterConfig()
    distillation: DistillationConfig = DistillationConfig()
    regularisation: RegularisationConfig = RegularisationConfig()
    rocket_launch: RocketLaunchConfig = RocketLaunchConfig()
    detection: DetectionConfig = DetectionConfig()

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be less than epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def _parts_can_be_normalised(self) -> Self:
        parts = self.workers * self.accumulate
        if self.batch_size % parts or self.batch_size < 2 * parts:
            times = f" times accumulate {self.accumulate}" if self.accumulate > 1 else ""
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of workers {self.workers}{times}, "
                "with at least 2 images for each"
            )
        return self

"""The `[data]`, `[model]` and `[train]` sections of a configuration. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Side = Annotated[int, Field(ge=1, le=4096)]
Factor = Annotated[float, Field(ge=1.0, le=16.0)]
Placement = Literal["uniform", "first", "middle", "last"]
Activation = Literal["relu6", "relu", "hard_swish"]


class Section(BaseModel):
    """Base of all sections: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitsConfig(Section):
    """Which lists of a detection dataset are trained on and tested on; several are joined.

    VOC: "2007/trainval" in a VOCdevkit, or "train" in one folder of JPEGImages, Annotations and ImageSets.
    COCO: "train2017". Empty means the published splits of the layout that is found.
    """

    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


class JitterConfig(Section):
    """How far training images' colours vary: factors are drawn from 1 - value to 1 + value, none below 0.

    The ImageNet recipe of Cai et al. (ICLR 2022) has brightness 32 / 255 and saturation 0.5.
    """

    brightness: Annotated[float, Field(ge=0, le=4)] = 0.0
    contrast: Annotated[float, Field(ge=0, le=4)] = 0.0
    saturation: Annotated[float, Field(ge=0, le=4)] = 0.0


class SpeechCommandsConfig(Section):
    """Which words are classes of their own, and how training clips are varied.

    All other words are the class "_unknown_", pieces of the folder _background_noise_ are "_silence_"; each
    class is left out where the folder has nothing for it. The default is MLPerf Tiny's twelve classes.

    Each training clip comes once as it is and `varied_copies` times shifted by up to `time_shift_ms` and,
    with `noise_probability`, with background noise of up to `noise_volume` of full scale.
    """

    words: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes",
    )  # fmt: skip
    varied_copies: Annotated[int, Field(ge=0, le=100)] = 0
    time_shift_ms: Annotated[float, Field(ge=0, le=1000)] = 100.0
    noise_probability: Annotated[float, Field(ge=0, le=1)] = 0.8
    noise_volume: Annotated[float, Field(ge=0, le=1)] = 0.1


class WebDatasetConfig(Section):
    """Which tar files in `data.path` are for training and which for testing.

    Names with ranges in braces ("train-{0000..1281}.tar") or with * and ?. Shards are read in an order drawn
    anew for each epoch, and the samples of about `shuffle` at a time are mixed.
    """

    train: str = "*train*.tar"
    test: str = "*val*.tar"
    shuffle: PositiveInt = 10_000


class AugmentConfig(Section):
    """Further variations of training images, after crops, jitter and mirroring.

    `policy` changes each image by random operations: "autoaugment_imagenet" and "autoaugment_cifar10" are
    found policies, "randaugment" takes `operations` of `magnitude` out of 10. `mixup` and `cutmix` mix each
    image with another one of its batch, and their labels, by shares from Beta(value, value); 0 is without.
    With both, half of the batches are mixed either way.
    """

    policy: Literal["autoaugment_imagenet", "autoaugment_cifar10", "randaugment"] | None = None
    operations: Annotated[int, Field(ge=1, le=10)] = 2
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0


class DataConfig(Section):
    """Where the images come from and how training images are varied.

    `resolution` is a side in pixels or (height, width); None keeps the dataset's own. `validation` counts
    training images that are held out and take the place of the test images, for tuning without looking at
    the test set. `train_limit` and `test_limit` keep the first images only. `mean` and `std` per channel, of
    pixels scaled to 0..1, replace those of the training images.

    `stream` reads and decodes the images of an image folder as they are needed instead of holding all of
    them in memory; shards always are.

    Training images are shifted by up to `crop_padding` pixels, or random parts of at least `crop_scale` of
    their area are resized to the resolution; half of them are mirrored with `flip`. `splits` are of detection
    datasets.
    """

    name: str = "fashion_mnist"
    path: Path | None = None
    fallback: str | None = None
    resolution: Side | tuple[Side, Side] | None = None
    train_limit: PositiveInt | None = None
    test_limit: PositiveInt | None = None
    validation: Annotated[int, Field(ge=0)] = 0
    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)] | None = None
    std: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=3)] | None = None
    stream: bool = False
    crop_scale: Annotated[float, Field(gt=0, le=1)] | None = None
    jitter: JitterConfig = JitterConfig()
    speech_commands: SpeechCommandsConfig = SpeechCommandsConfig()
    webdataset: WebDatasetConfig = WebDatasetConfig()
    crop_padding: Annotated[int, Field(ge=0, le=64)] = 0
    flip: bool = False
    splits: SplitsConfig = SplitsConfig()
    augment: AugmentConfig = AugmentConfig()

    @property
    def size(self) -> tuple[int, int] | None:
        """The resolution as (height, width)."""
        return (self.resolution, self.resolution) if isinstance(self.resolution, int) else self.resolution

    @model_validator(mode="after")
    def _crops_in_one_way(self) -> Self:
        if self.crop_padding and self.crop_scale is not None:
            raise ValueError("crop_padding and crop_scale are two ways to crop: set one of them")
        return self


class StageConfig(Section):
    """A stage of inverted residual blocks; the first block takes `stride`, only the others have a shortcut.

    `expand_ratio` 1 means a depthwise separable block, without expansion. `squeeze_excite` puts a
    squeeze-and-excitation of a quarter of the hidden width, at least 16, behind each depthwise convolution.
    """

    expand_ratio: Annotated[float, Field(ge=1.0, le=64.0)]
    channels: PositiveInt
    blocks: PositiveInt = 1
    stride: Literal[1, 2] = 1
    kernel: Literal[3, 5, 7] = 3
    activation: Activation = "relu6"
    squeeze_excite: bool = False


Anchor = tuple[PositiveFloat, PositiveFloat]
Anchors = tuple[Anchor, Anchor, Anchor]


class DetectorConfig(Section):
    """A YOLOv3 head (Redmon and Farhadi, 2018) of depthwise separable convolutions on the network.

    `widths` are those of its three parts, at strides 32, 16 and 8; inside they are doubled. `anchors` are
    three boxes for each of the strides 8, 16 and 32, as (width, height) in pixels of the network's input.
    `prior` is the objectness that an untrained head gives to all predictions (Lin et al., ICCV 2017, section
    4.1): with YOLOv3's 0.5, the first steps' gradients only unlearn it, and are large enough to do harm.
    """

    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (256, 128, 128)
    anchors: tuple[Anchors, Anchors, Anchors] = (
        ((10, 13), (16, 30), (33, 23)),
        ((30, 61), (62, 45), (59, 119)),
        ((116, 90), (156, 198), (373, 326)),
    )
    prior: Annotated[float, Field(gt=0, lt=1)] = 0.01


class ModelConfig(Section):
    """A network of the zoo, whole or with a block table of one's own.

    `stem_channels`, `stages`, `last_channels` and `head_channels` replace the published table of `name`
    where given. The last two are the 1x1 convolutions before and after the global pooling; 0 leaves one
    out, and they are never scaled. `width_multiplier` None is the network's own. Padding "tf_same" is
    TFLite's SAME, "symmetric" the papers' (PyTorch's) kernel // 2. Networks of other kinds than inverted
    residual blocks refuse the settings they have no use for. With `detector`, the network finds objects: a
    detection head takes the place of all that follows its last features of stride 32. `lite_residuals` adds
    TinyTL's small branch to each inverted residual block.
    """

    name: str = "mobilenet_v2"
    width_multiplier: Annotated[float, Field(gt=0, le=4)] | None = None
    stem_channels: PositiveInt | None = None
    stem_stride: Literal[1, 2] = 2
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)] | None = None
    last_channels: Annotated[int, Field(ge=0)] | None = None
    head_channels: Annotated[int, Field(ge=0)] | None = None
    padding: Literal["tf_same", "symmetric"] = "tf_same"
    init: Literal["kaiming_uniform", "he_fan_out"] = "kaiming_uniform"
    lite_residuals: bool = False
    detector: DetectorConfig | None = None


class NetAugConfig(Section):
    """NetAug (Cai et al., ICLR 2022): the tiny network learns as part of wider ones.

    `width` and `expand` list the factors to draw from, 1.0 first; `alpha` weighs the loss of the drawn
    network. Widths are drawn in the first `random_epochs` epochs (None: the paper's 80 of 155), after
    which only expansions are. `sort` orders hidden channels by importance before each of those epochs (None:
    unless the weights are trained ones, from `train.initial`: sorting would trade their channels for others).
    `calibration_images` is how many training images re-estimate the BatchNorm statistics of the tiny network.
    """

    width: Annotated[tuple[Factor, ...], Field(min_length=1)] = (1.0, 1.8, 2.6)
    expand: Annotated[tuple[Factor, ...], Field(min_length=1)] = (1.0, 1.6, 2.2, 2.8)
    alpha: Annotated[float, Field(ge=0)] = 1.0
    random_epochs: Annotated[int, Field(ge=0)] | None = None
    sort: bool | None = None
    sort_momentum: bool = True
    calibration_images: Annotated[int, Field(ge=2)] = 16_000

    @model_validator(mode="after")
    def _starts_at_one(self) -> Self:
        for name, factors in (("width", self.width), ("expand", self.expand)):
            if factors[0] != 1.0:
                raise ValueError(
                    f"netaug.{name} must start with 1.0, the tiny network; it starts with {factors[0]}"
                )
        return self


class ExpansionConfig(Section):
    """Which layers of a network become deeper blocks, and which blocks (Yu et al., DAC 2023, section 3.3).

    `fraction` of the candidates, at least one, are expanded, at the places that `placement` says. The hidden
    width of a block is `ratio` times the layer's input width. `layers` names the candidates; None finds the
    expansions of inverted residual blocks and the first layers of feed-forward networks. `activation` is
    that of the block; None takes the one that follows the layer in the network.
    """

    block: Literal["inverted_residual", "basic", "bottleneck"] = "inverted_residual"
    placement: Placement = "uniform"
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    ratio: Annotated[int, Field(ge=1, le=64)] = 6
    layers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    activation: Literal["relu", "relu6", "hard_swish", "gelu"] | None = None


class NetBoosterConfig(ExpansionConfig):
    """NetBooster (Yu et al., DAC 2023): the tiny network is trained as a deep giant and contracted again.

    The giant trains for `giant_epochs` (None: the paper's 160 of 310), then its inserted activations decay
    to the identity over `decay_epochs` (None: 40 of 310; 0 removes them at once), and the rest of the epochs
    finetunes. With the decay, the learning rate starts anew at `plt_learning_rate` (None: learning_rate).

    `start` "giant" takes the giant that an earlier training left in `train.initial`, for another dataset as
    well; `giant_epochs` None are then 0. `decay_share` gives `decay_epochs` as a share of all epochs (None:
    0.2 from a giant on, section 4.1). Method netbooster_netaug widens networks in `netaug_phase`.
    """

    start: Literal["tiny", "giant"] = "tiny"
    giant_epochs: Annotated[int, Field(ge=0)] | None = None
    decay_epochs: Annotated[int, Field(ge=0)] | None = None
    decay_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    netaug_phase: Literal["giant", "finetuning"] = "finetuning"
    plt_learning_rate: PositiveFloat | None = None

    @model_validator(mode="after")
    def _phases_are_clear(self) -> Self:
        if self.start == "tiny" and self.giant_epochs == 0:
            raise ValueError('netbooster.giant_epochs 0 needs netbooster.start = "giant"')
        if self.decay_epochs is not None and self.decay_share is not None:
            raise ValueError("netbooster: give decay_epochs or decay_share, not both")
        return self


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


class RocketLaunchConfig(Section):
    """RocketLaunch (Zhou et al., AAAI 2018): the tiny network shares its lower blocks with a booster.

    `shared` is the share of the blocks that both have; in the booster's further blocks, widths are multiplied
    by `width`, and `depth` blocks take the place of each with a shortcut. `hint` weighs the squared
    difference of the logits, which only the tiny network learns from.
    """

    shared: Annotated[float, Field(ge=0, lt=1)] = 0.5
    width: Factor = 2.0
    depth: Annotated[int, Field(ge=1, le=8)] = 1
    hint: Annotated[float, Field(ge=0)] = 0.03


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

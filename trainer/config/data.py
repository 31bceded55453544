"""The `[data]` section of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from trainer.config.section import Section

Side = Annotated[int, Field(ge=1, le=4096)]


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

    Where they `vary`, training clips come in each batch shifted by up to `time_shift_ms` and, with
    `noise_probability`, with background noise of up to `noise_volume` of full scale.
    """

    words: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes",
    )  # fmt: skip
    vary: bool = False
    time_shift_ms: Annotated[float, Field(ge=0, le=1000)] = 100.0
    noise_probability: Annotated[float, Field(ge=0, le=1)] = 0.8
    noise_volume: Annotated[float, Field(ge=0, le=1)] = 0.1


class WebDatasetConfig(Section):
    """Which tar files in `data.path` are for training and which for testing.

    Names, absolute ones too, with ranges in braces ("train-{0000..1281}.tar") or with * and ?. Shards are
    read in an order drawn anew for each epoch, and the samples of about `shuffle` at a time are mixed.
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

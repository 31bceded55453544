"""Images annotated as in COCO (Lin et al., ECCV 2014): one JSON file for each split."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data.folders import need_folder
from trainer.data.registry import DatasetAbsentError
from trainer.detection.samples import AnnotatedImage, DetectionSamples, as_shares

_TRAIN_SPLITS = ("train2017",)
_TEST_SPLITS = ("val2017",)


def load(config: DataConfig) -> DetectionSamples:
    """List the images of annotations/instances_<split>.json, which are in <split>/ or images/<split>/.

    Without `config.splits`, train2017 is trained on and val2017 tested on. The classes are all categories, in
    the order of their numbers. Crowds are not trained on, nor are images without objects. Raises
    DatasetAbsentError where there is no such folder, ConfigError, which names the file, for what is missing
    or damaged in it.
    """
    folder = need_folder(config, "annotations/instances_<split>.json and a folder of images for each split")
    train, test = config.splits.train or _TRAIN_SPLITS, config.splits.test or _TEST_SPLITS
    names: dict[int, str] = {}
    train_images = [image for split in train for image in _read(folder, split, names)]
    test_images = [image for split in test for image in _read(folder, split, names)]
    return DetectionSamples(
        [_without_crowds(image) for image in train_images if not image.ignored.all()],
        test_images,
        tuple(names.values()),
    )


def _read(folder: Path, split: str, names: dict[int, str]) -> list[AnnotatedImage]:
    """Images of a split; `names` maps the numbers of categories to their names, empty before the first."""
    path = folder / "annotations" / f"instances_{split}.json"
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DatasetAbsentError(f"{path}: no such file: set data.path and data.splits") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: damaged ({error})") from error
    images = next((found for found in (folder / "images" / split, folder / split) if found.is_dir()), None)
    if images is None:
        raise DatasetAbsentError(f"{folder / split}: no such folder: the images of {path.name} must be there")
    try:
        found = {
            item["id"]: item["name"] for item in sorted(values["categories"], key=lambda item: item["id"])
        }
        if not names:
            names.update(found)
        objects = defaultdict(list)
        for item in values["annotations"]:
            objects[item["image_id"]].append(item)
        listed = [_image(item, objects[item["id"]], images, list(names)) for item in values["images"]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"{path}: damaged ({reason})") from error
    if found != names:
        raise ConfigError(f"{path}: its categories are not those of the first split")
    return listed


def _image(
    image: dict[str, Any], objects: Sequence[dict[str, Any]], folder: Path, categories: list[int]
) -> AnnotatedImage:
    corners = [(x, y, x + w, y + h) for x, y, w, h in (item["bbox"] for item in objects)]
    width, height = image["width"], image["height"]
    if not (1 <= width < math.inf and 1 <= height < math.inf):
        raise ValueError(f"image {image['file_name']} of {width}x{height}")
    size = (int(width), int(height))
    boxes, kept = as_shares(corners, size)
    classes = np.array([categories.index(item["category_id"]) for item in objects], np.int64)
    crowds = np.array([bool(item.get("iscrowd", 0)) for item in objects], np.bool_)
    return AnnotatedImage(folder / image["file_name"], size, boxes, classes[kept], crowds[kept])


def _without_crowds(image: AnnotatedImage) -> AnnotatedImage:
    kept = ~image.ignored
    return AnnotatedImage(image.path, image.size, image.boxes[kept], image.classes[kept], image.ignored[kept])

"""Images annotated as in PASCAL VOC (Everingham et al., IJCV 2010): XML files beside the images."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data.folders import need_folder, run_threads
from trainer.data.images import shown_size
from trainer.data.registry import DatasetAbsentError
from trainer.detection.samples import AnnotatedImage, DetectionSamples, as_shares, check_proportions

_log = logging.getLogger(__name__)

_TRAIN_SPLITS = ("2007/trainval", "2012/trainval")
_TEST_SPLITS = ("2007/test",)
_FOLDER_TRAIN_SPLITS = ("trainval",)
_FOLDER_TEST_SPLITS = ("test",)
_ANNOTATIONS = "Annotations"
_SUFFIXES = (".jpg", ".jpeg", ".png")
_FLAG = re.compile(r"\s+(-1|0|1)$")


@dataclass(frozen=True)
class _Annotation:
    """What an XML file says; corners in pixels, from 0, the right and bottom ones not included.

    `size` is (width, height) of the image that was annotated.
    """

    image: Path
    size: tuple[int, int]
    names: tuple[str, ...]
    corners: tuple[tuple[float, float, float, float], ...]
    difficult: tuple[bool, ...]


def load(config: DataConfig) -> DetectionSamples:
    """List the images of a VOCdevkit, or of one folder with JPEGImages, Annotations and ImageSets/Main.

    Without `config.splits`, a VOCdevkit is trained on 2007 and 2012 trainval and tested on 2007 test, a
    folder on trainval and test. The classes are those of the training objects, in alphabetical order. Objects
    without area are left out, with a warning. Raises DatasetAbsentError where there is no such folder,
    ConfigError, which names the file, for what is missing or damaged in it.
    """
    folder = need_folder(config, "a VOCdevkit, or JPEGImages, Annotations and ImageSets/Main")
    inner = folder / "VOCdevkit"
    folder = inner if inner.is_dir() else folder
    single = (folder / _ANNOTATIONS).is_dir()
    if not single and not any(folder.glob("VOC????")):
        raise DatasetAbsentError(
            f"{folder}: holds neither VOC2007 and the like nor JPEGImages and {_ANNOTATIONS}: "
            "set data.path to a VOCdevkit or to one such folder"
        )
    train = config.splits.train or (_FOLDER_TRAIN_SPLITS if single else _TRAIN_SPLITS)
    test = config.splits.test or (_FOLDER_TEST_SPLITS if single else _TEST_SPLITS)
    train_found, test_found = _read(folder, train), _read(folder, test)
    class_names = tuple(sorted({name for found in train_found for name in found.names}))
    return DetectionSamples(_images(train_found, class_names), _images(test_found, class_names), class_names)


def _read(folder: Path, splits: Sequence[str]) -> list[_Annotation]:
    files: list[tuple[Path, str]] = []
    for split in splits:
        year, _, name = split.rpartition("/")
        base = folder / f"VOC{year}" if year else folder
        lines = _lines(base / "ImageSets" / "Main" / f"{name}.txt")
        files += [(base, _identifier(base, line)) for line in lines]
    return list(run_threads(_annotation, files))


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        near = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt"))[:8])
        raise ConfigError(f"{path}: no such split: set data.splits (there is {near or 'none'})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: unreadable ({error})") from error
    return [line.strip() for line in lines if line.strip()]


def _identifier(base: Path, line: str) -> str:
    """The image that a line names: there may be spaces in it, and in lists of one class a flag behind it."""
    return line if (base / _ANNOTATIONS / f"{line}.xml").is_file() else _FLAG.sub("", line)


def _annotation(file: tuple[Path, str]) -> _Annotation:
    base, identifier = file
    path = base / _ANNOTATIONS / f"{identifier}.xml"
    image = _image_of(base, identifier)
    try:
        shown = shown_size(image)
        root = ElementTree.parse(path).getroot()
        size = _size(root) or shown
        objects = root.findall("object")
        names = tuple(_text(item, "name") for item in objects)
        corners = tuple(_corners(item) for item in objects)
        difficult = tuple((item.findtext("difficult") or "0").strip() == "1" for item in objects)
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename}: no such file, but {identifier} is in a split") from error
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: unreadable ({error.strerror})") from error
    except (ElementTree.ParseError, ValueError, OverflowError, LookupError) as error:
        raise ConfigError(f"{path}: damaged annotation ({error})") from error
    check_proportions(image, shown, size)
    return _Annotation(image, size, names, corners, difficult)


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """(width, height) that the annotation says; None where it says nothing, or 0, as some programs write."""
    texts = (root.findtext(f"size/{side}", "").strip() for side in ("width", "height"))
    width, height = (round(float(text or 0)) for text in texts)
    return (width, height) if width > 0 and height > 0 else None


def _image_of(base: Path, identifier: str) -> Path:
    endings = (*_SUFFIXES, *map(str.upper, _SUFFIXES))
    paths = [base / "JPEGImages" / f"{identifier}{ending}" for ending in endings]
    return next((path for path in paths if path.is_file()), paths[0])


def _corners(item: ElementTree.Element) -> tuple[float, float, float, float]:
    """Pixels of VOC count from 1 and are included on both sides."""
    left, top, right, bottom = (
        float(_text(item, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    if right <= left or bottom <= top:
        return left, top, left, top
    return left - 1, top - 1, right, bottom


def _text(item: ElementTree.Element, name: str) -> str:
    text = (item.findtext(name) or "").strip()
    if not text:
        raise ValueError(f"an object without {name}")
    return text


def _images(found: Sequence[_Annotation], class_names: tuple[str, ...]) -> list[AnnotatedImage]:
    images = []
    for annotation in found:
        unknown = set(annotation.names) - set(class_names)
        if unknown:
            raise ConfigError(
                f"{annotation.image}: class {min(unknown)!r} does not occur in the training images"
            )
        boxes, kept = as_shares(annotation.corners, annotation.size)
        if not kept.all():
            _log.warning("%s: %d boxes without area are left out", annotation.image.name, int((~kept).sum()))
        classes = np.array([class_names.index(name) for name in annotation.names], np.int64)
        difficult = np.array(annotation.difficult, np.bool_)
        images.append(
            AnnotatedImage(annotation.image, annotation.size, boxes, classes[kept], difficult[kept])
        )
    return images

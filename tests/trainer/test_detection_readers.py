"""Readers of VOC and COCO."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from detection_networks import annotation
from PIL import ExifTags, Image
from shared_data import shared_data

from common.errors import ConfigError
from trainer.config import DataConfig, TrainConfig
from trainer.data.registry import DatasetAbsentError
from trainer.detection import load_detection
from trainer.detection.augment import PLAIN_VIEW, render


def image_of(tmp_path, boxes, size=(100, 50), difficult=(), name="0"):
    """One VOC folder with one image in both splits."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / part).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(tmp_path / "JPEGImages" / f"{name}.jpg")
    (tmp_path / "Annotations" / f"{name}.xml").write_text(annotation(boxes, difficult))
    for split in ("trainval", "test"):
        (tmp_path / "ImageSets/Main" / f"{split}.txt").write_text(f"{name}\n")
    return DataConfig(name="voc", path=tmp_path)


def test_voc_boxes_count_pixels_from_one_and_include_both_sides(tmp_path):
    config = image_of(tmp_path, [("b", 1, 1, 50, 50), ("a", 51, 11, 100, 20)], difficult=(1,))
    dataset = load_detection(config)
    (image,) = dataset.train_images
    assert dataset.class_names == ("a", "b")
    assert image.size == (100, 50)
    assert image.boxes.tolist() == [[0.0, 0.0, 0.5, 1.0], [0.5, pytest.approx(0.2), 1.0, pytest.approx(0.4)]]
    assert image.classes.tolist() == [1, 0]
    assert image.ignored.tolist() == [False, True]
    assert dataset.input_shape == (3, 416, 416)


def test_boxes_without_area_are_left_out_with_a_warning(tmp_path, caplog):
    config = image_of(tmp_path, [("a", 10, 10, 10, 10), ("a", 10, 10, 30, 30), ("a", 101, 5, 120, 9)])
    with caplog.at_level(logging.WARNING):
        (image,) = load_detection(config).train_images
    assert len(image.boxes) == len(image.classes) == len(image.ignored) == 1
    assert "0.jpg: 2 boxes without area" in caplog.text


def sized(config, width, height):
    """`config` with a size in its annotation."""
    path = config.path / "Annotations/0.xml"
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    path.write_text(path.read_text().replace("<annotation>", f"<annotation>{size}"))
    return config


def test_voc_boxes_are_shares_of_the_image_that_was_annotated(tmp_path):
    """The file may have been resized since, its sides rounded."""
    boxes = [("a", 51, 101, 250, 200)]
    (image,) = load_detection(sized(image_of(tmp_path, boxes, size=(100, 67)), 500, 333)).train_images
    assert image.boxes == pytest.approx(np.array([[0.1, 100 / 333, 0.5, 200 / 333]]))
    assert render(image, PLAIN_VIEW, 32, 32)[0].shape == (32, 32, 3)


@pytest.mark.parametrize("size", [(0, 0), (" ", 40), ("100.0", "50.0")])
def test_voc_boxes_are_shares_of_the_file_where_the_annotation_has_no_size(tmp_path, size):
    config = sized(image_of(tmp_path, [("a", 1, 1, 50, 50)]), *size)
    assert load_detection(config).train_images[0].boxes.tolist() == [[0.0, 0.0, 0.5, 1.0]]


def test_an_image_of_other_proportions_than_its_annotation_is_named(tmp_path):
    voc = sized(image_of(tmp_path / "voc", [("a", 1, 1, 50, 50)]), 50, 100)
    with pytest.raises(ConfigError, match=r"0\.jpg: is 100x50 as it is shown, but .* of 50x100") as caught:
        load_detection(voc)
    assert "\n" not in str(caught.value)
    (tmp_path / "coco").mkdir()
    image, *_ = load_detection(coco_folder(tmp_path / "coco")).train_images
    Image.new("RGB", (20, 40)).save(image.path)
    with pytest.raises(ConfigError, match=r"a\.jpg: is 20x40 as it is shown, but its annotation is of 40x20"):
        render(image, PLAIN_VIEW, 32, 32)


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_photos_are_turned_before_boxes_are_looked_for_in_them(tmp_path, kind):
    """A red box of an upright photo whose pixels are stored sideways, as those of phones are."""
    pixels = np.full((100, 60, 3), 30, np.uint8)
    pixels[70:98, 5:55] = (250, 20, 20)
    if kind == "voc":
        config = image_of(tmp_path, [("a", 6, 71, 55, 98)], size=(60, 100))
        path = tmp_path / "JPEGImages/0.jpg"
    else:
        entry = {"id": 10, "file_name": "a.jpg", "width": 60, "height": 100}
        box = {"id": 1, "image_id": 10, "category_id": 7, "bbox": [5, 70, 50, 28]}
        config = coco_folder(tmp_path, images=[entry], annotations=[box])
        path = tmp_path / "train2017/a.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    stored.save(path, quality=95, exif=exif)
    (image,) = load_detection(config).train_images
    seen, boxes, _ = render(image, PLAIN_VIEW, 100, 60)
    rows, columns = np.nonzero(seen[..., 0] > 140)
    assert boxes[0] * [60, 100, 60, 100] == pytest.approx([5, 70, 55, 98], abs=1e-3)
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [5, 70, 55, 98]


def test_a_vocdevkit_is_trained_on_2007_and_2012_and_tested_on_2007(tmp_path):
    for year, name in (("2007", "7"), ("2012", "12")):
        image_of(tmp_path / "VOCdevkit" / f"VOC{year}", [("a", 1, 1, 9, 9)], name=name)
    dataset = load_detection(DataConfig(name="voc", path=tmp_path))
    assert [image.path.name for image in dataset.train_images] == ["7.jpg", "12.jpg"]
    assert [image.path.name for image in dataset.test_images] == ["7.jpg"]
    config = DataConfig(name="voc", path=tmp_path / "VOCdevkit", splits={"train": ["2012/trainval"]})
    assert [image.path.name for image in load_detection(config).train_images] == ["12.jpg"]


@pytest.mark.parametrize(
    ("name", "line", "suffix"),
    [("img 0", "img 0", ".jpg"), ("my img", "my img  -1", ".jpg"), ("7", "7 1", ".JPG"), ("7", "7", ".PNG")],
)
def test_images_may_have_spaces_in_their_names_and_end_in_capitals(tmp_path, name, line, suffix):
    config = image_of(tmp_path, [("a", 1, 1, 9, 9)], name=name)
    path = tmp_path / "JPEGImages" / f"{name}.jpg"
    path.rename(path.with_suffix(suffix))
    (tmp_path / "ImageSets/Main/trainval.txt").write_text(f"{line}\n")
    (image,) = load_detection(config).train_images
    assert image.path == path.with_suffix(suffix)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "JPEGImages/0.jpg").unlink(), r"0\.jpg: no such file"),
        (lambda f: (f / "Annotations/0.xml").unlink(), r"0\.xml: no such file"),
        (lambda f: (f / "Annotations/0.xml").write_text("<annotation><object>"), r"0\.xml: damaged"),
        (
            lambda f: (f / "Annotations/0.xml").write_text("<a><object/></a>"),
            r"0\.xml: damaged.*without name",
        ),
        (lambda f: (f / "Annotations/0.xml").write_text(annotation([])), "no object in 1 training images"),
        (
            lambda f: (f / "JPEGImages/0.jpg").write_bytes(b"nothing"),
            r"0\.jpg: damaged image \(no known format\)",
        ),
        (
            lambda f: (f / "Annotations/0.xml").write_text('<?xml version="1.0" encoding="ANSI"?><a/>'),
            r"0\.xml: damaged annotation \(unknown encoding: ANSI\)",
        ),
        (lambda f: (f / "ImageSets/Main/test.txt").unlink(), r"test\.txt: no such split.*there is trainval"),
        (lambda f: (f / "Annotations").rename(f / "Labels"), "holds neither VOC2007"),
    ],
)
def test_what_is_wrong_with_a_voc_folder_is_said_in_one_line(tmp_path, damage, message):
    config = image_of(tmp_path, [("a", 1, 1, 9, 9)])
    damage(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        load_detection(config)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_an_absent_dataset(tmp_path):
    with pytest.raises(DatasetAbsentError, match="no such folder"):
        load_detection(DataConfig(name="voc", path=tmp_path / "none"))
    with pytest.raises(ConfigError, match="unknown detection dataset 'cocoa': did you mean 'coco'"):
        load_detection(DataConfig(name="cocoa", path=tmp_path))


def coco_folder(tmp_path, **changes):
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "bird"}]
    images = [
        {"id": 10, "file_name": "a.jpg", "width": 40, "height": 20},
        {"id": 11, "file_name": "b.jpg", "width": 40, "height": 20},
        {"id": 12, "file_name": "c.jpg", "width": 40, "height": 20},
    ]
    annotations = [
        {"id": 1, "image_id": 10, "category_id": 7, "bbox": [10, 5, 20, 10], "iscrowd": 0},
        {"id": 2, "image_id": 10, "category_id": 3, "bbox": [0, 0, 40, 20], "iscrowd": 1},
        {"id": 3, "image_id": 12, "category_id": 3, "bbox": [0, 0, 40, 20], "iscrowd": 1},
    ]
    values = {"images": images, "annotations": annotations, "categories": categories} | changes
    (tmp_path / "annotations").mkdir(exist_ok=True)
    for split in ("train2017", "val2017"):
        (tmp_path / split).mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(values))
    return DataConfig(name="coco", path=tmp_path)


def test_coco_is_listed_without_crowds_and_empty_images_in_training(tmp_path):
    dataset = load_detection(coco_folder(tmp_path))
    assert dataset.class_names == ("bird", "cat")
    assert [image.path for image in dataset.train_images] == [tmp_path / "train2017" / "a.jpg"]
    assert dataset.train_images[0].boxes.tolist() == [[0.25, 0.25, 0.75, 0.75]]
    assert dataset.train_images[0].classes.tolist() == [1]
    assert [image.path.name for image in dataset.test_images] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [image.ignored.tolist() for image in dataset.test_images] == [[False, True], [], [True]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 1}]}, "damaged"),
        ({"annotations": [{"image_id": 10}]}, "damaged .*'bbox' is missing"),
        ({"categories": None}, "damaged"),
        (
            {"images": [{"id": 1, "file_name": "a.jpg", "width": float("inf"), "height": 9}]},
            r"damaged \(image a\.jpg of infx9\)",
        ),
        (
            {"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 0}]},
            r"damaged \(image a\.jpg of 9x0\)",
        ),
        ({"annotations": [{"image_id": 10, "category_id": 7, "bbox": [10**400, 0, 1, 1]}]}, "damaged"),
    ],
)
def test_a_damaged_coco_file_is_named(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=rf"instances_train2017\.json: {message}"):
        load_detection(coco_folder(tmp_path, **changes))


def test_a_category_that_no_file_can_name_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset coco .* name '\\ud800' of a class is not UTF-8"):
        load_detection(
            coco_folder(tmp_path, categories=[{"id": 3, "name": "\ud800"}, {"id": 7, "name": "x"}])
        )


def test_bccd_is_read_whole(tmp_path):
    import tarfile

    with tarfile.open(shared_data("bccd", "bccd.tar.xz")) as archive:
        members = [m for m in archive.getmembers() if m.name.startswith("BCCD/")]
        archive.extractall(tmp_path, members, filter="data")
    splits = {"train": ["train", "val"], "test": ["test"]}
    dataset = load_detection(DataConfig(name="voc", path=tmp_path / "BCCD", splits=splits))
    assert (len(dataset.train_images), len(dataset.test_images)) == (205 + 87, 72)
    assert dataset.class_names == ("Platelets", "RBC", "WBC")
    classes = np.concatenate([image.classes for image in [*dataset.train_images, *dataset.test_images]])
    assert np.bincount(classes).tolist() == [361, 4155 - 2, 372]  # two have no area


def test_an_unreadable_image_stops_the_epoch_with_its_name(tmp_path):
    config = image_of(tmp_path, [("a", 1, 1, 40, 40)])
    batches = load_detection(config).batches(TrainConfig(batch_size=4, images_per_epoch=4))
    (tmp_path / "JPEGImages/0.jpg").unlink()
    with pytest.raises(ConfigError, match=r"0\.jpg: cannot be read"):
        list(batches.epoch(0))

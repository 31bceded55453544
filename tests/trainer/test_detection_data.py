"""Variation of images with boxes, and batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detection_networks import NAMES, SIDE, write_shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import ConfigError
from trainer.config import DetectionConfig, TrainConfig
from trainer.data import load_dataset
from trainer.detection import DetectionDataset, load_detection
from trainer.detection.augment import View, draw_view, render
from trainer.detection.samples import AnnotatedImage

TRAIN = TrainConfig(batch_size=4, epochs=4, warmup_epochs=0)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


def test_variation_for_classification_is_refused(shapes):
    with pytest.raises(ConfigError, match=r"data\.crop_padding does not vary images with boxes"):
        load_detection(shapes.model_copy(update={"crop_padding": 2}))


@pytest.mark.parametrize(("key", "values"), [("mean", (0.5,)), ("std", (0.5, 0.5))])
def test_statistics_that_are_not_of_three_channels_are_refused(shapes, key, values):
    with pytest.raises(
        ConfigError, match=rf"data\.{key} has {len(values)} values, but images have 3 channels"
    ):
        load_detection(shapes.model_copy(update={key: values}))


def painted(tmp_path, box):
    """A black image of 120x90 with one white box, given in pixels."""
    left, top, right, bottom = box
    pixels = np.zeros((90, 120, 3), np.uint8)
    pixels[top:bottom, left:right] = 255
    path = tmp_path / "painted.png"
    Image.fromarray(pixels).save(path)
    shares = np.array([[left / 120, top / 90, right / 120, bottom / 90]], np.float32)
    return AnnotatedImage(path, (120, 90), shares, np.array([2]), np.array([False]))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([(64, 64), (96, 64), (32, 160)]))
def test_boxes_follow_the_pixels(tmp_path_factory, seed, size):
    generator = np.random.default_rng(seed)
    left, top = int(generator.integers(0, 70)), int(generator.integers(0, 50))
    box = (left, top, left + int(generator.integers(20, 50)), top + int(generator.integers(20, 40)))
    image = painted(tmp_path_factory.mktemp("painted"), box)
    view = draw_view(image.boxes, DetectionConfig(colour=False), generator)
    pixels, boxes, classes = render(image, view, *size)
    assert pixels.shape == (*size, 3)
    assert pixels.dtype == np.uint8
    assert classes.tolist() == [2]
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    rows, columns = (
        (pixels[..., 0] > 190).any(axis=1).nonzero()[0],
        (pixels[..., 0] > 190).any(axis=0).nonzero()[0],
    )
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    expected = boxes[0] * np.tile([size[1], size[0]], 2)
    assert np.abs(expected - seen).max() <= 1.5


def test_a_mirrored_half_of_an_image_has_the_box_on_the_other_side(tmp_path):
    image = painted(tmp_path, (60, 0, 90, 45))
    _, boxes, _ = render(image, View(np.array([0.5, 0.0, 1.0, 1.0]), mirrored=True), 64, 64)
    assert boxes[0] == pytest.approx([0.5, 0.0, 1.0, 0.5], abs=1e-6)


def test_objects_whose_centre_is_outside_are_gone_and_others_clipped(tmp_path):
    image = painted(tmp_path, (20, 20, 60, 60))
    for window, count in (((0.4, 0.0, 1.0, 1.0), 0), ((0.3, 0.0, 1.0, 1.0), 1)):
        _, boxes, classes = render(image, View(np.array(window)), 64, 64)
        assert len(boxes) == len(classes) == count
    assert boxes[0, 0] == 0


def test_colours_change_pixels_only(tmp_path):
    image = painted(tmp_path, (20, 20, 60, 60))
    plain, boxes, _ = render(image, View(np.array([0.0, 0.0, 1.0, 1.0])), 64, 64)
    config = DetectionConfig(expand=False, crop=False, flip=False)
    changed = 0
    for seed in range(8):
        view = draw_view(image.boxes, config, np.random.default_rng(seed))
        pixels, same, _ = render(image, view, 64, 64)
        assert np.array_equal(same, boxes)
        changed += not np.array_equal(pixels, plain)
    assert changed >= 4


def test_a_hue_turn_keeps_greys_and_luminance():
    view = next(
        view
        for seed in range(200)
        if (
            view := draw_view(np.zeros((0, 4), np.float32), DetectionConfig(), np.random.default_rng(seed))
        ).colour
        is not None
        and not np.allclose(view.colour, np.diag(np.diag(view.colour)))
    )
    grey = view.colour @ np.ones(3)
    assert grey == pytest.approx([grey[0]] * 3, rel=2e-2)


def test_batches_are_equal_for_equal_seeds_and_hold_all_images(shapes):
    dataset = load_detection(shapes)
    batches = dataset.batches(TRAIN)
    assert batches.steps == 6
    first, again, other = (list(batches.epoch(epoch)) for epoch in (0, 0, 1))
    assert len(first) == 6
    for one, two, three in zip(first, again, other, strict=True):
        assert one.images.shape == (4, 3, SIDE, SIDE)
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)
        assert not torch.equal(one.images, three.images)
        real = one.labels[one.labels[..., 0] >= 0]
        assert ((real[:, 1:5] >= 0) & (real[:, 1:5] <= 1)).all()
        assert (real[:, 5] == 1).all()
        assert set(real[:, 0].tolist()) <= set(range(len(NAMES)))


def test_processes_draw_the_parts_of_the_whole_batch(shapes):
    dataset = load_detection(shapes)
    parts = [dataset.batches(TRAIN, rank, 2).epoch(1) for rank in (0, 1)]
    for whole, first, second in zip(dataset.batches(TRAIN).epoch(1), *parts, strict=True):
        assert torch.equal(whole.images, torch.cat([first.images, second.images]))
        for part, rows in ((first, whole.labels[:2]), (second, whole.labels[2:])):
            boxes = part.labels.shape[1]
            assert torch.equal(part.labels, rows[:, :boxes])
            assert (rows[:, boxes:] == -1).all()


def test_sizes_change_every_few_batches_and_all_come(shapes):
    detection = DetectionConfig(sizes=(32, 64, 96), size_every=3)
    train = TRAIN.model_copy(update={"detection": detection, "images_per_epoch": 64, "batch_size": 2})
    batches = load_detection(shapes).batches(train)
    sides = [batch.images.shape[2] for epoch in range(2) for batch in batches.epoch(epoch)]
    assert all(len(set(sides[start : start + 3])) == 1 for start in range(0, len(sides), 3))
    assert set(sides) == {32, 64, 96}


def test_mixup_joins_boxes_with_weights_that_add_up_until_the_last_epochs(shapes):
    plain = DetectionConfig(colour=False, expand=False, crop=False, flip=False, mixup=1.0, no_mixup_epochs=1)
    batches = load_detection(shapes).batches(TRAIN.model_copy(update={"detection": plain}))
    for batch in batches.epoch(0):
        for rows in batch.labels:
            weights = rows[rows[:, 0] >= 0, 5].unique()
            assert 1 <= len(weights) <= 2
            assert weights.sum().item() == pytest.approx(1.0 if len(weights) == 2 else 0.5, abs=1e-6)
    last = next(iter(batches.epoch(TRAIN.epochs - 1)))
    assert (last.labels[last.labels[..., 0] >= 0][:, 5] == 1).all()


def test_images_with_boxes_are_a_dataset_whose_labels_are_unknown(shapes):
    dataset = load_dataset(shapes)
    assert isinstance(dataset, DetectionDataset)
    assert dataset.input_shape == (3, SIDE, SIDE)
    images, labels = (np.concatenate(parts) for parts in zip(*dataset.test(), strict=True))
    assert (images.shape, images.dtype) == ((8, SIDE, SIDE, 3), np.uint8)
    assert labels.tolist() == [-1] * 8
    assert [len(part) for part, _ in dataset.train(5)] == [5]
    calibration = dataset.calibration_images(6)
    assert calibration.shape == (6, SIDE, SIDE, 3)
    assert np.array_equal(calibration, dataset.calibration_images(6))


def test_several_processes_share_each_batch(shapes):
    dataset = load_detection(shapes)
    whole = list(dataset.batches(TRAIN).epoch(0))
    parts = [list(dataset.batches(TRAIN, rank, 2).epoch(0)) for rank in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([first.images, second.images]))
        boxes = [part.labels[part.labels[..., 0] >= 0] for part in (batch, first, second)]
        assert torch.equal(boxes[0], torch.cat(boxes[1:]))

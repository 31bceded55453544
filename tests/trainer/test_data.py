from __future__ import annotations

import gzip
import logging
import struct
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from damage import damage, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import ConfigError
from trainer.augment.crops import shift_and_mirror
from trainer.config import DataConfig, TrainConfig
from trainer.data import DATASETS, DatasetAbsentError, Samples, as_pixels, load_dataset, normalise
from trainer.data.dataset import resize, statistics
from trainer.data.mnist import FASHION_DEBIAN_FOLDER, read_idx


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def recipe(**values: Any) -> TrainConfig:
    return TrainConfig(**{"batch_size": 100, **values})


@pytest.fixture
def fashion(tmp_path):
    """A folder with small IDX files: 7 train and 3 test images of 5x4, train gzipped."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 7), ("t10k", 3)):
        images = idx(generator.integers(0, 256, (count, 5, 4), dtype=np.uint8))
        labels = idx(np.arange(count, dtype=np.uint8))
        for kind, data in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{part}-{kind}-ubyte"
            if part == "train":
                (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (tmp_path / name).write_bytes(data)
    return tmp_path


def test_fashion_mnist_is_read_from_idx_files_gzipped_or_not(fashion):
    dataset = load_dataset(DataConfig(path=fashion))
    assert dataset.train_images.shape == (7, 5, 4, 1)
    assert dataset.test_images.shape == (3, 5, 4, 1)
    assert dataset.input_shape == (1, 5, 4)
    expected = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)
    np.testing.assert_array_equal(dataset.train_images[..., 0], expected)
    np.testing.assert_array_equal(dataset.train_labels, range(7))
    assert dataset.class_names[9] == "ankle boot"
    assert dataset.config.name == "fashion_mnist"


@pytest.mark.skipif(not FASHION_DEBIAN_FOLDER.exists(), reason="dataset-fashion-mnist is not installed")
def test_the_installed_fashion_mnist_is_complete():
    dataset = load_dataset(DataConfig())
    assert dataset.train_images.shape == (60_000, 28, 28, 1)
    assert np.bincount(dataset.train_labels).tolist() == [6000] * 10
    assert np.bincount(dataset.test_labels).tolist() == [1000] * 10
    assert dataset.mean == pytest.approx((0.2860,), abs=1e-4)  # the published figures
    assert dataset.std == pytest.approx((0.3530,), abs=1e-4)


def test_an_absent_fashion_mnist_names_the_package_and_digits(tmp_path):
    with pytest.raises(DatasetAbsentError, match="apt install dataset-fashion-mnist") as caught:
        load_dataset(DataConfig(path=tmp_path))
    assert 'data.name = "digits"' in str(caught.value)


def test_the_fallback_steps_in_and_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = load_dataset(DataConfig(path=tmp_path, fallback="digits"))
    assert dataset.config.name == "digits"
    assert "using dataset digits instead" in caplog.text
    assert dataset.config == DataConfig(name="digits")
    assert load_dataset(dataset.config).mean == dataset.mean


def test_a_damaged_dataset_does_not_fall_back(fashion):
    (fashion / "train-labels-idx1-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(ConfigError, match=r"train-labels-idx1-ubyte\.gz: damaged"):
        load_dataset(DataConfig(path=fashion, fallback="digits"))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damaged_idx_files_are_errors_that_name_the_file(tmp_path, data):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / ("images.gz" if data.draw(st.booleans()) else "images")
    content = gzip.compress(idx(array), mtime=0) if path.suffix else idx(array)
    path.write_bytes(damage(data, content))
    problem, result = outcome(lambda: read_idx(path, axes=3))
    assert result.size == 24 if problem is None else str(path) in problem and "\n" not in problem


def test_mnist_names_its_classes_by_a_file_or_by_numbers(fashion):
    dataset = load_dataset(DataConfig(name="mnist", path=fashion))
    assert dataset.class_names == tuple("0123456")
    (fashion / "classes.txt").write_text("".join(f"letter {index}\n" for index in range(8)))
    assert load_dataset(DataConfig(name="mnist", path=fashion)).class_names[7] == "letter 7"
    with pytest.raises(DatasetAbsentError, match=r"data\.path is missing: dataset mnist needs a folder"):
        load_dataset(DataConfig(name="mnist"))


def test_emnist_puts_its_split_before_the_names(fashion):
    for path in list(fashion.iterdir()):
        path.rename(fashion / f"emnist-letters-{path.name.replace('t10k', 'test')}")
    assert load_dataset(DataConfig(name="mnist", path=fashion)).input_shape == (1, 5, 4)
    (fashion / "emnist-digits-train-images-idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"both emnist-digits-train-.* are there: keep one dataset"):
        load_dataset(DataConfig(name="mnist", path=fashion))


def test_digits_are_split_without_overlap():
    dataset = load_dataset(DataConfig(name="digits"))
    assert dataset.train_images.shape == (1437, 8, 8, 1)
    assert dataset.test_images.shape == (360, 8, 8, 1)
    assert dataset.train_images.max() == 255
    assert np.bincount(dataset.test_labels).min() >= 30


def test_an_unknown_dataset_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'fashion_mnist'"):
        load_dataset(DataConfig(name="fashion-mnist"))


def test_features_to_look_at_are_stretched_to_pixels():
    features = np.array([[-4.0, 90.0], [0.0, 90.5], [6.0, 91.0]], np.float32).reshape(1, 3, 2, 1)
    assert as_pixels(features)[0, ..., 0].T.tolist() == [[0, 102, 255], [0, 128, 255]]
    pixels = np.zeros((1, 2, 2, 1), np.uint8)
    assert as_pixels(pixels) is pixels
    assert not as_pixels(np.ones((1, 2, 2, 1), np.float32)).any()


def test_given_statistics_replace_those_of_the_images():
    dataset = load_dataset(DataConfig(name="digits", mean=(0.5,), std=(0.25,)))
    assert (dataset.mean, dataset.std) == ((0.5,), (0.25,))
    known = load_dataset(DataConfig(name="digits"))
    assert load_dataset(DataConfig(name="digits", mean=(0.5,))).std == known.std
    with pytest.raises(ConfigError, match=r"data\.mean has 3 values, but images have 1 channels"):
        load_dataset(DataConfig(name="digits", mean=(0.5, 0.5, 0.5)))


@pytest.mark.parametrize("kind", [np.int32, np.float64])
def test_labels_of_another_kind_are_refused(kind, monkeypatch):
    images, labels = np.zeros((4, 2, 2, 1), np.uint8), np.arange(4).astype(kind)
    monkeypatch.setattr(DATASETS, "_values", {"own": lambda _: Samples(*[images, labels] * 2, tuple("abcd"))})
    with pytest.raises(ConfigError, match=f"dataset own: train labels are {np.dtype(kind)}: give labels.as"):
        load_dataset(DataConfig(name="own"))


def test_held_out_images_leave_the_training_set_and_replace_the_test_set():
    whole = load_dataset(DataConfig(name="digits"))
    split = load_dataset(DataConfig(name="digits", validation=200))
    assert (len(split.train_images), len(split.test_images)) == (1237, 200)
    together = np.concatenate([split.train_images, split.test_images])
    key = lambda images: sorted(image.tobytes() for image in images)  # noqa: E731
    assert key(together) == key(whole.train_images)
    with pytest.raises(ConfigError, match="leaves none"):
        load_dataset(DataConfig(name="digits", validation=1437))


def test_images_are_resized_to_the_resolution():
    dataset = load_dataset(DataConfig(name="digits", resolution=(12, 16), train_limit=10))
    assert dataset.train_images.shape == (10, 12, 16, 1)
    assert dataset.test_images.shape == (360, 12, 16, 1)


def test_resizing_interpolates_linearly_and_averages_when_it_shrinks():
    ramp = np.tile(np.arange(0, 160, 20, dtype=np.uint8), (8, 1))[None, :, :, None]
    wide = resize(ramp, 8, 16)[0, 0, :, 0]
    np.testing.assert_array_equal(wide[1:-1], np.arange(14) * 10 + 5)
    checks = (np.indices((8, 8)).sum(axis=0) % 2 * 255).astype(np.uint8)[None, :, :, None]
    small = resize(checks, 4, 4)
    assert np.abs(small.astype(int) - 128).max() <= 16
    assert resize(ramp, 8, 8) is ramp


@pytest.mark.parametrize("channels", [1, 3])
def test_normalise_gives_channels_first_values_of_mean_zero(channels):
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 6, channels), dtype=np.uint8)
    mean, std = statistics(images)
    expected = (images / 255 - images.mean((0, 1, 2)) / 255) / (images.std((0, 1, 2)) / 255)
    result = normalise(images, mean, std)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(result.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)
    assert torch.equal(normalise(torch.from_numpy(images), mean, std), result)


def test_a_constant_channel_normalises_to_zero():
    images = np.full((2, 3, 3, 1), 7, np.uint8)
    assert not normalise(images, *statistics(images)).abs().max() > 1e-6


@settings(max_examples=30, deadline=None)
@given(
    padding=st.integers(0, 3),
    flip=st.booleans(),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32),
)
def test_augmented_images_are_mirrored_or_shifted_crops(padding, flip, channels, seed):
    images = torch.randint(0, 256, (5, 4, 6, channels), dtype=torch.uint8)
    varied = shift_and_mirror(images, padding, flip, torch.Generator().manual_seed(seed))
    assert varied.shape == images.shape
    assert varied.dtype == torch.uint8
    for image, result in zip(images.numpy(), varied.numpy(), strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        crops = [padded[y : y + 4, x : x + 6] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
        candidates = crops + ([crop[:, ::-1] for crop in crops] if flip else [])
        assert any(np.array_equal(result, candidate) for candidate in candidates)


def test_augmentation_reaches_every_offset_and_both_directions():
    image = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4, 1) + 1
    varied = shift_and_mirror(image.expand(600, -1, -1, -1), 1, True, torch.Generator().manual_seed(0))
    assert len({result.numpy().tobytes() for result in varied}) == 18


def test_an_epoch_holds_every_image_once_in_an_order_of_its_own():
    dataset = load_dataset(DataConfig(name="digits"))
    batches = dataset.batches(recipe(seed=3))
    assert batches.steps == 14
    epochs = [torch.cat([batch.images for batch in batches.epoch(epoch)]) for epoch in (0, 0, 1)]
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])
    again = dataset.batches(recipe(seed=3))
    list(again.epoch(0))
    labels = [torch.cat([batch.labels for batch in each.epoch(1)]) for each in (batches, again)]
    assert torch.equal(labels[0], labels[1])
    whole = normalise(dataset.train_images, dataset.mean, dataset.std)
    known = {image.numpy().tobytes() for image in whole}
    assert all(image.numpy().tobytes() in known for image in epochs[2])
    other = dataset.batches(recipe(seed=4))
    assert not torch.equal(next(other.epoch(0)).images, next(batches.epoch(0)).images)


def test_calibration_images_are_always_the_same():
    batches = load_dataset(DataConfig(name="digits", crop_padding=2)).batches(recipe())
    first = list(batches.calibration(250))
    list(batches.epoch(0))
    second = list(batches.calibration(250))
    assert [len(batch) for batch in first] == [100, 100]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_batch_larger_than_the_training_set_is_refused():
    dataset = load_dataset(DataConfig(name="digits", train_limit=50))
    with pytest.raises(ConfigError, match=r"train\.batch_size 100 is more than the 50 images of an epoch"):
        dataset.batches(recipe())


@pytest.mark.parametrize("images", [90, 250])
def test_epochs_of_another_length_use_all_images_equally(images):
    dataset = load_dataset(DataConfig(name="digits", train_limit=100))
    batches = dataset.batches(recipe(batch_size=10, images_per_epoch=images))
    seen = Counter(image.numpy().tobytes() for batch in batches.epoch(0) for image in batch.images)
    assert seen.total() == images
    assert set(seen.values()) <= {images // 100, images // 100 + 1}
    assert len(seen) == min(images, 100)


def test_a_user_can_register_a_dataset():
    DATASETS.register("mine_for_test", DATASETS.get("digits"))
    assert load_dataset(DataConfig(name="mine_for_test")).config.name == "mine_for_test"
    with pytest.raises(ValueError, match="registered already"):
        DATASETS.register("digits", DATASETS.get("digits"))

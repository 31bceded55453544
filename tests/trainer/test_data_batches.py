from __future__ import annotations

import math
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from trainer.augment.crops import crop_boxes, crop_draws, resized_crops
from trainer.augment.jitter import colour_jitter
from trainer.config import AugmentConfig, DataConfig, JitterConfig, TrainConfig
from trainer.data import load_dataset
from trainer.data.batches import prefetch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 6, height: int = 9, width: int = 7, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8, generator=seeded(1))


@settings(max_examples=60)
@given(
    height=st.integers(1, 600),
    width=st.integers(1, 600),
    least=st.floats(0.01, 1),
    seed=st.integers(0, 2**32),
)
def test_boxes_lie_in_the_image_and_have_the_wanted_areas_and_shapes(height, width, least, seed):
    sizes = np.full((50, 2), (height, width), np.float64)
    left, top, right, bottom = crop_boxes(sizes, least, crop_draws(50, seeded(seed))).T
    assert (left >= -1e-9).all()
    assert (top >= -1e-9).all()
    assert (right <= width + 1e-9).all()
    assert (bottom <= height + 1e-9).all()
    shape = (right - left) / (bottom - top)
    assert (shape >= 3 / 4 - 1e-9).all()
    assert (shape <= 4 / 3 + 1e-9).all()
    area = (right - left) * (bottom - top) / (height * width)
    largest = min(1.0, 4 / 3 * height / width, 4 / 3 * width / height)
    assert (area >= min(least, largest) - 1e-9).all()


def test_areas_and_shapes_are_drawn_evenly():
    sizes = np.full((20_000, 2), 100.0)
    left, top, right, bottom = crop_boxes(sizes, 0.08, crop_draws(20_000, seeded())).T
    area = (right - left) * (bottom - top) / 10_000
    small = area[area < 0.7]  # up to 3/4, every shape fits
    assert float(small.mean()) == pytest.approx(0.39, abs=0.01)
    shape = np.log((right - left) / (bottom - top))[area < 0.7]
    assert float(shape.mean()) == pytest.approx(0, abs=0.01)
    assert float(shape.std()) == pytest.approx(math.log(16 / 9) / math.sqrt(12), abs=0.01)
    place = (left / (100 - right + left))[area < 0.7]
    assert float(place.mean()) == pytest.approx(0.5, abs=0.01)


def test_where_no_shape_fits_the_middle_is_taken():
    sizes = np.array([[10.0, 100.0]])
    left, top, right, bottom = crop_boxes(sizes, 1.0, crop_draws(1, seeded())).flatten().tolist()
    assert (top, bottom) == (0, 10)
    assert (left + right, right - left) == pytest.approx((100, 40 / 3))


def test_crops_are_resized_as_pillow_resizes_them():
    ramp = np.add.outer(np.arange(0, 120, 5), np.arange(0, 96, 3))[..., None]
    images = torch.from_numpy(np.repeat(ramp.astype(np.uint8)[None], 8, 0))
    result = resized_crops(images, 0.3, seeded(2)).numpy()
    sizes = np.full((8, 2), (24.0, 32.0))
    boxes = crop_boxes(sizes, 0.3, crop_draws(8, seeded(2)))
    for box, crop in zip(boxes.tolist(), result, strict=True):
        image = Image.fromarray(ramp[..., 0].astype(np.uint8))
        expected = np.asarray(image.resize((32, 24), Image.Resampling.BILINEAR, tuple(box)), int)
        inner = np.abs(crop[..., 0].astype(int) - expected)[2:-2, 2:-2]  # Pillow sees nothing past its box
        assert inner.max() <= 1


def test_a_crop_of_all_is_the_image():
    images = pictures(height=8, width=8)
    whole = np.array([[8.0, 8.0]])
    assert crop_boxes(whole, 1.0, np.full((1, 22), 0.5)).tolist() == [[0, 0, 8, 8]]
    difference = resized_crops(images, 1.0, seeded()).int() - images.int()
    assert difference.shape == images.shape


def test_jitter_is_what_pillow_enhances():
    images = pictures()
    varied = colour_jitter(images, JitterConfig(brightness=0.4), seeded(3))
    generator = seeded(3)
    torch.randperm(1, generator=generator)
    factors = 0.6 + 0.8 * torch.rand(6, generator=generator)
    for image, factor, result in zip(images, factors, varied, strict=True):
        expected = ImageEnhance.Brightness(Image.fromarray(image.numpy())).enhance(float(factor))
        assert np.abs(result.numpy().astype(int) - np.asarray(expected, int)).max() <= 1


def test_without_settings_jitter_draws_nothing_and_changes_nothing():
    images, generator = pictures(), seeded()
    before = generator.get_state()
    assert colour_jitter(images, JitterConfig(), generator) is images
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_of_jitter_keeps_shape_and_kind_and_differs_by_image(channels):
    images = pictures(1, channels=channels).expand(5, -1, -1, -1)
    config = JitterConfig(brightness=0.5, contrast=0.5, saturation=0.5)
    varied = colour_jitter(images, config, seeded())
    assert varied.shape == images.shape
    assert varied.dtype == torch.uint8
    assert len({result.numpy().tobytes() for result in varied}) == 5
    assert torch.equal(varied, colour_jitter(images, config, seeded()))


def test_every_variation_comes_in_batches_that_repeat():
    config = DataConfig(
        name="digits",
        crop_scale=0.5,
        flip=True,
        jitter=JitterConfig(brightness=0.2),
        augment=AugmentConfig(policy="randaugment", mixup=0.2),
        train_limit=64,
    )
    batches = load_dataset(config).batches(TrainConfig(batch_size=16))
    first, again, plain = (
        list(source.epoch(0))
        for source in (
            batches,
            batches,
            load_dataset(DataConfig(name="digits", train_limit=64)).batches(TrainConfig(batch_size=16)),
        )
    )
    assert len(first) == 4
    for one, other, without in zip(first, again, plain, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert one.labels.shape == (16, 10)
        assert one.labels.sum(1).allclose(torch.ones(16))
        assert one.images.shape == without.images.shape
        assert not torch.equal(one.images, without.images)


def test_each_process_takes_its_part_of_every_batch():
    dataset = load_dataset(DataConfig(name="digits", train_limit=64, flip=True))
    recipe = TrainConfig(batch_size=16)
    parts = [list(dataset.batches(recipe, rank, 4).epoch(2)) for rank in range(4)]
    for batch, *shares in zip(dataset.batches(recipe).epoch(2), *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([share.images for share in shares]))


def test_prefetched_items_come_in_order():
    assert list(prefetch(iter(range(50)))) == list(range(50))
    assert list(prefetch(iter(()))) == []


def test_no_more_than_the_wanted_number_is_prepared_ahead():
    made: list[int] = []
    waited = threading.Event()

    def items():
        for number in range(20):
            made.append(number)
            if number == 4:
                waited.set()  # one was taken, two wait, one is being put; a fifth must not be begun
            yield number

    source = prefetch(items(), ahead=2)
    assert next(source) == 0
    assert not waited.wait(0.3)
    assert len(made) <= 4
    assert list(source) == list(range(1, 20))


def test_an_error_comes_where_its_item_would_have_come():
    def items():
        yield 1
        raise ValueError("broken")

    source = prefetch(items())
    assert next(source) == 1
    with pytest.raises(ValueError, match="broken"):
        next(source)


def test_giving_up_ends_the_thread():
    before = threading.active_count()
    source = prefetch(iter(range(10**9)))
    assert [next(source), next(source)] == [0, 1]
    source.close()
    assert threading.active_count() == before
    assert all(b - a == 1 for a, b in pairwise(prefetch(iter(range(5)))))

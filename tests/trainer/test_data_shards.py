from __future__ import annotations

import io
import json
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import damage, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import ConfigError
from trainer.config import DataConfig, ModelConfig, StageConfig, TrainConfig, WebDatasetConfig
from trainer.data import DatasetAbsentError, load_dataset
from trainer.data.stream import StreamedBatches
from trainer.data.webdataset import find_shards, scan
from trainer.loop import train

SHARDS, PER_SHARD, TESTED = 4, 10, 12
CLASSES = 3


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "tinyboost"


def picture(number: int, label: int, kind: str = "png") -> bytes:
    """One grey value of its own, so that it is known whatever is cut out of it; brighter by class."""
    file = io.BytesIO()
    pixels = np.full((12 + number % 3, 14, 3), 80 * label + number % 80, np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def sample(number: int) -> dict[str, bytes]:
    label = number % CLASSES
    if number % 2:
        return {"png": picture(number, label), "json": json.dumps({"label": label, "size": 3}).encode()}
    return {"cls": f"{label}\n".encode(), "png": picture(number, label)}


def write(path: Path, samples: list[dict[str, bytes]], names: list[str]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, parts in zip(names, samples, strict=True):
            for kind, content in parts.items():
                member = tarfile.TarInfo(f"{name}.{kind}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 training images in 4 shards, 12 for testing in one; image i is i + 60 * label bright."""
    for index in range(SHARDS):
        numbers = range(index * PER_SHARD, (index + 1) * PER_SHARD)
        write(tmp_path / f"train-{index:03}.tar", [sample(n) for n in numbers], [f"{n:06}" for n in numbers])
    write(tmp_path / "val.tar", [sample(n) for n in range(TESTED)], [f"n/{n:06}" for n in range(TESTED)])
    return tmp_path


def config(folder: Path, **values: object) -> DataConfig:
    fixed = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "resolution": 8}
    names = WebDatasetConfig(train="train-{000..003}.tar", shuffle=15)
    return DataConfig(**{"name": "webdataset", "path": folder, "webdataset": names, **fixed, **values})


def recipe(**values: object) -> TrainConfig:
    return TrainConfig(**{"batch_size": 8, "threads": 1, **values})


def numbers(images: torch.Tensor) -> list[int]:
    """Which images a batch has: each is one value."""
    values = (images[:, 0].flatten(1) * 255).round()
    assert (values.amax(1) == values.amin(1)).all()
    found = {80 * (n % CLASSES) + n: n for n in range(SHARDS * PER_SHARD)}
    return [found[int(value)] for value in values[:, 0]]


def test_shards_are_a_dataset(folder):
    dataset = load_dataset(config(folder))
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.input_shape == (3, 8, 8)
    images, labels = (np.concatenate(parts) for parts in zip(*dataset.test(), strict=True))
    assert images.shape == (TESTED, 8, 8, 3)
    assert labels.tolist() == [n % CLASSES for n in range(TESTED)]
    assert images[:, 0, 0, 0].tolist() == [80 * (n % CLASSES) + n for n in range(TESTED)]
    assert sum(len(part) for part, _ in dataset.test(5)) == 5
    (folder / "classes.txt").write_text("cat\ndog\nowl\n")
    assert load_dataset(config(folder)).class_names == ("cat", "dog", "owl")


def test_an_epoch_has_every_image_once_with_its_label_in_an_order_of_its_own(folder):
    batches = load_dataset(config(folder)).batches(recipe())
    assert batches.steps == 5
    epochs = []
    for epoch in (0, 1):
        order = []
        for batch in batches.epoch(epoch):
            assert batch.images.shape == (8, 3, 8, 8)
            assert batch.labels.tolist() == [n % CLASSES for n in numbers(batch.images)]
            order += numbers(batch.images)
        assert sorted(order) == list(range(40))
        epochs.append(order)
    assert epochs[0] != epochs[1]
    assert epochs[0] != sorted(epochs[0])


def test_equal_seeds_and_epochs_give_equal_batches_from_any_step(folder):
    varied = config(folder, crop_scale=0.2, flip=True, jitter={"brightness": 0.3, "saturation": 0.5})
    whole = list(load_dataset(varied).batches(recipe(seed=5)).epoch(3))
    again = list(load_dataset(varied).batches(recipe(seed=5)).epoch(3, first_step=2))
    assert len(again) == 3
    for one, other in zip(whole[2:], again, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
    other_seed = next(load_dataset(varied).batches(recipe(seed=6)).epoch(3))
    assert not torch.equal(other_seed.images, whole[0].images)


def test_only_a_few_shards_are_read_at_a_time(folder):
    records = load_dataset(config(folder)).batches(recipe())._records
    order = records.order(np.random.default_rng(0)) // PER_SHARD
    for start in range(0, 40, 15):
        assert len(set(order[start : start + 15].tolist())) <= 3
    starts = {int(records.order(np.random.default_rng(seed))[0]) for seed in range(40)}
    assert len(starts) > 20


def test_the_parts_of_all_processes_are_the_batches(folder):
    dataset = load_dataset(config(folder))
    whole = list(dataset.batches(recipe()).epoch(1))
    parts = [list(dataset.batches(recipe(), rank, 2).epoch(1)) for rank in (0, 1)]
    for batch, *halves in zip(whole, *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([half.images for half in halves]))
        assert torch.equal(batch.labels, torch.cat([half.labels for half in halves]))


def test_calibration_images_are_always_the_same(folder):
    batches = load_dataset(config(folder)).batches(recipe())
    first, second = list(batches.calibration(20)), list(batches.calibration(20))
    assert [len(images) for images in first] == [8, 8]
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert len(set(numbers(torch.cat(first)))) == 16


def test_every_process_calibrates_on_all_of_the_images(folder):
    dataset = load_dataset(config(folder, flip=True, jitter={"brightness": 0.5}))
    alone = list(dataset.batches(recipe()).calibration(20))
    for rank in (0, 1):
        shared = list(dataset.batches(recipe(), rank, 2).calibration(20))
        assert all(torch.equal(one, other) for one, other in zip(alone, shared, strict=True))


def test_limits_and_held_out_images(folder):
    dataset = load_dataset(config(folder, train_limit=16, test_limit=3))
    assert sum(len(images) for images, _ in dataset.train(100)) == 16
    assert sum(len(images) for images, _ in dataset.test()) == 3
    held = load_dataset(config(folder, validation=10))
    tested = {int(image[0, 0, 0]) for images, _ in held.test() for image in images}
    trained = {int(image[0, 0, 0]) for images, _ in held.train(100) for image in images}
    assert (len(tested), len(trained), len(tested & trained)) == (10, 30, 0)


def test_the_mean_is_found_once(folder):
    found = load_dataset(config(folder, mean=None, std=None))
    values = np.array([80 * (n % CLASSES) + n for n in range(40)]) / 255
    assert found.mean == pytest.approx([values.mean()] * 3, abs=1e-3)
    assert found.std == pytest.approx([values.std()] * 3, abs=1e-3)
    assert (found.config.mean, found.config.std) == (found.mean, found.std)


def test_an_image_folder_can_be_streamed(tmp_path):
    for part, count in (("train", 24), ("val", 6)):
        for number in range(count):
            place = tmp_path / part / f"class{number % CLASSES}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.png").write_bytes(picture(number, number % CLASSES))
    dataset = load_dataset(config(tmp_path, name="image_folder", stream=True))
    order = [n for batch in dataset.batches(recipe()).epoch(0) for n in numbers(batch.images)]
    assert sorted(order) == list(range(24))
    assert sum(len(images) for images, _ in dataset.test()) == 6
    with pytest.raises(ConfigError, match=r"data\.stream is for image_folder"):
        load_dataset(DataConfig(name="digits", stream=True))
    with pytest.raises(ConfigError, match=r"data\.resolution is missing"):
        load_dataset(config(tmp_path, name="image_folder", stream=True, resolution=None))


def test_no_thread_is_left_when_an_epoch_is_given_up(folder):
    before = threading.active_count()
    batches = load_dataset(config(folder)).batches(recipe()).epoch(0)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_a_network_learns_from_shards_and_resumes_exactly(folder, tmp_path, monkeypatch):
    stage = StageConfig(expand_ratio=1, channels=8)
    model = ModelConfig(stem_channels=8, stages=(stage,), last_channels=0)
    data, long = config(folder, crop_scale=0.5, flip=True), recipe(epochs=4, learning_rate=0.05)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(data, model, long, whole)
    draw = StreamedBatches.epoch

    def interrupted(batches, epoch, first_step=0):
        if epoch == 2:
            raise KeyboardInterrupt
        return draw(batches, epoch, first_step)

    with monkeypatch.context() as patched:
        patched.setattr(StreamedBatches, "epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(data, model, long, parts)
    train(data, model, long, parts, resume=True)
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()


def test_names_of_shards_may_have_ranges_and_wildcards(folder):
    names = [path.name for path in find_shards(folder, "train-{001..003}.tar", "train")]
    assert names == ["train-001.tar", "train-002.tar", "train-003.tar"]
    assert len(find_shards(folder, "*train*.tar", "train")) == SHARDS
    assert find_shards(folder, "val.tar", "test") == (folder / "val.tar",)
    absolute = find_shards(folder / "elsewhere", f"{folder}/*train*.tar", "train")
    assert absolute == find_shards(folder, "*train*.tar", "train")
    with pytest.raises(ConfigError, match=r"data\.webdataset\.train 'train\*\*\.tar': Invalid pattern"):
        find_shards(folder, "train**.tar", "train")
    with pytest.raises(DatasetAbsentError, match=r"train-004\.tar: no such shard.*data\.webdataset\.train"):
        find_shards(folder, "train-{000..004}.tar", "train")
    with pytest.raises(DatasetAbsentError, match=r"holds no shards '\*\.zip': set data\.webdataset\.test"):
        find_shards(folder, "*.zip", "test")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"png": b"x"}, "has neither .cls nor .json"),
        ({"png": b"x", "cls": b"cat"}, r"000007\.cls holds no label"),
        ({"png": b"x", "cls": b"-1"}, r"000007\.cls holds no label"),
        ({"png": b"x", "json": b'{"name": "cat"}'}, r"000007\.json holds no label"),
        ({"png": b"x", "json": b"{"}, r"000007\.json holds no label"),
    ],
)
def test_a_sample_without_a_label_is_named(folder, parts, message):
    write(folder / "train-001.tar", [sample(0), parts], ["000000", "000007"])
    with pytest.raises(ConfigError, match=message) as caught:
        load_dataset(config(folder))
    assert "train-001.tar" in str(caught.value)


def test_an_extension_is_all_behind_the_first_dot(folder):
    """So masks and other pictures of a sample are not its image, nor are files of other programs."""
    image = {"seg.png": b"mask", "PNG": picture(5, 2), "thumb.jpg": b"small", "cls": b"2", "info.json": b"{"}
    write(folder / "train-001.tar", [{"_000000.png": b"finder"}, image], ["n.02/", "n.02/000005"])
    dataset = load_dataset(config(folder, webdataset={"train": "train-00[01].tar"}))
    assert len(dataset.train_records) == PER_SHARD + 1
    pixels = dataset.train_records.open(PER_SHARD).decode(3)
    assert (pixels == 80 * 2 + 5).all()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["photo.0000", "photo.0001"], r"photo\.0000\.png: the key ends at the first dot.* rename it"),
        (["000001", "000001"], r"000001\.cls comes twice: give each sample a key of its own"),
    ],
)
def test_samples_that_one_key_would_join_are_refused(folder, names, message):
    write(folder / "train-001.tar", [sample(0), sample(2)], names)
    with pytest.raises(ConfigError, match=rf"train-001\.tar: {message}") as caught:
        load_dataset(config(folder))
    assert "\n" not in str(caught.value)


def test_a_damaged_image_is_named_when_its_batch_comes(folder):
    broken = {"cls": b"1", "png": picture(1, 1)[:45]}
    write(folder / "train-001.tar", [sample(2), broken], ["000002", "000007"])
    with pytest.raises(ConfigError, match=r"train-001\.tar: 000007\.png: damaged image"):
        list(load_dataset(config(folder, webdataset={"train": "train-001.tar"})).train(9))


def test_labels_beyond_the_named_classes_are_refused(folder):
    (folder / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ConfigError, match="train labels go from 0 to 2, but there are 2 classes"):
        load_dataset(config(folder))


def test_a_label_that_would_be_one_of_very_many_is_refused(folder):
    write(folder / "train-001.tar", [{"cls": b"2147483647", "png": picture(0, 0)}], ["000000"])
    with pytest.raises(ConfigError, match="label 2147483647 is above 100000: number the classes 0, 1, 2"):
        load_dataset(config(folder))


def test_shards_of_one_class_are_refused(folder):
    samples = [sample(CLASSES * n + 1) for n in range(4)]
    for path in folder.glob("train-*"):
        write(path, samples, [f"{n:06}" for n in range(4)])
    (folder / "classes.txt").write_text("cat\ndog\nowl\n")
    with pytest.raises(
        ConfigError, match="all training samples are of class 'dog': add those of another one"
    ):
        load_dataset(config(folder))


def test_what_is_in_the_shards_is_kept_until_they_change(folder, cache, monkeypatch):
    first = load_dataset(config(folder))
    assert len(list(cache.glob("webdataset-*.npz"))) == 2
    with monkeypatch.context() as patched:
        patched.setattr("trainer.data.webdataset.scan", None)  # not called any more
        assert np.array_equal(load_dataset(config(folder)).train_records.labels, first.train_records.labels)
    write(folder / "train-000.tar", [sample(2)], ["000002"])
    assert len(load_dataset(config(folder)).train_records) == 31
    for path in cache.iterdir():
        path.write_bytes(b"damaged")
    assert len(load_dataset(config(folder)).train_records) == 31


def test_without_a_home_folder_nothing_is_kept(folder, monkeypatch, caplog):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert len(load_dataset(config(folder)).train_records) == SHARDS * PER_SHARD
    assert "no home folder: nothing is kept for the next time" in caplog.text


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_shards_are_errors_that_name_the_file(tmp_path, data):
    path = tmp_path / "x.tar"
    write(path, [sample(n) for n in range(3)], [f"{n:03}" for n in range(3)])
    content = path.read_bytes()
    head = data.draw(st.booleans(), label="in a header")
    path.write_bytes(damage(data, content[:512]) + content[512:] if head else damage(data, content))
    problem, found = outcome(lambda: scan(path))
    if problem is None:
        assert (found["offsets"] + found["sizes"] <= path.stat().st_size).all()
    else:
        assert str(path) in problem
        assert "\n" not in problem


def headers(path: Path) -> list[int]:
    with tarfile.open(path) as archive:
        return [member.offset for member in archive]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content, header: content[:header],
        lambda content, header: content[: header + 100],
        lambda content, header: content[:header] + bytes(512) + content[header + 512 :],
        lambda content, header: content[:header] + b"\x99" * 512 + content[header + 512 :],
        lambda content, header: content.rstrip(b"\0") + bytes(512 + -len(content.rstrip(b"\0")) % 512),
        lambda content, header: content + content,
    ],
    ids=[
        "cut between",
        "cut in a header",
        "a hole",
        "a damaged header",
        "cut in its end",
        "something behind",
    ],
)
def test_a_shard_that_seems_to_end_early_is_refused(tmp_path, spoil):
    path = tmp_path / "x.tar"
    write(path, [sample(n) for n in range(6)], [f"{n:03}" for n in range(6)])
    path.write_bytes(spoil(path.read_bytes(), headers(path)[4]))
    with pytest.raises(ConfigError, match=r"x\.tar: damaged or cut off behind byte \d+: fetch it anew"):
        scan(path)


@pytest.mark.parametrize("blocks", [2, 3, 20, 4096])
def test_a_shard_may_end_with_two_blocks_of_zeros_or_more(tmp_path, blocks):
    path = tmp_path / "x.tar"
    write(path, [sample(n) for n in range(6)], [f"{n:03}" for n in range(6)])
    with tarfile.open(path) as archive:
        list(archive)
        end = archive.offset
    path.write_bytes(path.read_bytes()[:end] + bytes(512 * blocks))
    assert len(scan(path)["labels"]) == 6

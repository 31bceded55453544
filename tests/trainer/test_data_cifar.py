from __future__ import annotations

import hashlib
import pickle
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import damage, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from shared_data import shared_data

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data import DATASETS, DatasetAbsentError
from trainer.data.cifar import CIFAR10, CIFAR100, Layout, load

COUNT = 6
SMALL10 = replace(
    CIFAR10,
    files=tuple((name, COUNT) for name, _ in CIFAR10.files),
    test_file=("test_batch", COUNT),
)
SMALL100 = replace(CIFAR100, files=(("train", COUNT),), test_file=("test", COUNT))
LAYOUTS = pytest.mark.parametrize("layout", [SMALL10, SMALL100], ids=["cifar10", "cifar100"])


def content(layout: Layout, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Planar pixels uint8 [N, 3072] and labels of each file."""
    chance = np.random.default_rng(seed)
    return {
        name: (chance.integers(0, 256, (count, 3072), dtype=np.uint8), chance.integers(0, 10, count))
        for name, count in (*layout.files, layout.test_file)
    }


def names_of(layout: Layout) -> list[str]:
    return [f"class {number}" for number in range(10)]


def python2_pickle(value: Any) -> bytes:
    """What Python 2's cPickle writes at protocol 2, as the original files have it: str are bytes."""

    def text(raw: bytes) -> bytes:
        return b"T" + struct.pack("<I", len(raw)) + raw

    def write(item: Any) -> bytes:
        if isinstance(item, dict):
            return b"}(" + b"".join(write(part) for pair in item.items() for part in pair) + b"u"
        if isinstance(item, list):
            return b"](" + b"".join(map(write, item)) + b"e"
        if isinstance(item, np.ndarray):
            shape = b"".join(b"J" + struct.pack("<i", size) for size in item.shape)
            create = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            kind = (
                b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
                b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            )
            return create + b"(K\x01" + b"(" + shape + b"t" + kind + b"\x89" + text(item.tobytes()) + b"tb"
        return text(item.encode()) if isinstance(item, str) else b"K" + bytes([item])

    return b"\x80\x02" + write(value) + b"."


def write_python(folder: Path, layout: Layout, dump: Any = python2_pickle) -> dict[str, Any]:
    files = content(layout)
    for name, (pixels, labels) in files.items():
        (folder / name).write_bytes(
            dump({"batch_label": name, layout.label_key: labels.tolist(), "data": pixels})
        )
    (folder / layout.meta_file).write_bytes(dump({layout.names_key: names_of(layout)}))
    return files


def write_binary(folder: Path, layout: Layout) -> dict[str, Any]:
    files = content(layout)
    for name, (pixels, labels) in files.items():
        coarse = [bytes(layout.label_bytes - 1)] * len(labels)
        records = [
            other + bytes([label]) + image.tobytes()
            for other, label, image in zip(coarse, labels, pixels, strict=True)
        ]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    (folder / layout.names_file).write_text("\n".join(names_of(layout)) + "\n\n")
    return files


def read(folder: Path, layout: Layout) -> Any:
    return load(DataConfig(name="cifar", path=folder), layout)


WRITERS = {
    "python": write_python,
    "binary": write_binary,
    "repickled": lambda folder, layout: write_python(
        folder, layout, lambda value: pickle.dumps(value, protocol=2)
    ),
    "protocol 4": lambda folder, layout: write_python(
        folder, layout, lambda value: pickle.dumps(value, protocol=4)
    ),
}


def test_the_writer_of_the_test_writes_what_python_reads():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 6)
    loaded = pickle.loads(python2_pickle({"data": pixels, "labels": [3, 4]}), encoding="bytes")
    np.testing.assert_array_equal(loaded[b"data"], pixels)
    assert loaded[b"labels"] == [3, 4]


@LAYOUTS
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("nested", [False, True])
def test_both_original_layouts_are_read(tmp_path, layout, kind, nested):
    folder = tmp_path / layout.folders[kind == "binary"] if nested else tmp_path
    folder.mkdir(exist_ok=True)
    files = WRITERS[kind](folder, layout)
    samples = read(tmp_path, layout)
    pixels = np.concatenate([files[name][0] for name, _ in layout.files])
    labels = np.concatenate([files[name][1] for name, _ in layout.files])
    assert samples.train_images.shape == (COUNT * len(layout.files), 32, 32, 3)
    for channel in range(3):  # red first, row by row
        plane = samples.train_images[..., channel].reshape(len(labels), -1)
        np.testing.assert_array_equal(plane, pixels[:, channel * 1024 : (channel + 1) * 1024])
    np.testing.assert_array_equal(samples.train_labels, labels)
    np.testing.assert_array_equal(samples.test_labels, files[layout.test_file[0]][1])
    assert samples.class_names == tuple(names_of(layout))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data | {"data": data["data"][:-1]}, "'data' is no array of 6 x 3072 bytes"),
        (lambda data: data | {"labels": data["labels"][:-1]}, "'labels' is no list of 6 labels"),
        (lambda data: data | {"labels": ["cat"] * 6}, "'labels' is no list of 6 labels"),
        (lambda data: {"labels": data["labels"]}, "'data' is no array"),
        (lambda data: [data], "no CIFAR file"),
    ],
)
def test_wrong_content_is_an_error_that_names_the_file(tmp_path, change, message):
    write_python(tmp_path, SMALL10)
    pixels, labels = content(SMALL10)["data_batch_3"]
    wrong = change({"data": pixels, "labels": labels.tolist()})
    (tmp_path / "data_batch_3").write_bytes(python2_pickle(wrong))
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, SMALL10)
    assert "data_batch_3" in str(caught.value)


def test_a_pickle_can_run_nothing(tmp_path):
    write_python(tmp_path, SMALL10)
    victim = tmp_path / "victim"
    (tmp_path / "test_batch").write_bytes(f"cos\nsystem\n(S'touch {victim}'\ntR.".encode())
    with pytest.raises(ConfigError, match="test_batch: damaged"):
        read(tmp_path, SMALL10)
    assert not victim.exists()


def test_absent_files_say_what_to_do(tmp_path):
    with pytest.raises(DatasetAbsentError, match="folder of the unpacked archive"):
        read(tmp_path, SMALL10)
    with pytest.raises(DatasetAbsentError, match=r"data\.path is missing.*cifar-100-python"):
        DATASETS.get("cifar100")(DataConfig(name="cifar100"))
    with pytest.raises(DatasetAbsentError, match="no such folder"):
        DATASETS.get("cifar10")(DataConfig(name="cifar10", path=tmp_path / "absent"))
    write_binary(tmp_path, SMALL10)
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(DatasetAbsentError, match=r"data_batch_4\.bin is absent: unpack the whole archive"):
        read(tmp_path, SMALL10)


def test_the_real_sizes_are_asked_for(tmp_path):
    write_binary(tmp_path, SMALL10)
    with pytest.raises(ConfigError, match=r"18438 bytes, but 10000 images have 30730000"):
        read(tmp_path, CIFAR10)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_errors_that_name_the_file(tmp_path, data):
    layout = data.draw(st.sampled_from([SMALL10, SMALL100]))
    folder = tmp_path / layout.label_key
    if not folder.exists():
        folder.mkdir()
        write_python(folder, layout)
        (folder / "whole").write_bytes((folder / layout.test_file[0]).read_bytes())
    whole = (folder / "whole").read_bytes()
    head = data.draw(st.booleans(), label="in the structure")  # else most changes are in the pixels
    damaged = damage(data, whole[:300]) + whole[300:] if head else damage(data, whole)
    (folder / layout.test_file[0]).write_bytes(damaged)
    problem, samples = outcome(lambda: read(folder, layout))
    if problem is None:
        assert samples.test_images.shape == (COUNT, 32, 32, 3)
    else:
        assert layout.test_file[0] in problem
        assert "\n" not in problem


def test_the_official_bytes_are_read_as_the_pictures_they_hold(tmp_path):
    with Image.open(shared_data("cifar10", "test_batch.webp")) as mosaic:  # 100 x 100 tiles
        tiles = np.asarray(mosaic.convert("RGB")).reshape(100, 32, 100, 32, 3).swapaxes(1, 2)
    images = tiles.reshape(-1, 32, 32, 3)
    labels = np.fromfile(shared_data("cifar10", "test_batch.labels.u8"), np.uint8)
    records = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(-1, 3072)], axis=1)
    assert hashlib.md5(records).hexdigest() == "803d5f7f4d78ea53de84dbe85f74fb6d"
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    (tmp_path / "batches.meta.txt").write_text("airplane\nautomobile\n")
    samples = read(tmp_path, replace(CIFAR10, files=(CIFAR10.test_file,)))
    np.testing.assert_array_equal(samples.test_images, images)
    np.testing.assert_array_equal(samples.test_labels, labels)

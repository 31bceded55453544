from __future__ import annotations

import zipfile

import numpy as np
import pytest
from damage import damage, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import ConfigError
from trainer.config import DataConfig, TrainConfig
from trainer.data import load_dataset


def arrays(**changes: object) -> dict[str, object]:
    generator = np.random.default_rng(1)
    return {
        "train_images": generator.integers(0, 256, (8, 6, 4, 3), dtype=np.uint8),
        "train_labels": np.arange(8) % 3,
        "test_images": generator.integers(0, 256, (4, 6, 4, 3), dtype=np.uint8),
        "test_labels": np.arange(4) % 3,
        **changes,
    }


def test_an_npz_file_may_hold_features(tmp_path):
    features = np.random.default_rng(2).normal(5, 3, (12, 6, 4, 2)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", **arrays(train_images=features[:8], test_images=features[8:]))
    config = DataConfig(name="npz", path=tmp_path / "mine.npz")
    dataset = load_dataset(config)
    assert dataset.input_shape == (2, 6, 4)
    assert dataset.mean == pytest.approx(features[:8].mean((0, 1, 2)), rel=1e-5)
    assert dataset.std == pytest.approx(features[:8].std((0, 1, 2)), rel=1e-5)
    batch = next(dataset.batches(TrainConfig(batch_size=8)).epoch(0)).images
    assert batch.shape == (8, 2, 6, 4)
    assert batch.mean((0, 2, 3)).abs().max() < 1e-5
    for setting, name in (({"flip": True}, "flip"), ({"crop_scale": 0.5}, "crop_scale")):
        with pytest.raises(ConfigError, match=f"data.{name} is for images; dataset npz gives features"):
            load_dataset(config.model_copy(update=setting))
    with pytest.raises(ConfigError, match=r"data\.resolution is for images; these are features of 6x4"):
        load_dataset(config.model_copy(update={"resolution": 8}))
    features[3, 0, 0, 0] = np.nan
    np.savez(tmp_path / "mine.npz", **arrays(train_images=features[:8], test_images=features[8:]))
    with pytest.raises(ConfigError, match="train features are not all finite"):
        load_dataset(config)


def test_an_npz_file_is_a_dataset(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays(class_names=np.array(["a", "b", "c"])))
    dataset = load_dataset(DataConfig(name="npz", path=tmp_path / "mine.npz", train_limit=5, test_limit=2))
    assert dataset.input_shape == (3, 6, 4)
    assert (len(dataset.train_images), len(dataset.train_labels), len(dataset.test_images)) == (5, 5, 2)
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.train_labels.dtype == np.int64


def test_class_names_in_an_npz_file_may_be_bytes(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays(class_names=np.array([b"cat", "k\xe4se".encode(), b"owl"])))
    assert load_dataset(DataConfig(name="npz", path=tmp_path / "mine.npz")).class_names == (
        "cat",
        "k\xe4se",
        "owl",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": np.arange(7) % 3}, r"8 train images, but labels of shape \[7\]"),
        ({"test_labels": np.array([0, 1, 2, 3])}, r"test labels go from 0 to 3, but there are 3 classes"),
        ({"train_labels": np.arange(8) - 1}, "train labels go from -1"),
        ({"train_labels": np.zeros(8, int), "test_labels": np.zeros(4, int)}, "are of class '0'"),
        ({"class_names": np.array(["a", "b", "c\udce9"])}, "the name .* of a class is not UTF-8"),
        (
            {"train_labels": np.arange(8) * 2**40},
            "label 7696581394432 is above 100000: number the classes 0, 1, 2 and so on",
        ),
        ({"class_names": np.array([["a", "b", "c"]])}, r"class_names must be one row .* it is \[1, 3\]"),
        ({"train_labels": np.zeros(8)}, "train_labels must hold integers; it holds float64"),
        ({"train_images": np.zeros((8, 6, 4, 3))}, "train images must be uint8"),
        ({"train_images": np.zeros((8, 6, 4), np.uint8)}, "train images must be uint8"),
        ({"train_images": np.zeros((8, 6, 4, 2), np.uint8)}, "train images must be uint8"),
        (
            {"train_images": np.zeros((0, 6, 4, 3), np.uint8), "train_labels": np.zeros(0, int)},
            "train images",
        ),
        ({"test_images": np.zeros((4, 4, 6, 3), np.uint8)}, "they must be alike"),
    ],
)
def test_a_wrong_npz_file_is_an_error_that_names_it(tmp_path, changes, message):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays(**changes))
    with pytest.raises(ConfigError, match=message) as caught:
        load_dataset(DataConfig(name="npz", path=path))
    assert str(path) in str(caught.value)


def test_missing_npz_parts_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.path is missing"):
        load_dataset(DataConfig(name="npz"))
    with pytest.raises(ConfigError, match="no such file"):
        load_dataset(DataConfig(name="npz", path=tmp_path / "absent.npz"))
    np.savez(tmp_path / "mine.npz", train_images=np.zeros((1, 2, 2, 1), np.uint8))
    with pytest.raises(ConfigError, match="array 'train_labels' is missing"):
        load_dataset(DataConfig(name="npz", path=tmp_path / "mine.npz"))
    np.savez(tmp_path / "pickled.npz", **arrays(train_labels=np.array([{}] * 8)))
    with pytest.raises(ConfigError, match=r"pickled\.npz: damaged, or no \.npz file"):
        load_dataset(DataConfig(name="npz", path=tmp_path / "pickled.npz"))


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<i8', 'shape': (8,",
        b"{'descr': '<i8' 'shape'}",
        b"\n\n ]",
        b"{'descr': (, 'shape': (8,)}",
    ],
)
def test_a_damaged_header_of_an_array_is_an_error_of_one_line(tmp_path, header):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays())
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    content = members["train_labels.npy"]
    members["train_labels.npy"] = content[:10] + header.ljust(len(content[:128]) - 10) + content[128:]
    with zipfile.ZipFile(path, "w") as new:
        for name, member in members.items():
            new.writestr(name, member)
    with pytest.raises(
        ConfigError, match=r"mine\.npz: damaged, or no \.npz file \(.*\): write it anew"
    ) as caught:
        load_dataset(DataConfig(name="npz", path=path))
    assert "\n" not in str(caught.value)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damaged_npz_files_are_errors_that_name_the_file(tmp_path, data):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **arrays())
    path.write_bytes(damage(data, path.read_bytes()))
    problem, dataset = outcome(lambda: load_dataset(DataConfig(name="npz", path=path)))
    assert (
        dataset.input_shape == (3, 6, 4) if problem is None else str(path) in problem and "\n" not in problem
    )

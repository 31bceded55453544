from __future__ import annotations

import errno
import io
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from damage import damage, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps
from shared_data import shared_data

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data import DatasetAbsentError, load_dataset
from trainer.data.image_folder import list_files
from trainer.data.images import EncodedImage
from trainer.data.stream import middle

COLOURS = {"blue": (10, 20, 230), "red": (220, 30, 10), "yellow": (230, 220, 20)}


def encoded(pixels: np.ndarray, kind: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels)[: 2 if channels == 1 else 3]
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of one colour each, 4 for training and 2 for testing, of several formats and sizes."""
    for part, count in (("train", 4), ("val", 2)):
        for name, colour in COLOURS.items():
            place = tmp_path / part / name
            place.mkdir(parents=True)
            for index in range(count):
                kind = ("png", "jpeg", "webp", "bmp")[index]
                pixels = np.full((8 + index, 10, 3), colour, np.uint8)
                (place / f"{index}.{kind}").write_bytes(encoded(pixels, kind))
            (place / "notes.txt").write_text("not an image")
    return tmp_path


def config(folder: Path, **values: object) -> DataConfig:
    return DataConfig(name="image_folder", path=folder, **{"resolution": 6, **values})


def test_class_folders_of_any_format_are_a_dataset(folder):
    dataset = load_dataset(config(folder))
    assert dataset.class_names == ("blue", "red", "yellow")
    assert dataset.train_images.shape == (12, 6, 6, 3)
    assert dataset.test_images.shape == (6, 6, 6, 3)
    for images, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        expected = np.array([COLOURS[dataset.class_names[label]] for label in labels])
        assert np.abs(images.mean((1, 2)) - expected).max() < 6  # JPEG and WebP are lossy


def test_the_order_mixes_the_classes_and_is_always_the_same(folder):
    first, second = load_dataset(config(folder)), load_dataset(config(folder))
    np.testing.assert_array_equal(first.train_labels, second.train_labels)
    np.testing.assert_array_equal(first.train_images, second.train_images)
    assert (np.diff(first.train_labels) < 0).any()
    few = load_dataset(config(folder, train_limit=5, test_limit=2))
    np.testing.assert_array_equal(few.train_images, first.train_images[:5])
    np.testing.assert_array_equal(few.test_labels, first.test_labels[:2])


def test_the_folder_for_testing_may_be_called_test(folder):
    (folder / "val").rename(folder / "test")
    assert len(load_dataset(config(folder)).test_images) == 6


def test_without_a_resolution_all_sizes_must_be_alike(folder):
    with pytest.raises(ConfigError, match=r"others are 10x\d+: set data.resolution"):
        load_dataset(config(folder, resolution=None))


def test_grey_images_have_one_channel(tmp_path):
    pixels = noise(5, 7, channels=1)
    for place in ("train/a", "train/b", "val/a"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "0.png").write_bytes(encoded(pixels))
    dataset = load_dataset(config(tmp_path, resolution=None))
    np.testing.assert_array_equal(dataset.test_images, pixels[None, ..., None])
    assert dataset.input_shape == (1, 5, 7)


@pytest.mark.parametrize("stream", [False, True])
def test_images_are_grey_only_where_all_are(folder, caplog, stream):
    _, files, _ = list_files(config(folder))
    files[0][0].write_bytes(encoded(noise(8, 10, channels=1)))
    with caplog.at_level(logging.INFO):
        assert load_dataset(config(folder, stream=stream)).input_shape[0] == 3
    assert "1 of 12 training images are grey: all are read as RGB" in caplog.text


def test_missing_folders_say_what_is_needed(folder, tmp_path):
    with pytest.raises(DatasetAbsentError, match=r"data\.path is missing.*train/<class>/"):
        load_dataset(DataConfig(name="image_folder"))
    with pytest.raises(DatasetAbsentError, match=r"train: no such folder.*a folder of images for each class"):
        load_dataset(config(folder / "val"))
    (folder / "val" / "green").mkdir()
    with pytest.raises(ConfigError, match="class 'green' has no folder in train/"):
        load_dataset(config(folder))
    (folder / "empty" / "train").mkdir(parents=True)
    (folder / "empty" / "val").mkdir()
    with pytest.raises(ConfigError, match="holds no class folders"):
        load_dataset(config(folder / "empty"))
    (folder / "empty" / "train" / "a").mkdir()
    with pytest.raises(ConfigError, match="holds no images"):
        load_dataset(config(folder / "empty"))


@pytest.mark.parametrize("stream", [False, True])
def test_class_folders_that_nothing_can_be_learnt_from_are_refused(folder, stream):
    (folder / "train" / "green" / "photo.jpg").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"train/green: holds no images .*: put some there, or remove"):
        load_dataset(config(folder, stream=stream))
    for part in ("train", "val"):
        for path in (folder / part).iterdir():
            path.rename(folder / f"{part} {path.name}" if path.name != "red" else path)
    with pytest.raises(ConfigError, match="all training samples are of class 'red'") as caught:
        load_dataset(config(folder, stream=stream))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_a_class_name_that_is_not_utf_8_is_refused(folder, stream):
    (folder / "train" / "red").rename(folder / "train" / os.fsdecode(b"caf\xe9"))
    (folder / "val" / "red").rename(folder / "val" / os.fsdecode(b"caf\xe9"))
    with pytest.raises(
        ConfigError, match=r"the name 'caf\\udce9' of a class is not UTF-8: rename it"
    ) as caught:
        load_dataset(config(folder, stream=stream))
    str(caught.value).encode()


def test_an_unreadable_folder_is_named(folder, monkeypatch):
    (folder / "train" / "red" / "more").mkdir()
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "more":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ConfigError, match=r"train/red/more: unreadable \(Permission denied\)"):
        load_dataset(config(folder))


def test_a_damaged_image_is_named(folder):
    path = folder / "train" / "red" / "1.jpeg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ConfigError, match=r"red/1\.jpeg: damaged image") as caught:
        load_dataset(config(folder))
    assert "\n" not in str(caught.value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["png", "jpeg", "webp", "bmp", "gif", "tiff", "ppm"]))
def test_damaged_images_are_errors_of_one_line(data, kind):
    content = damage(data, encoded(noise(9, 7), kind))
    problem, pixels = outcome(lambda: EncodedImage(content, "place/x.img").decode(3, (4, 5)))
    if problem is None:
        assert pixels.shape == (4, 5, 3)
    else:
        assert problem.startswith("place/x.img: damaged image")
        assert "\n" not in problem


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_images_of_any_mode_are_decoded(mode):
    file = io.BytesIO()
    Image.fromarray(noise(8, 8)).convert(mode).save(file, "tiff")
    for channels in (1, 3):
        assert EncodedImage(file.getvalue(), "x").decode(channels).shape == (8, 8, channels)


def test_16_bit_pixels_are_refused():
    data = encoded(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    with pytest.raises(ConfigError, match="not of 8 bits"):
        EncodedImage(data, "x").decode(3)


def test_a_box_is_cut_out_and_resized_as_pillow_does():
    pixels = noise(20, 30)
    box = (3.5, 2.0, 27.0, 18.25)
    expected = Image.fromarray(pixels).resize((9, 8), Image.Resampling.BILINEAR, box)
    result = EncodedImage(encoded(pixels), "x").decode(3, (8, 9), box)
    np.testing.assert_array_equal(result, np.asarray(expected))


def test_a_jpeg_decoded_at_a_fraction_looks_like_the_whole():
    ramp = np.add.outer(np.arange(512), np.arange(512)) // 4
    data = encoded(ramp.astype(np.uint8), "jpeg")
    small = EncodedImage(data, "x").decode(1, (32, 32), (64, 128, 448, 480)).astype(int)
    whole = Image.open(io.BytesIO(data)).resize((32, 32), Image.Resampling.BILINEAR, (64, 128, 448, 480))
    assert np.abs(small[..., 0] - np.asarray(whole, int)).max() <= 2


def oriented(kind: str, orientation: object, pixels: np.ndarray) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_exif_data_say(kind, orientation):
    data = oriented(kind, orientation, noise(20, 30))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image = EncodedImage(data, "x")
    assert image.size == expected.size
    np.testing.assert_array_equal(image.decode(3), np.asarray(expected.convert("RGB")))
    box = (3.5, 2.0, 17.0, 18.25)
    cut = expected.convert("RGB").resize((9, 8), Image.Resampling.BILINEAR, box)
    np.testing.assert_array_equal(image.decode(3, (8, 9), box), np.asarray(cut))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_jpeg_decoded_at_a_fraction_looks_like_the_whole(orientation):
    ramp = np.add.outer(np.arange(512) // 4, np.arange(640) // 8).astype(np.uint8)
    data = oriented("jpeg", orientation, ramp)
    whole = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    box = (64, 128, 448, 480)
    small = EncodedImage(data, "x").decode(1, (32, 40), box)[..., 0].astype(int)
    expected = whole.resize((40, 32), Image.Resampling.BILINEAR, box)
    assert np.abs(small - np.asarray(expected, int)).max() <= 2


@pytest.mark.parametrize(
    "content", [b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\x09"]
)
def test_an_image_with_damaged_exif_data_is_not_turned(content):
    file = io.BytesIO()
    Image.fromarray(noise(8, 6)).save(file, "jpeg", exif=content)
    image = EncodedImage(file.getvalue(), "x")
    assert image.size == (6, 8)
    assert image.decode(3).shape == (8, 6, 3)


def test_photos_of_signs_are_read(tmp_path):
    import tarfile

    with tarfile.open(shared_data("sign_digits", "sign_digits.tar.xz")) as archive:
        members = [member for member in archive if member.name.endswith(".JPG")][::40]
        for index, member in enumerate(members):
            place = tmp_path / ("val" if index % 5 == 0 else "train") / member.name.split("/")[-2]
            place.mkdir(parents=True, exist_ok=True)
            (place / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    dataset = load_dataset(config(tmp_path, resolution=48))
    assert len(dataset.train_images) + len(dataset.test_images) == len(members)
    assert dataset.train_images.shape[1:] == (48, 48, 3)
    assert dataset.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("size", "wanted"), [((500, 375), (160, 160)), ((100, 300), (64, 96)), ((8, 8), (8, 8))]
)
def test_the_middle_is_that_of_resize_and_centre_crop(size, wanted):
    left, top, right, bottom = middle(size, wanted)
    width, height = size
    assert (left + right, top + bottom) == pytest.approx(size)
    assert (right - left) / (bottom - top) == pytest.approx(wanted[1] / wanted[0])
    if wanted[0] == wanted[1]:
        share = wanted[0] / np.ceil(wanted[0] / 0.875)
        assert min(right - left, bottom - top) == pytest.approx(min(width, height) * share)
    assert left >= 0
    assert top >= 0

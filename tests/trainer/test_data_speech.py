from __future__ import annotations

import csv
import io
import re
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import damage, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared_data import shared_data

from common.errors import ConfigError
from tools.config import load_config
from trainer import loop
from trainer.config import DataConfig, SpeechCommandsConfig, TrainConfig
from trainer.data import DatasetAbsentError, load_dataset
from trainer.data.clip_variation import VariedClips
from trainer.data.dataset import hold_out
from trainer.data.mfcc import loudest_to_one, mfcc
from trainer.data.speech_commands import read_wave, speaker_split

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "keywords.toml"
WORDS = ("no", "yes")


def wav(samples: np.ndarray, rate: int = 16_000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(samples.dtype.itemsize)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
    return file.getvalue()


def tone(hertz: float, samples: int = 16_000, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    sound = np.sin(2 * np.pi * hertz / 16_000 * np.arange(samples)) + 0.1 * chance.normal(size=samples)
    return (8000 * sound).astype("<i2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two words and one of the others, each of ten speakers, and two files of noise."""
    for number, word in enumerate((*WORDS, "bird")):
        (tmp_path / word).mkdir()
        for speaker in range(10):
            clip = tone(300 * (number + 1), 16_000 - 100 * speaker, speaker)
            (tmp_path / word / f"speaker{speaker}_nohash_0.wav").write_bytes(wav(clip))
    (tmp_path / "_background_noise_").mkdir()
    chance = np.random.default_rng(0)
    for name, seconds in (("hum", 20), ("hiss", 10)):
        sound = chance.integers(-3000, 3000, 16_000 * seconds).astype("<i2")
        (tmp_path / "_background_noise_" / f"{name}.wav").write_bytes(wav(sound))
    lists = {"validation_list.txt": (8,), "testing_list.txt": (9, 7)}
    for name, speakers in lists.items():
        lines = [f"{word}/speaker{n}_nohash_0.wav" for word in (*WORDS, "bird") for n in speakers]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path


def config(folder: Path, *, data: dict[str, object] | None = None, **values: object) -> DataConfig:
    settings = SpeechCommandsConfig(**{"words": WORDS, **values})
    return DataConfig(name="speech_commands", path=folder, speech_commands=settings, **(data or {}))


def test_features_are_those_of_tf_signal():
    signal = pytest.importorskip("tensorflow").signal
    chance = np.random.default_rng(3)
    clips = np.stack([tone(hertz) / 32768 for hertz in (80, 440, 3000, 7000)] + [chance.normal(size=16_000)])
    clips = clips.astype(np.float32)
    spectrum = abs(signal.stft(clips, frame_length=480, frame_step=320, window_fn=signal.hann_window).numpy())
    weights = signal.linear_to_mel_weight_matrix(40, spectrum.shape[-1], 16_000, 20.0, 4000.0).numpy()
    expected = signal.mfccs_from_log_mel_spectrograms(np.log(spectrum @ weights + 1e-6))[..., :10].numpy()
    result = mfcc(torch.from_numpy(clips)).numpy()
    assert result.shape == (5, 49, 10)
    np.testing.assert_allclose(result, expected, atol=2e-3)


def test_features_are_those_of_mlperf_tiny():
    """The benchmark cuts off to int8, so values at the edge of a step may fall to either side."""
    import soundfile

    rows = list(csv.DictReader(shared_data("speech_commands", "mlperf_test_1000.csv").open()))[::4]
    clips = []
    with tarfile.open(shared_data("speech_commands", "mlperf_test_1000.tar")) as archive:
        for row in rows:
            data = archive.extractfile(row["path"]).read()
            clips.append(soundfile.read(io.BytesIO(data), dtype="int16")[0])
    with np.load(shared_data("speech_commands", "mlperf_test_1000_mfcc_int8.npz")) as official:
        expected = official["x"][::4]
    features = mfcc(loudest_to_one(torch.from_numpy(np.stack(clips)).float())).numpy()
    steps = features / 0.5847029089927673 + 83  # the input of its quantised model
    different = steps.astype(np.int32).astype(np.int8) != expected
    assert np.abs(steps - np.round(steps))[different].max() < 2e-3
    assert different.mean() < 0.005


def test_a_silent_clip_has_finite_features():
    assert mfcc(loudest_to_one(torch.zeros(1, 16_000))).isfinite().all()


def test_the_largest_sample_becomes_one():
    scaled = loudest_to_one(torch.tensor([[2.0, -8.0, 4.0], [-1.0, 0.0, -3.0]]))
    assert scaled.tolist() == [[0.5, -2.0, 1.0], [-1.0, 0.0, -3.0]]


def test_the_speakers_hash_is_the_datasets_own():
    rows = csv.DictReader(shared_data("speech_commands", "words.csv").open())
    for row in rows:
        own = speaker_split(row["path"].split("/")[1].replace(".flac", ".wav"))
        assert {"train": "training"}.get(own, own) == row["official_split"]


def test_lists_divide_the_clips_and_other_words_are_unknown(folder):
    dataset = load_dataset(config(folder))
    assert dataset.class_names == ("no", "yes", "_silence_", "_unknown_")
    assert dataset.input_shape == (1, 49, 10)
    assert dataset.train_images.dtype == np.float32
    # 16 s and 8 s of noise for training, 2 s and 1 s for testing, in seconds that overlap by half
    assert np.bincount(dataset.train_labels).tolist() == [7, 7, 31 + 15, 7]
    assert np.bincount(dataset.test_labels).tolist() == [2, 2, 3 + 1, 2]


def test_validation_clips_are_used_only_where_some_are_wanted(folder):
    whole = load_dataset(config(folder))
    held = load_dataset(config(folder, data={"validation": 5}))
    np.testing.assert_array_equal(held.train_images, whole.train_images)
    assert len(held.test_images) == 5
    everything = {clip.tobytes() for clip in (*whole.train_images, *whole.test_images)}
    assert not any(clip.tobytes() in everything for clip in held.test_images)
    with pytest.raises(ConfigError, match=r"data\.validation 500 is more than the 7 there are"):
        load_dataset(config(folder, data={"validation": 500}))


def test_without_lists_the_speakers_hash_divides_the_clips(folder):
    for name in ("validation_list.txt", "testing_list.txt"):
        (folder / name).unlink()
    clips = [folder / "yes" / f"more{number}_nohash_0.wav" for number in range(40)]
    for number, path in enumerate(clips):
        path.write_bytes(wav(tone(100 + number)))
    splits = [speaker_split(path.name) for word in (*WORDS, "bird") for path in (folder / word).iterdir()]
    assert set(splits) == {"train", "validation", "test"}
    dataset = load_dataset(config(folder))
    assert (dataset.train_labels != 2).sum() == splits.count("train")
    assert (dataset.test_labels != 2).sum() == splits.count("test")


RECIPE = TrainConfig(epochs=8, batch_size=16, learning_rate=0.05, threads=1)


def images_and_labels(dataset, epoch):
    batches = list(dataset.batches(RECIPE).epoch(epoch))
    return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])


def test_varied_clips_differ_in_each_epoch_and_are_those_of_the_epoch_again(folder):
    plain, varied = load_dataset(config(folder)), load_dataset(config(folder, vary=True))
    for part in ("train_images", "train_labels", "test_images", "mean", "std"):
        np.testing.assert_array_equal(getattr(varied, part), getattr(plain, part))
    (first, labels), (second, _) = images_and_labels(varied, 0), images_and_labels(varied, 1)
    everything = {clip.numpy().tobytes() for clip in first}
    assert len(everything) == len(first)
    assert not any(clip.numpy().tobytes() in everything for clip in second)
    again = images_and_labels(load_dataset(config(folder, vary=True)), 0)
    assert torch.equal(again[0], first)
    assert torch.equal(again[1], labels)


def test_clips_that_may_not_vary_are_as_they_were(folder):
    plain = load_dataset(config(folder))
    still = load_dataset(config(folder, vary=True, time_shift_ms=0, noise_probability=0))
    expected, labels = images_and_labels(plain, 3)
    result, same = images_and_labels(still, 3)
    assert torch.equal(labels, same)
    quiet = labels != 2  # noise goes below -1, where varied clips are cut off
    torch.testing.assert_close(result[quiet], expected[quiet], atol=0.02, rtol=0)


def test_varied_clips_for_training_cannot_be_held_out(folder):
    dataset = load_dataset(config(folder, vary=True))
    with pytest.raises(ConfigError, match=r"data\.validation: this dataset varies its training images"):
        hold_out(dataset, 3, np.random.default_rng(0))


def test_a_limit_takes_the_first_clips_to_vary_too(folder):
    dataset = load_dataset(config(folder, vary=True, data={"train_limit": 9, "test_limit": 3}))
    assert (len(dataset.train_images), len(dataset.test_images)) == (9, 3)
    assert len(dataset.varied.clips) == 9


CLIPS = np.stack([tone(400, seed=seed) for seed in range(20)])


def vary(noise: list[np.ndarray], **settings: object) -> np.ndarray:
    """Samples of CLIPS as they are varied, before their features."""
    settings = SpeechCommandsConfig(vary=True, **settings)
    varied = VariedClips.of(CLIPS, noise, settings)
    chosen, generator = torch.arange(len(CLIPS)), torch.Generator().manual_seed(1)
    return varied.samples(chosen, generator).numpy()


def test_a_shifted_clip_is_the_clip_moved_with_silence_beside_it():
    shifts = set()
    for clip, moved in zip(CLIPS / CLIPS.max(1, keepdims=True), vary([], time_shift_ms=5), strict=True):
        padded = np.pad(clip.clip(-1, 1), 80)
        fits = [place for place in range(161) if np.allclose(padded[place:][:16_000], moved, atol=1e-6)]
        assert len(fits) == 1
        shifts.update(fits)
    assert len(shifts) > 10
    assert min(shifts) < 40
    assert max(shifts) > 120


def test_noise_is_a_piece_of_one_file_at_a_volume_up_to_the_highest():
    chance = np.random.default_rng(1)
    noise = [chance.integers(-9000, 9000, samples).astype(np.int16) for samples in (16_040, 15_999, 16_000)]
    clean = vary([], time_shift_ms=0)
    added = vary(noise, time_shift_ms=0, noise_probability=0.5, noise_volume=0.2) - clean
    files = [np.lib.stride_tricks.sliding_window_view(noise[number] / 32768, 16_000) for number in (0, 2)]
    pieces = np.concatenate(files)
    energy = (pieces**2).sum(1)
    used, volumes = [], []
    for sound in added[np.abs(added).max(1) > 0]:
        match = pieces @ sound / np.sqrt(energy * (sound @ sound))
        used.append(best := int(match.argmax()))
        assert match[best] > 0.95  # what is cut off at -1 and 1 is missing
        volumes.append(pieces[best] @ sound / energy[best])
    assert 4 < len(used) < 16  # of twenty
    assert min(used) < len(files[0]) == max(used)
    assert 0.1 < max(volumes) <= 0.2 + 1e-6


def test_wrong_settings_and_folders_say_what_to_do(folder):
    with pytest.raises(DatasetAbsentError, match=r"stop: no such folder.*data.speech_commands.words"):
        load_dataset(config(folder, words=("stop",)))
    with pytest.raises(ConfigError, match=r"data\.resolution is for images"):
        load_dataset(config(folder, data={"resolution": 32}))
    with pytest.raises(ConfigError, match=r"data\.flip is for images"):
        load_dataset(config(folder, data={"flip": True}))
    with pytest.raises(DatasetAbsentError, match=r"data\.path is missing: dataset speech_commands needs"):
        load_dataset(DataConfig(name="speech_commands"))
    (folder / "testing_list.txt").write_text("")
    noise = folder / "_background_noise_"
    for path in noise.iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="holds no clips of the split test"):
        load_dataset(config(folder))


def test_sounds_may_end_in_capitals(folder):
    whole = load_dataset(config(folder))
    for path in (folder / "yes").iterdir():
        path.rename(path.with_suffix(".WAV"))
    listing = folder / "testing_list.txt"
    listing.write_text(re.sub(r"(yes/.*)\.wav", r"\1.WAV", listing.read_text()))
    assert len(load_dataset(config(folder)).test_images) == len(whole.test_images)


@pytest.mark.parametrize(
    ("word", "kept"),
    [("yes", 0), ("bird", 0), ("_background_noise_", 0.5)],
    ids=["word", "others", "silence"],
)
def test_a_class_without_clips_for_training_is_named(folder, word, kept):
    for path in (folder / word).iterdir():
        if kept:
            path.write_bytes(wav(tone(440, int(16_000 * kept))))
        else:
            path.rename(path.with_suffix(".txt"))
    name = {"yes": "yes", "bird": "_unknown_"}.get(word, "_silence_")
    with pytest.raises(ConfigError, match=rf"no \.wav file of '{name}' is for training"):
        load_dataset(config(folder))


@pytest.mark.parametrize(
    "content",
    [
        wav(tone(440), rate=8000),
        wav(np.stack([tone(440)] * 2, axis=1), channels=2),
        wav((tone(440) // 256 + 128).astype(np.uint8)),
    ],
)
def test_other_kinds_of_sound_are_refused(tmp_path, content):
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.wav: has .*; needed is 1 of 16 bits at 16000 Hz"):
        read_wave(tmp_path / "x.wav")


def test_samples_are_read_as_they_were_written(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 777).astype("<i2")
    (tmp_path / "x.wav").write_bytes(wav(samples))
    np.testing.assert_array_equal(read_wave(tmp_path / "x.wav"), samples)


@pytest.mark.parametrize("samples", [0, 1, 776])
def test_sounds_that_are_cut_off_are_refused(tmp_path, samples):
    (tmp_path / "x.wav").write_bytes(wav(tone(440, 777))[: 44 + 2 * samples + 1])
    with pytest.raises(ConfigError, match=rf"x\.wav: damaged: cut off: has {samples} of 777 samples"):
        read_wave(tmp_path / "x.wav")


def test_sounds_without_samples_are_refused(tmp_path):
    (tmp_path / "x.wav").write_bytes(wav(tone(440, 0)))
    with pytest.raises(ConfigError, match=r"x\.wav: holds no samples: remove it"):
        read_wave(tmp_path / "x.wav")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_sounds_are_errors_that_name_the_file(tmp_path, data):
    path = tmp_path / "x.wav"
    path.write_bytes(damage(data, wav(tone(440, 30))))
    problem, samples = outcome(lambda: read_wave(path))
    if problem is None:
        assert samples.dtype == np.int16
    else:
        assert str(path) in problem
        assert "\n" not in problem


def test_the_example_of_keyword_spotting_learns_these_words(folder, tmp_path):
    changes = (f"data.path={folder}", 'data.speech_commands.words=["no", "yes"]')
    example = load_config(EXAMPLE, changes)
    result = loop.train(example.data, example.model, RECIPE, tmp_path / "run")
    assert result.train_accuracy > 0.7

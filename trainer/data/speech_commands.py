"""Google Speech Commands (Warden, 2018) as MLPerf Tiny uses it: features of spoken words."""

from __future__ import annotations

import hashlib
import io
import itertools
import re
import struct
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data.clip_variation import VariedClips
from trainer.data.dataset import Features, Labels, Samples
from trainer.data.folders import class_folders, files_below, need_folder, run_threads, shuffled
from trainer.data.mfcc import CLIP_SAMPLES, COEFFICIENTS, FRAMES, SAMPLE_RATE, loudest_to_one, mfcc
from trainer.data.registry import DatasetAbsentError

SILENCE, UNKNOWN = "_silence_", "_unknown_"
NOISE_FOLDER = "_background_noise_"

Split = Literal["train", "validation", "test"]
Wave = npt.NDArray[np.int16]

_SUFFIXES = (".wav",)
_SILENCE_STEP = CLIP_SAMPLES // 2
_SHARES: dict[Split, tuple[float, float]] = {
    "train": (0.0, 0.8),
    "validation": (0.8, 0.9),
    "test": (0.9, 1.0),
}
_MOST_CLIPS_OF_A_WORD = 2**27 - 1
_CHUNK = 256


@dataclass(frozen=True)
class Clip:
    """One second of the file `path` from sample `start` on, filled up with zeros where the file ends."""

    path: Path
    label: int
    start: int = 0


def load(config: DataConfig) -> Samples:
    """Load the folder `config.path`: one folder of 16 kHz mono 16-bit .wav files for each word.

    Images are features float32 [N, 49, 10, 1] (see `mfcc`). The files testing_list.txt and
    validation_list.txt divide the clips, or without them the dataset's own hash of the speaker. Pieces of
    the noise are divided by time: the first 80 % for training, 10 % for validation, 10 % for testing. Clips
    for validation are used where `config.validation` asks for some, else by nobody. Raises
    DatasetAbsentError where there is no such folder, ConfigError for damaged files.
    """
    if config.resolution is not None:
        raise ConfigError("data.resolution is for images: speech_commands gives 49 frames of 10 coefficients")
    folder = need_folder(config, f"a folder of .wav files for each word, and {NOISE_FOLDER}")
    settings = config.speech_commands
    class_names, clips = _list_clips(folder, settings.words)
    clips["train"] = clips["train"][: config.train_limit]
    clips["test"] = clips["test"][: config.test_limit]
    for split in ("train", "test"):
        if not clips[split]:
            raise ConfigError(f"{folder}: holds no clips of the split {split}: check its lists")
    waves = np.empty((len(clips["train"]), CLIP_SAMPLES), np.int16) if settings.vary else None
    return Samples(
        _features(clips["train"], waves),
        _labels(clips["train"]),
        _features(clips["test"]),
        _labels(clips["test"]),
        class_names,
        (_features(clips["validation"]), _labels(clips["validation"])) if config.validation else None,
        None if waves is None else VariedClips.of(waves, _training_noise(folder), settings),
    )


def speaker_split(file_name: str) -> Split:
    """The split to which the dataset's README assigns all clips of a speaker: 80, 10 and 10 %."""
    speaker = re.sub(r"_nohash_.*$", "", file_name)
    number = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (_MOST_CLIPS_OF_A_WORD + 1)
    percentage = number * (100.0 / _MOST_CLIPS_OF_A_WORD)
    return "validation" if percentage < 10 else "test" if percentage < 20 else "train"


def read_wave(path: Path) -> Wave:
    """Samples int16 [samples] of a 16 kHz mono 16-bit .wav file; raises ConfigError for all others."""
    try:
        with wave.open(io.BytesIO(path.read_bytes())) as file:
            kind = (file.getnchannels(), 8 * file.getsampwidth(), file.getframerate())
            count = file.getnframes()
            samples = file.readframes(count)
    except OSError as error:
        raise ConfigError(f"{path}: unreadable ({error.strerror})") from error
    except (wave.Error, EOFError, ValueError, RuntimeError, struct.error) as error:
        raise ConfigError(f"{path}: damaged, or no .wav file ({error}): replace it") from error
    if kind != (1, 16, SAMPLE_RATE):
        raise ConfigError(
            f"{path}: has {kind[0]} channels of {kind[1]} bits at {kind[2]} Hz; needed is 1 of 16 bits at "
            f"{SAMPLE_RATE} Hz"
        )
    found = len(samples) // 2
    if found < count:
        raise ConfigError(f"{path}: damaged: cut off: has {found} of {count} samples: replace or remove it")
    if not count:
        raise ConfigError(f"{path}: holds no samples: remove it")
    return np.frombuffer(samples, "<i2", found).astype(np.int16)


def _list_clips(folder: Path, words: tuple[str, ...]) -> tuple[tuple[str, ...], dict[Split, list[Clip]]]:
    """The class names and the clips of each split, in a random order that is always the same."""
    folders = [name for name in class_folders(folder) if not name.startswith("_")]
    missing = [word for word in words if word not in folders]
    if missing:
        raise DatasetAbsentError(
            f"{folder / missing[0]}: no such folder: {folder} must hold one for each word; name others in "
            "data.speech_commands.words"
        )
    noise = _noise_files(folder)
    others = len(folders) > len(words)
    names = (*words, *([SILENCE] if noise else []), *([UNKNOWN] if others else []))
    listed = _listed_splits(folder)
    clips: dict[Split, list[Clip]] = {split: [] for split in _SHARES}
    for name in folders:
        label = names.index(name if name in words else UNKNOWN)
        for path in files_below(folder / name, _SUFFIXES):
            split = speaker_split(path.name) if listed is None else listed.get(f"{name}/{path.name}", "train")
            clips[split].append(Clip(path, label))
    for path in noise:
        length = len(read_wave(path))
        for split, part in clips.items():
            start, end = _share(length, split)
            part += [
                Clip(path, names.index(SILENCE), place)
                for place in range(start, end - CLIP_SAMPLES + 1, _SILENCE_STEP)
            ]
    known = {clip.label for clip in clips["train"]}
    lacking = [name for label, name in enumerate(names) if label not in known]
    if lacking:
        raise ConfigError(
            f"{folder}: no .wav file of {lacking[0]!r} is for training, or none is long enough: add some, or "
            "remove its folder"
        )
    return names, {split: shuffled(part) for split, part in clips.items()}


def _noise_files(folder: Path) -> list[Path]:
    return files_below(folder / NOISE_FOLDER, _SUFFIXES)


def _share(samples: int, split: Split) -> tuple[int, int]:
    """The part of a noise file that is for this split."""
    start, end = _SHARES[split]
    return int(samples * start), int(samples * end)


def _listed_splits(folder: Path) -> dict[str, Split] | None:
    """Split by "word/file.wav" of all clips that are not for training; None where a list is absent."""
    lists: tuple[tuple[str, Split], ...] = (
        ("validation_list.txt", "validation"),
        ("testing_list.txt", "test"),
    )
    if not all((folder / name).is_file() for name, _ in lists):
        return None
    found: dict[str, Split] = {}
    for name, split in lists:
        try:
            lines = (folder / name).read_text().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{folder / name}: unreadable ({error}): fetch it anew") from error
        found.update((line.strip(), split) for line in lines)
    return found


def _labels(clips: Sequence[Clip]) -> Labels:
    return np.array([clip.label for clip in clips], np.int64)


def _training_noise(folder: Path) -> list[Wave]:
    files = [read_wave(path) for path in _noise_files(folder)]
    return [samples[slice(*_share(len(samples), "train"))] for samples in files]


def _features(clips: Sequence[Clip], kept: Wave | None = None) -> Features:
    """Features float32 [N, 49, 10, 1], a few hundred clips at a time in memory; `kept` gets all samples."""
    features = np.empty((len(clips), FRAMES, COEFFICIENTS, 1), np.float32)
    waves = run_threads(_read_clip, clips)
    for start in range(0, len(clips), _CHUNK):
        chunk = np.stack(list(itertools.islice(waves, _CHUNK)))
        values = mfcc(loudest_to_one(torch.from_numpy(chunk).float()))
        features[start : start + _CHUNK, ..., 0] = values.numpy()
        if kept is not None:
            kept[start : start + _CHUNK] = chunk
    return features


def _read_clip(clip: Clip) -> Wave:
    samples = read_wave(clip.path)[clip.start : clip.start + CLIP_SAMPLES]
    return np.pad(samples, (0, CLIP_SAMPLES - len(samples)))

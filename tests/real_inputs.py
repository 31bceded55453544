"""Real photos, speech features and spectrograms, as the public int8 models take them."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import numpy.typing as npt
import soundfile
from PIL import Image
from shared_data import shared_data

Inputs = npt.NDArray[np.int8]

_RATE, _FFT, _HOP, _MELS, _FRAMES = 16_000, 1024, 512, 128, 5


def photos(count: int, height: int, width: int, channels: int) -> Inputs:
    """Photos of CIFAR-10's test split, int8 [count, height, width, channels], 128 subtracted."""
    mosaic = Image.open(shared_data("cifar10", "test_batch.webp")).convert("RGB" if channels == 3 else "L")
    tiles = [mosaic.crop((32 * i, 0, 32 * i + 32, 32)).resize((width, height)) for i in range(count)]
    pixels = np.stack([np.asarray(tile).reshape(height, width, channels) for tile in tiles])
    return (pixels.astype(np.int16) - 128).astype(np.int8)


def speech_features(count: int) -> Inputs:
    """MFCCs of MLPerf Tiny's keyword spotting set, int8 [count, 49, 10, 1], from all its classes."""
    clips = np.load(shared_data("speech_commands", "mlperf_test_1000_mfcc_int8.npz"))["x"]
    return np.asarray(clips[:: len(clips) // count][:count].reshape(-1, 49, 10, 1), np.int8)


def spectrograms(count: int, scale: float, zero_point: int) -> Inputs:
    """Windows of five log-mel frames of real sound, int8 [count, 640].

    As MLPerf Tiny's anomaly detection has them: 1024 samples a frame, hop 512, 128 mel bands, decibels; the
    sound here is speech.
    """
    with tarfile.open(shared_data("speech_commands", "words.tar")) as archive:
        clip = next(member for member in archive if member.name.endswith(".flac"))
        file = archive.extractfile(clip)
        assert file is not None
        samples, rate = soundfile.read(io.BytesIO(file.read()))
    assert rate == _RATE
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FFT)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FFT), axis=1)) ** 2
    decibels = 10 * np.log10(power @ _mel_filters().T + 1e-10)
    windows = np.lib.stride_tricks.sliding_window_view(decibels, (_FRAMES, _MELS)).reshape(
        -1, _FRAMES * _MELS
    )
    assert len(windows) >= count
    return np.clip(np.round(windows[:count] / scale) + zero_point, -128, 127).astype(np.int8)


def _mel_filters() -> npt.NDArray[np.float64]:
    """Triangular filters [mels, bins], evenly spaced in mel (O'Shaughnessy, 1987)."""
    highest = 2595 * np.log10(1 + _RATE / 2 / 700)
    centres = 700 * (10 ** (np.linspace(0, highest, _MELS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(_FFT, 1 / _RATE)
    rising = (bins - centres[:-2, None]) / (centres[1:-1] - centres[:-2])[:, None]
    falling = (centres[2:, None] - bins) / (centres[2:] - centres[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))

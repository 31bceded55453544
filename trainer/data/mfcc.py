"""Mel-frequency cepstral coefficients as MLPerf Tiny's keyword spotting (kws01) computes them.

The steps and their constants are those of `tf.signal`, from which that benchmark builds its features.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SAMPLE_RATE = 16_000
CLIP_SAMPLES = SAMPLE_RATE
FRAMES = 49
COEFFICIENTS = 10

_WINDOW = 480  # 30 ms
_STRIDE = 320  # 20 ms
_FFT = 512
_MEL_BINS = 40
_LOWEST_HERTZ = 20.0
_HIGHEST_HERTZ = 4000.0
_LOG_OFFSET = 1e-6


def mfcc(clips: Tensor) -> Tensor:
    """Features float32 [N, 49, 10] of clips float32 [N, 16000] at 16 kHz, with samples in -1..1.

    Windows of 30 ms (Hann) every 20 ms, magnitudes of an FFT of 512, 40 mel bins from 20 to 4000 Hz, the
    logarithm, and the first 10 coefficients of the DCT-II.
    """
    device = clips.device
    frames = clips.unfold(1, _WINDOW, _STRIDE) * torch.hann_window(_WINDOW, device=device)
    magnitudes = torch.fft.rfft(frames, _FFT).abs()
    features: Tensor = (magnitudes @ _mel_weights().to(device) + _LOG_OFFSET).log() @ _dct().to(device)
    return features


def loudest_to_one(clips: Tensor) -> Tensor:
    """Scale each clip [N, samples] by its largest sample, which becomes 1; one without any stays as it is.

    As the benchmark does, that is the largest, not the largest magnitude.
    """
    peak = clips.amax(1, keepdim=True)
    return clips / torch.where(peak > 0, peak, torch.ones_like(peak))


@functools.cache
def _mel_weights() -> Tensor:
    """[257, 40]: triangles of height 1 between edges that are equally spaced in mel; nothing of bin 0."""
    lowest, highest = _mel(np.array([_LOWEST_HERTZ, _HIGHEST_HERTZ]))
    edges = np.linspace(lowest, highest, _MEL_BINS + 2)
    bins = _mel(np.linspace(0, SAMPLE_RATE / 2, _FFT // 2 + 1))[:, np.newaxis]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0
    return torch.from_numpy(weights).float()


def _mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))


@functools.cache
def _dct() -> Tensor:
    """[40, 10]: the DCT-II times sqrt(2 / 40), its first coefficient too."""
    places, orders = np.arange(_MEL_BINS)[:, np.newaxis] + 0.5, np.arange(COEFFICIENTS)
    matrix = np.cos(np.pi / _MEL_BINS * places * orders) * np.sqrt(2 / _MEL_BINS)
    return torch.from_numpy(matrix).float()

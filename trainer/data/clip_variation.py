"""Spoken words for training, anew in every batch: shifted in time, with background noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.config import SpeechCommandsConfig
from trainer.data.mfcc import CLIP_SAMPLES, SAMPLE_RATE, loudest_to_one, mfcc

_FULL_SCALE = 32_768.0


@dataclass(frozen=True)
class VariedClips:
    """Clips int16 [N, 16000] and files of noise, int16 [samples] in a row, of at least one second each.

    Each file starts in `noise` at one of `starts` and has as many pieces of a second as `pieces` says, both
    int64 [files].
    """

    clips: Tensor
    noise: Tensor
    starts: Tensor
    pieces: Tensor
    settings: SpeechCommandsConfig

    @classmethod
    def of(
        cls,
        clips: npt.NDArray[np.int16],
        noise: Sequence[npt.NDArray[np.int16]],
        settings: SpeechCommandsConfig,
    ) -> VariedClips:
        """With files of noise of any length, of which those under a second are left out."""
        files = [samples for samples in noise if len(samples) >= CLIP_SAMPLES]
        lengths = torch.tensor([len(samples) for samples in files], dtype=torch.int64)
        return cls(
            torch.from_numpy(clips),
            torch.from_numpy(np.concatenate([np.zeros(0, np.int16), *files])),
            lengths.cumsum(0) - lengths,
            lengths - CLIP_SAMPLES + 1,
            settings,
        )

    def to(self, device: str) -> VariedClips:
        """The same, with the samples on a device."""
        return replace(self, clips=self.clips.to(device), noise=self.noise.to(device))

    def __call__(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Features float32 [n, 49, 10, 1] of the clips int64 [n]; random numbers are of a CPU generator."""
        return mfcc(self.samples(chosen, generator)).unsqueeze(-1)

    def samples(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Samples float32 [n, 16000] in -1..1 of the clips int64 [n]."""
        clips = self._shift(loudest_to_one(self.clips[chosen].float()), generator)
        if len(self.starts):
            clips = self._add_noise(clips, generator)
        return clips.clamp(-1, 1)

    def _shift(self, clips: Tensor, generator: torch.Generator) -> Tensor:
        """Move each clip by a random time, with silence where it has no samples."""
        most = round(self.settings.time_shift_ms * SAMPLE_RATE / 1000)
        offsets = torch.randint(0, 2 * most + 1, (len(clips), 1), generator=generator).to(clips.device)
        padded = torch.nn.functional.pad(clips, (most, most))
        return padded.gather(1, offsets + torch.arange(CLIP_SAMPLES, device=clips.device))

    def _add_noise(self, clips: Tensor, generator: torch.Generator) -> Tensor:
        """Add a random second of noise at a random volume to some clips, drawn for all of them."""
        count = len(clips)
        file = torch.randint(0, len(self.starts), (count,), generator=generator)
        place, volume, chance = torch.rand((3, count), generator=generator, dtype=torch.float64)
        first = self.starts[file] + (place * self.pieces[file]).long()
        volume = volume * self.settings.noise_volume * (chance < self.settings.noise_probability)
        samples = first.unsqueeze(1).to(clips.device) + torch.arange(CLIP_SAMPLES, device=clips.device)
        volumes = (volume / _FULL_SCALE).float().unsqueeze(1).to(clips.device)
        return torch.addcmul(clips, self.noise[samples], volumes)

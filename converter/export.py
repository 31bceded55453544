"""From a torch module to ONNX, checked against torch before the file is kept."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.errors import CheckFailedError, ModelError, first_line
from common.files import atomic_path

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

# Largest difference between torch's and ONNX Runtime's outputs, relative to the largest output.
TOLERANCE = 1e-4
CHECK_SAMPLES = 4


def export_onnx(network: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
    """Write `network` as float ONNX with static input float32 [1, C, H, W] (C, H, W = input_shape).

    A copy in evaluation mode is exported, the network itself stays as it is. The file appears at `path` only
    if ONNX Runtime gives torch's outputs for it.

    Raises:
        ModelError: torch cannot export the network.
        CheckFailedError: the exported file answers otherwise than the network.
    """
    import torch

    evaluated = copy.deepcopy(network).cpu().eval()
    sample = torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(0))
    with atomic_path(path) as temporary:
        try:
            with _quiet():
                program = torch.onnx.export(evaluated, (sample,), dynamo=True, verbose=False)
                assert program is not None
                program.save(temporary)
        except torch.onnx.OnnxExporterError as error:
            reason = first_line(error)
            raise ModelError(f"{type(network).__name__} cannot be exported to ONNX: {reason}") from error
        difference = _largest_difference(evaluated, input_shape, temporary)
        if not difference <= TOLERANCE:
            raise CheckFailedError(
                f"{path}: ONNX Runtime differs from torch by {difference:.2g} of the largest output"
            )
    log.info("%s: ONNX Runtime agrees with torch to %.1e", path, difference)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's prints, deprecation warnings and its remarks on its own passes."""
    chatter = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in chatter]
    try:
        for logger in chatter:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(chatter, levels, strict=True):
            logger.setLevel(level)


def _largest_difference(network: nn.Module, input_shape: tuple[int, int, int], path: Path) -> float:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    samples = torch.randn(CHECK_SAMPLES, *input_shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = np.concatenate([network(sample[None]).numpy() for sample in samples])
    given = np.concatenate([session.run(None, {name: sample[None].numpy()})[0] for sample in samples])
    if given.shape != expected.shape:
        return float("inf")
    return float(np.abs(given - expected).max() / max(np.abs(expected).max(), 1e-6))

from __future__ import annotations

import torch

from trainer.torch_settings import _deterministic_cuda


def flags() -> tuple[object, ...]:
    """All that a training on a CUDA device sets, in one call."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )


def test_cuda_computes_float32_deterministically_and_only_meanwhile(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    before = flags()
    with _deterministic_cuda():
        assert flags() == (True, True, False, False, True, False)
    assert flags() == before

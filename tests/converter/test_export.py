from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from converted_model import Converted
from torch import Tensor, nn

import converter.export
from common.errors import CheckFailedError, ModelError
from converter.export import export_onnx


def test_the_file_computes_what_the_network_does(converted: Converted) -> None:
    session = onnxruntime.InferenceSession(converted.onnx, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    assert source.shape == [1, 3, 32, 32]
    given = [session.run(None, {source.name: sample[None]})[0][0] for sample in converted.samples[:8]]
    network = converted.network.eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(converted.samples[:8])).numpy()
    np.testing.assert_allclose(np.array(given), expected, atol=1e-5)


def test_batch_normalization_is_folded(converted: Converted) -> None:
    kinds = {node.op_type for node in onnx.load(converted.onnx).graph.node}
    assert kinds == {"Conv", "Clip", "Add", "ReduceMean", "Gemm"}


def test_the_network_stays_in_its_mode_and_a_wrong_file_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    monkeypatch.setattr(converter.export, "TOLERANCE", -1.0)
    with pytest.raises(CheckFailedError, match="differs from torch"):
        export_onnx(network, (1, 8, 8), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    assert all(module.training for module in network.modules())


class _Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="_Branching cannot be exported") as caught:
        export_onnx(_Branching(), (1, 8, 8), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

import pytest
import torch
from converted_model import Converted, SmallNetwork

from converter.export import export_onnx
from converter.quantize import quantize_onnx


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    torch.manual_seed(0)
    network = SmallNetwork().train()
    samples = torch.randn(64, 3, 32, 32)
    with torch.no_grad():
        for _ in range(8):
            network(samples)
    folder = tmp_path_factory.mktemp("converted")
    made = Converted(network, folder / "model.onnx", folder / "model.tflite", samples.numpy())
    export_onnx(network, (3, 32, 32), made.onnx)
    quantize_onnx(made.onnx, made.samples, made.tflite)
    return made

"""A whole published network, with kernels of up to 7x7, in the virtual board."""

import json
from pathlib import Path

from codegen.zoo_models import whole_network

from tools.bench import bench
from tools.config import RunConfig
from tools.runs import RunFolder
from trainer.config import ModelConfig


def test_mcunet_is_bit_exact_in_the_virtual_board(tmp_path: Path) -> None:
    model = tmp_path / "mcunet.tflite"
    model.write_bytes(whole_network(ModelConfig(name="mcunet"), side=48))
    run = RunFolder(tmp_path / "run")
    result = bench(run, model, RunConfig(), "virtual", count=3)
    assert (result.bit_exact.inputs, result.bit_exact.mismatches) == (3, 0)
    assert result.instructions is not None
    assert result.instructions < 2 * result.macs
    estimated = json.loads(run.plan.read_text())["verdict"]["flash"]["total"]
    assert result.flash is not None
    assert result.flash.total <= estimated <= 1.2 * result.flash.total

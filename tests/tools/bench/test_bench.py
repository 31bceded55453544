import json
from pathlib import Path

import numpy as np
import pytest
from codegen.model_builder import ModelBuilder
from tiny_run import INPUT_SHAPE, tiny_inputs, tiny_model

from common.errors import ConfigError, ModelError
from tools import bench as module
from tools.bench import BenchResult, bench
from tools.config import RunConfig
from tools.runs import RunFolder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(tiny_model())
    return path


def test_bench_on_the_host_is_bit_exact(model: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "bench")
    result = bench(run, model, RunConfig(), "host", count=5)
    assert (result.bit_exact.inputs, result.bit_exact.mismatches) == (5, 0)
    assert (result.model, result.engine, result.target) == ("tiny", "aot", "host")
    assert result.macs == 6 * 6 * 4 * 3 * 3 * 2 + 144 * 5
    assert result.instructions is None
    assert result.ram is None
    machine = json.loads(result.model_dump_json(by_alias=True))
    assert machine["schema"] == 1
    assert [layer["op"] for layer in machine["layers"]] == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]
    assert {"name", "op", "macs", "instructions"} <= set(machine["layers"][0])
    assert BenchResult.model_validate(machine) == result

    inputs = tmp_path / "inputs.npy"
    np.save(inputs, tiny_inputs(3))
    given = bench(run, model, RunConfig(), "host", inputs=inputs)
    assert (given.bit_exact.inputs, given.bit_exact.mismatches) == (3, 0)


def test_wrong_answers_are_counted(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = module.reference_run

    def flip_one_bit(path: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
        (outputs,) = right(path, inputs)
        outputs[[1, 3], 0] ^= 1
        return [outputs]

    monkeypatch.setattr(module, "reference_run", flip_one_bit)
    result = bench(RunFolder(tmp_path / "bench"), model, RunConfig(), "host", count=5)
    assert (result.bit_exact.inputs, result.bit_exact.mismatches) == (5, 2)


def test_inputs_of_another_shape_are_refused(model: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.npy"
    np.save(inputs, np.zeros((3, *INPUT_SHAPE[1:]), np.int8))
    with pytest.raises(ConfigError, match="samples are"):
        bench(RunFolder(tmp_path / "bench"), model, RunConfig(), "host", inputs=inputs)


def test_profiles_need_a_target_that_counts_functions(model: Path, tmp_path: Path) -> None:
    page = tmp_path / "profile.html"
    with pytest.raises(ConfigError, match="--target virtual"):
        bench(RunFolder(tmp_path / "bench"), model, RunConfig(), "host", profile=page)
    assert not page.exists()


def test_a_model_with_too_many_inputs_is_refused_before_any_build(tmp_path: Path) -> None:
    builder = ModelBuilder()
    parts = [builder.input([1, 4], 0.1) for _ in range(5)]
    output = builder.tensor([1, 20], "int8", 0.1)
    path = tmp_path / "five.tflite"
    path.write_bytes(
        builder.build(builder.with_options("CONCATENATION", parts, output, "ConcatenationOptions", axis=-1))
    )
    run = RunFolder(tmp_path / "bench")
    with pytest.raises(ModelError, match=r"has 5 inputs, the firmware takes at most 4"):
        bench(run, path, RunConfig(), "host")
    assert not (tmp_path / "bench" / "generated").exists()
